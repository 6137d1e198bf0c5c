"""Every step can fail: plant a bug, and exactly the step that is about it turns red."""

import pytest
from planted import BUGS
from tolerances import TOLERANCES

from splinter import ports
from splinter.align import Pair, steps
from splinter.ports.splinter import cases, train

PORT = ports.load_all()[0]
CHEAP = ("forward", "loss", "lr", "optimizer", "regularization")
DATA = ("dev_data", "metric", "train_data")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Fewer updates, the shipped files alone: a planted bug is coarse. Nothing computed with it may stay cached."""
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 60)
    monkeypatch.setattr(cases, "REAL", {step: dict.fromkeys(PORT.modes, ()) for step in ("dev_data", "train_data")})
    caches = (train.side, train.columns)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        getattr(cached, "cache_clear", lambda: None)()


def red(step: str, mode: str, dtype: str) -> str:
    """Run one step; the message when it fails, else an empty string. A crash is a failure too."""
    row = TOLERANCES[step]["splinter"]
    tolerance = row[dtype] if isinstance(row, dict) else row
    pair = Pair(PORT, mode, "tiny", PORT.checkpoints["tiny"](), dtype)
    alignment = getattr(steps, step)(pair).judge(tolerance)
    return "" if alignment.passed else alignment.message()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.step}: {bug.name}")
def test_planted_bug_is_caught(bug, monkeypatch):
    """The named step turns red; the cheap steps that are about something else stay green."""
    bug.plant(monkeypatch)
    message = red(bug.step, bug.mode, bug.dtype)
    assert message, f"{bug.step} did not notice: {bug.name}"
    # a wrong model is wrong in the dropout list or the trace at most, never in loss, rates or optimizer
    others = [step for step in CHEAP if step != bug.step and step not in bug.also] if bug.step in CHEAP else []
    for step in others:
        assert not red(step, bug.mode, bug.dtype), f"{bug.name}: {step} turned red as well"


def test_every_step_has_a_planted_bug():
    """No step is trusted without one."""
    assert {bug.step for bug in BUGS} == set(steps.STEPS)
