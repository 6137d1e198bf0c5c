"""`prove`: from two models and a batch to a verdict."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import defaults
from ..compare import EXACT, Alignment, Tolerance
from ..judging import judged
from ..port import Pair, Port
from ..steps import ROUNDED, STEPS
from ..weights import Rule, WeightMap
from .batches import given
from .checks import CHECKERS
from .match import Match
from .options import CHECKS, STEP, Options
from .result import UNASKED, Check, Proof, described
from .subject import Subject

Say = Callable[[str], None]


def proof_of(match: Match, say: Say) -> Proof:
    """Every check that can be run, in order."""
    proof = Proof(
        name=match.name,
        theirs=match.theirs.described,
        ours=match.ours.described,
        weights=described(match.found.pairs, match.found.reasons),
        notes=[*match.notes, *match.found.notes],
        environment=_environment(match),
        tensors={ours: (their, match.found.reasons[ours]) for ours, their in match.found.pairs.items()},
        rules=str(match.found.weights),
        outputs=dict(match.pairing.pairs.values()),
        batches=(*match.batches.required, *match.batches.optional),
    )
    for name, dtype in planned(match, proof.left):
        say(f"{name} {dtype}")
        proof.checks.append(_check(match, name, dtype))
    return proof


def planned(match: Match, left: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(check, precision) of all that can be run, in order; why the others cannot goes into `left`."""
    asked = match.options.steps or CHECKS
    for name in CHECKS:
        checker = CHECKERS[name]
        if why := UNASKED if name not in asked else checker.without(match):
            left[name] = why
            continue
        of_user = [dtype for dtype in match.options.dtypes if dtype in checker.dtypes]
        for dtype in of_user or checker.dtypes[:1] or ("exact",):
            if why := match.refuses(dtype) if dtype in checker.dtypes else "":
                left[f"{name} {dtype}"] = why
            else:
                yield name, dtype


def compared(match: Match, name: str, dtype: str) -> tuple[Pair, Alignment, Tolerance]:
    """One check, run and not yet judged."""
    pair = match.pair(dtype, "" if name in STEPS else name)
    return pair, CHECKERS[name].run(match, pair), _tolerance(match.options, STEP.get(name, name), dtype)


def _check(match: Match, name: str, dtype: str) -> Check:
    pair, alignment, tolerance = compared(match, name, dtype)
    float32 = _tolerance(match.options, STEP.get(name, name), "float32") if dtype == "float64" else None
    record, message = judged(alignment, tolerance, pair, float32)
    return Check(name, dtype, alignment, tolerance, record, message)


def _tolerance(options: Options, step: str, dtype: str) -> Tolerance:
    """The user's, for all steps or for some, else the default."""
    own = options.tolerance
    if isinstance(own, Mapping):
        own = own.get(step)
    if isinstance(own, Mapping):
        own = own.get(dtype)
    if own is None:
        own = EXACT if dtype == "exact" and step in ROUNDED else defaults.tolerance(step, dtype)
    return own


def _environment(match: Match) -> dict[str, Any]:
    """As a record has it."""
    from ..recorder import common_environment

    frameworks = {subject.framework: subject.driver.environment() for subject in (match.theirs, match.ours)}
    return {**common_environment(), **frameworks}


