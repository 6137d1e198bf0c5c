"""Faults for anybody's port: what porters get wrong, and where in a model it may be planted.

Which of them apply is read from class names, attributes and parameters, the same in torch and in Paddle; what an
activation computes is measured, not read from its name. `planting.py` says how, `killing.py` runs the proof on each.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..driver import Driver
from .planting import (
    Fault,
    Layers,
    Plan,
    accepts,
    argument,
    around,
    at,
    attribute,
    blocks,
    called,
    during,
    each_once,
    ends,
    first,
    instead,
    middle,
    number,
    numbers,
    of_class,
    output,
    owning,
    shape,
)

PASSES = ("forward", "backward")


def plantable(driver: Driver, model: Any) -> list[Fault]:
    """The faults that apply to a model, in the order of `KINDS`; the model is only looked at.

    Of layers of one class the first, the last or the middle one is taken, so that a hundred layers have no more faults
    than two.
    """
    layers = each_once(driver.layers(model))
    found = (fault for kind in KINDS for fault in kind(driver, layers))
    return [replace(fault, plant=at(driver, fault.place, fault.plant)) for fault in found]


# The kinds: each finds places, and plans for the layer that stands there


def epsilons(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """The number beside a variance."""
    found = {path: number(x, ("eps", "epsilon", "_epsilon", "variance_epsilon")) for path, x in layers.items()}
    for path in ends({path: layer for path, layer in layers.items() if found[path]}):
        name, value = found[path] or ("", 0.0)
        # ten times 1e-12 is nothing beside a variance near 1
        for other in (10 * value, 1e-12) if value > 1e-9 else (1e-5,):
            yield Fault(f"epsilon {value:g} -> {other:g}", path, "epsilon", PASSES, attribute(name, other))


def tanh_gelu(x: Any) -> Any:
    """The approximation of gelu."""
    return 0.5 * x * (1 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh())


def laws(driver: Driver) -> dict[str, Callable[[Any], Any]]:
    """Activations by name."""
    functional = driver.functional
    return {
        "gelu": functional.gelu,
        "gelu by tanh": tanh_gelu,
        "relu": functional.relu,
        "silu": functional.silu,
        "tanh": lambda x: x.tanh(),
        "sigmoid": functional.sigmoid,
        "relu6": functional.relu6,
        "hardswish": functional.hardswish,
        "quick gelu": lambda x: x * functional.sigmoid(1.702 * x),
    }


CONFUSED = {
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
"""What each activation is taken for."""


def activations(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Layers without parameters that compute an activation, and functions kept as attributes."""
    known = laws(driver)
    found: dict[tuple[str, str, str], list[str]] = {}  # class, attribute, law -> paths
    for path, layer in layers.items():
        for name, function in _functions(driver, layer):
            if law := _law(driver, function, known):
                found.setdefault((type(layer).__name__, name, law), []).append(path)
    for (_, name, law), paths in found.items():
        for path, others in {paths[-1]: CONFUSED[law][:1], paths[0]: CONFUSED[law]}.items():
            for other in others:
                kind = "gelu" if {law, other} == {"gelu", "gelu by tanh"} else "activation"
                plan = attribute(name, _of_first(known[other])) if name else instead(known[other])
                yield Fault(f"{law} -> {other}", path, kind, PASSES, plan)


