"""Faults that are planted into anybody's port, one at a time: what a porter gets wrong, found from the modules.

Which of them apply is read from class names, attributes and parameters, the same in torch and in Paddle; what an
activation computes is measured, not read from its name. A fault changes one instance of a model in place, by an
attribute, by its parameters, or by a `forward` of its own on that instance; no class is touched. What is planted goes
along when the model is copied, cast or trained. `killing.py` runs the proof on each.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..driver import Driver
from ..port import Side

Layers = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """One change to one instance of a model.

    Args:
        name: what is done, in a few words: "epsilon 1e-05 -> 1e-12".
        place: path of the layer; "" is the model itself.
        kind: which of the kinds in `KINDS`; faults of a kind differ by place or number.
        expected_steps: the steps that are about it, in any order.
        plant: (model) -> None, in place. The model is a throw-away copy.
        stage: which models it goes into: "loaded" holds the reference's weights, "built" is as its initialiser left
            it; "" means both.
    """

    name: str
    place: str
    kind: str
    expected_steps: tuple[str, ...]
    plant: Callable[[Any], None]
    stage: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}, at {self.place or 'the model'}"


def planted(side: Side, fault: Fault) -> Side:
    """The side with the fault in every model that it loads or builds, after the weights are in."""

    def with_it(make: Callable[[Any], Any], stage: str) -> Callable[[Any], Any]:
        def made(folder):
            model = make(folder)
            fault.plant(model)
            return model

        return make if fault.stage not in ("", stage) else made

    return replace(side, load=with_it(side.load, "loaded"), build=with_it(side.build, "built"))


def plantable(driver: Driver, model: Any) -> list[Fault]:
    """The faults that apply to a model, in the order of `KINDS`; the model is only looked at.

    Of layers of one class the first, the last or the middle one is taken, so that a hundred layers have no more faults
    than two.
    """
    layers = _each_once(driver.layers(model))
    return [fault for kind in KINDS for fault in kind(driver, layers)]


def _each_once(layers: Layers) -> dict[str, Any]:
    first = {id(layer): path for path, layer in reversed(list(layers.items()))}
    return {path: layer for path, layer in layers.items() if first[id(layer)] == path}


# How something is changed on one instance


def _around(layer: Any, change: Callable[..., Any]) -> None:
    """Give an instance a forward of its own: change(layer, its forward until now, *what it is given)."""
    until_now = layer.forward.__func__ if inspect.ismethod(layer.forward) else type(layer).forward

    @functools.wraps(until_now)  # callers look at the signature
    def forward(self, *given, **named):
        return change(self, functools.partial(until_now, self), *given, **named)

    layer.forward = types.MethodType(forward, layer)  # a copy of the model binds it to the copy


def _output(driver: Driver, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A plan: what a layer returns is changed, of several tensors the first."""

    def plan(layer):
        _around(layer, lambda self, plain, *given, **named: _first(driver, plain(*given, **named), change))

    return plan


