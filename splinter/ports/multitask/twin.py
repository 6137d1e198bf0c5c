"""The multi-task model in torch: a twin on transformers' BertModel, and the backend of its tasks.

A twin, not an outside authority: the course publishes a skeleton without heads, and nobody else's model has these. It
is written from the specification; the encoder and the pooler are transformers' own. The proof holds the Paddle model
against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel

from splinter.align import torch_side
from splinter.ports.common.torch.train import TorchBackend, TorchTrainer
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .config import FILL, MultitaskConfig


class Twin(nn.Module):
    """Encoder and heads; torch's default law for the Linear layers of the heads."""

    head = "pretrained"

    def __init__(self, config: MultitaskConfig):
        super().__init__()
        self.config = config
        values = {k: v for k, v in config.to_dict().items() if hasattr(BertConfig(), k)}
        self.bert = BertModel(BertConfig(**values, attn_implementation="eager"))
        width, rate = config.hidden_size, config.head_dropout_prob
        self.sentiment_classifier = nn.Linear(width, config.sentiment_classes)
        if config.design == "version1":
            self.paraphrase_classifier = nn.Linear(2 * width, 1)
            self.similarity_classifier = nn.Linear(2 * width, 1)
        else:
            parts = {"concat": 2, "compare": 4}[config.pair_features]
            self.paraphrase_hidden, self.paraphrase_out = nn.Linear(parts * width, width), nn.Linear(width, 2)
            self.similarity_hidden, self.similarity_out = nn.Linear(width, width), nn.Linear(width, width)
        self.activation = nn.ReLU() if config.head_activation == "relu" else nn.Identity()
        self.dropout_of_sentiment, self.dropout_of_paraphrase = nn.Dropout(rate), nn.Dropout(rate)

    def freeze(self) -> None:
        """Only the heads learn."""
        self.bert.requires_grad_(False)

    def encode(self, ids, mask):
        """(B, T) -> (B, D). BertModel's own forward fills with the dtype's minimum instead of -10000; on sentences
        with a token the two give the same bits (exp of either is 0), but minBERT's is what is specified."""
        x = self.bert.embeddings(input_ids=ids)
        additive = (1.0 - mask.to(x.dtype))[:, None, None, :] * FILL
        states = self.bert.encoder(x, attention_mask=additive).last_hidden_state
        return self.bert.pooler(states) if self.config.pooling == "pooled" else states[:, 0]

    def sentiment(self, e):
        """(B, C) logits."""
        return self.sentiment_classifier(self.dropout_of_sentiment(e))

    def paraphrase(self, e1, e2):
        """(B, 2) logits, or in version 1 (B,) one."""
        pair = torch.cat([e1, e2], dim=-1)
        if self.config.design == "version1":
            return self.paraphrase_classifier(self.dropout_of_paraphrase(pair))[:, 0]
        if self.config.pair_features == "compare":
            pair = torch.cat([pair, torch.abs(e1 - e2), torch.mul(e1, e2)], dim=-1)
        return self.paraphrase_out(self.dropout_of_paraphrase(self.activation(self.paraphrase_hidden(pair))))

    def similarity(self, e1, e2):
        """(B,) scores."""
        if self.config.design == "version1":
            return self.similarity_classifier(torch.cat([e1, e2], dim=-1))[:, 0]
        first = self.similarity_out(self.activation(self.similarity_hidden(e1)))
        second = self.similarity_out(self.activation(self.similarity_hidden(e2)))
        return torch.einsum("bd,bd->b", first, second) / first.size(1) ** 0.5

    def forward(self, batch):
        """By task, for those in the batch."""
        found = {}
        for task, sides in (("sentiment", [""]), ("paraphrase", ["a_", "b_"]), ("similarity", ["a_", "b_"])):
            names = [f"{task}/{side}" for side in sides]
            if f"{names[0]}input_ids" in batch:
                encoded = [self.encode(batch[f"{n}input_ids"], batch[f"{n}attention_mask"]) for n in names]
                found[task] = getattr(self, task)(*encoded)
        return found


def build(folder: Path, head: str, fresh: bool = False, **changes: Any) -> Twin:
    """A model in evaluation mode.

    Args:
        head: see `MultitaskBert.from_pretrained`.
        fresh: leave all weights as the initialiser makes them.
        changes: configuration fields to change.

    Raises:
        CheckpointError, WeightError: with the file, the tensor and the way out.
    """
    config, tensors, missing = configs.read_checkpoint(folder, head, **changes)
    model = Twin(config)
    if not fresh:
        model.head = configs.which_head(head, missing, folder)
        left = tuple(f"{name}." for name in missing)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.startswith(left):
                    parameter.copy_(torch.from_numpy(np.array(tensors[name])))
    return model.eval()


def loss(model: Twin, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """torch's own losses: cross entropy and binary cross entropy as sum / nominal batch size, MSE as mean."""
    found = []
    for task in ("sentiment", "paraphrase"):
        if task in outputs:
            logits, labels = outputs[task], batch[f"{task}/labels"]
            if logits.dim() == 1:
                rule, labels = nn.functional.binary_cross_entropy_with_logits, labels.to(logits.dtype)
            else:
                rule = nn.functional.cross_entropy
            found.append(rule(logits, labels, reduction="sum") / batch["batch_size"])
    if "similarity" in outputs:
        found.append(nn.functional.mse_loss(outputs["similarity"], batch["similarity/labels"]))
    return torch.stack(found).sum()


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of transformers' scripts: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


class Backend(TorchBackend):
    """See `tasks.Backend`."""

    def open_model(
        self,
        folder: Path,
        head: str,
        device: str = "auto",
        repeated: bool = False,
        frozen: bool = False,
        **changes: Any,
    ) -> Twin:
        model = build(folder, head, **changes)
        if frozen:
            model.freeze()
        return self.placed(model, device)

    def trainer(self, model: Twin, recipe: Recipe) -> TorchTrainer:
        def objective(model, batch):
            return loss(model, model(batch), batch)

        return TorchTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @torch.no_grad()
    def encode(self, model: Twin, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        model.eval()
        device = model.sentiment_classifier.weight.device
        with torch_side.float64_softmax():
            return model.encode(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)).cpu().numpy()

    @torch.no_grad()
    def outputs(self, model: Twin, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
        model.eval()
        device = model.sentiment_classifier.weight.device
        return getattr(model, task)(*(torch.from_numpy(e).to(device) for e in encoded)).cpu().numpy()


BACKEND = Backend()
