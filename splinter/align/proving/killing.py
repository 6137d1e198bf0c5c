"""Whether the proof of a port can fail: faults planted one at a time, and the steps that turned red on each.

A fault that no step sees is a blind spot, unless it changes nothing: that is measured on the planted side itself, in
float64, against the same side without it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..compare import Alignment, finite
from ..framework import Arrays
from ..kill import Strike
from ..port import MissingFunction, Side
from .batches import given
from .faults import plantable
from .match import Match
from .options import Options
from .planting import Fault, planted
from .prover import compared, planned, progress
from .subject import Subject

ROUNDING = 1e-10
"""What changes by no more than this share of its size does not change in exact arithmetic.

A pass in float64 through a deep model leaves 1e-12; the smallest fault planted, an epsilon of 1e-5 for 1e-12, 1e-6."""

VERDICTS = ("caught", "survived", "hidden", "not looked at", "without effect", "not planted")
"""What may become of a fault; see `Outcome.verdict`."""


@dataclass(frozen=True)
class Outcome:
    """A fault and what became of it.

    Args:
        effects: what it changes on its own side, and by which share of its size: "outputs", "in training",
            "gradients", "buffers", "initial law"; not measured where a step was red.
        strikes: what the steps said, in the order they ran.
        hidden: steps that are red, and were so without it.
        error: the exception, where the model does not run with it.
    """

    fault: Fault
    effects: Mapping[str, float] = field(default_factory=dict)
    strikes: tuple[Strike, ...] = ()
    hidden: tuple[str, ...] = ()
    error: str = ""

    @property
    def red(self) -> tuple[str, ...]:
        """The steps that turned red, in the order they ran."""
        return tuple(dict.fromkeys(strike.step for strike in self.strikes if strike.red))

    @property
    def verdict(self) -> str:
        """caught; not planted: the model does not run with it; without effect; not looked at: none of the steps that
        are about it ran; hidden: they were red before; survived, which is a blind spot."""
        if self.error:
            return "not planted"
        if self.red:
            return "caught"
        if max(self.effects.values(), default=0.0) <= ROUNDING:
            return "without effect"
        if not self._about({strike.step for strike in self.strikes}):
            return "not looked at"
        return "hidden" if self._about(self.hidden) else "survived"

    def _about(self, steps: Iterable[str]) -> list[str]:
        """Those of the steps, "forward float64" say, that are about this fault."""
        return [step for step in steps if step.partition(" ")[0] in self.fault.expected_steps]

    @property
    def because(self) -> str:
        """Where it was first seen, or what it changes and nobody saw."""
        first = next((strike for strike in self.strikes if strike.red), None)
        if first:
            return first.crash or first.tensor
        if self.verdict == "not looked at":
            return f"{' and '.join(self.fault.expected_steps)} did not run"
        if self.verdict == "hidden":
            return f"{', '.join(self._about(self.hidden))} red without it too"
        seen = {name: size for name, size in self.effects.items() if size > ROUNDING}
        return self.error or ", ".join(f"{name} change by {size:.1g}" for name, size in seen.items())

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        strikes = [{**vars(one), "margin": finite(one.margin)} for one in self.strikes]
        fault = {name: getattr(self.fault, name) for name in ("name", "place", "kind", "expected_steps", "stage")}
        effects = {name: finite(size) for name, size in self.effects.items()}
        return {**fault, "verdict": self.verdict, "red": list(self.red), "because": self.because, "effects": effects,
                "strikes": strikes, "error": self.error}  # fmt: skip


def kill_all(
    prove_again: Callable[[Fault], Iterable[tuple[str, Alignment]]],
    faults: Iterable[Fault],
    effects: Callable[[Fault], Mapping[str, float]],
    unplanted: Iterable[tuple[str, Alignment]] = (),
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Plant each fault and prove again.

    Args:
        prove_again: the proof of the port with the fault in it: (step, judged alignment), in the order they ran. Where
            they come one by one, the rest is not run once one is red.
        effects: what a fault changes; `Effects`. Asked where no step was red.
        unplanted: the same of the port without any fault; what is red in it already tells nothing.
        progress: called with each outcome.
    """
    known = {step: failures(alignment) for step, alignment in unplanted}
    outcomes = []
    for fault in faults:
        outcomes.append(_kill(prove_again, fault, effects, known))
        progress(outcomes[-1])
    return outcomes


