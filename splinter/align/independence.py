"""Freshly built models as a whole: what no tensor's own law shows.

A layer that is a copy of the first, heads that are drawn alike, one stream of random numbers for two tensors or two
seeds, a scale that is a little off everywhere. Every limit is a critical value: all tests of one kind together give one
false alarm in ten thousand runs (Bonferroni).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import NormalDist

import numpy as np

from .compare import Alignment

ALPHA = 1e-4
"""Of each kind of test, all tensors together."""
KEY = 4
"""Numbers of a row by which it is known again: 23 random bits each, so that no two of 1e9 rows agree by chance."""
LINES = 128
"""So many rows, and columns, of a tensor are correlated, evenly spread where there are more."""
SAMPLE = 16_384
"""So many numbers of a tensor, in each seed, are correlated at most."""
SEEDS = 4
"""In so many seeds copies are looked for."""
ENOUGH = 100
"""Numbers without which a variance, and the error of it, are not estimated."""


@dataclass(frozen=True)
class Drawn:
    """A tensor of one side, of all seeds.

    Args:
        values: (S, R, C): rows in which nothing is fixed; a vector is one row.
        vector: whether it is one.
    """

    values: np.ndarray
    vector: bool

    @cached_property
    def size(self) -> int:
        """How many numbers were drawn."""
        return int(self.values.size)

    @cached_property
    def moments(self) -> tuple[float, float, float]:
        """Mean, variance, and the fourth moment over the square of the variance."""
        total, seeds = np.zeros(4), len(self.values)
        for seed in self.values:  # a seed at a time: at base size all of them in float64 are gigabytes
            wide = seed.astype(np.float64)
            square = wide * wide
            total += [wide.mean(), square.mean(), (square * wide).mean(), (square * square).mean()]
        m1, m2, m3, m4 = total / seeds
        variance = m2 - m1**2
        return m1, variance, (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / variance**2


def drawn(stack: np.ndarray) -> Drawn | None:
    """What of a tensor is random; stack: (S, ...). None where every row holds something fixed."""
    fixed = (stack == stack[:1]).all(axis=0)
    if stack.ndim <= 2:
        values = stack.reshape(len(stack), 1, -1)[:, :, ~fixed.reshape(-1)]
    else:
        values = stack.reshape(len(stack), len(fixed), -1)[:, ~fixed.reshape(len(fixed), -1).any(axis=1)]
    return Drawn(values, stack.ndim <= 2) if values.size else None


def add_whole(
    alignment: Alignment, theirs: Mapping[str, list[np.ndarray]], ours: Mapping[str, list[np.ndarray]]
) -> None:
    """All tensors that both sides draw, held against each other; each a list with an array per seed."""
    found = [{n: d for n, arrays in side.items() if n in theirs and n in ours and (d := drawn(np.stack(arrays)))}
             for side in (theirs, ours)]  # fmt: skip
    alike = {n for n in found[0] if n in found[1] and found[0][n].values.shape == found[1][n].values.shape}
    sides = [{n: d for n, d in side.items() if n in alike} for side in found]  # else the step has said so already
    if not alike:
        return
    repeated = _add_copies(alignment, *sides)
    _add_correlations(alignment, *sides)
    own = [{n: d for n, d in side.items() if n not in repeated and d.size >= ENOUGH} for side in sides]
    _add_moments(alignment, *own)
    _add_lines(alignment, *own)


# -- copies -----------------------------------------------------------------------------------------------


def _repeats(side: Mapping[str, Drawn]) -> set[tuple[str, str, bool]]:
    """Tensors of which a row or column stands in another place once more: (name, name, in another seed)."""
    seen: dict[bytes, tuple[str, int]] = {}
    found = set()
    for name, one in side.items():
        rows, columns = one.values.shape[1:]
        for seed, matrix in enumerate(one.values[:SEEDS]):
            lines = [matrix[:, :KEY]] * (columns >= KEY) + [matrix[:KEY].T] * (rows >= KEY)
            for key in (line.tobytes() for part in lines for line in np.ascontiguousarray(part)):
                if key in seen:
                    first, its_seed = seen[key]
                    found.add((first, name, its_seed != seed))
                else:
                    seen[key] = name, seed
    return found


def _add_copies(alignment: Alignment, theirs: Mapping[str, Drawn], ours: Mapping[str, Drawn]) -> set[str]:
    """No numbers are drawn twice where the reference's are not; returns the names of all that are."""
    found = _repeats(theirs), _repeats(ours)
    alignment.add("pairs of tensors with equal rows", len(found[0]), len(found[1]), exact=True)
    for sides, keeper in ((found[1] - found[0], "ours"), (found[0] - found[1], "theirs")):
        for first, second, seeds in sorted(sides)[:4]:
            what = f"{first} and {second} hold" if first != second else f"{first} holds"
            alignment.problem(f"{what} the same numbers in {keeper} alone{', in two seeds' if seeds else ''}")
    return {name for one in found for first, second, _ in one for name in (first, second)}


# -- correlations -----------------------------------------------------------------------------------------


def limit(tests: int) -> float:
    """How many standard deviations one of so many tests may be off."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, tests)))


def correlations(lines: np.ndarray) -> np.ndarray:
    """Of each two of the lines, (lines, numbers), those above the diagonal."""
    lines = lines - lines.mean(axis=1, keepdims=True)
    lines /= np.maximum(np.linalg.norm(lines, axis=1, keepdims=True), np.finfo(lines.dtype).tiny)
    return (lines @ lines.T)[np.triu_indices(len(lines), 1)]


def spread(count: int, most: int) -> np.ndarray:
    """So many of `count` places at most, evenly."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(int)


