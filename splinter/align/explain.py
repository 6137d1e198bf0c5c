"""Why a forward pass diverges: where the fault lies, and of which kind it is.

Layers are judged twice. *Propagated*: as the model runs, so that an early fault shows in all that follows. *Alone*:
our model runs with the output of every layer replaced by the reference's, so that what a layer is given, and what it
makes of it, can differ only by a fault right there.

Kinds, each measured:
  data               integers or strings differ: nothing was rounded
  layout             the same numbers in another order, or a weight that lies transposed
  reduced precision  products of factors rounded to TF32, bfloat16 or float16 give our numbers
  rounding           an error that the order of additions explains: e <= 16 eps |A||B| for a product (the limit of the
                     BLAS tests, SMMCH in Reference-LAPACK), or of the reference's own size
  semantic           stays in float64: another formula, constant, mask or weight
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .compare import Tolerance, finite
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
OTHER_WEIGHTS = "is not the reference's"


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


def explain(pair: Pair, tolerance: Tolerance, batch: str = "") -> Explanation:
    """Find the first fault of a forward pass.

    Args:
        tolerance: of the forward step; what is beyond it is a fault.
        batch: name of the batch to look at; "" = the first one.

    Raises:
        TypeError: a driver of its own whose `trace` takes neither inputs nor put.
    """
    batches = pair.port.batches(pair.folder, pair.mode)
    chosen = batches.get(batch, next(iter(batches.values())))
    modules = pair.port.weights(pair.mode).modules(pair.our_names)  # our path -> their path
    to_ours = {their: our for our, their in modules.items()}
    theirs, ours = pair.model(pair.theirs), pair.model(pair.ours)

    def run(side: Side, model, paths, put=None):
        inputs: dict[str, np.ndarray] = {}
        return inputs, *side.driver.trace(model, side.forward, chosen, pair.dtype, paths, inputs, put)

    their_inputs, their_outputs, their_end = run(pair.theirs, theirs, list(modules.values()))
    their_inputs, their_outputs = (renamed(arrays, to_ours) for arrays in (their_inputs, their_outputs))
    _, propagated, end = run(pair.ours, ours, list(modules))
    inputs, alone, forced_end = run(pair.ours, ours, list(modules), their_outputs)
    raw = their_end, end
    their_end, end, forced_end = (pair.port.readout(outputs, chosen) for outputs in (their_end, end, forced_end))

    def beyond(reference: np.ndarray, error: float) -> bool:
        if reference.dtype.kind != "f":
            return error != 0
        size = float(np.abs(reference.astype(np.float64)).max(initial=0))
        return error * (size or 1.0) > tolerance.atol + tolerance.rtol * size

    layers, fault = [], None
    for name, output in alone.items():
        if name not in their_outputs:
            fault = fault or ("semantic", name, f"{name} runs, and nothing of the reference's runs there")
            continue
        given = relative(their_inputs[name], inputs[name]) if name in inputs and name in their_inputs else None
        found = Layer(
            name, relative(their_outputs[name], propagated[name]), given, relative(their_outputs[name], output)
        )
        layers.append(found)
        if fault is None and given is not None and beyond(their_inputs[name], given):
            kind, why = _kind(pair, their_inputs[name], inputs[name])
            fault = kind, name, f"what {name} is given differs by {given:.1e}, though all layers before it agree; {why}"
        elif fault is None and beyond(their_outputs[name], found.alone):
            kind, why = _layer_kind(pair, theirs, ours, name, inputs, their_outputs, alone)
            fault = kind, name, f"{name} itself differs by {found.alone:.1e}, given the reference's input; {why}"
    if fault is None:
        for name, output in their_end.items():
            if beyond(output, relative(output, forced_end[name])):
                kind, why = _kind(pair, output, forced_end[name])
                fault = kind, name, f"{name} differs, though the outputs of all layers agree; {why}"
                break
    if fault is None:
        grown_on_the_way = [name for name, output in their_end.items() if beyond(output, relative(output, end[name]))]
        if grown_on_the_way:
            fault = "rounding", "", "no layer is beyond its tolerance alone; what each adds has grown on the way"
        else:
            fault = "unknown", "", "no number is beyond atol and rtol: it is the ratio, a dtype or a name that fails"
    kind, place, what = fault
    if kind in ("semantic", "rounding") and pair.dtype == "float32" and OTHER_WEIGHTS not in what:
        # what float64 shows as well is no rounding, however small; what it does not show is no other meaning
        strict = replace(tolerance, atol=DOUBLE * tolerance.atol, rtol=DOUBLE * tolerance.rtol)
        double = explain(replace(pair, dtype="float64"), strict, batch)
        seen = double.kind not in ("rounding", "unknown")
        if kind == "semantic" and not seen:
            kind, what = "reduced precision", f"{what}, none of which is left in float64"
        elif kind == "rounding" and seen:
            kind, place = double.kind, double.place
            what = double.sentence.partition(": ")[2].partition(";")[0] + ", in float64 as well"
    grown = max((relative(output, end[name]) for name, output in their_end.items()), default=0.0)
    argmax = [name for name in raw[0] if f"argmax of {name}" in their_end and raw[0][name].shape == raw[1][name].shape]
    sure = [proven(raw[0][name], raw[1][name]) for name in argmax]  # as predicted from, padding and all
    rows = np.concatenate([one.ravel() for one in sure]) if sure else np.empty(0, bool)
    certain = f"; {int(rows.sum())} of {rows.size} predictions are proven unchanged" if rows.size else ""
    return Explanation(kind, place, f"{kind}: {what}; the outputs differ by {grown:.1e}{certain}", tuple(layers))


def _kind(pair: Pair, theirs: np.ndarray, ours: np.ndarray) -> tuple[str, str]:
    """The kind of a difference about which nothing is known but the numbers."""
    if theirs.dtype.kind not in "f":
        return "data", "integers, of which none is rounded"
    if theirs.size == ours.size and np.array_equal(np.sort(theirs, axis=None), np.sort(ours, axis=None)):
        return "layout", "the same numbers in another order"
    if theirs.shape != ours.shape:
        kind = "layout" if sorted(theirs.shape) == sorted(ours.shape) else "semantic"
        return kind, f"theirs has shape {theirs.shape}, ours {ours.shape}"
    if pair.dtype == "float64":
        return "semantic", "float64 rounding is far smaller"
    units = relative(theirs, ours) / float(np.finfo(theirs.dtype).eps)
    if units < REDUCED:
        return "rounding", f"{units:.0f} eps of the largest number"
    return "semantic", f"{units:.0f} eps of the largest number"


def _layer_kind(pair: Pair, theirs, ours, name: str, inputs, their_outputs, alone) -> tuple[str, str]:
    """The kind of a difference that a layer makes of equal input: its weights, its precision or its formula."""
    path = name.partition("#")[0]
    reference = pair.translate(pair.theirs.driver.state(theirs))
    mine = pair.ours.driver.state(ours)
    for leaf, array in mine.items():
        if leaf.rpartition(".")[0] != path or leaf not in reference or np.array_equal(array, reference[leaf]):
            continue
        if array.ndim == 2 and array.shape[0] == array.shape[1] and np.array_equal(array, reference[leaf].T):
            return "layout", f"{leaf} lies transposed"
        return "semantic", f"{leaf} {OTHER_WEIGHTS}, by {relative(reference[leaf], array):.1e}"
    weight, bias = mine.get(f"{path}.weight"), mine.get(f"{path}.bias")
    given = inputs.get(name)
    same_shape = their_outputs[name].shape == alone[name].shape
    if weight is not None and weight.ndim == 2 and same_shape and given is not None and given.dtype.kind == "f":
        shift = 0 if bias is None else bias
        results = their_outputs[name] - shift, alone[name] - shift
        for factor in (weight, weight.T):  # (in, out) in Paddle, (out, in) in torch
            fits = given.shape[-1] == factor.shape[0] and results[0].shape[-1] == factor.shape[1]
            if fits and any(gauge(given, factor, result) <= GAUGE for result in results):
                return judge_product(given, factor, *results)
    kind, why = _kind(pair, their_outputs[name], alone[name])
    return kind, f"its weights equal the reference's, so a constant or a formula differs; {why}"


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
    if any(r["verdict"] == "failed" for r in double):
        return f"semantic: {where}it fails in float64 as well"
    size = clean(bad.get("max_rel")) if bad else None
    if not double or size is None:
        return f"unknown: {where}and no run in float64 to tell rounding from meaning"
    kind = "rounding" if size < 2**8 * float(np.finfo(np.float32).eps) else "reduced precision"
    return f"{kind}: {where}{size:.1e} relative, and it passes in float64"


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
        layers = (record.get("explanation") or {}).get("layers") or []
        if layers:
            lines.append(f"  {'layer':<48} {'propagated':>10} {'given':>10} {'alone':>10}")
        for layer in layers:
            # JSON has no infinity: shapes that do not fit leave no number
            sizes = [clean(layer[k]) for k in ("propagated", "given", "alone")]
            columns = ["-" if size is None else f"{size:.1e}" for size in sizes]
            lines.append(f"  {layer['name']:<48} {' '.join(column.rjust(10) for column in columns)}")
    return "\n".join(printable(line, keep="") for line in lines or ["nothing failed"]) + "\n"
