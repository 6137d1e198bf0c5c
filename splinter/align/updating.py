"""Optimizers compared: updates from injected gradients, which some parameters lack now and then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .compare import Alignment
from .framework import numpy_dtype
from .port import Pair, Side

SHAPES: Mapping[str, tuple[int, ...]] = {
    "matrix.weight": (5, 7),
    "matrix.weight_2": (5, 7),  # of the same shape, and its name begins with that of one that decays
    "LayerNorm.weight": (7,),
    "layer.bias": (3,),
    "scale": (),
    "gate.weight": (1, 1),
    "first_task.weight": (4, 3),
    "second_task.weight": (4, 3),
    "late.weight": (4, 3),
    "never.weight": (4, 3),
}
DECAYED = ("matrix.weight", "gate.weight", "first_task.weight", "second_task.weight", "late.weight", "never.weight")
SELDOM = {"matrix.weight_2": 0.5, "layer.bias": 0.5, "scale": 0.3, "gate.weight": 0.3}
"""In which share of the updates these have a gradient."""
KINDS = ("", "moment1/", "moment2/")


def _gradients(updates: int) -> list[dict[str, np.ndarray]]:
    """What each update injects: float32, of very different sizes, zeros and all but zeros among them.

    Two tasks take turns at random, each with a weight that only its updates use; one weight is used late, one never.
    What an update does not use is left out: it has no gradient, not one of zeros.
    """
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-12, 2, size=updates)  # epsilon rules the small ones
    sizes[2::50], sizes[3::50] = 0.0, 1e-30  # the square of the latter is 0 in float32
    found = []
    for update, size in enumerate(sizes):
        absent = {"never.weight", rng.choice(["first_task.weight", "second_task.weight"])}
        absent |= {"late.weight"} if update < 2 * updates // 5 else set()
        absent |= {name for name, share in SELDOM.items() if rng.random() > share}
        drawn = {name: (rng.normal(size=shape) * size).astype("float32") for name, shape in SHAPES.items()}
        found.append({name: array for name, array in drawn.items() if name not in absent})
    return found


def add_injected(alignment: Alignment, pair: Pair, updates: int) -> None:
    """Weights, moments and norms after so many updates: plain, then with decay and clipping."""
    rng = np.random.default_rng(1)
    initial = {name: rng.normal(size=shape).astype("float32") for name, shape in SHAPES.items()}
    gradients = _gradients(updates)
    rates = np.where(np.arange(updates) % 50, rng.uniform(0, 1e-3, updates), 0.0)
    for decay, clip in ((0.0, 0.0), (0.01, 1.0)):
        recipe, case = replace(pair.port.recipe(), weight_decay=decay, max_norm=clip), f"decay {decay}, clip {clip}"
        runs = [(pair.theirs, pair.dtype), (pair.ours, pair.dtype)] + [(pair.theirs, "float64")] * pair.refereed
        found = [_history(side, initial, gradients, rates, recipe, dtype) for side, dtype in runs]
        for side, history in zip((pair.theirs, pair.ours), found, strict=False):
            if all(np.array_equal(history[name][-1], initial[name]) for name in initial):
                # two that stand still agree in every bit: a max_norm of 0 taken for a limit of 0, say
                alignment.problems.append(
                    f"{case}: no weight of the {side.kind} side moves; is max_norm 0 no clipping?"
                )
            if not np.array_equal(history["never.weight"][-1], initial["never.weight"]):
                alignment.note(f"{case}: a weight without any gradient is moved by the {side.kind} side")
            if not any(name.startswith("moment") for name in history):
                alignment.note(f"the optimizer of the {side.kind} side shows no moments(): weights alone were compared")
                found = [{n: a for n, a in one.items() if not n.startswith("moment")} for one in found]
        alignment.add_all(f"{case}/", found[0], found[1], found[2] if pair.refereed else None)


def _history(
    side: Side,
    initial: Mapping[str, np.ndarray],
    gradients: list[dict[str, np.ndarray]],
    rates: np.ndarray,
    recipe,
    dtype: str,
) -> dict[str, np.ndarray]:
    """Each weight, its moments and the norm after some of the updates, stacked."""
    driver = side.driver
    named = driver.free_parameters(initial, dtype)
    optimizer = side.optimizer(named, recipe, list(DECAYED))
    seen: list[dict[str, np.ndarray]] = []
    for step, (rate, arrays) in enumerate(zip(rates, gradients, strict=True)):
        driver.set_gradients(named, arrays, dtype)
        norm = optimizer.step(float(rate))
        if step < 5 or step % 37 == 0 or step == len(rates) - 1:
            moments = optimizer.moments() if hasattr(optimizer, "moments") else {}
            now = {"norm": np.asarray(norm, numpy_dtype(dtype))}
            for name, parameter in named.items():
                for kind, tensor in zip(KINDS, [parameter, *moments.get(name, ())], strict=False):
                    now[kind + name] = driver.to_numpy(tensor)
            seen.append(now)
    # one optimizer makes its moments at once, the next when a parameter first needs them: zeros are the same to both
    kinds = [kind for kind in KINDS if any(kind + name in now for now in seen for name in named)]
    names = ["norm", *(kind + name for name in named for kind in kinds)]
    shapes = {kind + name: array for name, array in initial.items() for kind in kinds}
    return {name: np.stack([now[name] if name in now else np.zeros_like(shapes[name]) for now in seen])
            for name in names}  # fmt: skip
