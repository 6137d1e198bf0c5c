"""Why a forward pass differs: where the fault lies, and of which kind it is.

Layers are judged twice. *Propagated*: as the model runs, so that an early fault shows in all that follows. *Alone*:
our model runs with the output of every layer replaced by the reference's, so that what a layer is given, and what it
makes of it, can differ only by a fault right there.

Kinds, each measured:
  data               integers or strings differ: nothing was rounded
  nan                NaN or infinity: where it first appears, in which row, and whether that is padding
  shape              shapes that nothing brings together
  weight             a weight that is not the reference's
  layout             the same numbers in another order, or a weight that lies transposed
  padding row        one row of an embedding that one side has as zeros
  scale, sign        all numbers off by one factor
  offset             all numbers off by one constant or vector, a bias that is left out, say
  residual           the difference is what another layer has made: it is not added, or twice
  epsilon            a norm with another epsilon
  activation         another activation, or another form of it
  attention          other heads, scale, mask or order of query, key and value
  mask               padded positions move the others
  reduced precision  products of factors rounded to TF32, bfloat16 or float16 give our numbers
  float32 inside     a float64 run that holds numbers which float32 has rounded (narrow.py)
  rounding           an error that the order of additions explains: e <= 16 eps |A||B| for a product (the limit of the
                     BLAS tests, SMMCH in Reference-LAPACK), or of the reference's own size
  semantic           stays in float64, and is none of the above
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..compare import Tolerance, finite
from ..narrow import narrowed
from ..port import Pair
from . import kinds
from .diagnosis import between, within
from .passes import Limits, Passes, relative, together
from .products import proven

DOUBLE = 1e-6
"""What of a float32 tolerance is asked of float64, where rounding is 2e-9 of float32's."""
CERTAIN = ("data", "nan", "shape", "weight", "layout", "padding row", "sign", "reduced precision")
"""Kinds that float32 shows for sure; of all others float64 is asked."""
NO_FAULT = ("rounding", "unknown", "float32 inside")


@dataclass(frozen=True)
class Layer:
    """Errors of one layer in one batch, relative to the largest number of the reference.

    Args:
        propagated: of its output as the model runs.
        given: of its input, when all layers before it gave the reference's output; None where it cannot be compared.
        alone: of its output then.
    """

    name: str
    propagated: float
    given: float | None
    alone: float


