"""One framework's half of a run: what a `Trainer` can do, what both frameworks share of it, and a team of processes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from splinter.runtime import SettingError, whole_number

from . import TrainingError
from .feed import parts, parts_by_length
from .schedule import Recipe


class Trainer(Protocol):
    """One framework's half of a training run."""

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> tuple[float, float]:
        """Forward, backward, clip, update; returns loss (nats) and the global gradient norm before clipping.

        Raises:
            FloatingPointError: the loss is not finite; the weights are untouched.
        """

    def seed(self, *numbers: int) -> None:
        """Seed the framework's random numbers (dropout)."""

    def state(self) -> dict[str, np.ndarray]:
        """Weights, both moments and the count of updates of each, by name."""

    def load(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        """Restore what `state` returned, after `updates` updates."""

    def kernels(self) -> str | None:
        """Which kernels of ours compute, by a name that changes with them; None: the framework's own."""

    def advice(self) -> str:
        """How to train faster on this machine, in a sentence; "" where there is nothing to say."""


class Team(ABC):
    """The processes that train one model together, each with its share of the rows of a batch.

    Args:
        rank, size: environment variables in which the launcher says them; without it, a team of one.

    Attributes:
        rank: which one this process is, from 0.
        size: how many there are; 1: nothing is exchanged.

    Raises:
        SettingError: a variable that is no number, or a rank that is not below the size.
    """

    def __init__(self, rank: str, size: str):
        self.rank, self.size = whole_number(rank, 0, least=0), whole_number(size, 1, least=1)
        if self.rank >= self.size:
            raise SettingError(
                f"{rank}={self.rank} in the environment is not below {size}={self.size}; correct them, or unset both"
            )

    @property
    @abstractmethod
    def device(self) -> str:
        """Where this process computes: its own GPU, where there are GPUs."""

    @abstractmethod
    def join(self, parameter: Any) -> None:
        """Meet the others, once; over what joins the devices that parameters are on."""

    @abstractmethod
    def summed(self, numbers: list[float], parameter: Any) -> list[float]:
        """Each number, summed over the team in float64."""

    @abstractmethod
    def sum_gradients(self, parameters: list) -> None:
        """Sum gradients over the team, in place; a parameter without one counts as zero."""

    def add_up(self, loss: float, parameters: Iterable, updates: int) -> float:
        """Sum the loss and, in place, the gradients over the team; a parameter without a gradient anywhere gets none.

        Args:
            updates: how many this process has made.

        Raises:
            TrainingError: the processes are at different updates.
        """
        if self.size == 1:
            return loss
        parameters = list(parameters)
        self.join(parameters[0])
        known = [loss, updates, *(float(p.grad is not None) for p in parameters)]
        loss, total, *counts = self.summed(known, parameters[0])
        if total != self.size * updates:
            raise TrainingError(
                f"the {self.size} processes are at different updates, this one at {updates}: do they all see the same "
                "--output folder?"
            )
        self.sum_gradients([p for p, count in zip(parameters, counts, strict=True) if count])
        return loss


class BatchTrainer(ABC):
    """What a trainer does with a batch in either framework.

    Args:
        loss: (model, batch of tensors) -> scalar. In a team it must be a sum over rows; for micro-batches, that or a
            mean of rows.
        named: name -> parameter.
        optimizer: has step(rate) and updates.
        precision: one of PRECISIONS; "bf16": matrix products in bfloat16, weights and the rest as they are.
        team: a `Team` that shares the rows of a batch; every member makes the same update. None: no team.
        mean_of_rows: whether the loss is a mean in which each row counts alike, so that a part of the rows gives its
            share of it; then micro-batches need no team.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable,
        named: Mapping,
        optimizer: Any,
        recipe: Recipe,
        precision: str,
        team: Team | None,
        mean_of_rows: bool,
    ):
        if recipe.micro_batch and team is None and not mean_of_rows:
            raise ValueError("micro-batches need a loss that is a mean of rows, or a sum over rows and a team (of one)")
        if team is not None and mean_of_rows:
            raise ValueError("a team adds up the losses of its members: they must be sums over rows, not means")
        self.model, self.loss, self.named, self.optimizer = model, loss, named, optimizer
        self.micro_batch, self.precision, self.team = recipe.micro_batch, precision, team

    def kernels(self) -> str | None:
        return None

    def advice(self) -> str:
        return ""

    @abstractmethod
    def backward(self, batch: Mapping[str, np.ndarray], share: float = 1.0) -> float:
        """Loss of rows times their share, whose gradients are added to what is there."""

    @abstractmethod
    def reseed(self, number: int) -> None:
        """Seed the framework's random numbers."""

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> tuple[float, float]:
        self.model.train()
        if self.team is None and self.micro_batch:
            total = len(next(iter(batch.values())))
            portions = parts_by_length(batch, self.micro_batch)
            value = sum(self.backward(part, len(next(iter(part.values()))) / total) for part in portions)
        elif self.team is None:
            value = self.backward(batch)
        else:
            share = {name: column[self.team.rank :: self.team.size] for name, column in batch.items()}
            value = sum(self.backward(part) for part in parts(share, self.micro_batch))
            value = self.team.add_up(value, self.named.values(), self.optimizer.updates)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        return value, self.optimizer.step(rate)

    def seed(self, *numbers: int) -> None:
        rank = 0 if self.team is None else self.team.rank
        numbers = (*numbers, rank) if rank else numbers  # each member drops out its own units
        self.reseed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