def _samples(name: str, side: Mapping[str, Drawn]) -> np.ndarray:
    """(seeds, numbers): some of the numbers of a tensor."""
    flat = side[name].values.reshape(len(side[name].values), -1)
    return flat[:, spread(flat.shape[1], SAMPLE)]


def _tensors(names: Iterable[str], side: Mapping[str, Drawn]) -> np.ndarray:
    """(tensors, numbers of all seeds): some of the numbers of each, at the same places."""
    return np.stack([_samples(name, side).ravel() for name in names])


def _lines(name: str, axis: int, side: Mapping[str, Drawn]) -> np.ndarray:
    """(lines, numbers of all seeds): some rows, axis 0, or columns, axis 1, and some numbers of each."""
    turned = side[name].values.transpose((1, 0, 2) if axis == 0 else (2, 0, 1))
    lines = turned[spread(len(turned), LINES)]
    return lines[:, :, spread(lines.shape[2], SAMPLE // LINES)].reshape(len(lines), -1)


def _add_correlations(alignment: Alignment, theirs: Mapping[str, Drawn], ours: Mapping[str, Drawn]) -> None:
    """Tensors of one shape, rows and columns of a tensor, and seeds have nothing to do with each other."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, one in theirs.items():
        groups.setdefault(one.values.shape[1:], []).append(name)
    made: list[tuple[str, Callable[[Mapping[str, Drawn]], np.ndarray]]] = [
        (f"correlation of tensors {shape}", partial(_tensors, names))
        for shape, names in groups.items()
        if len(names) > 1
    ]
    for name, one in theirs.items():
        seeds, rows, columns = one.values.shape
        for axis, word in enumerate(("rows", "columns")):
            if not one.vector and min(rows, columns) > 1:
                made.append((f"correlation of {word} of {name}", partial(_lines, name, axis)))
        if rows * columns >= ENOUGH and seeds > 1:
            made.append((f"correlation of seeds of {name}", partial(_samples, name)))
    found = []
    for word, lines in made:
        given = lines(theirs)
        found.append((word, given.shape[1], correlations(given), correlations(lines(ours))))
    off = limit(sum(len(one[2]) for one in found))
    for word, count, first, second in found:
        if count <= off**2 or not len(first):
            continue  # so short that no correlation, which is 1 at most, is beyond the bound
        bound = off / math.sqrt(count)
        kept = np.abs(first) > bound  # on purpose, in the reference
        if (np.abs(second[kept]) <= bound).any():
            alignment.problem(f"{word}: in theirs some go together, and in ours they do not")
        if not kept.all():
            alignment.add(word, 0.0, float(np.abs(second[~kept]).max()), bound=bound)


# -- moments ----------------------------------------------------------------------------------------------


def _kinds(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Groups of tensors that follow one law, or go by one rule: each alone, one kind in all layers, all of a last name,
    and all there are."""
    found: dict[str, list[str]] = {}
    for name in names:
        for group in (name, re.sub(r"\d+", "*", name), f"all {name.rpartition('.')[2]}", "all that is drawn"):
            if name not in found.setdefault(group, []):
                found[group].append(name)
    unique = {tuple(members): group for group, members in reversed(found.items())}
    return {group: members for members, group in unique.items()}


def _add_moments(alignment: Alignment, theirs: Mapping[str, Drawn], ours: Mapping[str, Drawn]) -> None:
    """Mean and scale of each tensor, and of all that go by one rule, pooled by how sure each is.

    Of n numbers with variance s^2 and kurtosis k the mean has the variance s^2 / n, the logarithm of the variance has
    (k - 1) / n; a pool weighs each tensor by the inverse of that.
    """
    means, scales = {}, {}
    for name, one in theirs.items():
        (m1, v1, k1), (m2, v2, k2) = one.moments, ours[name].moments
        both = 2 / one.size
        means[name] = (m2 - m1) / math.sqrt(v1), both
        scales[name] = math.log(v2 / v1) / 2, (max(k1, k2, 1.5) - 1) * both / 4
    groups = _kinds(theirs)
    off = limit(2 * len(groups))
    for group, members in groups.items():
        for word, found in (("mean", means), ("scale", scales)):
            weight = sum(1 / found[name][1] for name in members)
            pooled = sum(found[name][0] / found[name][1] for name in members) / weight
            # in standard deviations of the tensors, and as a share of them
            alignment.add(f"{word} of {group}", 0.0, abs(pooled), bound=off / math.sqrt(weight))


def _add_lines(alignment: Alignment, theirs: Mapping[str, Drawn], ours: Mapping[str, Drawn]) -> None:
    """Every row and every column of a matrix has the scale that it has in the reference."""
    cases = [(n, axis) for n, one in theirs.items() if not one.vector for axis in (0, 1)
             if one.values.shape[1 + axis] > 1 and one.size / one.values.shape[1 + axis] >= 5 * ENOUGH]  # fmt: skip
    off = limit(sum(theirs[name].values.shape[1 + axis] for name, axis in cases))
    for name, axis in cases:
        mean, _, kurtosis = theirs[name].moments
        others = (0, 2) if axis == 0 else (0, 1)
        first, second = (
            np.square(side[name].values - np.float32(mean)).mean(axis=others, dtype=np.float64)
            for side in (theirs, ours)
        )
        count = theirs[name].size / len(first)
        apart = float(np.abs(np.log(second / first)).max()) / 2
        bound = off * math.sqrt((max(kurtosis, 1.5) - 1) * 2 / count) / 2
        alignment.add(f"scale of each {('row', 'column')[axis]} of {name}", 0.0, apart, bound=bound)
