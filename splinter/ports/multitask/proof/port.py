"""The multi-task model described to the engine. Imports no framework: builders are imported when called."""

from __future__ import annotations

from dataclasses import replace

from splinter.align.port import Port, Side
from splinter.align.steps import STEPS
from splinter.ports.common import checkpoint
from splinter.ports.common.proof.shared import SHARED

from .. import config
from . import cases


def theirs(mode: str, frozen: bool = False) -> Side:
    """The PyTorch reference, a twin written from the specification of the model."""
    from .theirs import side  # torch only from here on

    return side(mode, frozen)


def ours(mode: str, frozen: bool = False) -> Side:
    """The Paddle port."""
    from .ours import side  # paddle only from here on

    return side(mode, frozen)


PORT = Port(
    name="multitask",
    modes=config.MODES,
    theirs=theirs,
    ours=ours,
    weights=config.weight_map,
    batches=cases.batches,
    train_batches=cases.train_batches,
    loss_cases=cases.loss_cases,
    readout=cases.readout,
    recipe=cases.recipe,
    features=(240, 8544, 6040, 863, 1, 8),
    data_sources=cases.data_sources,
    metric_cases=cases.metric_cases,
    # zero by algebra: it adds one constant to a row of attention scores, which softmax ignores
    zero_gradient=r"\.key\.bias$",
    steps=STEPS,
    checkpoints={"tiny": cases.tiny, "base": cases.base},
    fetch=checkpoint.resolve,
    missing=cases.data_sources.missing,
    shared=SHARED,
)

OPTIONS = replace(
    PORT,
    name="multitask-options",
    modes=("version2",),
    train_batches=cases.task_batches,
    data_sources=lambda step, mode: [],
    metric_cases=lambda mode: {},
    steps=("forward", "backward"),
    checkpoints={"tiny": cases.tiny_options},
)
"""[CLS] for the pooler's output, pairs that are compared, heads without activation; updates see one task each."""

FROZEN = replace(
    PORT,
    name="multitask-frozen",
    modes=("version2",),
    theirs=lambda mode: theirs(mode, frozen=True),
    ours=lambda mode: ours(mode, frozen=True),
    recipe=lambda: cases.recipe("pretrain"),
    data_sources=lambda step, mode: [],
    metric_cases=lambda mode: {},
    zero_gradient=r"(?!)",  # none: only heads learn
    steps=("lr", "regularization", "backward", "training"),
    checkpoints={"tiny": cases.tiny},
)
"""The phase called pretrain: the encoder is frozen, only the heads learn. Its training draws a task for each update."""
