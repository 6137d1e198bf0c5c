"""Judging two sets of arrays: tolerance, comparison of one tensor, alignment of one step.

The verdict falls on the largest element, never on a mean: one wrong value in two million vanishes in a
mean. `rtol` is relative to the largest element of the reference tensor, because the rounding error of a sum
follows the size of its terms, not of its result (Higham: |fl(AB) - AB| <= g_n |A||B|). In float32 the port's
error against the float64 referee must also be of the size of the reference's own.

What fails by itself: nothing compared, NaN or infinity, a tensor compared with itself, names, shapes or
kinds of number that differ (integers of another width do not, floats do). Nothing is broadcast, nothing transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """What a step may differ by, and why.

    Args:
        atol, rtol: |ours - theirs| <= atol + rtol * max|theirs| for every element.
        why: where the number comes from; the measured worst case belongs here.
        ratio: error against the float64 referee at most this many times the reference's own; None = not judged.
    """

    atol: float
    rtol: float
    why: str
    ratio: float | None = None

    def __post_init__(self) -> None:
        if not self.why:
            raise ValueError("a tolerance needs its reason")
        if not all(math.isfinite(x) and x >= 0 for x in (self.atol, self.rtol)):
            raise ValueError(f"atol={self.atol}, rtol={self.rtol}: both must be finite and not negative")
        if self.ratio is not None and not (math.isfinite(self.ratio) and self.ratio > 0):
            raise ValueError(f"ratio={self.ratio}: must be finite and positive, or None")

    def __str__(self) -> str:
        return "exact" if self.atol == self.rtol == 0 else f"atol={self.atol:g},rtol={self.rtol:g}"


@dataclass(frozen=True)
class Narrowed:
    """A run in float64 that holds numbers which float32 has rounded: it is worth float64 only before they come in.

    Args:
        tolerance: the row of float32, for what they may have touched.
        untouched: name of a tensor -> whether they have not.
        notes: which layers, in theirs and in ours.
    """

    tolerance: Tolerance
    untouched: Callable[[str], bool]
    notes: tuple[str, ...] = ()


EXACT = Tolerance(atol=0.0, rtol=0.0, why="integers, strings or names: nothing to round")
SHORT = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""Numbers of 16 bits, which come as float32 (numpy has no bfloat16) -> the gap behind 1."""
OPTIONAL = "not required, and different: "


@dataclass
class Comparison:
    """One tensor judged. `problem` is set when it could not be compared at all."""

    name: str
    shape: tuple[int, ...]
    values: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    index: tuple[int, ...] = ()
    theirs_at: Any = None
    ours_at: Any = None
    ulp: float | None = None
    theirs_error: float | None = None
    ours_error: float | None = None
    referee_ratio: float | None = None
    allowed: float = 0.0
    passed: bool = False
    problem: str = ""
    headroom: float | None = None
    scale: float | None = None  # what rounding is relative to; None = exact
    bound: float | None = None  # an absolute limit of its own
    floor: float = 0.0  # what is allowed under the strictest row
    ratio_counts: bool = True
    varied: bool = False  # whether theirs holds more than one number
    first: Any = None
    widths: str = ""  # floating-point numbers of two widths: a fault, unless float32 is inside a float64 run

    def sentence(self) -> str:
        """The finding in one line, complete enough to start debugging from."""
        if self.problem:
            return f"{self.name} {self.shape}: {self.problem}"
        parts = [
            f"{self.name} {self.shape}; max abs {self.max_abs:.3g} at {self.index}",
            f"theirs {self.theirs_at!r}, ours {self.ours_at!r}",
        ]
        if self.ulp is not None:
            parts.append(f"{self.ulp:,.0f} ULP")
        if self.referee_ratio is not None:
            parts.append(f"{self.referee_ratio:.3g}x the reference's own float64 error")
        return "; ".join([", ".join(parts), f"allowed {self.allowed:.3g}"])

    def brief(self) -> str:
        """The finding in half a line, for those that come after the first."""
        return f"{self.name}: {self.problem or f'max abs {self.max_abs:.3g}, allowed {self.allowed:.3g}'}"


