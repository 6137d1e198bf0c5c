"""Rounds of mutants as they are kept in results/mutants.json, with a verdict on each survivor, and their table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from splinter.align.record import read
from splinter.align.rounds import VERDICTS, counted

from .experiments import RESULTS

RECORD = RESULTS / "mutants.json"
MUTANT = ("file", "line", "function", "operator", "before", "after")
"""What is said of a mutant."""


def kept(seed: int, results: Sequence[Mapping[str, Any]], record: Path = RECORD) -> dict[str, Any]:
    """The record with a round in it, in place of an earlier one with its seed; verdicts that are there are taken over.

    Args:
        results: of every mutant, see `mutants.tried`.
    """
    document = read(record)
    known = {key(one): one for earlier in document["mutants"] for one in earlier["survivors"]}
    survivors = [
        {
            **{name: one[name] for name in (*MUTANT, "ran")},
            **{
                name: known.get(key(one), {}).get(name, default)
                for name, default in (("verdict", "unread"), ("reason", ""))
            },
        }
        for one in results
        if not one["red"]
    ]
    made = {
        "seed": seed,
        "killed": len(results) - len(survivors),
        "seconds": round(sum(one["seconds"] for one in results)),
        "survivors": sorted(survivors, key=lambda one: (one["file"], one["line"])),
    }
    rounds = [one for one in document["mutants"] if one["seed"] != seed]
    return {**document, "mutants": [*rounds, made]}


def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one mutant from another, wherever its line has moved."""
    return tuple(one[name] for name in MUTANT if name != "line")


def dumped(document: Mapping[str, Any]) -> str:
    """As the file has it."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def table(document: Mapping[str, Any]) -> str:
    """A row for each round, and below it the survivors of the last one."""
    if not document["mutants"]:
        return "No round is recorded yet."
    rows = [
        f"| seed | mutants | killed | {' | '.join(VERDICTS)} | killed of those that count | 95 % interval | minutes |",
        "|---|" + "---|" * (len(VERDICTS) + 5),
    ]
    for one in document["mutants"]:
        found = counted(one)
        low, high = (100 * bound for bound in found.interval)
        cells = [one["seed"], found.drawn, found.killed, *found.verdicts.values(), f"{100 * found.share:.1f} %"]
        cells += [f"{low:.1f} to {high:.1f} %", round(one["seconds"] / 120)]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    last = document["mutants"][-1]
    rows += ["", f"Survivors of seed {last['seed']}:", ""]
    for one in last["survivors"]:
        where = f"{one['file'].removeprefix('splinter/ports/')}:{one['line']}"
        rows.append(f"- {where}, {one['operator']}: {_code(one['before'])} became {_code(one['after'])}. "
                    f"**{one['verdict']}**{': ' * bool(one['reason'])}{one['reason']}")  # fmt: skip
    return "\n".join(rows if last["survivors"] else [*rows, "none."])


def _code(text: str) -> str:
    """One line of Markdown code."""
    text = " ".join(text.split())
    return f"``{text}``" if "`" in text else f"`{text}`"
