"""Running statistics compared: what passes in training mode leave in the buffers of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import pairing
from .compare import Alignment
from .framework import Arrays
from .port import Pair, Side

PASSES = 3
"""Over one batch, in training mode."""
FLOAT32 = 2e-5
"""Paddle keeps a momentum as float32: of 0.999 that is 1.3e-5 of what a pass adds, of 0.9 it is 2.4e-7."""
VARIANCES = ("running_var", "_variance", "moving_variance")
SYNONYMS = {"running_mean": "_mean", "running_var": "_variance", "_mean": "running_mean", "_variance": "running_var"}
"""What the other framework calls it, where the weight map does not tell."""
REFUSED = "left out, as the reference does not take it in training mode"


def add_statistics(alignment: Alignment, pair: Pair, runs: pairing.Runs) -> None:
    """Outputs of passes in training mode with nothing dropped, then the buffers that they have moved."""
    if not all(hasattr(side.driver, "passes") for side, _ in runs):
        return  # a driver of its own may be a module of the functions that its steps need
    models = [pair.model(side, dtype) for side, dtype in runs]
    name, batch, refused = _taken(alignment, pair, models[0])
    if batch is None:
        require_one(alignment, pair, refused, "its outputs and running statistics were")
        return
    unlike = pair.theirs.driver.unbiased != pair.ours.driver.unbiased
    outputs, moved, starts, drawn = [], [], [], False
    kept = pair.port.weights(pair.mode).reason_kept  # of ours: what the model computes itself has no counterpart
    for (side, dtype), model in zip(runs, models, strict=True):
        starts.append(_start(side, model, unlike))
        passes = side.driver.passes(model, side.forward, [batch] * PASSES, dtype)
        outputs.append(pairing.blanked(dict(pair.port.readout(passes[-1], batch)), tuple(pair.port.padding(batch))))
        changed = _moved(starts[-1], _buffers(side, model))
        moved.append({n: array for n, array in changed.items() if side is pair.theirs or kept(n) is None})
        drawn |= not moved[-1] and not all(np.array_equal(a, passes[0][n], True) for n, a in passes[-1].items())
    if drawn:
        alignment.note(
            f"{name}: numbers are drawn in training mode, dropout held or not; its outputs were not compared"
        )
    else:
        alignment.add_all(f"{name} in training mode/", outputs[0], outputs[1], outputs[2] if pair.refereed else None)
    if not moved[0] and not moved[1]:
        return  # tables alone, which are seen by their effect
    theirs, before = (_under_our_names(pair, arrays, moved[1]) for arrays in (moved[0], starts[0]))
    counts = _counts(pair, models[1], batch, moved[1]) if unlike else {}
    for name in alignment.common(f"after {PASSES} passes in training mode/", theirs, moved[1]):
        ours = _of_one_law(alignment, pair, name, theirs[name], moved[1][name], counts)
        floor = FLOAT32 * float(np.abs(theirs[name] - before[name]).max(initial=0))
        alignment.add(f"after {PASSES} passes in training mode/{name}", theirs[name], ours, floor=floor)


def require_one(alignment: Alignment, pair: Pair, refused: Iterable[str], what: str) -> None:
    """Fail where the reference refuses every batch that is required: any error counts as a refusal."""
    required = pair.port.batches(pair.folder, pair.mode).keys()
    if required and required <= set(refused):
        alignment.problem(f"the reference takes no batch in training mode: {what} not compared")


def _taken(alignment: Alignment, pair: Pair, model: Any) -> tuple[str, Any, list[str]]:
    """The first batch that the reference takes in training mode: a BatchNorm finds no variance in one row alone.

    Returns:
        Its name and itself, None if there is none, and the names of those that were refused.
    """
    refused: list[str] = []
    for name, batch in pair.port.batches(pair.folder, pair.mode).items():
        try:
            with pair.theirs.driver.unmoved(model):
                pair.theirs.driver.passes(model, pair.theirs.forward, [batch], pair.dtype)
        except Exception as error:
            alignment.note(f"{name}: {REFUSED} ({type(error).__name__}: {error})")
            refused.append(name)
        else:
            return name, batch, refused
    return "", None, refused


def _buffers(side: Side, model: Any) -> dict[str, np.ndarray]:
    return {name: side.driver.to_numpy(tensor) for name, tensor in side.driver.buffers(model).items()}


def _moved(before: Arrays, after: Arrays) -> dict[str, np.ndarray]:
    """What the passes have changed; a buffer that they have made is a table, kept for the next."""
    return {n: array for n, array in after.items() if n in before and not np.array_equal(array, before[n])}


def _start(side: Side, model: Any, unlike: bool) -> dict[str, np.ndarray]:
    """The buffers before the passes; variances of two laws start at 0, for then one is a multiple of the other."""
    for name, tensor in side.driver.buffers(model).items() if unlike else ():
        if name.rpartition(".")[2] in VARIANCES:
            side.driver.fill(tensor, np.zeros(tuple(tensor.shape)))
    return _buffers(side, model)


def _under_our_names(pair: Pair, arrays: Arrays, ours: Arrays) -> dict[str, np.ndarray]:
    """By the weight map, and where it has no rule by the pair of modules that own them."""
    modules = {their: our for our, their in pair.port.weights(pair.mode).modules(pair.our_names).items()}
    found = {}
    for name, array in pair.translate(arrays).items():
        path, _, leaf = name.removeprefix("theirs:").rpartition(".")
        if name.startswith("theirs:") and path in modules:
            near = [f"{modules[path]}.{one}".removeprefix(".") for one in (leaf, SYNONYMS.get(leaf))]
            name = next((one for one in near if one in ours), name)
        found[name] = array
    return found


def _counts(pair: Pair, model: Any, batch: Any, names: Iterable[str]) -> dict[str, int]:
    """Over how many numbers of a channel each of our layers takes its statistics, by the layer's path."""
    inputs: dict[str, np.ndarray] = {}
    paths = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    pair.ours.driver.trace(model, pair.ours.forward, batch, pair.dtype, paths, inputs)
    sizes = {name.rpartition(".")[0]: array.size for name, array in _buffers(pair.ours, model).items()}
    return {path: inputs[path].size // sizes[path] for path in paths if path in inputs and sizes.get(path)}


def _of_one_law(
    alignment: Alignment, pair: Pair, name: str, theirs: np.ndarray, ours: np.ndarray, counts: Mapping[str, int]
) -> np.ndarray:
    """Our variance by the reference's law, where the frameworks' own norms follow two, which is noted."""
    path, _, leaf = name.rpartition(".")
    count = counts.get(path, 1)
    if leaf not in VARIANCES or count < 2 or theirs.shape != ours.shape:
        return ours
    factor = count / (count - 1) if pair.theirs.driver.unbiased else (count - 1) / count
    if np.abs(theirs - factor * ours).max() >= np.abs(theirs - ours).max():
        return ours  # a port that keeps the reference's law
    alignment.note(
        f"running variances are {1 / factor:.4g} times the reference's, for of {count} numbers one framework's norm "
        f"divides by {count}, the other's by {count - 1}; compared after that factor"
    )
    return (factor * ours).astype(ours.dtype)
