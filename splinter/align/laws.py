"""By which law a dropout falls: the calls of both sides tried on ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set
from typing import NamedTuple

import numpy as np

from .compare import Alignment
from .held import Dropped
from .port import Pair, Side

ONES = 2**14
"""How many a call is tried on, about: their share has a standard deviation of 0.2 % at a rate of 0.1."""
CALLS = 16
"""How often a call that seems to drop whole lines is tried, for at a low rate nothing may fall on a few channels."""
FLOAT32 = 1e-7
"""Of a number, whatever law it follows; see `_rounding` for how far the one that is kept may be off."""
Place = tuple[str, int]
"""The layer that drops, and how often it has in the pass before."""


def add_rate(alignment: Alignment, pair: Pair, rate: float) -> None:
    """What the frameworks' own dropouts of a rate leave of ones."""
    count, kept = 200_000, []
    for side in (pair.theirs, pair.ours):
        side.driver.seed(1)
        drawn = side.driver.dropout_of_ones(rate, count)
        survivors = drawn[drawn != 0]
        alignment.add(f"dropout {rate} scale/{side.kind}", 1 / (1 - rate), survivors.max(), bound=_rounding(rate))
        kept.append(len(survivors) / count)
    alignment.add(f"dropout {rate} share kept", kept[0], kept[1], bound=_five_sigma(rate, count, count))


def _rounding(rate: float) -> float:
    """How far 1 / (1 - rate) is off where a framework keeps the rate as float32, as Paddle does in every dtype.

    The rate is half a unit off, 2^-25 at most, and so is 1 - rate where it is taken in float32. 2^-24 together, and an
    error e of 1 - rate is one of e / (1 - rate)^2 of its inverse.
    """
    return 2.0**-24 / (1 - rate) ** 2


def _five_sigma(rate: float, *draws: int) -> float:
    """How far two shares of so many draws may lie apart; the chance of a false alarm is 6e-7."""
    return 5 * math.sqrt(rate * (1 - rate) * sum(1 / count for count in draws))


def label(number: int, dropped: Dropped) -> str:
    """What a dropout is called, by its number in the pass."""
    return f"dropout {number}{dropped.path and ', '}{dropped.path}"


def places(found: list[Dropped]) -> list[Place]:
    """Where each dropout of a pass stands."""
    before: Counter[str] = Counter()
    made = []
    for one in found:
        made.append((one.path, before[one.path]))
        before[one.path] += 1
    return made


def add_calls(
    alignment: Alignment, prefix: str, pair: Pair, theirs: list[Dropped], ours: list[Dropped], at: Set[Place]
) -> None:
    """What each call at these places leaves of ones, with the arguments that it has in the model."""
    for number, (their, our, place) in enumerate(zip(theirs, ours, places(ours), strict=True)):
        if place not in at:
            continue
        a, b = _law(pair.theirs, their), _law(pair.ours, our)
        if a is None or b is None:
            continue
        name = f"{prefix}{label(number, our)} of ones/"
        bound = max(FLOAT32 * float(np.abs(a.numbers).max()), _rounding(our.rate))
        alignment.add(f"{name}numbers", a.numbers, b.numbers, bound=bound)
        alignment.add(f"{name}draws anew, and by the seed", a.drawn, b.drawn, exact=True)
        one_rank = len(a.together) == len(b.together)  # heads may be merged in one side alone
        together = [law.together if one_rank else law.together.any() for law in (a, b)]
        alignment.add(f"{name}axes along which all falls together", together[0], together[1], exact=True)
        alignment.add(f"{name}share kept", a.kept, b.kept, bound=_five_sigma(our.rate, a.draws, b.draws))


class Law(NamedTuple):
    """What a call makes of ones."""

    numbers: np.ndarray
    """The smallest and the largest number that comes out, and how many different ones."""
    kept: float
    """The share of the largest: what becomes of a one that is kept."""
    together: np.ndarray
    """Of each axis, whether all along it falls together, as a whole channel does."""
    draws: int
    """How many units fall each for itself."""
    drawn: np.ndarray
    """Whether the next call drops others, and whether the seed brings the first ones back."""


def _law(side: Side, dropped: Dropped) -> Law | None:
    """None of a dropout that cannot be tried, or of which nothing or all is to be left."""
    if dropped.given is None or dropped.call is None or not dropped.given.ndim or not 0 < dropped.rate < 1:
        return None
    axes = dropped.given.ndim
    shape = (round(ONES ** (1 / axes)),) * axes
    side.driver.seed(1)
    together = _together(side.driver.left_of_ones(dropped, shape, "float64"))
    if together.any():
        for _ in range(CALLS - 1):
            together &= _together(side.driver.left_of_ones(dropped, shape, "float64"))
        # whole channels: few units fall each for itself, so there are more of them, and two numbers show one that falls
        long = round(ONES ** (1 / max(1, int((~together).sum()))))
        shape = tuple(2 if one else long for one in together)

    side.driver.seed(1)
    first, second = (side.driver.left_of_ones(dropped, shape, "float64") for _ in range(2))
    side.driver.seed(1)
    again = side.driver.left_of_ones(dropped, shape, "float64")

    different = len(np.unique(np.round(first, 5)))
    return Law(
        np.array([first.min(), first.max(), different]),
        float(np.isclose(first, first.max()).mean()),
        together,
        math.prod(size for size, one in zip(shape, together, strict=True) if not one),
        np.array([not np.array_equal(first, second), np.array_equal(first, again)]),
    )


def _together(left: np.ndarray) -> np.ndarray:
    """Of each axis, whether every line along it is kept or dropped as a whole."""
    kept = np.isclose(left, left.max())
    return np.array([bool((kept == kept.take([0], axis)).all()) for axis in range(left.ndim)])
