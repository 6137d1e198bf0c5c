"""The cards of the page: one for each system, mode and step, which is a cell of the matrix, with all its cases."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..record import CELLS, Record, clean, contradiction, verdict
from ..steps import STEPS
from .chart import Chart, plot
from .verdict import in_part
from .words import divergence, limit_sentence, times, worst_sentence

SHOWN = 100
"""Tensors of a case in its table, and all that failed; a page has its size."""


@dataclass(frozen=True)
class Case:
    """One result as the page shows it: a checkpoint in a precision.

    Args:
        tensors: those shown, in execution order.
        left_out: how many are not.
        bad: how many failed.
        not_finite: how many hold NaN or infinity on a side, and so have no error.
        worse: in what it is worse than an earlier run, or "".
    """

    checkpoint: str
    dtype: str
    reference: str
    verdict: str
    in_part: bool
    reason: str
    explanation: str
    notes: Sequence[str]
    divergence: str
    worst: str
    limit: str
    headroom: float | None
    values: int
    seconds: float
    worse: str
    tensors: Sequence[Mapping[str, Any]]
    left_out: int
    bad: int
    not_finite: int
    errors: Chart | None
    curves: Mapping[str, Chart]

    @property
    def name(self) -> str:
        """'tiny, float32'; steps without rounding have no precision to tell."""
        return f"{self.checkpoint}, {self.dtype}" if self.dtype in ("float64", "float32") else self.checkpoint


def case(result: Record, worse: str = "") -> Case:
    """One result as the page shows it."""
    tensors = result.get("tensors") or []
    shown = widest(tensors)
    return Case(
        checkpoint=result["checkpoint"],
        dtype=result["dtype"],
        reference=result["reference"],
        verdict=verdict(result),
        in_part=in_part(result),
        reason="; ".join(text for text in (contradiction(result), result["reason"]) if text),
        explanation=(result.get("explanation") or {}).get("sentence", ""),
        notes=result.get("notes") or [],
        divergence=divergence(result),
        worst=worst_sentence(result) if verdict(result) != "skipped" or result["worst"] else "",
        limit=limit_sentence(result),
        headroom=result["headroom"],
        values=result["values"],
        seconds=result["seconds"],
        worse=worse,
        tensors=shown,
        left_out=len(tensors) - len(shown),
        bad=sum(tensor.get("passed") is False for tensor in tensors),
        not_finite=sum(bool(re.search("holds (nan|-?inf)", str(tensor.get("problem")), re.I)) for tensor in tensors),
        errors=_errors(tensors),
        curves=_curves(result),
    )


def _errors(tensors: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Errors against the referee; a tensor that is not judged by it has none, and none is missing."""
    series = {}
    for side in ("theirs", "ours"):
        values = [tensor.get(f"{side}_error") for tensor in tensors]
        if any(value is not None for value in values):
            series[side] = values
    first_bad = next((index for index, tensor in enumerate(tensors) if tensor.get("passed") is False), None)
    return plot(series, log=True, mark=first_bad)


def _curves(result: Record) -> dict[str, Chart]:
    """Every curve that can be drawn; JSON has no NaN, so None in a curve was one."""
    charts = {}
    for name, pair in (result.get("curves") or {}).items():
        sides = {side: pair[side] for side in ("theirs", "ours") if pair.get(side)}
        values = {side: [math.nan if value is None else value for value in found] for side, found in sides.items()}
        if chart := plot(values, log=False):
            charts[name] = chart
    return charts


def widest(tensors: Sequence[Mapping[str, Any]], limit: int = SHOWN) -> list[Mapping[str, Any]]:
    """All failed tensors, and up to the limit those with the largest relative differences, in execution order."""

    def rank(place: int) -> tuple[bool, float, int]:
        seen = clean(tensors[place].get("max_rel"))
        return tensors[place].get("passed") is not False, -(seen or 0.0), place

    shown = max(limit, sum(tensor.get("passed") is False for tensor in tensors))
    return [tensors[place] for place in sorted(sorted(range(len(tensors)), key=rank)[:shown])]


