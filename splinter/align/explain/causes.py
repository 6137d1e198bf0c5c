"""Why a step fails, whichever it is: forward.py for a pass; here gradients, updates and initial laws.

A gradient is looked at in the order of the backward pass, the last layer first: where it first goes wrong the fault
lies, and all that comes behind has only been handed it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..compare import Alignment, Tolerance
from ..port import Pair, Side
from . import kinds
from .forward import Explanation, Fault, explain
from .kinds import Found
from .passes import relative

DRAWS = 3
"""Builds of each side, enough to tell what is drawn from what is fixed."""


def cause(
    alignment: Alignment, pair: Pair, tolerance: Tolerance, float32: Tolerance | None = None
) -> Explanation | None:
    """What is behind the first tensor that a judged step says differs; None where nothing more is known of it.

    Args:
        tolerance: the row that the step was judged by.
        float32: its row in float32, for a float64 run with float32 inside.
    """
    first = alignment.first_divergence
    if first is None:
        return None
    if alignment.step == "forward":
        return explain(pair, tolerance, first.name.partition("/")[0], float32)
    look: Callable[[Alignment, Pair], Fault | None] | None = {"backward": backward, "init": init}.get(alignment.step)
    fault = look(alignment, pair) if look else None
    return fault and Explanation(fault.kind, fault.place, f"{fault.kind}: {fault.what}")


# -- gradients --------------------------------------------------------------------------------------------


def backward(alignment: Alignment, pair: Pair) -> Fault | None:
    """The first parameter, on the way back, whose gradient differs; or the first thing that updates make differ."""
    failed = {one.name: one for one in alignment.comparisons if not one.passed}
    first = next(iter(failed))
    name, _, rest = first.partition("/")
    if name.endswith("in training mode"):
        return _in_training(pair, first, rest)
    batches = pair.port.batches(pair.folder, pair.mode)
    if name not in batches:
        what = f"every loss and gradient agrees, {failed[first].sentence()}"
        return Fault("update", first, f"{what}: it is the optimizer, its groups, the rate or the clipping")
    if rest == "loss":
        return Fault("loss", first, "the loss differs before anything goes back: see the steps forward and loss")
    theirs, ours = _gradients(pair, name)
    names = [one for one in _way_back(pair, name, {**theirs, **ours}) if _wrong(one, name, failed, theirs, ours)]
    if not names:
        return None
    kind, why = _gradient(pair, names[0], theirs.get(names[0]), ours.get(names[0]))
    alike = _alike(names, theirs, ours)
    layers = _layers(pair, names[0])
    what = (
        f"on the way back the gradient of {names[0]}{layers} is the first that differs, though the loss agrees; {why}"
    )
    more = f"; so are {alike} others" if alike else ""
    return Fault(kind, names[0], f"{what}{more}; {len(names)} of {len(theirs)} gradients differ")


def _in_training(pair: Pair, first: str, name: str) -> Fault:
    """What differs in training mode alone: a running statistic, or an output."""
    path, _, leaf = name.rpartition(".")
    if path not in pair.modules:
        return Fault(
            "training", first, f"{name} differs in training mode, with nothing dropped, and not in evaluation mode"
        )
    sides = (pair.theirs, pair.modules[path]), (pair.ours, path)
    theirs, ours = (_keeps(side.driver.layers(side.load(pair.folder))[own]) for side, own in sides)
    what = f"the running statistic {leaf} of {path}{_layers(pair, name)} moves otherwise"
    if theirs is not None and ours is not None and not np.isclose(theirs, ours):
        return Fault("momentum", name, f"{what}: a pass keeps {ours:.4g} of it in ours, {theirs:.4g} in theirs")
    return Fault("statistics", name, f"{what}, though both keep as much of it: its law differs")


def _keeps(layer: Any) -> float | None:
    """Which share of a running statistic a pass in training mode keeps: Paddle's momentum, and 1 less torch's."""
    if hasattr(layer, "_momentum"):
        return float(layer._momentum)
    momentum = getattr(layer, "momentum", None)
    return None if momentum is None else 1 - float(momentum)


def _gradients(pair: Pair, batch: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of theirs, under our names, and of ours."""
    arrays = pair.port.batches(pair.folder, pair.mode)[batch]

    def run(side: Side) -> dict[str, np.ndarray]:
        return side.driver.gradients(pair.model(side), side.forward, side.loss, arrays, pair.dtype)[1]

    return pair.translate(run(pair.theirs), gradients=True), run(pair.ours)


def _wrong(name: str, batch: str, failed: Mapping, theirs: Mapping, ours: Mapping) -> bool:
    """Whether a gradient is on one side alone, or failed."""
    return (name in theirs) != (name in ours) or f"{batch}/grad/{name}" in failed


