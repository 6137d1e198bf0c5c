"""Splinter's few-shot recipe in Paddle: loss, decayed weights, and the backend of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import paddle

from splinter import runtime
from splinter.align import paddle_side
from splinter.ports.common import UsageError
from splinter.ports.common.paddle.train import PaddleBackend, PaddleTrainer
from splinter.ports.common.training.schedule import Recipe

from .model import SplinterForQuestionAnswering, SplinterModel


def forward(model: SplinterModel, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Start and end logits of a batch, with the padding filled."""
    extra = {"question_positions": batch["question_positions"]} if "question_positions" in batch else {}
    start, end = model(batch["input_ids"], batch["attention_mask"], token_type_ids=batch["token_type_ids"], **extra)
    return {"start_logits": start, "end_logits": end}


def loss(
    model: SplinterForQuestionAnswering, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]
) -> paddle.Tensor:
    """The model's loss of given logits."""
    start, end = outputs["start_logits"], outputs["end_logits"]
    return model.loss(start, end, batch["start_positions"], batch["end_positions"])


def decayed(names: Iterable[str]) -> list[str]:
    """All matrices: neither biases nor LayerNorm weights decay.

    By structured name. What Paddle hands to `apply_decay_param_fun` is the automatic name (`linear_0.w_0`),
    on which a rule about names decays everything or nothing.
    """
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


def refuse_bf16_on_cpu(model, precision: str) -> None:
    """There paddle 3.3.1 leaves auto_cast without effect (test_pretraining.py tells when that changes).

    Raises:
        UsageError: bf16 was asked for on a CPU.
    """
    if precision == "bf16" and model.bert.embeddings.word.weight.place.is_cpu_place():
        raise UsageError("--precision bf16 needs a GPU in Paddle; on a CPU --framework torch has it")


def widened(outputs: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Logits of a forward pass in bfloat16 as float32: the loss adds up hundreds of exponentials."""
    return {n: t.astype("float32") if t.dtype == paddle.bfloat16 else t for n, t in outputs.items()}


class Asked(PaddleBackend):
    """What answering and pretraining share of a backend: logits on request."""

    @paddle.no_grad()
    def logits(
        self, model: SplinterModel, columns: Mapping[str, np.ndarray], batch_size: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        model.eval()
        dtype = str(model.bert.dtype).removeprefix("paddle.")
        start, end = [], []
        for begin in range(0, len(columns["input_ids"]), batch_size):
            rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
            out = forward(model, paddle_side.from_numpy(rows, dtype))
            start.append(out["start_logits"].numpy())
            end.append(out["end_logits"].numpy())
        return np.concatenate(start), np.concatenate(end)


class Backend(Asked):
    """See `tasks.Backend`."""

    def open_model(
        self, folder: Path, mode: str, head: str, device: str = "auto", repeated: bool = False
    ) -> SplinterForQuestionAnswering:
        self.place(device)
        model = SplinterForQuestionAnswering.from_pretrained(folder, mode=mode, head=head)
        if repeated and runtime.applied():
            model.compile()
        return model

    def trainer(self, model: SplinterForQuestionAnswering, recipe: Recipe, precision: str = "float32") -> PaddleTrainer:
        refuse_bf16_on_cpu(model, precision)

        def objective(model, batch):
            return loss(model, widened(forward(model, batch)), batch)

        # in mode hf a label beyond the window is left out of the mean: a part of the rows has no fixed share of it
        paper = model.config.mode == "paper"
        names = decayed([n for n, _ in model.named_parameters()])
        return PaddleTrainer(model, objective, recipe, names, precision, mean_of_rows=paper)


BACKEND = Backend()
