"""funnel/data.py: pairs and windows by hand and against FunnelTokenizerFast; every bad file is named in one line."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import FunnelTokenizerFast

from splinter.ports.common.text import DataErrors, VocabularyError
from splinter.ports.funnel import data
from splinter.ports.funnel.proof import cases
from splinter.sample import PATH

HEADING = "index\tquestion\tsentence\tlabel\n"


@pytest.fixture(scope="module")
def vocabulary():
    """The shipped vocabulary with Funnel's names of the special tokens."""
    return cases.vocabulary(PATH / "vocab.txt")


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    """Ours over it."""
    return data.Tokenizer(vocabulary)


@pytest.fixture
def write(tmp_path):
    """Writes a file."""

    def write(text, name="file.tsv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


# -- pieces -----------------------------------------------------------------------------------------------

HOSTILE = (
    "Caf\u00e9 <sep> <s>x</s> <mask> <pad> <unk> [SEP]",
    "\u6f22\u5b57 \U0001f98a\u200bq",
    "  ",
    "\u0130stanbul\tno\u00a0p",
)


def test_pieces_of_hostile_texts(tokenizer, vocabulary):
    """
    Special tokens spelled out, accents, ideographs, blanks: as FunnelTokenizerFast.
    """
    theirs = FunnelTokenizerFast(str(vocabulary))
    assert tokenizer.encode(HOSTILE) == theirs(list(HOSTILE), add_special_tokens=False)["input_ids"]
    assert (tokenizer.cls, tokenizer.sep, tokenizer.pad, tokenizer.unk, tokenizer.mask) == (101, 102, 0, 100, 103)


def test_a_bert_vocabulary_is_refused():
    """
    It has [CLS] for <cls>.
    """
    with pytest.raises(VocabularyError, match="lacks <pad>, <unk>, <cls>, <sep>, <mask>"):
        data.Tokenizer(PATH / "vocab.txt")


# -- pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [5, 6, 7, 12, 13])
def test_shares_are_those_of_the_fast_tokenizer(vocabulary, tokenizer, room):
    """
    Whatever the two lengths, what is left of each text is what the Rust tokenizer leaves.
    """
    fast = FunnelTokenizerFast(str(vocabulary))
    for first in range(1, 15):
        for second in range(1, 15):
            encoded = fast("a " * first, "b " * second, truncation=True, max_length=room + 3)
            parts = encoded.sequence_ids()
            assert data.shares(first, second, room) == (parts.count(0), parts.count(1)), (first, second)


def test_a_row_by_hand(tokenizer):
    """
    <cls> question <sep> sentence <sep> padding, segments 2 0 0 1 1 0.
    """
    (who,), (ann,) = tokenizer.encode(["?", "!"])
    rows = data.pair_features([data.Pair("1", "?", "!", 1)], tokenizer, 7)
    assert rows.input_ids.tolist() == [[101, who, 102, ann, 102, 0, 0]]
    assert rows.token_type_ids.tolist() == [[2, 0, 0, 1, 1, 0, 0]]
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0, 0]]
    assert rows.labels.tolist() == [1]


def test_blocks_make_no_difference(tokenizer):
    """
    One row at a time or all at once.
    """
    pairs = list(data.read_pairs(PATH / "qnli-train.tsv"))
    one, all_ = (data.pair_features(pairs, tokenizer, 40, block=n) for n in (1, 1000))
    assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(all_).values(), strict=True))


@pytest.mark.parametrize("name", ["file.tsv", "file.tsv.gz"])
def test_quotes_are_characters(write, name):
    """
    A lone quote neither joins lines nor vanishes; a byte order mark and \\r\\n are passed over.
    """
    text = "\ufeff" + HEADING + '7\tsay "a\tno" more\tentailment\r\n8\t"b"\tc\tnot_entailment\n'
    first, second = data.read_pairs(write(text, name))
    assert (first.id, first.question, first.sentence, first.label) == ("7", 'say "a', 'no" more', 0)
    assert (second.question, second.label) == ('"b"', 1)


