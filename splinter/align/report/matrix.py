"""The matrix as plain text: a row per system and mode, and what the planted bugs met."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..kill import table as killed_by_step
from ..kill import tally
from ..record import CELLS, Document, verdict
from ..steps import STEPS
from ..terminal import printable
from .verdict import headline
from .words import number

LABEL = 15
"""Columns for system and mode."""


def matrix(alignment: Document, width: int = 100) -> str:
    """At most `width` columns: a row per system and mode, a column per step, as grave as its worst."""
    heads = [{"optimizer": "optim", "regularization": "regular"}.get(step, step) for step in STEPS]
    rows: dict[str, dict[str, set[str]]] = {}
    for result in alignment["results"]:
        row = rows.setdefault(printable(f"{result['system']} {result['mode']}", keep=""), {})
        row.setdefault(result["step"], set()).add(verdict(result))
    heads = [head.ljust(len(CELLS["xfailed"])) for head in heads]
    if LABEL + sum(len(head) + 1 for head in heads) > width:  # a narrow terminal: numbers for names, and a key
        key = ", ".join(f"{place} {step}" for place, step in enumerate(STEPS, 1))
        heads = [str(place).ljust(len(CELLS["xfailed"])) for place in range(1, len(STEPS) + 1)]
    else:
        key = ""
    lines = [" ".join([" " * LABEL, *heads])]
    for label, row in rows.items():
        cells = []
        for step, head in zip(STEPS, heads, strict=True):
            word = next((CELLS[name] for name in CELLS if name in row.get(step, ())), "-")
            cells.append(word.ljust(len(head)))
        if len(label) > LABEL:  # a long name gets a line of its own rather than lose its end
            lines.append(cut(label, width))
            label = ""
        lines.append(f"{label:<{LABEL}} {' '.join(cells)}")
    lines += textwrap.wrap(key, width)
    return "\n".join(line.rstrip() for line in [*lines, cut(str(headline(alignment)), width)]) + "\n"


def kill_table(kills: Sequence[Mapping[str, Any]], floors: Sequence[Mapping[str, Any]] = ()) -> str:
    """At most 100 columns: what each step killed, then the smallest errors that are still noticed."""
    counts = tally(kills)
    lines = ["step           planted  killed  first  narrowest kill"]
    for row in killed_by_step(kills):
        margin = "" if row["margin"] is None else f"{number(row['margin'])} times its limit: {row['narrowest']}"
        lines.append(cut(f"{row['step']:<14} {row['planted']:>7} {row['killed']:>7} {row['first']:>6}  {margin}"))
    total = len(kills)
    killed = f"{total - counts['survived']} of {total} killed"
    lines.append(f"{killed}, {counts['first']} by the step that is about them and by none before it")
    for word in ("survived", "training", "elsewhere"):
        lines += [cut(f"{word}: {kill['system']}: {kill['bug']}") for kill in kills if kill["verdict"] == word]
    if floors:
        lines += ["", "smallest error that a step notices"]
        lines += [
            printable(f"{one['step']:<14} {one['system']:<10} {one['dtype']:<8} ", keep="")
            + printable(f"{number(one['smallest']):>8}  {one['what']}", keep="")
            for one in floors
        ]
    return "\n".join(lines) + "\n"


def cut(text: str, width: int = 100) -> str:
    """One line of a terminal, whatever the names in it hold."""
    text = printable(text, keep="")
    return text if len(text) <= width else text[: width - 3] + "..."
