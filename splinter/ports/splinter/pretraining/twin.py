"""Splinter's pretraining in torch: loss, and the backend of its task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splinter.ports.common.torch.train import TorchTeam, TorchTrainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import Team

from .. import twin as answering
from ..twin import PaperSplinter, labels_of


def paper_pretraining_loss(start, end, start_positions, end_positions, weights, total=None):
    """Weighted mean over all questions of the batch, 1e-5 in the denominator; or the sum divided by `total`."""

    def each(logits, labels):
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")

    weights = weights.flatten().to(start.dtype)
    losses = (each(start, start_positions) + each(end, end_positions)) / 2
    return (losses * weights).sum() / (weights.sum() + 1e-5 if total is None else total)


def loss(model: Any, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference's own loss of given logits."""
    start, end = outputs["start_logits"], outputs["end_logits"]
    if isinstance(model, PaperSplinter):
        return paper_pretraining_loss(start, end, **labels_of(batch), weights=batch["weights"])
    positions = torch.zeros(start.shape[:2], dtype=torch.long)
    return answering.transformers_loss(model, start, end, labels_of(batch), question_positions=positions)


class Backend(answering.Asked):
    """See `tasks.Backend`."""

    def team(self) -> Team:
        return TorchTeam()

    def open_model(self, folder: Path, device: str = "auto", dropout: float | None = None) -> PaperSplinter:
        model = answering.load(folder, "paper", "pretraining", dropout=True if dropout is None else dropout)
        return self.placed(model, device)

    def trainer(
        self, model: nn.Module, recipe: Recipe, precision: str = "float32", team: Team | None = None
    ) -> TorchTrainer:
        def objective(model, batch):
            start, end = answering.widened(answering.forward(model, batch)).values()
            labels = batch["start_positions"], batch["end_positions"]
            return paper_pretraining_loss(start, end, *labels, batch["weights"], total=1.0)

        names = answering.decayed([n for n, _ in model.named_parameters()])
        return TorchTrainer(model, objective, recipe, names, precision, team or self.team())


BACKEND = Backend()
