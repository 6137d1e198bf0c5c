"""The shipped data set: its files are what `build` makes, its offsets are right, its hostile cases are there."""

import json
import unicodedata

import pytest

from splinter.sample import PATH, build, hostile

PASSAGES = build.read_passages()
QUESTIONS = {question.id: (passage, question) for passage in PASSAGES for question in passage.questions}
VOCABULARY = (PATH / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
FILES = ["fewshot-train.jsonl", "fewshot-dev.jsonl", "squad-train.json", "squad-dev.json", "vocab.txt"]
FILES += ["qnli-train.tsv", "qnli-dev.tsv", "squad2-dev.json"]


def mrqa(split):
    """Yield (line, qa) for every question of a split."""
    _, *lines = (PATH / f"fewshot-{split}.jsonl").read_text(encoding="utf-8").splitlines()
    yield from ((line, qa) for line in map(json.loads, lines) for qa in line["qas"])


def squad(split):
    """Yield (context, qa) for every question of a split."""
    document = json.loads((PATH / f"squad-{split}.json").read_text(encoding="utf-8"))
    paragraphs = (paragraph for article in document["data"] for paragraph in article["paragraphs"])
    yield from ((paragraph["context"], qa) for paragraph in paragraphs for qa in paragraph["qas"])


@pytest.fixture(scope="module")
def pieces():
    """Cut text into the word pieces of the shipped vocabulary, as BERT's own tokenizer does."""
    tokenizers = pytest.importorskip("tokenizers")
    ids = {piece: i for i, piece in enumerate(VOCABULARY)}
    tokenizer = tokenizers.BertWordPieceTokenizer(ids, lowercase=False, strip_accents=False)
    return lambda text: tokenizer.encode(text, add_special_tokens=False).tokens


def test_committed_files_are_a_fresh_build(tmp_path):
    """
    Nobody edited a built file, and the build gives the same bytes again, with \\n as line end.
    """
    build.write(tmp_path)
    assert [name for name in FILES if (tmp_path / name).read_bytes() != (PATH / name).read_bytes()] == []
    assert all(b"\r" not in (PATH / name).read_bytes() for name in FILES)


def test_hostile_pages_are_a_fresh_build(tmp_path):
    """
    All of the folder and nothing else, small.
    """
    hostile.write(tmp_path)
    folders = (tmp_path / hostile.FOLDER, PATH / hostile.FOLDER)
    made, there = ({p.relative_to(one): p.read_bytes() for p in one.rglob("*") if p.is_file()} for one in folders)
    assert made == there
    assert sum(map(len, there.values())) < 300_000


def test_counts():
    """
    At least 40 passages, one of them long, and 120 questions, 48 of them for training, in less than 600 kB.
    """
    assert len(PASSAGES) >= 40
    assert len(QUESTIONS) >= 120
    assert sum(len(passage.text) for passage in PASSAGES) >= 25_000
    assert len(list(mrqa("train"))) == 48
    assert max(len(passage.text.split()) for passage in PASSAGES) > 1000
    assert sum(file.stat().st_size for file in PATH.iterdir() if file.is_file()) < 600_000


@pytest.mark.parametrize("split", ["train", "dev"])
def test_mrqa_spans_spell_the_answer(split):
    """
    Both inclusive spans of every answer cover exactly its text, and tokens stand where they say.
    """
    for line, qa in mrqa(split):
        context, tokens = line["context"], line["context_tokens"]
        assert all(context.startswith(token, start) for token, start in tokens)
        assert all(qa["question"].startswith(token, start) for token, start in qa["question_tokens"])
        for answer in qa["detected_answers"]:
            for (first, last), (one, end) in zip(answer["char_spans"], answer["token_spans"], strict=True):
                assert context[first : last + 1] == answer["text"], qa["id"]
                assert (tokens[one][1], tokens[end][1] + len(tokens[end][0]) - 1) == (first, last), qa["id"]
                joined = "".join(token for token, _ in tokens[one : end + 1])
                assert joined == "".join(answer["text"].split()), qa["id"]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_squad_and_mrqa_hold_the_same_questions(split):
    """
    SQuAD answers slice right, and ids, contexts and answers are those of the MRQA file.
    """
    theirs = {qa["id"]: (line["context"], qa["question"], qa["answers"]) for line, qa in mrqa(split)}
    ours = {}
    for context, qa in squad(split):
        answers = [(answer["text"], answer["answer_start"]) for answer in qa["answers"]]
        assert all(context.startswith(text, start) for text, start in answers)
        ours[qa["id"]] = (context, qa["question"], list(dict.fromkeys(text for text, _ in answers)))
    assert ours == theirs


def test_no_passage_is_in_both_splits():
    """
    Training and evaluation share no context and no question id.
    """
    train, dev = ([(line["context"], qa["id"]) for line, qa in mrqa(split)] for split in ("train", "dev"))
    assert not {context for context, _ in train} & {context for context, _ in dev}
    assert not {name for _, name in train} & {name for _, name in dev}


def test_vocabulary_ids():
    """
    2,048 different pieces, with BERT's ids where Splinter depends on them and [QUESTION] at 104.
    """
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 2048
    assert VOCABULARY[0] == "[PAD]"
    assert VOCABULARY[100:106] == ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[QUESTION]", "[unused101]"]
    assert "".join(VOCABULARY[106:200]) == "".join(map(chr, range(33, 127)))
    assert (VOCABULARY.index("."), VOCABULARY.index("?")) == (119, 136)


def test_vocabulary_fits_the_text(pieces):
    """
    A word of the passages takes less than two pieces, and very few pieces are unknown.
    """
    text = " ".join(passage.text for passage in PASSAGES)
    cut = pieces(text)
    assert len(cut) < 2 * len(text.split())
    assert 0 < cut.count("[UNK]") < 0.01 * len(cut)


def category(name, text):
    """Whether a character of the text has a Unicode category that starts so."""
    return any(unicodedata.category(letter).startswith(name) for letter in text)


def script(name, text):
    """Whether a character of the text has a Unicode name that starts so."""
    return any(unicodedata.name(letter, "").startswith(name) for letter in text)


def spans(passage, question):
    """Every gold span of a question: (text before, text itself, text after, tokens)."""
    tokens = build.tokenize(passage.text, passage.whole)
    for gold in question.golds:
        chars, indices = build.locate(gold, passage.text, tokens)
        for (first, last), (one, end) in zip(chars, indices, strict=True):
            cut = [token for token, _ in tokens[one : end + 1]]
            yield passage.text[:first], gold.text, passage.text[last + 1 :], cut


# What each tag promises: a gold span (before, text, after, tokens) ...
OF_A_GOLD = {
    "start": lambda before, text, after, tokens: before == "",
    "end": lambda before, text, after, tokens: not any(letter.isalnum() for letter in after),
    "end-no-period": lambda before, text, after, tokens: after == "",
    "repeat": lambda before, text, after, tokens: text in before,
    "joined-differs": lambda before, text, after, tokens: " ".join(tokens) != text,
    "currency": lambda before, text, after, tokens: category("Sc", text),
    "quoted": lambda before, text, after, tokens: '"' in text + before[-1:],
    "curly-quotes": lambda before, text, after, tokens: set("“”’") & set(before[-1:] + text + after[:1]),
    "dash": lambda before, text, after, tokens: category("Pd", before[-1:] + text + after[:2]),
    "number": lambda before, text, after, tokens: category("N", text),
    "date": lambda before, text, after, tokens: category("Nd", text),
    "nbsp": lambda before, text, after, tokens: {"\u00a0", "\u202f"} & set(text),
    "combining": lambda before, text, after, tokens: category("M", text),
    "cjk": lambda before, text, after, tokens: script("CJK", text + after),
    "rtl": lambda before, text, after, tokens: script("ARABIC", text) or script("HEBREW", text),
    "emoji-adjacent": lambda before, text, after, tokens: category("So", before[-1:] + text + after[:1]),
    "emoji-zwj": lambda before, text, after, tokens: "\u200d" in text,
    "long-begin": lambda before, text, after, tokens: 3 * len(before) < len(before + text + after),
    "long-middle": lambda before, text, after, tokens: len(after) / 2 < len(before) < 2 * len(after),
    "long-end": lambda before, text, after, tokens: 3 * len(after) < len(before + text + after),
    "mask-split": lambda before, text, after, tokens: "MASK" in tokens,
    "mask-whole": lambda before, text, after, tokens: "[MASK]" in tokens,
}
# ... or the passage and the question as a whole.
OF_A_QUESTION = {
    "one-word": lambda passage, question: passage.text.isalnum(),
    "many-spans": lambda passage, question: any(len(gold.which) > 1 for gold in question.golds),
    "spaces": lambda passage, question: "  " in passage.text,
    "accents": lambda passage, question: any("À" <= letter <= "ſ" for letter in passage.text),
    "emoji": lambda passage, question: category("So", passage.text),
    "mask-context": lambda passage, question: "[MASK]" in passage.text,
    "question-context": lambda passage, question: "[QUESTION]" in passage.text,
    "mask-question": lambda passage, question: "[MASK]" in question.text,
    "question-question": lambda passage, question: "[QUESTION]" in question.text,
}
OF_PIECES = {
    "windows": lambda pieces, passage, question: len(pieces(passage.text)) > 384 + 128,
    "long-question": lambda pieces, passage, question: len(pieces(question.text)) > 64,
    "long-answer": lambda pieces, passage, question: min(len(pieces(gold.text)) for gold in question.golds) > 10,
    "unknown": lambda pieces, passage, question: "[UNK]" in pieces(question.golds[0].text),
}


def tagged(tag):
    """The questions that carry a tag, as [(passage, question)], at least one."""
    found = [pair for pair in QUESTIONS.values() if tag in pair[1].tags]
    assert found, f"no question is tagged {tag}"
    return found


@pytest.mark.parametrize("tag", OF_A_GOLD)
def test_tags_of_a_gold_are_true(tag):
    """
    Every question with this tag has a gold span that is what the tag says.
    """
    for passage, question in tagged(tag):
        assert any(OF_A_GOLD[tag](*span) for span in spans(passage, question)), question.id


@pytest.mark.parametrize("tag", OF_A_QUESTION)
def test_tags_of_a_question_are_true(tag):
    """
    Every question with this tag, or its passage, is what the tag says.
    """
    for passage, question in tagged(tag):
        assert OF_A_QUESTION[tag](passage, question), question.id


@pytest.mark.parametrize("tag", OF_PIECES)
def test_tags_of_pieces_are_true(tag, pieces):
    """
    Every question with this tag is as long, or as unknown, in word pieces as the tag says.
    """
    for passage, question in tagged(tag):
        assert OF_PIECES[tag](pieces, passage, question), question.id


def test_no_tag_is_unknown():
    """
    A tag without a check would promise something that nobody proves.
    """
    used = {tag for _, question in QUESTIONS.values() for tag in question.tags}
    assert used == {*OF_A_GOLD, *OF_A_QUESTION, *OF_PIECES}
