"""Funnel's port as the engine sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.proof import files
from splinter.ports.common.proof.ours import used
from splinter.ports.common.training.feed import Table
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import rates

from .. import config, data, metric, tasks, train
from ..model import MODELS
from . import cases

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False, **options: Any) -> Any:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
        options: fields of the configuration to change.
    """
    changes: dict[str, Any] = options | ({} if dropout else NO_DROPOUT)
    if fresh:
        model = MODELS[mode](config.read_checkpoint(folder, **changes)[0])
        model.eval()
        return model
    return MODELS[mode].from_pretrained(folder, **changes)


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading; gold texts as strings."""
    source = cases.source(name)
    tokenizer = data.Tokenizer(source.vocabulary)
    if mode == "classification":
        return vars(data.pair_features(data.read_pairs(source.path), tokenizer, block=source.block, **source.sizes))
    examples = islice(data.read_examples(source.path, source.training), source.limit)
    blocks = data.answer_features(examples, tokenizer, training=source.training, block=source.block, **source.sizes)
    kept, rows = data.concatenate(blocks)
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
    for number, rows in files.rows_by_example(given).items():
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
def side(mode: str, **options: Any) -> Side:
    """The port as the engine sees it.

    Args:
        options: fields of the configuration to change; such a side is neither trained nor used as a whole, for what
            does that opens the checkpoint as it is.
    """
    as_stored: dict[str, Any] = {
        "train": lambda folder, dtype: trained(folder, mode, dtype),
        "uses": lambda folder: uses(folder, mode),
    }
    return Side(
        framework="paddle",
        sources=(
            "splinter.ports.funnel.model",
            "splinter.ports.funnel.encoder",
            "splinter.ports.common.paddle.encoder",
        ),
        kind="port",
        load=lambda folder: load(folder, mode, **options),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True, **options),
        forward=train.forward,
        loss=train.loss,
        optimizer=AdamW,
        decayed=train.decayed,
        hyperparameters=lambda: asdict(config.RECIPES[mode]),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=scores,
        **({} if options else as_stored),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the port says of a batch while it is trained."""
    opened = partial(train.BACKEND.open_model, folder, mode, "pretrained")
    batch = cases.batches(folder, mode)["padded"]
    ask = partial(train.BACKEND.logits, columns=batch)
    recipe = cases.training_recipe(folder, mode)
    return used(partial(load, folder, mode), opened, train.forward, ask, train.BACKEND, batch, recipe)


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data and decoding by our own code; batches cut as fine-tuning cuts them."""
    model = paddle_side.cast(load(folder, mode), dtype)
    rows, hyper = columns(cases.TRAINING[mode], mode), cases.training_recipe(folder, mode)
    cut = partial(tasks.trim, config=model.config) if mode == "classification" else dict
    feed = Table(cases.model_inputs(rows, mode), hyper, prepare=cut)
    log = fit(train.BACKEND.trainer(model, hyper), feed, hyper)
    dev = columns(cases.EVALUATION[mode], mode)
    found = train.BACKEND.logits(model, dev)
    if mode == "classification":
        score = np.asarray(metric.accuracy(dev["labels"], found["logits"]))
        found["answers"] = found["logits"].argmax(-1)
        return cases.training_record(log, {"accuracy": score, **found}, dtype)
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, *found.values()), dtype)