@dataclass(frozen=True)
class Explanation:
    """What is known of a divergence; `sentence` says it in one line."""

    kind: str
    place: str
    sentence: str
    layers: tuple[Layer, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON has it: no infinity."""
        layers = [{k: finite(v) if isinstance(v, float) else v for k, v in asdict(one).items()} for one in self.layers]
        return {**asdict(self), "layers": layers}


class Fault(NamedTuple):
    """What was found: its kind, the tensor, and a sentence."""

    kind: str
    place: str
    what: str


def explain(pair: Pair, tolerance: Tolerance, batch: str = "", float32: Tolerance | None = None) -> Explanation:
    """Find the first fault of a forward pass.

    Args:
        tolerance: of the forward step; what is beyond it is a fault.
        batch: name of the batch to look at; "" = the first one.
        float32: the step's row in float32, for a float64 run with float32 inside; None: it is not looked for.

    Raises:
        TypeError: a driver of its own whose `trace` takes neither inputs nor put.
    """
    passes = Passes(pair, batch)
    inside = narrowed(pair, "forward", float32) if float32 is not None else None
    limits = Limits(tolerance, f"{passes.name}/", inside)
    layers = _layers(passes)
    fault = (
        _not_finite(passes)
        or _first_layer(passes, limits, layers)
        or _first_output(passes, limits)
        or _no_layer(passes, limits, layers)
    )
    if fault.kind not in CERTAIN and pair.dtype != "float64":
        # what float64 shows as well is no rounding, however small; what it does not show is no other meaning
        strict = replace(tolerance, atol=DOUBLE * tolerance.atol, rtol=DOUBLE * tolerance.rtol)
        fault = _confirmed(fault, explain(replace(pair, dtype="float64"), strict, passes.name, tolerance))
    sentence = f"{fault.kind}: {fault.what}; {_outcome(passes)}"
    return Explanation(fault.kind, fault.place, sentence, tuple(layers))


def _layers(passes: Passes) -> list[Layer]:
    """The errors of all layers that ran on both sides, in the order they ran in ours."""

    def apart(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray], name: str) -> float | None:
        if name not in theirs or name not in ours:
            return None
        both = together(theirs[name], ours[name])
        return float("inf") if both is None else relative(*both)

    found = []
    for name in (name for name in passes.alone if name in passes.their_outputs):
        grown, alone = (apart(passes.their_outputs, side, name) for side in (passes.propagated, passes.alone))
        given = apart(passes.their_inputs, passes.inputs, name)
        found.append(
            Layer(name, float("inf") if grown is None else grown, given, float("inf") if alone is None else alone)
        )
    return found


def _not_finite(passes: Passes) -> Fault | None:
    """The first NaN or infinity that only one side has; else the first that both have."""
    theirs, ours = {**passes.their_outputs, **passes.their_end}, {**passes.propagated, **passes.end}
    both = None
    for name in (name for name in ours if name in theirs):
        where = kinds.not_finite(theirs[name]), kinds.not_finite(ours[name])
        same = where[0].shape == where[1].shape and np.array_equal(*where)
        if not where[0].any() and not where[1].any():
            continue
        if same:
            both = both or Fault("nan", name, _appears(passes, name, theirs[name], where[0], "both sides"))
            continue
        in_ours = where[1].any() and not (where[0].any() and where[0].sum() > where[1].sum())
        array, marks = (ours[name], where[1]) if in_ours else (theirs[name], where[0])
        return Fault("nan", name, _appears(passes, name, array, marks, "ours alone" if in_ours else "theirs alone"))
    return both


def _appears(passes: Passes, name: str, array: np.ndarray, where: np.ndarray, whose: str) -> str:
    """'NaN first appears in ours alone, in fc (Linear against Linear), row 2 of the batch, which is all padding'."""
    value = "NaN" if np.isnan(array[where]).any() else "infinity"
    given = passes.own_inputs.get(name) if whose.startswith("ours") else passes.their_inputs.get(name)
    already = given is not None and bool(kinds.not_finite(given).any())
    place = f"in what {passes.label(name)} is given" if already else f"in {passes.label(name)}"
    rows = kinds.rows_of(where)
    said = f"{value} first appears {place}, in {whose}, row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:8]))}"
    if passes.padded is not None and len(passes.padded[1]) == len(where):
        empty = [bool(row.all()) for row in passes.padded[1]]
        if rows and all(empty[row] for row in rows):
            return f"{said} of the batch, which {passes.padded[0]} marks as padding throughout"
        return f"{said} of the batch, not {'only ' * any(empty[row] for row in rows)}padding throughout"
    return f"{said} of its first axis"


def _first_layer(passes: Passes, limits: Limits, layers: list[Layer]) -> Fault | None:
    """The first layer that is given something else, or makes something else of the same."""
    ran = list(passes.alone)
    for layer in layers:
        name = layer.name
        more = [one for one in ran[: ran.index(name)] if one not in passes.their_outputs]
        beside = f"; {passes.label(more[-1])} runs before it in ours alone" if more else ""
        if layer.given is not None and limits.beyond(name, passes.their_inputs[name], layer.given):
            kind, why = between(passes, name, passes.their_inputs[name], passes.inputs[name])
            size = "" if layer.given == float("inf") else f" by {layer.given:.1e}"
            what = f"what {passes.label(name)} is given differs{size}, though all layers before it agree"
            return Fault(kind, name, f"{what}; {why}{beside}")
        if layer.alone == float("inf"):
            continue  # a shape of its own is no fault: what follows tells whether the numbers are right
        if limits.beyond(name, passes.their_outputs[name], layer.alone):
            kind, why = within(passes, name)
            what = f"{passes.label(name)} itself differs by {layer.alone:.1e}, given the reference's input"
            return Fault(kind, name, f"{what}; {why}{beside}")
    return None


def _first_output(passes: Passes, limits: Limits) -> Fault | None:
    """The first output of the model that differs though all layers gave what the reference's give."""
    for name, output in passes.their_end.items():
        if name not in passes.forced_end:
            continue
        error = relative(output, passes.forced_end[name])
        if limits.beyond(name, output, error):
            kind, why = between(passes, "", output, passes.forced_end[name])
            size = "" if error == float("inf") else f" by {error:.1e}"
            return Fault(kind, name, f"{name} differs{size}, though the outputs of all layers agree; {why}")
    return None


def _no_layer(passes: Passes, limits: Limits, layers: list[Layer]) -> Fault:
    """What is left to say when no layer is at fault alone."""
    both = [name for name in passes.their_end if name in passes.end]
    grown = {name: relative(passes.their_end[name], passes.end[name]) for name in both}
    if any(limits.beyond(name, passes.their_end[name], size) for name, size in grown.items()):
        why = "no layer is beyond its tolerance alone; what each adds has grown on the way"
        return Fault("rounding", "", why)
    for layer in layers:
        if float("inf") in (layer.alone, layer.propagated):
            theirs, ours = passes.their_outputs[layer.name].shape, passes.propagated[layer.name].shape
            return Fault(
                "shape", layer.name, f"{passes.label(layer.name)} has shape {theirs} in theirs, {ours} in ours"
            )
    lonely = [name for name in passes.propagated if name not in passes.their_outputs]
    if limits.narrowed is not None:
        return Fault("float32 inside", "", "; ".join(limits.narrowed.notes))
    if lonely:
        return Fault("unknown", lonely[0], f"{passes.label(lonely[0])} runs, and nothing of the reference's runs there")
    return Fault("unknown", "", "no number is beyond atol and rtol: it is the ratio, a dtype or a name that fails")


def _confirmed(fault: Fault, double: Explanation) -> Fault:
    """What float32 showed, after float64 was asked."""
    what = double.sentence.partition(": ")[2].rpartition("; the outputs")[0]
    if double.kind in NO_FAULT:
        if fault.kind in NO_FAULT:
            return fault
        return Fault("reduced precision", fault.place, f"{fault.what}, none of which is left in float64")
    if fault.kind in NO_FAULT or double.place == fault.place:
        return Fault(double.kind, double.place, f"{what}, in float64 as well")
    return fault._replace(what=f"{fault.what}; in float64 the first is {double.place or 'an output'} ({double.kind})")


def _outcome(passes: Passes) -> str:
    """'the outputs differ by 1.0e-03; 7 of 8 predictions are proven unchanged'."""
    theirs, ours, raw = passes.their_end, passes.end, passes.raw
    sizes = [relative(theirs[name], ours[name]) for name in theirs if name in ours]
    grown = max(sizes, default=0.0)
    said = "the outputs cannot be compared" if grown == float("inf") else f"the outputs differ by {grown:.1e}"
    argmax = [n for n in raw[0] if f"argmax of {n}" in theirs and n in raw[1] and raw[0][n].shape == raw[1][n].shape]
    sure = [proven(raw[0][name], raw[1][name]) for name in argmax]  # as predicted from, padding and all
    rows = np.concatenate([one.ravel() for one in sure]) if sure else np.empty(0, bool)
    return said + (f"; {int(rows.sum())} of {rows.size} predictions are proven unchanged" if rows.size else "")
