"""Ports that nobody here wrote: how a pair of the zoo is described. The pairs stand in foreign_*.py, a few lines each.

Reading a description costs nothing: a library is imported when one of its models is built.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Finding:
    """Why one check of a pair fails.

    Args:
        first: a piece of what the proof says of it: the place where it is seen first.
        cause: what the source of the port does, read there; one sentence.
        source: file and line, below the folder of the package.
        script: the name of the file in faults/ that shows it without this project; "" for a false alarm of ours.
    """

    first: str
    cause: str
    source: str
    script: str


@dataclass(frozen=True)
class Foreign:
    """A port and its original.

    Args:
        name: of the pair, as in the table.
        library: that the port is from; without it the pair is skipped.
        theirs: () -> the original, tiny and random.
        ours: () -> the port of it.
        batch: what both are called with: arrays by name, or in order.
        options: more for `prove`.
        findings: check -> what is known to be wrong with it; every other check passes.
        slow: it takes minutes, for it cannot be built small; runs with --slow.
        cannot: why the port cannot be proven at all, a piece of what is raised; "" where it can.
    """

    name: str
    library: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    batch: Mapping[str, Any] | list[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)
    cannot: str = ""
    slow: bool = False


def _name_operators() -> None:
    """Let torchvision's wheel from the index, made for CUDA, be imported beside a torch without: it asks for two
    operators by name, of which no model here makes use. `transformers` imports it wherever it is."""
    if not _KEPT and importlib.util.find_spec("torchvision") and "torchvision" not in sys.modules:
        import torch

        if not torch.cuda.is_available():
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _KEPT.append(library)


_KEPT: list[Any] = []
"""A library of operators goes when its object does."""


def built(library: str, model: str, **config: Any) -> Callable[[], Any]:
    """A function that builds a model of `transformers` or of a library in its likeness: configuration, then class."""

    def build() -> Any:
        _name_operators()
        kind = getattr(importlib.import_module(library), model)
        return kind(kind.config_class(**config))

    return build


def called(module: str, function: str, *arguments: Any, **named: Any) -> Callable[[], Any]:
    """A function that calls one of a module's, for libraries whose models have no configuration."""

    def build() -> Any:
        _name_operators()
        return getattr(importlib.import_module(module), function)(*arguments, **named)

    return build


# -- batches ----------------------------------------------------------------------------------------------


def ids(rows: int = 2, tokens: int = 9, words: int = 99, seed: int = 0) -> np.ndarray:
    """(rows, tokens) int64; none is below 6, where libraries have their special tokens."""
    return np.random.default_rng(seed).integers(6, words, size=(rows, tokens))


def mask(*lengths: int, tokens: int = 9) -> np.ndarray:
    """(rows, tokens) int64, ones as far as each row is long."""
    return (np.arange(tokens) < np.array(lengths)[:, None]).astype("int64")


PADDED = {"input_ids": ids(), "attention_mask": mask(9, 6)}
"""The second row is three tokens shorter. What the mask hides are words: the padding's own row, which many ports treat
in another way, is that of the pairs which name it."""
TYPES = (np.arange(9) > 4).astype("int64") * mask(9, 9)
TEXT = {**PADDED, "token_type_ids": TYPES}
PADDING = {**TEXT, "input_ids": ids() * mask(9, 6)}
"""The same with the padding's id, 0."""
WHOLE = {"input_ids": ids()}


def picture(size: int) -> np.ndarray:
    """(2, 3, size, size) float32."""
    return np.random.default_rng(0).standard_normal((2, 3, size, size)).astype("float32")
