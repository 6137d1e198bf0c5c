"""Splinter's references as the engine sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import torch_side
from splinter.align.port import Side
from splinter.ports.common.proof import files, loop
from splinter.ports.common.proof.theirs import linear_rates, used
from splinter.ports.common.torch.train import AdamW

from .. import twin
from . import cases, reference_data, reference_metric


def hyperparameters() -> dict[str, Any]:
    """Defaults of the authors' script, restated (run_mrqa.py, argument parser and AdamW of transformers 2.9)."""
    return {
        "learning_rate": 3e-5,
        "warmup": 0.1,
        "epochs": 10,
        "min_steps": 200,
        "batch_size": 12,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_norm": 1.0,
        "max_steps": 0,
        "seed": 42,
        "schedule": "linear",
        "optimizer": "hf",
        "micro_batch": 0,
    }


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by transformers' own processing; gold texts as strings."""
    source = cases.source(name)
    convert = reference_data.paper_features if mode == "paper" else reference_data.hf_features
    found = convert(source.path, source.vocabulary, source.training, lower_case=source.lower_case, **source.sizes)
    found.pop("cls_index", None)  # always 0: [CLS] is the first piece
    if not source.training:
        golds = reference_data.golds(source.path, mode)
        found["gold texts"] = np.array([json.dumps([name, texts]) for name, texts in golds.items()])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None, mode: str) -> dict[str, np.ndarray]:
    """transformers' metric on hostile predictions, or its decoding of injected logits."""
    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions(case)).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end, mode)


def decode(name: str, given: Mapping[str, np.ndarray], start, end, mode: str) -> dict[str, np.ndarray]:
    """n-best lists of a data source from logits (N, T), flattened, and the scores of the best."""
    source, grouped = cases.source(name), files.rows_by_example(given)
    windows = [[cases.row(given, row) for row in rows] for rows in grouped.values()]
    starts, ends = ([logits[rows] for rows in grouped.values()] for logits in (start, end))
    examples = cases.kept(reference_data.decoding_examples(source.path, mode), given)
    if mode == "paper":
        vocabulary, lower_case = source.vocabulary, source.lower_case
        found = reference_metric.decode(examples, windows, starts, ends, vocabulary, lower_case=lower_case)
        spans = [found[example.id] for example in examples]
    else:
        spans = [
            reference_metric.decode_offsets(examples[number], *rest)
            for number, *rest in zip(grouped, windows, starts, ends, strict=True)
        ]
    best = {examples[number].id: found[0]["text"] for number, found in zip(grouped, spans, strict=True)}
    golds = {name: texts for name, texts in reference_data.golds(source.path, mode).items() if name in best}
    return cases.decoded_record(spans, reference_metric.evaluate(golds, best))


def sources(mode: str) -> tuple[str, ...]:
    """The modules of the reference."""
    if mode == "paper":
        return (twin.__name__, "transformers.models.bert.modeling_bert")
    return ("transformers.models.splinter.modeling_splinter",)


@cache
def side(mode: str) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=sources(mode),
        kind="twin" if mode == "paper" else "transformers",
        load=lambda folder: twin.load(folder, mode),
        build=lambda folder: twin.load(folder, mode, dropout=True, fresh=True),
        forward=twin.forward,
        loss=twin.loss,
        optimizer=AdamW,
        decayed=twin.decayed,
        hyperparameters=hyperparameters,
        rates=linear_rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, given, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype),
        uses=lambda folder: uses(folder, mode),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the reference says of a batch while it is trained."""
    models = twin.load(folder, mode), twin.load(folder, mode, dropout=True)
    return used(models, twin.forward, twin.loss, cases.batches(folder, mode)["padded"])


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole few-shot run on the shipped sample, whole batches of whole rows at once; data, loop
    and decoding by the reference's own.
    """
    model = torch_side.cast(twin.load(folder, mode), dtype)
    inputs = cases.model_inputs(columns(cases.TRAINING, mode), labels=True)
    hyper = cases.training_recipe(folder)
    rows = len(inputs["input_ids"])
    log = loop.trained(side(mode), model, loop.epochs(inputs, hyper), rows, hyper, dtype)
    dev = columns(cases.EVALUATION[mode], mode)
    start, end = twin.BACKEND.logits(model, cases.model_inputs(dev))
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, start, end, mode), dtype)
