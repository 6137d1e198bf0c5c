"""Scores of the multi-task model, by hand and against scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinter.ports.multitask import metric
from splinter.ports.multitask.proof import reference_metric as theirs


def test_by_hand():
    """
    Three of four right; two classes of F1 2/3 and 4/5; a straight line.
    """
    predicted, labels = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    assert metric.accuracy(predicted, labels) == 0.75
    assert metric.macro_f1(predicted, labels) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metric.pearson(np.array([1.0, 2.0, 4.0]), np.array([0.0, 2.0, 6.0])) == 1.0
    assert metric.mean({"a": 0.5, "b": 0.25}) == 0.375


def test_ties_go_to_the_lower_class():
    """
    Two equal logits are class 0, and so is one logit of 0, whose sigmoid rounds half to even.
    """
    assert metric.decisions("paraphrase", np.array([[1.0, 1.0], [0.0, 1.0]])).tolist() == [0, 1]
    assert metric.decisions("paraphrase", np.array([0.0, 1e-3, -1.0])).tolist() == [0, 1, 0]
    assert metric.decisions("similarity", np.array([0.1, 4.9])).tolist() == [0.1, 4.9]


def test_two_logits_and_their_difference_decide_alike():
    """
    z = z1 - z0.
    """
    logits = np.random.default_rng(0).normal(size=(500, 2))
    one = metric.decisions("paraphrase", logits[:, 1] - logits[:, 0])
    assert np.array_equal(one, metric.decisions("paraphrase", logits))


def test_a_constant_side_gives_nan_and_a_warning():
    """
    Never 0, and never silently.
    """
    constant, other = np.full(9, 2.5), np.arange(9.0)
    with pytest.warns(UserWarning, match=r"undefined \(nan\): all predictions are 2.5"):
        assert np.isnan(metric.pearson(constant, other))
    with pytest.warns(UserWarning, match="all labels are 2.5"):
        assert np.isnan(metric.score("similarity", other, constant))
    assert np.isnan(metric.mean({"a": 0.5, "b": float("nan")}))


def test_flattened_logits_do_not_pair_with_labels():
    """
    (B, 2) logits flattened are 2B predictions: refused, not compared.
    """
    with pytest.raises(ValueError, match=r"predictions \(8,\) do not pair with labels \(4,\)"):
        metric.accuracy(np.zeros(8), np.zeros(4))
    with pytest.raises(ValueError, match="one per row is needed"):
        metric.pearson(np.zeros(0), np.zeros(0))


def test_the_histogram_counts_what_is_never_predicted():
    """
    A class with no prediction shows as 0; scores fall into the nearest whole number.
    """
    assert metric.histogram("sentiment", np.array([1, 1, 3]), 5) == {"0": 0, "1": 2, "2": 0, "3": 1, "4": 0}
    assert metric.histogram("paraphrase", np.array([0, 0])) == {"0": 2, "1": 0}
    found = metric.histogram("similarity", np.array([-7.0, 0.4, 2.6, 99.0]))
    assert found == {"0": 2, "1": 0, "2": 0, "3": 1, "4": 0, "5": 1}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_classes_as_scikit_learn_scores_them(pairs):
    """
    The same bits, whichever classes are missing.
    """
    predicted, labels = np.array(pairs).T
    assert metric.accuracy(predicted, labels) == theirs.accuracy(predicted, labels)
    assert metric.macro_f1(predicted, labels) == pytest.approx(theirs.macro_f1(predicted, labels), abs=1e-15)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.floats(0, 5, width=32)), min_size=2, max_size=40),
    st.sampled_from([1.0, 1e-150, 1e150]),
)
def test_correlations_as_scipy_computes_them(pairs, scale):
    """
    Within rounding, and nan for the same inputs, however large or small the scores are.
    """
    scores, labels = np.array(pairs, np.float64).T
    scores = scores * scale
    with np.errstate(all="ignore"):
        expected = theirs.pearson(scores, labels)
    found = metric.pearson(scores, labels) if np.ptp(scores) and np.ptp(labels) else float("nan")
    spread = min(np.ptp(x) / np.abs(x).max() if x.any() else 0 for x in (scores, labels))
    if spread > 1e-3:  # nearly constant: what is left after the mean is rounding
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
