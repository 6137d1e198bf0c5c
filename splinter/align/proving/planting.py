"""How a fault is planted: one instance of a model is changed in place, by an attribute, by its parameters, or by a
`forward` of its own. No class is touched, and what is planted goes along when the model is copied, cast or trained.

A plan is a function of one layer that changes it.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..driver import Driver
from ..port import Side

Layers = Mapping[str, Any]
Plan = Callable[[Any], None]


@dataclass(frozen=True)
class Fault:
    """One change to one instance of a model.

    Args:
        name: what is done, in a few words: "epsilon 1e-05 -> 1e-12".
        place: path of the layer; "" is the model itself.
        kind: faults of a kind differ by place or number.
        expected_steps: the steps that are about it, in any order.
        plant: (model) -> None, in place. The model is a throw-away copy.
        stage: which models it goes into: "loaded" holds the reference's weights, "built" is as its initialiser left
            it; "" means both.
    """

    name: str
    place: str
    kind: str
    expected_steps: tuple[str, ...]
    plant: Plan
    stage: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}, at {self.place or 'the model'}"

    def into(self, model: Any, stage: str) -> Any:
        """The model, with the fault where it belongs to that stage."""
        if self.stage in ("", stage):
            self.plant(model)
        return model


def planted(side: Side, fault: Fault) -> Side:
    """The side with the fault in every model that it loads or builds, after the weights are in."""
    return replace(
        side,
        load=lambda folder: fault.into(side.load(folder), "loaded"),
        build=lambda folder: fault.into(side.build(folder), "built"),
    )


def at(driver: Driver, path: str, plan: Plan) -> Plan:
    """The plan for the layer at a path of whichever model it is planted in."""
    return lambda model: plan(driver.layers(model)[path])


# What is changed on a layer


def around(change: Callable[..., Any]) -> Plan:
    """A forward of its own: change(layer, its forward until now, *what it is given)."""

    def plan(layer):
        until_now = layer.forward.__func__ if inspect.ismethod(layer.forward) else type(layer).forward

        @functools.wraps(until_now)  # callers look at the signature
        def forward(self, *given, **named):
            return change(self, functools.partial(until_now, self), *given, **named)

        layer.forward = types.MethodType(forward, layer)  # a copy of the model binds it to the copy

    return plan


def instead(function: Callable[[Any], Any]) -> Plan:
    """The layer computes another function of its first input."""
    return around(lambda self, plain, x, *given, **named: function(x))


def output(driver: Driver, change: Callable[[Any], Any]) -> Plan:
    """What a layer returns is changed, of several tensors the first."""
    return around(lambda self, plain, *given, **named: first(driver, plain(*given, **named), change))


def first(driver: Driver, output: Any, change: Callable[[Any], Any]) -> Any:
    """An output with its first tensor changed."""
    if isinstance(output, driver.Tensor):
        return change(output)
    if type(output) in (tuple, list) and output:
        return type(output)([first(driver, output[0], change), *output[1:]])
    return output


def during(name: str, change: Callable[[Any], Any]) -> Plan:
    """While a layer runs it finds another tensor in place of a parameter, which itself stays."""

    def run(self, plain, *given, **named):
        own = self._parameters[name]
        self._parameters[name] = change(own)
        try:
            return plain(*given, **named)
        finally:
            self._parameters[name] = own

    return around(run)


def argument(name: str, change: Callable[[Any], Any]) -> Plan:
    """One argument, however it is handed over, is changed where it is not None."""

    def plan(layer):
        signature = inspect.signature(layer.forward)

        def run(self, plain, *given, **named):
            bound = signature.bind(*given, **named)
            if bound.arguments.get(name) is not None:
                bound.arguments[name] = change(bound.arguments[name])
            return plain(*bound.args, **bound.kwargs)

        around(run)(layer)

    return plan


def attribute(name: str, value: Any) -> Plan:
    """An attribute of the layer."""
    return lambda layer: setattr(layer, name, value)


def numbers(driver: Driver, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Plan:
    """A parameter gets other numbers."""

    def plan(layer):
        parameter = layer._parameters[name]
        driver.fill(parameter, change(driver.to_numpy(parameter)))

    return plan


# Which layers are meant


def each_once(layers: Layers) -> dict[str, Any]:
    """Without the other paths of layers that stand in several places."""
    first_path = {id(layer): path for path, layer in reversed(list(layers.items()))}
    return {path: layer for path, layer in layers.items() if first_path[id(layer)] == path}


def ends(layers: Layers) -> dict[str, Any]:
    """Of each class the first and the last."""
    return _of_each_class(layers, lambda paths: {paths[0], paths[-1]})


def middle(layers: Layers) -> dict[str, Any]:
    """Of each class the one in the middle."""
    return _of_each_class(layers, lambda paths: {paths[len(paths) // 2]})


def _of_each_class(layers: Layers, choose: Callable[[list[str]], set[str]]) -> dict[str, Any]:
    by_class: dict[str, list[str]] = {}
    for path, layer in layers.items():
        by_class.setdefault(type(layer).__name__, []).append(path)
    chosen = set[str]().union(*map(choose, by_class.values()))
    return {path: layer for path, layer in layers.items() if path in chosen}


def owning(layers: Layers, name: str = "weight") -> dict[str, Any]:
    """The layers with a parameter of that name of their own."""
    return {path: layer for path, layer in layers.items() if layer._parameters.get(name) is not None}


def shape(layer: Any, name: str = "weight") -> tuple[int, ...]:
    """Of a layer's own parameter."""
    return tuple(layer._parameters[name].shape)


def of_class(layers: Layers, pattern: str) -> dict[str, Any]:
    """The layers whose class name fits."""
    return {path: layer for path, layer in layers.items() if re.search(pattern, type(layer).__name__)}


def called(layers: Layers, pattern: str) -> dict[str, Any]:
    """The layers that their parent calls so."""
    return {path: layer for path, layer in layers.items() if re.search(pattern, path.rpartition(".")[2])}


def blocks(layers: Layers) -> dict[str, Any]:
    """Layers that stand in a list and hold layers themselves: what a deep model repeats."""
    lists = [path for path, layer in layers.items() if re.search("List|Sequential", type(layer).__name__)]
    inside = {path: layer for path, layer in layers.items() if path and path.rpartition(".")[0] in lists}
    holders = {path.rpartition(".")[0] for path in layers if path}
    return {path: layer for path, layer in inside.items() if path in holders}


def number(layer: Any, names: Iterable[str]) -> tuple[str, float] | None:
    """The first of these attributes that is a number."""
    return next(((name, vars(layer)[name]) for name in names if isinstance(vars(layer).get(name), float)), None)


def accepts(layer: Any, pattern: str) -> list[str]:
    """Names of the forward's arguments that fit."""
    return [name for name in inspect.signature(layer.forward).parameters if re.search(pattern, name)]
