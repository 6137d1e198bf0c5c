"""Readers and scores of all systems against their references, on files that hypothesis writes.

The adapters of the proof read them, as they read the sample in the data steps; what hypothesis finds belongs into
`splinter/sample/hostile.py`, where every run of the steps sees it.
"""

import csv
import io
import json
import tempfile
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splinter.ports.funnel.proof import cases as funnel_cases
from splinter.ports.funnel.proof import ours as funnel_ours
from splinter.ports.funnel.proof import theirs as funnel_theirs
from splinter.ports.jointbert import metric as jointbert_metric
from splinter.ports.jointbert.proof import cases as jointbert_cases
from splinter.ports.jointbert.proof import ours as jointbert_ours
from splinter.ports.jointbert.proof import reference_metric as jointbert_reference
from splinter.ports.jointbert.proof import theirs as jointbert_theirs
from splinter.ports.multitask.proof import cases as multitask_cases
from splinter.ports.multitask.proof import ours as multitask_ours
from splinter.ports.multitask.proof import theirs as multitask_theirs
from splinter.ports.splinter import metric
from splinter.ports.splinter.proof import cases, ours, reference_metric, theirs
from splinter.sample import PATH

VOCABULARY = PATH / "vocab.txt"
few = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
"""Seconds for the whole file, and the same examples in every run."""

WORDS = [
    *("a", "b", "the", "A-10", "10", "unaffordable", "x" * 100, "y" * 101, "caf\u00e9", "cafe\u0301", "\u0130T"),
    *("$4.5", "U.S.", "don't", "\u201cq\u201d", "a\u3400b", "\U0002f800", "\U0001f98a", "[MASK]", "[SEP]x", "u\u00a0v"),
    *("g\u200bh", "\u200b", "\u0301", "\ufffd", "##ed", "\u03a3\u03a3", "stra\u00dfe"),
]
words = st.sampled_from(WORDS) | st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\t"), min_size=1, max_size=3
)
blanks = st.sampled_from([" ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u202f"])


def equal(one, other):
    """Both have the same columns, to the last bit."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]), name)


@contextmanager
def written(cases, source, content, name):
    """The cases of a port with one source, whatever it is called: a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(content, encoding="utf-8", newline="")
        with patch.object(cases, "source", lambda _: source(path)):
            yield


@st.composite
def passages(draw):
    """(context, answers): the answers are slices of it, (text, first character)."""
    context = "x" + "".join(gap + word for gap, word in draw(st.lists(st.tuples(blanks, words), max_size=24)))
    answers = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(context) - 1))
        text = context[start : draw(st.integers(start + 1, len(context)))]
        answers.append((text if text.strip() else "x", start if text.strip() else 0))
    return context, answers


questions = st.lists(st.sampled_from(WORDS[:6] + WORDS[8:]), max_size=3).map(" ".join)


@st.composite
def squad(draw, impossible):
    """A SQuAD document as text."""
    paragraphs = []
    for place, (context, answers) in enumerate(draw(st.lists(passages(), min_size=1, max_size=3))):
        golds = [{"text": text, "answer_start": start} for text, start in answers]
        qas = [{"id": f"{place}-{n}", "question": draw(questions), "answers": golds[n:]} for n in range(len(golds))]
        if impossible:
            qas.append({"id": f"{place}-none", "question": draw(questions), "answers": [], "is_impossible": True})
        paragraphs.append({"context": context, "qas": qas})
    return json.dumps({"version": "2", "data": [{"title": "", "paragraphs": paragraphs}]})


