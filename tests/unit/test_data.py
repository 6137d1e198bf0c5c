"""data.py against transformers' own code on hostile text, the counts of the specification, every error."""

import gzip
import json
import re
from collections import Counter

import numpy as np
import pytest

from splinter import datasets
from splinter.ports.common.training import schedule as schedules
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.splinter import data
from splinter.ports.splinter.proof import reference_data as theirs

LONG = " ".join(f"word{i % 7} caf\u00e9 {i}, the $ {i}.5 \u6771\u4eac" for i in range(120))
CASES = [  # (question, context, answer, which occurrence of it)
    ("Who ran?", "The quick fox ran home.", "quick fox", 0),
    ("At the start?", "Fox ran home", "Fox", 0),
    ("At the end?", "The fox ran home", "home", 0),
    ("All?", "fox", "fox", 0),
    ("The third one?", "the fox saw the fox and the fox.", "the fox", 2),
    ("Composed?", "caf\u00e9 cafe\u0301 nai\u0308ve e\u200b\u0301x", "cafe\u0301", 0),
    ("\u6771\u4eac?", "the\u6771\u4eac fox \u4eac\u90fd\uff0c ran", "\u4eac", 1),
    (
        "Emoji \U0001f98a?",
        "the \U0001f98a fox\U0001f3fd ran \U0001f468\u200d\U0001f469 home",
        "fox\U0001f3fd",
        0,
    ),
    ("Blanks\u00a0\u202f\u2028?", "  the\u00a0fox\t\tran\u202fhome \n again\u2028fox", "ran\u202fhome", 0),
    ("Dropped?", "the \u200b \ufffd \x07 fox ran \u00ad home\ufeff", "fox ran", 0),
    ("What is [MASK] and [QUESTION]?", "a [MASK] b[QUESTION]c [SEP][PAD] [CLS]x [UNK]. end", "end", 0),
    ("Ends with it? [MASK].", "the [MA\u200bSK] fox [mask] ran", "fox", 0),
    (
        "   Padded   ",
        "It makes $31.5 billion (yes) a day.",
        "$31.5 billion",
        0,
    ),  # joined text is longer than raw
    ("Joined?", "U.S.-led, state-of-the-art", "state-of-the-art", 0),
    ("In the leading blank?", "  fox ran home", " fox", 0),  # SQuAD layout: before any word, so skipped
    ("Inside a word?", "a forester's rest", "rest", 0),
    ("Long words?", "x" * 101 + " fox " + "y" * 100, "fox", 0),
    (" ".join(f"q{i} fox" for i in range(32)), "the fox ran home", "ran", 0),  # more than 64 pieces
    ("", "no question here", "question", 0),
    ("Where in the long one?", LONG, "60.5", 0),
    ("At its start?", LONG, "word0", 0),
    ("At its end?", LONG, "\u4eac", 119),
    ("Where else in the long one?", LONG, "word3 caf\u00e9 101, the $ 101.5", 0),
]
SIZES = [{}, {"max_length": 230, "doc_stride": 40, "max_query_length": 30}]
SPEC_TABLE = {  # N: features, windows without answer, batches, steps run; per seed (spec 2.3)
    16: ([17, 16, 16, 16, 16], [0] * 5, [2] * 5, [202] * 5),
    32: ([34, 34, 32, 32, 33], [2, 2, 0, 0, 1], [3] * 5, [201] * 5),
    64: ([65, 69, 64, 65, 67], [0, 4, 0, 0, 3], [6] * 5, [204] * 5),
    128: ([133, 133, 129, 129, 131], [5, 4, 0, 0, 3], [12, 12, 11, 11, 11], [204, 204, 209, 209, 209]),
    256: ([258, 263, 261, 266, 262], [1, 5, 2, 7, 4], [22, 22, 22, 23, 22], [220, 220, 220, 230, 220]),
    512: ([520, 524, 524, 521, 516], [6, 4, 6, 5, 2], [44, 44, 44, 44, 43], [440, 440, 440, 440, 430]),
    1024: ([1040], [8], [87], [870]),
}
SPEC_ROWS = [(n, 42 + i, *row) for n, rows in SPEC_TABLE.items() for i, row in enumerate(zip(*rows, strict=True))]


