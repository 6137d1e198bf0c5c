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


def epochs(columns: Mapping[str, np.ndarray], recipe: Any) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a run, as wide as the columns are: all epochs, each with the few rows that are left at its end.

    Args:
        columns: each (N, ...).
        recipe: where its epochs are fewer than `min_steps` updates, as many whole epochs as go beyond them.
    """
    rows = len(next(iter(columns.values())))
    per_epoch = math.ceil(rows / recipe.batch_size)
    enough = recipe.epochs * per_epoch >= recipe.min_steps
    for epoch in range(recipe.epochs if enough else recipe.min_steps // per_epoch + 1):
        order = shuffled(rows, recipe.seed, epoch)
        for begin in range(0, rows, recipe.batch_size):
            chosen = order[begin : begin + recipe.batch_size]
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
