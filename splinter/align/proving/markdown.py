"""The proof as Markdown: what a pull request that adds a port is to carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..report.words import number, shape
from ..terminal import printable

if TYPE_CHECKING:
    from .result import Check, Proof

FOLD = 40
"""Rows from which on a table is folded away."""
HEAD = ("check", "precision", "numbers", "worst tensor", "max abs", "relative", "of the reference's own error",
        "limit", "verdict")  # fmt: skip


def table(proof: Proof) -> str:
    """The verdict, a row per check, a row per layer and output, what was not checked, versions."""
    lines = [f"## {proof.headline}", "", f"- theirs: {proof.theirs}", f"- ours: {proof.ours}"]
    lines += [f"- weights: {proof.weights}", ""]
    lines += _table(HEAD, (_row(check) for check in proof.checks))
    if proof.failure:
        lines += ["", "```", *proof.finding, "```"]
    for check in proof.checks:
        if check.name == "forward" and check.alignment.comparisons:
            lines += ["", *_folded(f"Layers and outputs, {check.dtype}", _layers(check))]
    if proof.unnamed:
        rows = ((f"`{ours}`", f"`{theirs}`", why) for ours, (theirs, why) in proof.unnamed.items())
        lines += [
            "",
            *_folded("Weights paired by something else than their names", _table(("ours", "theirs", "why"), rows)),
        ]
    lines += ["", *(f"- note: {_text(note)}" for note in proof.all_notes)]
    lines += [*(f"- not run: {name}: {_text(why)}" for name, why in proof.left.items()), "", proof.scope[-1], ""]
    if proof.command:
        lines += [f"Made by `{proof.command}`.", ""]
    lines += _folded("Versions and machine", _table(("", ""), _environment(proof.environment)))
    return "\n".join(lines) + "\n"


def _row(check: Check) -> tuple[str, ...]:
    worst = check.alignment.worst
    figures = ("-",) * 4
    if worst is not None and not worst.problem:
        own = "-" if worst.referee_ratio is None else f"{number(worst.referee_ratio)}x"
        figures = (number(worst.max_abs), number(worst.max_rel), own, number(worst.allowed))
    name = f"`{worst.name}`" if worst is not None else "-"
    return check.name, check.dtype, number(check.alignment.values), name, *figures, _verdict(check.passed)


def _verdict(passed: bool) -> str:
    return "ok" if passed else "**not aligned**"


def _layers(check: Check) -> list[str]:
    """Of each layer and output the batch in which it differs most."""
    worst: dict[str, Any] = {}
    for one in check.alignment.comparisons:
        name = one.name.partition("/")[2] or one.name
        kept = worst.get(name)
        if kept is None or (kept.passed, -kept.max_rel) > (one.passed, -one.max_rel):
            worst[name] = one
    rows = (
        (f"`{name}`", shape(one.shape), number(one.max_abs), number(one.max_rel),
         "-" if one.referee_ratio is None else f"{number(one.referee_ratio)}x", number(one.allowed),
         _verdict(one.passed) + (f": {_text(one.problem)}" if one.problem else ""))
        for name, one in worst.items()
    )  # fmt: skip
    return _table(
        ("layer or output", "shape", "max abs", "relative", "of the reference's own error", "limit", "verdict"), rows
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _folded(title: str, lines: list[str]) -> list[str]:
    if len(lines) < FOLD and not title.startswith("Versions"):
        return [f"**{title}**", "", *lines]
    return ["<details>", f"<summary>{title}: {len(lines) - 2} rows</summary>", "", *lines, "", "</details>"]


def _environment(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    from ..report.words import flatten

    return ((name, _text(value)) for name, value in flatten(dict(environment)))


def _text(text: str) -> str:
    """One line in a cell."""
    return printable(" ".join(str(text).split()), keep="").replace("|", "\\|")