@pytest.fixture(scope="module")
def data_folder():
    """The project's real data; not part of the repository."""
    try:
        folder = datasets.find("vocab/bert-base-cased-vocab.txt").parents[1]
    except datasets.DataMissing as error:
        pytest.skip(str(error))
    return folder


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """BERT's layout in small: special tokens on their lines, single characters, a few words."""
    pieces = [
        "[PAD]",
        *(f"[unused{i}]" for i in range(1, 100)),
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[unused100]",
    ]
    pieces += [chr(i) for i in range(33, 127)] + [f"##{chr(i)}" for i in range(33, 127)]
    pieces += ["the", "fox", "ran", "home", "word", "##est", "MA", "##SK"]
    pieces += ["caf\u00e9", "\u00e9", "##\u00e9", "\u6771", "\u4eac", "\u0301"]
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return file


def mrqa_line(number, question, context, answer, occurrence):
    """One MRQA line; tokens are words and single marks, as near as a test needs."""
    start = [match.start() for match in re.finditer(re.escape(answer), context)][occurrence]
    tokens = [[match.group(), match.start()] for match in re.finditer(r"\w+|[^\w\s]", context)]
    last = start + len(answer) - 1
    span = [i for i, (token, at) in enumerate(tokens) if at <= last and at + len(token) > start]
    found = {"text": answer, "char_spans": [[start, last]], "token_spans": [[span[0], span[-1]]]}
    qa = {
        "qid": f"q{number}",
        "question": question,
        "answers": [answer, "other"],
        "detected_answers": [found],
    }
    return {"id": "", "context": context, "context_tokens": tokens, "qas": [qa]}


def squad_paragraph(number, question, context, answer, occurrence):
    start = [match.start() for match in re.finditer(re.escape(answer), context)][occurrence]
    answers = [{"text": answer, "answer_start": start}, {"text": "other", "answer_start": 0}]
    return {"context": context, "qas": [{"id": f"q{number}", "question": question, "answers": answers}]}


def write_mrqa(path, lines, header=({"header": {"dataset": "test"}},)):
    path.write_text("\n".join(map(json.dumps, [*header, *lines])) + "\n", encoding="utf-8")
    return path


def write_squad(path, paragraphs):
    path.write_text(json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}, indent=1), encoding="utf-8")
    return path


def hostile_file(folder, layout):
    """CASES; in MRQA layout also one the paper skips and a context used again, in SQuAD one impossible."""
    if layout == "squad":
        paragraphs = [squad_paragraph(i, *case) for i, case in enumerate(CASES)]
        impossible = {"id": "no", "question": "Never?", "is_impossible": True, "answers": []}
        paragraphs[3]["qas"].append(impossible)
        return write_squad(folder / "hostile.json", paragraphs)
    lines = [mrqa_line(i, *case) for i, case in enumerate(CASES)]
    skipped, again, other = mrqa_line("skip", *CASES[0]), mrqa_line("again", *CASES[-1]), mrqa_line("cut", *CASES[1])
    skipped["qas"][0]["detected_answers"][0]["token_spans"] = [[4, 4]]
    other["context_tokens"].pop()  # a known context, tokenized in another way
    return write_mrqa(folder / "hostile.jsonl", [*lines[:2], skipped, *lines[2:], again, other])


def read(path, vocabulary, mode, training=False, **sizes):
    examples = data.read_examples(path, mode, training)
    tokenizer = data.Tokenizer(vocabulary, mode)
    return data.concatenate(data.features(examples, tokenizer, mode, training=training, block=5, **sizes))


def differences(ours, reference):
    """Columns that are not equal in dtype, shape and every value."""
    columns = {name: getattr(ours, name) for name in reference if name not in ("cls_index", "questions")}
    return [
        name
        for name, column in columns.items()
        if column is None or column.dtype != reference[name].dtype or not np.array_equal(column, reference[name])
    ]


