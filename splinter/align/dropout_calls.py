"""Dropout compared: which rate stands where, what it falls on, and by which law; and that evaluation drops nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import laws, pairing
from .compare import Alignment
from .evaluation import add_evaluation
from .held import Dropped
from .port import Pair, Side
from .running import REFUSED, require_one


def add_dropouts(alignment: Alignment, pair: Pair) -> None:
    """Every dropout of the batches, then for each rate of the reference what a dropout of ones leaves."""
    for rate in sorted(_add_every(alignment, pair)):
        if 0 < rate < 1:
            laws.add_rate(alignment, pair, rate)


def _add_every(alignment: Alignment, pair: Pair) -> set[float]:
    """Every dropout of a pass in training mode, in the order they run: its rate, and what it falls on.

    Both come of one pass: weights of the checkpoint, rates of a built model, nothing drawn. Where the passes differ
    anyway, the forward step tells, and only which rates occur is compared.

    Returns:
        The reference's rates.
    """
    sides, seen, tried = (pair.theirs, pair.ours), set[float](), set[laws.Place]()
    taken: list[Any] = []
    refused = set[str]()
    models = [_with_rates(pair, side) for side in sides]
    for name, batch in pairing.every_batch(alignment, pair):
        try:
            theirs = pair.theirs.driver.dropouts(models[0], pair.theirs.forward, batch, "float64")
        except Exception as error:  # one row alone has no variance for a BatchNorm, say
            alignment.note(f"{name}: {REFUSED} ({type(error).__name__}: {error})")
            refused.add(name)
            continue
        ours = pair.ours.driver.dropouts(models[1], pair.ours.forward, batch, "float64")
        theirs, ours = _that_count(theirs, ours)
        fresh = set(laws.places(ours)) - tried
        if fresh or not taken:
            add_evaluation(alignment, name, pair, models, batch)
        seen |= {one.rate for one in theirs}
        taken.append(batch)
        # nothing that a pass has left is kept longer than it is looked at: at base size it is gigabytes
        traced = (
            pairing.traced(pair, side, "float64", model, batch) for side, model in zip(sides, models, strict=True)
        )
        if _alike(*traced):
            if _add_calls(alignment, name, theirs, ours, tuple(pair.port.padding(batch))):
                laws.add_calls(alignment, f"{name}/", pair, theirs, ours, fresh)
                tried |= fresh
            continue
        alignment.note(f"{name}: the passes themselves differ, so only which rates of dropout occur was compared")
        their_rates, our_rates = (sorted({one.rate for one in found}) for found in (theirs, ours))
        alignment.add(f"{name}/dropout rates", their_rates, our_rates, exact=True)
    require_one(alignment, pair, refused, "dropout was")
    for side, model in zip(sides, models, strict=True):
        if taken and _draws(side, model, taken[0]):
            alignment.note(f"the {side.kind} side draws numbers in training mode beside the dropouts that were seen")
    return seen


def _that_count(theirs: list[Dropped], ours: list[Dropped]) -> tuple[list[Dropped], list[Dropped]]:
    """Both without calls of rate 0, unless both make the same: a library may leave them out, and then none counts."""
    if [one.rate for one in theirs] == [one.rate for one in ours]:
        return theirs, ours
    return [one for one in theirs if one.rate], [one for one in ours if one.rate]


def _with_rates(pair: Pair, side: Side) -> Any:
    """A model with the weights of the checkpoint that drops as a built one does, in float64.

    What is loaded may have its rates at 0, and then some calls are not made at all. A side that builds no model has its
    rates in the loaded one.
    """
    loaded, driver = pair.model(side, "float64"), side.driver
    if not side.describes("build"):
        return loaded
    built = driver.cast(side.build(pair.folder), "float64")
    weights = {**driver.parameters(loaded), **driver.buffers(loaded)}
    for name, tensor in {**driver.parameters(built), **driver.buffers(built)}.items():
        if name in weights:
            driver.fill(tensor, driver.to_numpy(weights.pop(name)))
    return built


def _add_calls(
    alignment: Alignment, name: str, theirs: list[Dropped], ours: list[Dropped], masks: Sequence[np.ndarray]
) -> bool:
    """The dropouts of one pass beside each other; a difference names module and rate.

    Returns:
        Whether both have the same ones.
    """
    rates = [[one.rate for one in found] for found in (theirs, ours)]
    alignment.add(f"{name}/dropout rates", rates[0], rates[1], exact=True)
    # how many, for that both drop nothing is a finding too
    alignment.add(f"{name}/dropouts", float(len(theirs)), float(len(ours)), bound=0.0)
    if rates[0] != rates[1]:
        alignment.problems += [f"{name}: {one}" for one in _other_rates(theirs, ours)]
        return False
    for number, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        _add_given(alignment, f"{name}/", laws.label(number, our), their, our, masks)
    return True


def _add_given(
    alignment: Alignment, prefix: str, label: str, their: Dropped, our: Dropped, masks: Sequence[np.ndarray]
) -> None:
    """What one dropout falls on, on both sides."""
    a, b = their.given, our.given
    if a is None or b is None:
        alignment.note(f"{label}: inside of another function in one of both, so what it falls on was not compared")
        return
    shape = pairing.common_shape(a, b)
    if shape is None and pairing.permuted(a, b):
        alignment.note(
            f"{label}: it falls on the same numbers in another order, {a.shape} in theirs, {b.shape} in ours"
        )
        return
    if shape is not None:
        # in one shape first: heads that are merged in one side alone would be blanked there alone
        a, b = (pairing.blanked_queries(pairing.fitted(one, shape), masks) for one in (a, b))
    # rounding is 1e-11 of it, float32 inside 1e-6; before the sum or behind it, say, is another number altogether
    alignment.add(prefix + label, a, b, bound=1e-5 * float(np.abs(a).max(initial=0)))


def _other_rates(theirs: list[Dropped], ours: list[Dropped]) -> Iterator[str]:
    """Each dropout of another rate, by its layer; one that a side lacks has the rate 0 there."""

    def keys(found: list[Dropped]) -> list[str]:
        """Those that fall on the same numbers are the same one."""
        return ["" if one.given is None else f"{np.linalg.norm(one.given):.5g}" for one in found]

    matcher = difflib.SequenceMatcher(None, keys(theirs), keys(ours), autojunk=False)
    for _, a, b, c, d in matcher.get_opcodes():
        if b - a == d - c:
            both = list(zip(theirs[a:b], ours[c:d], strict=True))
        else:
            both = [(one, one._replace(rate=0.0)) for one in theirs[a:b]]
            both += [(one._replace(rate=0.0), one) for one in ours[c:d]]
        for their, our in both:
            if their.rate != our.rate:
                yield f"{our.path or 'the model itself'}, rate {their.rate:g} against {our.rate:g}"


def _draws(side: Side, model: Any, batch: Any) -> bool:
    """Whether two passes in training mode differ with nothing dropped: a kernel drops inside, or layers are skipped."""
    outputs = []
    for seed in (1, 2):
        side.driver.seed(seed)
        with side.driver.unmoved(model):
            outputs += side.driver.passes(model, side.forward, [batch], "float64")
    return any(not np.array_equal(array, outputs[1][name], equal_nan=True) for name, array in outputs[0].items())


Trace = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]


def _alike(theirs: Trace, ours: Trace) -> bool:
    """Whether two passes in float64 differ by no more than rounding, float32 inside of them included."""

    def close(a: np.ndarray, b: np.ndarray) -> bool:
        shape = pairing.common_shape(a, b)
        if shape is None:
            return True  # not comparable by itself
        apart = np.abs(pairing.fitted(a, shape).astype(np.float64) - pairing.fitted(b, shape)).max(initial=0)
        return bool(apart <= 1e-6 * np.abs(a.astype(np.float64)).max(initial=0))

    layers = [(theirs[0][their], ours[0][our]) for their, our in pairing.paired(theirs[0], ours[0])[0]]
    same = theirs[1].keys() == ours[1].keys() and all(
        array.shape == ours[1][name].shape for name, array in theirs[1].items()
    )
    return same and all(
        close(a, b) for a, b in [*layers, *((array, ours[1][name]) for name, array in theirs[1].items())]
    )
