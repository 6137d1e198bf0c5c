"""What two arrays have to do with each other, on arrays whose answer is plain."""

import numpy as np
import pytest

from splinter.align.explain import formulas, kinds

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 6))


@pytest.mark.parametrize(
    ("theirs", "ours", "kind", "words"),
    [
        (X, 0.125 * X, "scale", "ours = 0.125 x theirs, everywhere"),
        (X, X / np.sqrt(6), "scale", "the root of 6, the length of axis 2, is missing"),
        (X, X * 2, "scale", "the root of 4, the length of axis 1, is too much"),
        (X, -X, "sign", "ours = -theirs"),
        (X, X + 0.25, "offset", "ours = theirs + 0.25, everywhere"),
        (X, X + np.arange(1, 7), "offset", "one vector along axis 2, everywhere: [1, 2, 3, ...]"),
        (X, X + np.arange(1, 5)[:, None], "offset", "one vector along axis 1"),
        (X, X[:, [2, 3, 0, 1]], "layout", "along axis 1: in blocks of 2, ours 0 1 are theirs 1 0"),
        (X, X[..., [0, 2, 4, 1, 3, 5]], "layout", "along axis 2: ours 0 1 2 3 4 5 are theirs 0 2 4 1 3 5"),
        (X, X.transpose(0, 2, 1), "layout", "its axes in the order (0, 2, 1)"),
        (X[0, :, :4], X[0, :, :4].T, "layout", "its axes in the order (1, 0)"),
        (X, X.reshape(12, 6), "layout", "the same numbers in another shape"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_relation_is_found(theirs, ours, kind, words, dtype):
    """
    With the rounding of float32 as well.
    """
    found = kinds.differ(theirs.astype(dtype), ours.astype(dtype))
    assert found[0] == kind
    assert words in found[1]


def test_a_small_factor_is_a_factor():
    """
    1e-9 more than one, in float64: how large a difference is does not matter.
    """
    assert kinds.multiple(X, X * (1 + 1e-9)) == pytest.approx(1 + 1e-9, abs=1e-12)


def test_other_numbers_have_no_relation():
    """
    Noise, however small, one number that differs, other shapes of other numbers: none of the relations is claimed.
    """
    one = X.copy()
    one[1, 2, 3] += 1
    for ours in (X + 1e-6 * RNG.normal(size=X.shape), RNG.normal(size=X.shape), one, RNG.normal(size=(6, 4))):
        assert kinds.differ(X, ours) is None
    assert kinds.differ(X, X.copy()) is None


def test_the_same_numbers_are_claimed_of_the_same_numbers_alone():
    """
    Two shapes of equal size whose numbers differ by an ULP are not the same numbers.
    """
    ours = X.reshape(12, 6).copy()
    ours[0, 0] = np.nextafter(ours[0, 0], 9)
    assert kinds.differ(X, ours) is None


def test_a_padding_row_by_hand():
    """
    One row differs, and one side has it as zeros; two rows, or no zeros, are something else.
    """
    theirs = np.arange(12.0).reshape(4, 3) + 1
    theirs[0] = 0
    ours = theirs.copy()
    ours[0] = 5
    assert kinds.padding_row(theirs, ours) == ("padding row", "only row 0 differs: zeros in theirs, not in ours")
    assert kinds.padding_row(ours, theirs)[1] == "only row 0 differs: zeros in ours, not in theirs"
    ours[1] = 5
    assert kinds.padding_row(theirs, ours) is None
    assert kinds.padding_row(ours, ours + np.array([[0], [0], [0], [1]])) is None


def test_what_is_missing_is_found_among_the_parts():
    """
    theirs = ours + b: the difference is -1 x b.
    """
    a, b = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))
    name, by = kinds.part_of(a + b, a, {"a": a, "b": b, "of another shape": b.T})
    assert (name, round(by, 9)) == ("b", -1)
    assert kinds.part_of(a + b, a, {"a": a}) is None


# -- formulas ---------------------------------------------------------------------------------------------


def layer_norm(x, weight, bias, epsilon, centred=True):
    """By its definition."""
    x = x - x.mean(-1, keepdims=True) * centred
    return weight * x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) + bias


@pytest.mark.parametrize("centred", [True, False], ids=["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-6, 1e-5, 1e-2])
def test_the_epsilon_of_a_norm_is_solved(centred, size, epsilon):
    """
    As far as rounding lets it be known; never another one, and never one where there is no norm.
    """
    x, weight, bias = size * RNG.normal(size=(40, 16)), RNG.normal(size=16), RNG.normal(size=16)
    found = formulas.epsilon(x, layer_norm(x, weight, bias, epsilon, centred), weight, bias)
    assert abs(found.value - epsilon) <= 8 * found.spread + 1e-6 * epsilon
    assert found.spread <= 1e-14 * size**2 + 1e-3 * epsilon
    assert formulas.epsilon(x, x * 2, weight, bias) is None


def test_the_epsilon_of_a_batch_norm_is_solved():
    """
    From the slope of each channel and its running variance.
    """
    x, weight, variance = RNG.normal(size=(4, 3, 5, 5)), np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 2.0])
    slope = weight / np.sqrt(variance + 1e-3)
    found = formulas.channel_epsilon(x, x * slope[:, None, None] + 1, weight, variance)
    assert str(found) == "0.001"


def test_two_epsilons_that_rounding_cannot_tell_apart_are_not():
    """
    1e-12 and 2e-12 under a variance of 1e6.
    """
    x, one = 1e3 * RNG.normal(size=(40, 16)), np.ones(16)
    first, second = (formulas.epsilon(x, layer_norm(x, one, 0, e), one, None) for e in (1e-12, 2e-12))
    assert not first.other(second)
    assert str(first) == "0"


@pytest.mark.parametrize("name", list(formulas.ACTIVATIONS))
def test_each_activation_is_told_from_all_others(name):
    """
    Of an input of usual size, in both precisions; with a gate as well.
    """
    x, gate = 2 * RNG.normal(size=(30, 40)), RNG.normal(size=(30, 40))
    made = formulas.ACTIVATIONS[name](x.ravel()).reshape(x.shape)
    for dtype in ("float64", "float32"):
        assert formulas.activation({"up": x.astype(dtype)}, made.astype(dtype), dtype) == f"{name} of up"
    if name != "no activation":
        assert formulas.activation({"gate": x, "up": gate}, made * gate, "float64") == f"{name} of gate, times up"


def test_causal_attention_is_told():
    """
    A mask that lets each position see those before it, which ours leaves out.
    """
    arrays = {name: RNG.normal(size=(2, 5, 8)) for name in ("q", "k", "v")}
    theirs = formulas.Attention(2, "root", "none", True, ("q", "k", "v"))
    ours = formulas.Attention(2, "root", "none", False, ("q", "k", "v"))
    found = formulas.attention(arrays, theirs.of(arrays, None), ours.of(arrays, None), None, "float64")
    assert found == "each position sees all, in theirs each sees those before it"
    assert formulas.attention(arrays, arrays["v"], ours.of(arrays, None), None, "float64") is None