@pytest.mark.parametrize("sizes", SIZES, ids=["default", "small"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("layout", ["mrqa", "squad"])
@pytest.mark.parametrize("mode", data.MODES)
def test_every_column_equals_the_reference(mode, layout, training, sizes, vocabulary, tmp_path):
    path = hostile_file(tmp_path, layout)
    _, ours = read(path, vocabulary, mode, training, **sizes)
    build = theirs.paper_features if mode == "paper" else theirs.hf_features
    assert differences(ours, build(path, vocabulary, training, **sizes)) == []
    skipped = {"mrqa": ("qskip",), "squad": ("q14",)}[layout]
    assert ours.skipped == (skipped if mode == "paper" and training else ())
    assert max(Counter(ours.example_index.tolist()).values()) > 3  # more than three windows


@pytest.mark.parametrize("layout", ["mrqa", "squad"])
def test_answer_tokens_equal_the_reference(layout, tmp_path):
    path = hostile_file(tmp_path, layout)
    ours = [(one.id, one.start_token or 0, one.end_token or 0) for one in data.read_examples(path, "paper", True)]
    reference = theirs.squad_examples(path, True)
    assert ours == [(one.qas_id, one.start_position, one.end_position) for one in reference]


@pytest.mark.parametrize("layout", ["mrqa", "squad"])
@pytest.mark.parametrize("mode", data.MODES)
def test_golds_equal_the_reference(mode, layout, tmp_path):
    path = hostile_file(tmp_path, layout)
    assert {one.id: one.answers for one in data.read_examples(path, mode)} == theirs.golds(path, mode)


def test_every_plane_of_unicode_tokenizes_as_the_python_tokenizer(vocabulary):
    from transformers import BertTokenizer

    slow, ours = BertTokenizer(str(vocabulary), do_lower_case=False), data.Tokenizer(vocabulary, "paper")
    texts = [f"a{chr(i)}e{chr(i)}" for i in [*range(0xD800), *range(0xE000, 0x2FFFF, 7)]]
    assert ours.encode(texts) == [slow.convert_tokens_to_ids(slow.tokenize(text)) for text in texts]


def test_lower_case_comes_from_the_folder(vocabulary, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(vocabulary.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert data.Tokenizer(tmp_path, "paper").encode(["The FOX", "FO\u0301X"]) == data.Tokenizer(
        vocabulary, "paper"
    ).encode(["the fox", "fox"])


@pytest.mark.parametrize(("mode", "pieces"), [("paper", 10), ("hf", 1)])
def test_literal_question_token_is_one_piece_only_in_hf(mode, pieces, vocabulary):
    tokenizer = data.Tokenizer(vocabulary, mode)
    assert len(tokenizer.encode(["[QUESTION]"])[0]) == pieces
    assert tokenizer.pieces([104, 103, 10**6]) == [
        {"paper": "[unused100]", "hf": "[QUESTION]"}[mode],
        "[MASK]",
        "[UNK]",
    ]


def test_worked_window_case():
    starts = data.window_starts(491, 384 - 14 - 3, 128)
    assert [min(491 - start, 367) for start in starts] == [367, 363]


def test_best_window_is_the_one_with_most_context_first_on_ties():
    assert data.best_windows(5, range(0, 4, 2), 3).tolist() == [0, 0, 0, 1, 1]
    length, capacity = 496, 367
    starts = data.window_starts(length, capacity, 128)  # the last window is 127 pieces shorter: 0.01 * 127 > 1
    sizes = [min(capacity, length - start) for start in starts]

    def score(window, piece):
        return min(piece - starts[window], starts[window] + sizes[window] - 1 - piece) + 0.01 * sizes[window]

    for piece, best in enumerate(data.best_windows(length, starts, capacity)):
        held = [i for i in range(len(starts)) if starts[i] <= piece < starts[i] + sizes[i]]
        assert best == max(held, key=lambda i: score(i, piece))


def test_a_cut_question_token_is_reported_and_read_as_position_0(vocabulary, tmp_path):
    _, ours = read(hostile_file(tmp_path, "mrqa"), vocabulary, "paper", max_query_length=5)
    assert ours.question_lost.any()
    assert not ours.question_positions[ours.question_lost].any()


def test_the_first_of_several_question_tokens_counts(vocabulary, tmp_path):
    path = write_mrqa(tmp_path / "two.jsonl", [mrqa_line(0, "[MASK] fox?", "the [MASK] fox", "fox", 0)])
    assert read(path, vocabulary, "paper")[1].question_positions.tolist() == [1]


def test_question_with_mask_is_added_once():
    assert data.question_with_mask("Who?") == data.question_with_mask("Who? [MASK].") == "Who? [MASK]."


def test_hf_mode_takes_the_mask_suffix_off(tmp_path):
    path = write_mrqa(tmp_path / "x.jsonl", [mrqa_line(0, "Who? [MASK].", "the fox", "fox", 0)])
    assert next(data.read_examples(path, "hf")).question == "Who?"


@pytest.mark.parametrize("header", [[], [{"header": {}}], [{"header": [1]}], [[{"header": {}}]]], ids=str)
def test_headers_and_gzip_are_recognised(header, tmp_path):
    plain = write_mrqa(tmp_path / "plain.jsonl", [mrqa_line(0, *CASES[0])], header)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(data.read_examples(packed, "paper")) == list(data.read_examples(plain, "paper"))


def test_reading_is_streamed(tmp_path):
    path = write_mrqa(tmp_path / "x.jsonl", [mrqa_line(i, *CASES[0]) for i in range(3)])
    path.write_text(path.read_text() + "{broken")
    stream = data.read_examples(path, "paper")
    assert [next(stream).id for _ in range(3)] == ["q0", "q1", "q2"]


def test_digest_tells_one_value(vocabulary, tmp_path):
    _, ours = read(hostile_file(tmp_path, "mrqa"), vocabulary, "paper")
    before = data.digest(ours, "input_ids")
    ours.input_ids[-1, -1] += 1
    assert before != data.digest(ours, "input_ids")


def mrqa_with(**changes):
    """A good MRQA line with keys replaced on the line, its question (qa_) or its detected answer (found_)."""
    line = mrqa_line(0, *CASES[0])
    qa = line["qas"][0]
    for key, value in changes.items():
        place, _, name = key.rpartition("__")
        target = {"": line, "qa": qa, "found": qa["detected_answers"][0]}[place]
        target.pop(name) if value is None else target.update({name: value})
    return json.dumps(line)


def squad_with(**changes):
    paragraph = squad_paragraph(0, *CASES[0])
    paragraph["qas"][0].update(changes)
    return json.dumps({"data": [{"title": "", "paragraphs": [paragraph]}]})


BAD_FILES = {
    "bad line": ("{}\n{broken", r"line 1: key 'context' is missing"),
    "bad json line": (mrqa_with() + "\n{broken", r"line 2: not JSON \(.*near '\{broken'\); repair the line"),
    "bad json": ('{"data":\n [}', r"file, line 2: not JSON"),
    "empty file": ("", "no questions; give MRQA lines"),
    "no questions": (mrqa_with(qas=[]), "no questions"),
    "no squad questions": ('{"data": []}', "no questions"),
    "not an object": ("[1]\n[2]", r"file, line 2: not JSON \(Extra data"),
    "missing key": (mrqa_with(qa__question=None), r"line 1, qas\[0\]: key 'question' is missing"),
    "missing id": (mrqa_with(qa__qid=None), r"qas\[0\]: key 'id' is missing"),
    "missing squad key": ('{"data": [{}]}', r"data\[0\]: key 'context' is missing \(found \[\]\); give MRQA"),
    "wrong type": (mrqa_with(qa__answers="fox"), r"'answers' is 'fox', not a list"),
    "half a character": (mrqa_with(context="\ud800"), "'context' holds half a character"),
    "empty context": (mrqa_with(context=" \n"), r"line 1: 'context' is empty \(' \\n'\)"),
    "no tokens": (mrqa_with(context_tokens=[]), "'context_tokens' is empty"),
    "odd tokens": (mrqa_with(context_tokens=["fox"]), r"are not \[token, character\] pairs"),
    "tokens overlap": (mrqa_with(context_tokens=[["fox", 4], ["ran", 0]]), "overlap at character 0"),
    "nothing detected": (mrqa_with(qa__detected_answers=[]), "'detected_answers' is empty for 'q0'"),
    "span outside": (
        mrqa_with(found__char_spans=[[20, 23]]),
        r"char_spans \[20, 23\] outside the context of 23 char",
    ),
    "token span outside": (
        mrqa_with(found__token_spans=[[0, 6]]),
        r"token_spans \[0, 6\] outside the context of 6",
    ),
    "odd span": (mrqa_with(found__char_spans=[4]), r"'char_spans' is \[4\], not \[\[first, last\]"),
    "after the tokens": (
        mrqa_with(context="The quick fox ran home.    ", found__char_spans=[[25, 26]]),
        "start at 25",
    ),
    "duplicate id": (
        mrqa_with() + "\n" + mrqa_with(),
        "line 2: question id 'q0' was used before; make ids unique",
    ),
    "squad answer moved": (
        squad_with(answers=[{"text": "fox", "answer_start": 0}]),
        r"qas\[0\]: answer 'fox' is not at 0 \(found 'The'\): it is at 10; correct answer_start",
    ),
    "squad answer empty": (
        squad_with(answers=[{"text": "", "answer_start": 0}]),
        r"qas\[0\]: answer '' is empty; give its text, or mark \"is_impossible\": true",
    ),
    "squad no answer": (squad_with(answers=[]), "'answers' is empty; training needs one answer"),
}


@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_named_in_one_line(text, message, tmp_path):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(data.DataError, match=message) as error:
        list(data.read_examples(path, "paper", training=True))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_answers_may_differ_from_their_span(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(mrqa_with(found__text="The Quick, Fox"))
    assert next(data.read_examples(path, "paper", training=True)).answer_text == "quick fox"


def test_missing_file_is_named_at_once(tmp_path):
    with pytest.raises(data.DataError, match=r"none\.json: no such file; give a file of questions"):
        data.read_examples(tmp_path / "none.json", "hf")


def test_unreadable_bytes_are_named(tmp_path):
    (tmp_path / "x.gz").write_bytes(b"not gzip")
    with pytest.raises(data.DataError, match=r"x\.gz: cannot be read"):
        list(data.read_examples(tmp_path / "x.gz", "hf"))


@pytest.mark.parametrize(("mode", "length"), [("paper", 7), ("hf", 145)])
def test_question_without_room_is_named(mode, length, vocabulary, tmp_path):
    path = write_mrqa(
        tmp_path / "x.jsonl",
        [mrqa_line(0, "fox fox fox fox fox fox fox fox fox fox fox fox", LONG, "the", 0)],
    )
    with pytest.raises(data.DataError, match=r"question 'q0' has 1\d pieces and leaves no room"):
        read(path, vocabulary, mode, max_length=length)


BAD_VOCABULARIES = {
    "no file": (None, "hf", "no such file; give a BERT vocab.txt"),
    "no mask": (lambda lines: ["x" if line == "[MASK]" else line for line in lines], "hf", r"lacks \[MASK\]"),
    "mask moved": (
        lambda lines: ["[MASK]", *lines[1:103], "[PAD]", *lines[104:]],
        "paper",
        r"\[MASK\] is on line 0",
    ),
    "104 is a word": (
        lambda lines: [*lines[:104], "word104", *lines[105:]],
        "hf",
        "line 104 .* holds 'word104'",
    ),
    "question elsewhere": (
        lambda lines: [*lines, "[QUESTION]"],
        "hf",
        "put .QUESTION. or an .unusedN. entry there",
    ),
    "too short": (lambda lines: [*lines[:103], "[MASK]"], "paper", r"lacks \.;"),
}


@pytest.mark.parametrize(("change", "mode", "message"), BAD_VOCABULARIES.values(), ids=BAD_VOCABULARIES)
def test_bad_vocabulary_is_named(change, mode, message, vocabulary, tmp_path):
    path = tmp_path / "vocab.txt"
    if change:
        path.write_text("\n".join(change(vocabulary.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    with pytest.raises(data.VocabularyError, match=message):
        data.Tokenizer(path, mode)


def test_wrong_mode_and_sizes_are_refused(vocabulary):
    tokenizer = data.Tokenizer(vocabulary, "paper")
    with pytest.raises(ValueError, match="build one for 'hf'"):
        data.features([], tokenizer, "hf")
    with pytest.raises(ValueError, match="doc_stride=0"):
        data.features([], tokenizer, "paper", doc_stride=0)
    with pytest.raises(ValueError, match="choose one of"):
        data.read_examples("x", "Paper")


@pytest.mark.parametrize(("n", "seed", "rows", "empty", "batches", "steps"), SPEC_ROWS)
def test_few_shot_counts_of_the_specification(n, seed, rows, empty, batches, steps, data_folder):
    path = next((data_folder / "squad_fewshot").glob(f"squad-train-seed-{seed}-num-examples-{n}_qass.jsonl*"))
    _, ours = read(path, data_folder / "vocab" / "bert-base-cased-vocab.txt", "paper", training=True)
    assert (len(ours), int((ours.start_positions == 0).sum())) == (rows, empty)
    plan = schedules.plan(len(ours), Recipe())
    assert (plan.per_epoch, plan.updates) == (batches, steps)


def test_few_shot_dev_counts_of_the_specification(data_folder):
    path = data_folder / "squad_fewshot" / "dev_qass_50.jsonl"
    examples, ours = read(path, data_folder / "vocab" / "bert-base-cased-vocab.txt", "paper")
    assert (len(examples), len(ours)) == (697, 717)
    assert not ours.question_lost.any()
