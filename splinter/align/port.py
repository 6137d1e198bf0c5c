"""How a system describes itself to the engine: a Port with two Sides, and the Pair that a test receives."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .compare import SHORT, Alignment
from .weights import WeightMap

Arrays = Mapping[str, np.ndarray]
PRECISIONS = ("float64", "float32")
PLAIN = "without dropout"
"""The moment in `Side.uses` at which a model is asked that has all rates at 0."""
OF_A_CALL = "{} of a call"
"""What an answer is called in `Side.uses` that a plain call of the model gives, as the forward step compares it."""


class MissingFunction(LookupError):
    """A step needs a function that a side does not describe."""


class MissingField(TypeError):
    """A step that a port chose needs a field that the port lacks."""


class _Absent:
    """In place of a function that a side leaves out."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        raise MissingFunction(f"this side describes no {self.name!r}, which the step needs; add it to its Side")


@dataclass(frozen=True)
class Recipe:
    """How the steps train where a port does not say: as small as it can be, the same on both sides.

    Args:
        learning_rate: of every update, where a side has no schedule of its own.
        weight_decay: share of a weight that goes per unit of the learning rate.
        max_norm: global norm that gradients are clipped to; 0: no clipping.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_norm: float = 0.0


@dataclass(frozen=True)
class Side:
    """One implementation: functions over one framework's models and tensors.

    A step asks only for the functions it needs; where a side leaves one out, that step fails and says so.

    Args:
        framework: "torch" or "paddle"; picks the driver (torch_side.py, paddle_side.py). An outside port may
            bring its own: a dotted module name, with a `Driver` (driver.py) as `DRIVER`, or with the functions that its
            steps need.
        sources: the modules that are this implementation, or "module:Class" where both sides lie in one; two sides with
            a source in common are not a pair.
        kind: a word for the report, another one on each side: "transformers", "twin" (written here from the paper),
            "port".
        load: (folder) -> model with the weights of the checkpoint, in either mode.
        build: (folder) -> model as its initialiser leaves it, in either mode, with the configuration of the checkpoint,
            rates of dropout included.
        forward: (model, batch of tensors) -> named outputs, differentiable.
        loss: (model, outputs, batch of tensors) -> scalar.
        optimizer: (named parameters, recipe, decayed names) -> object with step(rate) and moments().
        decayed: (parameter names) -> those that weight decay applies to.
        hyperparameters: () -> the recipe's defaults by name: numbers, and words such as the name of a schedule.
        rates: (features, recipe) -> learning rate of every update, and some beyond the last; left out: the recipe's.
        data: (name of a data source) -> columns and texts, from raw file to model input.
        metric: (name of a metric case, columns of its data source or None) -> scores and predictions.
        train: (folder, dtype) -> {"loss": (N,), "norm": (N,), scores...} of one whole run, dropout 0.
        uses: (folder) -> moment -> {name: array}, float64: what the product answers at each moment at which it is
            asked, rates of dropout kept, as it is opened and between updates that leave the weights as they are; what
            its updates drop; and at the moment PLAIN what it answers with all rates at 0, and what a plain call gives
            then, as OF_A_CALL. May be left out by both.
    """

    framework: str
    sources: tuple[str, ...]
    kind: str
    load: Callable[[Any], Any]
    build: Callable[[Any], Any] = _Absent("build")
    forward: Callable[[Any, Any], Mapping[str, Any]] = _Absent("forward")
    loss: Callable[[Any, Any, Any], Any] = _Absent("loss")
    optimizer: Callable[[Mapping[str, Any], Any, Iterable[str]], Any] = _Absent("optimizer")
    decayed: Callable[[Iterable[str]], Sequence[str]] = _Absent("decayed")
    hyperparameters: Callable[[], Mapping[str, Any]] = _Absent("hyperparameters")
    rates: Callable[[int, Any], Sequence[float]] = _Absent("rates")
    data: Callable[[str], Arrays] = _Absent("data")
    metric: Callable[[str, Arrays | None], Arrays] = _Absent("metric")
    train: Callable[[Path, str], Arrays] = _Absent("train")
    uses: Callable[[Any], Mapping[str, Arrays]] = _Absent("uses")

    @property
    def driver(self) -> Any:
        """What speaks the framework: a `Driver`, or a module with the functions of one."""
        own = "." in self.framework
        module = importlib.import_module(self.framework if own else f"splinter.align.{self.framework}_side")
        return getattr(module, "DRIVER", module)

    def describes(self, name: str) -> bool:
        """Whether a function that may be left out is there."""
        return not isinstance(getattr(self, name), _Absent)

    def source_hash(self) -> str:
        """sha256 of the source files, so that a report shows that the reference was not edited."""
        digest = hashlib.sha256()
        for name in self.sources:
            spec = importlib.util.find_spec(name.partition(":")[0])
            if spec is None or spec.origin is None:
                raise ModuleNotFoundError(f"{name}, a source of the {self.kind} side, is not installed")
            digest.update(Path(spec.origin).read_bytes())
        return digest.hexdigest()


@functools.cache
def edited(module: str) -> bool:
    """Whether the file of an installed module is another than its package brought (RECORD of the wheel).

    A module that no wheel vouches for, of the project itself or of an editable installation, counts as it is.
    """
    module = module.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return False
    path = Path(spec.origin).resolve()
    root = path.parents[module.count(".") + (path.name == "__init__.py")]
    name = path.relative_to(root).as_posix()
    # every package says what it brought in RECORD: name, hash, size; packages need not be called as their modules
    rows = (row.split(",") for file in root.glob("*.dist-info/RECORD") for row in file.read_text("utf-8").splitlines())
    hashes = {hashed for found, hashed, _ in (row for row in rows if len(row) == 3) if found == name and hashed}
    algorithms = {hashed.partition("=")[0] for hashed in hashes}
    own = {f"{kind}={_digest(kind, path.read_bytes())}" for kind in algorithms}
    return bool(hashes) and not hashes & own


def _digest(algorithm: str, content: bytes) -> str:
    """As RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()


