"""Splinter's port as the engine sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.proof import files
from splinter.ports.common.proof.ours import used
from splinter.ports.common.training.feed import Table, trim
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe, rates

from .. import data, metric, train
from ..config import read_checkpoint
from ..model import SplinterForQuestionAnswering
from . import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False) -> SplinterForQuestionAnswering:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = {} if dropout else NO_DROPOUT
    if fresh:
        model = SplinterForQuestionAnswering(read_checkpoint(folder, mode=mode, **changes)[0])
        model.eval()
        return model
    return SplinterForQuestionAnswering.from_pretrained(folder, mode=mode, **changes)


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by our own reading; of which question each row is; gold texts as strings."""
    source = cases.source(name)
    examples = list(data.read_examples(source.path, mode, source.training))
    tokenizer = data.Tokenizer(source.vocabulary, mode, lower_case=source.lower_case or None)
    blocks = data.features(examples, tokenizer, mode, training=source.training, block=source.block, **source.sizes)
    kept, rows = data.concatenate(blocks)
    found = {f.name: getattr(rows, f.name) for f in fields(rows) if isinstance(getattr(rows, f.name), np.ndarray)}
    found["questions"] = np.array([kept[number].id for number in rows.example_index])
    if not source.training:
        found["gold texts"] = np.array([json.dumps([e.id, e.answers]) for e in examples])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """Our metric on hostile predictions, or our decoding of injected logits."""
    if given is None:
        return {k: np.float64(v) for k, v in metric.evaluate(*cases.predictions(case)).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end, mode)


def decode(name: str, given: Mapping[str, np.ndarray], start, end, mode: str) -> dict[str, np.ndarray]:
    """n-best lists of a data source from logits (N, T), flattened, and the scores of the best."""
    source = cases.source(name)
    tokenizer = data.Tokenizer(source.vocabulary, mode, lower_case=source.lower_case or None)
    examples = cases.kept(data.read_examples(source.path, mode), given)
    spans = []
    for number, rows in files.rows_by_example(given).items():
        windows = [cases.row(given, row) for row in rows]
        if mode == "paper":
            logits = start[rows], end[rows]
            spans.append(metric.decode_paper(examples[number], windows, *logits, tokenizer.pieces, tokenizer.basic))
        else:
            spans.append(metric.decode_hf(examples[number], windows, start[rows], end[rows]))
    best = {examples[n].id: found[0].text for n, found in zip(files.rows_by_example(given), spans, strict=True)}
    flat = [[asdict(span) for span in found] for found in spans]
    for span in chain.from_iterable(flat) if mode == "paper" else ():
        del span["start_char"], span["end_char"]  # transformers' old code does not say where an answer stands
    return cases.decoded_record(flat, metric.evaluate({e.id: e.answers for e in examples}, best))


@cache
def side(mode: str) -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.splinter.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=train.forward,
        loss=train.loss,
        optimizer=AdamW,
        decayed=train.decayed,
        hyperparameters=lambda: asdict(Recipe()),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype),
        uses=lambda folder: uses(folder, mode),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the port says of a batch while it is trained."""
    opened = partial(train.BACKEND.open_model, folder, mode, "pretrained")
    batch = cases.batches(folder, mode)["padded"]

    def ask(model: SplinterForQuestionAnswering) -> dict[str, np.ndarray]:
        return dict(zip(("start_logits", "end_logits"), train.BACKEND.logits(model, batch), strict=True))

    recipe = cases.training_recipe(folder)
    return used(partial(load, folder, mode), opened, train.forward, ask, train.BACKEND, batch, recipe)


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole few-shot run on the shipped sample, in micro-batches where there are such; data and decoding by us."""
    model = paddle_side.cast(load(folder, mode), dtype)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode), labels=True)
    hyper = replace(cases.training_recipe(folder), micro_batch=5 if mode == "paper" else 0)
    log = fit(train.BACKEND.trainer(model, hyper), Table(inputs, hyper, prepare=trim), hyper)
    dev = columns(cases.EVALUATION[mode], mode)
    start, end = train.BACKEND.logits(model, cases.model_inputs(dev))
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, start, end, mode), dtype)
