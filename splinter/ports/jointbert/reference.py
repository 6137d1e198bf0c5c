"""The PyTorch side of JointBERT: a twin of monologg/JointBERT's model on transformers' BertModel.

The original needs transformers 3.0; heads, loss and decoding are written here from the paper and that model's
description, the CRF is pytorch-crf's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchcrf import CRF
from transformers import BertConfig, BertModel

from splinter.align.port import Side
from splinter.ports import recipe as recipes
from splinter.ports.checkpoint import CheckpointError, write_model
from splinter.ports.recipe import Recipe
from splinter.ports.train_torch import AdamW, TorchTrainer, linear_rates
from splinter.ports.train_torch import gpus as gpus
from splinter.ports.train_torch import seed as seed

from . import cases
from . import config as configs
from .config import JointConfig

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "dropout_rate": 0.0}
HEADS = ("intent_classifier.", "slot_classifier.", "crf.")


# -- the twin ---------------------------------------------------------------------------------------------


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


# -- loading and running ----------------------------------------------------------------------------------


def _build(folder: Path, heads: str, fresh: bool, **changes: Any) -> JointBERT:
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


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False) -> JointBERT:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {} if dropout else NO_DROPOUT
    return _build(folder, "pretrained", fresh, use_crf=mode == "crf", **changes)


def open_model(folder: Path, heads: str, device: str = "auto", repeated: bool = False, **changes: Any) -> JointBERT:
    """A model for work, with the dropout of its configuration; on a GPU where there is one.

    Args:
        heads: "pretrained" or "fresh".
        repeated: many batches will follow; makes no difference here.
        changes: configuration fields to change.
    """
    model = _build(folder, heads, fresh=False, **changes)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device.replace("gpu", "cuda"))


def save(model: JointBERT, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `write_model`."""
    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in model.named_parameters()}
    shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    write_model(folder, beside, shapes, lambda: iter(arrays.items()))


def forward(model: JointBERT, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """States, pooled token, logits, and with a CRF the best paths without and with the padding."""
    states, pooled, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    out = {"states": states, "pooled": pooled, "intent_logits": intent, "slot_logits": slot}
    if model.config.use_crf:
        with torch.no_grad():
            for name, padding in (("path", False), ("path over padding", True)):
                out[name] = model.decode(slot, batch["attention_mask"], padding)
    return out


def loss(model: JointBERT, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The twin's loss of given logits."""
    logits = outputs["intent_logits"], outputs["slot_logits"]
    return model.loss(*logits, batch["intent_labels"], batch["slot_labels"], batch["attention_mask"])


# -- the recipe -------------------------------------------------------------------------------------------


def decayed(names: Iterable[str]) -> list[str]:
    """monologg's rule: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


def hyperparameters() -> dict[str, float]:
    """Defaults of monologg's main.py, restated."""
    return {
        "learning_rate": 5e-5,
        "warmup": 0.0,
        "epochs": 10,
        "min_steps": 0,
        "batch_size": 32,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_norm": 1.0,
    }


def trainer(model: JointBERT, recipe: Recipe) -> TorchTrainer:
    """A model in training by the recipe."""

    def objective(model, batch):
        _, _, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        return loss(model, {"intent_logits": intent, "slot_logits": slot}, batch)

    return TorchTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))


@torch.no_grad()
def predictions(model: JointBERT, columns: Mapping[str, np.ndarray], batch_size: int = 64) -> dict[str, np.ndarray]:
    """What the model says of N rows: intent_logits (N, I), slots (N, T), loss (batches,)."""
    from splinter.align import torch_side

    first = next(model.parameters())
    dtype = str(first.dtype).removeprefix("torch.")
    intents, losses = [], []
    slots = np.zeros_like(columns["input_ids"])
    model.eval()
    with torch_side.float64_softmax():
        for begin in range(0, len(slots), batch_size):
            rows = {name: column[begin : begin + batch_size] for name, column in columns.items()}
            rows = rows if model.config.decode_padding else recipes.trim(rows)
            batch = {n: t.to(first.device) for n, t in torch_side.from_numpy(rows, dtype).items()}
            _, _, intent, slot = model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
            losses.append(loss(model, {"intent_logits": intent, "slot_logits": slot}, batch).item())
            intents.append(intent.cpu().numpy())
            found = model.decode(slot, batch["attention_mask"]).cpu().numpy()
            slots[begin : begin + batch_size, : found.shape[1]] = found
    return {"intent_logits": np.concatenate(intents), "slots": slots, "loss": np.array(losses)}


# -- the eleven steps -------------------------------------------------------------------------------------


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by the Python tokenizer; label sets as strings."""
    from . import reference_data

    source = cases.source(name)
    found = reference_data.features(source.corpus, source.part, source.vocabulary, source.max_length)
    label_sets = (*reference_data.labels(source.corpus), *reference_data.built_labels(source.corpus))
    names = ("intents", "slots", "built intents", "built slots")
    return found | {name: np.array(labels) for name, labels in zip(names, label_sets, strict=True)}


def scored(found: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray], intents, slots):
    """Predicted intents and tags, and their scores, from ids."""
    from . import reference_metric

    gold, predicted = ([intents[int(i)] for i in ids] for ids in (rows["intent_labels"], found["intents"]))
    tags = [reference_metric.tags_at(ids, rows["slot_labels"], slots) for ids in (rows["slot_labels"], found["slots"])]
    return predicted, tags[1], reference_metric.evaluate(gold, predicted, *tags)


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """seqeval on hostile predictions, or torch's decoding of injected logits."""
    from . import reference_metric

    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions(case)).items()}
    logits, rows = cases.injected_logits(given, mode)
    intents, slots = given["intents"].tolist(), given["slots"].tolist()
    emissions, mask = torch.from_numpy(logits["slot_logits"]), torch.from_numpy(rows["attention_mask"]).bool()
    found = {"intents": torch.from_numpy(logits["intent_logits"]).argmax(-1).numpy()}
    found["slots"] = emissions.argmax(-1).numpy()
    extra = {}
    if mode == "crf":
        crf = CRF(len(slots), batch_first=True)
        crf.load_state_dict({name: torch.from_numpy(a) for name, a in cases.injected_crf(len(slots)).items()})
        with torch.no_grad():
            found["slots"] = paths(crf, emissions, mask).numpy()
            extra = {"path": found["slots"], "path over padding": paths(crf, emissions, torch.ones_like(mask)).numpy()}
    predicted, tags, values = scored(found, rows, intents, slots)
    return cases.decoded_record(predicted, tags, values, **extra)


@cache
def side(mode: str) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=(__name__, "transformers.models.bert.modeling_bert", *(("torchcrf",) if mode == "crf" else ())),
        kind="twin",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=hyperparameters,
        rates=linear_rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: train(folder, mode, dtype),
    )


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by the reference's own code."""
    from splinter.align import torch_side

    model = torch_side.cast(load(folder, mode), dtype)
    hyper = cases.training_recipe(folder)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode))
    log = recipes.fit(trainer(model, hyper), inputs, hyper, prepare=recipes.trim)
    dev = columns(cases.EVALUATION, mode)
    rows = cases.model_inputs(dev)
    predicted = predictions(model, rows, batch_size=8)
    found = {"intents": predicted["intent_logits"].argmax(axis=-1), "slots": predicted["slots"]}
    values = scored(found, rows, dev["intents"].tolist(), dev["slots"].tolist())[2]
    return cases.training_record(log, values, predicted, dtype)
