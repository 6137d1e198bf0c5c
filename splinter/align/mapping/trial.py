"""A map tried: our model, given the numbers and layer by layer the inputs of theirs, makes the same of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..driver import Driver
from ..framework import Arrays
from ..weights import WeightMap
from .inventory import places


@dataclass(frozen=True)
class Ready:
    """A model that may be run and, ours, filled: a copy.

    Args:
        forward: (model, batch of tensors) -> named outputs; those of both sides have the same names.
    """

    driver: Driver
    model: Any
    forward: Callable[[Any, Any], Mapping[str, Any]]

    def tensors(self) -> dict[str, Any]:
        """Parameters and buffers by every name that they go by."""
        every = {**self.driver.buffers(self.model), **self.driver.parameters(self.model)}
        names = places(self.driver.layers(self.model))
        return {alias: tensor for name, tensor in every.items() for alias in names.get(id(tensor), [name])}


def trial(theirs: Ready, ours: Ready, batch: Arrays, dtype: str = "float64") -> Callable[[WeightMap], dict[str, float]]:
    """What decides between maps: (map) -> our layer -> how far its output is from that of theirs.

    Every layer of ours that has a counterpart hands on what that one hands on, so that each is given the reference's
    own inputs, and a difference is that of the layer itself.

    Args:
        batch: what both are called with.
        dtype: models and batch are in it.
    """
    ours_by_name = ours.tensors()
    values = {name: theirs.driver.to_numpy(tensor) for name, tensor in theirs.tensors().items()}

    def run(weights: WeightMap) -> dict[str, float]:
        fed = {name: tensor for name, tensor in ours_by_name.items() if weights.rule_of(name)}
        used = {source: values[source] for link in weights.links(fed) for source in link.sources}
        for name, array in weights.convert(used, {name: tuple(t.shape) for name, t in fed.items()}, "theirs"):
            ours.driver.fill(fed[name], array)
        pairs = weights.modules(fed)
        back = {theirs_path: our_path for our_path, theirs_path in pairs.items()}
        seen, outputs = theirs.driver.trace(theirs.model, theirs.forward, batch, dtype, list(back))
        given = {_renamed(key, back): array for key, array in seen.items()}
        own, our_outputs = ours.driver.trace(ours.model, ours.forward, batch, dtype, list(pairs), put=given)
        found: dict[str, float] = {"": max((_far(outputs[n], our_outputs[n]) for n in outputs), default=0.0)}
        for key, array in own.items():
            path = key.partition("#")[0]
            if key in given:
                found[path] = max(found.get(path, 0.0), _far(given[key], array))
        return found

    return run


def _renamed(key: str, names: Mapping[str, str]) -> str:
    path, mark, rest = key.partition("#")
    return names[path] + mark + rest


def _far(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference, in units of the largest number; shapes that do not fit are infinitely far."""
    if theirs.shape != ours.shape:
        return np.inf
    return float(np.abs(theirs - ours).max(initial=0) / max(np.abs(theirs).max(initial=0), 1e-30))