def _way_back(pair: Pair, batch: str, gradients: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Names of gradients, those of the layer that ran last first; of one that did not run by itself as defined."""
    driver, arrays = pair.ours.driver, pair.port.batches(pair.folder, pair.mode)[batch]
    owners = {name.rpartition(".")[0] for name in gradients}
    model = pair.model(pair.ours)
    paths = [path for path in driver.layers(model) if path in owners]
    seen, _ = driver.trace(model, pair.ours.forward, arrays, pair.dtype, paths)
    ran = {key.partition("#")[0]: place for place, key in enumerate(seen)}  # of several runs the last counts
    defined = {name: place for place, name in enumerate(pair.our_names)}
    places = {name: ran.get(name.rpartition(".")[0], -1) for name in gradients}
    return iter(sorted(gradients, key=lambda name: (-places[name], -defined.get(name, len(defined)))))


def _gradient(pair: Pair, name: str, theirs: np.ndarray | None, ours: np.ndarray | None) -> Found:
    """The kind of difference between two gradients, one of which may be missing."""
    if theirs is None or ours is None:
        return "cut", f"{'theirs' if theirs is None else 'ours'} has none"
    if theirs.shape != ours.shape:
        return "shape", f"theirs has shape {theirs.shape}, ours {ours.shape}"
    for side, gradient, other in (("theirs", theirs, ours), ("ours", ours, theirs)):
        if not np.isfinite(gradient).all() and np.isfinite(other).all():
            return "nan", f"it holds NaN or infinity in {side} alone"
        if not gradient.any() and other.any():
            return "cut", f"it is all zeros in {side}"
    if found := kinds.padding_row(theirs, ours) or kinds.differ(theirs, ours):
        return found
    error = relative(theirs, ours)
    if pair.dtype == "float64":
        return "semantic", f"by {error:.1e}, in float64"
    return "unknown", f"by {error:.1e}; float64 tells whether that is rounding"


def _alike(names: list[str], theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> int:
    """How many gradients behind the first are off by the same factor as it."""

    def by(name: str) -> float | None:
        both = name in theirs and name in ours and theirs[name].shape == ours[name].shape
        return kinds.multiple(theirs[name], ours[name]) if both else None

    first = by(names[0])
    return 0 if first is None else sum(bool(np.isclose(first, by(one) or np.nan, rtol=1e-4)) for one in names[1:])


def _layers(pair: Pair, name: str) -> str:
    """' (Linear against Linear)' for a parameter of a pair of layers."""
    path = name.rpartition(".")[0]
    if path not in pair.modules:
        return ""
    sides = (pair.theirs, pair.modules[path]), (pair.ours, path)
    found = [side.driver.layers(side.load(pair.folder))[own] for side, own in sides]
    return f" ({' against '.join(type(layer).__name__ for layer in found)})"


# -- initial laws -----------------------------------------------------------------------------------------


def init(alignment: Alignment, pair: Pair) -> Fault | None:
    """How the first tensor that is drawn by another law is drawn."""
    assert alignment.first_divergence is not None
    first = alignment.first_divergence.name
    name = next((one for one in pair.our_names if first.startswith(f"{one} ")), None)
    if name is None:
        return None
    theirs, ours = _drawn(pair, pair.theirs, name), _drawn(pair, pair.ours, name)
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return None
    kind, why = _law(theirs, ours)
    return Fault(kind, name, f"{name} is not drawn as theirs{_layers(pair, name)}; {why}")


def _drawn(pair: Pair, side: Side, name: str) -> np.ndarray | None:
    """(DRAWS, ...): a parameter, under our name, of freshly built models."""
    found = []
    for number in range(DRAWS):
        side.driver.seed(1000 + number)
        arrays = side.driver.state(side.build(pair.folder))
        found.append((pair.translate(arrays) if side is pair.theirs else arrays).get(name))
    return None if any(one is None for one in found) else np.stack(found)  # type: ignore[arg-type]


def _law(theirs: np.ndarray, ours: np.ndarray) -> Found:
    """How two laws differ: a row of zeros, a constant against numbers that are drawn, the deviation, the tails."""
    zeros = _zero_rows(theirs), _zero_rows(ours)
    if len(only := zeros[0] ^ zeros[1]) == 1:
        where = "theirs, and drawn in ours" if only <= zeros[0] else "ours, and drawn in theirs"
        return "padding row", f"its row {min(only)} is zeros in {where}"
    for whose, one, other in (("theirs", theirs, ours), ("ours", ours, theirs)):
        if not np.ptp(one):
            return "constant", f"it is {one.flat[0]:.4g} throughout in {whose}, {_summary(other)} in the other"
    a, b = float(theirs.std()), float(ours.std())
    if not np.isclose(a, b, rtol=0.1):
        return "scale", f"its deviation is {b / a:.3g} times theirs: {a:.3g} in theirs, {b:.3g} in ours"
    if abs(theirs.mean() - ours.mean()) > 0.1 * a:
        return "offset", f"its mean is {theirs.mean():.3g} in theirs, {ours.mean():.3g} in ours"
    reach = [np.abs(one - one.mean()).max() / one.std() for one in (theirs, ours)]
    return (
        "semantic",
        f"deviations are alike, but numbers reach {reach[0]:.3g} of them in theirs, {reach[1]:.3g} in ours",
    )


def _zero_rows(drawn: np.ndarray) -> set[int]:
    """Rows of a matrix that are zeros in every draw."""
    return {row for row in range(drawn.shape[1]) if not drawn[:, row].any()} if drawn.ndim == 3 else set()


def _summary(array: np.ndarray) -> str:
    return f"from {array.min():.3g} to {array.max():.3g}" if np.ptp(array) else f"{array.flat[0]:.4g}"