def _of_first(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Whatever options it is called with."""
    return lambda x, *given, **named: function(x)


def _functions(driver: Driver, layer: Any) -> Iterator[tuple[str, Callable]]:
    """What may be an activation: attribute ("" for the layer itself) and function."""
    bare = not layer._parameters and not layer._buffers and len(driver.layers(layer)) == 1
    if bare and not re.search("(?i)drop|pool", type(layer).__name__):
        yield "", layer
        return
    for name, value in vars(layer).items():
        if "act" in name and inspect.isroutine(value):
            yield name, value


def _law(driver: Driver, function: Callable[[Any], Any], known: Mapping[str, Callable]) -> str:
    """The name of what a function computes; "" where it is none of these."""

    def values(one: Callable[[Any], Any]) -> np.ndarray:
        return driver.to_numpy(one(driver.tensor(np.linspace(-4, 8, 49))))

    try:
        with driver.no_gradients():
            got = values(function)
            # gelu and its approximation are 5e-4 apart; constants kept in float32 cost 1e-7
            return next((name for name, law in known.items() if _near(got, values(law))), "")
    except Exception:  # anything may stand there, and most of it takes no vector
        return ""


def _near(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and bool(np.abs(got - expected).max() < 1e-6)


PROJECTION = "(_?(proj|projection|lin|linear|layer|dense))?$"
QUERY, KEY = f"^(q|query){PROJECTION}", f"^(k|key){PROJECTION}"
PACKED = "^(in_proj|c_attn|qkv|qkv_proj|query_key_value|linear_qkv)$"
ATTENTION = "(?i)attention|attn"
SCALE = ("scale", "scaling", "_scale", "softmax_scale", "norm_factor", "inv_norm_factor")


def scales(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Scores of attention one in a thousand too large: by an attribute, or by what the queries are."""
    for path, layer in middle(of_class(layers, ATTENTION)).items():
        if found := number(layer, SCALE):
            name, value = found
            yield Fault(f"{name} times 1.001", path, "scale", PASSES, attribute(name, value * 1.001))
    for path in middle(owning(called(layers, QUERY))):
        yield Fault("queries times 1.001", path, "scale", PASSES, output(driver, lambda y: y * 1.001))
    for path in middle(owning(called(layers, PACKED))):
        plan = output(driver, functools.partial(_scaled_third, driver))
        yield Fault("first third of the packed projection times 1.001", path, "scale", PASSES, plan)


def _scaled_third(driver: Driver, y: Any) -> Any:
    factor = np.ones(y.shape[-1])
    factor[: y.shape[-1] // 3] = 1.001
    return y * driver.like(factor, y)


def masks(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A mask handed to the model, or to one attention in it, hides nothing, or is the first row's in every row."""
    attentions = {path: layer for path, layer in of_class(layers, ATTENTION).items() if path}
    innermost = {p: x for p, x in attentions.items() if not any(other.startswith(f"{p}.") for other in attentions)}
    changes = {"hides nothing": _open, "is the first row's for all": _first_row}
    for path, layer in {"": layers[""], **ends(innermost)}.items():
        for name in (name for name in accepts(layer, "mask(?!ed)") if "head" not in name):
            for what, change in changes.items() if not path else [*changes.items()][:1]:
                plan = argument(name, functools.partial(_changed, driver, functools.partial(change, name)))
                yield Fault(f"{name} {what}", path, "mask", PASSES, plan)


def _changed(driver: Driver, change: Callable[[np.ndarray], np.ndarray], mask: Any) -> Any:
    return driver.like(change(driver.to_numpy(mask)), mask) if isinstance(mask, driver.Tensor) else mask


def _open(name: str, mask: np.ndarray) -> np.ndarray:
    """0 where masks are added, False where they say what is padding, else 1."""
    added = mask.dtype.kind == "f" and not (mask > 0).any()
    return np.zeros_like(mask) if added or (mask.dtype.kind == "b" and "padding" in name) else np.ones_like(mask)


def _first_row(name: str, mask: np.ndarray) -> np.ndarray:
    return np.broadcast_to(mask[:1], mask.shape).copy()


def segments(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Kinds of tokens not looked at."""
    for name in accepts(layers[""], "token_type|segment"):
        yield Fault(f"{name} all 0", "", "segments", PASSES, argument(name, lambda ids: ids * 0))


def biases(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A layer runs as if it had none; the parameter is there."""
    for path in middle(owning(layers, "bias")):
        yield Fault("bias dropped", path, "bias", PASSES, during("bias", lambda bias: bias.detach() * 0))


def affines(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A norm without its weight."""
    for path in middle(of_class(owning(layers), "Norm")):
        plan = during("weight", lambda weight: weight.detach() * 0 + 1)
        yield Fault("weight of the norm left out", path, "affine", PASSES, plan)


def swaps(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Weights of two layers of equal shape and one parent, q and k for instance, in each other's place."""
    siblings: dict[tuple, list[str]] = {}
    for path, layer in owning(layers).items():
        parent, _, name = path.rpartition(".")
        asks = bool(re.search(f"{QUERY}|{KEY}", name))
        siblings.setdefault((parent, type(layer).__name__, shape(layer), asks), []).append(name)
    seen = set()
    for (parent, kind, _, asks), names in siblings.items():
        if len(names) > 1 and (kind, asks) not in seen:
            seen.add((kind, asks))
            plan = functools.partial(_exchange, driver, names[:2])
            yield Fault(f"weights of {names[0]} and {names[1]} exchanged", parent, "swap", WEIGHTS, plan, "loaded")


WEIGHTS = ("weights", "forward")


def _exchange(driver: Driver, names: list[str], parent: Any) -> None:
    layers = driver.layers(parent)
    weights = [layers[name]._parameters["weight"] for name in names]
    arrays = [driver.to_numpy(weight) for weight in weights]
    for weight, array in zip(weights, reversed(arrays), strict=True):
        driver.fill(weight, array)


def transposes(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """What only a square matrix survives."""
    square = {p: x for p, x in owning(layers).items() if len(shape(x)) == 2 and len(set(shape(x))) == 1}
    for path in middle(square):
        plan = numbers(driver, "weight", lambda array: np.ascontiguousarray(array.T))
        yield Fault("square weight transposed", path, "transpose", WEIGHTS, plan, "loaded")


def residuals(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A sum without one of its terms."""
    taken = "^(input_tensor|residual)$"
    for path, layer in middle({path: x for path, x in layers.items() if path and accepts(x, taken)}).items():
        plan = argument(accepts(layer, taken)[0], lambda x: x * 0)
        yield Fault("residual dropped", path, "residual", PASSES, plan)

    def without_input(self, plain, *given, **named):
        x = next((x for x in (*given, *named.values()) if isinstance(x, driver.Tensor)), None)
        less = lambda y: y - x if x is not None and tuple(y.shape) == tuple(x.shape) else y  # noqa: E731
        return first(driver, plain(*given, **named), less)

    for path in middle(blocks(layers)):
        yield Fault("output less its input", path, "residual", PASSES, around(without_input))


def positions(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Off by one, or the wrong way round."""
    names = r"(?i)(position|pos_emb|wpe|relative_attention_bias)[^.]*$"
    tables = {path: x for path, x in owning(layers).items() if len(shape(x)) == 2 and re.search(names, path)}

    def next_row(table):
        return table[driver.tensor(np.minimum(np.arange(table.shape[0]) + 1, table.shape[0] - 1))]

    for path in middle(tables):
        yield Fault("positions shifted by one", path, "positions", PASSES, during("weight", next_row))

    def backwards(self, plain, *given, **named):
        tables = plain(*given, **named)  # cos, sin
        return (tables[0], -tables[1]) if isinstance(tables, tuple) and len(tables) == 2 else tables

    for path in middle(of_class(layers, "(?i)rotary|rope")):
        yield Fault("rotates the other way", path, "positions", PASSES, around(backwards))


def gradients(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """The output stays, and what goes back through it does not."""
    plans = {
        "gradient cut": output(driver, lambda y: y.detach()),
        "gradient doubled": output(driver, lambda y: y + (y - y.detach())),
    }
    for path in dict.fromkeys([*_middle_of_all(owning(layers)), *_middle_of_all(blocks(layers))]):
        for name, plan in plans.items():
            yield Fault(name, path, "gradient", ("backward",), plan)


def _middle_of_all(layers: Layers) -> list[str]:
    return list(layers)[len(layers) // 2 :][:1]


def frozen(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A parameter that does not learn."""
    found = owning(layers)
    for path in dict.fromkeys([*list(found)[:1], *_middle_of_all(found)]):
        plan: Plan = lambda layer: driver.require_gradient(layer._parameters["weight"], False)  # noqa: E731
        yield Fault("weight takes no gradient", path, "frozen", ("backward",), plan)


def statistics(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """What a batch norm does in training."""

    def resting(self, plain, *given, **named):
        training, self.training = self.training, False
        try:
            return plain(*given, **named)
        finally:
            self.training = training

    for path, layer in ends(of_class(layers, "BatchNorm")).items():
        if found := number(layer, ("momentum", "_momentum")):
            name, value = found
            plan = attribute(name, 1 - value)
            yield Fault(f"momentum {value:g} -> {1 - value:g}", path, "statistics", ("backward",), plan)
            yield Fault("running statistics used in training", path, "statistics", ("backward",), around(resting))


def in_training(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A path that is taken in training alone."""

    def run(self, plain, *given, **named):
        more = 0.001 if self.training else 0.0
        # a norm behind it takes away what is the same factor everywhere
        return first(driver, plain(*given, **named), lambda y: y + more * (y + y.abs()))

    for path in _middle_of_all(blocks(layers) or owning(layers)):
        yield Fault("positive outputs times 1.002 in training", path, "training", ("backward", "dropout"), around(run))


def dropouts(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Another rate, never, always, twice."""
    steps = ("dropout",)
    found = {path: layer for path, layer in of_class(layers, "Dropout").items() if number(layer, ("p",))}
    for path, layer in ends(found).items():
        for rate in (_more(layer.p), *([0.0] if layer.p else [])):
            yield Fault(f"dropout {layer.p:g} -> {rate:g}", path, "dropout", steps, attribute("p", rate))
    for path in middle(found):
        always = instead(lambda x: driver.functional.dropout(x, 0.1, training=True))
        yield Fault("dropout of 0.1 in evaluation too", path, "dropout", ("forward",), always)
        twice = around(lambda self, plain, *given, **named: plain(plain(*given, **named)))
        yield Fault("dropped twice", path, "dropout", steps, twice)
    for path, layer in middle(layers).items():
        for name, rate in _rates(layer).items():
            yield Fault(f"{name} {rate:g} -> {_more(rate):g}", path, "dropout", steps, attribute(name, _more(rate)))


def _more(rate: float) -> float:
    return rate + 0.1 if rate < 0.9 else 0.5


def _rates(layer: Any) -> dict[str, float]:
    """Rates that a layer keeps as numbers and hands to a function."""
    names = [name for name in vars(layer) if "drop" in name and not re.search("layer_?drop|path", name)]
    rates = {name: vars(layer)[name] for name in names}
    return {name: rate for name, rate in rates.items() if isinstance(rate, float) and 0 <= rate < 1}


def paddings(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """The row of an embedding that stays as it is."""
    for path, layer in ends(owning(layers)).items():
        name = "padding_idx" if "padding_idx" in vars(layer) else "_padding_idx"
        row, none = vars(layer).get(name), None if name == "padding_idx" else -1  # Paddle's word for it
        if not isinstance(row, int) or row == none:
            continue
        yield Fault(f"padding_idx {row} forgotten", path, "padding", PASSES, attribute(name, none))
        plan = numbers(driver, "weight", functools.partial(_row_drawn, row))
        yield Fault(f"row {row} of padding drawn", path, "padding", ("init",), plan, "built")


def _row_drawn(row: int, table: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(0, table.std() or 1, table.shape[1])
    return np.where(np.arange(len(table))[:, None] == row, drawn, table).astype(table.dtype)


def ties(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """A parameter that two layers share becomes two of equal numbers."""
    owner: dict[int, str] = {}
    for path, layer in layers.items():
        for name, parameter in layer._parameters.items():
            if parameter is not None and (other := owner.setdefault(id(parameter), path)) != path:
                said = f"{name} no longer tied to {other or 'the model'}"
                yield Fault(said, path, "tie", ("weights", "backward"), functools.partial(_untie, name))


def _untie(name: str, layer: Any) -> None:
    layer._parameters[name] = copy.deepcopy(layer._parameters[name])


def initials(driver: Driver, layers: Layers) -> Iterator[Fault]:
    """Another law of the first weights."""
    for path in middle({path: layer for path, layer in owning(layers).items() if len(shape(layer)) > 1}):
        plan = numbers(driver, "weight", lambda array: array / 2)
        yield Fault("drawn at half the deviation", path, "init", ("init",), plan, "built")
    for path in middle(owning(layers, "bias")):
        plan = numbers(driver, "bias", lambda array: np.full_like(array, 0.01))
        yield Fault("bias begins at 0.01", path, "init", ("init",), plan, "built")


KINDS: tuple[Callable[[Driver, Layers], Iterator[Fault]], ...] = (
    epsilons,
    activations,
    scales,
    masks,
    segments,
    biases,
    affines,
    swaps,
    transposes,
    residuals,
    positions,
    gradients,
    frozen,
    statistics,
    in_training,
    dropouts,
    paddings,
    ties,
    initials,
)
"""Functions (driver, layers by path, each once) -> faults, their plans for the layer at the place."""
