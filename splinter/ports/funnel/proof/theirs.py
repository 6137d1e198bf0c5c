"""Funnel's reference as the engine sees it."""

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
from . import cases

NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False, **options: Any) -> Any:
    """A model in evaluation mode with the weights of a checkpoint.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
        options: fields of the configuration to change.

    Raises:
        ValueError: a tensor is missing, or has another shape.
    """
    changes = options | ({} if dropout else NO_DROPOUT)
    kind = twin.MODELS[mode]
    if fresh:
        return kind(kind.config_class.from_pretrained(folder, **changes)).eval()
    with twin.quiet():
        model, report = kind.from_pretrained(folder, output_loading_info=True, **changes)
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(f"{folder}: transformers misses {report['missing_keys']} {report['mismatched_keys']}")
    return model.eval()


def hyperparameters(mode: str) -> dict[str, Any]:
    """The recipes of docs/funnel.md, written a second time. They are decisions of this project: the authors publish
    none for these tasks in full, and what they use elsewhere differs (see the page)."""
    common: dict[str, Any] = {"warmup": 0.1, "min_steps": 0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6}
    common |= {"weight_decay": 0.0, "max_norm": 1.0, "max_steps": 0, "micro_batch": 0, "seed": 42}
    common |= {"schedule": "linear", "optimizer": "hf"}
    if mode == "classification":
        return {**common, "learning_rate": 2e-5, "epochs": 3, "batch_size": 32}
    return {**common, "learning_rate": 3e-5, "epochs": 2, "batch_size": 16}


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by transformers' tokenizer; gold texts as strings."""
    from . import reference_data  # here, not above: what transformers 5 lacks shall fail the steps that need it alone

    source = cases.source(name)
    if mode == "classification":
        return reference_data.pairs(source.path, source.vocabulary, **source.sizes)
    found = reference_data.windows(source.path, source.vocabulary, source.training, source.limit, **source.sizes)
    if not source.training:
        questions = reference_data.questions(source.path)[: source.limit]
        found["gold texts"] = np.array([json.dumps([one["id"], one["golds"]]) for one in questions])
    return found


def scores(case: str, given: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """transformers' scores of hostile predictions, or the twin's decoding of injected logits."""
    from . import reference_metric

    if case.startswith("accuracy"):
        return {"accuracy": np.float64(reference_metric.accuracy(*cases.classes(case)))}
    if given is None:
        return {k: np.float64(v) for k, v in reference_metric.evaluate(*cases.predictions()).items()}
    start, end = cases.injected_logits(given)
    return decode(case.removeprefix("decode "), given, start, end)


def decode(name: str, given: Mapping[str, np.ndarray], start, end) -> dict[str, np.ndarray]:
    """Candidates and answers of a data source from logits (N, T), and their scores."""
    from . import reference_data, reference_metric

    source, found = cases.source(name), {}
    questions = reference_data.questions(source.path)[: source.limit]
    for number, rows in files.rows_by_example(given).items():
        windows = [{"offsets": given["offsets"][row]} for row in rows]
        found[questions[number]["id"]] = reference_metric.decode(
            questions[number]["context"], windows, start[rows].tolist(), end[rows].tolist(), cases.has_null(name)
        )
    texts, odds = ({name: one[key] for name, one in found.items()} for key in ("text", "odds"))
    golds = {one["id"]: one["golds"] for one in questions}
    return cases.decoded_record(
        [one["entries"] for one in found.values()],
        list(odds.values()),
        list(texts.values()),
        reference_metric.evaluate(golds, texts, odds),
    )


@cache
def side(mode: str, **options: Any) -> Side:
    """The reference as the engine sees it.

    Args:
        options: fields of the configuration to change; such a side is neither trained nor used as a whole, for what
            does that opens the checkpoint as it is.
    """
    as_stored: dict[str, Any] = {
        "train": lambda folder, dtype: trained(folder, mode, dtype),
        "uses": lambda folder: uses(folder, mode),
    }
    return Side(
        framework="torch",
        sources=("transformers.models.funnel.modeling_funnel",),
        kind="transformers",
        load=lambda folder: load(folder, mode, **options),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True, **options),
        forward=twin.forward,
        loss=twin.loss,
        optimizer=AdamW,
        decayed=twin.decayed,
        hyperparameters=lambda: hyperparameters(mode),
        rates=linear_rates,
        data=lambda source: columns(source, mode),
        metric=scores,
        **({} if options else as_stored),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the reference says of a batch while it is trained."""
    models, batch = (load(folder, mode), load(folder, mode, dropout=True)), cases.batches(folder, mode)["padded"]
    return used(models, twin.forward, twin.loss, batch)


def trained(folder: Path, mode: str, dtype: str) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample, data, loop and decoding by the reference's own code; no batch is cut."""
    from . import reference_metric

    model = torch_side.cast(load(folder, mode), dtype)
    rows, hyper = columns(cases.TRAINING[mode], mode), cases.training_recipe(folder, mode)
    inputs = cases.model_inputs(rows, mode)
    log = loop.trained(side(mode), model, loop.epochs(inputs, hyper), len(inputs["input_ids"]), hyper, dtype)
    dev = columns(cases.EVALUATION[mode], mode)
    found = twin.BACKEND.logits(model, dev)
    if mode == "classification":
        score = np.asarray(reference_metric.accuracy(dev["labels"], found["logits"]))
        found["answers"] = found["logits"].argmax(-1)
        return cases.training_record(log, {"accuracy": score, **found}, dtype)
    return cases.training_record(log, decode(cases.EVALUATION[mode], dev, *found.values()), dtype)
