"""What a product answers while it is trained, dropout on: the moments that `Side.uses` tells of. Numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splinter.align.port import OF_A_CALL, PLAIN
from splinter.ports.common.training.fit import Watch, fit
from splinter.ports.common.training.schedule import Plan, Recipe
from splinter.ports.common.training.trainer import Trainer

Answers = Mapping[str, np.ndarray]
UPDATES, SEEDS = 2, (3, 4)
APART = 1e-9
"""Of a loss: one that drops the same units is the same in all its digits, one unit more moves it by 1e-4."""


@dataclass(frozen=True)
class Standing:
    """A feed in which every update sees the same batch."""

    batch: Answers

    @property
    def plan(self) -> Plan:
        """So many updates, without warm-up."""
        return Plan(per_epoch=1, total=UPDATES, warmup=0, updates=UPDATES)

    def about(self) -> dict[str, Any]:
        """Nothing: no such run is resumed."""
        return {}

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """See `Feed`."""
        for _ in range(start, UPDATES):
            yield dict(self.batch), lambda: ["the batch"]


def fitted(trainer: Trainer, batch: Answers, recipe: Recipe) -> Callable[[int, Callable[[], Any]], list[float]]:
    """Runs by the product's own loop, at a rate of 0: (seed, what is done after each update) -> losses."""

    def run(seed: int, after: Callable[[], Any]) -> list[float]:
        def look(updates: int) -> dict[str, Any]:
            after()
            return {}

        still = replace(recipe, learning_rate=0.0, seed=seed)
        return [entry["loss"] for entry in fit(trainer, Standing(batch), still, watch=Watch(look, every=1))]

    return run


def record(
    calls: tuple[Answers, Answers],
    plain: Answers,
    ask: Callable[[], Answers],
    run: Callable[[int, Callable[[], Any]], list[float]],
) -> dict[str, Answers]:
    """What `Side.uses` returns.

    Args:
        calls: what a plain call gives, of a model without dropout and of the model as it was opened.
        plain: answers of the model without dropout.
        ask: asks the model in the product's own way.
        run: makes UPDATES updates that leave the weights as they are: (seed, what is done after each) -> losses.
    """
    first, second = SEEDS
    # under names of their own: what a call gives need not be what is answered
    idle, opened = ({OF_A_CALL.format(name): array for name, array in call.items()} for call in calls)
    found: dict[str, Answers] = {PLAIN: {**plain, **idle}, "as opened": opened, "asked before any update": ask()}
    during: list[Answers] = []
    asked = run(first, lambda: during.append(ask()))
    found |= {f"asked after update {number}": answers for number, answers in enumerate(during, 1)}
    losses = {"asked": asked, "not asked": run(first, lambda: None), "another seed": run(second, lambda: None)}
    found["updates"] = {
        "how many drop other units": _different(losses["not asked"]),
        "how many drop other units, of two seeds": _different(losses["not asked"] + losses["another seed"]),
        "how many drop other units, asked in between or not": _different(losses["not asked"] + losses["asked"]),
    }
    return found


def _different(losses: Sequence[float]) -> np.ndarray:
    """How many of some losses are different ones."""
    ordered = np.sort(losses)
    return np.array(1 + int((np.diff(ordered) > APART * np.abs(ordered).max()).sum()))
