"""Funnel's fine-tuning in Paddle: loss, decayed weights, trainer, logits, and the port's side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW, PaddleTrainer
from splinter.ports.common.paddle.train import gpus as gpus
from splinter.ports.common.paddle.train import seed as seed
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe, rates

from . import config, data, metric
from .config import chosen_head, read_checkpoint
from .model import FunnelForQuestionAnswering, FunnelForSequenceClassification
from .proof import cases

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
MODELS = {"classification": FunnelForSequenceClassification, "answering": FunnelForQuestionAnswering}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False):
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {} if dropout else dict(NO_DROPOUT)
    if fresh:
        model = MODELS[mode](read_checkpoint(folder, **changes)[0])
        model.eval()
        return model
    return MODELS[mode].from_pretrained(folder, **changes)


def open_model(folder: Path, mode: str, head: str, device: str = "auto"):
    """A model for work, with the dropout of its configuration; QNLI's two classes where its head is fresh."""
    if device != "auto":
        paddle.set_device(device)
    fresh = {"num_labels": len(data.LABELS), "labels": ()}
    changes: dict[str, Any] = fresh if chosen_head(folder, mode, head) == "fresh" else {}
    return MODELS[mode].from_pretrained(folder, head=head, **changes)


def save(model, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `checkpoint.write_model`."""
    model.write(folder, beside)


def forward(model, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Logits of a batch: (B, N) classes, or start and end (B, T)."""
    out = model(*(batch[name] for name in cases.INPUTS))
    return {"logits": out} if model.kind == "classification" else {"start_logits": out[0], "end_logits": out[1]}


def loss(model, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
    """The model's loss of given logits."""
    return model.loss(*outputs.values(), *(batch[name] for name in cases.LABELS[model.kind]))


def decayed(names: Iterable[str]) -> list[str]:
    """All but biases, those of the scores included, and LayerNorm weights; by structured name."""
    return [name for name in names if not name.endswith("bias") and not name.endswith("layer_norm.weight")]


def trainer(model, recipe: Recipe) -> PaddleTrainer:
    """A model in training by the recipe."""

    def objective(model, batch):
        return loss(model, forward(model, batch), batch)

    return PaddleTrainer(model, objective, recipe, decayed([n for n, _ in model.named_parameters()]))


@paddle.no_grad()
def logits(model, columns: Mapping[str, np.ndarray], batch_size: int = 16) -> dict[str, np.ndarray]:
    """Logits of all rows, (N, classes) or twice (N, T)."""
    dtype = str(next(iter(model.parameters())).dtype).removeprefix("paddle.")
    found: dict[str, list[np.ndarray]] = {}
    model.eval()
    for begin in range(0, len(columns["input_ids"]), batch_size):
        rows = {name: columns[name][begin : begin + batch_size] for name in cases.INPUTS}
        for name, tensor in forward(model, paddle_side.from_numpy(rows, dtype)).items():
            found.setdefault(name, []).append(tensor.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading; gold texts as strings."""
    source = cases.source(name)
    tokenizer = data.Tokenizer(source.vocabulary)
    if mode == "classification":
        return vars(data.pair_features(data.read_pairs(source.path), tokenizer, **source.sizes))
    examples = islice(data.read_examples(source.path, source.training), source.limit)
    kept, rows = data.concatenate(data.answer_features(examples, tokenizer, training=source.training, **source.sizes))
    found = {name: column for name, column in vars(rows).items() if column is not None}
    if not source.training:
        found["gold texts"] = np.array([json.dumps([one.id, one.answers]) for one in kept])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Our metric on hostile predictions, or our decoding of injected logits."""
    if case.startswith("accuracy"):
        return {"accuracy": np.float64(metric.accuracy(*cases.classes(case)))}
    if given is None:
        golds, texts, odds = cases.predictions()
        return {k: np.float64(v) for k, v in metric.score(golds, texts, odds).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end)


def decode(name: str, given: Mapping[str, np.ndarray], start, end) -> dict[str, np.ndarray]:
    """Candidates and answers of a data source from logits (N, T), and their scores."""
    source = cases.source(name)
    examples = list(islice(data.read_examples(source.path), source.limit))
    found = {}
    for number, rows in cases.rows_by_example(given).items():
        windows = [{"offsets": given["offsets"][row]} for row in rows]
        found[examples[number].id] = metric.decode(
            examples[number], windows, start[rows], end[rows], null=cases.has_null(name)
        )
    golds = {one.id: one.answers for one in examples}
    return cases.decoded_record(
        [[asdict(span) for span in one.spans] for one in found.values()],
        [one.odds for one in found.values()],
        [one.text() for one in found.values()],
        metric.evaluate(golds, found),
    )


@cache
def side(mode: str) -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.funnel.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=lambda: asdict(config.RECIPES[mode]),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=scores,
        train=lambda folder, dtype: train(folder, mode, dtype),
    )


def train(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by our own code. Batches are never trimmed."""
    model = paddle_side.cast(load(folder, mode), dtype)
    rows, hyper = columns(cases.TRAINING[mode], mode), cases.training_recipe(folder, mode)
    inputs = {name: rows[name] for name in (*cases.INPUTS, *cases.LABELS[mode])}
    log = fit(trainer(model, hyper), inputs, hyper)
    dev = columns(cases.EVALUATION[mode], mode)
    found = logits(model, dev)
    if mode == "classification":
        score = np.asarray(metric.accuracy(dev["labels"], found["logits"]))
        found["answers"] = found["logits"].argmax(-1)
        return cases.training_record(log, {"accuracy": score, **found}, dtype)
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, *found.values()), dtype)
