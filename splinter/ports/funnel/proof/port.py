"""Funnel described to the engine. Imports no framework: builders are named here and imported when called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from splinter.align.port import Port, Side
from splinter.align.steps import STEPS
from splinter.ports.common import checkpoint
from splinter.ports.common.proof.shared import SHARED

from .. import config
from . import cases


def theirs(mode: str, **options: Any) -> Side:
    """The PyTorch reference; `options` are fields of the configuration to change."""
    from .theirs import side  # torch only from here on

    return side(mode, **options)


def ours(mode: str, **options: Any) -> Side:
    """The Paddle port; `options` are fields of the configuration to change."""
    from .ours import side  # paddle only from here on

    return side(mode, **options)


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


def variant(name: str, options: Mapping[str, Mapping[str, Any]]) -> Port:
    """Another form of the model: `options` are, by mode, fields of the configuration that both sides change."""
    return replace(
        PORT,
        name=name,
        modes=tuple(options),
        theirs=lambda mode: theirs(mode, **options[mode]),
        ours=lambda mode: ours(mode, **options[mode]),
        batches=cases.few_batches,
        train_batches=lambda folder, mode: cases.train_batches(folder, mode)[:6],
        data_sources=lambda step, mode: [],
        metric_cases=lambda mode: {},
        # measured: without a [CLS] of its own the few tokens of the last block may all be of one segment
        zero_gradient=None,
        steps=("forward", "backward"),
    )


FACTORIZED = replace(
    variant("funnel-factorized", cases.FACTORIZED),
    steps=("forward", "backward", "init"),
    checkpoints={"tiny": cases.tiny_factorized},
)
"""The other form of relative attention (appendix A.2.2), which no published checkpoint uses, with other options of
pooling; with one decoder layer and a law of its own for the matrices."""

OPTIONS = replace(variant("funnel-options", cases.OPTIONS), checkpoints={"tiny": cases.tiny})
"""Options of pooling that no published checkpoint uses, with the relative shift."""
