"""The multi-task recipe in Paddle: trainer, encoding and heads for evaluation, and the port's side."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter import runtime
from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW, PaddleTrainer
from splinter.ports.common.paddle.train import gpus as gpus
from splinter.ports.common.paddle.train import seed as seed
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe, rates

from . import data, metric, model
from .config import TASKS, read_checkpoint
from .model import MultitaskBert
from .proof import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout_prob": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False, frozen: bool = False) -> MultitaskBert:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
        frozen: only the heads learn.
    """
    changes: dict[str, Any] = {} if dropout else dict(NO_DROPOUT)
    if fresh:
        made = MultitaskBert(read_checkpoint(folder, design=mode, **changes)[0])
        made.eval()
    else:
        made = MultitaskBert.from_pretrained(folder, design=mode, **changes)
    if frozen:
        made.freeze()
    return made


def open_model(folder: Path, head: str, device: str = "auto", repeated: bool = False, frozen: bool = False, **changes):
    """A model for work, with the dropout of its configuration.

    Args:
        repeated: many batches will follow, so compiling pays (unless the settings of `runtime` are off).
        frozen: only the heads will learn.
    """
    if device != "auto":
        paddle.set_device(device)
    made = MultitaskBert.from_pretrained(folder, head=head, **changes)
    if frozen:
        made.freeze()
    if repeated and runtime.applied():
        made.compile()
    return made


def save(made: MultitaskBert, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Write the model with what lies beside its weights; see `checkpoint.write_model`."""
    made.write(folder, beside)


def forward(made: MultitaskBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """The outputs of every task in the batch."""
    return made(batch)


def loss(made: MultitaskBert, outputs: Mapping[str, paddle.Tensor], batch: Mapping[str, paddle.Tensor]):
    """The sum of the tasks' losses."""
    return model.loss(outputs, batch)


def decayed(names: Iterable[str]) -> list[str]:
    """All matrices: neither biases nor LayerNorm weights decay."""
    return [name for name in names if not name.endswith(".bias") and not name.endswith("norm.weight")]


def trainer(made: MultitaskBert, recipe: Recipe) -> PaddleTrainer:
    """A model in training by the recipe."""

    def objective(made, batch):
        return loss(made, forward(made, batch), batch)

    return PaddleTrainer(made, objective, recipe, decayed([n for n, _ in made.named_parameters()]))


@paddle.no_grad()
def encode(made: MultitaskBert, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sentences (B, T) -> (B, D), dropout off."""
    made.eval()
    return made.encode(paddle.to_tensor(ids), paddle.to_tensor(mask)).numpy()


@paddle.no_grad()
def outputs(made: MultitaskBert, task: str, encoded: Sequence[np.ndarray]) -> np.ndarray:
    """A task's head on encoded sentences, (B, D) of each side."""
    made.eval()
    return getattr(made, task)(*(paddle.to_tensor(e) for e in encoded)).numpy()


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading."""
    source = cases.source(name)
    pieces = data.WordPieces(source.vocabulary, lower_case=True, python=True)
    found = data.load([source.path], source.task, pieces, source.longest)
    texts = data.read(source.path, source.task).texts
    made = cases.text_columns(source.task, found.ids, texts) | found.columns()
    for number, rows in enumerate(cases.collated(len(found))):
        made |= {f"batch {number}/{column}": array for column, array in found.batch(rows).items()}
    return made


def scores(case: str, mode: str) -> dict[str, np.ndarray]:
    """Our metric on injected outputs."""
    task, given, labels = cases.predictions(case)
    predicted = metric.decisions(task, given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if task == "similarity":
            return cases.metric_record(task, predicted, {"pearson": metric.pearson(predicted, labels)})
    found = {"accuracy": metric.accuracy(predicted, labels), "macro f1": metric.macro_f1(predicted, labels)}
    return cases.metric_record(task, predicted, found)


@cache
def side(mode: str, frozen: bool = False) -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.multitask.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode, frozen=frozen),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True, frozen=frozen),
        forward=forward,
        loss=loss,
        optimizer=AdamW,
        decayed=decayed,
        hyperparameters=lambda: asdict(cases.recipe()),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, mode),
        train=lambda folder, dtype: train(folder, mode, dtype, frozen),
    )


def train(folder: Path, mode: str, dtype: str, frozen: bool = False) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and scores by our own code."""
    made = paddle_side.cast(load(folder, mode, frozen=frozen), dtype)
    feed = cases.training_feed(folder, lambda name: columns(name, mode))
    log = fit(trainer(made, feed.recipe), feed, feed.recipe)
    found, values = {}, {}
    for task in TASKS:
        dev = cases.dataset(task, columns(f"sample/{task}-dev", mode))
        assert dev.labels is not None
        everything = np.arange(len(dev))
        found[task] = outputs(made, task, [encode(made, *some.padded(everything)) for some in dev.sides])
        values[task] = metric.score(task, metric.decisions(task, found[task]), dev.labels)
    return cases.training_record(log, found, values, dtype)
