"""The references of Splinter's pretraining as the engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import torch_side
from splinter.align.port import Side
from splinter.ports.common.proof import loop
from splinter.ports.common.proof.theirs import used
from splinter.ports.common.torch.train import AdamW
from splinter.ports.common.training.schedule import Recipe

from ... import twin as answering
from ...proof.theirs import sources
from .. import twin
from . import cases, reference_mining


def hyperparameters() -> dict[str, Any]:
    """Those of the authors' pretraining (run_pretraining.py, optimization.py), restated; its updates and warm-up are
    2,400,000 and 10,000."""
    return {
        "learning_rate": 1e-4,
        "warmup": 10_000 / 2_400_000,
        "epochs": 1,
        "min_steps": 0,
        "batch_size": 256,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.01,
        "max_norm": 1.0,
        "max_steps": 0,
        "seed": 42,
        "schedule": "from-start",
        "optimizer": "bert",
        "micro_batch": 0,
    }


def rates(features: int, recipe: Recipe) -> list[float]:
    """BERT's schedule: polynomial decay of power 1 over all updates, overwritten by the warm-up while that lasts."""
    total, updates = loop.step_rule(features, recipe)
    warmup = int(total * recipe.warmup)
    found = []
    for update in range(updates + 25):
        decayed_rate = recipe.learning_rate * (1 - min(update, total) / total)
        found.append(recipe.learning_rate * update / warmup if update < warmup else decayed_rate)
    return found


@cache
def side(mode: str) -> Side:
    """The reference as the engine sees it."""
    return Side(
        framework="torch",
        sources=sources(mode),
        kind="twin" if mode == "paper" else "transformers",
        load=lambda folder: answering.load(folder, mode, "pretraining"),
        build=lambda folder: answering.load(folder, mode, "pretraining", dropout=True, fresh=True),
        forward=answering.forward,
        loss=twin.loss,
        optimizer=AdamW,
        decayed=answering.decayed,
        hyperparameters=hyperparameters,
        rates=rates,
        data=mined,
        train=trained,
        uses=lambda folder: uses(folder, mode),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the reference says of a batch while it is trained."""
    without, model = (answering.load(folder, mode, "pretraining", dropout=dropout) for dropout in (False, True))
    return used((without, model), answering.forward, twin.loss, cases.batches(folder, mode)["questions"])


def mined(source: str) -> dict[str, np.ndarray]:
    """A text as the arrays of a shard and as the inputs of its second epoch, by the plain restatement."""
    vocabulary, how = cases.settings(source)
    text, whole_words = cases.text(source), how.mode == "whole-word"
    found = reference_mining.columns(text, vocabulary, how.length, whole_words, how.passes, how.seed)
    feed = reference_mining.Feed(found, how.seed)
    inputs = feed.batch([feed.passage(number, 1) for number in range(feed.passages)])
    unlike = ("token_type_ids", "weights")  # one is added, the other made to add up to 1, when a batch is fed
    return found | {f"epoch 1/{name}": column for name, column in inputs.items() if name not in unlike}


def trained(folder: Path, dtype: str) -> dict[str, np.ndarray]:
    """One whole pretraining run on the shipped text, in whole batches.

    What it trains on is mined by the plain restatement, and so is the loop one; held-out passages are mined and scored
    by our own code, for both sides.
    """
    model = torch_side.cast(answering.load(folder, "paper", "pretraining"), dtype)
    hyper = replace(cases.training_recipe(folder), micro_batch=0)
    feed = reference_mining.Feed(mined("sample/train"), cases.settings("sample/train")[1].seed)
    log = loop.trained(side("paper"), model, feed.batches(hyper), feed.passages, hyper, dtype)
    return cases.training_record(log, twin.BACKEND, model, dtype)
