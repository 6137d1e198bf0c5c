"""pairing.py: layers of two libraries that hand on the same numbers in another shape."""

import numpy as np
import pytest

from splinter.align import pairing

NUMBERS = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
ROW = NUMBERS[:1]


@pytest.mark.parametrize(
    ("theirs", "ours", "shape"),
    [
        (NUMBERS, NUMBERS + 9, (2, 3, 4, 5)),
        (NUMBERS, NUMBERS.reshape(2, 3, 20), (2, 3, 4, 5)),
        (NUMBERS.reshape(6, 20), NUMBERS, (6, 20)),
        (NUMBERS, NUMBERS.reshape(6, 4, 5) + 0.1, (2, 3, 4, 5)),
        (ROW, np.concatenate([ROW] * 4), (4, 3, 4, 5)),
        (np.concatenate([ROW] * 4), ROW[0], (4, 3, 4, 5)),
        (NUMBERS, NUMBERS.swapaxes(1, 2), None),
        (ROW, NUMBERS, None),
        (NUMBERS, NUMBERS[..., :2], None),
        (np.zeros((2, 3)), np.zeros(6), (2, 3)),
    ],
    ids=["one shape", "merged", "split", "off by a little", "rows", "rows of theirs", "order", "row", "more", "zeros"],
)
def test_the_shape_that_both_have(theirs, ours, shape):
    """
    By a plain reshape or by equal rows, a fault of some size included; not by another order, nor by rows that differ.
    """
    assert pairing.common_shape(theirs, ours) == shape
    if shape:
        assert pairing.fitted(theirs, shape).shape == pairing.fitted(ours, shape).shape == shape


def test_another_order_is_known_from_other_numbers():
    """
    Time first, say.
    """
    assert pairing.permuted(NUMBERS, NUMBERS.swapaxes(0, 1))
    assert not pairing.permuted(NUMBERS, 2 * NUMBERS) and not pairing.permuted(NUMBERS, ROW)


def test_a_tensor_stands_beside_the_first_of_a_tuple():
    """
    And what one side runs or hands on beyond that is said, by layer.
    """
    one = np.ones(1)
    theirs = {"a": one, "b.1#0.0": one, "b.1#0.1": one, "c": one, "c#1": one, "d": one}
    ours = {"a#0.0": one, "b.1": one, "c": one, "": one}
    pairs, notes = pairing.paired(theirs, ours)
    assert pairs == [("a", "a#0.0"), ("b.1#0.0", "b.1"), ("c", "c")]
    assert notes == {
        "b.1": "b.* hands on 2 tensors in theirs and 1 in ours: those of both were compared",
        "c": "c runs 2 times in theirs and 1 in ours: the runs that both have were compared",
        "d": "d hands on a tensor in theirs alone: not compared",
        "": "the model itself hands on a tensor in ours alone: not compared",
    }


def test_masked_scores_are_the_same_whatever_masks_them():
    """
    -1e4 and the lowest number there is mean 0 after softmax; a number that only one side masks stays, and so does a
    tensor whose other numbers are as large.
    """
    theirs, ours = np.array([1.0, -1.8e308, 2.0]), np.array([1.0, -9999.7, 2.5])
    assert [one.tolist() for one in pairing.unmasked(theirs, ours)] == [[1, 0, 2], [1, 0, 2.5]]
    assert pairing.unmasked(theirs, np.array([1.0, 0.0, 2.0]))[0] is theirs
    large = np.array([5e3, -5e3]), np.array([5e3, -4e3])
    assert pairing.unmasked(*large) == large
