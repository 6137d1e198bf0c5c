"""The multi-task recipe in Paddle: loss, decayed weights, and the backend of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter import runtime
from splinter.ports.common.paddle.train import PaddleBackend, PaddleTrainer
from splinter.ports.common.training.schedule import Recipe

from . import model as models
from .model import MultitaskBert


def loss(
    model: MultitaskBert, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]
) -> paddle.Tensor:
    """The sum of the losses of the tasks in the batch, of given outputs; see `model.loss`."""
    return models.loss(outputs, batch)


def decayed(names: Iterable[str]) -> list[str]:
    """All matrices: neither biases nor LayerNorm weights decay."""
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


class Backend(PaddleBackend):
    """See `tasks.Backend`."""

    def open_model(
        self,
        folder: Path,
        head: str,
        device: str = "auto",
        repeated: bool = False,
        frozen: bool = False,
        **changes: Any,
    ) -> MultitaskBert:
        self.place(device)
        model = MultitaskBert.from_pretrained(folder, head=head, **changes)
        if frozen:
            model.freeze()
        if repeated and runtime.applied():
            model.compile()
        return model

    def trainer(self, model: MultitaskBert, recipe: Recipe) -> PaddleTrainer:
        def objective(model, batch):
            return loss(model, model(batch), batch)

        return PaddleTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @paddle.no_grad()
    def encode(self, model: MultitaskBert, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        model.eval()
        return model.encode(paddle.to_tensor(ids), paddle.to_tensor(mask)).numpy()

    @paddle.no_grad()
    def outputs(self, model: MultitaskBert, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
        model.eval()
        return getattr(model, task)(*(paddle.to_tensor(e) for e in encoded)).numpy()


BACKEND = Backend()
