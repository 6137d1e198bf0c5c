"""Gradients compared, and the updates that follow from them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import pairing
from .compare import Alignment
from .framework import numpy_dtype
from .port import MissingField, Pair, Side


def add_gradients(alignment: Alignment, pair: Pair, runs: pairing.Runs) -> None:
    """Loss and gradients of every batch, all sides from the checkpoint's weights."""
    models = [pair.model(side, dtype) for side, dtype in runs]
    batches = 0
    for name, batch in pairing.every_batch(alignment, pair):
        values: list[np.ndarray] = []
        found: list[dict[str, np.ndarray]] = []
        for (side, dtype), model in zip(runs, models, strict=True):
            value, gradients = side.driver.gradients(model, side.forward, side.loss, batch, dtype)
            values.append(np.asarray(value, numpy_dtype(dtype)))
            found.append(pair.translate(gradients, gradients=True) if side is pair.theirs else gradients)
        # one number: the ratio of two single roundings says nothing, for either may be nearly nothing by luck
        alignment.add(f"{name}/loss", values[0], values[1], scale=float(np.abs(values[0])))
        _add_each(alignment, f"{name}/grad/", found, pair.port.zero_gradient)
        batches += 1
    if not batches:
        alignment.problems.append("the port has no batches: no gradient was compared")


NOISE = {"float64": 1e-13, "float32": 1e-4}
"""What may be left of a gradient that is zero by algebra, over the norm of all: seen 2.6e-17 and 1.6e-8."""


def _global_norm(arrays: Mapping[str, np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(a.astype("float64")).sum()) for a in arrays.values()))


def zeros(exact: Mapping[str, np.ndarray], pattern: str | None) -> set[str]:
    """Names of gradients that are zero by algebra.

    Args:
        exact: the reference's, in float64.
        pattern: what the port says of it; "" fits none; None: those of which but rounding of the whole is left.
    """
    if pattern is not None:
        return {name for name in exact if pattern and re.search(pattern, name)}
    limit = NOISE["float64"] * _global_norm(exact)
    return {name for name, array in exact.items() if float(np.abs(array).max(initial=0)) <= limit}


def _add_each(alignment: Alignment, prefix: str, found: list[dict[str, np.ndarray]], pattern: str | None) -> None:
    """The gradients of one batch: theirs, ours, and the reference's in float64 where that is another run."""
    theirs, ours, exact = found[0], found[1], found[-1] if len(found) > 2 else found[0]
    alignment.add(f"{prefix}names", np.array(sorted(theirs)), np.array(sorted(ours)), exact=True)
    norm, zero = _global_norm(theirs), zeros(exact, pattern)
    for name in (name for name in theirs if name in ours):
        # zero by algebra: what is left is rounding of the whole, and a ratio of noise to noise says nothing
        scale = norm if name in zero else None
        referee = found[2][name] if len(found) > 2 and not scale else None
        alignment.add(prefix + name, theirs[name], ours[name], referee, scale=scale)
        if row := one_row(theirs[name], ours[name]):
            alignment.problem(f"gradient of {name}: {row}, as of an embedding with a padding row")
        if scale and (left := float(np.abs(theirs[name]).max()) / scale) > NOISE[numpy_dtype(alignment.dtype)]:
            alignment.problems.append(
                f"{prefix}{name}: {left:.1e} of the global norm in the reference is no zero; correct zero_gradient"
            )


def one_row(theirs: np.ndarray, ours: np.ndarray) -> str:
    """'row 0 alone is zero in theirs and not in ours', where two matrices differ in nothing else; else ""."""
    if theirs.ndim != 2 or theirs.shape != ours.shape or len(theirs) < 2:
        return ""
    apart = np.abs(theirs.astype(np.float64) - ours) > 1e-6 * float(np.abs(theirs).max(initial=0))
    rows = np.flatnonzero(apart.any(axis=1))
    for array, keeper, other in ((theirs, "theirs", "ours"), (ours, "ours", "theirs")):
        if len(rows) == 1 and not array[rows[0]].any():
            return f"row {rows[0]} alone is zero in {keeper} and not in {other}"
    return ""


