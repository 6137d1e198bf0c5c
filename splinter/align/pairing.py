"""Intermediates side by side: which of theirs stands beside which of ours, and in which shape.

What a layer hands on is nobody's contract: one library merges the heads, the next squeezes an axis, keeps one row for
all, returns a tuple or runs a layer once more. Where a plain reshape or equal rows bring the numbers together they are
compared as strictly as all others. Where not, a note says so, and no more: the outputs of the model, which are strict,
tell whether it matters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .compare import Alignment
from .port import Pair, Side

Runs = list[tuple[Side, str]]
"""Sides and the dtype that each runs in: theirs, ours, and below float64 theirs once more, in float64, as referee."""
Slot = tuple[str, int, int]
"""A layer's path, which of its runs, which of the tensors that it handed on."""


def runs(pair: Pair) -> Runs:
    """What a step with rounding in it compares."""
    return [(pair.theirs, pair.dtype), (pair.ours, pair.dtype)] + [(pair.theirs, "float64")] * pair.refereed


def every_batch(alignment: Alignment, pair: Pair) -> Iterator[tuple[str, Any]]:
    """(name, batch); while one that is not required is looked at, nothing that is added can fail."""
    for name, batch in pair.port.batches(pair.folder, pair.mode).items():
        yield name, batch
    for name, batch in pair.port.optional_batches(pair.folder, pair.mode).items():
        with alignment.not_required():
            yield name, batch


def traced(pair: Pair, side: Side, dtype: str, model: Any, batch: Any) -> tuple[dict, dict]:
    """Activations under our names, and the read-out outputs."""
    names = {theirs if side is pair.theirs else ours: ours for ours, theirs in pair.modules.items()}
    seen, outputs = side.driver.trace(model, side.forward, batch, dtype, list(names))
    masks = tuple(pair.port.padding(batch))
    return blanked(renamed(seen, names), masks), blanked(dict(pair.port.readout(outputs, batch)), masks)