def prove(
    theirs: Any,
    ours: Any,
    batches: Any,
    *,
    loss: tuple[Callable, Callable] | None = None,
    rules: Sequence[Rule] | WeightMap = (),
    drop: Mapping[str, str] | None = None,
    weights: str = "copy",
    outputs: Sequence[str] | Mapping[str, str] | None = None,
    skip: str | Sequence[str] = (),
    steps: Sequence[str] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    tolerance: Tolerance | Mapping[str, Any] | None = None,
    optimizer: tuple[Callable, Callable] | None = None,
    updates: int = 20,
    hostile: bool = True,
    export: tuple[Callable, Callable] | bool | None = None,
    compiled: Callable[[Any], Any] | bool | None = None,
    seed: int = 0,
    name: str = "",
) -> Proof:
    """Prove that a port does what its original does.

    Args:
        theirs, ours: the original and its port: models of torch or Paddle, any pairing, or functions without arguments
            that build one (then laws of initialisation are compared as well). They are copied, never changed.
        batches: what both are given: a dict by the names of `forward`'s arguments, a list by their places, or a dict of
            named ones. Arrays of numpy, tensors of either framework, None, bool, int, float, text.
        loss: (theirs, ours), each (outputs by name, batch) -> scalar. Default: the mean distance of all floating
            outputs, a loss that both return included, to fixed random targets.
        rules: of the weights' map, that go before what is found; a WeightMap is taken as it is.
        drop: tensors of theirs without a counterpart -> why.
        weights: "copy": theirs go into ours. "check": both hold the checkpoint already, and must hold the same.
        outputs: names of outputs that are compared, or their name -> our name. Default: all that have a counterpart.
        skip: patterns of our layers whose outputs are not compared.
        steps: which of `CHECKS` to run; default: all that can be run.
        dtypes: "float64", "float32", and on request "bfloat16", "float16".
        tolerance: one for all, or step -> one, or step -> dtype -> one. Default: defaults.py, with reasons.
        optimizer: (theirs, ours), each (list of parameters) -> an optimizer of its framework, for the updates.
        updates: how many follow upon each other.
        hostile: whether the first batch is varied (one row, one token, padding on all sides, repeated ids, longer), and
            tensors of one number (fresh norms, biases) are moved, in copies, so that it shows where they go.
        export: True, or (save(our model, folder), load(folder) -> a model of theirs).
        compiled: True, or a function (our model) -> its compiled form.
        seed: of these targets.
        name: of the port, for the report. Default: the class of ours.

    Returns:
        The proof: `print(proof)`, `proof.passed`, `proof.save(folder)`.

    Raises:
        ProveError: it could not be run; the message names the way out.
        WeightError: the map of the weights is not to be found without a rule; the message has the line to write.
    """
    options = Options(loss, rules, drop, weights, outputs, skip, steps, dtypes, tolerance, optimizer, updates, hostile,
                      export, compiled, seed, name)  # fmt: skip
    with progress() as say:
        say("models are built")
        subjects = Subject(theirs, "theirs"), Subject(ours, "ours")
        began = time.perf_counter()
        proof = proof_of(Match(*subjects, given(batches), options, say), say)
        proof.seconds = time.perf_counter() - began
        return proof


def as_port(theirs: Any, ours: Any, batches: Any, **options: Any) -> Port:
    """The port that `prove` makes of two models, for a suite that is kept: `checklist([as_port(...)])`.

    `dataclasses.replace` adds what two models and a batch do not tell: data, metric, optimizer, training.

    Args: as those of `prove`.
    """
    match = Match(
        Subject(theirs, "theirs"), Subject(ours, "ours"), given(batches), Options(**options), lambda text: None
    )
    asked = match.options.steps or KEPT
    return replace(match.port(), steps=tuple(one for one in KEPT if one in asked and not CHECKERS[one].without(match)))


KEPT = ("forward", "backward", "init")
"""The checks that a suite of tests runs again, as steps of the same names."""
PATIENCE = 2.0
"""Seconds after which a user at a terminal is told what is going on."""


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """One line on a terminal that says what runs, from `PATIENCE` seconds on; gone at the end."""
    began, shown = time.perf_counter(), False

    def say(text: str) -> None:
        nonlocal shown
        seconds = time.perf_counter() - began
        if seconds > PATIENCE and sys.stderr.isatty():
            shown = True
            print(f"\r\033[Kprove: {text} ({seconds:.0f} s)", end="", file=sys.stderr, flush=True)

    try:
        yield say
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