@st.composite
def mrqa(draw):
    """Lines of MRQA as text; tokens may have no piece, and text may belong to no token."""
    lines = ['{"header": {}}']
    for place in range(draw(st.integers(1, 3))):
        tokens = ["x", *draw(st.lists(words.filter(lambda word: not word.isspace()), max_size=20))]
        # the authors' code fails where the only token does not come first
        context, pairs = draw(st.sampled_from(["", " ", "( "])) if tokens[1:] else "", []
        for token in tokens:
            pairs.append([token, len(context)])
            context += token + draw(st.sampled_from([" ", "", "  ", " ( "]))
        qas = []
        for number in range(draw(st.integers(1, 3))):
            first = draw(st.integers(0, len(tokens) - 1))
            last = draw(st.integers(first, min(first + 3, len(tokens) - 1)))
            chars = [pairs[first][1], pairs[last][1] + len(tokens[last]) - 1]
            text = context[chars[0] : chars[1] + 1]
            detected = [{"text": text, "char_spans": [chars], "token_spans": [[first, last]]}]
            qa = {"qid": f"{place}-{number}", "question": draw(questions), "answers": [text]}
            qas.append({**qa, "detected_answers": detected})
        lines.append(json.dumps({"context": context, "context_tokens": pairs, "qas": qas}))
    return "\n".join(lines)


def logits(columns, seed):
    """Start and end logits that often tie."""
    rng = np.random.default_rng(seed)
    return [np.round(rng.normal(0, 2, columns["input_ids"].shape)).astype(np.float32) for _ in range(2)]


sizes = st.fixed_dictionaries(
    {"max_length": st.integers(40, 60), "doc_stride": st.integers(1, 7), "max_query_length": st.integers(3, 30)}
)


