"""Why a step fails: where the fault lies, and of which kind it is.

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

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from . import formulas, kinds, pairing
from .compare import SHORT, Narrowed, Tolerance, finite
from .kinds import Found
from .narrow import narrowed
from .port import Pair, Side
from .record import clean, contradiction, verdict
from .steps import renamed
from .terminal import printable

GAUGE = 16.0
"""Limit of e / (eps |A||B|): what the BLAS tests allow a product."""
MANTISSAS = {"TF32 or float16": 10, "bfloat16": 7}
"""Bits of the fraction."""
REDUCED = 2**8
"""From so many eps of the largest number on, an error that is gone in float64 is not that of float32 additions."""
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


def together(theirs: np.ndarray, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Two intermediates in one shape; None where there is none."""
    shape = pairing.common_shape(theirs, ours)
    return None if shape is None else pairing.unmasked(pairing.fitted(theirs, shape), pairing.fitted(ours, shape))


def relative(theirs: np.ndarray, ours: np.ndarray) -> float:
    """Largest difference over the largest number of the reference; infinite where they cannot be compared."""
    if theirs.shape != ours.shape or theirs.dtype.kind not in "fiub":
        return float("inf")
    if not theirs.size:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(theirs.astype(np.float64) - ours.astype(np.float64)).max()
    size = np.abs(theirs.astype(np.float64)).max()
    return float(difference / size if size else difference) if np.isfinite(difference) else float("inf")


def rounded(array: np.ndarray, bits: int) -> np.ndarray:
    """The nearest numbers with so many bits of fraction, as float64."""
    fraction, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.round(fraction * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)


