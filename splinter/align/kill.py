"""The kill matrix: bugs planted one at a time, and the steps that turned red on each.

A green step is worth what it would have caught. `strike` runs one step on a port with a bug in it, `Kill` holds
what all steps said of that bug; a test plants the bug and hands its kill to the fixture `kill` (plugin.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import steps
from .compare import Comparison, Tolerance, finite
from .port import Pair
from .steps import STEPS

VERDICTS = ("first", "late", "elsewhere", "training", "survived")
"""What may become of a bug; see `Kill.verdict`."""


@dataclass(frozen=True)
class Strike:
    """What one step said of a bug.

    Args:
        red: it failed.
        tensor: the first tensor that did, in execution order; or the problem, where nothing could be compared.
        margin: how many times its limit the clearest tensor was beyond; None where equality was asked for.
        crash: the exception, where the step did not get as far as comparing.
    """

    step: str
    red: bool
    tensor: str = ""
    margin: float | None = None
    crash: str = ""


@dataclass(frozen=True)
class Kill:
    """A bug and what became of it.

    Args:
        bug: what was done, in a few words.
        expected: the step that is about it.
        changes: what was patched.
        crashes: the bug shows as an exception; else one is a fault of the test, and kills nothing.
        source: where such a bug was seen.
    """

    bug: str
    system: str
    mode: str
    dtype: str
    expected: str
    source: str
    changes: tuple[str, ...] = ()
    strikes: tuple[Strike, ...] = ()
    crashes: bool = False

    def __post_init__(self) -> None:
        if unknown := {self.expected, *(one.step for one in self.strikes)} - set(STEPS):
            raise ValueError(f"no step {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}")

    @property
    def red(self) -> tuple[str, ...]:
        """The steps that turned red, in the order of the checklist."""
        found = {strike.step for strike in self.strikes if strike.red and (self.crashes or not strike.crash)}
        return tuple(step for step in STEPS if step in found)

    @property
    def verdict(self) -> str:
        """first: by the step that is about it, before any other; late: after another; elsewhere: not by it at all;
        training: by that step alone, though another is about it; survived."""
        if not self.red:
            return "survived"
        if self.red == ("training",) != (self.expected,):
            return "training"
        if self.expected not in self.red:
            return "elsewhere"
        return "first" if self.red[0] == self.expected else "late"

    def record(self) -> dict[str, Any]:
        """As JSON has it: no infinity."""
        strikes = [{**asdict(one), "margin": finite(one.margin)} for one in self.strikes]
        return {**asdict(self), "strikes": strikes, "red": list(self.red), "verdict": self.verdict}


def strike(step: str, pair: Pair, tolerance: Tolerance) -> Strike:
    """Run one step of a port that has a bug."""
    run = getattr(steps, step)
    try:
        alignment = run(pair).judge(tolerance)
    except Exception as error:  # whatever a bug makes of the port, the other steps have their say
        return Strike(step, True, crash=f"{type(error).__name__}: {error}".split("\n")[0][:200])
    if alignment.passed:
        return Strike(step, False)
    first = alignment.first_divergence
    margins = [_excess(comparison, tolerance) for comparison in alignment.comparisons if not comparison.passed]
    known = [margin for margin in margins if margin is not None]
    return Strike(step, True, first.name if first else alignment.problems[0], max(known, default=None))


def _excess(comparison: Comparison, tolerance: Tolerance) -> float | None:
    """How many times its limit a failed comparison is beyond; None where it was to be equal."""
    found = [comparison.max_abs / comparison.allowed] if comparison.allowed else []
    if tolerance.ratio and comparison.referee_ratio and comparison.ratio_counts:
        found.append(comparison.referee_ratio / tolerance.ratio)
    return max(found, default=None)


def tally(kills: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Verdict -> how many of the records."""
    verdicts = [kill["verdict"] for kill in kills]
    return {word: verdicts.count(word) for word in VERDICTS}


def table(kills: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each step killed, in the order of the checklist.

    Returns:
        One row per step that any bug is expected at: step, planted, killed (by that step), first (before all others),
        margin and bug of its narrowest kill.
    """
    rows = []
    for step in STEPS:
        mine = [kill for kill in kills if kill["expected"] == step]
        if not mine:
            continue
        margins = [(one["margin"], kill["bug"]) for kill in mine for one in kill["strikes"]
                   if one["step"] == step and one["red"] and one["margin"] is not None]  # fmt: skip
        margin, narrowest = min(margins, default=(None, ""))
        rows.append(
            {
                "step": step,
                "planted": len(mine),
                "killed": sum(step in kill["red"] for kill in mine),
                "first": sum(kill["verdict"] == "first" for kill in mine),
                "margin": margin,
                "narrowest": narrowest,
            }
        )
    return rows