def test_labels_may_be_missing_where_none_are_wanted(write):
    """
    As in QNLI's test file.
    """
    path = write("index\tquestion\tsentence\n1\tq\ts\n")
    assert next(data.read_pairs(path, labelled=False)).label is None
    with pytest.raises(data.DataError, match=r"line 1: the heading is \['index', 'question', 'sentence'\]"):
        next(data.read_pairs(path))


BAD_PAIRS = {
    "empty file": ("", "line 1: the heading is"),
    "no heading": ("0\tq\ts\tentailment\n", "line 1: the heading is"),
    "only a heading": (HEADING, "no pairs below the heading"),
    "three columns": (HEADING + "0\tq\tentailment\n", "line 2: 3 columns, expected 4; put tabs between them"),
    "tab in the text": (HEADING + "0\tq\ts\tentailment\n1\tq\ta\tb\tentailment\n", "line 3: 5 columns"),
    "label": (HEADING + "0\tq\ts\tyes\n", "line 2: label 'yes' is not known; use one of entailment, not_entailment"),
    "not text": (HEADING + "\udcff", None),
}


@pytest.mark.parametrize(("text", "message"), BAD_PAIRS.values(), ids=BAD_PAIRS)
def test_a_bad_pair_file_is_named_in_one_line(tmp_path, text, message):
    """
    File, line, value and way out.
    """
    path = tmp_path / "bad.tsv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(data.DataError, match=message or "cannot be read") as error:
        list(data.read_pairs(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_bad_pairs_are_told_together(write):
    """
    Each with its line; no good one comes after a bad one.
    """
    path = write(HEADING + "0\tq\ts\tentailment\n1\tq\n2\tq\ts\tyes\n0\tq\ts\tentailment\n3\tq\ts\tentailment\n")
    pairs = data.read_pairs(path)
    assert next(pairs).id == "0"
    with pytest.raises(DataErrors) as error:
        next(pairs)
    assert error.value.lines == [
        f"{path}: 3 bad examples:",
        "line 3: 2 columns, expected 4; put tabs between them",
        "line 4: label 'yes' is not known; use one of entailment, not_entailment",
        "line 5: index '0' was used before; make them unique",
    ]


def test_a_missing_file_is_said_at_once(tmp_path):
    """
    Before anything is read.
    """
    with pytest.raises(data.DataError, match=r"no such file; give a QNLI \.tsv file, plain or \.gz"):
        data.read_pairs(tmp_path / "none.tsv")


# -- windows ----------------------------------------------------------------------------------------------


def example(answer="gold", context="old gold is old", **changes):
    """A question whose answer is a word of its context."""
    made = data.Example("q", "what ?", context, [answer], answer, context.index(answer))
    return replace(made, **changes)


OFFSETS = np.array([[0, 3], [4, 6], [6, 8], [9, 11]])  # old | go | ##ld | is

LABELS = {
    "inside": (example(), OFFSETS, (6, 7)),
    "on the last piece": (example("is"), OFFSETS, (8, 8)),
    "cut at the left": (example(), OFFSETS[2:], (0, 0)),
    "cut at the right": (example(), OFFSETS[:2], (0, 0)),
    "none": (example(answer_text=None, answer_start=None, impossible=True), OFFSETS, (0, 0)),
    "no pieces": (example(), OFFSETS[:0], (0, 0)),
    "in the middle of a piece": (example(answer_text="ol", answer_start=5), OFFSETS, (6, 7)),
}


@pytest.mark.parametrize(("asked", "offsets", "wanted"), LABELS.values(), ids=LABELS)
def test_labels_by_hand(asked, offsets, wanted):
    """
    First and last piece of the answer; [CLS] where the window does not hold all of it.
    """
    assert data.label(asked, offsets, 5) == wanted


def test_windows_overlap_by_doc_stride(tokenizer):
    """
    Ten pieces in windows of four that share two.
    """
    asked = data.Example("q", "?", "a b c d e f g h i j", [])
    ((_, rows),) = data.answer_features([asked], tokenizer, max_length=8, doc_stride=2)
    first = rows.offsets[:, 3, 0].tolist()
    assert first == [0, 4, 8, 12]
    assert (rows.offsets[0, 3:7, 0].tolist(), rows.offsets[0, 7].tolist()) == ([0, 2, 4, 6], [-1, -1])


def test_a_question_without_room_is_named(tokenizer):
    """
    When the overlap leaves no step forward.
    """
    asked = data.Example("q", "?", "a b c d e f g h i j", [], where="here")
    with pytest.raises(data.DataError, match=r"here: question 'q' has 1 pieces and leaves no room .* lower doc_stride"):
        list(data.answer_features([asked], tokenizer, max_length=8, doc_stride=4))


def test_blocks_of_examples_make_no_difference(tokenizer):
    """
    One question at a time or many.
    """
    examples = list(data.read_examples(PATH / "squad-train.json", training=True))[:9]
    one, many = (
        data.concatenate(data.answer_features(examples, tokenizer, 96, 24, 16, training=True, block=n))[1]
        for n in (1, 256)
    )
    assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(many).values(), strict=True))