def _kill(prove_again, fault: Fault, effects, known: Mapping[str, Mapping[str, float | None]]) -> Outcome:
    strikes, hidden = [], []
    try:
        for step, alignment in prove_again(fault):
            strikes.append(_strike(step, alignment, known.get(step, {})))
            if strikes[-1].red:
                return Outcome(fault, strikes=tuple(strikes))
            hidden += [] if alignment.passed else [step]
    except Exception as error:
        strikes.append(Strike("crash", True, crash=_line(error)))
    try:
        changed = effects(fault)
    except Exception as error:  # a layer may ask for more than the plan knew: the proof has not seen the fault itself
        return Outcome(fault, error=_line(error))
    return Outcome(fault, changed, tuple(strikes), tuple(hidden))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]


def failures(alignment: Alignment) -> dict[str, float | None]:
    """What failed in a judged alignment, in the order of execution: name or problem -> times its limit."""
    found: dict[str, float | None] = {
        one.name: 1 / one.headroom if one.headroom else None for one in alignment.comparisons if not one.passed
    }
    return found | dict.fromkeys(alignment.problems)


def _strike(step: str, alignment: Alignment, known: Mapping[str, float | None]) -> Strike:
    """What one step says of a fault, less what it says without."""
    new = {name: margin for name, margin in failures(alignment).items() if name not in known}
    margins = [margin for margin in new.values() if margin is not None]
    return Strike(step, bool(new), next(iter(new), ""), max(margins, default=None))


class Effects:
    """What a fault changes on the side that it is planted in, measured in float64 without the other side.

    Args:
        side: ours.
        folder: handed to its `load` and `build`.
        batches: what the proof feeds it, two or three of them.
    """

    def __init__(self, side: Side, folder: Path, batches: Sequence[Arrays]) -> None:
        self.side, self.folder, self.batches = side, folder, batches
        model = self._loaded(side)
        # one row alone has no variance for a BatchNorm
        self.trained = [batch for batch in batches if self._takes_in_training(model, batch)]
        self.plain = self._observe(side)

    def __call__(self, fault: Fault) -> dict[str, float]:
        """What changes, by which share of its size; infinity where a tensor is there on one side only.

        Raises:
            Exception: whatever the model raises when it runs with the fault.
        """
        seen = self._observe(planted(self.side, fault))
        return {name: _change(self.plain[name], seen[name]) for name in self.plain}

    def _loaded(self, side: Side) -> Any:
        return side.driver.cast(side.load(self.folder), "float64")

    def _observe(self, side: Side) -> dict[str, dict[str, np.ndarray]]:
        driver, model = side.driver, self._loaded(side)
        outputs: dict[str, np.ndarray] = {}
        gradients: dict[str, np.ndarray] = {}
        training: dict[str, np.ndarray] = {}
        for number, batch in enumerate(self.batches):
            outputs |= _numbered(number, driver.trace(model, side.forward, batch, "float64", ())[1])
            gradients |= _numbered(number, driver.gradients(model, side.forward, side.loss, batch, "float64")[1])
        for number, batch in enumerate(self.trained):
            training |= _numbered(number, self._train(side, model, batch))
        buffers = {name: driver.to_numpy(one) for name, one in driver.buffers(model).items()}
        return {"outputs": outputs, "gradients": gradients, "in training": training, "buffers": buffers,
                "initial law": self._built(side)}  # fmt: skip

    def _train(self, side: Side, model: Any, batch: Arrays) -> dict[str, np.ndarray]:
        """A pass in training mode, dropouts drawn from one seed."""
        model.train()
        side.driver.seed(0)
        with side.driver.no_gradients(), side.driver.computing():
            outputs = side.forward(model, side.driver.from_numpy(batch, "float64"))
        return {name: side.driver.to_numpy(tensor) for name, tensor in outputs.items()}

    def _takes_in_training(self, model: Any, batch: Arrays) -> bool:
        try:
            return all(np.isfinite(array).all() for array in self._train(self.side, model, batch).values())
        except Exception:  # whatever a foreign model raises
            return False

    def _built(self, side: Side) -> dict[str, np.ndarray]:
        side.driver.seed(0)
        try:
            return side.driver.state(side.build(self.folder))
        except MissingFunction:
            return {}


def _numbered(number: int, arrays: Arrays) -> dict[str, np.ndarray]:
    return {f"{number}/{name}": array for name, array in arrays.items()}


