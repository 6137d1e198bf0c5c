"""ports/common/paddle/layers.py without kernels, which test_kernels.py has: dropout has paddle's law and other numbers,
and the engine sees it as it sees paddle's own."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from splinter.align.paddle_side import DRIVER
from splinter.ports.common.paddle import layers as ours
from splinter.ports.common.paddle.layers import Dropout


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.1, 0.35, 0.9])
def test_the_law_is_that_of_paddle(rate, dtype):
    """
    Two numbers, which paddle 3.3.1 rounds to float32 in float64, too; their share within five deviations; gradients
    fall with what is dropped.
    """
    ones = paddle.ones([200_000], dtype)
    ones.stop_gradient = False
    left = ours.dropout(ones, rate)
    theirs = F.dropout(paddle.ones([200_000], dtype), rate)
    assert left.dtype == ones.dtype
    assert np.unique(left.numpy()) == pytest.approx([0, 1 / (1 - rate)], rel=1e-12 if dtype == "float64" else 2e-7)
    assert np.unique(left.numpy()) == pytest.approx(np.unique(theirs.numpy()), rel=1e-6)
    share = float((left.numpy() > 0).mean())
    assert abs(share - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / 200_000)
    left.sum().backward()
    assert np.array_equal(ones.grad.numpy(), left.numpy())


def test_numbers_fall_each_for_itself():
    """
    Neighbours along either axis, and two calls, have nothing in common.
    """
    kept = [ours.dropout(paddle.ones([500, 500]), 0.5).numpy() > 0 for _ in range(2)]
    pairs = [(kept[0][1:], kept[0][:-1]), (kept[0][:, 1:], kept[0][:, :-1]), (kept[0], kept[1])]
    for one, other in pairs:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


def test_the_seed_decides():
    """
    A run that is resumed drops what it would have dropped.
    """

    def draw():
        return ours.dropout(paddle.ones([1000]), 0.3).numpy()

    paddle.seed(5)
    first, second = draw(), draw()
    paddle.seed(5)
    assert np.array_equal(draw(), first) and np.array_equal(draw(), second) and not np.array_equal(first, second)


def test_what_it_leaves_to_paddle(monkeypatch):
    """
    Nothing is dropped in evaluation mode or at rate 0; half precision and rate 1 are paddle's.
    """
    x = paddle.ones([4])
    assert ours.dropout(x, 0.5, training=False) is x and ours.dropout(x, 0.0) is x
    asked = []
    monkeypatch.setattr(F, "dropout", lambda given, p, training: asked.append((str(given.dtype), p)) or given)
    ours.dropout(x.astype("bfloat16"), 0.5)
    ours.dropout(x, 1.0)
    assert asked == [("paddle.bfloat16", 0.5), ("paddle.float32", 1.0)]


def test_the_engine_sees_it():
    """
    Its rate, its layer and what it falls on; nothing falls meanwhile, and afterwards it drops again.
    """
    model = nn.Sequential(nn.Linear(3, 3), Dropout(0.25))
    model.train()
    with DRIVER.without_dropout(model) as found:
        left = model(paddle.ones([2, 3]))
    assert [(one.rate, one.path) for one in found] == [(0.25, "1")]
    assert np.array_equal(left.numpy(), found[0].given) and np.array_equal(left.numpy(), model[0](paddle.ones([2, 3])))
    assert (model(paddle.ones([500, 3])).numpy() == 0).any()


def test_when_paddle_is_as_fast():
    """
    Tells when the detour may go: paddle 3.3.1 takes longer for a dropout than for the numbers that it needs.
    """
    assert paddle.__version__ == "3.3.1", "measure anew: scripts/budget.py with nn.Dropout in place of ours"
