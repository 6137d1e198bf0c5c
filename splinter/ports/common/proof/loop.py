"""The training loop of the references, written a second time: nothing of `common.training` runs on their side.

Source: the loops of oriram/splinter finetuning/run_mrqa.py at 1df4c13 and of transformers' examples, without what keeps
and resumes a run. What both sides still have in common is the meaning of a seed: an epoch takes the rows in the order
that numpy draws from (seed, number of the epoch).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from splinter.align.port import Side


def shuffled(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch, counted from 0, goes through the rows."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def step_rule(features: int, recipe: Any) -> tuple[int, int]:
    """The authors' rule restated: updates that the schedule is made for, and those that are run.

    Where the epochs are fewer than `min_steps` updates, so many whole epochs are run as go beyond them.
    """
    per_epoch = math.ceil(features / recipe.batch_size)
    total, epochs = per_epoch * recipe.epochs, recipe.epochs
    if total < recipe.min_steps:
        total, epochs = recipe.min_steps, recipe.min_steps // per_epoch + 1
    return total, min(epochs * per_epoch, recipe.max_steps or epochs * per_epoch)


def epochs(columns: Mapping[str, np.ndarray], recipe: Any) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a run, as wide as the columns are; each epoch ends with the few rows that are left.

    Args:
        columns: each (N, ...).
    """
    rows = len(next(iter(columns.values())))
    begins = range(0, rows, recipe.batch_size)
    for update in range(step_rule(rows, recipe)[1]):
        epoch, place = divmod(update, len(begins))
        if place == 0:
            order = shuffled(rows, recipe.seed, epoch)
        chosen = order[begins[place] : begins[place] + recipe.batch_size]
        yield {name: column[chosen] for name, column in columns.items()}


def trained(
    side: Side, model: Any, batches: Iterable[Mapping[str, np.ndarray]], features: int, recipe: Any, dtype: str
) -> list[dict[str, float]]:
    """Train by what the side describes: forward, loss, optimizer, decayed names and rates, each with a step of its own.

    Args:
        features: what the rates go by.

    Returns:
        Loss and global gradient norm of each update, before it.
    """
    driver = side.driver
    named = driver.parameters(model)
    optimizer = side.optimizer(named, recipe, side.decayed(list(named)))
    log = []
    for batch, rate in zip(batches, side.rates(features, recipe), strict=False):  # the rates go on beyond the end
        model.train()
        tensors = driver.from_numpy(batch, dtype)
        with driver.computing():
            loss = side.loss(model, side.forward(model, tensors), tensors)
            loss.backward()
        log.append({"loss": loss.item(), "norm": optimizer.step(rate)})
    return log
