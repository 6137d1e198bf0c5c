"""Two arrays of one name, as two programs have saved them, made comparable without making them more alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

DATA = ("dev_data", "train_data")
"""Steps in which the kind of number is part of what is compared."""
BITS = {"bfloat16": 8, "float16": 11, "float32": 24}
"""Binary digits of a number, the first included: rounding to so many moves it by up to 2^-bits of itself."""


@dataclass
class Twin:
    """Two arrays of one name, made comparable.

    Args:
        arrays: theirs and ours.
        rounded: what rounding to short numbers may have moved them by, relative to the largest.
        exact: whether no tolerance is due.
        notes: what was different.
    """

    arrays: list[np.ndarray]
    rounded: float = 0.0
    exact: bool = False
    notes: list[str] = field(default_factory=list)


def alike(theirs: np.ndarray, ours: np.ndarray, step: str) -> Twin:
    """Undo what two programs save differently and mean alike; nothing is broadcast, transposed or rounded.

    That is: axes of length 1 that only one side has, bfloat16 as uint16, floats of two widths, whole numbers as
    floats, pairs as complex numbers. In the steps of data a type is part of what is compared, and stays.
    """
    twin = Twin([one.astype(one.dtype.newbyteorder("="), copy=False) for one in (theirs, ours)])
    if theirs.ndim != ours.ndim and theirs.squeeze().shape == ours.squeeze().shape:
        twin.notes.append(f"shapes {theirs.shape} and {ours.shape} differ in axes of length 1 alone")
        twin.arrays[1] = twin.arrays[1].reshape(theirs.shape)
    if twin.arrays[0].shape == twin.arrays[1].shape:
        _undo_bfloat16(twin, step)
        _undo_types(twin, step)
    return twin


def _undo_bfloat16(twin: Twin, step: str) -> None:
    """bfloat16, which numpy lacks, comes out of Paddle as uint16: the upper half of a float32."""
    short = [side for side in (0, 1) if twin.arrays[side].dtype == np.uint16]
    if not short or not _is_bfloat16(twin, short, step):
        return
    for side in short:
        twin.arrays[side] = _float32(twin.arrays[side])
    twin.notes.append(f"{_sides(short)} uint16, which is how Paddle saves bfloat16, and compared as that")
    _allow(twin, "bfloat16", [side for side in (0, 1) if fits(twin.arrays[side], "bfloat16").all()])


def _allow(twin: Twin, name: str, sides: list[int]) -> None:
    """Leave room for the rounding of one side or both to a type of few bits."""
    rounded = len(sides) * 2.0 ** -BITS[name]
    twin.rounded += rounded
    twin.notes.append(
        f"{_sides(sides)} rounded to the {BITS[name]} bits of {name}, each number by up to 2^-{BITS[name]} of itself: "
        f"{rounded:.1e} of the largest number is rounding"
    )


def _sides(places: list[int]) -> str:
    return {0: "theirs is", 1: "ours is"}[places[0]] if len(places) == 1 else "both are"


def _is_bfloat16(twin: Twin, short: list[int], step: str) -> bool:
    """Whether uint16 are floats: by the floats on the other side, or, where both are uint16, by their sizes."""
    if len(short) == 2:
        return step not in DATA and all(_of_one_size(_float32(array)) for array in twin.arrays)
    array, other = twin.arrays[short[0]], twin.arrays[1 - short[0]]
    return other.dtype.kind == "f" and _distance(_float32(array), other) <= _distance(array, other)


def _float32(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The median difference of finite numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a.astype(np.float64) - b)
    difference = difference[np.isfinite(difference)]
    return float(np.median(difference)) if difference.size else 0.0


def _of_one_size(array: np.ndarray) -> bool:
    """Whether floats are about as large as each other; identifiers read as bfloat16 are 1e-40 and 1e33."""
    sizes = np.abs(array[np.isfinite(array) & (array != 0)].astype(np.float64))
    middle = float(np.median(sizes)) if sizes.size else 0.0
    return 1e-12 < middle < 1e12 and float(sizes.max()) < 1e6 * middle


def _undo_types(twin: Twin, step: str) -> None:
    """One type for both: the wider one, in which every number is itself."""
    types = [array.dtype for array in twin.arrays]
    kinds = {one.kind for one in types}
    if step in DATA and types[0] != types[1]:
        return
    if kinds in ({"f"}, {"c"}):
        wide = np.promote_types(*types)
    elif kinds in ({"i", "f"}, {"u", "f"}):
        wide, twin.exact = np.dtype("f8"), True  # a count on one side is not rounded on the other
    else:
        return
    if short := [side for side in (0, 1) if types[side] == np.float16]:
        _allow(twin, "float16", short)
    if kinds == {"f"} and np.dtype("f4") in types and wide != np.dtype("f4"):
        twin.rounded += 2.0 ** -BITS["float32"]
    # of a long double what is beyond float64 becomes infinite, and fails
    wide = min(wide, np.dtype(WIDEST[wide.kind]), key=lambda one: one.itemsize)
    if any(one != wide for one in types):
        differ = f"dtypes differ, theirs {types[0]}, ours {types[1]}" if types[0] != types[1] else f"dtype {types[0]}"
        twin.notes.append(f"{differ}: compared as {wide}")
    with np.errstate(over="ignore"):
        twin.arrays = [array.astype(wide, copy=False) for array in twin.arrays]
    if wide.kind == "c":
        twin.arrays = [np.stack([array.real, array.imag], axis=-1) for array in twin.arrays]


WIDEST = {"f": "f8", "c": "c16"}


def fits(array: np.ndarray, name: str) -> np.ndarray:
    """Which numbers have no more bits than a shorter type: whole ones, halves, and what was rounded to it."""
    fraction = np.frexp(array.astype(np.float64))[0] * 2.0 ** BITS[name]
    return (fraction == np.round(fraction)) | ~np.isfinite(fraction)
