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
    without: Callable[[], Any],
    opened: Callable[[], Any],
    forward: Callable[[Any, Mapping], Mapping[str, paddle.Tensor]],
    ask: Callable[[Any], uses.Answers],
    backend: Any,
    batch: Mapping[str, np.ndarray],
    recipe: Recipe,
) -> dict[str, uses.Answers]:
    """What a port answers between the updates of its own loop; see `Side.uses`.

    Args:
        without: makes a model without dropout.
        opened: makes one as the product opens it.
        forward: (model, batch of tensors) -> answers, by a plain call in whatever mode the model is.
        ask: (model) -> answers, by the product's functions.
        backend: makes the trainer.
    """

    def made(make: Callable[[], Any]) -> Any:
        paddle.seed(0)  # a layer that no weight has reached is random: the same one in both
        return paddle_side.cast(make(), "float64")

    @paddle.no_grad()
    def called(one: Any) -> dict[str, np.ndarray]:
        tensors = paddle_side.from_numpy(batch, "float64")
        return {name: paddle_side.to_numpy(tensor) for name, tensor in forward(one, tensors).items()}

    plain, model = made(without), made(opened)
    calls = called(plain), called(model)
    run = uses.fitted(backend.trainer(model, recipe), batch, recipe)
    return uses.record(calls, ask(plain), lambda: ask(model), run)
