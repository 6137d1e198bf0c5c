"""Which kind a difference is, from what is known of its layer: input, weights, what ran before, the mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..compare import SHORT
from ..pairing import renamed
from ..port import Pair, Side
from . import formulas, kinds
from .kinds import Found
from .passes import Passes, relative, together
from .products import GAUGE, gauge, judge_product

REDUCED = 2**8
"""From so many eps of the largest number on, an error that is gone in float64 is not that of float32 additions."""


def between(passes: Passes, name: str, theirs: np.ndarray, ours: np.ndarray) -> Found:
    """The kind of a difference that arises between layers: an activation, attention, a residual, a mask."""
    if theirs.dtype.kind != "f" or theirs.shape != ours.shape:
        return by_size(passes.pair, theirs, ours)
    before, dtype = passes.before(name) or passes.their_outputs, passes.pair.dtype
    if found := kinds.differ(theirs, ours):
        return found
    if formula := formulas.activation(before, theirs, dtype):
        other = formulas.activation(before, ours, dtype)
        return "activation", f"theirs is {formula}, ours {f'is {other}' if other else 'is not'}"
    kept = None if passes.padded is None else ~passes.padded[1]
    if other := formulas.attention(before, theirs, ours, kept, dtype):
        return "attention", other
    given = {f"the input of {one}": passes.their_inputs[one] for one in before if one in passes.their_inputs}
    if part := kinds.part_of(theirs, ours, given | {f"the output of {one}": array for one, array in before.items()}):
        return "residual", _more_or_less(*part)
    kind, why = by_size(passes.pair, theirs, ours)
    leak = _leak(passes) if kind == "semantic" else ""
    return ("mask", leak) if leak else (kind, why + _where(passes, theirs, ours))


def _more_or_less(part: str, by: float) -> str:
    """What a difference that is a multiple of something means."""
    if np.isclose(by, -1, rtol=1e-4):
        return f"ours lacks {part}, which theirs adds"
    if np.isclose(by, 1, rtol=1e-4):
        return f"ours adds {part} once more than theirs"
    return f"ours = theirs {'+' if by > 0 else '-'} {abs(by):.4g} x {part}"


def _where(passes: Passes, theirs: np.ndarray, ours: np.ndarray) -> str:
    """'; only where attention_mask marks padding', where a difference lies in a part of the batch alone."""
    apart = np.abs(ours.astype("float64") - theirs)
    where = apart > 1e-2 * apart.max()
    if passes.padded is not None and where.shape[:2] == passes.padded[1].shape and passes.padded[1].any():
        marked = where.reshape(*where.shape[:2], -1).any(axis=2)
        for marks, what in ((passes.padded[1], "marks padding"), (~passes.padded[1], "marks none")):
            if not marked[~marks].any():
                return f"; only where {passes.padded[0]} {what}"
    rows = kinds.rows_of(where)
    return f"; only in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}" if len(rows) < len(theirs) / 2 else ""


def _leak(passes: Passes) -> str:
    """Whether other tokens at padded positions move the layers at all others, in one side alone; else ''."""
    if passes.padded is None or not passes.padded[1].any() or passes.padded[1].all():
        return ""
    padded, pair = passes.padded[1], passes.pair
    tokens = [n for n, a in passes.batch.items() if getattr(a, "shape", None) == padded.shape and n.endswith("ids")]
    ids = next((n for n in tokens if passes.batch[n].dtype.kind == "i" and len(np.unique(passes.batch[n])) > 2), None)
    if ids is None:
        return ""
    others = passes.batch[ids][~padded]
    changed = {**passes.batch, ids: np.where(padded, np.resize(others[::-1], padded.shape), passes.batch[ids])}

    def moved(side: Side, model: Any, paths: Iterable[str], plain: Mapping[str, np.ndarray], names: Mapping[str, str]):
        seen, _ = side.driver.trace(model, side.forward, changed, pair.dtype, list(paths))
        seen = renamed(seen, names)
        alike = (n for n, a in seen.items() if n in plain and a.shape == plain[n].shape and a.shape[:2] == padded.shape)
        return {n: relative(plain[n][~padded], seen[n][~padded]) for n in alike}

    to_ours = {their: our for our, their in passes.modules.items()}
    theirs = moved(pair.theirs, passes.theirs, passes.modules.values(), passes.their_outputs, to_ours)
    ours = moved(pair.ours, passes.ours, passes.modules, passes.propagated, {one: one for one in passes.modules})
    for name in (name for name in ours if name in theirs):
        for whose, mine, other in (("ours", ours[name], theirs[name]), ("theirs", theirs[name], ours[name])):
            if mine > 1e-4 and mine > 1e3 * other:
                return f"padded positions move all others in {whose} alone, by {mine:.1e} in {passes.label(name)}"
    return ""


def within(passes: Passes, name: str) -> Found:
    """The kind of a difference that a layer makes of equal input: its weights, a formula, its precision."""
    theirs, ours = passes.their_outputs[name], passes.alone[name]
    both = together(theirs, ours)
    if (found := _weights(passes, name)) or both is None:
        return found or by_size(passes.pair, theirs, ours)
    theirs, ours = both
    if inner := [one for one in passes.before(name) if one.startswith(f"{name.partition('#')[0]}.")]:
        kind, what = between(passes, name, theirs, ours)
        return kind, f"{'all' if len(inner) > 1 else 'what'} that runs inside of it agrees; {what}"
    given, why = passes.inputs.get(name), "its weights equal the reference's"
    if given is not None and given.dtype.kind == "f" and ours.dtype.kind == "f":
        for look in (_norm, _activation, _bias, _product):
            # of a product that is no product the relation of the two tells more: ours is 2.8 times theirs, say
            if (found := look(passes, name, given, theirs, ours)) and found[0] == "semantic":
                found = kinds.differ(theirs, ours) or found
            if found:
                return found[0], f"{why}; {found[1]}"
    if ours.dtype.kind == "f" and (found := kinds.differ(theirs, ours)):
        return found[0], f"{why}; {found[1]}"
    kind, measured = by_size(passes.pair, theirs, ours)
    where = _where(passes, theirs, ours) if ours.dtype.kind == "f" else ""
    return kind, f"{why}, so a constant or a formula differs; {measured}{where}"


def _weights(passes: Passes, name: str) -> Found | None:
    """The first weight of a layer that is not the reference's."""
    path = name.partition("#")[0]
    reference = passes.pair.translate(passes.pair.theirs.driver.state(passes.theirs))
    for leaf, array in passes.pair.ours.driver.state(passes.ours).items():
        if leaf.rpartition(".")[0] != path or leaf not in reference or np.array_equal(array, reference[leaf]):
            continue
        if array.ndim == 2 and array.shape[0] == array.shape[1] and np.array_equal(array, reference[leaf].T):
            return "layout", f"{leaf} lies transposed"
        if found := kinds.padding_row(reference[leaf], array) or kinds.differ(reference[leaf], array):
            return found[0], f"of {leaf} {found[1]}"
        for other, theirs in reference.items():  # query and key, say, exchanged
            if theirs.shape == array.shape and other != leaf and np.array_equal(array, theirs):
                return "weight", f"{leaf} is the reference's {other}"
        return "weight", f"{leaf} is not the reference's, by {relative(reference[leaf], array):.1e}"
    return None


