"""What the proofs share of the port: its answers while it is trained, as the engine sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle

from splinter.align import paddle_side
from splinter.ports.common.training.schedule import Recipe

from . import uses


def used(
    models: tuple[Any, Any],
    forward: Callable[[Any, Mapping], Mapping[str, paddle.Tensor]],
    ask: Callable[[Any], uses.Answers],
    backend: Any,
    batch: Mapping[str, np.ndarray],
    recipe: Recipe,
) -> dict[str, uses.Answers]:
    """What a port answers between the updates of its own loop; see `Side.uses`.

    Args:
        models: without dropout, and as `open_model` hands it out; neither has been asked anything.
        forward: (model, batch of tensors) -> answers, by a plain call in whatever mode the model is.
        ask: (model) -> answers, by the product's functions.
        backend: makes the trainer.
    """
    without, model = (paddle_side.cast(one, "float64") for one in models)

    @paddle.no_grad()
    def called(one: Any) -> dict[str, np.ndarray]:
        tensors = paddle_side.from_numpy(batch, "float64")
        return {name: paddle_side.to_numpy(tensor) for name, tensor in forward(one, tensors).items()}

    plain, opened = called(without), called(model)
    run = uses.fitted(backend.trainer(model, recipe), batch, recipe)
    return uses.record(plain, opened, lambda: ask(model), run)
