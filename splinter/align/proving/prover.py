"""`prove`: from two models and a batch to a verdict, by the functions of steps.py."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import defaults, mapping, steps
from ..compare import Alignment, Tolerance
from ..judging import judged
from ..port import Pair, Port, Side
from ..steps import STEPS
from ..weights import Rule, WeightMap
from . import decode
from .batches import Batch, Batches, given, hostile
from .options import CHECKS, PRECISIONS, STEP
from .outputs import Pairing, flattened, paired
from .proof import Check, Proof, described
from .subject import ProveError, Subject, Values

RATE = 1e-2
"""How far one update of `Descent` moves the weights, as a share of their norm."""


@dataclass(frozen=True)
class Recipe:
    """What the steps ask a port for; nothing decays and nothing is clipped."""

    learning_rate: float = RATE
    weight_decay: float = 0.0
    max_norm: float = 0.0


class Descent:
    """Steepest descent with steps of one length: the same arithmetic, in numpy, for both frameworks.

    It is no user's optimizer. It moves the weights along the gradients, so that twenty gradients are compared and not
    one, and unlike Adam it makes nothing of the noise in a gradient that is all but zero.
    """

    def __init__(self, driver: Any, named: Mapping[str, Any]):
        self.driver, self.named = driver, dict(named)

    def step(self, rate: float) -> float:
        """Move by `rate` times the norm of the weights, against the gradient; returns the gradient's norm."""
        arrays = {name: self.driver.to_numpy(one) for name, one in self.named.items()}
        gradients = {n: self.driver.to_numpy(p.grad) for n, p in self.named.items() if p.grad is not None}
        norm, size = _norm(gradients), _norm(arrays)
        for name, gradient in gradients.items():
            if norm > 0:
                self.driver.fill(self.named[name], arrays[name] - (rate * size / norm) * gradient)
            self.named[name].grad = None
        return norm


def _norm(arrays: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays.values())))


class Stepped:
    """An optimizer of the user's framework, as the steps want one."""

    def __init__(self, driver: Any, optimizer: Any, named: Mapping[str, Any]):
        self.driver, self.optimizer, self.named = driver, optimizer, dict(named)

    def step(self, rate: float) -> float:
        """One update at the optimizer's own rate; returns the norm of all gradients before it."""
        norm = _norm({n: self.driver.to_numpy(p.grad) for n, p in self.named.items() if p.grad is not None})
        self.optimizer.step()
        for parameter in self.named.values():
            parameter.grad = None
        return norm


class OnTheFly(Pair):
    """A pair made of two models; that both may lie in one file is no fault of a user's script."""

    def __post_init__(self) -> None:
        pass


def projection(driver: Any, seed: int) -> Callable[[Any, Mapping[str, Any], Any], Any]:
    """A loss that sends a gradient through every floating output: its sum with fixed random weights.

    Weights are drawn from the name and the shape of an output alone, so both sides have the same; their norm is 1.
    """

    def loss(model: Any, outputs: Mapping[str, Any], batch: Any) -> Any:
        total: Any = 0.0
        for name, tensor in outputs.items():
            if "float" not in str(tensor.dtype):
                continue
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            weights = rng.normal(size=tuple(tensor.shape))
            total = total + (tensor * driver.like(weights / np.sqrt(weights.size), tensor)).sum()
        return total

    return loss


