"""Splinter's pretraining described to the engine. Imports no framework: builders are imported when called."""

from __future__ import annotations

from dataclasses import replace

from splinter.align.port import Port, Side
from splinter.ports.common.proof.shared import SHARED

from ...proof import cases as answering
from ...proof.port import ZERO_GRADIENT, fetch, weights
from . import cases


def theirs(mode: str) -> Side:
    """The PyTorch reference."""
    from .theirs import side  # torch only from here on

    return side(mode)


def ours(mode: str) -> Side:
    """The Paddle port."""
    from .ours import side  # paddle only from here on

    return side(mode)


PORT = Port(
    name="splinter-pretraining",
    modes=("paper",),
    theirs=theirs,
    ours=ours,
    weights=weights,
    batches=cases.batches,
    train_batches=lambda folder, mode: [cases.batches(folder, mode)["questions"]] * 20,
    loss_cases=cases.loss_cases,
    readout=answering.readout,
    recipe=cases.recipe,
    features=(61_257, 40_000, 1, 256, 257),
    data_sources=cases.data_sources,
    metric_cases=lambda mode: {},
    zero_gradient=ZERO_GRADIENT,
    steps=("forward", "loss", "lr", "optimizer", "regularization", "backward", "train_data", "training"),
    checkpoints={"tiny": answering.tiny},
    fetch=fetch,
    missing=cases.data_sources.missing,
    shared=(
        *SHARED,
        "the key from which the questions of a passage are drawn: seed, passage and epoch",
        "the score of held-out passages: span_accuracy, on passages mined by us",
    ),
)
"""Recurring span selection: objective and recipe of the paper, on text that is mined."""

HF = replace(
    PORT,
    name="splinter-pretraining-hf",
    modes=("hf",),
    recipe=answering.recipe,
    steps=("forward", "loss", "backward"),
)
"""The objective as transformers has it; nothing here trains with it."""
