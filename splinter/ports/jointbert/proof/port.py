"""JointBERT described to the engine. Imports no framework: builders are named here and imported when called."""

from __future__ import annotations

from dataclasses import replace

from splinter.align.port import Port, Side
from splinter.align.steps import STEPS
from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.proof.shared import SHARED

from .. import config
from . import cases


def theirs(mode: str) -> Side:
    """The PyTorch reference."""
    from .theirs import side  # torch only from here on

    return side(mode)


def ours(mode: str) -> Side:
    """The Paddle port."""
    from .ours import side  # paddle only from here on

    return side(mode)


def weights(mode: str) -> WeightMap:
    """Their parameter names -> ours."""
    return config.weight_map(crf=mode == "crf")


PORT = Port(
    name="jointbert",
    modes=config.MODES,
    theirs=theirs,
    ours=ours,
    weights=weights,
    batches=cases.batches,
    train_batches=cases.train_batches,
    loss_cases=cases.loss_cases,
    readout=cases.readout,
    recipe=cases.recipe,
    features=(4478, 13084, 1, 31, 32, 33, 500),
    data_sources=cases.data_sources,
    metric_cases=cases.metric_cases,
    zero_gradient=r"\.key\.bias$",  # adds one constant to a whole row of scores, which softmax ignores
    steps=STEPS,
    checkpoints={"tiny": cases.tiny, "base": cases.base},
    fetch=checkpoint.resolve,
    missing=cases.data_sources.missing,
    shared=SHARED,
)

FORBIDDEN = replace(
    PORT,
    name="jointbert-forbidden",
    modes=("crf",),
    batches=cases.few_batches,
    train_batches=lambda folder, mode: cases.train_batches(folder, mode)[:4],
    data_sources=lambda step, mode: [],
    metric_cases=lambda mode: {},
    steps=("loss", "backward"),
    checkpoints={"tiny": cases.tiny_forbidden},
)
"""A CRF in which some labels may not follow others: it takes the plain form of its sums, as it does on every GPU."""
