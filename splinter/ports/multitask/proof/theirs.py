"""The multi-task reference as the engine sees it.

What is transformers' own here: the encoder, the pooler, the schedule, and the tokenizer of the data steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from splinter.align import torch_side
from splinter.align.port import Side
from splinter.ports.common.proof import loop
from splinter.ports.common.proof.theirs import scheduled, used
from splinter.ports.common.torch.train import AdamW
from splinter.ports.common.training.schedule import Recipe

from .. import twin
from ..config import TASKS
from . import cases, reference_data, reference_metric

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "head_dropout_prob": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False, frozen: bool = False) -> twin.Twin:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
        frozen: only the heads learn.
    """
    changes: dict[str, Any] = {} if dropout else NO_DROPOUT
    model = twin.build(folder, "pretrained", fresh, design=mode, **changes)
    if frozen:
        model.freeze()
    return model


def forward(model: twin.Twin, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The outputs of every task in the batch."""
    return model(batch)


def hyperparameters(frozen: bool) -> dict[str, Any]:
    """Defaults of the course's skeleton, restated (minBERT: multitask_classifier.py, optimizer.py); its --option
    pretrain, the encoder frozen, has a rate of its own."""
    return {
        "learning_rate": 1e-3 if frozen else 1e-5,
        "warmup": 0.0,
        "epochs": 10,
        "min_steps": 0,
        "batch_size": 8,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.0,
        "max_norm": 0.0,
        "max_steps": 0,
        "seed": 11711,
        "schedule": "constant",
        "optimizer": "hf",
        "micro_batch": 0,
    }


@cache
def rates(features: int, recipe: Recipe) -> list[float]:
    """Those of transformers' constant schedule."""

    def build(optimizer: Any, warmup: int, total: int) -> Any:
        return transformers.get_constant_schedule_with_warmup(optimizer, warmup)

    return scheduled(build, features, recipe)


@cache
def columns(name: str, mode: str) -> dict[str, np.ndarray]:
    """A data source as columns, by the skeleton's reading restated and transformers' tokenizer."""
    source = cases.source(name)
    ids, texts, found = reference_data.columns(
        source.path, source.task, source.vocabulary, source.longest, cases.collated
    )
    return cases.text_columns(source.task, ids, texts) | found


def scores(case: str, mode: str) -> dict[str, np.ndarray]:
    """scikit-learn's and scipy's metric on injected outputs."""
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
        sources=(twin.__name__, "transformers.models.bert.modeling_bert"),
        kind="twin",
        load=lambda folder: load(folder, mode, frozen=frozen),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True, frozen=frozen),
        forward=forward,
        loss=twin.loss,
        optimizer=AdamW,
        decayed=twin.decayed,
        hyperparameters=lambda: hyperparameters(frozen),
        rates=rates,
        data=lambda source: columns(source, mode),
        metric=lambda case, given: scores(case, mode),
        train=lambda folder, dtype: trained(folder, mode, dtype, frozen),
        uses=lambda folder: uses(folder, mode, frozen),
    )


def answers(model: twin.Twin, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sentence vectors and the outputs of every task."""
    vectors = {f"{prefix}vectors": model.encode(*text) for prefix, text in cases.texts(batch).items()}
    return {**vectors, **model(batch)}


def uses(folder: Path, mode: str, frozen: bool = False) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the reference says of a batch while it is trained."""
    models = load(folder, mode, frozen=frozen), load(folder, mode, dropout=True, frozen=frozen)
    return used(models, answers, twin.loss, cases.batches(folder, mode)["last"])


def trained(folder: Path, mode: str, dtype: str, frozen: bool = False) -> dict[str, np.ndarray]:
    """One whole run on the shipped sample; data, order of batches, loop and scores by the reference's own code.

    Sentences of the evaluation are padded by our container, for both sides; the dev_data step compares that padding.
    """
    model = torch_side.cast(load(folder, mode, frozen=frozen), dtype)
    hyper, files = cases.training_recipe(folder), {task: columns(f"sample/{task}-train", mode) for task in TASKS}
    batches = reference_data.batches(files, cases.ROWS, hyper, *cases.sampling(frozen))
    log = loop.trained(side(mode, frozen), model, batches, cases.ROWS["sentiment"], hyper, dtype)
    found, values = {}, {}
    for task in TASKS:
        dev = cases.dataset(task, columns(f"sample/{task}-dev", mode))
        everything = np.arange(len(dev))
        encoded = [twin.BACKEND.encode(model, *some.padded(everything)) for some in dev.texts]
        found[task] = twin.BACKEND.outputs(model, task, encoded)
        if task == "similarity":
            values[task] = reference_metric.pearson(found[task], dev.labels)
        else:
            values[task] = reference_metric.accuracy(reference_metric.classes(found[task]), dev.labels)
    return cases.training_record(log, found, values, dtype)
