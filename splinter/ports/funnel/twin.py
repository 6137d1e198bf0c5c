"""Funnel in torch: `transformers`' classes, unmodified, and the backend of its tasks.

One thing is lifted around them, and only for float64 models: FunnelRelMultiheadAttention rounds its scores to
float32 before the mask is taken off ("precision safe in case of mixed precision training"), which would stall
a float64 run at 1e-7. See `float64_scores`. The proof holds the Paddle model against them.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import FunnelForQuestionAnswering, FunnelForSequenceClassification
from transformers.modeling_outputs import BaseModelOutput

from splinter.align import torch_side
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.torch.train import TorchBackend, TorchTrainer
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from . import data

MODELS = {"classification": FunnelForSequenceClassification, "answering": FunnelForQuestionAnswering}


@contextlib.contextmanager
def float64_scores() -> Iterator[None]:
    """Let `.float()` leave float64 tensors alone, as long as a forward pass of the reference runs."""
    plain = torch.Tensor.float

    def lifted(self, *arguments, **more):
        return self if self.dtype == torch.float64 else plain(self, *arguments, **more)

    torch.Tensor.float = lifted
    try:
        yield
    finally:
        torch.Tensor.float = plain


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' warnings: that another task's head or the decoder stays behind is as it should be."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def forward(model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Logits of a batch: (B, N) classes, or start and end (B, T)."""
    with float64_scores(), warnings.catch_warnings():
        # 4.57 indexes with a list of slices; torch 2.13 warns of it at every pooling
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
        out = model(**{name: batch[name] for name in data.INPUTS})
    if isinstance(model, FunnelForSequenceClassification):
        return {"logits": out.logits}
    return {"start_logits": out.start_logits, "end_logits": out.end_logits}


class _Given(nn.Module):
    """Stands in for a part of the model, so that transformers' own loss code runs on injected logits."""

    def __init__(self, output: Any):
        super().__init__()
        self.output = output

    def forward(self, *arguments: Any, **more: Any) -> Any:
        return self.output


def loss(model: Any, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The reference's own loss of given logits, by putting them in place of its head."""
    classes = isinstance(model, FunnelForSequenceClassification)
    logits = outputs["logits"] if classes else torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1)
    head = "classifier" if classes else "qa_outputs"
    kept, encoder = getattr(model, head), model.funnel
    labels = {name: batch[name] for name in (("labels",) if classes else ("start_positions", "end_positions"))}
    if classes:  # its rule for the kind of problem, asked anew: it remembers the answer of the first batch
        model.num_labels, model.config.problem_type = logits.shape[-1], None
    try:
        setattr(model, head, _Given(logits))
        model.funnel = _Given(BaseModelOutput(last_hidden_state=torch.zeros(len(logits), 1, 1)))
        return model(input_ids=torch.zeros(len(logits), 1, dtype=torch.long), **labels).loss
    finally:
        setattr(model, head, kept)
        model.funnel = encoder


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of chfhf/funnel-paddle: no name with `bias` or `norm` in it (so r_kernel and seg_embed do decay)."""
    return [name for name in names if "bias" not in name and "norm" not in name]


class Backend(TorchBackend):
    """See `tasks.Backend`."""

    def open_model(self, folder: Path, mode: str, head: str, device: str = "auto") -> Any:
        chosen = configs.chosen_head(folder, mode, head)
        changes = {"num_labels": 2, "ignore_mismatched_sizes": True} if chosen == "fresh" else {}
        with quiet():
            model, report = MODELS[mode].from_pretrained(folder, output_loading_info=True, **changes)
        fresh: tuple[str, ...] = (*configs.HEADS[mode],) if chosen == "fresh" else ()
        if missing := [name for name in report["missing_keys"] if not name.startswith(fresh)]:
            raise CheckpointError(f"{folder} lacks the tensor {missing[0]!r}; transformers would leave it random")
        model.eval()
        if chosen == "fresh":
            (model.classifier if mode == "classification" else model.qa_outputs).apply(model._init_weights)
        model.head = chosen
        return self.placed(model, device)

    def trainer(self, model: Any, recipe: Recipe) -> TorchTrainer:
        def objective(model, batch):
            return loss(model, forward(model, batch), batch)

        return TorchTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @torch.no_grad()
    def logits(self, model: Any, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> dict[str, np.ndarray]:
        first = next(model.parameters())
        dtype = str(first.dtype).removeprefix("torch.")
        found: dict[str, list[np.ndarray]] = {}
        model.eval()
        for begin in range(0, len(columns["input_ids"]), batch_size):
            rows = {name: columns[name][begin : begin + batch_size] for name in data.INPUTS}
            tensors = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
            for name, tensor in forward(model, tensors).items():
                found.setdefault(name, []).append(tensor.cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


BACKEND = Backend()
