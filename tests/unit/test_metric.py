"""metric.py against transformers' SQuAD code, to the last bit; each planted mistake must be told apart."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest

from splinter import datasets
from splinter.ports.common import answers
from splinter.ports.common.text import BasicTokenizer
from splinter.ports.splinter import metric
from splinter.ports.splinter.proof import reference_metric as theirs

HOSTILE = [  # (prediction, golds)
    ("The Cat", ["cat", "a dog"]),
    ("the", ["a"]),
    ("the an a", ["The"]),
    ("", []),
    ("something", []),
    ("the", []),
    ("", ["the", "..."]),
    ("nothing", ["the", ""]),
    ("...", ["cat", "..."]),
    ("U.S.", ["US"]),
    ("U.S.", ["U. S."]),
    ("it's", ["its", "it is"]),
    ('"quoted', ["quoted"]),
    ("$ 31.5 billion", ["$31.5 billion"]),
    ("24\u201310", ["24-10"]),
    ("Stra\u00dfe", ["STRASSE", "strasse"]),
    ("\u0130stanbul", ["istanbul", "i\u0307stanbul"]),
    ("\uff21\uff11 \u2018the\u2019", ["a1 the", "\uff41\uff11"]),
    ("caf\u00e9 au lait", ["cafe\u0301 au lait"]),
    ("the\u00a0cat\u2003sat", ["cat sat"]),
    ("zero\u200bwidth a", ["zero width"]),
    ("a\u0301n the\u0301", ["an"]),
    ("to be or not to be", ["to be", "to be"]),
    ("b b a b", ["b the b", "b"]),
    ("one two three four five six seven", ["seven three", "one two nine"]),
]
GOLDS = {f"q{i}": golds for i, (_, golds) in enumerate(HOSTILE)}
PREDICTIONS = {f"q{i}": prediction for i, (prediction, _) in reversed(list(enumerate(HOSTILE)))}
WORDS = ["a", "an", "the", "The", "A.", "cat", "cats", "dog's", "b", "bb", "$5", "5", "--", ","]
WORDS += ["\u00df", "SS", "\u0130", "i\u0307", "\uff21", "e\u0301", "\u00e9", "\u4e2d", "an\u00a0"]


def bits(scores):
    """Keys in order, values by repr: types and every bit of a float."""
    return [f"{name}={value!r}" for name, value in scores.items()]


def same_scores(*arguments):
    return bits(metric.evaluate(*arguments)) == bits(theirs.evaluate(*arguments))


def fuzz(seed, questions=2000):
    """Random golds, predictions in another order plus a stranger, odds with many ties."""
    rng = random.Random(seed)
    text = lambda: " ".join(rng.choices(WORDS, k=rng.randint(0, 5)))  # noqa: E731
    golds = {f"q{i}": [text() for _ in range(rng.randint(0, 4))] for i in range(questions)}
    order = rng.sample([*golds, "stranger"], questions + 1)
    predictions = {question: text() if rng.random() < 0.9 else "" for question in order}
    odds = {question: rng.choice([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0]) for question in rng.sample(order, len(order))}
    return golds, predictions, odds


# -- scores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prediction", "golds"), HOSTILE)
def test_one_hostile_prediction_scores_as_theirs(prediction, golds):
    """
    One question at a time, nothing averages out.
    """
    assert same_scores({"q": golds}, {"q": prediction})


def test_hostile_predictions_score_as_theirs_together():
    """
    Sums run over the golds in their order, thresholds over the predictions in theirs.
    """
    assert same_scores(GOLDS, PREDICTIONS)
    assert same_scores(GOLDS, PREDICTIONS, dict.fromkeys(PREDICTIONS, 0.5), 0.25)


@pytest.mark.parametrize("seed", range(3))
def test_random_answers_score_as_theirs(seed):
    """
    2,000 questions, with and without odds, equal keys, order, types and bits.
    """
    golds, predictions, odds = fuzz(seed)
    assert same_scores(golds, predictions)
    assert same_scores(golds, predictions, odds)
    assert same_scores(golds, predictions, odds, 0.5)


def test_missing_predictions_leave_the_denominator_and_warn_once():
    """
    Theirs fails on a missing prediction; ours equals theirs on the questions that have one.
    """
    golds = GOLDS | {"missing": ["x"], "missing too": []}
    with pytest.warns(UserWarning, match="2 of 27 questions have no prediction") as caught:
        scores = metric.evaluate(golds, PREDICTIONS)
    assert len(caught) == 1
    assert bits(scores) == bits(theirs.evaluate(GOLDS, PREDICTIONS))
    with pytest.raises(KeyError, match="missing"):
        theirs.evaluate(golds, PREDICTIONS)


def test_missing_predictions_counted_as_wrong_are_told_apart():
    """
    Planted mistake: the mean over all questions, those without a prediction as 0.
    """
    wrong = metric.evaluate(GOLDS | {"missing": ["x"]}, PREDICTIONS | {"missing": ""})
    right = theirs.evaluate(GOLDS, PREDICTIONS)
    assert all(wrong[name] != right[name] for name in ("exact", "f1", "total", "HasAns_f1", "best_f1"))


def test_f1_without_normalisation_is_told_apart(monkeypatch):
    """
    Planted mistake.
    """
    monkeypatch.setattr(answers, "normalize", str)
    assert not same_scores(GOLDS, PREDICTIONS)
    assert not same_scores(*fuzz(0))


@pytest.mark.parametrize(
    ("golds", "predictions", "odds", "message"),
    [
        ({}, {}, None, "nothing to evaluate"),
        ({"q": "Paris"}, {"q": "Paris"}, None, "must be a list"),
        ({"q": ["Paris"]}, {}, None, "none of the 1"),
        ({"q": ["Paris"]}, {"q": "Paris"}, {}, "no no-answer odds"),
    ],
)
def test_wrong_input_is_named(golds, predictions, odds, message):
    """
    No division by zero, no letters taken for answers.
    """
    with pytest.raises(ValueError, match=message):
        metric.evaluate(golds, predictions, odds)


def test_oracle_takes_the_best_of_the_first_k():
    """
    By hand: first hit at rank 2 and at rank 4.
    """
    golds = {"q": ["red fox"], "r": ["owl"]}
    nbest = {"q": ["fox", "the red fox"], "r": ["a", "b", "c", "owl"]}
    scores = [metric.oracle(golds, nbest, k) for k in (1, 3, 5)]
    assert [s["exact"] for s in scores] == [0.0, 50.0, 100.0]
    assert [s["f1"] for s in scores] == [pytest.approx(100 / 3), 50.0, 100.0]
    with pytest.raises(ValueError, match="at least 1"):
        metric.oracle(golds, nbest, 0)


# -- decoding, as in the paper ----------------------------------------------------------------------------

QUESTION = ["[CLS]", "who", "?", "[SEP]"]
DOCUMENTS = {  # raw context -> [(token, its pieces), ...]
    "currency": (
        "costs $31.5 billion.",
        [("costs", "cost ##s"), ("$", "$"), ("31.5", "31 . 5"), ("billion", "billion"), (".", ".")],
    ),
    "repeats": ("to be  or\nto be", [(w, w) for w in ("to", "be", "or", "to", "be")]),
    "unknown": (
        "a \u2603 b \u2603c b",
        [("a", "a"), ("\u2603", "[UNK]"), ("b", "b"), ("\u2603c", "[UNK]"), ("b", "b")],
    ),
    "accents": (
        "Caf\u00e9 de\u0301ja`, Caf\u00e9s",
        [
            ("Caf\u00e9", "Caf ##\u00e9"),
            ("de\u0301ja`", "d\u00e9 ##ja `"),
            (",", ","),
            ("Caf\u00e9s", "Caf ##\u00e9 ##s"),
        ],
    ),
    "dropped characters": (
        "b\u200bb x\u00adb \u200b b",
        [("b\u200bb", "b ##b"), ("x\u00adb", "x ##b"), ("\u200b", ""), ("b", "b")],
    ),
    "ideographs": (
        "\u4e2d\u6587b (b)",
        [("\u4e2d\u6587b", "\u4e2d \u6587 b"), ("(", "("), ("b", "b"), (")", ")")],
    ),
    "long": ("x" * 14, [("x" * 14, "x" + " ##x" * 13)]),
}
T = 24


def example_of(name):
    context, split = DOCUMENTS[name]
    tokens, offsets, at = [token for token, _ in split], [], 0
    for token in tokens:
        start = context.index(token, at)
        at = start + len(token)
        offsets.append((start, at))
    return SimpleNamespace(id=name, context=context, tokens=tokens, offsets=offsets)


def windows_of(split, vocabulary, capacity=T - 5, stride=4):
    """Rows over the pieces of a document; each piece is max-context where its smaller side is larger."""
    document = [(piece, index) for index, (_, text) in enumerate(split) for piece in text.split()]
    starts = range(0, max(1, len(document) - capacity + stride), stride)
    spans = [(start, min(start + capacity, len(document))) for start in starts]
    best = [
        max(
            spans,
            key=lambda s: -1 if not s[0] <= i < s[1] else min(i - s[0], s[1] - 1 - i) + 0.01 * (s[1] - s[0]),
        )
        for i in range(len(document))
    ]
    rows = []
    for start, end in spans:
        pieces = [*QUESTION, *(piece for piece, _ in document[start:end]), "[SEP]"]
        token_of_piece, max_context = np.full(T, -1), np.zeros(T, bool)
        where = slice(len(QUESTION), len(QUESTION) + end - start)
        token_of_piece[where] = [index for _, index in document[start:end]]
        max_context[where] = [best[i] == (start, end) for i in range(start, end)]
        ids = [vocabulary.index(piece) for piece in pieces + ["[PAD]"] * (T - len(pieces))]
        rows.append(
            SimpleNamespace(
                input_ids=np.array(ids),
                attention_mask=np.arange(T) < len(pieces),
                token_of_piece=token_of_piece,
                max_context=max_context,
            )
        )
    return rows


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """All pieces of the documents, and the file that their tokenizer reads."""
    pieces = [piece for _, split in DOCUMENTS.values() for _, text in split for piece in text.split()]
    entries = list(dict.fromkeys(["[PAD]", "[UNK]", "[MASK]", *QUESTION, *pieces]))
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return SimpleNamespace(entries=entries, path=path)


def problem(name, vocabulary, seed, capacity=T - 5):
    """A document and random logits: small integers (ties) for even seeds, floats for odd ones."""
    rows = windows_of(DOCUMENTS[name][1], vocabulary.entries, capacity)
    rng = np.random.default_rng(seed)
    logits = rng.normal(700, 20, (2, len(rows), T)) if seed % 2 else rng.integers(-2, 3, (2, len(rows), T))
    return example_of(name), rows, *logits.astype("float32")


def ours_and_theirs(problem, vocabulary, planted=0, **options):
    """Both sides as (text, probability, start_logit, end_logit); `planted` lengthens our answers."""
    example, rows, start, end = problem
    mine = options | {"max_answer_length": options.get("max_answer_length", 10) + planted}
    mine["basic"] = BasicTokenizer(mine.pop("lower_case", False))
    spans = metric.decode_paper(*problem, lambda ids: [vocabulary.entries[i] for i in ids], **mine)
    entries = theirs.decode([example], [rows], [start], [end], vocabulary.path, **options)[example.id]
    return (
        [(s.text, s.probability, s.start_logit, s.end_logit) for s in spans],
        [(*e.values(),) for e in entries],
        spans,
    )


@pytest.mark.parametrize("lower_case", [False, True])
@pytest.mark.parametrize("capacity", [6, T - 5])  # overlapping windows, one window
@pytest.mark.parametrize("name", DOCUMENTS)
def test_paper_decoding_equals_theirs(name, capacity, lower_case, vocabulary):
    """
    Equal texts, order, logits and probabilities, and offsets that cut the same text out of the raw context.
    """
    for seed in range(6):
        this = problem(name, vocabulary, seed, capacity)
        ours, reference, spans = ours_and_theirs(this, vocabulary, lower_case=lower_case)
        assert ours == reference
        for span in spans:
            raw = this[0].context[span.start_char : span.end_char]
            assert "".join(raw.split()) == span.text.replace(" ", "")


@pytest.mark.parametrize("limits", [{"max_answer_length": 1}, {"max_answer_length": 14}, {"n_best": 1}, {"n_best": 3}])
def test_paper_decoding_keeps_to_other_limits(limits, vocabulary):
    """
    Both limits at and beyond the length of the document.
    """
    for seed in range(6):
        ours, reference, _ = ours_and_theirs(problem("long", vocabulary, seed), vocabulary, **limits)
        assert ours == reference


def test_one_piece_too_many_is_told_apart(vocabulary):
    """
    Planted mistake: max_answer_length off by one, either way.
    """
    for planted in (-1, 1):
        this = problem("currency", vocabulary, 0)
        ours, reference, _ = ours_and_theirs(this, vocabulary, planted, max_answer_length=3)
        assert ours != reference


def test_answer_is_space_joined_and_points_into_the_raw_context(vocabulary):
    """
    By hand: `$ 31.5 billion` lies at `$31.5 billion`.
    """
    example, rows, start, end = problem("currency", vocabulary, 0)
    start[0, 6] = end[0, 10] = 9  # [CLS] who ? [SEP] cost ##s $ 31 . 5 billion
    best = metric.decode_paper(example, rows, start, end, lambda ids: [vocabulary.entries[i] for i in ids])[0]
    assert (best.text, best.score) == ("$ 31.5 billion", 18.0)
    assert example.context[best.start_char : best.end_char] == "$31.5 billion"


def test_no_admissible_span_is_empty(vocabulary):
    """
    Best boundaries in the question or the padding only: one entry `empty`, logits 0, probability 1.
    """
    this = problem("repeats", vocabulary, 0)
    this[2][:, [0, 1, 2, -1]] = this[3][:, [0, 1, 2, -1]] = 9
    ours, reference, spans = ours_and_theirs(this, vocabulary, n_best=4)
    assert ours == reference == [("empty", 1.0, 0.0, 0.0)]
    assert (spans[0].start_char, spans[0].end_char) == (None, None)


def test_padding_is_no_answer(vocabulary):
    """
    Not even where the map of pieces to tokens goes on.
    """
    example, rows, start, end = problem("repeats", vocabulary, 0)
    rows[0].attention_mask[7:] = False
    ours, reference, spans = ours_and_theirs((example, rows, start, end), vocabulary, n_best=T)
    assert ours == reference
    assert {span.text for span in spans} == {"to", "be", "or", "to be", "be or", "to be or"}


def test_paper_decoding_equals_theirs_on_squad():
    """
    697 questions of MRQA's SQuAD, noise with and without ties as logits, then the scores of the answers.
    """
    from splinter.ports.splinter import data

    try:
        vocab_file = datasets.find("vocab/bert-base-cased-vocab.txt")
        file = datasets.find("squad_fewshot/dev_qass_50.jsonl")
    except datasets.DataMissing as error:
        pytest.skip(str(error))
    tokenizer = data.Tokenizer(vocab_file, "paper")
    examples = data.read_examples(file, "paper")
    examples, columns = data.concatenate(data.features(examples, tokenizer, "paper"))
    names = ("input_ids", "attention_mask", "token_of_piece", "max_context")
    windows = [
        [{name: getattr(columns, name)[i] for name in names} for i in np.flatnonzero(columns.example_index == index)]
        for index in range(len(examples))
    ]
    rng = np.random.default_rng(0)
    steps = (1e-3, 10)  # the coarse one makes ties
    logits = [rng.normal(700, 20, (2, len(w), 384)) // steps[i % 2] for i, w in enumerate(windows)]
    starts, ends = zip(*(pair.astype("float32") for pair in logits), strict=True)

    reference = theirs.decode(examples, windows, starts, ends, vocab_file)
    ours = {
        example.id: metric.decode_paper(example, *rest, tokenizer.pieces)
        for example, *rest in zip(examples, windows, starts, ends, strict=True)
    }
    assert (len(ours), len(columns)) == (697, 717)
    for example in examples:
        spans = ours[example.id]
        assert [(s.text, s.probability) for s in spans] == [
            (e["text"], e["probability"]) for e in reference[example.id]
        ]
        for span in spans:
            raw = example.context[span.start_char : span.end_char]
            assert span.start_char is None or "".join(raw.split()) == "".join(span.text.split())
    golds = {example.id: example.answers for example in examples}
    assert same_scores(golds, {name: spans[0].text for name, spans in ours.items()})


def test_basic_text_equals_their_basic_tokenizer():
    """
    Every character of the first planes between two letters, cased and uncased; whole strings as their tokens.
    """
    from transformers.models.bert import tokenization_bert

    rng = random.Random(0)
    strings = [f"a{chr(code)}b" for code in [*range(0x3500), *range(0xA000, 0x10000, 7), 0x1D400, 0x1F600, 0x2B740]]
    strings += [
        " ".join("".join(rng.choices("Ab.\u0301\u00df\u0130\u4e2d\u200b\u2028\xa0", k=4)) for _ in "123")
        for _ in range(500)
    ]
    for lower_case in (False, True):
        tokenizer = tokenization_bert.BasicTokenizer(do_lower_case=lower_case)
        for text in strings:
            expected = " ".join(tokenizer.tokenize(text))
            assert metric.basic_text(text, BasicTokenizer(lower_case)) == expected
            assert (
                " ".join(filter(None, [metric.basic_text(t, BasicTokenizer(lower_case)) for t in text.split(" ")]))
                == expected
            )


# -- decoding, as in Hugging Face's example ---------------------------------------------------------------


def offsets_problem(seed, ties, windows=2, length=48):
    rng = np.random.default_rng(seed)
    context = "".join(rng.choice(list("ab c\u00e9"), 200))
    cuts = np.sort(rng.integers(0, 200, (windows, length, 2)), axis=2)
    cuts[:, :8] = cuts[:, -4:] = -1  # question and padding
    logits = rng.integers(-2, 3, (2, windows, length)) if ties else rng.normal(0, 5, (2, windows, length))
    rows = [{"offsets": window} for window in cuts]
    return SimpleNamespace(context=context), rows, *logits.astype("float32")


@pytest.mark.parametrize("limits", [{}, {"max_answer_length": 1}, {"n_best": 3}])
@pytest.mark.parametrize("ties", [False, True])
def test_hf_decoding_equals_its_twin(ties, limits):
    """
    Every field of every candidate, softmax in the dtype of the logits.
    """
    for seed in range(20):
        this = offsets_problem(seed, ties)
        spans, twin = metric.decode_hf(*this, **limits), theirs.decode_offsets(*this, **limits)
        assert len(spans) == len(twin)
        for span, entry in zip(spans, twin, strict=True):
            assert all(getattr(span, name) == value for name, value in entry.items())


def test_hf_decoding_off_by_one_is_told_apart():
    """
    Planted mistake.
    """
    this = offsets_problem(0, ties=False)
    texts = [span.text for span in metric.decode_hf(*this, max_answer_length=5)]
    assert texts != [entry["text"] for entry in theirs.decode_offsets(*this, max_answer_length=4)]


def test_hf_decoding_outside_the_context_is_empty():
    """
    No piece of the context in any window.
    """
    example, rows, start, end = offsets_problem(0, ties=True)
    rows = [{"offsets": np.full_like(row["offsets"], -1)} for row in rows]
    assert metric.decode_hf(example, rows, start, end) == [metric.Span("empty", 1.0, 0.0, 0.0, 0.0, None, None)]


@pytest.mark.parametrize("decode", [metric.decode_hf, lambda *a, **k: metric.decode_paper(*a, list, **k)])
def test_decoding_refuses_wrong_input(decode):
    """
    Limits below 1, shapes that do not fit, NaN.
    """
    example, rows, start, end = offsets_problem(0, ties=True)
    for limits in ({"max_answer_length": 0}, {"n_best": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            decode(example, rows, start, end, **limits)
    with pytest.raises(ValueError, match=re.escape("(R, T)")):
        decode(example, rows, start[:1], end[:1])
    with pytest.raises(ValueError, match="NaN"):
        decode(example, rows, start * np.nan, end)
