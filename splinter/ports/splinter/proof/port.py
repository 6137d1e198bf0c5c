"""Splinter described to the engine. Imports no framework: builders are named here and imported when called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    """Their parameter names -> ours; the twin has the names of the authors' checkpoints."""
    return config.weight_map("authors" if mode == "paper" else "transformers")


def fetch(name: str) -> Path:
    """The folder of a checkpoint with question-aware span selection."""
    folder = checkpoint.resolve(name)
    config.read_checkpoint(folder)[0].with_questions()
    return folder


def no_other(name: str) -> Path:
    """No folder: which gradients are zero depends on the number of layers."""
    raise checkpoint.CheckpointError(f"the plain head is aligned at size tiny alone, not with {name}")


# zero by algebra: they add one constant to a whole row of scores, which softmax ignores
ZERO_GRADIENT = r"\.key\.bias$|^cls\.(start|end)\.norm\.bias$"

PORT = Port(
    name="splinter",
    modes=config.MODES,
    theirs=theirs,
    ours=ours,
    weights=weights,
    batches=cases.batches,
    train_batches=cases.train_batches,
    loss_cases=cases.loss_cases,
    readout=cases.readout,
    recipe=cases.recipe,
    features=(17, 34, 65, 133, 258, 1040, 1, 12),
    data_sources=cases.data_sources,
    metric_cases=cases.metric_cases,
    zero_gradient=ZERO_GRADIENT,
    steps=STEPS,
    checkpoints={"tiny": cases.tiny, "base": cases.base},
    fetch=fetch,
    missing=cases.data_sources.missing,
    shared=SHARED,
)

PLAIN = replace(
    PORT,
    name="splinter-plain",
    modes=("paper",),
    # one constant for all tokens of a row, once more: of the scores, or of the states that they are linear in
    zero_gradient=r"\.key\.bias$|^cls\.scores\.bias$|^bert\.encoder\.1\.norm\.bias$",
    steps=("forward", "backward", "init"),
    checkpoints={"tiny": cases.plain},
    fetch=no_other,
)
"""The plain head that span selection is compared with; all that it shares with PORT is proven there."""
