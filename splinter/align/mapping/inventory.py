"""What is known of one model before its weights have a map: tensors, who holds them, in which order layers run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..driver import Driver

KINDS = ("parameter", "constant", "buffer", "passing")
"""What an optimizer moves; a parameter that it does not; what else a checkpoint holds; what it does not hold."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a model.

    Args:
        holder: the class of the layer that holds it, by the name of its framework ("Linear" for one derived from it).
        aliases: other names, where several layers share it.
    """

    name: str
    shape: tuple[int, ...]
    holder: str = ""
    kind: str = "parameter"
    aliases: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Of the layer that holds it."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """Its name there."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Inventory:
    """One model.

    Args:
        framework: "torch" or "paddle"; decides in which order a Linear stores its axes.
        tensors: in the order of definition.
        ran: paths of layers in the order in which they first ran.
        idle: (names of tensors) -> those of them that provably have no effect on any output; by default none.
    """

    framework: str
    tensors: tuple[Tensor, ...]
    ran: tuple[str, ...] = ()
    idle: Callable[[Collection[str]], Collection[str]] = lambda names: ()

    @cached_property
    def order(self) -> dict[str, int]:
        """Path -> when it first ran."""
        return {path: k for k, path in enumerate(self.ran)}


def take_inventory(driver: Driver, model: Any, run: Callable[[], Any]) -> Inventory:
    """Look at a model while it runs; it runs again when tensors are asked to be idle.

    Args:
        run: makes one forward pass and returns the outputs that count: tensors or arrays, in dicts, tuples or lists.
    """
    layers = driver.layers(model)
    ran: dict[str, None] = {}
    hooks = [driver.hook(layer, _noted(ran, path)) for path, layer in layers.items()]
    try:
        outputs = _arrays(driver, run())
    finally:
        for hook in hooks:
            hook.remove()
    buffers, named = driver.buffers(model), places(layers)
    found = []
    every = {
        n: t for n, t in (driver.parameters(model) | buffers).items() if "float" in str(t.dtype)
    }  # bfloat16 as well
    for name, tensor in every.items():
        path = name.rpartition(".")[0]
        aliases = [other for other in named.get(id(tensor), ()) if other != name]
        kind = _kind(driver, layers[path], tensor, name in buffers)
        found.append(Tensor(name, tuple(tensor.shape), _holder(driver, layers[path]), kind, tuple(aliases)))
    order = {name: k for k, name in enumerate(name for names in named.values() for name in names)}
    found.sort(key=lambda tensor: order.get(tensor.name, -1))  # parameters and buffers as they were defined

    def idle(names: Collection[str]) -> list[str]:
        return _idle(driver, {name: every[name] for name in names}, run, outputs)

    return Inventory(driver.framework, tuple(found), tuple(ran), idle)


def _noted(ran: dict[str, None], path: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        ran.setdefault(path)

    return hook


def _arrays(driver: Driver, outputs: Any) -> list[np.ndarray]:
    """The arrays in whatever a pass returned."""
    if isinstance(outputs, driver.Tensor):
        return [driver.to_numpy(outputs)]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if isinstance(outputs, tuple | list):
        return [array for one in outputs for array in _arrays(driver, one)]
    return [outputs] if isinstance(outputs, np.ndarray) else []


def places(layers: Mapping[str, Any]) -> dict[int, list[str]]:
    """Tensor -> every name it goes by, in the order of definition; both frameworks keep them in these two dicts."""
    places: dict[int, list[str]] = {}
    for path, layer in layers.items():
        for leaf, tensor in {**layer._parameters, **layer._buffers}.items():
            if tensor is not None:
                places.setdefault(id(tensor), []).append(f"{path}.{leaf}" if path else leaf)
    return places


def _idle(driver: Driver, tensors: Mapping[str, Any], run: Callable[[], Any], outputs: list[np.ndarray]) -> list[str]:
    """Those of the tensors that no output notices the lack of: all tried at once, then halves of what is left."""
    if not tensors:
        return []
    kept = {name: driver.to_numpy(tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        driver.fill(tensor, np.full_like(kept[name], np.nan))
    try:
        after = _arrays(driver, run())
    finally:
        for name, tensor in tensors.items():
            driver.fill(tensor, kept[name])
    alike = (np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(outputs, after, strict=False))
    if len(after) == len(outputs) and all(alike):
        return list(tensors)
    names = list(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :]) if len(names) > 1 else ()
    return [name for half in halves for name in _idle(driver, {n: tensors[n] for n in half}, run, outputs)]


def _kind(driver: Driver, layer: Any, tensor: Any, buffer: bool) -> str:
    if buffer:
        return "passing" if any(tensor is table for table in driver.tables(layer)) else "buffer"
    return "parameter" if driver.learns(tensor) else "constant"


def _holder(driver: Driver, layer: Any) -> str:
    """The class of a layer, by its framework's name where it is derived from one of its own."""
    kinds = type(layer).__mro__
    own = (k.__name__ for k in kinds if k.__module__.startswith(driver.home) and k.__name__ not in ("Module", "Layer"))
    return next(own, kinds[0].__name__)