def _change(plain: Arrays, seen: Arrays) -> float:
    """The largest change, relative to the size of its tensor, or to 1e-6 of the largest: a gradient that is zero by
    algebra is noise."""
    if set(plain) != set(seen) or any(plain[name].shape != seen[name].shape for name in plain):
        return float("inf")
    numbers = {name: array.astype(np.float64) for name, array in plain.items() if array.size}
    largest = max((float(np.abs(array).max()) for array in numbers.values()), default=0.0)
    found = [0.0]
    for name, array in numbers.items():
        difference = float(np.abs(seen[name].astype(np.float64) - array).max())
        found.append(difference / (max(float(np.abs(array).max()), 1e-6 * largest) or 1.0))
    return float("inf") if np.isnan(found).any() else max(found)


class Infected(Match):
    """A match with a fault in every model of ours; what belongs together was found without it."""

    def __init__(self, match: Match, fault: Fault) -> None:
        vars(self).update(vars(match))
        self.fault = fault

    def filled(self) -> Any:
        return self.fault.into(super().filled(), "loaded")

    def _side(self, subject: Subject, load: Callable[[Any], Any]) -> Side:
        side = super()._side(subject, load)
        build = planted(side, self.fault).build  # what is loaded is filled, and has it
        return replace(side, build=build) if subject is self.ours else side


UPDATES = 2
"""How many follow upon each other in the first, short proof, which nearly every fault turns red."""


def kills(theirs: Any, ours: Any, batches: Any, **options: Any) -> list[Outcome]:
    """Plant every fault that applies to ours, and prove again: shortly, and what survives that once more, as asked for.

    Args: as those of `prove`.

    Raises:
        ProveError, WeightError: as `prove` without any fault does.
    """
    with progress() as say:
        match = Match(Subject(theirs, "theirs"), Subject(ours, "ours"), given(batches), Options(**options), say)
        faults = plantable(match.ours.driver, match.filled())
        effects = Effects(match.pair("float64").ours, Path(), list(match.batches.required.values()))
        short = copy.copy(match)
        updates = min(UPDATES, match.options.updates)
        short.options = replace(match.options, dtypes=match.options.dtypes[:1], updates=updates)
        outcomes = _outcomes(short, faults, effects, say)
        survivors = [one.fault for one in outcomes if one.verdict == "survived"]
        again = iter(_outcomes(match, survivors, effects, say) if survivors else ())
        return [next(again) if one.verdict == "survived" else one for one in outcomes]


def _outcomes(match: Match, faults: list[Fault], effects: Effects, say: Callable[[str], None]) -> list[Outcome]:
    say("the proof without a fault")
    unplanted = list(_checks(match))

    def prove_again(fault: Fault) -> Iterator[tuple[str, Alignment]]:
        say(f"fault {faults.index(fault) + 1} of {len(faults)}: {fault}")
        return _checks(Infected(match, fault))

    return kill_all(prove_again, faults, effects, unplanted)


def _checks(match: Match) -> Iterator[tuple[str, Alignment]]:
    for name, dtype in planned(match, {}):
        _, alignment, tolerance = compared(match, name, dtype)
        alignment.judge(tolerance)
        yield f"{name} {dtype}".removesuffix(" exact"), alignment


def kill(theirs: Any, ours: Any, batches: Any, options: Mapping[str, Any]) -> int:
    """Print what became of every fault; returns 1 where one that changes something was seen by no check, else 0."""
    outcomes = kills(theirs, ours, batches, **options)
    print(table(outcomes))
    return int(any(one.verdict == "survived" for one in outcomes))


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per fault, in markdown, and a sentence."""
    rows = ["| planted | at | caught by | first seen, or why not |", "|---|---|---|---|"]
    for one in outcomes:
        by = one.red[0] if one.red else f"**{one.verdict}**" if one.verdict == "survived" else one.verdict
        rows.append(f"| {one.fault.name} | {one.fault.place or 'the model'} | {by} | {one.because} |")
    return "\n".join([*rows, "", sentence(outcomes)])


def sentence(outcomes: Sequence[Outcome]) -> str:
    """How many were caught, and what became of the others."""
    verdicts = [one.verdict for one in outcomes]
    counts = [f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts]
    return f"{len(outcomes)} faults planted: {', '.join(counts)}." if outcomes else "No fault applies to this model."