def measure(
    name: str,
    theirs: np.ndarray,
    ours: np.ndarray,
    referee: np.ndarray | None = None,
    exact: bool = False,
    scale: float | None = None,
    bound: float | None = None,
    eps: float | None = None,
    floor: float = 0.0,
) -> Comparison:
    """Compare two arrays and keep the figures; `judge` applies a tolerance to them. See `Alignment.add`.

    Args:
        eps: the gap behind 1 of the numbers that the arrays were before they came here; None: of their own dtype.
    """
    result = Comparison(name, tuple(theirs.shape), values=int(theirs.size), bound=bound, floor=floor)
    if theirs is ours or (theirs.size and np.shares_memory(theirs, ours)):
        return _failed(result, "compared with itself")
    if theirs.shape != ours.shape:
        lists = ""
        if theirs.ndim == ours.ndim == 1 and theirs.dtype.kind == ours.dtype.kind == "U":  # names, say
            for side, lonely in (("theirs", np.setdiff1d(theirs, ours)), ("ours", np.setdiff1d(ours, theirs))):
                lists += f"; only {side} has {', '.join(lonely[:4])}" if lonely.size else ""
        return _failed(result, f"shapes differ, theirs {theirs.shape}, ours {ours.shape}{lists}")
    unlike = f"dtypes differ, theirs {theirs.dtype}, ours {ours.dtype}"
    if theirs.dtype.kind != ours.dtype.kind:
        return _failed(result, unlike)
    if theirs.dtype.kind == "f" and theirs.dtype != ours.dtype:
        result.widths = unlike
    if referee is not None and referee.shape != theirs.shape:
        return _failed(result, f"the referee has shape {referee.shape}")
    if referee is not None and referee.dtype.kind == "f" and not np.isfinite(referee).all():
        return _failed(result, "the referee holds NaN or infinity")
    if theirs.size == 0:
        return result  # adds no value; an alignment without values fails as a whole
    result.varied = bool((theirs != theirs.flat[0]).any())
    result.first = theirs.item(0)
    if theirs.dtype.kind not in "fiub":
        unequal = np.argwhere(theirs != ours)
        result.max_abs = float(len(unequal))  # strings and the like: how many differ
        if len(unequal):
            _keep_worst(result, theirs, ours, unequal[0])
        return result
    if theirs.dtype.kind in "iub" and np.array_equal(theirs, ours):  # whole files of data: no detour over float64
        _keep_worst(result, theirs, ours, np.unravel_index(0, theirs.shape))
        return result
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    for side, x in (("theirs", a), ("ours", b)):
        if not np.isfinite(x).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
            return _failed(result, f"{side} holds {x[where]} at {where}")
    difference = np.abs(a - b)
    if theirs.dtype.kind in "iu":
        difference = np.maximum(difference, theirs != ours)  # float64 rounds integers beyond 2**53
    _keep_worst(result, theirs, ours, np.unravel_index(int(difference.argmax()), difference.shape))
    result.max_abs = float(difference[result.index])
    magnitude = float(np.abs(a).max())
    size = magnitude if scale is None else scale
    result.max_rel = result.max_abs / size if size else result.max_abs
    if exact or theirs.dtype.kind != "f":
        return result
    result.scale, result.ratio_counts = size, scale is None
    own_eps = float(np.finfo(theirs.dtype).eps)
    eps = own_eps if eps is None else eps
    if bound is None:
        # spacing of the larger one, so that a difference from 0 is not measured in denormals; it overflows at max
        larger = min(max(abs(result.theirs_at), abs(result.ours_at)), float(np.finfo(theirs.dtype).max) / 2)
        result.ulp = result.max_abs / float(np.spacing(theirs.dtype.type(larger))) * own_eps / eps
    if referee is not None:
        result.theirs_error = float(np.abs(a - referee).max())
        result.ours_error = float(np.abs(b - referee).max())
        # a reference that happens to be exact must not demand the impossible: one rounding of the scale
        own = max(result.theirs_error, eps * size)
        result.referee_ratio = result.ours_error / own if own else None  # all zero: atol alone judges
    return result


def judge(result: Comparison, tolerance: Tolerance, narrowed: Narrowed | None = None) -> Comparison:
    """Decide whether a measured comparison passes; sets `passed`, `allowed` and `headroom`."""
    if narrowed is not None and not narrowed.untouched(result.name):
        tolerance = narrowed.tolerance
        result.problem = "" if result.problem == result.widths else result.problem
    elif result.widths:
        return _failed(result, result.problem or result.widths)
    if result.problem:
        return result
    if result.scale is None and result.bound is None:
        result.passed = result.max_abs == 0  # exact
        return result
    row = max(tolerance.atol + tolerance.rtol * (result.scale or 0.0), result.floor)
    result.allowed = row if result.bound is None else result.bound
    result.passed = result.max_abs <= result.allowed
    margins = [result.allowed / result.max_abs] if result.max_abs else []
    if tolerance.ratio is not None and result.referee_ratio is not None and result.ratio_counts:
        result.passed = result.passed and result.referee_ratio <= tolerance.ratio
        if result.referee_ratio:
            margins.append(tolerance.ratio / result.referee_ratio)
    result.headroom = min((m for m in margins if math.isfinite(m)), default=None)
    return result