def _own(passes: Passes, name: str) -> dict[str, np.ndarray]:
    """Weights and buffers of a layer of ours by their last name."""
    path, driver = name.partition("#")[0], passes.pair.ours.driver
    arrays = dict(driver.state(passes.ours))
    if hasattr(driver, "buffers"):
        arrays |= {leaf: driver.to_numpy(tensor) for leaf, tensor in driver.buffers(passes.ours).items()}
    return {leaf.rpartition(".")[2]: array for leaf, array in arrays.items() if leaf.rpartition(".")[0] == path}


def _norm(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """Another epsilon."""
    own = _own(passes, name)
    weight, bias = own.get("weight"), own.get("bias")
    variance = next((own[leaf] for leaf in ("running_var", "_variance") if leaf in own), None)
    if weight is None or weight.ndim != 1:
        return None
    if variance is None:
        found = [formulas.epsilon(given, made, weight, bias) for made in (theirs, ours)]
    else:
        found = [formulas.channel_epsilon(given, made, weight, variance) for made in (theirs, ours)]
    reference, mine = found
    if reference is None or mine is None or not mine.other(reference):
        return None
    return "epsilon", f"ours is as with epsilon {mine}, where theirs has {reference}"


def _activation(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A layer that is an activation."""
    found = [formulas.activation({"its input": given}, made, passes.pair.dtype) for made in (theirs, ours)]
    return ("activation", f"theirs is {found[0]}, ours is {found[1] or 'not'}") if found[0] else None


def _bias(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A bias that is left out, or added twice."""
    bias, along = _own(passes, name).get("bias"), kinds.vector(theirs, ours)
    if bias is None or along is None or bias.shape != along[1].shape:
        return None
    for by, what in ((-1, "ours leaves its bias out"), (1, "ours adds its bias twice")):
        if kinds.small(along[1], by * bias, kinds.largest(along[1]), kinds.largest(ours)):
            return "offset", what
    return None


def _product(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A product of the input and the weight, on one side at least."""
    own = _own(passes, name)
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or weight.ndim != 2:
        return None
    results = [made - (0 if bias is None else bias) for made in (theirs, ours)]
    for factor in (weight, weight.T):  # (in, out) in Paddle, (out, in) in torch
        fits = given.shape[-1] == factor.shape[0] and results[0].shape[-1] == factor.shape[1]
        if fits and any(gauge(given, factor, result) <= GAUGE for result in results):
            return judge_product(given, factor, *results)
    return None


def by_size(pair: Pair, theirs: np.ndarray, ours: np.ndarray) -> Found:
    """The kind of a difference about which nothing is known but the numbers."""
    if theirs.dtype.kind not in "f":
        return "data", "integers, of which none is rounded"
    if found := kinds.differ(theirs, ours):
        return found
    if theirs.shape != ours.shape:
        return "shape", f"theirs has shape {theirs.shape}, ours {ours.shape}"
    if pair.dtype == "float64":
        return "semantic", "float64 rounding is far smaller"
    units = relative(theirs, ours) / SHORT.get(pair.dtype, float(np.finfo(theirs.dtype).eps))
    if units < REDUCED:
        return "rounding", f"{units:.0f} eps of the largest number"
    return "semantic", f"{units:.0f} eps of the largest number"
