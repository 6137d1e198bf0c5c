"""Initialization compared: constants equal, draws of one law."""

from __future__ import annotations

import math

import numpy as np

from .compare import Alignment
from .independence import add_whole
from .port import Pair


def add_laws(alignment: Alignment, pair: Pair, seeds: int) -> None:
    """Freshly built models of so many seeds: equal constants, indistinguishable distributions."""
    # a large model has numbers enough after three draws, and twenty of it would not fit in memory; with two, a
    # few of 1e8 entries would be equal in both by chance and look fixed
    small = sum(a.size for a in pair.ours.driver.state(pair.ours.load(pair.folder)).values()) < 10_000_000
    theirs, ours = _drawn(pair, seeds if small else 3)
    alignment.add("names", np.array(sorted(theirs)), np.array(sorted(ours)), exact=True)
    random = [name for name in theirs if np.ptp(theirs[name]) > 0]
    alpha = 1e-3 / max(1, len(random))  # Bonferroni: one false alarm in a thousand runs of the whole step
    for name in (name for name in theirs if name in ours):
        a, b = np.stack(theirs[name]), np.stack(ours[name])
        if name in random:
            _add_law(alignment, name, a, b, alpha)
        else:
            alignment.add(f"{name} constant", a, b, exact=True)
    add_whole(alignment, *({name: side[name] for name in random if name in side} for side in (theirs, ours)))


def _drawn(pair: Pair, seeds: int) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Theirs and ours under our names: the array of each seed."""
    drawn: tuple[dict[str, list[np.ndarray]], ...] = ({}, {})
    for values, side in zip(drawn, (pair.theirs, pair.ours), strict=True):
        for number in range(seeds):
            side.driver.seed(1000 + number)
            arrays = side.driver.state(side.build(pair.folder))
            for name, array in (pair.translate(arrays) if side is pair.theirs else arrays).items():
                values.setdefault(name, []).append(array)
    return drawn[0], drawn[1]


def _add_law(alignment: Alignment, name: str, a: np.ndarray, b: np.ndarray, alpha: float) -> None:
    """One tensor that is drawn; a, b: (seeds, ...) of theirs and ours."""
    fixed = np.all(a == a[:1], axis=0), np.all(b == b[:1], axis=0)
    if said := padding_row(a[0], b[0], *fixed):
        alignment.problems.append(f"{name}: {said}")
    alignment.add(f"{name} fixed entries", fixed[0], fixed[1], exact=True)
    alignment.add(f"{name} fixed values", a[0][fixed[0]], b[0][fixed[1]], exact=True)
    free = a[:, ~fixed[0]], b[:, ~fixed[1]]
    if free[0].size and free[1].size:  # else the fixed entries have said that one side draws and the other does not
        distance, critical = kolmogorov_smirnov(*free, alpha)
        alignment.add(f"{name} law", 0.0, distance, bound=critical)
    if len(b) > 1:
        renewed = [not np.array_equal(one[0], one[1]) for one in (a, b)]
        alignment.add(f"{name} new numbers for a new seed", renewed[0], renewed[1], exact=True)


def padding_row(theirs: np.ndarray, ours: np.ndarray, their_fixed: np.ndarray, our_fixed: np.ndarray) -> str:
    """'row 0, the padding row of an embedding, say, is drawn by ours and zero in theirs'; "" where that is not it."""
    if theirs.ndim != 2:
        return ""
    rows = np.flatnonzero((their_fixed != our_fixed).any(axis=1))
    for fixed, values, drawer, keeper in (
        (their_fixed, theirs, "ours", "theirs"), (our_fixed, ours, "theirs", "ours")
    ):  # fmt: skip
        if len(rows) == 1 and fixed[rows[0]].all() and not values[rows[0]].any():
            return f"row {rows[0]}, the padding row of an embedding, is drawn by {drawer} and zero in {keeper}"
    return ""


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray, alpha: float) -> tuple[float, float]:
    """Two-sample statistic and its critical value at level alpha (asymptotic: samples of 1000 and more)."""
    a, b = np.sort(a, axis=None), np.sort(b, axis=None)
    grid = np.concatenate([a, b])
    distance = np.abs(np.searchsorted(a, grid, "right") / a.size - np.searchsorted(b, grid, "right") / b.size).max()
    return float(distance), math.sqrt(-math.log(alpha / 2) / 2 * (a.size + b.size) / (a.size * b.size))
