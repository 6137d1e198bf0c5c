"""What two arrays that should be equal have to do with each other: another order, a factor, a sign, a constant.

Each function looks for one relation and says in words what it measured, or nothing. A relation counts where it leaves
nothing of the difference but rounding, and so does not depend on how large the difference is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np

Found = tuple[str, str]
"""A kind, and what was measured."""
REST = 1e-3
"""What a relation may leave of a difference: it explains all of it, or it is another one."""
ROUNDING = 64
"""What it may leave of the largest number, in eps: two sums of some hundred terms differ by as much."""


def differ(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """The first relation that holds between two arrays of numbers; None: none does.

    Args:
        theirs, ours: finite floating-point numbers, of any shapes.
    """
    if theirs.shape != ours.shape:
        return turned(theirs, ours)
    if not theirs.size or np.array_equal(theirs, ours):
        return None
    for relation in (turned, sign, factor, ordered, constant):
        if found := relation(theirs, ours):
            return found
    return None


def explained(theirs: np.ndarray, ours: np.ndarray, by: np.ndarray) -> bool:
    """Whether what `by` leaves of ours is no more than rounding of it, and far less than what theirs leaves."""
    return small(ours, by, largest(ours.astype("float64") - theirs), largest(ours))


def small(array: np.ndarray, by: np.ndarray, before: float, size: float) -> bool:
    """Whether `by` leaves next to nothing of an array, beside a difference, or beside numbers that were rounded."""
    rest = largest(array.astype("float64") - by)
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return rest <= REST * before or (rest <= ROUNDING * eps * size and 8 * rest <= before)


def largest(array: np.ndarray) -> float:
    """The largest absolute value."""
    return float(np.abs(array).max(initial=0))


def turned(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """The same array with its axes in another order, or of one size and other shape."""
    if theirs.ndim == ours.ndim <= 5:
        for axes in itertools.permutations(range(theirs.ndim)):
            other = theirs.transpose(axes)
            if list(axes) == sorted(axes) or other.shape != ours.shape:
                continue
            beside = theirs if theirs.shape == ours.shape else np.zeros_like(ours)
            if explained(beside, ours, other):
                return "layout", f"ours is theirs with its axes in the order {axes}"
    if theirs.shape != ours.shape and permuted(theirs, ours):
        return "layout", f"the same numbers in another shape, theirs {theirs.shape}, ours {ours.shape}"
    return None


def permuted(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether both hold the same numbers, whatever their order."""
    return theirs.size == ours.size and np.array_equal(np.sort(theirs, axis=None), np.sort(ours, axis=None))


