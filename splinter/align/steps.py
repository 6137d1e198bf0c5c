"""The eleven steps of a port, in order, one function each: Pair -> Alignment.

The checklist is that of Paddle's guide for reproducing NLP papers. Each step starts from freshly loaded
weights, feeds both sides the same arrays, and isolates what it is about: the loss step injects logits, the
optimizer step injects gradients, so that one fault turns one badge red and not six.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import numpy as np

from . import pairing
from .compare import Alignment
from .dropout_calls import add_dropouts
from .evaluation import add_uses
from .gradients import add_gradients, add_updates
from .initial import add_laws
from .port import MissingFunction, Pair, Side, require
from .running import add_statistics
from .updating import add_injected

STEPS = (
    "forward",
    "dev_data",
    "metric",
    "loss",
    "lr",
    "optimizer",
    "regularization",
    "backward",
    "train_data",
    "init",
    "training",
)
ROUNDED = ("forward", "loss", "optimizer", "backward", "training")
"""Steps with floating-point work, run in float64 and in float32; the others are exact or statistical."""

OPTIMIZER_UPDATES, INIT_SEEDS = 1000, 20


def timed(step: Callable[[Pair], Alignment]) -> Callable[[Pair], Alignment]:
    """Note how long a step took."""

    @wraps(step)
    def run(pair: Pair) -> Alignment:
        require(pair.port, step.__name__)
        began = time.perf_counter()
        try:
            alignment = step(pair)
        except MissingFunction as error:
            raise MissingFunction(f"{step.__name__}: {error}") from None
        alignment.seconds = time.perf_counter() - began
        return alignment

    return run


@timed
def forward(pair: Pair) -> Alignment:
    """Every module that owns converted weights gives the same output, then the model's outputs agree."""
    alignment = pair.alignment("forward")
    runs = pairing.runs(pair)
    models = [pair.model(side, dtype) for side, dtype in runs]
    for name, batch in pairing.every_batch(alignment, pair):
        traces = [pairing.traced(pair, *run, model, batch) for run, model in zip(runs, models, strict=True)]
        layers, outputs = ([trace[part] for trace in traces] for part in (0, 1))
        pairing.add_layers(alignment, f"{name}/", *layers)
        alignment.add_all(f"{name}/", outputs[0], outputs[1], outputs[2] if pair.refereed else None)
    return alignment


def _add_hyperparameters(
    alignment: Alignment, pair: Pair, names: tuple[str, ...], further: tuple[str, ...] = ()
) -> None:
    """Defaults of both sides, side by side: a port with another default trains another model.

    Args:
        names: numbers that both sides must state.
        further: numbers or words, compared where both sides state them.
    """
    theirs, ours = pair.theirs.hyperparameters(), pair.ours.hyperparameters()
    for side, found in ((pair.theirs, theirs), (pair.ours, ours)):
        if lacking := [name for name in names if name not in found]:
            raise MissingFunction(
                f"hyperparameters() of the {side.kind} side lacks {', '.join(lacking)}, which {alignment.step} compares"
            )
    for name in names:
        alignment.add(f"default {name}", float(theirs[name]), float(ours[name]), exact=True)
    for name in (name for name in further if name in theirs and name in ours):
        alignment.add(f"default {name}", np.array(theirs[name]), np.array(ours[name]), exact=True)


def _columns(pair: Pair, step: str) -> Alignment:
    alignment = pair.alignment(step, "exact")
    for source in pair.port.data_sources(step, pair.mode):
        alignment.add_all(f"{source}/", pair.theirs.data(source), pair.ours.data(source), exact=True)
    alignment.missing = tuple(pair.port.missing(step, pair.mode))
    return alignment


@timed
def dev_data(pair: Pair) -> Alignment:
    """Whole evaluation files become the same arrays, field by field, row by row."""
    return _columns(pair, "dev_data")


@timed
def train_data(pair: Pair) -> Alignment:
    """Whole training files become the same arrays, labels included, in the same order."""
    return _columns(pair, "train_data")


@timed
def metric(pair: Pair) -> Alignment:
    """The same predictions get the same scores, and the same logits the same predictions, to the last bit."""
    alignment = pair.alignment("metric", "exact")
    for case, source in pair.port.metric_cases(pair.mode).items():
        columns = pair.theirs.data(source) if source else None  # one input for both: data has steps of its own
        alignment.add_all(f"{case}/", pair.theirs.metric(case, columns), pair.ours.metric(case, columns), exact=True)
    alignment.missing = tuple(pair.port.missing("metric", pair.mode))
    return alignment