@dataclass
class Card:
    """All cases of one system, mode and step.

    Args:
        id: its anchor; that of its cell is `cell`.
    """

    system: str
    mode: str
    step: str
    id: str
    cell: str
    cases: list[Case] = field(default_factory=list)

    @property
    def ran(self) -> list[Case]:
        """The cases that were not skipped."""
        return [case for case in self.cases if case.verdict != "skipped"]

    @property
    def skipped(self) -> dict[str, list[Case]]:
        """Reason -> the cases that were skipped for it."""
        found: dict[str, list[Case]] = {}
        for case in self.cases:
            if case.verdict == "skipped":
                found.setdefault(case.reason, []).append(case)
        return found

    @property
    def verdict(self) -> str:
        """The gravest of what ran; skipped where nothing did."""
        return min((case.verdict for case in self.ran), key=list(CELLS).index, default="skipped")

    @property
    def verdicts(self) -> list[str]:
        """All that the filter finds it by."""
        found = dict.fromkeys(case.verdict for case in self.cases)
        return [*found, *(["in-part"] if self.in_part else [])]

    @property
    def in_part(self) -> bool:
        """Whether it passed on less than it asks for."""
        return self.verdict == "passed" and any(case.in_part for case in self.cases)

    @property
    def headroom(self) -> float | None:
        """The least; None where nothing differs."""
        return min((case.headroom for case in self.ran if case.headroom is not None), default=None)

    @property
    def room(self) -> str:
        """How far below its limit it is, '12×', or beyond, '40× over'; '=': all is equal; '': not known."""
        if self.verdict == "passed":
            return "=" if self.headroom is None else f"{times(self.headroom)}×"
        return f"{times(1 / self.headroom)}× over" if self.headroom and self.headroom < 1 else ""

    @property
    def worse(self) -> bool:
        """Whether any case is worse than before."""
        return any(case.worse for case in self.cases)

    @property
    def references(self) -> list[str]:
        """What it was compared with."""
        return list(dict.fromkeys(case.reference for case in self.cases if case.reference))


@dataclass
class Row:
    """A system in a mode: a row of the matrix and a section of the details."""

    system: str
    mode: str
    family: str
    id: str
    cards: dict[str, Card] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The gravest of what ran."""
        return min((card.verdict for card in self.cards.values()), key=list(CELLS).index)

    @property
    def folded(self) -> bool:
        """Whether its port differs from another by a setting."""
        return self.system != self.family


def rows(results: Sequence[Record], worsened: Sequence[str], anchor: Callable[[str], str]) -> list[Row]:
    """
    The results as rows of cards, steps in their order.

    Args:
        worsened: of each result, in what it is worse than before.
        anchor: name -> an id that is unique on the page.
    """
    systems = list(dict.fromkeys(result["system"] for result in results))
    found: dict[tuple[str, str], Row] = {}
    for result, worse in zip(results, worsened, strict=True):
        system, mode, step = result["system"], result["mode"], result["step"]
        if (system, mode) not in found:
            found[system, mode] = Row(system, mode, family(system, systems), anchor(f"{system}-{mode}"))
        row = found[system, mode]
        if step not in row.cards:
            name = anchor(f"{row.id}-{step}")
            row.cards[step] = Card(system, mode, step, name, anchor(f"cell-{name}"))
        row.cards[step].cases.append(case(result, worse))
    for row in found.values():
        row.cards = {step: row.cards[step] for step in STEPS if step in row.cards}
    return list(found.values())


def family(system: str, systems: Sequence[str]) -> str:
    """The system that a port belongs to: `funnel` for `funnel-factorized` beside it, which differs by a setting."""
    return min((name for name in systems if system == name or system.startswith(f"{name}-")), key=len)