def blanked(arrays: Mapping[str, np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays that lie along a mask, (B, T, ...) or (B * T, ...), with 0 where it is 0: nothing there has a meaning."""
    return {name: functools.reduce(_blank, masks, array) for name, array in arrays.items()}


def _blank(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    for shape in (mask.shape, (mask.size,)):
        if array.shape[: len(shape)] == shape and array.ndim > len(shape):
            counts = mask.reshape(shape + (1,) * (array.ndim - len(shape))) != 0
            return np.where(counts, array, np.zeros((), array.dtype))
    return array


def blanked_queries(array: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Scores (B, H, T, T) with 0 where the query is padding; all else as `blanked` has it."""
    for mask in masks:
        if array.ndim == 4 and (len(array), array.shape[2]) == mask.shape:
            array = np.where(mask[:, None, :, None] != 0, array, np.zeros((), array.dtype))
    return blanked({"": array}, masks)[""]


def renamed(arrays: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What a driver traced, each layer's path replaced; what follows "#" (which run, which tensor) stays."""
    found = {}
    for key, array in arrays.items():
        path, mark, rest = key.partition("#")
        found[names[path] + mark + rest] = array
    return found


def add_layers(
    alignment: Alignment,
    prefix: str,
    theirs: Mapping[str, np.ndarray],
    ours: Mapping[str, np.ndarray],
    referee: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Compare intermediates, in whichever shape both have; what cannot be compared by itself is noted."""
    pairs, more = paired(theirs, ours)
    for sentence in more.values():
        alignment.note(sentence)
    for name, our_name in pairs:
        shape = common_shape(theirs[name], ours[our_name])
        if shape is None:
            alone = re.sub(r"\d+", "*", name) + " is not comparable by itself: "
            if not any(note.startswith(alone) for note in alignment.notes):  # once, not for each layer and batch
                alignment.note(f"{alone}{theirs[name].shape} in theirs, {ours[our_name].shape} in ours")
            continue
        first = fitted(theirs[name], shape)
        judged = None if referee is None else unmasked(fitted(referee[name], shape), first)[0]  # masked as theirs is
        alignment.add(prefix + name, *unmasked(first, fitted(ours[our_name], shape)), judged)


def slot(key: str) -> Slot:
    """Where a traced key belongs: `path`, `path#run`, or `path#run.part`."""
    path, _, rest = key.partition("#")
    run, _, part = rest.partition(".")
    return path, int(run or 0), int(part or 0)


def paired(
    theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Traced keys beside each other, in the order of theirs; a tensor stands beside the first of a tuple.

    Returns:
        Pairs of (their key, our key), and for each layer that has more on one side a sentence.
    """
    slots = {slot(key): key for key in theirs}, {slot(key): key for key in ours}
    pairs = [(key, slots[1][place]) for place, key in slots[0].items() if place in slots[1]]
    lonely = dict.fromkeys(path for path, _, _ in [*slots[0], *slots[1]])
    notes = {path: _what_is_more(path, *slots) for path in lonely}
    return pairs, {path: note for path, note in notes.items() if note}


def _what_is_more(path: str, theirs: Mapping[Slot, str], ours: Mapping[Slot, str]) -> str:
    """What one side's layer does that the other's does not; "" where they do the same."""
    found = [[place for place in side if place[0] == path] for side in (theirs, ours)]
    name = re.sub(r"\d+", "*", path) or "the model itself"  # one sentence for all layers of a kind
    runs = [len({run for _, run, _ in places}) for places in found]
    if 0 in runs:
        return f"{name} hands on a tensor in {'ours' if runs[1] else 'theirs'} alone: not compared"
    if runs[0] != runs[1]:
        return f"{name} runs {runs[0]} times in theirs and {runs[1]} in ours: the runs that both have were compared"
    if set(found[0]) != set(found[1]):
        counts = [len(places) for places in found]
        return f"{name} hands on {counts[0]} tensors in theirs and {counts[1]} in ours: those of both were compared"
    return ""


def common_shape(theirs: np.ndarray, ours: np.ndarray) -> tuple[int, ...] | None:
    """The shape in which both hold the same numbers, up to what a comparison is to find; None where there is none."""
    if theirs.shape == ours.shape:
        return theirs.shape
    if theirs.size == ours.size:
        return theirs.shape if _alike(theirs, ours.reshape(theirs.shape)) else None
    small, big = sorted((theirs, ours), key=lambda one: one.size)
    try:
        rows = np.broadcast_to(small, big.shape)
    except ValueError:
        return None
    return big.shape if _repeats(big, small.shape) and _alike(rows, big) else None


def fitted(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array in a common shape."""
    return array.reshape(shape) if array.size == int(np.prod(shape)) else np.broadcast_to(array, shape)


MASKED = -1e3
"""Of a score below it softmax makes 0, whatever the number: exp(-1000) is 0 in float64 as well."""


def unmasked(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores without what masks them: one library adds -1e4, the next the lowest number there is, and means the same.

    Both are 0 where both mask, as far as all other numbers are small beside it.

    Args:
        theirs, ours: of one shape.
    """
    if theirs.dtype.kind != "f" or ours.dtype.kind != "f":
        return theirs, ours
    masks = (theirs < MASKED) & (ours < MASKED)
    if not masks.any() or max(np.abs(one[~masks]).max(initial=0) for one in (theirs, ours)) > -MASKED / 10:
        return theirs, ours
    return np.where(masks, 0, theirs), np.where(masks, 0, ours)


def permuted(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether two arrays are the same numbers in another order, rounding apart."""
    if theirs.size != ours.size:
        return False
    a, b = (np.sort(one.astype(np.float64), axis=None) for one in (theirs, ours))
    return bool(np.abs(a - b).max(initial=0) <= 1e-6 * np.abs(a).max(initial=0))


def _alike(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether two arrays are the same numbers, faults of the size of the numbers themselves apart.

    In another order the distance is 1.4 times the spread; a faulty layer is mostly nearer than half of it.
    """
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    distance, spread = np.linalg.norm((a - b).ravel()), np.linalg.norm((a - a.mean()).ravel()) if a.size else 0.0
    return bool(distance <= 0.5 * spread)


def _repeats(big: np.ndarray, small: tuple[int, ...]) -> bool:
    """Whether an array is the same, rounding apart, along each axis in which a smaller shape has one entry."""
    full = (1,) * (big.ndim - len(small)) + small
    first = big[tuple(slice(0, 1) if n == 1 else slice(None) for n in full)]
    apart = np.abs(big.astype(np.float64) - first).max(initial=0)
    return bool(apart <= 1e-6 * np.abs(first.astype(np.float64)).max(initial=0))