@dataclass(frozen=True)
class Options:
    """The keyword arguments of `prove`; see there."""

    loss: tuple[Callable, Callable] | None = None
    rules: Sequence[Rule] | WeightMap = ()
    drop: Mapping[str, str] | None = None
    weights: str = "copy"
    outputs: Sequence[str] | Mapping[str, str] | None = None
    skip: str | Sequence[str] = ()
    steps: Sequence[str] | None = None
    dtypes: Sequence[str] = ("float64", "float32")
    tolerance: Tolerance | Mapping[str, Any] | None = None
    optimizer: tuple[Callable, Callable] | None = None
    updates: int = 20
    hostile: bool = True
    export: tuple[Callable, Callable] | None = None
    compiled: Callable[[Any], Any] | bool | None = None
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if self.weights not in ("copy", "check"):
            raise ProveError(f"weights={self.weights!r}: 'copy' (theirs go into ours) or 'check' (both hold them)")
        if unknown := sorted(set(self.steps or ()) - set(CHECKS)):
            raise ProveError(f"steps={list(self.steps or ())}: no {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        if unknown := sorted(set(self.dtypes) - set(PRECISIONS)):
            raise ProveError(f"dtypes={list(self.dtypes)}: no {', '.join(unknown)}; there are {', '.join(PRECISIONS)}")


class Prover:
    """Both models, what they are given, and the checks on them."""

    def __init__(self, theirs: Subject, ours: Subject, batches: Batches, options: Options, say: Callable[[str], None]):
        if theirs.model is ours.model:
            raise ProveError("theirs and ours are one model; a comparison with itself proves nothing")
        self.theirs, self.ours, self.options, self.say = theirs, ours, options, say
        self.notes: list[str] = []
        if type(theirs.model) is type(ours.model):
            self.notes.append(f"both sides are of one class, {theirs.name}: what they share is not proven")
        self.positional = batches.positional
        self.say("both models run once")
        self.batches, self.refused = self._accepted(batches)
        self.found = self._map()

    # What is compared

    def _call(self, subject: Subject, model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        output = model(*batch.values()) if self.positional else model(**batch)
        return dict(flattened(output, subject.driver.Tensor))

    def _try(self, subject: Subject, model: Any, batch: Batch) -> tuple[dict[str, np.ndarray], str]:
        """What a model makes of a batch, or why it does not."""
        try:
            _, outputs = subject.driver.trace(
                model, lambda one, tensors: self._call(subject, one, tensors), batch, "float32", ()
            )
        except Exception as error:  # whatever a foreign model raises
            return {}, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        return outputs, ""

    def _accepted(self, batches: Batches) -> tuple[Batches, dict[str, str]]:
        """The batches that the reference takes, and of these what ours says to those that it refuses.

        Raises:
            ProveError: one of the user's own batches does not run.
        """
        models = [subject.driver.cast(subject.copied(), "float32") for subject in (self.theirs, self.ours)]
        every = hostile(batches) if self.options.hostile else batches
        kept: dict[str, Batch] = {}
        refused: dict[str, str] = {}
        for name, batch in {**every.required, **every.optional}.items():
            their_outputs, why = self._try(self.theirs, models[0], batch)
            our_outputs, ours_why = self._try(self.ours, models[1], batch)
            if name in batches.required and (why or ours_why):
                side, said = ("theirs", why) if why else ("ours", ours_why)
                raise ProveError(f"{side} does not run on the batch {name!r}: {said}; {self._way_out(batch)}")
            if not why and not all(np.isfinite(one).all() for one in their_outputs.values() if one.dtype.kind == "f"):
                why = "its outputs hold NaN or infinity"
            if why and name not in batches.required:
                self.notes.append(f"batch {name!r} left out, for theirs refuses it ({why})")
            elif ours_why:
                refused[name] = ours_why
            else:
                kept[name] = batch
            if name == next(iter(batches.required)):
                self.pairing = self._pairing(their_outputs, our_outputs)
        self.notes += self.pairing.notes
        required = {name: batch for name, batch in kept.items() if name in every.required}
        optional = {name: batch for name, batch in kept.items() if name in every.optional}
        return Batches(required, optional, batches.positional), refused

    def _way_out(self, batch: Batch) -> str:
        if self.positional:
            return "it was handed over by place"
        return f"it was handed over by name ({', '.join(batch)}); a list hands its values over by place"

    def _pairing(self, theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> Pairing:
        chosen = self.options.outputs
        if isinstance(chosen, Mapping):
            pairs = {their: (their, our) for their, our in chosen.items()}
        elif chosen is not None:
            pairs = {name: (name, name) for name in chosen}
        else:
            found = paired({n: a.shape for n, a in theirs.items()}, {n: a.shape for n, a in ours.items()})
            if not found.pairs:
                raise ProveError(
                    f"no output of theirs ({', '.join(theirs) or 'none'}) belongs to one of ours "
                    f"({', '.join(ours) or 'none'}); outputs={{their name: our name}} pairs them"
                )
            return found
        for their, our in pairs.values():
            if their not in theirs or our not in ours:
                raise ProveError(
                    f"outputs= names {their!r} and {our!r}; theirs returns {', '.join(theirs)}, ours {', '.join(ours)}"
                )
        return Pairing(pairs)

    def _map(self) -> mapping.Found:
        """The map of the weights, found; `rules` and `drop` go first."""
        if isinstance(self.options.rules, WeightMap):
            names = [link.ours for link in self.options.rules.links(list(self.ours.tensors()))]
            return mapping.Found(self.options.rules, dict.fromkeys(names, "by the map given"), [])
        self.say("weights: the map is looked for")
        batch = next(iter(self.batches.required.values()))
        inventories = []
        for subject in (self.theirs, self.ours):
            model = subject.driver.cast(subject.copied(), "float32")
            inventories.append(
                mapping.take_inventory(subject.driver, model, lambda s=subject, m=model: self._try(s, m, batch))
            )
        return mapping.find(*inventories, rules=self.options.rules, drop=self.options.drop or {})

    # The port

    def filled(self) -> Any:
        """A model of ours with the weights of theirs."""
        model = self.ours.copied()
        if self.options.weights == "check":
            return model
        tensors = self.ours.tensors(model)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name in self.our_tensors}
        for name, array in self.found.weights.convert(Values(self.theirs), shapes, "theirs"):
            self.ours.driver.fill(tensors[name], array)
        return model

    @cached_property
    def our_tensors(self) -> set[str]:
        """Names of ours that the map fills; tables that the model makes itself are not among them."""
        return set(self.found.pairs)

    def _side(self, subject: Subject, load: Callable[[Any], Any]) -> Side:
        place = 0 if subject is self.theirs else 1

        def forward(model, batch):
            outputs = self._call(subject, model, batch)
            return {label: outputs[pair[place]] for label, pair in self.pairing.pairs.items() if pair[place] in outputs}

        loss = projection(subject.driver, self.options.seed)
        if self.options.loss is not None:
            own = self.options.loss[place]
            loss = lambda model, outputs, batch: own(outputs, batch)  # noqa: E731
        factory = self.options.optimizer[place] if self.options.optimizer is not None else None

        def optimizer(named, recipe, decayed):
            return Stepped(subject.driver, factory(list(named.values())), named) if factory else Descent(
                subject.driver, named
            )  # fmt: skip

        return Side(
            framework=subject.framework,
            sources=(subject.source,),
            kind=subject.role,
            load=load,
            build=lambda folder: subject.builder() if subject.builder else subject.copied(),
            forward=forward,
            loss=loss,
            optimizer=optimizer,
            decayed=lambda names: [],
            rates=lambda features, recipe: [recipe.learning_rate] * features,
        )

    def port(self, batches: Mapping[str, Batch] | None = None, mode: str = "") -> Port:
        """The port as the steps want it."""
        theirs = self._side(self.theirs, lambda folder: self.theirs.copied())
        ours = self._side(self.ours, lambda folder: self.filled())
        required = self.batches.required if batches is None else batches
        return Port(
            name=self.name,
            modes=(mode,),
            theirs=lambda mode: theirs,
            ours=lambda mode: ours,
            weights=lambda mode: self.found.weights,
            batches=lambda folder, mode: required,
            optional_batches=lambda folder, mode: self.batches.optional,
            train_batches=lambda folder, mode: self._train_batches(),
            recipe=Recipe,
            features=(max(1, self.options.updates),),
            skip=(self.options.skip,) if isinstance(self.options.skip, str) else tuple(self.options.skip),
            steps=tuple(dict.fromkeys(STEP.get(check, check) for check in CHECKS)),
        )

    def _train_batches(self) -> list[Batch]:
        batches = list(self.batches.required.values())
        return [batches[k % len(batches)] for k in range(self.options.updates)]

    @property
    def name(self) -> str:
        return self.options.name or self.ours.name

    def pair(self, dtype: str, mode: str = "") -> Pair:
        """Both sides, in one precision."""
        return OnTheFly(self.port(mode=mode), mode, "given", Path(), dtype)

    # The checks

    def run(self) -> Proof:
        """Every check that can be run, in order."""
        began = time.perf_counter()
        proof = Proof(
            name=self.name,
            theirs=self._described(self.theirs),
            ours=self._described(self.ours),
            weights=described(self.found.pairs, self.found.reasons),
            notes=[*self.notes, *self.found.notes],
            environment=self._environment(),
            rules=str(self.found.weights),
            outputs=dict(self.pairing.pairs.values()),
        )
        asked = self.options.steps or CHECKS
        for check in CHECKS:
            if check not in asked:
                proof.left[check] = "not asked for"
                continue
            why = getattr(self, f"_without_{check}", lambda: "")()
            if why:
                proof.left[check] = why
                continue
            for dtype in self._dtypes(check):
                self.say(f"{check} {dtype}")
                proof.checks.append(self._check(check, dtype))
        proof.seconds = time.perf_counter() - began
        return proof

    def _check(self, name: str, dtype: str) -> Check:
        pair = self.pair(dtype, "" if name in STEPS else name)
        alignment = getattr(self, f"_{name}")(pair)
        tolerance = self._tolerance(STEP.get(name, name), dtype)
        record, message = judged(alignment, tolerance, pair if name == "forward" else None)
        return Check(name, dtype, alignment, tolerance, record, message)

    def _tolerance(self, step: str, dtype: str) -> Tolerance:
        """The user's, for all steps or for some, else the default."""
        own = self.options.tolerance
        if isinstance(own, Mapping):
            own = own.get(step)
        if isinstance(own, Mapping):
            own = own.get(dtype)
        return own if own is not None else defaults.tolerance(step, dtype)

    def _dtypes(self, check: str) -> Sequence[str]:
        if check in ("forward", "backward"):
            # reduced precision says something of outputs; what it makes of gradients depends on loss scaling
            return [d for d in self.options.dtypes if check == "forward" or d in ("float64", "float32")]
        return {"decode": ("float32",), "compiled": ("float32",), "export": ("float32",)}.get(check, ("exact",))

    def _weights(self, pair: Pair) -> Alignment:
        """Every tensor of ours holds the reference's numbers; tensors that are one on one side are so on the other."""
        alignment = pair.alignment("forward", "exact")
        filled = self.ours.tensors(self.filled())
        shapes = {name: tuple(filled[name].shape) for name in filled if name in self.our_tensors}
        for name, array in self.found.weights.convert(Values(self.theirs), shapes, "theirs"):
            ours = self.ours.driver.to_numpy(filled[name])
            alignment.add(name, array.astype(ours.dtype, copy=False), ours, exact=True)
        return alignment

    def _forward(self, pair: Pair) -> Alignment:
        alignment = steps.forward(pair)
        alignment.problems += [
            f"{name}/ours does not run, and theirs does: {why}" for name, why in self.refused.items()
        ]
        return alignment

    def _backward(self, pair: Pair) -> Alignment:
        return steps.backward(pair)

    def _dropout(self, pair: Pair) -> Alignment:
        return steps.dropout(pair)

    def _without_init(self) -> str:
        given = [subject.role for subject in (self.theirs, self.ours) if subject.builder is None]
        return f"{' and '.join(given)} came as a model; functions that build them show their laws" if given else ""

    def _init(self, pair: Pair) -> Alignment:
        return steps.init(pair)

    # Decoding

    @cached_property
    def _logits(self) -> str | None:
        """The label of the logits of a model that decodes, found by running the reference; None for all others."""
        batch = next(iter(self.batches.required.values()))
        model = self.theirs.driver.cast(self.theirs.copied(), "float32")
        run = self._runner(self.pair("float32").theirs, model, "float32")
        vocabulary = getattr(getattr(self.theirs.model, "config", None), "vocab_size", None)
        label = decode.which(run(batch), batch, vocabulary)
        return None if label is None or decode.looks_ahead(run, batch, label) else label

    def _runner(self, side: Side, model: Any, dtype: str) -> decode.Run:
        return lambda batch: side.driver.trace(model, side.forward, batch, dtype, ())[1]

    def _without_decode(self) -> str:
        return "" if self._logits else "no output of theirs is logits of the next token"

    def _decode(self, pair: Pair) -> Alignment:
        alignment = pair.alignment("forward")
        batch, label = next(iter(self.batches.required.values())), self._logits
        assert label is not None
        models = [pair.model(side) for side in (pair.theirs, pair.ours)]
        runs = [self._runner(s, m, pair.dtype) for s, m in zip((pair.theirs, pair.ours), models, strict=True)]
        ids = decode.greedy(alignment, *runs, batch, label)
        if decode.DECODED in batch:
            alignment.notes.append("decoding with a cache is tried with decoders alone")
            return alignment
        whole = {decode.IDS: ids, **({decode.MASK: np.ones_like(ids)} if decode.MASK in batch else {})}
        for subject, model, run in zip((self.theirs, self.ours), models, runs, strict=True):
            self._add_cached(alignment, subject, model, run(whole)[label], ids)
        return alignment

    def _add_cached(
        self, alignment: Alignment, subject: Subject, model: Any, whole: np.ndarray, ids: np.ndarray
    ) -> None:
        """What a cache gives, beside the whole sequence of the same model; the reference shows that it can be had."""
        try:
            found = decode.cached(subject.driver, model, ids)
        except Exception as error:  # a foreign model, called in one of two usual ways
            found = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        if isinstance(found, str):
            alignment.notes.append(f"{subject.role} was not decoded with a cache: {found}")
        elif subject is self.ours:
            alignment.add("cache against whole/logits", whole, found)
        elif not np.allclose(whole, found, rtol=1e-3, atol=1e-4):
            alignment.notes.append("theirs gives other logits with a cache than without")

    # Other ways of running ours

    def _without_export(self) -> str:
        return "" if self.options.export else "export= names how ours is saved and read back"

    def _export(self, pair: Pair) -> Alignment:
        """What ours saves and the reference's own library reads back is the reference again."""
        alignment = pair.alignment("forward")
        save, load = self._exporters()
        with tempfile.TemporaryDirectory() as folder:
            save(self.filled(), folder)
            back = load(folder)
        mine = Subject(back, "the exported model")
        if mine.framework != self.theirs.framework:
            raise ProveError(
                f"export= reads back a model of {mine.framework}; theirs is one of {self.theirs.framework}"
            )
        read, own = mine.tensors(), Values(self.theirs)
        for name in alignment.common("weights/", own, read):
            alignment.add(f"weights/{name}", own[name], self.theirs.driver.to_numpy(read[name]), exact=True)
        models = [self.theirs.driver.cast(one, pair.dtype) for one in (self.theirs.copied(), back)]
        for name, batch in self.batches.required.items():
            outputs = [self._runner(pair.theirs, model, pair.dtype)(batch) for model in models]
            alignment.add_all(f"{name}/", *outputs)
        return alignment

    def _exporters(self) -> tuple[Callable, Callable]:
        if isinstance(self.options.export, (tuple, list)):
            save, load = self.options.export
            return save, load
        if not hasattr(self.ours.model, "save_pretrained") or not hasattr(type(self.theirs.model), "from_pretrained"):
            raise ProveError(
                "export=True wants save_pretrained of ours and from_pretrained of theirs; hand in a pair of functions: "
                "(model, folder) that saves ours, (folder) that reads it back as theirs"
            )
        return lambda model, folder: model.save_pretrained(folder), type(self.theirs.model).from_pretrained

    def _without_compiled(self) -> str:
        return "" if self.options.compiled else "compiled= asks for ours through its framework's compiler"

    def _compiled(self, pair: Pair) -> Alignment:
        """Ours compiled gives what ours gives as it is: theirs in this comparison is ours, eager."""
        alignment = pair.alignment("forward")
        eager, other = (pair.model(pair.ours) for _ in range(2))
        compile = self.options.compiled if callable(self.options.compiled) else self.ours.driver.compiled
        built = compile(other)
        for name, batch in self.batches.required.items():
            outputs = [self._runner(pair.ours, model, pair.dtype)(batch) for model in (eager, built)]
            alignment.add_all(f"{name}/", *outputs)
        return alignment

    # What is said of the two

    def _described(self, subject: Subject) -> str:
        driver = subject.driver.environment()
        made = "a function that builds it" if subject.builder else "a model"
        return f"{subject.name} of {subject.package} ({subject.framework} {driver['version']}, from {made})"

    def _environment(self) -> dict[str, Any]:
        """As a record has it."""
        from ..recorder import common_environment

        return {
            **common_environment(),
            **{subject.framework: subject.driver.environment() for subject in (self.theirs, self.ours)},
        }


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
        loss: (theirs, ours), each (outputs by name, batch) -> scalar. Default: a fixed random projection of all
            floating outputs, a loss that both return included.
        rules: of the weights' map, that go before what is found; a WeightMap is taken as it is.
        drop: tensors of theirs without a counterpart -> why.
        weights: "copy": theirs go into ours. "check": both hold the checkpoint already, and must hold the same.
        outputs: names of outputs that are compared, or their name -> our name. Default: all that have a counterpart.
        skip: patterns of our layers whose outputs are not compared.
        steps: which of `CHECKS` to run; default: all that can be run.
        dtypes: "float64", "float32", and on request "bfloat16", "float16".
        tolerance: one for all, or step -> one, or step -> dtype -> one. Default: defaults.py, with reasons.
        optimizer: (theirs, ours), each (list of parameters) -> an optimizer of its framework, for the updates.
        updates: how many follow upon each other; 0: none.
        hostile: whether the first batch is varied: one row, one token, padding on all sides, repeated ids, longer.
        export: True, or (save(our model, folder), load(folder) -> a model of theirs).
        compiled: True, or a function (our model) -> its compiled form.
        seed: of the projection.
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
        return Prover(*subjects, given(batches), options, say).run()


def as_port(theirs: Any, ours: Any, batches: Any, **options: Any) -> Port:
    """The port that `prove` makes of two models, for a suite that is kept: `checklist([as_port(...)])`.

    `dataclasses.replace` adds what two models and a batch do not tell: data, metric, optimizer, training.

    Args: as those of `prove`.
    """
    prover = Prover(
        Subject(theirs, "theirs"), Subject(ours, "ours"), given(batches), Options(**options), lambda text: None
    )
    built = prover.theirs.builder is not None and prover.ours.builder is not None
    return replace(prover.port(), steps=("forward", "backward", *(("init",) if built else ())))


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
