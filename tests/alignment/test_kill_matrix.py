"""The kill matrix: every bug is planted in turn, and all steps of its port run on it (`--kill-matrix`).

test_sensitivity.py asks, in each run of the suite, whether the step about a bug notices it. Here is asked what else
does, which step does so first, by how much, and how small an error may be until nobody notices.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import paddle
import planted
import pytest
from planted import wrap
from tolerances import row

from splinter import ports
from splinter.align import Pair
from splinter.align.kill import Kill, strike
from splinter.align.steps import ROUNDED, STEPS
from splinter.datasets import PROJECT
from splinter.ports.common.paddle import encoder
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.training import schedule
from splinter.ports.splinter import model, train

BUGS = planted.every()


_UNHARMED = {}


def unharmed(port, mode, dtype):
    """Step -> the code of all functions that it calls while no bug is planted, and its verdict then."""
    key = port.name, mode, dtype
    if key not in _UNHARMED:
        found = {}
        for step in (step for step in STEPS if step in port.steps):
            planted.forget()  # what an earlier step has cached would not be called again
            pair = Pair(port, mode, "tiny", port.checkpoints["tiny"](), dtype)
            struck, codes = planted.called(partial(strike, step, pair, row(port, step, dtype)))
            found[step] = codes, struck
        _UNHARMED[key] = found
        planted.forget()
    return _UNHARMED[key]


@pytest.mark.kill
@pytest.mark.parametrize(
    "bug",
    # with --dist loadgroup one process has all bugs of a port and a mode, and computes the reference once
    [pytest.param(bug, marks=pytest.mark.xdist_group(f"{bug.system} {bug.mode}")) for bug in BUGS],
    ids=lambda bug: f"{bug.system} {bug.step}: {bug.name}",
)
def test_bug_is_killed_where_it_is_looked_for(bug, port, monkeypatch, kill):
    """The step about it turns red, and before it none but those that cannot help it.

    A step that calls nothing of what was patched is not run; it is not red either.
    """
    watched = planted.Watched(monkeypatch)
    remembered = planted.remembering(port)
    planted.remember(remembered, bug.mode, bug.dtype, STEPS)
    before = unharmed(remembered, bug.mode, bug.dtype)
    assert not [struck for _, struck in before.values() if struck.red], "red without any bug"
    bug.plant(watched)
    strikes = []
    for step, (codes, _) in before.items():
        if step != bug.step and not watched.touches(codes):
            continue
        pair = Pair(remembered, bug.mode, "tiny", port.checkpoints["tiny"](), bug.dtype)
        strikes.append(strike(step, pair, row(port, step, bug.dtype)))
    found = Kill(
        bug.name,
        bug.system,
        bug.mode,
        bug.dtype,
        bug.step,
        bug.source,
        tuple(watched.changes),
        tuple(strikes),
    )
    kill(found)
    assert bug.step in found.red, f"{bug.step} did not notice; {', '.join(found.red) or 'nobody'} did"
    earlier = set(found.red[: found.red.index(bug.step)])
    assert earlier <= set(bug.also), f"{', '.join(sorted(earlier - set(bug.also)))} noticed before {bug.step}"


LAST = {(bug.system, bug.mode, bug.dtype): bug for bug in BUGS}
"""A bug of each group."""


@pytest.mark.kill
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=pytest.mark.xdist_group(f"{bug.system} {bug.mode}")) for bug in LAST.values()],
    ids=lambda bug: f"{bug.system} {bug.mode} {bug.dtype}",
)
def test_no_bug_has_outlived_its_test(bug, port):
    """After all bugs of a group, in the same process, every step is green again: none was killed by an earlier one."""
    _UNHARMED.pop((port.name, bug.mode, bug.dtype), None)
    assert not [struck for _, struck in unharmed(planted.remembering(port), bug.mode, bug.dtype).values() if struck.red]


def test_the_docs_tell_of_every_bug():
    """Their table is that of these bugs: whoever plants another one runs the kill matrix again."""
    record = json.loads((PROJECT / "results" / "kill.json").read_text(encoding="utf-8"))
    told = [tuple(one[key] for key in ("system", "mode", "expected", "bug")) for one in record["kills"]]
    assert sorted(told) == sorted((bug.system, bug.mode, bug.step, bug.name) for bug in BUGS)
    seen = sum(bug.source != "mutant" for bug in BUGS)
    for page, words in (
        ("README.md", f"{len(BUGS)} of them; {seen} were seen"),
        ("docs/evidence.md", f"{seen} of the {len(BUGS)} "),
    ):
        assert words in (PROJECT / page).read_text(encoding="utf-8"), page
    for system in ports.SYSTEMS:
        count = sum(bug.system.partition("-")[0] == system for bug in BUGS)
        page = (PROJECT / "docs" / f"{system}.md").read_text(encoding="utf-8")
        assert re.search(rf"\b{count} (planted )?bugs\b", page), system


# -- how small an error may be ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Slip:
    """An error of any size.

    Args:
        what: in words, with what its size means.
        step: who must notice.
        least: a size that must be noticed: far below what such bugs have.
        least32: the same in float32, where the rounding of all layers lies above it; None: `least`.
        plant: (monkeypatch, size).
        most: the size to begin with.
    """

    what: str
    step: str
    least: float
    plant: Callable
    most: float = 0.5
    system: str = "splinter"
    mode: str = "hf"
    least32: float | None = None


SLIPS: list[Slip] = []


def slip(what: str, step: str, least: float, **more: float):
    """Register a planting function."""

    def register(plant: Callable) -> Callable:
        SLIPS.append(Slip(what, step, least, plant, **more))
        return plant

    return register


@slip("LayerNorm epsilon of the encoder too large by x", "forward", least=1e-9, least32=1e-5, most=5e-4)
def _(patch, x):
    def change(plain):
        return lambda self, config: plain(self, replace(config, layer_norm_eps=config.layer_norm_eps + x))

    wrap(patch, encoder.BertLayer, "__init__", change)


@slip("padding attended with x times the weight of a token", "forward", least=1e-4)
def _(patch, x):
    def change(plain):
        def leaking(mask, fill, dtype):
            # a row of padding alone attends all of it either way
            leak = (mask == 0) & (mask.max(axis=-1, keepdim=True) > 0)
            leak = leak.reshape(plain(mask, fill, dtype).shape)
            return paddle.where(leak, paddle.full([], math.log(x), dtype), plain(mask, fill, dtype))

        return leaking

    wrap(patch, encoder, "additive_mask", change)


@slip("loss off by the factor 1 + x", "loss", least=1e-5)
def _(patch, x):
    wrap(patch, train, "loss", lambda plain: lambda *a: plain(*a) * (1 + x))


@slip("learning rate off by the factor 1 + x", "lr", least=1e-9)
def _(patch, x):
    wrap(patch, schedule, "rate", lambda plain: lambda *a: plain(*a) * (1 + x))


@slip("beta2 of the optimizer too small by x", "optimizer", least=1e-6)
def _(patch, x):
    def change(plain):
        return lambda self, named, r, decayed=(): plain(self, named, replace(r, beta2=r.beta2 - x), decayed)

    wrap(patch, train_paddle.AdamW, "__init__", change)


@slip("weight decay off by the factor 1 + x", "regularization", least=1e-6)
def _(patch, x):
    def change(plain):
        def init(self, named, r, decayed=()):
            plain(self, named, replace(r, weight_decay=r.weight_decay * (1 + x)), decayed)

        return init

    wrap(patch, train_paddle.AdamW, "__init__", change)


@slip("dropout rate too large by x", "regularization", least=1e-2)
def _(patch, x):
    def change(plain):
        return lambda self, config: plain(self, replace(config, hidden_dropout_prob=config.hidden_dropout_prob + x))

    wrap(patch, encoder.BertLayer, "__init__", change)


@slip("gradient that reaches the encoder off by the factor 1 + x", "backward", least=1e-3)
def _(patch, x):
    def change(plain):
        def forward(self, states, positions):
            return plain(self, states * (1 + x) - (states * x).detach(), positions)

        return forward

    wrap(patch, model.QuestionAwareSpanSelection, "forward", change)


@slip("deviation of new weights off by the factor 1 + x", "init", least=0.1)
def _(patch, x):
    def change(plain):
        return lambda inputs, outputs, std, *a, **more: plain(inputs, outputs, std * (1 + x), *a, **more)

    wrap(patch, encoder, "linear", change)


CASES = [(one, dtype) for one in SLIPS for dtype in (("float64", "float32") if one.step in ROUNDED else ("float64",))]


@pytest.mark.kill
@pytest.mark.parametrize(("bug", "dtype"), CASES, ids=lambda one: getattr(one, "what", one))
def test_small_errors_are_noticed(bug, dtype, port, floor):
    """Halving the decades between an error and none finds the smallest that its step notices."""
    remembered = planted.remembering(port)

    def red(x: float) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            planted.forget()
            bug.plant(patch, x)
            pair = Pair(remembered, bug.mode, "tiny", port.checkpoints["tiny"](), dtype)
            struck = strike(bug.step, pair, row(port, bug.step, dtype))
        assert not struck.crash, struck.crash
        return struck.red

    low, high = -20.0, math.log10(bug.most)
    assert red(10**high)
    assert not red(10**low)
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if red(10**middle) else (middle, high)
    floor(what=bug.what, step=bug.step, system=bug.system, dtype=dtype, smallest=float(f"{10**high:.2g}"))
    assert 10**high <= (bug.least32 if dtype == "float32" and bug.least32 else bug.least)