@timed
def loss(pair: Pair) -> Alignment:
    """Injected logits and labels give the same loss and the same gradient of the logits."""
    alignment = pair.alignment("loss")
    kinds = [(pair.theirs, pair.dtype), (pair.ours, pair.dtype)] + [(pair.theirs, "float64")] * pair.refereed
    models = {(side.kind, dtype): pair.model(side, dtype) for side, dtype in kinds}

    def run(side: Side, outputs, batch, dtype: str):
        value, gradients = side.driver.loss_and_gradient(models[side.kind, dtype], side.loss, outputs, batch, dtype)
        return value, {f"grad/{name}": gradient for name, gradient in gradients.items()}

    for name, (outputs, batch) in pair.port.loss_cases(pair.folder, pair.mode).items():
        outputs = {n: a.astype("float32").astype("float64") for n, a in outputs.items()}  # the same number in both
        value, gradients = run(pair.theirs, outputs, batch, pair.dtype)
        our_value, our_gradients = run(pair.ours, outputs, batch, pair.dtype)
        alignment.add(f"{name}/loss is nan", np.isnan(value), np.isnan(our_value), exact=True)
        if np.isnan(value):
            continue  # every label ignored: no gradient is defined
        judged, judged_gradients = run(pair.theirs, outputs, batch, "float64") if pair.refereed else (None, None)
        alignment.add(f"{name}/loss", value, our_value, judged)
        alignment.add_all(f"{name}/", gradients, our_gradients, judged_gradients)
    return alignment


@timed
def lr(pair: Pair) -> Alignment:
    """Every update uses the same learning rate, from the warm-up to beyond the end."""
    alignment = pair.alignment("lr", "exact")
    names = ("learning_rate", "warmup", "epochs", "min_steps", "batch_size")
    _add_hyperparameters(alignment, pair, names, ("max_steps", "micro_batch", "seed", "schedule"))
    if not pair.port.features:
        alignment.problems.append("the port names no features: no rate was compared")
    for features in pair.port.features:
        theirs, ours = (np.array(s.rates(features, pair.port.recipe())) for s in (pair.theirs, pair.ours))
        alignment.add(f"{features} features", theirs, ours)
    return alignment


@timed
def optimizer(pair: Pair) -> Alignment:
    """1000 updates from injected gradients, some of them missing, give the same weights and moments."""
    alignment = pair.alignment("optimizer")
    _add_hyperparameters(alignment, pair, ("beta1", "beta2", "epsilon"), ("optimizer",))
    add_injected(alignment, pair, OPTIMIZER_UPDATES)
    return alignment


@timed
def regularization(pair: Pair) -> Alignment:
    """The same parameters decay by the same factor; dropout falls on the same numbers by the same law, in training."""
    alignment = pair.alignment("regularization", "exact")
    (their_names, theirs), (our_names, ours) = (_decayed(pair, side) for side in (pair.theirs, pair.ours))
    translated = sorted(pair.names(their_names))
    alignment.add("decayed names", np.array(translated), np.array(sorted(our_names)), exact=True)
    _add_hyperparameters(alignment, pair, ("weight_decay", "max_norm"))
    theirs = pair.translate(theirs)
    for name in alignment.common("", theirs, ours):
        # in units of w; the floor is rounding of w - 0.001 w
        alignment.add(f"factor of {name}", theirs[name], ours[name], floor=1e-14)
    del theirs, ours  # at base size they are gigabytes

    add_dropouts(alignment, pair)
    if pair.theirs.describes("uses") or pair.ours.describes("uses"):
        add_uses(alignment, pair)
    return alignment


@timed
def dropout(pair: Pair) -> Alignment:
    """Dropout falls on the same numbers at the same rates: what of `regularization` asks no optimizer."""
    alignment = pair.alignment("regularization", "exact")
    add_dropouts(alignment, pair)
    return alignment


def _decayed(pair: Pair, side: Side) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names that decay, and by which factor each weight goes in one update with zero gradients: decay alone moves it.

    That is 1 - rate * decay; 1 for a weight that is 0.
    """
    model = pair.model(side, "float64")
    named = side.driver.parameters(model)
    names = list(side.decayed(list(named)))
    before = side.driver.state(model)
    side.driver.set_gradients(named, {name: np.zeros(tuple(p.shape)) for name, p in named.items()}, "float64")
    side.optimizer(named, replace(pair.port.recipe(), weight_decay=0.01), names).step(0.1)
    after = side.driver.state(model)
    return names, {n: np.divide(after.pop(n), w, out=np.ones_like(w), where=w != 0) for n, w in before.items()}


@timed
def backward(pair: Pair) -> Alignment:
    """Every parameter gets the same gradient, and updates leave the same weights and running statistics."""
    alignment, runs = pair.alignment("backward"), pairing.runs(pair)
    add_gradients(alignment, pair, runs)
    add_statistics(alignment, pair, runs)
    add_updates(alignment, pair, runs)
    return alignment


@timed
def init(pair: Pair) -> Alignment:
    """Freshly built models follow the same laws: equal constants, indistinguishable distributions."""
    alignment = pair.alignment("init", "statistics")
    add_laws(alignment, pair, INIT_SEEDS)
    return alignment


@timed
def training(pair: Pair) -> Alignment:
    """A whole few-shot run on the same batches gives the same curve, the same answers and the same scores."""
    alignment = pair.alignment("training")
    theirs, ours = (side.train(pair.folder, pair.dtype) for side in (pair.theirs, pair.ours))
    alignment.add_all("", theirs, ours)
    for name in ("loss", "norm"):
        alignment.curves[name] = {"theirs": theirs[name].tolist(), "ours": ours[name].tolist()}
    return alignment
