"""Where the batches of a run come from: their order, their portions, and the data that identify a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from . import schedule
from .schedule import Plan, Recipe


def order(features: int, plan: Plan, recipe: Recipe, start: int = 0) -> Iterator[np.ndarray]:
    """Row numbers of each batch from update `start` on; each epoch its own permutation, a function of the seed."""
    for update in range(start, plan.updates):
        epoch, position = divmod(update, plan.per_epoch)
        if position == 0 or update == start:
            rows = np.random.default_rng((recipe.seed, epoch)).permutation(features)
        yield rows[position * recipe.batch_size : (position + 1) * recipe.batch_size]


def trim(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch cut to its longest row (rounded up to 8): padding adds exactly nothing, and costs time."""
    longest = int(batch["attention_mask"].sum(axis=1).max())
    tokens = min(batch["attention_mask"].shape[1], -(-longest // 8) * 8)
    return {name: a[:, :tokens] if a.ndim == 2 else a for name, a in batch.items()}


def parts(batch: Mapping[str, np.ndarray], rows: int) -> Iterator[Mapping[str, np.ndarray]]:
    """A batch in portions of so many rows, 0: of all; none where a member of a team has no row of it."""
    total = len(next(iter(batch.values())))
    size = rows or max(1, total)
    for begin in range(0, total, size):
        yield {name: column[begin : begin + size] for name, column in batch.items()}


def parts_by_length(batch: Mapping[str, np.ndarray], rows: int) -> Iterator[Mapping[str, np.ndarray]]:
    """A batch in portions of so many rows of like length, each cut to its longest row."""
    order = np.argsort(batch["attention_mask"].sum(axis=1), kind="stable")
    return map(trim, parts({name: column[order] for name, column in batch.items()}, rows))


class Feed(Protocol):
    """Where the batches of a run come from, for data that is more than one table; see `Table`."""

    @property
    def plan(self) -> Plan:
        """The schedule."""

    def about(self) -> dict[str, Any]:
        """What identifies the data (JSON values); a resumed run must find the same."""

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """The batch of each update from `start` on, and a function that names its examples for an error."""


@dataclass(frozen=True)
class Table:
    """The usual feed: one table of model inputs and labels, each column (N, ...)."""

    columns: Mapping[str, np.ndarray]
    recipe: Recipe
    names: Callable[[np.ndarray], list[str]] | None = None
    prepare: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]] = dict

    @property
    def features(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    @property
    def plan(self) -> Plan:
        """The schedule for so many rows."""
        return schedule.plan(self.features, self.recipe)

    def about(self) -> dict[str, Any]:
        """Number of rows and a hash of every column."""
        return {"features": self.features, "data": digest(self.columns)}

    def batches(self, start: int):
        """See `Feed`; `prepare` gives each batch its last touch."""
        for rows in order(self.features, self.plan, self.recipe, start):
            batch = self.prepare({name: column[rows] for name, column in self.columns.items()})
            yield batch, lambda rows=rows: self.names(rows) if self.names else list(map(str, rows))


def digest(columns: Mapping[str, np.ndarray]) -> str:
    """Hash (16 hex digits) of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{name} {columns[name].dtype.str} {columns[name].shape}".encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()[:16]