def _first(driver: Driver, output: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(output, driver.Tensor):
        return change(output)
    if type(output) in (tuple, list) and output:
        return type(output)([_first(driver, output[0], change), *output[1:]])
    return output


def _during(names: Iterable[str], change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A plan: while a layer runs it finds other tensors in place of its parameters, which themselves stay."""

    def run(self, plain, *given, **named):
        own = {name: self._parameters[name] for name in names}
        self._parameters.update({name: change(parameter) for name, parameter in own.items()})
        try:
            return plain(*given, **named)
        finally:
            self._parameters.update(own)

    return lambda layer: _around(layer, run)


def _argument(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A plan: one argument, however it is handed over, is changed where it is not None."""

    def plan(layer):
        signature = inspect.signature(layer.forward)

        def run(self, plain, *given, **named):
            bound = signature.bind(*given, **named)
            if bound.arguments.get(name) is not None:
                bound.arguments[name] = change(bound.arguments[name])
            return plain(*bound.args, **bound.kwargs)

        _around(layer, run)

    return plan


def _attributes(**values: Any) -> Callable[[Any], None]:
    """A plan: attributes of the layer."""

    def plan(layer):
        for name, value in values.items():
            setattr(layer, name, value)

    return plan


def _fills(driver: Driver, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    """A plan: a parameter gets other numbers."""

    def plan(layer):
        parameter = layer._parameters[name]
        driver.fill(parameter, change(driver.to_numpy(parameter)))

    return plan


def _at(driver: Driver, path: str, plan: Callable[[Any], None]) -> Callable[[Any], None]:
    """The plan for the layer at a path of whichever model it is planted in."""
    return lambda model: plan(driver.layers(model)[path])


# Which layers are meant


def _spread(layers: Layers, count: int = 2) -> dict[str, Any]:
    """Of each class the first, the last and the middle one, as many as asked for (1: the middle one)."""
    by_class: dict[str, list[str]] = {}
    for path, layer in layers.items():
        by_class.setdefault(type(layer).__name__, []).append(path)
    chosen = set()
    for paths in by_class.values():
        middle = paths[len(paths) // 2]
        chosen |= set([middle] if count == 1 else [paths[0], paths[-1], middle][:count])
    return {path: layer for path, layer in layers.items() if path in chosen}


def _middle(layers: Layers) -> dict[str, Any]:
    """The one in the middle, of whatever class."""
    return {path: layers[path] for path in list(layers)[len(layers) // 2 :][:1]}


def _owning(layers: Layers, name: str = "weight") -> dict[str, Any]:
    """The layers with a parameter of that name of their own."""
    return {path: layer for path, layer in layers.items() if layer._parameters.get(name) is not None}


def _named(layers: Layers, pattern: str) -> dict[str, Any]:
    """The layers whose class name fits."""
    return {path: layer for path, layer in layers.items() if re.search(pattern, type(layer).__name__)}


def _last(layers: Layers, pattern: str) -> dict[str, Any]:
    """The layers the last part of whose path fits."""
    return {path: layer for path, layer in layers.items() if re.search(pattern, path.rpartition(".")[2])}


def _number(layer: Any, names: Iterable[str]) -> tuple[str, float] | None:
    """The first of these attributes that is a number."""
    return next(((name, vars(layer)[name]) for name in names if isinstance(vars(layer).get(name), float)), None)


def _shape(layer: Any, name: str = "weight") -> tuple[int, ...]:
    """Shape of a parameter."""
    return tuple(layer._parameters[name].shape)


def _accepts(layer: Any, pattern: str) -> list[str]:
    """Names of the forward's arguments that fit."""
    return [name for name in inspect.signature(layer.forward).parameters if re.search(pattern, name)]


def _blocks(layers: Layers) -> dict[str, Any]:
    """Layers that stand in a list and hold layers themselves: what a deep model repeats."""
    lists = [path for path, layer in layers.items() if re.search("List|Sequential", type(layer).__name__)]
    inside = {path: layer for path, layer in layers.items() if path.rpartition(".")[0] in lists}
    return {path: layer for path, layer in inside.items() if any(other.startswith(f"{path}.") for other in layers)}


# The kinds


def _epsilons(driver: Driver, layers: Layers) -> Iterator[Fault]:
    found = {p: _number(x, ("eps", "epsilon", "_epsilon", "variance_epsilon")) for p, x in layers.items()}
    norms = {path: layer for path, layer in layers.items() if found[path]}
    for path in _spread(norms):
        name, value = found[path] or ("", 0.0)
        # ten times nothing is nothing: 1e-12 and 1e-11 are one number beside a variance near 1
        for other in {*([10 * value] if value > 1e-9 else []), 1e-12 if value > 1e-9 else 1e-5}:
            plant = _at(driver, path, _attributes(**{name: other}))
            yield Fault(f"epsilon {value:g} -> {other:g}", path, "epsilon", ("forward", "backward"), plant)


def _tanh_gelu(x: Any) -> Any:
    return 0.5 * x * (1 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh())


def _laws(driver: Driver) -> dict[str, Callable[[Any], Any]]:
    """Activations by name."""
    functional = driver.functional
    return {
        "gelu": functional.gelu,
        "gelu by tanh": _tanh_gelu,
        "relu": functional.relu,
        "silu": functional.silu,
        "tanh": lambda x: x.tanh(),
        "sigmoid": functional.sigmoid,
        "relu6": functional.relu6,
        "hardswish": functional.hardswish,
        "quick gelu": lambda x: x * functional.sigmoid(1.702 * x),
    }


EXCHANGED = {
    "gelu": ("gelu by tanh", "relu"),
    "gelu by tanh": ("gelu", "relu"),
    "relu": ("gelu",),
    "silu": ("gelu",),
    "tanh": ("sigmoid",),
    "sigmoid": ("tanh",),
    "relu6": ("relu",),
    "hardswish": ("silu",),
    "quick gelu": ("gelu",),
}
"""What each activation is confused with."""


def _law(driver: Driver, function: Callable[[Any], Any], laws: Mapping[str, Callable]) -> str:
    """The name of what a function computes; "" where it is none of these."""
    probe = np.linspace(-4, 8, 49)
    try:
        with driver.no_gradients():
            got = driver.to_numpy(function(driver.tensor(probe)))
            # gelu and its approximation are 5e-4 apart; constants kept in float32 cost 1e-7
            return next((n for n, law in laws.items() if _near(got, driver.to_numpy(law(driver.tensor(probe))))), "")
    except Exception:  # anything may stand there, and most of it takes no vector
        return ""


def _near(got: np.ndarray, law: np.ndarray) -> bool:
    return got.shape == law.shape and bool(np.abs(got - law).max() < 1e-6)


def _activations(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Layers without parameters that compute an activation, and functions kept as attributes."""
    laws = _laws(driver)
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}  # class, attribute, law -> (path, attribute)
    for path, layer in layers.items():
        for attribute, function in _functions(driver, layer):
            if law := _law(driver, function, laws):
                found.setdefault((type(layer).__name__, attribute, law), []).append((path, attribute))
    for (_, _, law), places in found.items():
        for number, (path, attribute) in enumerate(dict.fromkeys((places[0], places[-1]))):
            for other in EXCHANGED[law][: 2 - number]:
                kind = "gelu" if "tanh" in other + law and "gelu" in law else "activation"
                plan = _attributes(**{attribute: laws[other]}) if attribute else _instead(laws[other])
                yield Fault(f"{law} -> {other}", path, kind, ("forward", "backward"), _at(driver, path, plan))


def _functions(driver: Driver, layer: Any) -> Iterator[tuple[str, Callable]]:
    """What may be an activation: attribute ("" for the layer itself) and function."""
    bare = not layer._parameters and not layer._buffers and len(driver.layers(layer)) == 1
    if bare and not re.search("(?i)drop|pool", type(layer).__name__):
        yield "", layer
        return
    for name, value in vars(layer).items():
        if "act" in name and inspect.isroutine(value):
            yield name, value


def _instead(function: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A plan: the layer computes something else."""
    return lambda layer: _around(layer, lambda self, plain, x, *given, **named: function(x))


PROJECTION = "(_?(proj|projection|lin|linear|layer|dense))?$"
QUERY, KEY = f"^(q|query){PROJECTION}", f"^(k|key){PROJECTION}"
PACKED = r"^(in_proj|c_attn|qkv|qkv_proj|query_key_value|linear_qkv)$"


def _scales(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Scores of attention one in a thousand too large: by an attribute, or by what the queries are."""
    steps = ("forward", "backward")
    for path, layer in _spread(_named(layers, "(?i)attention|attn"), 1).items():
        if found := _number(layer, ("scale", "scaling", "_scale", "softmax_scale", "norm_factor", "inv_norm_factor")):
            plan = _attributes(**{found[0]: found[1] * 1.001})
            yield Fault(f"{found[0]} times 1.001", path, "scale", steps, _at(driver, path, plan))
    for path in _spread(_owning(_last(layers, QUERY)), 1):
        plan = _output(driver, lambda y: y * 1.001)
        yield Fault("queries times 1.001", path, "scale", steps, _at(driver, path, plan))
    for path in _spread(_owning(_last(layers, PACKED)), 1):
        plan = _output(driver, functools.partial(_scaled_third, driver))
        yield Fault("a third of the packed queries, keys, values times 1.001", path, "scale", steps,
                    _at(driver, path, plan))  # fmt: skip


def _scaled_third(driver: Driver, y: Any) -> Any:
    factor = np.ones(y.shape[-1])
    factor[: y.shape[-1] // 3] = 1.001
    return y * driver.like(factor, y)


def _open(driver: Driver, name: str, mask: Any) -> Any:
    """The mask that hides nothing: 0 where masks are added, False where they say what is padding, else 1."""
    if not isinstance(mask, driver.Tensor):
        return mask
    array = driver.to_numpy(mask)
    added = array.dtype.kind == "f" and not (array > 0).any()
    hides = added or (array.dtype.kind == "b" and "padding" in name)
    return driver.like(np.zeros_like(array) if hides else np.ones_like(array), mask)


def _masks(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A mask handed to the model, or to one attention in it, hides nothing any more."""
    attentions = {path: layer for path, layer in _named(layers, "(?i)attention|attn").items() if path}
    innermost = {p: x for p, x in attentions.items() if not any(other.startswith(f"{p}.") for other in attentions)}
    for path, layer in {**{"": layers[""]}, **_spread(innermost)}.items():
        for name in _accepts(layer, "mask(?!ed)"):
            if "head" in name:
                continue
            plan = _argument(name, functools.partial(_open, driver, name))
            yield Fault(f"{name} hides nothing", path, "mask", ("forward", "backward"), _at(driver, path, plan))


def _segments(driver: Driver, layers: Layers) -> Iterator[Fault]:
    for name in _accepts(layers[""], "token_type|segment"):
        plan = _argument(name, lambda ids: ids * 0)
        yield Fault(f"{name} all 0", "", "segments", ("forward", "backward"), _at(driver, "", plan))


def _biases(driver: Driver, layers: Layers) -> Iterator[Fault]:
    for path in _spread(_owning(layers, "bias"), 1):
        plan = _during(["bias"], lambda bias: bias.detach() * 0)
        yield Fault("bias dropped", path, "bias", ("forward", "backward"), _at(driver, path, plan))


def _affines(driver: Driver, layers: Layers) -> Iterator[Fault]:
    norms = _named(_owning(layers), "Norm")
    for path in _spread(norms, 1):
        plan = _during(["weight"], lambda weight: weight.detach() * 0 + 1)
        yield Fault("a norm's weight left out", path, "affine", ("forward", "backward"), _at(driver, path, plan))


def _swaps(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Weights of two layers of equal shape, q and k for instance, in each other's place."""
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    siblings: dict[tuple, list[str]] = {}
    for path, layer in _owning(layers).items():
        siblings.setdefault((path.rpartition(".")[0], type(layer).__name__, _shape(layer)), []).append(path)
    for (_, called, _), paths in siblings.items():
        asking = [path for path in paths if re.search(f"{QUERY}|{KEY}", path.rpartition(".")[2])]
        for kind, found in (("queries and keys", asking), ("", [p for p in paths if p not in asking])):
            if len(found) > 1:
                pairs.setdefault((kind, called), (found[0], found[1]))
    for (kind, _), (one, other) in pairs.items():
        name = f"weight exchanged with {other}" + (f" ({kind})" if kind else "")
        yield Fault(name, one, "swap", ("weights", "forward"), _exchange(driver, one, other), "loaded")


def _exchange(driver: Driver, one: str, other: str) -> Callable[[Any], None]:
    def plant(model):
        layers = driver.layers(model)
        weights = [layers[path]._parameters["weight"] for path in (one, other)]
        arrays = [driver.to_numpy(weight) for weight in weights]
        for weight, array in zip(weights, reversed(arrays), strict=True):
            driver.fill(weight, array)

    return plant


def _transposes(driver: Driver, layers: Layers) -> Iterator[Fault]:
    square = {p: x for p, x in _owning(layers).items() if len(_shape(x)) == 2 and len(set(_shape(x))) == 1}
    for path in _spread(square, 1):
        plan = _fills(driver, "weight", lambda array: np.ascontiguousarray(array.T))
        plant = _at(driver, path, plan)
        yield Fault("square weight transposed", path, "transpose", ("weights", "forward"), plant, "loaded")


def _residuals(driver: Driver, layers: Layers) -> Iterator[Fault]:
    steps = ("forward", "backward")
    takers = {path: layer for path, layer in layers.items() if path and _accepts(layer, "^(input_tensor|residual)$")}
    for path, layer in _spread(takers, 1).items():
        plan = _argument(_accepts(layer, "^(input_tensor|residual)$")[0], lambda x: x * 0)
        yield Fault("residual dropped", path, "residual", steps, _at(driver, path, plan))

    def without_input(self, plain, *given, **named):
        first = next((x for x in (*given, *named.values()) if isinstance(x, driver.Tensor)), None)

        def less(y):
            return y - first if first is not None and tuple(y.shape) == tuple(first.shape) else y

        return _first(driver, plain(*given, **named), less)

    for path in _spread(_blocks(layers)):
        plant = _at(driver, path, lambda layer: _around(layer, without_input))
        yield Fault("output less its input", path, "residual", steps, plant)


def _positions(driver: Driver, layers: Layers) -> Iterator[Fault]:
    tables = {p: x for p, x in _owning(layers).items() if len(_shape(x)) == 2 and re.search(POSITIONS, p)}

    def next_row(table):
        rows = np.minimum(np.arange(table.shape[0]) + 1, table.shape[0] - 1)
        return table[driver.tensor(rows)]

    for path in _spread(tables, 1):
        plant = _at(driver, path, _during(["weight"], next_row))
        yield Fault("positions shifted by one", path, "positions", ("forward", "backward"), plant)
    for path in _spread(_named(layers, "(?i)rotary|rope"), 1):
        plant = _at(driver, path, lambda layer: _around(layer, _backwards))
        yield Fault("rotates the other way", path, "positions", ("forward", "backward"), plant)


POSITIONS = r"(?i)(position|pos_emb|wpe|relative_attention_bias)[^.]*$"


def _backwards(self, plain, *given, **named):
    output = plain(*given, **named)
    return (output[0], -output[1]) if isinstance(output, tuple) and len(output) == 2 else output


def _gradients(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """The output stays, and what goes back through it does not."""
    plans = {
        "gradient cut": _output(driver, lambda y: y.detach()),
        "gradient doubled": _output(driver, lambda y: y + (y - y.detach())),
    }
    for path in {**_middle(_owning(layers)), **_spread(_blocks(layers), 1)}:
        for name, plan in plans.items():
            yield Fault(name, path, "gradient", ("backward",), _at(driver, path, plan))


def _frozen(driver: Driver, layers: Layers) -> Iterator[Fault]:
    owning = _owning(layers)
    for path in dict.fromkeys((*list(owning)[:1], *_middle(owning))):
        plant = _at(driver, path, lambda layer: driver.require_gradient(layer._parameters["weight"], False))
        yield Fault("weight takes no gradient", path, "frozen", ("backward",), plant)


def _statistics(driver: Driver, layers: Layers) -> Iterator[Fault]:
    def resting(self, plain, *given, **named):
        training, self.training = self.training, False
        try:
            return plain(*given, **named)
        finally:
            self.training = training

    for path, layer in _spread(_named(layers, "BatchNorm")).items():
        if found := _number(layer, ("momentum", "_momentum")):
            name, value = found
            plant = _at(driver, path, _attributes(**{name: 1 - value}))
            yield Fault(f"momentum {value:g} -> {1 - value:g}", path, "statistics", ("buffers",), plant)
            plant = _at(driver, path, lambda layer: _around(layer, resting))
            yield Fault("running statistics used in training", path, "statistics", ("buffers",), plant)


def _dropouts(driver: Driver, layers: Layers) -> Iterator[Fault]:
    steps = ("dropout",)
    dropouts = {path: layer for path, layer in _named(layers, "Dropout").items() if _number(layer, ("p",))}
    for path, layer in _spread(dropouts).items():
        for rate in (layer.p + 0.1 if layer.p < 0.9 else 0.5, *([0.0] if layer.p else [])):
            plant = _at(driver, path, _attributes(p=rate))
            yield Fault(f"dropout {layer.p:g} -> {rate:g}", path, "dropout", steps, plant)

    def always(x):
        return driver.functional.dropout(x, 0.1, training=True)

    for path in _spread(dropouts, 1):
        plant = _at(driver, path, _instead(always))
        yield Fault("dropout of 0.1 in evaluation too", path, "dropout", ("forward",), plant)
    for path, name in _rates(layers):
        rate = vars(layers[path])[name]
        plant = _at(driver, path, _attributes(**{name: rate + 0.1 if rate < 0.9 else 0.5}))
        yield Fault(f"{name} {rate:g} -> {rate + 0.1:g}", path, "dropout", steps, plant)


def _rates(layers: Layers) -> Iterator[tuple[str, str]]:
    """Rates that a layer keeps as a number and hands to a function: (path, attribute)."""
    for path, layer in _spread(layers, 1).items():
        for name, value in vars(layer).items():
            if (
                "drop" in name
                and not re.search("layer_?drop|path", name)
                and isinstance(value, float)
                and 0 <= value < 1
            ):
                yield path, name


def _paddings(driver: Driver, layers: Layers) -> Iterator[Fault]:
    for path, layer in _spread(_owning(layers)).items():
        name = next((name for name in ("padding_idx", "_padding_idx") if isinstance(vars(layer).get(name), int)), "")
        if not name or (row := vars(layer)[name]) == -1:  # Paddle's word for none
            continue
        none = None if name == "padding_idx" else -1
        plant = _at(driver, path, _attributes(**{name: none}))
        yield Fault(f"padding_idx {row} forgotten", path, "padding", ("forward", "backward"), plant)
        plan = _fills(driver, "weight", functools.partial(_row_drawn, row))
        yield Fault(f"row {row} of padding drawn", path, "padding", ("init",), _at(driver, path, plan), "built")


def _row_drawn(row: int, table: np.ndarray) -> np.ndarray:
    others = np.delete(table, row, axis=0)
    drawn = np.random.default_rng(0).normal(0, others.std() or 1, table.shape[1])
    return np.where(np.arange(len(table))[:, None] == row, drawn, table).astype(table.dtype)


def _ties(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A parameter that two layers share becomes two of equal numbers."""
    owner: dict[int, str] = {}
    for path, layer in layers.items():
        for name, parameter in layer._parameters.items():
            if parameter is None or owner.setdefault(id(parameter), path) == path:
                continue

            def untie(layer, name=name):
                layer._parameters[name] = copy.deepcopy(layer._parameters[name])

            called = f"{name} no longer tied to {owner[id(parameter)] or 'the model'}"
            yield Fault(called, path, "tie", ("weights", "backward"), _at(driver, path, untie))


def _initial(driver: Driver, layers: Layers) -> Iterator[Fault]:
    matrices = {path: layer for path, layer in _owning(layers).items() if len(_shape(layer)) > 1}
    for path in _spread(matrices, 1):
        plan = _fills(driver, "weight", lambda array: array / 2)
        yield Fault("drawn at half the deviation", path, "init", ("init",), _at(driver, path, plan), "built")
    for path in _spread(_owning(layers, "bias"), 1):
        plan = _fills(driver, "bias", lambda array: array + array.dtype.type(0.01))
        yield Fault("bias begins 0.01 higher", path, "init", ("init",), _at(driver, path, plan), "built")


KINDS: tuple[Callable[[Driver, Layers], Iterator[Fault]], ...] = (
    _epsilons,
    _activations,
    _scales,
    _masks,
    _segments,
    _biases,
    _affines,
    _swaps,
    _transposes,
    _residuals,
    _positions,
    _gradients,
    _frozen,
    _statistics,
    _dropouts,
    _paddings,
    _ties,
    _initial,
)
"""Functions (driver, layers by path, each once) -> faults."""
