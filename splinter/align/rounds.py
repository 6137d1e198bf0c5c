"""Rounds of mutants: random small changes of a port's source, and how many of them turned a step red.

Planted bugs are those that somebody thought of; mutants are drawn. Those that survive are read one by one, and get a
verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERDICTS = {
    "equivalent": "nothing that a user sees is otherwise",
    "outside": "what it changes is no claim of the steps",
    "miss": "a step should have seen it",
    "unread": "nobody has looked at it yet; counted as a miss",
}
"""What may be said of a mutant that survived."""


@dataclass(frozen=True)
class Counts:
    """A round in numbers.

    Args:
        drawn: mutants in all.
        killed: those that a step turned red on.
        verdicts: verdict -> survivors.
        share: killed of those that are neither equivalent nor outside.
        interval: 95 %, by Wilson's formula.
    """

    drawn: int
    killed: int
    verdicts: Mapping[str, int]
    share: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        apart = " and ".join(f"{self.verdicts[name]} {name}" for name in ("equivalent", "outside"))
        judged = self.drawn - self.verdicts["equivalent"] - self.verdicts["outside"]
        low, high = (100 * bound for bound in self.interval)
        return (
            f"{self.killed} of {self.drawn} killed; of the {judged} that are left without {apart} ones, "
            f"{100 * self.share:.1f} % (95 % interval {low:.1f} to {high:.1f} %)"
        )


def counted(one: Mapping[str, Any]) -> Counts:
    """The numbers of a round, from its `killed` and its `survivors`."""
    found = [survivor["verdict"] for survivor in one["survivors"]]
    verdicts = {name: found.count(name) for name in VERDICTS}
    judged = one["killed"] + verdicts["miss"] + verdicts["unread"]
    share = one["killed"] / judged if judged else 1.0
    return Counts(one["killed"] + len(found), one["killed"], verdicts, share, wilson(one["killed"], judged))


def wilson(some: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share; from 0 to 1 where nothing was counted."""
    if not total:
        return 0.0, 1.0
    z, share = 1.959963984540054, some / total
    middle = share + z * z / (2 * total)
    width = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    low, high = ((middle + side * width) / (1 + z * z / total) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)
