"""funnel/metric.py: the rules of null answers by hand, and against the plain restatement on random logits."""

from types import SimpleNamespace

import numpy as np
import pytest

from splinter.ports.funnel import metric
from splinter.ports.funnel.proof import reference_metric as theirs

CONTEXT = "one two three four"
OFFSETS = np.array([[-1, -1], [-1, -1], [0, 3], [4, 7], [8, 13], [14, 18], [-1, -1]])  # <cls> ? ... <sep>
EXAMPLE = SimpleNamespace(context=CONTEXT)


def decode(start, end, windows=1, **options):
    """Ours, of so many windows over the same pieces."""
    rows = [{"offsets": OFFSETS}] * windows
    return metric.decode(EXAMPLE, rows, np.reshape(start, (windows, 7)), np.reshape(end, (windows, 7)), **options)


def peak(*places, null=0.0, low=-9.0):
    """Logits that are low but at some places."""
    logits = np.full(7, low)
    logits[0] = null
    for place, value in places:
        logits[place] = value
    return logits


def test_the_best_span():
    """
    A slice of the context, from the first to the last piece.
    """
    found = decode(peak((3, 5.0)), peak((4, 4.0)))
    assert found.text() == "two three"
    assert (found.spans[0].start_char, found.spans[0].end_char, found.spans[0].score) == (4, 13, 9.0)


def test_null_wins_beyond_the_threshold_only():
    """
    Odds are null minus best; equal to the threshold is not beyond it.
    """
    start, end = peak((3, 2.0), null=2.0), peak((3, 1.0), null=2.0)
    found = decode(start, end, null=True)
    assert found.odds == 1.0
    assert [found.text(x) for x in (0.0, 0.999, 1.0, 2.0)] == ["", "", "two", "two"]
    assert decode(start, end).text() == "two"  # not asked for: never


def test_the_window_with_the_least_null_score_counts():
    """
    One window that surely holds the answer is enough; the first of equal ones is taken.
    """
    start, end = np.zeros((3, 7)), np.zeros((3, 7))
    start[:, 0], end[:, 0] = (9, 1, 2), (9, 2, 1)
    found = decode(start, end, windows=3, null=True)
    null = next(span for span in found.spans if not span.text)
    assert (null.start_logit, null.end_logit) == (1.0, 2.0)


def test_null_comes_after_what_it_ties_with():
    """
    Stable order: it was added last.
    """
    start, end = peak((2, 1.0), null=1.0), peak((2, 1.0), null=1.0)
    assert [span.text for span in decode(start, end, null=True).spans[:2]] == ["one", ""]


def test_null_is_never_cut():
    """
    With two candidates kept and null the worst there are three.
    """
    start, end = peak((2, 3.0), (3, 2.0), null=-99.0), peak((2, 3.0), (3, 2.0), null=-99.0)
    assert [span.text for span in decode(start, end, null=True, n_best=2).spans] == ["one", "one two", ""]


def test_nothing_admissible():
    """
    All that is good lies outside the context: a made-up candidate "empty" with logits 0 stands in front.
    """
    low = np.full(7, -99.0)
    low[[0, 1, 6]] = 1.0
    for null in (False, True):
        found = decode(low, low, null=null, n_best=3)
        assert (found.spans[0].text, found.spans[0].score, len(found.spans)) == ("empty", 0.0, 1 + null)
    assert found.odds == 2.0


def test_ties_go_to_the_lower_index():
    """
    Start first, then end.
    """
    zero = np.zeros(7)
    assert [span.text for span in decode(zero, zero).spans[:3]] == ["one", "one two", "one two three"]


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_random_logits_against_the_restatement(seed, null):
    """
    Candidates, probabilities, odds and answers to the last bit, ties included.
    """
    rng = np.random.default_rng(seed)
    windows = int(rng.integers(1, 4))
    start, end = (np.round(rng.normal(size=(windows, 7)) * 2) / 2 for _ in range(2))
    n_best, longest = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    ours = decode(start, end, windows, null=null, n_best=n_best, max_answer_length=longest)
    rows = [{"offsets": OFFSETS}] * windows
    other = theirs.decode(CONTEXT, rows, start.tolist(), end.tolist(), null, n_best, longest)
    assert (ours.text(), ours.odds) == (other["text"], other["odds"])
    for key in ("text", "probability", "start_logit", "end_logit"):
        assert [getattr(span, key) for span in ours.spans] == [entry[key] for entry in other["entries"]]


def test_scores_by_hand():
    """
    One of two answered right, one of two left unanswered right; a threshold between them does better.
    """
    golds = {"a": ["one"], "b": ["two"], "c": [], "d": []}
    texts, odds = {"a": "one", "b": "x", "c": "", "d": "y"}, {"a": -3.0, "b": -1.0, "c": 2.0, "d": 1.5}
    found = metric.score(golds, texts, odds)
    assert {n: found[n] for n in ("exact", "HasAns_exact", "NoAns_exact", "best_exact", "best_exact_thresh")} == {
        "exact": 50.0,
        "HasAns_exact": 50.0,
        "NoAns_exact": 50.0,
        "best_exact": 75.0,
        "best_exact_thresh": -3.0,
    }


def test_odds_are_no_probabilities():
    """
    An answer with odds above 1, given under a higher threshold, is scored as it stands.
    """
    golds, start, end = {"q": ["two"]}, peak((3, 1.0), null=3.0), peak((3, 1.0), null=3.0)
    found = {"q": decode(start, end, null=True)}
    assert found["q"].odds == 4.0
    assert [metric.evaluate(golds, found, threshold)["exact"] for threshold in (0.0, 5.0)] == [0.0, 100.0]


def test_accuracy():
    """
    The first of equal classes counts; nothing to score is an error, and so is NaN.
    """
    assert metric.accuracy(np.array([0, 1, 1]), np.array([[1.0, 1.0], [0.0, 2.0], [3.0, 2.0]])) == pytest.approx(
        200 / 3
    )
    for labels, logits in (([], np.zeros((0, 2))), ([0], np.zeros(2)), ([0], [[np.nan, 0]])):
        with pytest.raises(ValueError, match=r"labels|NaN"):
            metric.accuracy(np.array(labels), np.array(logits))