BAD_SQUAD = {
    "empty file": ("", "no questions; give MRQA lines"),
    "a list": ("[]", "no questions; give MRQA lines"),
    "no data": ("{}", r"key 'context' is missing \(found \[\]\); give MRQA lines, SQuAD JSON"),
    "no questions": ('{"data": []}', "no questions; give MRQA lines, SQuAD JSON"),
}


@pytest.mark.parametrize(("text", "message"), BAD_SQUAD.values(), ids=BAD_SQUAD)
def test_a_bad_squad_file_is_named_in_one_line(write, text, message):
    """
    The same reader as Splinter's, whose tests hold the rest.
    """
    with pytest.raises(data.DataError, match=message):
        list(data.read_examples(write(text, "bad.json")))


def test_answer_outside_its_context(write):
    """
    Only training looks.
    """
    qa = {"id": "1", "question": "?", "answers": [{"text": "no", "answer_start": 3}]}
    document = {"data": [{"paragraphs": [{"context": "Ann did it.", "qas": [qa]}]}]}
    path = write(json.dumps(document), "file.json")
    assert len(list(data.read_examples(path))) == 1
    with pytest.raises(data.DataError, match="answer 'no' is not at 3"):
        list(data.read_examples(path, training=True))


def test_trim_leaves_enough_padding():
    """
    Longest row, 2 ** 3 more, rounded up to 8; never longer than the rows are.
    """
    mask = np.zeros((2, 64), int)
    mask[0, :9], mask[1, :17] = 1, 1
    columns = {"attention_mask": mask, "labels": np.zeros(2)}
    assert data.trim(columns, 3)["attention_mask"].shape == (2, 32)
    mask[0, :60] = 1
    assert data.trim(columns, 3)["attention_mask"].shape == (2, 64)


def test_the_vocabulary_made_from_berts_reads_as_transformers_expects(tmp_path):
    """
    The seven renamed lines have the ids of the published tokenizer; everything else stays where it was.
    """
    from transformers import FunnelTokenizerFast

    written = data.write_vocabulary(PATH / "vocab.txt", tmp_path / "vocab.txt")
    tokenizer = FunnelTokenizerFast(str(written))
    named = ("pad_token", "bos_token", "eos_token", "unk_token", "cls_token", "sep_token", "mask_token")
    ids = [tokenizer.convert_tokens_to_ids(getattr(tokenizer, name)) for name in named]
    assert ids == [0, 96, 97, 100, 101, 102, 103]
    before, after = ((folder / "vocab.txt").read_text(encoding="utf-8").split("\n") for folder in (PATH, tmp_path))
    assert {number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]} == {*ids}
