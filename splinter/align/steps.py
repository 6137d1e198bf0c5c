"""The eleven steps of a port, in order, one function each: Pair -> Alignment.

The checklist is that of Paddle's guide for reproducing NLP papers. Each step starts from freshly loaded
weights, feeds both sides the same arrays, and isolates what it is about: the loss step injects logits, the
optimizer step injects gradients, so that one fault turns one badge red and not six.
"""

from __future__ import annotations

import difflib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from . import pairing
from .compare import Alignment
from .driver import Dropped
from .port import MissingField, MissingFunction, Pair, Side, require

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

UPDATES, OPTIMIZER_UPDATES, INIT_SEEDS = 20, 1000, 20


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


def renamed(arrays: Mapping[str, np.ndarray], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What a driver traced, each layer's path replaced; what follows "#" (which run, which tensor) stays."""
    found = {}
    for key, array in arrays.items():
        path, mark, rest = key.partition("#")
        found[names[path] + mark + rest] = array
    return found


Runs = list[tuple[Side, str]]
"""Sides and the dtype that each runs in: theirs, ours, and below float64 theirs once more, in float64, as referee."""


def _runs(pair: Pair) -> Runs:
    return [(pair.theirs, pair.dtype), (pair.ours, pair.dtype)] + [(pair.theirs, "float64")] * pair.refereed


def _traced(pair: Pair, side: Side, dtype: str, model, batch) -> tuple[dict, dict]:
    """Activations under our names, and the read-out outputs."""
    names = {theirs if side is pair.theirs else ours: ours for ours, theirs in pair.modules.items()}
    seen, outputs = side.driver.trace(model, side.forward, batch, dtype, list(names))
    return renamed(seen, names), pair.port.readout(outputs, batch)


@timed
def forward(pair: Pair) -> Alignment:
    """Every module that owns converted weights gives the same output, then the model's outputs agree."""
    alignment = pair.alignment("forward")
    runs = _runs(pair)
    models = [pair.model(side, dtype) for side, dtype in runs]
    for name, batch in pair.port.batches(pair.folder, pair.mode).items():
        traces = [_traced(pair, *run, model, batch) for run, model in zip(runs, models, strict=True)]
        _add_layers(alignment, f"{name}/", *(layers for layers, _ in traces))
        alignment.add_all(f"{name}/", *(outputs for _, outputs in traces))
    return alignment


def _add_layers(alignment: Alignment, prefix: str, theirs, ours, referee=None) -> None:
    """Intermediates, in whichever shape both have; what cannot be compared by itself is noted."""
    pairs, more = pairing.paired(theirs, ours)
    for sentence in more.values():
        alignment.note(sentence)
    for name, our_name in pairs:
        shape = pairing.common_shape(theirs[name], ours[our_name])
        if shape is None:
            alone = f"{name} is not comparable by itself: "
            if not any(note.startswith(alone) for note in alignment.notes):  # once, not for the shapes of each batch
                alignment.note(f"{alone}{theirs[name].shape} in theirs, {ours[our_name].shape} in ours")
            continue
        arrays = [theirs[name], ours[our_name], *([] if referee is None else [referee[name]])]
        alignment.add(prefix + name, *(pairing.fitted(array, shape) for array in arrays))


def _add_hyperparameters(alignment: Alignment, pair: Pair, names: tuple[str, ...]) -> None:
    """Defaults of both sides, side by side: a port with another default trains another model."""
    theirs, ours = pair.theirs.hyperparameters(), pair.ours.hyperparameters()
    for side, found in ((pair.theirs, theirs), (pair.ours, ours)):
        if lacking := [name for name in names if name not in found]:
            raise MissingFunction(
                f"hyperparameters() of the {side.kind} side lacks {', '.join(lacking)}, which {alignment.step} compares"
            )
    for name in names:
        alignment.add(f"default {name}", float(theirs[name]), float(ours[name]), exact=True)


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
    _add_hyperparameters(alignment, pair, ("learning_rate", "warmup", "epochs", "min_steps", "batch_size"))
    if not pair.port.features:
        alignment.problems.append("the port names no features: no rate was compared")
    for features in pair.port.features:
        theirs, ours = (np.array(s.rates(features, pair.port.recipe())) for s in (pair.theirs, pair.ours))
        alignment.add(f"{features} features", theirs, ours)
    return alignment


@timed
def optimizer(pair: Pair) -> Alignment:
    """1000 updates from injected gradients give the same weights and moments, plain, then with decay and clipping."""
    alignment = pair.alignment("optimizer")
    _add_hyperparameters(alignment, pair, ("beta1", "beta2", "epsilon"))
    rng = np.random.default_rng(0)
    shapes = {"matrix.weight": (5, 7), "LayerNorm.weight": (7,), "layer.bias": (3,)}
    initial = {n: rng.normal(size=s).astype("float32") for n, s in shapes.items()}
    sizes = rng.uniform(-12, 2, size=OPTIMIZER_UPDATES)  # powers of ten: epsilon rules the small ones
    gradients = [{n: (rng.normal(size=s) * 10.0**e).astype("float32") for n, s in shapes.items()} for e in sizes]
    rates = np.where(np.arange(OPTIMIZER_UPDATES) % 50, rng.uniform(0, 1e-3, OPTIMIZER_UPDATES), 0.0)

    def run(side: Side, decay: float, clip: float, dtype: str):
        driver = side.driver
        history: dict[str, list[np.ndarray]] = {}
        named = driver.free_parameters(initial, dtype)
        recipe = replace(pair.port.recipe(), weight_decay=decay, max_norm=clip)
        optimizer = side.optimizer(named, recipe, ["matrix.weight"])
        for step, (rate, arrays) in enumerate(zip(rates, gradients, strict=True)):
            driver.set_gradients(named, arrays, dtype)
            norm = optimizer.step(float(rate))
            if step < 5 or step % 37 == 0 or step == OPTIMIZER_UPDATES - 1:
                for name, parameter in named.items():
                    first, second = optimizer.moments()[name]
                    for kind, tensor in (("", parameter), ("moment1/", first), ("moment2/", second)):
                        history.setdefault(kind + name, []).append(driver.to_numpy(tensor))
                history.setdefault("norm", []).append(np.asarray(norm, dtype))
        return {name: np.stack(values) for name, values in history.items()}

    for decay, clip in ((0.0, 0.0), (0.01, 1.0)):
        theirs, ours = (run(side, decay, clip, pair.dtype) for side in (pair.theirs, pair.ours))
        judged = run(pair.theirs, decay, clip, "float64") if pair.refereed else None
        case = f"decay {decay}, clip {clip}"
        for side, history in ((pair.theirs, theirs), (pair.ours, ours)):
            if all(np.array_equal(weights[-1], initial[name]) for name, weights in history.items() if name in initial):
                # two that stand still agree in every bit: a max_norm of 0 taken for a limit of 0, say
                alignment.problems.append(
                    f"{case}: no weight of the {side.kind} side moves; is max_norm 0 no clipping?"
                )
        alignment.add_all(f"{case}/", theirs, ours, judged)
    return alignment


@timed
def regularization(pair: Pair) -> Alignment:
    """The same parameters decay, by the same factor; dropout falls on the same numbers at the same rates."""
    alignment = pair.alignment("regularization", "exact")
    (their_names, theirs), (our_names, ours) = (_decayed(pair, side) for side in (pair.theirs, pair.ours))
    translated = sorted(pair.names(their_names))
    alignment.add("decayed names", np.array(translated), np.array(sorted(our_names)), exact=True)
    _add_hyperparameters(alignment, pair, ("weight_decay", "max_norm"))
    theirs = pair.translate(theirs)
    for name in alignment.common("", theirs, ours):
        # rounding of w - 0.001 w, in units of w
        alignment.add(f"factor of {name}", theirs[name], ours[name], bound=1e-14)
    del theirs, ours  # at base size they are gigabytes

    for rate in sorted(_add_dropouts(alignment, pair)):
        if 0 < rate < 1:
            count, kept = 200_000, []
            for side in (pair.theirs, pair.ours):
                side.driver.seed(1)
                drawn = side.driver.dropout_of_ones(rate, count)
                survivors = drawn[drawn != 0]
                # Paddle keeps the rate as float32 whatever the tensor's dtype: 3e-8
                alignment.add(f"dropout {rate} scale/{side.kind}", 1 / (1 - rate), survivors.max(), bound=1e-7)
                kept.append(len(survivors) / count)
            five_sigma = 5 * math.sqrt(2 * rate * (1 - rate) / count)  # chance of a false alarm: 6e-7
            alignment.add(f"dropout {rate} share kept", kept[0], kept[1], bound=five_sigma)
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


def _add_dropouts(alignment: Alignment, pair: Pair) -> set[float]:
    """Every dropout of a pass in training mode, in the order they run: its rate, and what it falls on.

    Both come of one pass: weights of the checkpoint, rates of a built model, nothing drawn. Where the passes differ
    anyway, the forward step tells, and only which rates occur is compared.

    Returns:
        The reference's rates.
    """
    sides, seen, taken = (pair.theirs, pair.ours), set[float](), []
    models = [_with_rates(pair, side) for side in sides]
    for name, batch in pair.port.batches(pair.folder, pair.mode).items():
        try:
            theirs = pair.theirs.driver.dropouts(models[0], pair.theirs.forward, batch, "float64")
        except Exception as error:  # one row alone has no variance for a BatchNorm, say
            alignment.note(f"{name}: {REFUSED} ({type(error).__name__}: {error})")
            continue
        ours = pair.ours.driver.dropouts(models[1], pair.ours.forward, batch, "float64")
        seen |= {one.rate for one in theirs}
        taken.append(batch)
        # nothing that a pass has left is kept longer than it is looked at: at base size it is gigabytes
        traced = (_traced(pair, side, "float64", model, batch) for side, model in zip(sides, models, strict=True))
        if _alike(*(layers | outputs for layers, outputs in traced)):
            _add_calls(alignment, name, theirs, ours)
        else:
            rates = [sorted({one.rate for one in found}) for found in (theirs, ours)]
            alignment.add(f"{name}/dropout rates", *rates, exact=True)
    for side, model in zip(sides, models, strict=True):
        if taken and _draws(side, model, taken[0]):
            alignment.note(f"the {side.kind} side draws numbers in training mode beside the dropouts that were seen")
    return seen


REFUSED = "left out, as the reference does not take it in training mode"


def _with_rates(pair: Pair, side: Side) -> Any:
    """A model with the weights of the checkpoint that drops as a built one does, in float64.

    What is loaded may have its rates at 0, and then some calls are not made at all. A side that builds no model has its
    rates in the loaded one.
    """
    loaded, driver = pair.model(side, "float64"), side.driver
    if not side.describes("build"):
        return loaded
    built = driver.cast(side.build(pair.folder), "float64")
    weights = {**driver.parameters(loaded), **driver.buffers(loaded)}
    for name, tensor in {**driver.parameters(built), **driver.buffers(built)}.items():
        if name in weights:
            driver.fill(tensor, driver.to_numpy(weights.pop(name)))
    return built


def _add_calls(alignment: Alignment, name: str, theirs: list[Dropped], ours: list[Dropped]) -> None:
    """The dropouts of one pass beside each other; a difference names module and rate."""
    rates = [[one.rate for one in found] for found in (theirs, ours)]
    alignment.add(f"{name}/dropout rates", *rates, exact=True)
    if rates[0] != rates[1]:
        alignment.problems += [f"{name}: {one}" for one in _other_rates(theirs, ours)]
        return
    for number, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        label = f"dropout {number}, {our.path}" if our.path else f"dropout {number}"
        if their.given is None or our.given is None:
            alignment.note(
                f"{label}, rate {our.rate:g}: inside of another function, so that what it falls on is not seen"
            )
            continue
        # rounding is 1e-11 of it; before the sum or behind it, say, is another number altogether
        bound = 1e-6 * float(np.abs(their.given).max(initial=0))
        shape = pairing.common_shape(their.given, our.given)
        if shape is not None:
            alignment.add(f"{name}/{label}", *(pairing.fitted(one.given, shape) for one in (their, our)), bound=bound)
        elif pairing.permuted(their.given, our.given):
            alignment.note(f"{label}: the same numbers in another order, {their.given.shape} and {our.given.shape}")
        else:
            alignment.add(f"{name}/{label}", their.given, our.given, bound=bound)


def _other_rates(theirs: list[Dropped], ours: list[Dropped]) -> Iterator[str]:
    """Each dropout of another rate, by its layer; one that a side lacks has the rate 0 there."""
    # those that fall on the same numbers are the same one
    keys = [
        [None if one.given is None else f"{np.linalg.norm(one.given):.5g}" for one in found] for found in (theirs, ours)
    ]
    for word, a, b, c, d in difflib.SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        if b - a == d - c:
            both = list(zip(theirs[a:b], ours[c:d], strict=True))
        else:
            both = [(one, one._replace(rate=0.0)) for one in theirs[a:b]]
            both += [(one._replace(rate=0.0), one) for one in ours[c:d]]
        for their, our in both:
            if their.rate != our.rate:
                yield f"{our.path or 'the model itself'}, rate {their.rate:g} against {our.rate:g}"


def _draws(side: Side, model: Any, batch: Any) -> bool:
    """Whether two passes in training mode with nothing dropped differ: some kernels drop inside, some layers at whole."""
    outputs = []
    for seed in (1, 2):
        side.driver.seed(seed)
        with side.driver.unmoved(model):
            outputs += side.driver.passes(model, side.forward, [batch], "float64")
    return any(not np.array_equal(array, outputs[1][name], equal_nan=True) for name, array in outputs[0].items())


def _alike(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> bool:
    """Whether two passes in float64 differ by no more than rounding."""

    def close(a, b) -> bool:
        return a.shape == b.shape and float(np.abs(a - b).max(initial=0)) <= 1e-8 * float(np.abs(a).max(initial=0))

    return theirs.keys() == ours.keys() and all(close(array, ours[name]) for name, array in theirs.items())


@timed
def backward(pair: Pair) -> Alignment:
    """Every parameter gets the same gradient, and 20 updates leave the same weights."""
    alignment = pair.alignment("backward")
    zero = re.compile(pair.port.zero_gradient or r"(?!)")  # an empty pattern would fit every name
    runs = [(pair.theirs, pair.dtype), (pair.ours, pair.dtype)] + [(pair.theirs, "float64")] * pair.refereed
    _add_losses_and_gradients(alignment, pair, runs, zero)
    _add_updates(alignment, pair, runs, zero)
    return alignment


def _add_losses_and_gradients(alignment: Alignment, pair: Pair, runs: list[tuple[Side, str]], zero: re.Pattern) -> None:
    """Of every batch, all sides from the checkpoint's weights."""
    batches = pair.port.batches(pair.folder, pair.mode)
    models = [pair.model(side, dtype) for side, dtype in runs]
    for name, batch in batches.items():
        values: list[np.ndarray] = []
        gradients: list[dict] = []
        for (side, dtype), model in zip(runs, models, strict=True):
            value, found = side.driver.gradients(model, side.forward, side.loss, batch, dtype)
            values.append(np.asarray(value, dtype))
            gradients.append(pair.translate(found, gradients=True) if side is pair.theirs else found)
        alignment.add(f"{name}/loss", values[0], values[1], values[2] if pair.refereed else None)
        _add_gradients(alignment, f"{name}/grad/", gradients, zero)
    if not batches:
        alignment.problems.append("the port has no batches: no gradient was compared")


NOISE = {"float64": 1e-13, "float32": 1e-4}
"""What may be left of a gradient that is zero by algebra, over the norm of all: seen 2.6e-17 and 1.6e-8."""


def _global_norm(arrays) -> float:
    return math.sqrt(sum(float(np.square(a.astype("float64")).sum()) for a in arrays.values()))


def _add_gradients(alignment: Alignment, prefix: str, gradients: list[dict], zero: re.Pattern) -> None:
    theirs, ours = gradients[:2]
    names = sorted(theirs), sorted(ours)
    alignment.add(f"{prefix}names", np.array(names[0]), np.array(names[1]), exact=True)
    norm = _global_norm(theirs)
    for name in (name for name in theirs if name in ours):
        referee = gradients[2][name] if len(gradients) > 2 else None
        # zero by algebra: what is left is rounding of the whole, and a ratio of noise to noise says nothing
        scale = norm if zero.search(name) else None
        alignment.add(prefix + name, theirs[name], ours[name], None if scale else referee, scale=scale)
        if scale and (left := float(np.abs(theirs[name]).max()) / scale) > NOISE[alignment.dtype]:
            alignment.problems.append(
                f"{prefix}{name}: {left:.1e} of the global norm in the reference is no zero; correct zero_gradient"
            )


def _add_updates(alignment: Alignment, pair: Pair, runs: list[tuple[Side, str]], zero: re.Pattern) -> None:
    """Twenty updates with the recipe's optimizer; parameters after 1, 2 and 20 (the first has rate 0)."""
    batches = pair.port.train_batches(pair.folder, pair.mode)
    if not batches:
        alignment.problems.append("the port has no train_batches: no update was compared")
        return
    recipe = pair.port.recipe()
    results: list[tuple] = []
    for side, dtype in runs:
        model = pair.model(side, dtype)
        named = side.driver.parameters(model)
        optimizer = side.optimizer(named, recipe, side.decayed(list(named)))
        rates = _rates(pair, side, recipe, len(batches))
        keep = (1, 2, len(batches)) if len(results) < 2 else ()  # weights are compared directly, not refereed
        results.append(side.driver.updates(model, side.forward, side.loss, optimizer, rates, batches, dtype, keep))
        del model, named, optimizer
    dtype, refereed = pair.dtype, len(results) > 2
    for i, name in enumerate(("losses", "norms")):
        columns = [np.asarray(result[i], dtype if n < 2 else "float64") for n, result in enumerate(results)]
        alignment.add(f"updates/{name}", columns[0], columns[1], columns[2] if refereed else None)
        alignment.curves[name] = {"theirs": columns[0].tolist(), "ours": columns[1].tolist()}
    drift = recipe.learning_rate * len(batches)
    for count in results[0][2]:
        theirs, ours = pair.translate(results[0][2][count]), results[1][2][count]
        for name in alignment.common(f"after {count} updates/", theirs, ours):
            # Adam turns the noise of a zero gradient into steps of the size of the learning rate
            bound = 2 * drift if zero.search(name) else None
            alignment.add(f"after {count} updates/{name}", theirs[name], ours[name], bound=bound)
    _add_ways(alignment, pair, results, zero)


def _rates(pair: Pair, side: Side, recipe: Any, count: int) -> list[float]:
    """Of the updates: by the side's schedule for the first number of features, or the recipe's one rate."""
    if not side.describes("rates"):
        return [recipe.learning_rate] * count
    if not pair.port.features:
        raise MissingField(f"{pair.port.name}: the updates of step 'backward' need features, for rates() is by them")
    features = pair.port.features[0]
    rates = list(side.rates(features, recipe))[:count]
    if len(rates) < count:
        raise ValueError(
            f"rates({features}) of the {side.kind} side gives {len(rates)} rates for {count} train_batches; take more "
            "features, or fewer batches"
        )
    return rates


WAY = 1e-2
"""How much longer or shorter, as a share, the way of a tensor through the updates may be: seen 5.5e-5 in float32.

Where the gradient is noise Adam's steps are of any sign, but never those of a whole tensor; one that stands still, or
moves at another rate, is 1 or a factor off. At base size some updates move weights by less than float32's tolerance."""


def _add_ways(alignment: Alignment, pair: Pair, results: list[tuple], zero: re.Pattern) -> None:
    """How far the updates have moved each tensor, from after the first to after the last."""
    ways = []
    for side, (_, _, kept) in zip((pair.theirs, pair.ours), results[:2], strict=True):
        first, last = (pair.translate(kept[n]) if side is pair.theirs else kept[n] for n in (min(kept), max(kept)))
        ways.append({name: float(np.linalg.norm((last[name] - first[name]).astype("float64"))) for name in last})
    for name in (name for name in ways[0] if name in ways[1] and not zero.search(name)):
        alignment.add(f"way of {name}", ways[0][name], ways[1][name], bound=WAY * ways[0][name])


@timed
def init(pair: Pair) -> Alignment:
    """Freshly built models follow the same laws: equal constants, indistinguishable distributions."""
    alignment = pair.alignment("init", "statistics")
    # a large model has numbers enough after three draws, and twenty of it would not fit in memory; with two, a
    # few of 1e8 entries would be equal in both by chance and look fixed
    small = sum(a.size for a in pair.ours.driver.state(pair.ours.load(pair.folder)).values()) < 10_000_000
    seeds = INIT_SEEDS if small else 3
    drawn: dict[str, dict[str, list[np.ndarray]]] = {}
    for side in (pair.theirs, pair.ours):
        values: dict[str, list[np.ndarray]] = {}
        for number in range(seeds):
            side.driver.seed(1000 + number)
            arrays = side.driver.state(side.build(pair.folder))
            for name, array in (pair.translate(arrays) if side is pair.theirs else arrays).items():
                values.setdefault(name, []).append(array)
        drawn[side.kind] = values
    theirs, ours = drawn[pair.theirs.kind], drawn[pair.ours.kind]
    alignment.add("names", np.array(sorted(theirs)), np.array(sorted(ours)), exact=True)
    random = [name for name in theirs if np.ptp(theirs[name]) > 0]
    alpha = 1e-3 / max(1, len(random))  # Bonferroni: one false alarm in a thousand runs of the whole step
    for name in (name for name in theirs if name in ours):
        a, b = np.stack(theirs[name]), np.stack(ours[name])
        if name not in random:
            alignment.add(f"{name} constant", a, b, exact=True)
            continue
        constant_rows = (np.all(a == a[:1], axis=0), np.all(b == b[:1], axis=0))
        alignment.add(f"{name} fixed entries", constant_rows[0], constant_rows[1], exact=True)
        alignment.add(f"{name} fixed values", a[0][constant_rows[0]], b[0][constant_rows[1]], exact=True)
        free = a[:, ~constant_rows[0]], b[:, ~constant_rows[1]]
        if free[0].size and free[1].size:  # else the fixed entries have said that one side draws and the other does not
            distance, critical = kolmogorov_smirnov(*free, alpha)
            alignment.add(f"{name} law", 0.0, distance, bound=critical)
        if len(b) > 1:
            renewed = [not np.array_equal(one[0], one[1]) for one in (a, b)]
            alignment.add(f"{name} new numbers for a new seed", renewed[0], renewed[1], exact=True)
    return alignment


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray, alpha: float) -> tuple[float, float]:
    """Two-sample statistic and its critical value at level alpha (asymptotic: samples of 1000 and more)."""
    a, b = np.sort(a, axis=None), np.sort(b, axis=None)
    grid = np.concatenate([a, b])
    distance = np.abs(np.searchsorted(a, grid, "right") / a.size - np.searchsorted(b, grid, "right") / b.size).max()
    return float(distance), math.sqrt(-math.log(alpha / 2) / 2 * (a.size + b.size) / (a.size * b.size))


@timed
def training(pair: Pair) -> Alignment:
    """A whole few-shot run on the same batches gives the same curve, the same answers and the same scores."""
    alignment = pair.alignment("training")
    theirs, ours = (side.train(pair.folder, pair.dtype) for side in (pair.theirs, pair.ours))
    alignment.add_all("", theirs, ours)
    for name in ("loss", "norm"):
        alignment.curves[name] = {"theirs": theirs[name].tolist(), "ours": ours[name].tolist()}
    return alignment