def sign(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """All numbers of the other sign."""
    return ("sign", "ours = -theirs, everywhere") if explained(theirs, ours, -theirs) else None


def factor(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """All numbers off by one factor; that of an embedding that is scaled by its width is told as such."""
    by = multiple(theirs, ours)
    return None if by is None else ("scale", f"ours = {by:.6g} x theirs, everywhere{root(by, theirs.shape)}")


def multiple(theirs: np.ndarray, ours: np.ndarray) -> float | None:
    """k where ours = k x theirs; None: there is none."""
    if np.count_nonzero(theirs) < 2:  # of one number everything is a multiple
        return None
    by = _over(theirs, ours)
    return by if by and explained(theirs, ours, by * theirs.astype("float64")) else None


def _over(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The factor that comes closest."""
    a, b = theirs.astype("float64").ravel(), ours.astype("float64").ravel()
    return float(a @ b) / float(a @ a)


def root(by: float, shape: tuple[int, ...]) -> str:
    """Where a factor is the root of an axis, which axis: ', sqrt(64) of the last axis is missing'."""
    for axis in range(len(shape) - 1, -1, -1):
        width = math.sqrt(shape[axis])
        for size, what in ((1 / width, "is missing"), (width, "is too much")):
            if shape[axis] > 1 and math.isclose(by, size, rel_tol=1e-5):
                return f": the root of {shape[axis]}, the length of axis {axis}, {what}"
    return ""


def ordered(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """The same rows along one axis, in another order: heads, halves, or even and odd."""
    weights = np.random.default_rng(0)
    for axis, length in enumerate(theirs.shape):
        if not 2 <= length <= 65536:
            continue
        rows = [np.moveaxis(one, axis, 0).reshape(length, -1).astype("float64") for one in (theirs, ours)]
        key = weights.normal(size=rows[0].shape[1])
        places = [np.argsort(one @ key, kind="stable") for one in rows]
        order = np.empty(length, int)
        order[places[1]] = places[0]  # ours i is theirs order[i]
        if not np.array_equal(order, np.arange(length)) and explained(theirs, ours, np.take(theirs, order, axis)):
            return "layout", f"the same numbers in another order, along axis {axis}: {_blocks(order)}"
    return ("layout", "the same numbers in another order") if permuted(theirs, ours) else None


def _blocks(order: np.ndarray) -> str:
    """'in blocks of 16, ours 0 1 2 3 are theirs 2 3 0 1'; the first eight of them."""
    length = len(order)
    sizes = [size for size in range(length // 2, 0, -1) if length % size == 0]
    for size in sizes:
        grid = order.reshape(-1, size)
        if (grid - grid[:, :1] == np.arange(size)).all() and (grid[:, 0] % size == 0).all():
            order = grid[:, 0] // size
            break
    said = f"ours {' '.join(map(str, range(min(8, len(order)))))} are theirs {' '.join(map(str, order[:8]))}"
    return (f"in blocks of {size}, " if size > 1 else "") + said


def constant(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """One number, or one vector along the last or the second axis (channels), added everywhere."""
    apart = ours.astype("float64") - theirs
    if explained(theirs, ours, theirs + apart.mean()):
        return "offset", f"ours = theirs + {apart.mean():.6g}, everywhere"
    if (along := vector(theirs, ours)) is None:
        return None
    axis, added = along
    return "offset", f"ours = theirs + one vector along axis {axis}, everywhere: {_few(added)}"


def vector(theirs: np.ndarray, ours: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The axis, and the vector along it that is added to theirs everywhere."""
    apart = ours.astype("float64") - theirs
    for axis in dict.fromkeys((theirs.ndim - 1, 1)):
        others = tuple(i for i in range(theirs.ndim) if i != axis)
        if axis >= theirs.ndim or math.prod(theirs.shape[i] for i in others) < 2:
            continue  # of one row everything is a vector
        added = apart.mean(axis=others, keepdims=True)
        if explained(theirs, ours, theirs + added):
            return axis, added.ravel()
    return None


def _few(numbers: np.ndarray) -> str:
    """The first three numbers of a vector."""
    return f"[{', '.join(f'{x:.3g}' for x in numbers[:3])}{', ...' if len(numbers) > 3 else ''}]"


def padding_row(theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """Two matrices that differ in one row alone, which one of them has as zeros: the padding of an embedding."""
    if theirs.ndim != 2 or theirs.shape != ours.shape:
        return None
    rows = np.flatnonzero((theirs != ours).any(axis=1))
    if len(rows) != 1:
        return None
    zero = [not one[rows[0]].any() for one in (theirs, ours)]
    if zero[0] == zero[1]:
        return None
    sides = ("theirs", "ours") if zero[0] else ("ours", "theirs")
    return "padding row", f"only row {rows[0]} differs: zeros in {sides[0]}, not in {sides[1]}"


def part_of(theirs: np.ndarray, ours: np.ndarray, parts: Mapping[str, np.ndarray]) -> tuple[str, float] | None:
    """Of which array the difference is a multiple: its name and the factor; the last one that fits."""
    apart = ours - theirs
    for name, part in reversed(list(parts.items())):
        if part.shape != apart.shape or part.dtype.kind != "f" or not part.any() or not np.isfinite(part).all():
            continue
        by = _over(part, apart)
        if small(apart, by * part.astype("float64"), largest(apart), largest(ours)):
            return name, by
    return None


def not_finite(array: np.ndarray) -> np.ndarray:
    """Where an array holds NaN or infinity."""
    return ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def rows_of(where: np.ndarray) -> list[int]:
    """Rows of the batch, the first axis, in which anything is marked."""
    return np.flatnonzero(where.reshape(len(where), -1).any(axis=1)).tolist() if where.ndim else []


def padding(batch: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray] | None:
    """The mask of a batch: its name, and for each position whether it is padding; None where nothing looks like one."""
    for name, array in batch.items():
        if "mask" in name and isinstance(array, np.ndarray) and array.ndim == 2 and set(np.unique(array)) <= {0, 1}:
            return name, array == 0
    return None
