"""Splinter's pretraining in Paddle as the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import paddle_side
from splinter.align.port import Side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.proof.ours import used
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import rates

from ... import train as answering
from ...config import read_checkpoint
from ...data import QUESTION_ID
from .. import objective, train
from ..corpus import records
from ..model import SplinterForPreTraining
from . import cases

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def load(folder: Path, mode: str, dropout: bool = False, fresh: bool = False) -> SplinterForPreTraining:
    """A model in evaluation mode.

    Args:
        dropout: keep the rates of the configuration (else 0).
        fresh: leave the weights as the initialiser makes them.
    """
    changes: dict[str, Any] = train.changes_to(folder, mode) | ({} if dropout else NO_DROPOUT)
    if fresh:
        model = SplinterForPreTraining(read_checkpoint(folder, mode=mode, **changes)[0])
        model.eval()
        return model
    return SplinterForPreTraining.from_pretrained(folder, mode=mode, **changes)


@cache
def side(mode: str) -> Side:
    """The port as the engine sees it."""
    return Side(
        framework="paddle",
        sources=("splinter.ports.splinter.model", "splinter.ports.common.paddle.encoder"),
        kind="port",
        load=lambda folder: load(folder, mode),
        build=lambda folder: load(folder, mode, dropout=True, fresh=True),
        forward=answering.forward,
        loss=train.loss,
        optimizer=AdamW,
        decayed=answering.decayed,
        hyperparameters=lambda: asdict(objective.RECIPE),
        rates=rates,
        data=mined,
        train=trained,
        uses=lambda folder: uses(folder, mode),
    )


def uses(folder: Path, mode: str) -> Mapping[str, Mapping[str, np.ndarray]]:
    """What the port says of a batch while it is trained."""
    opened, batch = partial(train.BACKEND.open_model, folder), cases.batches(folder, mode)["questions"]

    def ask(model: SplinterForPreTraining) -> dict[str, np.ndarray]:
        return dict(zip(("start_logits", "end_logits"), train.BACKEND.logits(model, batch), strict=True))

    recipe = cases.training_recipe(folder)
    return used(partial(load, folder, mode), opened, answering.forward, ask, train.BACKEND, batch, recipe)


def mined(source: str) -> dict[str, np.ndarray]:
    """A text as the arrays of its shard, by our own mining, and as the inputs of its second epoch."""
    made = cases.corpus(source)
    inputs = records(made, range(len(made)), 1, QUESTION_ID)
    inputs = {f"epoch 1/{name}": column for name, column in inputs.items() if name != "weights"}
    return {name: np.asarray(column, np.int64) for name, column in (made.shard(0) | inputs).items()}


def trained(folder: Path, dtype: str) -> dict[str, np.ndarray]:
    """One whole pretraining run on the shipped text."""
    model = paddle_side.cast(load(folder, "paper"), dtype)
    hyper = cases.training_recipe(folder)
    feed = objective.Passages(cases.corpus("sample/train"), hyper, model.config.question_token_id)
    log = fit(train.BACKEND.trainer(model, hyper), feed, hyper)
    return cases.training_record(log, train.BACKEND, model, dtype)
