"""Two models made a pair that the steps can run on: batches, outputs, weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import mapping
from ..port import Pair, Port, Recipe, Side
from ..weights import WeightMap
from .batches import Batch, Batches, hostile, padding
from .error import ProveError
from .learning import RATE, Descent, Stepped, distance
from .options import CHECKS, STEP, Options
from .outputs import Pairing, flattened, paired
from .subject import STIR, Subject, Values, stirred

PRECISE = "float64"
"""What maps are tried in, where both models run in it."""


class OnTheFly(Pair):
    """A pair made of two models; that both may lie in one file is no fault of a user's script."""

    def __post_init__(self) -> None:
        pass


class Match:
    """Two models that belong together: what both are given, which outputs and tensors are each other's counterparts.

    Args:
        batches: the user's.
        say: told what goes on.

    Attributes:
        batches: those that both run on, hostile ones included.
        refused: name of a batch that theirs runs on -> why ours does not.
        pairing: which outputs are compared.
        found: the map of the weights.
        notes: what a reviewer should know of it.

    Raises:
        ProveError: one of the models does not run on the user's batch; nothing belongs together.
        WeightError: the map is not to be found without a rule.
    """

    def __init__(self, theirs: Subject, ours: Subject, batches: Batches, options: Options, say: Callable[[str], None]):
        if theirs.model is ours.model:
            raise ProveError("theirs and ours are one model; a comparison with itself proves nothing")
        self.theirs, self.ours, self.options, self.say = theirs, ours, options, say
        self.notes: list[str] = []
        if options.hostile and options.weights == "copy":
            self.theirs, moved = stirred(theirs)
            if moved:
                self.notes.append(
                    f"{moved} tensors of theirs hold one number throughout (fresh norms, biases); they were moved by "
                    f"up to {STIR:.0%} in the copies that are compared, so that it shows where they go"
                )
        if type(theirs.model) is type(ours.model):
            self.notes.append(f"both sides are of one class, {theirs.name}: what they share is not proven")
        self.positional = batches.positional
        self.say("both models run once")
        self.batches, self.refused = self._accepted(batches)
        self.found = self._map()
        if packed := [ours for ours, why in self.found.reasons.items() if mapping.PACKED in why]:
            self.notes.append(
                f"{len(packed)} tensors ({packed[0]}, ...) are parts of one tensor of the other side, cut or joined "
                "whole and in their order; that is taken for granted: a port that packs by groups of heads would differ"
            )

    # What is compared

    def _call(self, subject: Subject, model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        output = model(*batch.values()) if self.positional else model(**batch)
        return dict(flattened(output, subject.driver.Tensor))

    def _labelled(self, subject: Subject, model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that are compared, by the names that both sides have."""
        outputs, place = self._call(subject, model, batch), self._place(subject)
        return {label: outputs[pair[place]] for label, pair in self.pairing.pairs.items() if pair[place] in outputs}

    def _place(self, subject: Subject) -> int:
        return 0 if subject is self.theirs else 1

    def _try(
        self, subject: Subject, model: Any, batch: Batch, dtype: str = "float32"
    ) -> tuple[dict[str, np.ndarray], str]:
        """What a model makes of a batch, or why it does not."""
        try:
            _, outputs = subject.driver.trace(
                model, lambda one, tensors: self._call(subject, one, tensors), batch, dtype, ()
            )
        except Exception as error:  # whatever a foreign model raises
            return {}, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        return outputs, ""

    @functools.cache  # noqa: B019 - one match per proof
    def refuses(self, dtype: str) -> str:
        """Why one of the two does not run in a precision, or ""; a framework may lack a kernel."""
        for subject in (self.theirs, self.ours) if dtype != "float32" else ():
            _, why = self._try(subject, subject.driver.cast(subject.copied(), dtype), self.first, dtype)
            if why:
                return f"{subject.role} does not run in {dtype} ({why})"
        return ""

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
        theirs, ours = (self._inventory(subject) for subject in (self.theirs, self.ours))
        return mapping.find(theirs, ours, self.options.rules, self.options.drop or {}, self._trial())

    def _trial(self) -> mapping.Trial:
        """What decides where names and order do not: a pass of both, each layer given the reference's input.

        Two models in float64 are made for it when it is first asked, for most maps need none.
        """
        made: list[mapping.Trial] = []

        def run(weights: WeightMap) -> Mapping[str, float]:
            if self.refuses(PRECISE):
                return {}  # no evidence
            if not made:
                self.say("weights: candidates are tried")
                made.append(mapping.trial(self._ready(self.theirs), self._ready(self.ours), self.first, PRECISE))
            return made[0](weights)

        return run

    def _ready(self, subject: Subject) -> mapping.Ready:
        model = subject.driver.cast(subject.copied(), PRECISE)
        return mapping.Ready(subject.driver, model, lambda model, batch: self._labelled(subject, model, batch))

    def _inventory(self, subject: Subject) -> mapping.Inventory:
        """Of what the compared outputs are made of: a head whose output has no counterpart takes no part."""
        model = subject.driver.cast(subject.copied(), "float32")
        compared = {pair[self._place(subject)] for pair in self.pairing.pairs.values()}

        def run() -> dict[str, np.ndarray]:
            outputs, _ = self._try(subject, model, self.first)
            return {name: array for name, array in outputs.items() if name in compared}

        return mapping.take_inventory(subject.driver, model, run)

    # The port

    def filled(self) -> Any:
        """A model of ours with the weights of theirs."""
        model = self.ours.copied()
        if self.options.weights == "check":
            return model
        tensors = self.ours.tensors(model)
        for name, array in self.converted(tensors):
            self.ours.driver.fill(tensors[name], array)
        return model

    def converted(self, tensors: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """(our name, array) of every tensor of ours that the map fills; what the model makes itself is left alone."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name in self.found.pairs}
        return self.found.weights.convert(Values(self.theirs, self.found.tied), shapes, "theirs")

    @property
    def first(self) -> Batch:
        """The user's first batch."""
        return next(iter(self.batches.required.values()))

    def _side(self, subject: Subject, load: Callable[[Any], Any]) -> Side:
        loss = distance(subject.driver, self.options.seed)
        if self.options.loss is not None:
            own = self.options.loss[self._place(subject)]
            loss = lambda model, outputs, batch: own(outputs, batch)  # noqa: E731
        factory = self.options.optimizer[self._place(subject)] if self.options.optimizer is not None else None

        def optimizer(named, recipe, decayed):
            return Stepped(subject.driver, factory(list(named.values())), named) if factory else Descent(
                subject.driver, named
            )  # fmt: skip

        return Side(
            framework=subject.framework,
            sources=(f"{subject.source}:{subject.name}",),
            kind=subject.role,
            load=load,
            build=lambda folder: subject.builder() if subject.builder else subject.copied(),
            forward=lambda model, batch: self._labelled(subject, model, batch),
            loss=loss,
            optimizer=optimizer,
            decayed=lambda names: [],
            rates=lambda features, recipe: [recipe.learning_rate] * features,
        )

    def port(self, mode: str = "") -> Port:
        """The port as the steps want it."""
        theirs = self._side(self.theirs, lambda folder: self.theirs.copied())
        ours = self._side(self.ours, lambda folder: self.filled())
        skip = self.options.skip
        return Port(
            name=self.name,
            theirs=lambda mode: theirs,
            ours=lambda mode: ours,
            steps=tuple(dict.fromkeys(STEP.get(check, check) for check in CHECKS)),
            modes=(mode,),
            weights=lambda mode: self.found.weights,
            batches=lambda folder, mode: self.batches.required,
            optional_batches=lambda folder, mode: self.batches.optional,
            train_batches=lambda folder, mode: self._train_batches(),
            recipe=lambda: Recipe(learning_rate=RATE),
            features=(max(1, self.options.updates),),
            padding=self.padding,
            skip=(skip,) if isinstance(skip, str) else tuple(skip),
        )

    def padding(self, batch: Mapping[str, Any]) -> list[np.ndarray]:
        """Masks of the places that count; of a batch that is not required all are compared."""
        return [] if any(batch is one for one in self.batches.optional.values()) else padding(batch)

    def _train_batches(self) -> list[Batch]:
        batches = list(self.batches.required.values())
        return [batches[k % len(batches)] for k in range(self.options.updates)]

    @property
    def name(self) -> str:
        return self.options.name or self.ours.name

    def pair(self, dtype: str, mode: str = "") -> Pair:
        """Both sides, in one precision."""
        return OnTheFly(self.port(mode), mode, "given", None, dtype)
