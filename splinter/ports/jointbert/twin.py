"""JointBERT in torch: a twin of monologg/JointBERT's model on transformers' BertModel, and the backend of its tasks.

The original needs transformers 3.0; heads, loss and decoding are written here from the paper and that model's
description, the CRF is pytorch-crf's own. The proof holds the Paddle model against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchcrf import CRF
from transformers import BertConfig, BertModel

from splinter.align import torch_side
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.torch.train import TorchBackend, TorchTrainer
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .config import JointConfig

HEADS = ("intent_classifier.", "slot_classifier.", "crf.")


class Classifier(nn.Module):
    """Dropout and a dense layer, as torch initialises it."""

    def __init__(self, width: int, labels: int, rate: float):
        super().__init__()
        self.dropout = nn.Dropout(rate)
        self.linear = nn.Linear(width, labels)

    def forward(self, x):
        return self.linear(self.dropout(x))


class JointBERT(nn.Module):
    """Encoder, two heads and on request a CRF; names of monologg's checkpoints."""

    def __init__(self, config: JointConfig):
        super().__init__()
        self.config = config
        values = {k: v for k, v in config.to_dict().items() if hasattr(BertConfig(), k)}
        self.bert = BertModel(BertConfig(**values, attn_implementation="eager"))
        self.intent_classifier = Classifier(config.hidden_size, len(config.intents), config.dropout_rate)
        self.slot_classifier = Classifier(config.hidden_size, len(config.slots), config.dropout_rate)
        if config.use_crf:
            self.crf = CRF(num_tags=len(config.slots), batch_first=True)

    def forward(self, input_ids, attention_mask, token_type_ids):
        """States (B, T, D), pooled (B, D), intent logits (B, I), slot logits (B, T, S)."""
        out = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        states, pooled = out.last_hidden_state, out.pooler_output
        return states, pooled, self.intent_classifier(pooled), self.slot_classifier(states)

    def loss(self, intent_logits, slot_logits, intent_labels, slot_labels, attention_mask):
        """Cross entropy of the intents plus the weighted slot loss."""
        intent_loss = nn.functional.cross_entropy(intent_logits, intent_labels)
        if self.config.use_crf:
            slot_loss = -self.crf(slot_logits, slot_labels, mask=attention_mask.bool(), reduction="mean")
        else:
            active = attention_mask.flatten() == 1
            rule = nn.CrossEntropyLoss(ignore_index=0)
            slot_loss = rule(slot_logits.flatten(0, 1)[active], slot_labels.flatten()[active])
        return intent_loss + self.config.slot_loss_coef * slot_loss

    def decode(self, slot_logits, attention_mask, padding=None):
        """Slot ids (B, T): argmax, or the CRF's path, 0 where it does not reach."""
        if not self.config.use_crf:
            return slot_logits.argmax(-1)
        padding = self.config.decode_padding if padding is None else padding
        return paths(self.crf, slot_logits, attention_mask >= 0 if padding else attention_mask == 1)


def paths(crf: CRF, emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """pytorch-crf's best paths as one array (B, T), 0 where the mask ends."""
    found = torch.zeros(emissions.shape[:2], dtype=torch.long, device=emissions.device)
    for row, path in enumerate(crf.decode(emissions, mask)):
        found[row, : len(path)] = torch.tensor(path)
    return found


def cut(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows without the padding that all have at their end, but for what fills up a multiple of 8 pieces."""
    end = 8 * int(np.ceil(rows["attention_mask"].sum(axis=1).max() / 8))
    return {name: column if column.ndim == 1 else column[:, :end] for name, column in rows.items()}


def build(folder: Path, heads: str, fresh: bool, **changes: Any) -> JointBERT:
    config, tensors, found = configs.read_checkpoint(folder, **changes)
    if heads == "pretrained" and not found:
        raise CheckpointError(
            f"{folder} is a BERT without intent and slot heads; splinter finetune --system jointbert gives it some"
        )
    if not config.intents:
        raise CheckpointError("the configuration names no labels; a JointBERT needs intents and slots")
    model = JointBERT(config)
    for name, parameter in model.named_parameters():
        if fresh or (heads == "fresh" and name.startswith(HEADS)):
            continue
        if name not in tensors:
            raise CheckpointError(f"{folder} lacks the tensor {name!r}; was it fine-tuned without the CRF?")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(tensors[name])))
    return model.eval()


def loss(model: JointBERT, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The twin's loss of given logits."""
    logits = outputs["intent_logits"], outputs["slot_logits"]
    return model.loss(*logits, batch["intent_labels"], batch["slot_labels"], batch["attention_mask"])


def decayed(names: Iterable[str]) -> list[str]:
    """monologg's rule: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


class Backend(TorchBackend):
    """See `tasks.Backend`."""

    def open_model(
        self, folder: Path, heads: str, device: str = "auto", repeated: bool = False, **changes: Any
    ) -> JointBERT:
        return self.placed(build(folder, heads, fresh=False, **changes), device)

    def trainer(self, model: JointBERT, recipe: Recipe) -> TorchTrainer:
        def objective(model, batch):
            _, _, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            return loss(model, {"intent_logits": intent, "slot_logits": slot}, batch)

        return TorchTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))

    @torch.no_grad()
    def predictions(
        self, model: JointBERT, columns: Mapping[str, np.ndarray], batch_size: int = 64
    ) -> dict[str, np.ndarray]:
        first = next(model.parameters())
        dtype = str(first.dtype).removeprefix("torch.")
        intents, losses = [], []
        slots = np.zeros_like(columns["input_ids"])
        model.eval()
        with torch_side.float64_softmax():
            for begin in range(0, len(slots), batch_size):
                rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
                rows = rows if model.config.decode_padding else cut(rows)
                batch = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
                _, _, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
                losses.append(loss(model, {"intent_logits": intent, "slot_logits": slot}, batch).item())
                intents.append(intent.cpu().numpy())
                found = model.decode(slot, batch["attention_mask"]).cpu().numpy()
                slots[begin : begin + batch_size, : found.shape[1]] = found
        return {"intent_logits": np.concatenate(intents), "slots": slots, "loss": np.array(losses)}


BACKEND = Backend()
