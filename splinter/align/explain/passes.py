"""A batch through both models: as they run, and ours with the outputs of the reference put in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import pairing
from ..compare import Narrowed, Tolerance
from ..port import Pair, Side
from . import kinds


def together(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Two intermediates in one shape; None where there is none."""
    shape = pairing.common_shape(theirs, ours)
    return None if shape is None else pairing.unmasked(pairing.fitted(theirs, shape), pairing.fitted(ours, shape))


def relative(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Largest difference over the largest number of the reference; infinite where they cannot be compared."""
    if theirs.shape != ours.shape or theirs.dtype.kind not in "fiub":
        return float("inf")
    if not theirs.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(theirs.astype(np.float64) - ours.astype(np.float64)).max()
    size = np.abs(theirs.astype(np.float64)).max()
    return float(difference / size if size else difference) if np.isfinite(difference) else float("inf")


class Passes:
    """One batch through both models of a pair: theirs, ours, and ours with the reference's outputs put in."""

    def __init__(self, pair: Pair, batch: str):
        batches = pair.port.batches(pair.folder, pair.mode)
        self.pair, self.name = pair, batch if batch in batches else next(iter(batches))
        self.batch = batches[self.name]
        self.modules = pair.modules  # our path -> their path
        self.theirs, self.ours = pair.model(pair.theirs), pair.model(pair.ours)
        to_ours = {their: our for our, their in self.modules.items()}
        inputs, outputs, their_end = self._run(pair.theirs, self.theirs, self.modules.values())
        self.their_inputs, self.their_outputs = (pairing.renamed(arrays, to_ours) for arrays in (inputs, outputs))
        self.own_inputs, own_outputs, end = self._run(pair.ours, self.ours, self.modules)
        beside = {our: their for their, our in pairing.paired(self.their_outputs, own_outputs)[0]}
        put = {
            our: pairing.fitted(self.their_outputs[their], own_outputs[our].shape)
            for our, their in beside.items()
            if together(self.their_outputs[their], own_outputs[our]) is not None
            and _fits(self.their_outputs[their], own_outputs[our])
        }
        self.inputs, forced, forced_end = self._run(pair.ours, self.ours, self.modules, put)
        self.propagated, self.alone = (
            {beside.get(key, key): array for key, array in outputs.items()} for outputs in (own_outputs, forced)
        )
        self.raw = their_end, end
        self.their_end, self.end, self.forced_end = (
            pair.port.readout(outputs, self.batch) for outputs in (their_end, end, forced_end)
        )
        masks = tuple(pair.port.padding(self.batch))
        for seen in ("their_inputs", "their_outputs", "own_inputs", "inputs", "propagated", "alone",
                     "their_end", "end", "forced_end"):  # fmt: skip
            setattr(self, seen, pairing.blanked(getattr(self, seen), masks))  # as the step has compared them

    def _run(self, side: Side, model: Any, paths: Iterable[str], put: Mapping[str, np.ndarray] | None = None):
        inputs: dict[str, np.ndarray] = {}
        forward, dtype = side.forward, self.pair.dtype
        return inputs, *side.driver.trace(model, forward, self.batch, dtype, list(paths), inputs, put)

    @cached_property
    def _kinds(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Layers of both by path, where their drivers tell them."""
        sides = (self.pair.theirs, self.theirs), (self.pair.ours, self.ours)
        theirs, ours = (side.driver.layers(model) if hasattr(side.driver, "layers") else {} for side, model in sides)
        return theirs, ours

    def label(self, name: str) -> str:
        """'layers.3.norm1 (LayerNorm against LayerNorm)'."""
        path = name.partition("#")[0]
        found = self._kinds[0].get(self.modules.get(path, "")), self._kinds[1].get(path)
        if path not in self.modules or None in found:
            return name
        return f"{name} ({' against '.join(type(layer).__name__ for layer in found)})"

    def before(self, name: str) -> dict[str, np.ndarray]:
        """What the layers that ran before one have made, in theirs and so in ours, in the order they ran."""
        names = list(self.their_outputs)
        return {one: self.their_outputs[one] for one in names[: names.index(name)]} if name in names else {}

    @cached_property
    def padded(self) -> tuple[str, np.ndarray] | None:
        """The batch's mask: its name, and where it marks padding."""
        return kinds.padding(self.batch)


def _fits(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether a reference's output can be put in place of one of ours: of its size, or fewer equal rows."""
    return theirs.size == ours.size or np.broadcast_shapes(theirs.shape, ours.shape) == ours.shape


@dataclass
class Limits:
    """What is a fault: an error beyond the tolerance, or beyond float32's where float32 is inside."""

    tolerance: Tolerance
    prefix: str
    narrowed: Narrowed | None = None

    def beyond(self, name: str, reference: np.ndarray, error: float | None) -> bool:
        """Whether a relative error of a tensor is a fault."""
        touched = self.narrowed is not None and not self.narrowed.untouched(self.prefix + name)
        tolerance = self.narrowed.tolerance if self.narrowed is not None and touched else self.tolerance
        return exceeds(tolerance, reference, error)


def exceeds(tolerance: Tolerance, reference: np.ndarray, error: float | None) -> bool:
    """Whether a relative error is more than a tolerance allows."""
    if error is None:
        return False
    if reference.dtype.kind != "f":
        return error != 0
    size = float(np.abs(reference.astype(np.float64)).max(initial=0))
    return error * (size or 1.0) > tolerance.atol + tolerance.rtol * size
