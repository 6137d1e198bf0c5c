"""The PyTorch side of the multi-task model: a twin on transformers' BertModel, written from the specification.

A twin, not an outside authority: the course publishes a skeleton without heads, and nobody else's model has these.
What is transformers' own here: the encoder, the pooler, the tokenizer of the data steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import BertConfig, BertModel

from splinter.align import torch_side
from splinter.align.port import Side
from splinter.ports.common.checkpoint import write_model
from splinter.ports.common.torch.train import AdamW, TorchTrainer
from splinter.ports.common.torch.train import gpus as gpus
from splinter.ports.common.torch.train import seed as seed
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe

from . import config as configs
from .config import FILL, TASKS, MultitaskConfig
from .proof import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout_prob": 0.0}


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


# -- loading and running ----------------------------------------------------------------------------------


def load(
    folder: Path,
    dropout: bool = False,
    fresh: bool = False,
    frozen: bool = False,
    head: str = "pretrained",
    **changes: Any,
) -> Twin:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave all weights as the initialiser makes them.
        frozen: only the heads learn.
        head: see `MultitaskBert.from_pretrained`.
        changes: configuration fields to change.
    """
    config, tensors, missing = configs.read_checkpoint(folder, head, **({} if dropout else NO_DROPOUT), **changes)
    made = Twin(config)
    if not fresh:
        made.head = configs.which_head(head, missing, folder)
        left = tuple(f"{name}." for name in missing)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if not name.startswith(left):
                    parameter.copy_(torch.from_numpy(np.array(tensors[name])))
    if frozen:
        made.freeze()
    return made.eval()


def open_model(
    folder: Path, head: str, device: str = "auto", repeated: bool = False, frozen: bool = False, **changes: Any
) -> Twin:
    """A model for work, with the dropout of its configuration; on a GPU where there is one.

    Args:
        repeated: many batches will follow; makes no difference here.
    """
    made = load(folder, dropout=True, frozen=frozen, head=head, **changes)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return made.to(device.replace("gpu", "cuda"))


def save(made: Twin, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `write_model`."""
    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in made.named_parameters()}
    wanted = list(configs.shapes(made.config))
    shapes = {name: (arrays[name].shape, arrays[name].dtype.name) for name in wanted}
    write_model(folder, beside, shapes, lambda: ((name, arrays[name]) for name in wanted))


def forward(made: Twin, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of every task in the batch."""
    return made(batch)


def loss(made: Twin, outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
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


# -- the recipe -------------------------------------------------------------------------------------------


def decayed(names: Iterable[str]) -> list[str]:
    """The rule of transformers' scripts: neither `bias` nor `LayerNorm.weight` in the name."""
    return [name for name in names if "bias" not in name and "LayerNorm.weight" not in name]


def hyperparameters() -> dict[str, float]:
    """Defaults of the course's skeleton, restated (minBERT: multitask_classifier.py, optimizer.py)."""
    return {
        "learning_rate": 1e-5,
        "warmup": 0.0,
        "epochs": 10,
        "min_steps": 0,
        "batch_size": 8,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.0,
        "max_norm": 0.0,
    }


@cache
def rates(features: int, recipe: Recipe) -> list[float]:
    """What transformers' constant schedule gives each update, and 25 beyond the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = transformers.get_constant_schedule(optimizer)
    used = []
    for _ in range(-(-features // recipe.batch_size) * recipe.epochs + 25):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return used


def trainer(made: Twin, recipe: Recipe) -> TorchTrainer:
    """A model in training by the recipe."""

    def objective(made, batch):
        return loss(made, forward(made, batch), batch)

    return TorchTrainer(made, objective, recipe, decayed([n for n, _ in made.named_parameters()]))


@torch.no_grad()
def encode(made: Twin, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sentences (B, T) -> (B, D), dropout off."""
    made.eval()
    device = made.sentiment_classifier.weight.device
    with torch_side.float64_softmax():
        return made.encode(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)).cpu().numpy()


@torch.no_grad()
def outputs(made: Twin, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
    """A task's head on encoded sentences, (B, D) of each side."""
    made.eval()
    device = made.sentiment_classifier.weight.device
    return getattr(made, task)(*(torch.from_numpy(e).to(device) for e in encoded)).cpu().numpy()


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by the skeleton's reading restated and transformers' tokenizer."""
    from .proof import reference_data

    source = cases.source(name)
    ids, texts, found = reference_data.columns(
        source.path, source.task, source.vocabulary, source.longest, cases.collated
    )
    return cases.text_columns(source.task, ids, texts) | found


def scores(case: str, mode: str) -> dict[str, np.ndarray]:
    """scikit-learn's and scipy's metric on injected outputs."""
    from .proof import reference_metric

    task, given, labels = cases.predictions(case)
    if task == "similarity":
        return cases.metric_record(task, given, {"pearson": reference_metric.pearson(given, labels)})
    predicted = reference_metric.classes(given)
    found = {
        "accuracy": reference_metric.accuracy(predicted, labels),
        "macro f1": reference_metric.macro_f1(predicted, labels),
    }
    return cases.metric_record(task, predicted, found)


@cache
def side(mode: str, frozen: bool = False) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=(__name__, "transformers.models.bert.modeling_bert"),
        kind="twin",
        load=lambda folder: load(folder, frozen=frozen, design=mode),
        build=lambda folder: load(folder, dropout=True, fresh=True, frozen=frozen, design=mode),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=hyperparameters,
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, mode),
        train=lambda folder, dtype: train(folder, mode, dtype, frozen),
    )


def train(folder: Path, mode: str, dtype: str, frozen: bool = False) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and scores by the reference's own code."""
    from .proof import reference_metric

    made = torch_side.cast(load(folder, frozen=frozen, design=mode), dtype)
    feed = cases.training_feed(folder, lambda name: columns(name, mode))
    log = fit(trainer(made, feed.recipe), feed, feed.recipe)
    found, values = {}, {}
    for task in TASKS:
        dev = cases.dataset(task, columns(f"sample/{task}-dev", mode))
        everything = np.arange(len(dev))
        found[task] = outputs(made, task, [encode(made, *some.padded(everything)) for some in dev.sides])
        if task == "similarity":
            values[task] = reference_metric.pearson(found[task], dev.labels)
        else:
            values[task] = reference_metric.accuracy(reference_metric.classes(found[task]), dev.labels)
    return cases.training_record(log, found, values, dtype)
