"""Every step can fail: plant a bug, and exactly the step that is about it turns red."""

from dataclasses import replace

import planted
import pytest
from tolerances import row

from splinter.align import Pair, steps
from splinter.ports import proofs

BUGS = planted.every()
PORTS = {port.name: port for port in proofs.load_all()}
CHEAP = ("forward", "loss", "lr", "optimizer", "regularization")


def red(port, step: str, bug) -> str:
    """Run one step; the message when it fails, else an empty string."""
    pair = Pair(port, bug.mode, "tiny", port.checkpoints["tiny"](), bug.dtype)
    alignment = getattr(steps, step)(pair).judge(row(port, step, bug.dtype))
    return "" if alignment.passed else alignment.message()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.system} {bug.step}: {bug.name}")
def test_planted_bug_is_caught(bug, port, monkeypatch):
    """The named step turns red; the cheap steps that are about something else stay green."""
    port = planted.remembering(port)
    planted.remember(port, bug.mode, bug.dtype, [bug.step])
    bug.plant(monkeypatch)
    message = red(port, bug.step, bug)
    assert message, f"{bug.step} did not notice: {bug.name}"
    # a wrong model is wrong in the dropout list or the trace at most, never in loss, rates or optimizer
    others = [step for step in CHEAP if step != bug.step and step not in bug.also] if bug.step in CHEAP else []
    # one batch is enough to see a forward pass that is wrong
    quick = replace(port, batches=lambda folder, mode: dict([next(iter(port.batches(folder, mode).items()))]))
    for step in others:
        if step in port.steps:
            assert not red(quick, step, bug), f"{bug.name}: {step} turned red as well"


VARIANTS = {
    *("funnel-factorized", "funnel-options", "jointbert-forbidden", "multitask-frozen", "multitask-options"),
    "splinter-pretraining-hf",
}
"""Ports that differ from another by a setting alone."""


@pytest.mark.parametrize("name", sorted(PORTS.keys() - VARIANTS))
def test_every_step_of_a_port_has_a_planted_bug(name):
    """No step is trusted without one."""
    assert {bug.step for bug in BUGS if bug.system == name} == set(PORTS[name].steps)