def _failed(result: Comparison, problem: str) -> Comparison:
    result.problem, result.passed = problem, False
    return result


def _keep_worst(result: Comparison, theirs: np.ndarray, ours: np.ndarray, index) -> None:
    result.index = tuple(int(i) for i in index)
    result.theirs_at, result.ours_at = theirs.item(result.index), ours.item(result.index)


TOLD = 8
"""Failed tensors, and notes, that a message has; the record has all of them."""


@dataclass
class Alignment:
    """One step of one pair: what was computed on both sides, then how it was judged.

    Arrays are measured as they are added and then let go: at base size the gradients and weights of three
    runs would fill any machine.

    Attributes:
        problems: what fails the step beside any number.
        notes: what was not compared, or compared in another way; it fails nothing.
        optional: comparisons of which a difference is noted, and fails nothing.
    """

    system: str
    mode: str
    step: str
    checkpoint: str
    dtype: str
    reference: str = ""
    problems: list[str] = field(default_factory=list)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    seconds: float = 0.0
    missing: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    optional: list[Comparison] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Say once what was not compared, or how; it fails nothing."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def problem(self, sentence: str) -> None:
        """Say once what fails the step beside any number."""
        if sentence not in self.problems:
            self.problems.append(sentence)

    @contextmanager
    def not_required(self) -> Iterator[None]:
        """What is added meanwhile is compared, and noted where it differs; it fails nothing."""
        kept, self.comparisons = self.comparisons, self.optional
        problems, self.problems = self.problems, []
        try:
            yield
        finally:
            self.comparisons = kept
            found, self.problems = self.problems, problems
            for problem in found:
                if problem not in self.problems:
                    self.note(OPTIONAL + problem)

    def add(
        self,
        name: str,
        theirs: Any,
        ours: Any,
        referee: Any = None,
        exact: bool = False,
        scale: float | None = None,
        bound: float | None = None,
        floor: float = 0.0,
    ) -> None:
        """Put two arrays beside each other.

        Args:
            exact: no tolerance, whatever the step allows.
            scale: what rounding is relative to, when that is not the tensor's own largest element (a gradient
                that is zero by algebra is rounding noise of the global norm); no ratio is judged then.
            bound: an absolute limit of its own, derived by the step (a critical value of a test).
            floor: an absolute difference that even the strictest row has to allow (rounding of what is exact on paper).
        """
        referee = None if referee is None else np.asarray(referee)
        arrays = np.asarray(theirs), np.asarray(ours), referee
        self.comparisons.append(measure(name, *arrays, exact, scale, bound, SHORT.get(self.dtype), floor))

    def add_all(
        self,
        prefix: str,
        theirs: Mapping[str, Any],
        ours: Mapping[str, Any],
        referee: Mapping[str, Any] | None = None,
        exact: bool = False,
    ) -> None:
        """Pair two dicts by name, in the order of theirs; a name on one side only is a failure, and so is none."""
        if not theirs and not ours:
            self.problems.append(f"{prefix}nothing on either side")
        before, paired = self.values, self.common(prefix, theirs, ours)
        for name in paired:
            self.add(prefix + name, theirs[name], ours[name], None if referee is None else referee[name], exact)
        if paired and self.values == before:
            self.problems.append(f"{prefix or 'it '}holds no value on either side")

    def common(self, prefix: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
        """The names of both, in the order of theirs; one that only one side has is a failure."""
        for side, lonely in (("theirs", theirs.keys() - ours.keys()), ("ours", ours.keys() - theirs.keys())):
            if lonely:
                self.problems.append(f"{prefix}only {side} has {', '.join(sorted(lonely)[:4])}")
        return [name for name in theirs if name in ours]

    def judge(self, tolerance: Tolerance, narrowed: Narrowed | None = None) -> Alignment:
        """Apply the tolerance to everything that was added; what float32 inside has touched gets the row of float32."""
        for comparison in self.comparisons:
            judge(comparison, tolerance, narrowed)
        found = narrowed.notes if narrowed else ()
        self.notes[:0] = [note for note in found if note not in self.notes]  # before what was not compared at all
        self._judge_optional(tolerance, narrowed)
        problem = ""
        if self.values == 0:
            problem = "nothing was compared"
        elif not self._varied():
            problem = "every compared number is the same one; that proves nothing"
        if problem and problem not in self.problems:  # an alignment may be judged again
            self.problems.append(problem)
        return self

    def _judge_optional(self, tolerance: Tolerance, narrowed: Narrowed | None) -> None:
        """Note of each batch that is not required where it differs first."""
        told: set[str] = set()
        self.notes[:] = [note for note in self.notes if not note.startswith(OPTIONAL)]  # of an earlier judgement
        for comparison in self.optional:
            batch = comparison.name.partition("/")[0]
            if not judge(comparison, tolerance, narrowed).passed and batch not in told:
                told.add(batch)
                self.note(OPTIONAL + comparison.sentence())

    def _varied(self) -> bool:
        """Whether the reference's numbers are more than one number repeated (test statistics have no such need)."""
        if any(c.varied or c.bound is not None or c.problem for c in self.comparisons):  # a problem has its own line
            return True
        return len({c.first for c in self.comparisons if c.values}) > 1

    @property
    def values(self) -> int:
        """How many numbers were compared."""
        return sum(c.values for c in self.comparisons)

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and not self.problems and all(c.passed for c in self.comparisons)

    @property
    def first_divergence(self) -> Comparison | None:
        """The first tensor, in execution order, that fails."""
        return next((c for c in self.comparisons if not c.passed), None)

    @property
    def worst(self) -> Comparison | None:
        """The first failure, else the tensor with the least headroom, else the largest difference."""
        if self.first_divergence:
            return self.first_divergence
        with_headroom = [c for c in self.comparisons if c.headroom is not None]
        if with_headroom:
            return min(with_headroom, key=lambda c: c.headroom or 0.0)
        return max(self.comparisons, key=lambda c: c.max_abs, default=None)

    @property
    def headroom(self) -> float | None:
        """Allowed over seen, of the tightest tensor; None where nothing differs."""
        return min((c.headroom for c in self.comparisons if c.headroom is not None), default=None)

    def message(self) -> str:
        """Why the step failed, in full."""
        lines = [f"{self.step}/{self.system} ({', '.join(filter(None, (self.mode, self.checkpoint, self.dtype)))}):"]
        lines += [f"  {problem}" for problem in self.problems[:6]]
        failed = [c for c in self.comparisons if not c.passed]
        lines += [f"  first divergence {one.sentence()}" for one in failed[:1]]
        lines += [f"  then {one.brief()}" for one in failed[1:TOLD]]
        if len(failed) > TOLD:
            lines.append(f"  and {len(failed) - TOLD} more")
        if failed:
            lines.append(f"  {len(failed)} of {len(self.comparisons)} tensors differ")
        lines += [f"  note: {note}" for note in self.notes[:TOLD]]
        more = len(self.notes) - TOLD
        return "\n".join([*lines, *([f"  and {more} more notes"] if more > 0 else [])])

    def record(self, tolerance: Tolerance, verdict: str, reason: str = "") -> dict[str, Any]:
        """One entry of alignment.json."""
        worst = self.worst
        return {
            "system": self.system,
            "mode": self.mode,
            "step": self.step,
            "checkpoint": self.checkpoint,
            "dtype": self.dtype,
            "reference": self.reference,
            "verdict": verdict,
            "reason": reason or (f"without {', '.join(self.missing)}: in no data folder" if self.missing else ""),
            "values": self.values,
            "worst": None
            if worst is None
            else {
                "tensor": worst.name,
                "index": list(worst.index),
                "max_abs": finite(worst.max_abs),
                "max_rel": finite(worst.max_rel),
                "ulp": finite(worst.ulp),
                "referee_ratio": finite(worst.referee_ratio),
            },
            "tolerance": {
                "atol": tolerance.atol,
                "rtol": tolerance.rtol,
                "ratio": tolerance.ratio,
                "why": tolerance.why,
            },
            "headroom": self.headroom,
            **({"notes": list(self.notes)} if self.notes else {}),
            "seconds": round(self.seconds, 3),
            "tensors": [
                {
                    "name": c.name,
                    "shape": list(c.shape),
                    "max_abs": finite(c.max_abs),
                    "max_rel": finite(c.max_rel),
                    "allowed": finite(c.allowed),
                    "theirs_error": finite(c.theirs_error),
                    "ours_error": finite(c.ours_error),
                    "passed": c.passed,
                    **({"problem": c.problem} if c.problem else {}),
                }
                for c in self.comparisons
            ],
            "curves": {
                name: {side: [finite(value) for value in values] for side, values in curve.items()}
                for name, curve in self.curves.items()
            },
        }


def finite(number: float | None) -> float | None:
    """A number that JSON can hold: the difference of two huge float64 overflows."""
    return number if number is not None and math.isfinite(number) else None
