"""Funnel described to the engine. Imports no framework: builders are named here and imported when called."""

from __future__ import annotations

from dataclasses import replace

from splinter.align.port import Port, Side
from splinter.align.steps import STEPS
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


PORT = Port(
    name="funnel",
    modes=config.MODES,
    theirs=theirs,
    ours=ours,
    weights=config.weight_map,
    batches=cases.batches,
    train_batches=cases.train_batches,
    loss_cases=cases.loss_cases,
    readout=cases.readout,
    recipe=cases.recipe,
    features=(40, 133, 1040, 5463, 1, 32),
    data_sources=cases.data_sources,
    metric_cases=cases.metric_cases,
    # zero by algebra: they add one constant to a whole row of scores or logits, which softmax ignores
    zero_gradient=r"\.k_head\.bias$|^qa_outputs\.bias$|^funnel\.decoder\.layers\.1\.ffn\.layer_norm\.bias$",
    steps=STEPS,
    checkpoints={"tiny": cases.tiny, "base": cases.base},
    fetch=checkpoint.resolve,
    missing=cases.data_sources.missing,
    shared=SHARED,
)

FACTORIZED = replace(
    PORT,
    name="funnel-factorized",
    data_sources=lambda step, mode: [],
    metric_cases=lambda mode: {},
    steps=("forward", "backward"),
    checkpoints={"tiny": cases.tiny_factorized},
)
"""The other form of relative attention (appendix A.2.2), which no published checkpoint uses."""