@pytest.mark.parametrize("mode", ["hf", "paper"])
@few
@given(
    document=squad(impossible=True) | mrqa(),
    size=sizes,
    lower=st.booleans(),
    block=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_splinter_reads_and_decodes_as_its_references(mode, document, size, lower, block, seed):
    """
    Windows and labels of a file, then the answers to injected logits and their scores.
    """
    for training in (False, True):
        how = {"training": training, "vocabulary": VOCABULARY, "sizes": size, "lower_case": lower, "block": block}
        with written(cases, partial(cases.Source, **how), document, "a.json"):
            found = theirs.columns.__wrapped__("", mode)
            equal(found, ours.columns.__wrapped__("", mode))
            if not training:
                equal(*(side.decode("", found, *logits(found, seed), mode) for side in (theirs, ours)))


def scored(draw):
    """What `evaluate` takes: golds, answers, odds and a threshold, all of few values."""
    texts = st.sampled_from(cases.TEXTS) | st.lists(words, max_size=3).map(" ".join)
    names = [str(number) for number in range(draw(st.integers(1, 8)))]
    golds = {name: draw(st.lists(texts, max_size=3)) for name in names}
    answers = {name: draw(texts) for name in names}
    odds = {name: draw(st.sampled_from([0.0, 0.5, 1.0, 1.5])) for name in [*names, "other"]}
    return golds, answers, odds, draw(st.sampled_from([0.5, 1.0]))


@settings(few, max_examples=100)
@given(st.composite(scored)())
def test_scores_are_those_of_transformers(given):
    """
    Exact match and F1 at a threshold, and at the best one.
    """
    assert metric.evaluate(*given) == reference_metric.evaluate(*given)


# -- Funnel -----------------------------------------------------------------------------------------------


@cache
def funnel_vocabulary():
    """The shipped vocabulary with Funnel's special tokens."""
    return funnel_cases.vocabulary(VOCABULARY)


@few
@given(document=squad(impossible=True), size=sizes, block=st.integers(1, 4), seed=st.integers(0, 9))
def test_funnel_reads_and_decodes_as_its_reference(document, size, block, seed):
    """
    Windows and labels of a SQuAD file, then candidates, odds and scores of injected logits, with null answers.
    """
    for training in (False, True):
        how = {"training": training, "vocabulary": funnel_vocabulary(), "sizes": size, "block": block}
        with written(funnel_cases, partial(funnel_cases.Source, **how), document, "a.json"):
            found = funnel_theirs.columns.__wrapped__("", "answering")
            equal(found, funnel_ours.columns.__wrapped__("", "answering"))
            for name in ("squad", "squad2") if not training else ():  # which says whether "no answer" is one
                equal(*(side.decode(name, found, *logits(found, seed)) for side in (funnel_theirs, funnel_ours)))


lines = st.lists(words, max_size=9).map(" ".join)


@few
@given(pairs=st.lists(st.tuples(lines, lines, st.booleans()), min_size=1, max_size=6), size=st.integers(5, 20))
def test_funnel_reads_pairs_as_its_reference(pairs, size):
    """
    Texts of all lengths, with quotes and blanks of all kinds.
    """
    labels = [("entailment", "not_entailment")[label] for *_, label in pairs]
    rows = [f"{n}\t{a}\t{b}\t{label}" for n, ((a, b, _), label) in enumerate(zip(pairs, labels, strict=True))]
    content = "\n".join(["index\tquestion\tsentence\tlabel", *rows])
    how = {"training": True, "vocabulary": funnel_vocabulary(), "sizes": {"max_length": size}, "block": 2}
    with written(funnel_cases, partial(funnel_cases.Source, **how), content, "a.tsv"):
        equal(*(side.columns.__wrapped__("", "classification") for side in (funnel_theirs, funnel_ours)))


# -- JointBERT --------------------------------------------------------------------------------------------

tags = st.lists(st.lists(st.sampled_from([*jointbert_cases.ODD, "PAD", "UNK"]), max_size=6), min_size=1, max_size=4)


@settings(few, max_examples=100)
@given(gold=tags, found=st.data())
def test_slots_are_scored_as_by_seqeval(gold, found):
    """
    Tags of any scheme and of none, right ones and wrong ones.
    """
    other = [[found.draw(st.sampled_from([tag, *jointbert_cases.ODD])) for tag in row] for row in gold]
    both = (["a"] * len(gold), ["a"] * len(gold), gold, other)
    assert jointbert_metric.evaluate(*both) == jointbert_reference.evaluate(*both)


one_word = words.filter(lambda word: len(word.split()) == 1)
sentences = st.lists(
    st.tuples(st.lists(st.tuples(one_word, st.sampled_from(jointbert_cases.ODD)), min_size=1, max_size=9), one_word),
    min_size=1,
    max_size=4,
)


@few
@given(sentences=sentences, size=st.integers(3, 16))
def test_jointbert_reads_as_its_reference(sentences, size):
    """
    Words that split, vanish and are cut, tags that no label file knows.
    """
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "train")
        part.mkdir()
        files = {
            "train/seq.in": [" ".join(word for word, _ in pairs) for pairs, _ in sentences],
            "train/seq.out": [" ".join(tag for _, tag in pairs) for pairs, _ in sentences],
            "train/label": [intent for _, intent in sentences],
            "intent_label.txt": ["UNK", "a"],
            "slot_label.txt": ["PAD", "UNK", "O", "I-a", "B-a"],
        }
        for name, rows in files.items():
            Path(folder, name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        source = jointbert_cases.Source(Path(folder), "train", VOCABULARY, size)
        with patch.object(jointbert_cases, "source", lambda _: source):
            equal(*(side.columns.__wrapped__("", "softmax") for side in (jointbert_theirs, jointbert_ours)))


# -- the three tasks --------------------------------------------------------------------------------------

cells = st.lists(words | st.sampled_from(['"', ",", "?", "'", '""']), max_size=9).map(" ".join)


@pytest.mark.parametrize("task", ["sentiment", "paraphrase", "similarity"])
@few
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=5), size=st.integers(3, 20))
def test_the_tasks_are_read_as_by_the_skeleton(task, rows, size):
    """
    Cells as Python's csv writes them, quoted where they must be.
    """
    texts = ("sentence",) if task == "sentiment" else ("sentence1", "sentence2")
    label = {"sentiment": "sentiment", "paraphrase": "is_duplicate", "similarity": "similarity"}[task]
    content = io.StringIO()
    table = csv.writer(content, delimiter="\t", lineterminator="\n")
    table.writerow([label, *texts, "id"])
    for number, row in enumerate(rows):
        table.writerow([number % 2, *row[: len(texts)], f" {number}X"])
    how = {"task": task, "vocabulary": VOCABULARY, "longest": size}
    with written(multitask_cases, partial(multitask_cases.Source, **how), content.getvalue(), "a.csv"):
        equal(*(side.columns.__wrapped__("", "version1") for side in (multitask_theirs, multitask_ours)))
