"""Which rows of which task each update sees: one batch of every task, or one task drawn by the size of its data.

Everything is a function of the seed and the number of the update, so a resumed run needs no state. Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from splinter.ports.common.training import schedule
from splinter.ports.common.training.schedule import Plan, Recipe

from .config import TASKS
from .data import Dataset

SAMPLING = ("joint", "proportional")


def steps_of_an_epoch(datasets: Mapping[str, Dataset], batch_size: int) -> int:
    """One pass over the sentiment data, as minBERT's epoch is; without them, over the smallest set."""
    sizes = {task: len(dataset) for task, dataset in datasets.items()}
    return math.ceil(sizes.get("sentiment", min(sizes.values())) / batch_size)


@dataclass(frozen=True)
class MixedFeed:
    """Batches of several tasks; a set that is used up starts again with a new permutation.

    Args:
        datasets: task -> its training data.
        recipe: batch size, epochs, seed.
        steps: updates per epoch; an epoch is a number of updates, as the sets differ in size.
        sampling: "joint": each update sees one batch of every task; "proportional": each update sees one task,
            drawn with probability size ** alpha.
        alpha: 1 = by size, 0 = all tasks alike.
    """

    datasets: Mapping[str, Dataset]
    recipe: Recipe
    steps: int
    sampling: str = "joint"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling {self.sampling!r} is not known; use one of {', '.join(SAMPLING)}")

    @cached_property
    def plan(self) -> Plan:
        """The schedule: epochs of `steps` updates."""
        return schedule.plan(self.steps * self.recipe.batch_size, self.recipe)

    def about(self) -> dict[str, Any]:
        """What identifies the data and their order."""
        return {
            "tasks": list(self.datasets),
            "data": {task: {"rows": len(d), "hash": d.hash()} for task, d in self.datasets.items()},
            "sampling": {"kind": self.sampling, "alpha": self.alpha, "steps": self.steps},
        }

    @cached_property
    def drawn(self) -> np.ndarray:
        """(updates,) which task each update sees, as an index into `datasets`; proportional sampling only."""
        sizes = np.array([len(d) for d in self.datasets.values()], np.float64)
        weights = (sizes / sizes.max()) ** self.alpha  # a large power of a size would overflow
        share = weights / weights.sum()
        epochs = math.ceil(self.plan.updates / self.steps)
        draws = [
            np.random.default_rng((self.recipe.seed, 1, e)).choice(len(sizes), self.steps, p=share)
            for e in range(epochs)
        ]
        return np.concatenate(draws)[: self.plan.updates]

    def seen(self, updates: int) -> dict[str, int]:
        """Task -> batches of it among the first `updates` updates."""
        if self.sampling == "joint":
            return dict.fromkeys(self.datasets, updates)
        counts = np.bincount(self.drawn[:updates], minlength=len(self.datasets))
        return dict(zip(self.datasets, counts.tolist(), strict=True))

    def passes(self, updates: int) -> dict[str, float]:
        """Task -> how many times its data were traversed in the first `updates` updates."""
        found = {}
        for task, batches in self.seen(updates).items():
            rows, size = len(self.datasets[task]), self.recipe.batch_size
            whole, rest = divmod(batches, math.ceil(rows / size))
            found[task] = round(whole + min(rest * size, rows) / rows, 3)
        return found

    def rows(self, task: str, batch: int) -> np.ndarray:
        """The rows of a task's batch number `batch`, counted from 0 over all passes."""
        dataset, size = self.datasets[task], self.recipe.batch_size
        turn, position = divmod(batch, math.ceil(len(dataset) / size))
        return self._permutation(task, turn)[position * size : (position + 1) * size]

    @cached_property
    def _permutations(self) -> dict[str, tuple[int, np.ndarray]]:
        return {}

    def _permutation(self, task: str, turn: int) -> np.ndarray:
        kept = self._permutations.get(task)
        if kept is None or kept[0] != turn:
            rng = np.random.default_rng((self.recipe.seed, 2, TASKS.index(task), turn))
            kept = self._permutations[task] = turn, rng.permutation(len(self.datasets[task]))
        return kept[1]

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """The batch of each update from `start` on, and a function that names its rows. See `training.feed.Feed`."""
        names, seen = list(self.datasets), self.seen(start)
        for update in range(start, self.plan.updates):
            chosen = names if self.sampling == "joint" else [names[self.drawn[update]]]
            rows = {task: self.rows(task, seen[task]) for task in chosen}
            batch: dict[str, np.ndarray] = {"batch_size": np.array(self.recipe.batch_size)}
            for task in chosen:
                seen[task] += 1
                batch |= self.datasets[task].batch(rows[task])
            yield batch, partial(self._names, rows)

    def _names(self, rows: Mapping[str, np.ndarray]) -> list[str]:
        return [f"{task} {self.datasets[task].ids[i]}" for task, some in rows.items() for i in some]
