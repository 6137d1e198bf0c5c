"""JointBERT's recipe in Paddle: loss, decayed weights, and the backend of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter import runtime
from splinter.align import paddle_side
from splinter.ports.common.paddle.train import PaddleBackend, PaddleTrainer
from splinter.ports.common.training.feed import trim
from splinter.ports.common.training.schedule import Recipe

from .model import JointBert


def loss(model: JointBert, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """The model's loss of given logits."""
    logits = outputs["intent_logits"], outputs["slot_logits"]
    return model.loss(*logits, batch["intent_labels"], batch["slot_labels"], batch["attention_mask"])


def decayed(names: Iterable[str]) -> list[str]:
    """All but biases and LayerNorm weights, as in the reference; so the tensors of the CRF decay.

    By structured name. What Paddle hands to `apply_decay_param_fun` is the automatic name (`linear_0.w_0`),
    on which a rule about names decays everything or nothing.
    """
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


class Backend(PaddleBackend):
    """See `tasks.Backend`."""

    def open_model(
        self, folder: Path, heads: str, device: str = "auto", repeated: bool = False, **changes: Any
    ) -> JointBert:
        self.place(device)
        model = JointBert.from_pretrained(folder, heads=heads, **changes)
        if repeated and runtime.applied():
            model.compile()
        return model

    def trainer(self, model: JointBert, recipe: Recipe) -> PaddleTrainer:
        def objective(model, batch):
            intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            return loss(model, {"intent_logits": intent, "slot_logits": slot}, batch)

        return PaddleTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @paddle.no_grad()
    def predictions(
        self, model: JointBert, columns: Mapping[str, np.ndarray], batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        model.eval()
        dtype = str(model.bert.dtype).removeprefix("paddle.")
        intents, losses = [], []
        slots = np.zeros_like(columns["input_ids"])
        for begin in range(0, len(slots), batch_size):
            rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
            rows = rows if model.config.decode_padding else trim(rows)
            batch = paddle_side.from_numpy(rows, dtype)
            intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            losses.append(loss(model, {"intent_logits": intent, "slot_logits": slot}, batch).item())
            intents.append(intent.numpy())
            found = model.decode(slot, batch["attention_mask"]).numpy()
            slots[begin : begin + batch_size, : found.shape[1]] = found
        return {"intent_logits": np.concatenate(intents), "slots": slots, "loss": np.array(losses)}


BACKEND = Backend()