def add_updates(alignment: Alignment, pair: Pair, runs: pairing.Runs) -> None:
    """Updates with the recipe's optimizer; parameters after the first, the second and the last."""
    batches = pair.port.train_batches(pair.folder, pair.mode)
    if not batches:
        alignment.problems.append("the port has no train_batches: no update was compared")
        return
    recipe = pair.port.recipe()
    results: list[tuple] = []
    for side, dtype in runs:
        model = pair.model(side, dtype)
        named = side.driver.parameters(model)
        optimizer = side.optimizer(named, recipe, side.decayed(list(named)))
        rates = _rates(pair, side, recipe, len(batches))
        keep = (1, 2, len(batches)) if len(results) < 2 else ()  # weights are compared directly, not refereed
        results.append(side.driver.updates(model, side.forward, side.loss, optimizer, rates, batches, dtype, keep))
        del model, named, optimizer
    for i, name in enumerate(("losses", "norms")):
        columns = [np.asarray(one[i], numpy_dtype(dtype)) for one, (_, dtype) in zip(results, runs, strict=True)]
        alignment.add(f"updates/{name}", columns[0], columns[1], columns[2] if pair.refereed else None)
        alignment.curves[name] = {"theirs": columns[0].tolist(), "ours": columns[1].tolist()}
    weights = pair.port.weights(pair.mode)
    fed = [{n: a for n, a in arrays.items() if weights.reason_kept(n) is None} for arrays in results[1][2].values()]
    kept = [
        {count: pair.translate(arrays) for count, arrays in results[0][2].items()},
        dict(zip(results[1][2], fed, strict=True)),
    ]
    measured = pair.port.zero_gradient is None
    zero = zeros(_exact_gradients(pair, batches[0]) if measured else kept[0][1], pair.port.zero_gradient)
    for count in kept[0]:
        for name in alignment.common(f"after {count} updates/", kept[0][count], kept[1][count]):
            # Adam turns the noise of a zero gradient into steps of the size of the learning rate
            bound = 2 * recipe.learning_rate * len(batches) if name in zero else None
            alignment.add(f"after {count} updates/{name}", kept[0][count][name], kept[1][count][name], bound=bound)
    _add_ways(alignment, kept, zero)


def _exact_gradients(pair: Pair, batch: Any) -> dict[str, np.ndarray]:
    """The reference's, in float64, under our names."""
    side = pair.theirs
    found = side.driver.gradients(pair.model(side, "float64"), side.forward, side.loss, batch, "float64")[1]
    return pair.translate(found, gradients=True)


def _rates(pair: Pair, side: Side, recipe: Any, count: int) -> list[float]:
    """Of the updates: by the side's schedule for the first number of features, or the recipe's one rate."""
    if not side.describes("rates"):
        return [recipe.learning_rate] * count
    if not pair.port.features:
        raise MissingField(f"{pair.port.name}: the updates of step 'backward' need features, for rates() is by them")
    features = pair.port.features[0]
    rates = list(side.rates(features, recipe))[:count]
    if len(rates) < count:
        raise ValueError(
            f"rates({features}) of the {side.kind} side gives {len(rates)} rates for {count} train_batches; take more "
            "features, or fewer batches"
        )
    return rates


WAY = 1e-2
"""How much longer or shorter, as a share, the way of a tensor through the updates may be: seen 5.5e-5 in float32.

Where the gradient is noise Adam's steps are of any sign, but never those of a whole tensor; one that stands still, or
moves at another rate, is 1 or a factor off. At base size some updates move weights by less than float32's tolerance."""


def _add_ways(alignment: Alignment, kept: list[dict[int, dict[str, np.ndarray]]], zero: set[str]) -> None:
    """How far the updates have moved each tensor, from after the first to after the last."""
    ways = []
    for found in kept:
        first, last = found[min(found)], found[max(found)]
        ways.append({name: float(np.linalg.norm((last[name] - first[name]).astype("float64"))) for name in last})
    for name in (name for name in ways[0] if name in ways[1] and name not in zero):
        alignment.add(f"way of {name}", ways[0][name], ways[1][name], bound=WAY * ways[0][name])
