"""Splinter's pretraining in Paddle: loss, and the backend of its task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle

from splinter.ports.common.paddle.train import PaddleTeam, PaddleTrainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Team

from .. import train as answering
from ..config import read_checkpoint
from .model import SplinterForPreTraining


def loss(
    model: SplinterForPreTraining, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]
) -> paddle.Tensor:
    """The model's loss of given logits."""
    start, end = outputs["start_logits"], outputs["end_logits"]
    return model.loss(start, end, batch["start_positions"], batch["end_positions"], weights=batch.get("weights"))


def changes_to(folder: Path, mode: str) -> dict[str, Any]:
    """The configuration fields in which pretraining differs from what a checkpoint says."""
    config = read_checkpoint(folder, mode=mode)[0].for_pretraining()
    return {name: getattr(config, name) for name in ("hidden_act", "head_layer_norm_eps")}


class Backend(answering.Asked):
    """See `tasks.Backend`."""

    def team(self) -> Team:
        return PaddleTeam()

    def open_model(self, folder: Path, device: str = "auto", dropout: float | None = None) -> SplinterForPreTraining:
        self.place(device)
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        changes = changes_to(folder, "paper") | ({} if dropout is None else dict.fromkeys(rates, dropout))
        return SplinterForPreTraining.from_pretrained(folder, mode="paper", **changes)

    def trainer(
        self,
        model: SplinterForPreTraining,
        recipe: Recipe,
        precision: str = "float32",
        team: Team | None = None,
    ) -> PaddleTrainer:
        answering.refuse_bf16_on_cpu(model, precision)

        def objective(model, batch):
            start, end = answering.widened(answering.forward(model, batch)).values()
            labels = batch["start_positions"], batch["end_positions"]
            return model.loss(start, end, *labels, weights=batch["weights"], total=1.0)

        names = answering.decayed([n for n, _ in model.named_parameters()])
        return PaddleTrainer(model, objective, recipe, names, precision, team or self.team())


BACKEND = Backend()
