"""What `prove` found: as text, as a folder with the report, as a table for a pull request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..compare import Alignment, Tolerance
from ..files import write_whole
from ..record import CELLS, Document
from ..steps import STEPS

WIDTH = 12
"""Columns of a cell."""
SHOWN = 3
"""How many tensors that differ are written out."""
UNASKED = "it was not asked for"
BEYOND = {
    "optimizer": "your users' optimizer (optimizer=)",
    "lr": "the learning rate",
    "data": "what becomes of a raw file",
    "metric": "scores",
    "training": "a whole training",
}
"""What two models and a batch cannot tell."""


@dataclass(frozen=True)
class Check:
    """One thing that was compared, in one precision.

    Args:
        name: one of `CHECKS`.
        record: as alignment.json has it.
        message: why it failed; "" where it passed.
    """

    name: str
    dtype: str
    alignment: Alignment
    tolerance: Tolerance
    record: dict[str, Any]
    message: str

    @property
    def passed(self) -> bool:
        return bool(self.record["verdict"] == "passed")


@dataclass
class Proof:
    """The verdict on a port.

    Args:
        name: what was proven.
        theirs, ours: class, package and framework of either side, for a reader.
        weights: how the tensors were paired, in one line.
        checks: in the order in which they ran.
        left: check -> why it was not run.
        notes: what a reviewer should know: outputs of one side alone, batches that the reference refused, and so on.
        environment: versions and machine.
        command: what makes this proof again, where that is known.
        tensors: of ours -> (theirs, why they belong together), for all that are fed.
        rules: the map of the weights, as the source of a WeightMap.
        outputs: their name -> our name, of the outputs that were compared.
        batches: names of what both were given.
        seconds: of the whole.
    """

    name: str
    theirs: str
    ours: str
    weights: str
    checks: list[Check] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    tensors: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rules: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    batches: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it agrees."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if not check.passed), None)

    @property
    def document(self) -> Document:
        """As alignment.json has it, schema 1."""
        return {"schema": 1, "environment": self.environment, "results": [check.record for check in self.checks]}

    @property
    def unnamed(self) -> dict[str, tuple[str, str]]:
        """The tensors that were paired by something else than their names."""
        return {ours: pair for ours, pair in self.tensors.items() if not pair[1].startswith("by name")}

    @property
    def kept_steps(self) -> tuple[str, ...]:
        """Of the eleven, those that a suite of tests can run again."""
        return tuple(dict.fromkeys(check.name for check in self.checks if check.name in STEPS))

    # As text

    def __str__(self) -> str:
        lines = [self.name, f"  theirs   {self.theirs}", f"  ours     {self.ours}", f"  weights  {self.weights}"]
        lines += ["", *self._matrix(), "", self.headline]
        lines += [f"  {line}" for line in self.finding]
        lines += [f"  note: {note}" for note in self.all_notes]
        return "\n".join([*lines, "", *self.scope])

    @property
    def finding(self) -> list[str]:
        """Of the first failure: its kind and place, the first tensors that differ, and how many do."""
        if self.failure is None:
            return []
        alignment, told = self.failure.alignment, self.failure.record.get("explanation")
        failed = [one for one in alignment.comparisons if not one.passed]
        lines = [told["sentence"]] if told else []
        lines += alignment.problems[:SHOWN]
        lines += [f"{'then' if place else 'first'}: {one.sentence()}" for place, one in enumerate(failed[:SHOWN])]
        if len(failed) > SHOWN:
            lines.append(f"{len(failed)} of {len(alignment.comparisons)} tensors differ; the report has all of them")
        return [*lines, *self._others(self.failure.name)]

    def _others(self, told: str) -> list[str]:
        """A line on each other check that failed: its kind and place, else the first thing that differs."""
        lines: dict[str, str] = {}
        for check in self.checks:
            if check.passed or check.name == told or check.name in lines:
                continue
            explained, first = check.record.get("explanation"), check.alignment.first_divergence
            said = [explained["sentence"]] if explained else check.alignment.problems[:1]
            said = said or ([first.sentence()] if first else ["see the report"])
            lines[check.name] = f"{check.name}: {said[0]}"
        return list(lines.values())

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        failed = [f"{check.name} {check.dtype}".strip() for check in self.checks if not check.passed]
        if failed:
            return f"NOT ALIGNED: {', '.join(failed)}"
        numbers = sum(check.alignment.values for check in self.checks)
        return f"ALIGNED: {numbers:,} numbers compared in {self.seconds:.0f} s"

    def _matrix(self) -> list[str]:
        """A row per check, a column per precision, in a cell the largest relative difference."""
        columns = list(dict.fromkeys(check.dtype for check in self.checks))
        lines = [" " * WIDTH + "".join(column.ljust(WIDTH + 2) for column in columns)]
        for name in dict.fromkeys(check.name for check in self.checks):
            cells = {check.dtype: _cell(check) for check in self.checks if check.name == name}
            lines.append(f"{name:<{WIDTH}}" + "".join(cells.get(c, "").ljust(WIDTH + 2) for c in columns))
        return [line.rstrip() for line in lines]

    @property
    def all_notes(self) -> list[str]:
        """What a reviewer should know, each thing once: what is said of several batches is said of all of them."""
        of_batches: dict[str, list[str]] = {}
        for check in self.checks:
            for note in check.alignment.notes:
                batch, _, what = note.partition(": ")
                batches = of_batches.setdefault(f"{check.name}: {what if batch in self.batches else note}", [])
                batches += [batch] if batch in self.batches and batch not in batches else []
        told = [f"{what.partition(';')[0]}{_in_batches(names)}" for what, names in of_batches.items()]
        return list(dict.fromkeys([*self.notes, *told]))

    @property
    def scope(self) -> list[str]:
        """What was proven, what was not, and why not."""
        passed = {check.name for check in self.checks} - {check.name for check in self.checks if not check.passed}
        proven = [name for name in dict.fromkeys(check.name for check in self.checks) if name in passed]
        lines = [f"Proven: {', '.join(proven) or 'nothing'}."]
        unasked = [name for name, why in self.left.items() if why == UNASKED]
        lines += [f"Not run: {name}, for {why}." for name, why in self.left.items() if why != UNASKED]
        lines += [f"Not asked for: {', '.join(unasked)}."] if unasked else []
        ran = {check.record["step"] for check in self.checks}
        beyond = [what for step, what in BEYOND.items() if step not in ran]
        return [*lines, f"Two models and a batch do not tell: {'; '.join(beyond)}."]

    # As files

    def save(self, folder: str | Path) -> Path:
        """Write index.html, alignment.json, report.md and badges/ into a folder, which is made if missing.

        Each file appears whole or not at all.

        Returns:
            Path of the page.
        """
        from ..report import write

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.document, indent=1, allow_nan=False)
        write_whole(folder / "alignment.json", lambda file: file.write(text), "w")
        page = write(folder / "alignment.json", folder, folder / "badges")
        markdown = self.markdown()
        write_whole(folder / "report.md", lambda file: file.write(markdown), "w")
        return page

    def markdown(self) -> str:
        """A table for a pull request."""
        from .markdown import table

        return table(self)


def _in_batches(names: Sequence[str]) -> str:
    if len(names) < 3:
        return f" ({', '.join(names)})" if names else ""
    return f" ({names[0]} and {len(names) - 1} more batches)"


def _cell(check: Check) -> str:
    word = CELLS[check.record["verdict"]]
    # what has a bound of its own (the law of a test, a gradient that is zero by algebra) is relative to nothing
    worst = max((one.max_rel for one in check.alignment.comparisons if one.bound is None), default=0.0)
    return f"{word} {worst:.1e}" if worst else word


def described(tensors: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
    """'199 tensors: 197 by name, 2 by shape and order'."""
    counts: dict[str, int] = {}
    for name in tensors:
        why = reasons.get(name, "by name")
        counts[why] = counts.get(why, 0) + 1
    return f"{len(tensors)} tensors: " + ", ".join(f"{count} {why}" for why, count in counts.items())
