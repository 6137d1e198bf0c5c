"""That a model drops nothing when it is asked: in a pass in evaluation mode, and each time a product asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .compare import Alignment
from .pairing import MASKED
from .port import OF_A_CALL, PLAIN, Pair

SAME = 1e-6
"""Of the largest number: a pass is off by 1e-11 of it in float64, by 1e-6 with float32 inside; a unit that is dropped
makes 1e-3 and more."""


def add_evaluation(alignment: Alignment, name: str, pair: Pair, models: Sequence[Any], batch: Any) -> None:
    """A pass in evaluation mode is the one in which no call of a dropout does anything.

    Args:
        models: theirs and ours, with the rates of training.
    """
    touched = []
    for side, model in zip((pair.theirs, pair.ours), models, strict=True):
        side.driver.seed(1)
        _, asked = side.driver.trace(model, side.forward, batch, "float64", ())
        side.driver.seed(2)
        falling, idle = side.driver.undropped(model, side.forward, batch, "float64")
        touched.append([output for output, array in asked.items() if not _close(array, idle[output])])
        if touched[-1] and not touched[0]:
            layers = ", ".join(dict.fromkeys(one.path or "the model itself" for one in falling if one.rate))
            alignment.problem(f"{name}: ours drops out in evaluation mode as well{layers and ': '}{layers}")
    alignment.add(f"{name}/dropout in evaluation mode", bool(touched[0]), bool(touched[1]), exact=True)


def add_uses(alignment: Alignment, pair: Pair) -> None:
    """What a product answers whenever it is asked, with the rates of training, and what its updates drop.

    Where a plain call of the two models differs without dropout already, the forward step tells, and ours is held
    against itself. Where the calls agree and the product's own way of asking does not, no other step need tell.
    """
    theirs, ours = (dict(side.uses(pair.folder)) for side in (pair.theirs, pair.ours))
    plain = theirs.pop(PLAIN), ours.pop(PLAIN)
    differ = {name for name in alignment.common(f"{PLAIN}/", *plain) if not _close(plain[0][name], plain[1][name])}
    calls = {OF_A_CALL.format(name) for name in (*plain[0], *plain[1])}
    for name in sorted(differ - calls):
        if OF_A_CALL.format(name) not in differ:
            alignment.problem(f"{name}: ours answers otherwise without dropout, and no plain call of the model does")
    for moment in alignment.common("", theirs, ours):
        for name in alignment.common(f"{moment}/", theirs[moment], ours[moment]):
            expected = theirs[moment][name]
            if name in differ:
                alignment.note(f"{name}: the sides differ without dropout, so ours was held against itself without it")
                expected = plain[1][name]
            bound = _rounding(expected) if expected.dtype.kind == "f" else None
            alignment.add(f"{moment}/{name}", expected, ours[moment][name], bound=bound)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same but for rounding."""
    if a.shape != b.shape or a.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.allclose(a, b, rtol=0, atol=_rounding(a), equal_nan=True)


def _rounding(array: np.ndarray) -> float:
    """By how much two passes may differ; what masks a score, -1e4 or the lowest number there is, is no measure."""
    sizes = np.abs(array)
    return SAME * float(sizes[sizes < -MASKED].max(initial=0) or sizes.max(initial=0))
