"""What the proofs share of the reference: learning rates as transformers gives them, and what it gave until 5.0."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch

from splinter.ports.common.training.schedule import Recipe

from . import ReferenceGone


def removed_in_5(name: str) -> Any:
    """A module of transformers that 5.0 removed, such as `data.metrics.squad_metrics`.

    Raises:
        ReferenceGone: transformers is of version 5 or later.
    """
    import transformers

    if int(transformers.__version__.split(".")[0]) >= 5:
        raise ReferenceGone(f"transformers {transformers.__version__} lacks the reference: 5.0 removed {name}")
    return importlib.import_module(f"transformers.{name}")


def step_rule(features: int, recipe: Recipe) -> tuple[int, int]:
    """The authors' rule restated: updates that the schedule is made for, and those that are run."""
    per_epoch = -(-features // recipe.batch_size)
    total, epochs = per_epoch * recipe.epochs, recipe.epochs
    if total < recipe.min_steps:
        total, epochs = recipe.min_steps, recipe.min_steps // per_epoch + 1
    return total, min(epochs * per_epoch, recipe.max_steps or epochs * per_epoch)


@cache
def linear_rates(features: int, recipe: Recipe) -> list[float]:
    """What transformers' linear schedule gives each update, and 25 beyond the last."""
    from transformers import get_linear_schedule_with_warmup

    total, updates = step_rule(features, recipe)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(total * recipe.warmup), total)
    used = []
    for _ in range(updates + 25):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return used