def gauge(a: np.ndarray, b: np.ndarray, ours: np.ndarray) -> float:
    """Largest error of a product in units of eps |a||b|, element by element.

    Args:
        a: (..., N, K) and b: (K, M), the factors as they were; ours: (..., N, M), of the precision that is judged.
    """
    exact = a.astype(np.float64) @ b.astype(np.float64)
    limit = np.finfo(ours.dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    return float((np.abs(exact - ours) / np.maximum(limit, np.finfo(np.float64).tiny)).max())


def proven(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Rows (..., T) -> whether the highest position is provably the same: twice the error is less than the gap.

    The gap is that between the two highest numbers of the reference; a tie proves nothing.
    """
    if theirs.shape[-1] < 2:
        return np.ones(theirs.shape[:-1], bool)
    highest = np.partition(theirs.astype(np.float64), -2, axis=-1)
    error = np.abs(theirs.astype(np.float64) - ours).max(axis=-1)
    return 2 * error < highest[..., -1] - highest[..., -2]


def judge_product(a: np.ndarray, b: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> tuple[str, str]:
    """Which kind of difference two results of one product have.

    Args:
        a: (..., N, K) and b: (K, M); theirs, ours: (..., N, M), without bias.

    Returns:
        Kind, and the measurement that decided.
    """
    if np.array_equal(theirs, ours):
        return "equal", "bit-equal"
    found = gauge(a, b, ours)
    if found <= GAUGE < gauge(a, b, theirs):
        return "semantic", "ours is the product of these factors within the bound, theirs is not"
    if found <= GAUGE:
        return "rounding", f"e/(eps |A||B|) = {found:.2g}, at most {GAUGE:.0f}"
    if b.shape[0] == b.shape[1] and gauge(a, b.T, ours) <= GAUGE:
        return "layout", "the product with the second factor transposed"
    if ours.dtype == np.float32:
        apart = np.square(theirs.astype(np.float64) - ours).mean()
        for name, bits in MANTISSAS.items():
            emulated = rounded(a, bits) @ rounded(b, bits)
            # on the whole: how ties are rounded differs, and a single one of them is as large as what is looked for
            if np.square(emulated - ours).mean() < apart / 64:
                return "reduced precision", f"e/(eps |A||B|) = {found:.3g}; factors rounded to {name} give our numbers"
    return "semantic", f"e/(eps |A||B|) = {found:.3g}, more than {GAUGE:.0f}"


class Passes:
    """One batch through both models of a pair: theirs, ours, and ours with the reference's outputs put in."""

    def __init__(self, pair: Pair, batch: str):
        batches = pair.port.batches(pair.folder, pair.mode)
        self.pair, self.name = pair, batch if batch in batches else next(iter(batches))
        self.batch = batches[self.name]
        self.modules = pair.modules  # our path -> their path
        self.theirs, self.ours = pair.model(pair.theirs), pair.model(pair.ours)
        to_ours = {their: our for our, their in self.modules.items()}
        inputs, outputs, their_end = self._run(pair.theirs, self.theirs, self.modules.values())
        self.their_inputs, self.their_outputs = (renamed(arrays, to_ours) for arrays in (inputs, outputs))
        self.own_inputs, own_outputs, end = self._run(pair.ours, self.ours, self.modules)
        beside = {our: their for their, our in pairing.paired(self.their_outputs, own_outputs)[0]}
        put = {
            our: pairing.fitted(self.their_outputs[their], own_outputs[our].shape)
            for our, their in beside.items()
            if together(self.their_outputs[their], own_outputs[our]) is not None
            and _fits(self.their_outputs[their], own_outputs[our])
        }
        self.inputs, forced, forced_end = self._run(pair.ours, self.ours, self.modules, put)
        self.propagated, self.alone = (
            {beside.get(key, key): array for key, array in outputs.items()} for outputs in (own_outputs, forced)
        )
        self.raw = their_end, end
        self.their_end, self.end, self.forced_end = (
            pair.port.readout(outputs, self.batch) for outputs in (their_end, end, forced_end)
        )
        masks = tuple(pair.port.padding(self.batch))
        for seen in ("their_inputs", "their_outputs", "own_inputs", "inputs", "propagated", "alone",
                     "their_end", "end", "forced_end"):  # fmt: skip
            setattr(self, seen, pairing.blanked(getattr(self, seen), masks))  # as the step has compared them

    def _run(self, side: Side, model: Any, paths: Iterable[str], put: Mapping[str, np.ndarray] | None = None):
        inputs: dict[str, np.ndarray] = {}
        forward, dtype = side.forward, self.pair.dtype
        return inputs, *side.driver.trace(model, forward, self.batch, dtype, list(paths), inputs, put)

    @cached_property
    def _kinds(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Layers of both by path, where their drivers tell them."""
        sides = (self.pair.theirs, self.theirs), (self.pair.ours, self.ours)
        theirs, ours = (side.driver.layers(model) if hasattr(side.driver, "layers") else {} for side, model in sides)
        return theirs, ours

    def label(self, name: str) -> str:
        """'layers.3.norm1 (LayerNorm against LayerNorm)'."""
        path = name.partition("#")[0]
        found = self._kinds[0].get(self.modules.get(path, "")), self._kinds[1].get(path)
        if path not in self.modules or None in found:
            return name
        return f"{name} ({' against '.join(type(layer).__name__ for layer in found)})"

    def before(self, name: str) -> dict[str, np.ndarray]:
        """What the layers that ran before one have made, in theirs and so in ours, in the order they ran."""
        names = list(self.their_outputs)
        return {one: self.their_outputs[one] for one in names[: names.index(name)]} if name in names else {}

    @cached_property
    def padded(self) -> tuple[str, np.ndarray] | None:
        """The batch's mask: its name, and where it marks padding."""
        return kinds.padding(self.batch)


def _fits(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether a reference's output can be put in place of one of ours: of its size, or fewer equal rows."""
    return theirs.size == ours.size or np.broadcast_shapes(theirs.shape, ours.shape) == ours.shape


@dataclass
class Limits:
    """What is a fault: an error beyond the tolerance, or beyond float32's where float32 is inside."""

    tolerance: Tolerance
    prefix: str
    narrowed: Narrowed | None = None

    def beyond(self, name: str, reference: np.ndarray, error: float | None) -> bool:
        """Whether a relative error of a tensor is a fault."""
        touched = self.narrowed is not None and not self.narrowed.untouched(self.prefix + name)
        tolerance = self.narrowed.tolerance if self.narrowed is not None and touched else self.tolerance
        return exceeds(tolerance, reference, error)


def exceeds(tolerance: Tolerance, reference: np.ndarray, error: float | None) -> bool:
    """Whether a relative error is more than a tolerance allows."""
    if error is None:
        return False
    if reference.dtype.kind != "f":
        return error != 0
    size = float(np.abs(reference.astype(np.float64)).max(initial=0))
    return error * (size or 1.0) > tolerance.atol + tolerance.rtol * size


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
            kind, why = _between(passes, name, passes.their_inputs[name], passes.inputs[name])
            size = "" if layer.given == float("inf") else f" by {layer.given:.1e}"
            what = f"what {passes.label(name)} is given differs{size}, though all layers before it agree"
            return Fault(kind, name, f"{what}; {why}{beside}")
        if layer.alone == float("inf"):
            continue  # a shape of its own is no fault: what follows tells whether the numbers are right
        if limits.beyond(name, passes.their_outputs[name], layer.alone):
            kind, why = _within(passes, name)
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
            kind, why = _between(passes, "", output, passes.forced_end[name])
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


# -- which kind -------------------------------------------------------------------------------------------


def _between(passes: Passes, name: str, theirs: np.ndarray, ours: np.ndarray) -> Found:
    """The kind of a difference that arises between layers: an activation, attention, a residual, a mask."""
    if theirs.dtype.kind != "f" or theirs.shape != ours.shape:
        return _kind(passes.pair, theirs, ours)
    before, dtype = passes.before(name) or passes.their_outputs, passes.pair.dtype
    if found := kinds.differ(theirs, ours):
        return found
    if formula := formulas.activation(before, theirs, dtype):
        other = formulas.activation(before, ours, dtype)
        return "activation", f"theirs is {formula}, ours {f'is {other}' if other else 'is not'}"
    kept = None if passes.padded is None else ~passes.padded[1]
    if other := formulas.attention(before, theirs, ours, kept, dtype):
        return "attention", other
    given = {f"the input of {one}": passes.their_inputs[one] for one in before if one in passes.their_inputs}
    if part := kinds.part_of(theirs, ours, given | {f"the output of {one}": array for one, array in before.items()}):
        return "residual", _more_or_less(*part)
    kind, why = _kind(passes.pair, theirs, ours)
    leak = _leak(passes) if kind == "semantic" else ""
    return ("mask", leak) if leak else (kind, why + _where(passes, theirs, ours))


def _more_or_less(part: str, by: float) -> str:
    """What a difference that is a multiple of something means."""
    if np.isclose(by, -1, rtol=1e-4):
        return f"ours lacks {part}, which theirs adds"
    if np.isclose(by, 1, rtol=1e-4):
        return f"ours adds {part} once more than theirs"
    return f"ours = theirs {'+' if by > 0 else '-'} {abs(by):.4g} x {part}"


def _where(passes: Passes, theirs: np.ndarray, ours: np.ndarray) -> str:
    """'; only where attention_mask marks padding', where a difference lies in a part of the batch alone."""
    apart = np.abs(ours.astype("float64") - theirs)
    where = apart > 1e-2 * apart.max()
    if passes.padded is not None and where.shape[:2] == passes.padded[1].shape and passes.padded[1].any():
        marked = where.reshape(*where.shape[:2], -1).any(axis=2)
        for marks, what in ((passes.padded[1], "marks padding"), (~passes.padded[1], "marks none")):
            if not marked[~marks].any():
                return f"; only where {passes.padded[0]} {what}"
    rows = kinds.rows_of(where)
    return f"; only in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}" if len(rows) < len(theirs) / 2 else ""


def _leak(passes: Passes) -> str:
    """Whether other tokens at padded positions move the layers at all others, in one side alone; else ''."""
    if passes.padded is None or not passes.padded[1].any() or passes.padded[1].all():
        return ""
    padded, pair = passes.padded[1], passes.pair
    tokens = [n for n, a in passes.batch.items() if getattr(a, "shape", None) == padded.shape and n.endswith("ids")]
    ids = next((n for n in tokens if passes.batch[n].dtype.kind == "i" and len(np.unique(passes.batch[n])) > 2), None)
    if ids is None:
        return ""
    others = passes.batch[ids][~padded]
    changed = {**passes.batch, ids: np.where(padded, np.resize(others[::-1], padded.shape), passes.batch[ids])}

    def moved(side: Side, model: Any, paths: Iterable[str], plain: Mapping[str, np.ndarray], names: Mapping[str, str]):
        seen, _ = side.driver.trace(model, side.forward, changed, pair.dtype, list(paths))
        seen = renamed(seen, names)
        alike = (n for n, a in seen.items() if n in plain and a.shape == plain[n].shape and a.shape[:2] == padded.shape)
        return {n: relative(plain[n][~padded], seen[n][~padded]) for n in alike}

    to_ours = {their: our for our, their in passes.modules.items()}
    theirs = moved(pair.theirs, passes.theirs, passes.modules.values(), passes.their_outputs, to_ours)
    ours = moved(pair.ours, passes.ours, passes.modules, passes.propagated, {one: one for one in passes.modules})
    for name in (name for name in ours if name in theirs):
        for whose, mine, other in (("ours", ours[name], theirs[name]), ("theirs", theirs[name], ours[name])):
            if mine > 1e-4 and mine > 1e3 * other:
                return f"padded positions move all others in {whose} alone, by {mine:.1e} in {passes.label(name)}"
    return ""


def _within(passes: Passes, name: str) -> Found:
    """The kind of a difference that a layer makes of equal input: its weights, a formula, its precision."""
    theirs, ours = passes.their_outputs[name], passes.alone[name]
    both = together(theirs, ours)
    if (found := _weights(passes, name)) or both is None:
        return found or _kind(passes.pair, theirs, ours)
    theirs, ours = both
    if inner := [one for one in passes.before(name) if one.startswith(f"{name.partition('#')[0]}.")]:
        kind, what = _between(passes, name, theirs, ours)
        return kind, f"{'all' if len(inner) > 1 else 'what'} that runs inside of it agrees; {what}"
    given, why = passes.inputs.get(name), "its weights equal the reference's"
    if given is not None and given.dtype.kind == "f" and ours.dtype.kind == "f":
        for look in (_norm, _activation, _bias, _product):
            if found := look(passes, name, given, theirs, ours):
                return found[0], f"{why}; {found[1]}"
    if ours.dtype.kind == "f" and (found := kinds.differ(theirs, ours)):
        return found[0], f"{why}; {found[1]}"
    kind, measured = _kind(passes.pair, theirs, ours)
    where = _where(passes, theirs, ours) if ours.dtype.kind == "f" else ""
    return kind, f"{why}, so a constant or a formula differs; {measured}{where}"


def _weights(passes: Passes, name: str) -> Found | None:
    """The first weight of a layer that is not the reference's."""
    path = name.partition("#")[0]
    reference = passes.pair.translate(passes.pair.theirs.driver.state(passes.theirs))
    for leaf, array in passes.pair.ours.driver.state(passes.ours).items():
        if leaf.rpartition(".")[0] != path or leaf not in reference or np.array_equal(array, reference[leaf]):
            continue
        if array.ndim == 2 and array.shape[0] == array.shape[1] and np.array_equal(array, reference[leaf].T):
            return "layout", f"{leaf} lies transposed"
        if found := kinds.padding_row(reference[leaf], array) or kinds.differ(reference[leaf], array):
            return found[0], f"of {leaf} {found[1]}"
        for other, theirs in reference.items():  # query and key, say, exchanged
            if theirs.shape == array.shape and other != leaf and np.array_equal(array, theirs):
                return "weight", f"{leaf} is the reference's {other}"
        return "weight", f"{leaf} is not the reference's, by {relative(reference[leaf], array):.1e}"
    return None


def _own(passes: Passes, name: str) -> dict[str, np.ndarray]:
    """Weights and buffers of a layer of ours by their last name."""
    path, driver = name.partition("#")[0], passes.pair.ours.driver
    arrays = dict(driver.state(passes.ours))
    if hasattr(driver, "buffers"):
        arrays |= {leaf: driver.to_numpy(tensor) for leaf, tensor in driver.buffers(passes.ours).items()}
    return {leaf.rpartition(".")[2]: array for leaf, array in arrays.items() if leaf.rpartition(".")[0] == path}


def _norm(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """Another epsilon."""
    own = _own(passes, name)
    weight, bias = own.get("weight"), own.get("bias")
    variance = next((own[leaf] for leaf in ("running_var", "_variance") if leaf in own), None)
    if weight is None or weight.ndim != 1:
        return None
    if variance is None:
        found = [formulas.epsilon(given, made, weight, bias) for made in (theirs, ours)]
    else:
        found = [formulas.channel_epsilon(given, made, weight, variance) for made in (theirs, ours)]
    reference, mine = found
    if reference is None or mine is None or not mine.other(reference):
        return None
    return "epsilon", f"ours is as with epsilon {mine}, where theirs has {reference}"


def _activation(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A layer that is an activation."""
    found = [formulas.activation({"its input": given}, made, passes.pair.dtype) for made in (theirs, ours)]
    return ("activation", f"theirs is {found[0]}, ours is {found[1] or 'not'}") if found[0] else None


def _bias(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A bias that is left out, or added twice."""
    bias, along = _own(passes, name).get("bias"), kinds.vector(theirs, ours)
    if bias is None or along is None or bias.shape != along[1].shape:
        return None
    for by, what in ((-1, "ours leaves its bias out"), (1, "ours adds its bias twice")):
        if kinds.small(along[1], by * bias, kinds.largest(along[1]), kinds.largest(ours)):
            return "offset", what
    return None


def _product(passes: Passes, name: str, given: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> Found | None:
    """A product of the input and the weight, on one side at least."""
    own = _own(passes, name)
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or weight.ndim != 2:
        return None
    results = [made - (0 if bias is None else bias) for made in (theirs, ours)]
    for factor in (weight, weight.T):  # (in, out) in Paddle, (out, in) in torch
        fits = given.shape[-1] == factor.shape[0] and results[0].shape[-1] == factor.shape[1]
        if fits and any(gauge(given, factor, result) <= GAUGE for result in results):
            return judge_product(given, factor, *results)
    return None


def _kind(pair: Pair, theirs: np.ndarray, ours: np.ndarray) -> Found:
    """The kind of a difference about which nothing is known but the numbers."""
    if theirs.dtype.kind not in "f":
        return "data", "integers, of which none is rounded"
    if found := kinds.differ(theirs, ours):
        return found
    if theirs.shape != ours.shape:
        return "shape", f"theirs has shape {theirs.shape}, ours {ours.shape}"
    if pair.dtype == "float64":
        return "semantic", "float64 rounding is far smaller"
    units = relative(theirs, ours) / SHORT.get(pair.dtype, float(np.finfo(theirs.dtype).eps))
    if units < REDUCED:
        return "rounding", f"{units:.0f} eps of the largest number"
    return "semantic", f"{units:.0f} eps of the largest number"


def stored(record: Mapping[str, Any], others: list[Mapping[str, Any]]) -> str:
    """One line on a failed record of alignment.json: what was found at the time, else what the figures tell.

    Args:
        others: all records of the file; the same case in float64 tells meaning from rounding.
    """
    if found := record.get("explanation"):
        return str(found["sentence"])
    bad = next((tensor for tensor in record.get("tensors") or [] if tensor.get("passed") is False), None)
    where = f"{bad.get('name')}, " if bad else ""
    if problem := (bad or {}).get("problem"):
        return f"unknown: {where}{problem}"
    if record["verdict"] == "passed":
        return f"unknown: {where}{contradiction(record)}"
    if record["step"] in ("dev_data", "train_data", "metric"):
        return f"data: {where}where both must be equal"
    if record["dtype"] == "statistics":
        return f"semantic: {where}another law"
    if record["dtype"] == "exact":
        return f"semantic: {where}which nothing rounds"
    if record["dtype"] == "float64":
        return f"semantic: {where}in float64, where rounding is 1e-16"
    case = ("system", "mode", "step", "checkpoint")
    double = [r for r in others if r["dtype"] == "float64" and all(r[key] == record[key] for key in case)]
    if bad and (failed := [r for r in double if r["verdict"] == "failed"]):
        same = [one for r in failed for one in r.get("tensors") or [] if one.get("name") == bad.get("name")]
        if any(one.get("passed") is False for one in same):
            return f"semantic: {where}it fails in float64 as well"
        if not same:
            return f"unknown: {where}which float64 does not have; it fails at another place"
    size = clean(bad.get("max_rel")) if bad else None
    if not double or size is None:
        return f"unknown: {where}and no run in float64 to tell rounding from meaning"
    kind = "rounding" if size < REDUCED * float(np.finfo(np.float32).eps) else "reduced precision"
    return f"{kind}: {where}{size:.1e} relative, and it passes in float64"


SAID = 8
"""Failed tensors that `told` names beside the first."""


def _others(record: Mapping[str, Any]) -> str:
    """'also differ: b, c and 21 more', of the tensors that failed after the first; ''."""
    names = [str(one.get("name")) for one in record.get("tensors") or [] if one.get("passed") is False][1:]
    more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
    return f"also differ: {', '.join(names[:SAID])}{more}" if names else ""


def told(document: Mapping[str, Any]) -> str:
    """Every failure and known gap of an alignment.json: where, which kind, and how the error grew.

    What the file's names hold for a terminal to act on is shown, not acted on.
    """
    lines = []
    for record in document["results"]:
        if verdict(record) not in ("failed", "xfailed"):
            continue
        case = f"{record['step']}/{record['system']} ({record['mode']}, {record['checkpoint']}, {record['dtype']})"
        lines += [f"{case}: {verdict(record)}", f"  {stored(record, document['results'])}"]
        lines += [f"  {line}" for line in (_others(record), *(f"note: {n}" for n in record.get("notes") or [])) if line]
        layers = (record.get("explanation") or {}).get("layers") or []
        if layers:
            lines.append(f"  {'layer':<48} {'propagated':>10} {'given':>10} {'alone':>10}")
        for layer in layers:
            # JSON has no infinity: shapes that do not fit leave no number
            sizes = [clean(layer[k]) for k in ("propagated", "given", "alone")]
            columns = ["-" if size is None else f"{size:.1e}" for size in sizes]
            lines.append(f"  {layer['name']:<48} {' '.join(column.rjust(10) for column in columns)}")
    return "\n".join(printable(line, keep="") for line in lines or ["nothing failed"]) + "\n"
