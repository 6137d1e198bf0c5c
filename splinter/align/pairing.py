"""Intermediates side by side: which of theirs stands beside which of ours, and in which shape.

What a layer hands on is nobody's contract: one library merges the heads, the next squeezes an axis, keeps one row for
all, returns a tuple or runs a layer once more. Where a plain reshape or equal rows bring the numbers together they are
compared as strictly as all others. Where not, a note says so, and no more: the outputs of the model, which are strict,
tell whether it matters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Slot = tuple[str, int, int]
"""A layer's path, which of its runs, which of the tensors that it handed on."""


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
    name = path or "the model itself"
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
