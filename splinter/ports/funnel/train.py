"""Funnel's recipe in Paddle: loss, decayed weights, and the backend of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter.align import paddle_side
from splinter.ports.common.paddle.train import PaddleBackend, PaddleTrainer
from splinter.ports.common.training.schedule import Recipe

from . import data
from .config import chosen_head
from .model import MODELS


def forward(model: Any, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Logits of a batch: (B, N) classes, or start and end (B, T)."""
    out = model(*(batch[name] for name in data.INPUTS))
    return {"logits": out} if model.kind == "classification" else {"start_logits": out[0], "end_logits": out[1]}


def loss(model: Any, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """The model's loss of given logits."""
    return model.loss(*outputs.values(), *(batch[name] for name in data.TARGETS[model.kind]))


def decayed(names: Iterable[str]) -> list[str]:
    """All but biases, those of the scores included, and LayerNorm weights; by structured name."""
    return [name for name in names if not name.endswith("bias") and not name.endswith("layer_norm.weight")]


class Backend(PaddleBackend):
    """See `tasks.Backend`."""

    def open_model(self, folder: Path, mode: str, head: str, device: str = "auto") -> Any:
        self.place(device)
        fresh = {"num_labels": len(data.LABELS), "labels": ()}
        changes: dict[str, Any] = fresh if chosen_head(folder, mode, head) == "fresh" else {}
        return MODELS[mode].from_pretrained(folder, head=head, **changes)

    def trainer(self, model: Any, recipe: Recipe) -> PaddleTrainer:
        def objective(model, batch):
            return loss(model, forward(model, batch), batch)

        return PaddleTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @paddle.no_grad()
    def logits(self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> dict[str, np.ndarray]:
        dtype = str(next(iter(model.parameters())).dtype).removeprefix("paddle.")
        found: dict[str, list[np.ndarray]] = {}
        model.eval()
        for begin in range(0, len(columns["input_ids"]), batch_size):
            rows = {name: columns[name][begin : begin + batch_size] for name in data.INPUTS}
            for name, tensor in forward(model, paddle_side.from_numpy(rows, dtype)).items():
                found.setdefault(name, []).append(tensor.numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


BACKEND = Backend()
