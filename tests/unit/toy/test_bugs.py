"""The proof of the proof: bugs planted in the toy, and the steps that notice them."""

import paddle
import pytest
from port import PORT, tiny
from test_toy import ROUNDING

from splinter.align import Pair
from splinter.align.kill import Kill, strike


def relu_for_tanh(patch):
    patch.setattr(paddle, "tanh", paddle.nn.functional.relu)


def halved_loss(patch):
    import ours

    plain = ours.cross_entropy
    patch.setattr(ours, "cross_entropy", lambda *a, **k: (plain(*a, **k)[0] / 2, plain(*a, **k)[1]))


BUGS = {"relu for tanh": ("forward", relu_for_tanh), "half the loss": ("loss", halved_loss)}


@pytest.mark.kill
@pytest.mark.parametrize("name", BUGS)
def test_bug(name, monkeypatch, kill):
    step, plant = BUGS[name]
    plant(monkeypatch)
    pair = Pair(PORT, "plain", "tiny", tiny(), "float64")
    strikes = tuple(strike(one, pair, ROUNDING["float64"]) for one in ("forward", "loss", "backward"))
    kill(Kill(name, "toy", "plain", "float64", step, "mutant", (), strikes))
    assert step in [one.step for one in strikes if one.red]
