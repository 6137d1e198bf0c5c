"""The multi-task port as the engine sees it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.proof.ours import used
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import rates

from .. import data, metric, train
from ..config import RATES, RECIPE, TASKS, read_checkpoint
from ..model import MultitaskBert
from . import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout_prob": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False, frozen: bool = False) -> MultitaskBert:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
        frozen: only the heads learn.
    """
    changes: dict[str, Any] = {"design": mode, **({} if dropout else NO_DROPOUT)}
    if fresh:
        model = MultitaskBert(read_checkpoint(folder, **changes)[0])
        model.eval()
    else:
        model = MultitaskBert.from_pretrained(folder, **changes)
    if frozen:
        model.freeze()
    return model


def forward(model: MultitaskBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """The outputs of every task in the batch."""
    return model(batch)


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
        loss=train.loss,
        optimizer=AdamW,
        decayed=train.decayed,
        hyperparameters=lambda: asdict(replace(RECIPE, learning_rate=RATES["pretrain" if frozen else "finetune"])),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype, frozen),
        uses=lambda folder: uses(folder, mode, frozen),
    )


def answers(model: MultitaskBert, batch: Mapping[str, paddle.Tensor]) -> dict[str, paddle.Tensor]:
    """Sentence vectors and the outputs of every task, by plain calls."""
    vectors = {f"{prefix}vectors": model.encode(*text) for prefix, text in cases.texts(batch).items()}
    return {**vectors, **model(batch)}


def uses(folder: Path, mode: str, frozen: bool = False) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the port says of a batch while it is trained."""
    opened = partial(train.BACKEND.open_model, folder, "pretrained", frozen=frozen, design=mode)
    batch = cases.batches(folder, mode)["last"]

    def ask(model: MultitaskBert) -> dict[str, np.ndarray]:
        texts = cases.texts(batch).items()
        vectors = {f"{prefix}vectors": train.BACKEND.encode(model, *text) for prefix, text in texts}
        found = dict(vectors)
        for task in TASKS:
            model.train()  # the heads of a frozen encoder are asked straight after an update, of vectors that are kept
            found[task] = train.BACKEND.outputs(model, task, [v for n, v in vectors.items() if n.startswith(task)])
        return found

    recipe = cases.recipe()
    return used(partial(load, folder, mode, frozen=frozen), opened, answers, ask, train.BACKEND, batch, recipe)


def trained(folder: Path, mode: str, dtype: str, frozen: bool = False) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample; data, order of batches and scores by our own code."""
    model = paddle_side.cast(load(folder, mode, frozen=frozen), dtype)
    feed = cases.training_feed(folder, lambda name: columns(name, mode), frozen)
    log = fit(train.BACKEND.trainer(model, feed.recipe), feed, feed.recipe)
    found, values = {}, {}
    for task in TASKS:
        dev = cases.dataset(task, columns(f"sample/{task}-dev", mode))
        assert dev.labels is not None
        everything = np.arange(len(dev))
        encoded = [train.BACKEND.encode(model, *some.padded(everything)) for some in dev.texts]
        found[task] = train.BACKEND.outputs(model, task, encoded)
        values[task] = metric.score(task, metric.decisions(task, found[task]), dev.labels)
    return cases.training_record(log, found, values, dtype)