NEEDS = {
    "forward": ("weights", "batches"),
    "dev_data": ("data_sources",),
    "metric": ("metric_cases",),
    "loss": ("loss_cases",),
    "lr": ("features",),
    "optimizer": (),
    "regularization": ("weights", "batches"),
    "backward": ("weights", "batches", "train_batches"),
    "train_data": ("data_sources",),
    "init": ("weights",),
    "training": (),
}
"""Step -> the fields of a `Port` without which there is nothing to compare."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """A system: its modes, its weight names, its two sides, and the inputs that each step feeds to both.

    What none of the chosen steps needs may be left out; `NEEDS` says which step needs what.

    Args:
        name: of the system, for the report.
        theirs, ours: (mode) -> Side.
        steps: which of the eleven apply.
        modes: each is aligned on its own; left out: there is one.
        weights: (mode) -> WeightMap from their names to ours.
        batches: (folder, mode) -> named input batches for forward and backward, hostile ones included.
        optional_batches: (folder, mode) -> batches that are compared, but of which a difference is only noted: a row
            that is all padding, say, of which nothing sensible can be required.
        train_batches: (folder, mode) -> the batches of the backward step's updates, in order.
        loss_cases: (folder, mode) -> named (outputs, batch) pairs for the loss step.
        readout: (outputs, batch) -> what of the outputs is compared (masked positions apart, say); left out: all.
        recipe: () -> a dataclass with at least weight_decay, max_norm (0: no clipping) and learning_rate, for optimizer
            and rates; the steps replace the first two.
        features: numbers of features for which schedules are compared; the first one's is that of the updates.
        data_sources: (step, mode), step "dev_data" or "train_data" -> names of data sources that can be read now.
        metric_cases: (mode) -> name of a case -> data source whose reference columns both sides get, or None.
        zero_gradient: regular expression of our parameters whose gradient is zero by algebra; None: it is measured.
        padding: (batch) -> masks (B, T): where one is 0, nothing that lies along it is compared.
        skip: regular expression, or several, of our layers whose outputs are not compared.
        checkpoints: name -> function that returns the folder; the first is the one that is always aligned. Left out:
            there is one, and sides are given None for a folder.
        fetch: (name or folder) -> folder, for a checkpoint that the caller names.
        missing: (step, mode), step "dev_data", "train_data" or "metric" -> names of data sources that the step would
            read and that are not to be had now; they are in its record.
        shared: what both sides have in common, so that no step proves it: a phrase each, for the report.

    Raises:
        MissingField: one of the steps needs a field that is not there.
    """

    name: str
    theirs: Callable[[str], Side]
    ours: Callable[[str], Side]
    steps: tuple[str, ...]
    modes: tuple[str, ...] = ("",)
    weights: Callable[[str], WeightMap] = None  # type: ignore[assignment]
    batches: Callable[[Any, str], Mapping[str, Arrays]] = None  # type: ignore[assignment]
    optional_batches: Callable[[Any, str], Mapping[str, Arrays]] = lambda folder, mode: {}
    train_batches: Callable[[Any, str], Sequence[Arrays]] = None  # type: ignore[assignment]
    loss_cases: Callable[[Any, str], Mapping[str, tuple[Arrays, Arrays]]] = None  # type: ignore[assignment]
    readout: Callable[[Arrays, Arrays], Arrays] = lambda outputs, batch: outputs
    padding: Callable[[Arrays], Sequence[np.ndarray]] = lambda batch: ()
    recipe: Callable[..., Any] = Recipe
    features: tuple[int, ...] = None  # type: ignore[assignment]
    data_sources: Callable[[str, str], Sequence[str]] = None  # type: ignore[assignment]
    metric_cases: Callable[[str], Mapping[str, str | None]] = None  # type: ignore[assignment]
    zero_gradient: str | None = None
    skip: str | Sequence[str] = ()
    checkpoints: Mapping[str, Callable[[], Any]] = field(default_factory=lambda: {"loaded": lambda: None})
    fetch: Callable[[str], Path] = Path
    missing: Callable[[str, str], Sequence[str]] = lambda step, mode: ()
    shared: Sequence[str] = ()

    def __post_init__(self) -> None:
        for step in self.steps:
            if step not in NEEDS:
                raise MissingField(f"{self.name}: there is no step {step!r}; there are {', '.join(NEEDS)}")
            require(self, step)


def require(port: Any, step: str) -> None:
    """See that a port has the fields of a step.

    Raises:
        MissingField: one line with each that is not there.
    """
    if lacking := [name for name in NEEDS.get(step, ()) if getattr(port, name) is None]:
        raise MissingField(
            f"{port.name}: step {step!r} needs {' and '.join(lacking)}; add to its Port, or leave it out"
        )


class SelfComparison(ValueError):
    """Both sides of a pair are the same implementation."""


@dataclass
class Pair:
    """Both sides of one port in one mode, precision and checkpoint; models are loaded afresh on request."""

    port: Port
    mode: str
    checkpoint: str
    folder: Any
    dtype: str

    def __post_init__(self) -> None:
        for side in (self.theirs, self.ours):
            if not side.sources:
                raise SelfComparison(f"{self.port.name}: the {side.kind} side names no sources; name its modules")
            side.source_hash()  # they are there
        if self.theirs.forward is self.ours.forward:
            raise SelfComparison(f"{self.port.name}: both sides have one forward function")
        if set(self.theirs.sources) & set(self.ours.sources):
            raise SelfComparison(f"{self.port.name}: both sides come from {', '.join(self.theirs.sources)}")
        if self.theirs.kind == self.ours.kind:  # steps tell the two apart by it
            raise SelfComparison(f"{self.port.name}: both sides are of kind {self.ours.kind!r}; name them apart")

    @cached_property
    def theirs(self) -> Side:
        return self.port.theirs(self.mode)

    @cached_property
    def ours(self) -> Side:
        return self.port.ours(self.mode)

    @cached_property
    def modules(self) -> dict[str, str]:
        """Our module path -> theirs, of the layers whose outputs are compared."""
        skip = [self.port.skip] if isinstance(self.port.skip, str) else self.port.skip
        skipped = re.compile("|".join(f"(?:{one})" for one in skip) or r"(?!)")
        pairs = self.port.weights(self.mode).modules(self.our_names)
        return {ours: theirs for ours, theirs in pairs.items() if not skipped.search(ours)}

    @property
    def refereed(self) -> bool:
        """Whether a float64 run of the reference stands beside a comparison of shorter numbers."""
        return self.dtype in ("float32", *SHORT)

    def model(self, side: Side, dtype: str | None = None) -> Any:
        """A freshly loaded model, in whatever mode; the settings for comparing are applied first."""
        side.driver.settle()
        return side.driver.cast(side.load(self.folder), dtype or self.dtype)

    def translate(self, theirs: Arrays, gradients: bool = False) -> dict[str, np.ndarray]:
        """Arrays under their parameter names (weights, moments) under our names and layout.

        Args:
            gradients: that is what they are: one of a tensor that the map drops stays, for it has an effect after all.
        """
        translated = self.port.weights(self.mode).translate(theirs, gradients)
        order = {name: i for i, name in enumerate(self.our_names)}
        return dict(sorted(translated.items(), key=lambda kv: order.get(kv[0], -1)))

    def names(self, theirs: Iterable[str]) -> list[str]:
        """Our names of what their parameters of these names feed."""
        return self.port.weights(self.mode).names_from(list(theirs))

    @cached_property
    def our_names(self) -> tuple[str, ...]:
        """Our parameter names in the order of the model."""
        return tuple(self.ours.driver.parameters(self.ours.load(self.folder)))

    def alignment(self, step: str, dtype: str | None = None) -> Alignment:
        """An empty alignment labelled for this pair."""
        return Alignment(
            self.port.name, self.mode, step, self.checkpoint, dtype or self.dtype, reference=self.theirs.kind
        )
