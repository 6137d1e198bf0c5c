"""What the proofs share of the reference: learning rates as transformers gives them, what it gave until 5.0, and its
answers while it is trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from splinter.align import torch_side
from splinter.ports.common.training.schedule import Recipe

from . import ReferenceGone, uses
from .loop import step_rule


def removed_in_5(name: str) -> Any:
    """A module of transformers that 5.0 removed, such as `data.metrics.squad_metrics`.

    Raises:
        ReferenceGone: transformers is of version 5 or later.
    """
    import transformers

    if int(transformers.__version__.split(".")[0]) >= 5:
        raise ReferenceGone(f"transformers {transformers.__version__} lacks the reference: 5.0 removed {name}")
    return importlib.import_module(f"transformers.{name}")


def scheduled(build: Callable[[Any, int, int], Any], features: int, recipe: Recipe) -> list[float]:
    """What a schedule of transformers gives each update, and 25 beyond the last.

    Args:
        build: (optimizer, updates of the warm-up, updates it is made for) -> schedule.
    """
    total, updates = step_rule(features, recipe)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = build(optimizer, int(total * recipe.warmup), total)
    given = []
    for _ in range(updates + 25):
        given.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return given


@cache
def linear_rates(features: int, recipe: Recipe) -> list[float]:
    """Those of transformers' linear schedule."""
    from transformers import get_linear_schedule_with_warmup

    return scheduled(get_linear_schedule_with_warmup, features, recipe)


def used(
    models: tuple[Any, Any],
    forward: Callable[[Any, Mapping], Mapping[str, torch.Tensor]],
    loss: Callable[[Any, Mapping, Mapping], torch.Tensor],
    batch: Mapping[str, np.ndarray],
) -> dict[str, uses.Answers]:
    """What a reference answers in evaluation mode between updates; all of it by plain calls of torch.

    Args:
        models: without dropout, and with the rates of the configuration.
        forward: (model, batch of tensors) -> answers.
        loss: (model, answers, batch of tensors) -> scalar.
    """
    without, model = (torch_side.cast(one, "float64") for one in models)
    tensors = torch_side.from_numpy(batch, "float64")

    @torch.no_grad()
    def ask(one: Any) -> dict[str, np.ndarray]:
        one.eval()
        return {name: tensor.numpy() for name, tensor in forward(one, tensors).items()}

    def run(seed: int, after: Callable[[], Any]) -> list[float]:
        losses = []
        for update in range(uses.UPDATES):
            torch.manual_seed(1000 * seed + update)
            model.train()
            losses.append(loss(model, forward(model, tensors), tensors).item())
            after()
        return losses

    with torch_side.float64_softmax():
        plain = ask(without)
        return uses.record((plain, ask(model)), plain, lambda: ask(model), run)
