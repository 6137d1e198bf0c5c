"""float32 inside a float64 run: models that pin it (a norm, rotary tables, a softmax), found by looking.

A run in float64 tells meaning from rounding only as far as it is in float64. Behind a layer that computes in float32
two correct models differ by 1e-8 to 5e-7, which is neither a fault nor to be told from a small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .compare import Narrowed, Tolerance
from .driver import run_of
from .port import Pair, Side

NARROWING = ("forward", "backward")
"""Steps that run whole models in float64."""
SAID = 3
"""Layers that a note names; a model that pins float32 does so in all its layers."""


def narrowed(pair: Pair, step: str, float32: Tolerance) -> Narrowed | None:
    """What of a failed step in float64 is to be judged as float32, and why; None: nothing.

    A tensor is untouched where its layer was through, on both sides, before the first float32 number came in; what the
    backward step compares has seen the whole pass.

    Args:
        float32: the step's row in float32.
    """
    able = all(hasattr(side.driver, "narrow") for side in (pair.theirs, pair.ours))  # a driver of its own may not be
    if pair.dtype != "float64" or step not in NARROWING or not able:
        return None
    names = {their: our for our, their in pair.modules.items()}, {our: our for our in pair.modules}
    batches = pair.port.batches(pair.folder, pair.mode)
    notes: list[str] = []
    through: list[set[str]] = []
    clean = set(batches)
    for whose, side, known in zip(("theirs", "ours"), (pair.theirs, pair.ours), names, strict=True):
        model, layers, runs = pair.model(side), dict[str, str](), set[str]()
        for batch, arrays in batches.items():
            found, before = side.driver.narrow(model, side.forward, arrays)
            parts = (run.partition("#") for run in before)
            runs |= {f"{batch}/{known[path]}#{number}" for path, _, number in parts if path in known}
            layers |= found
            clean -= {batch} if found else set()
        through.append(runs)
        notes += [_note(side, model, layers, whose)] if layers else []
    if not notes:
        return None
    notes.append(f"float64 is worth no more than float32 from there on, and is judged by its row, {float32}")
    before_any = through[0] & through[1]
    return Narrowed(float32, lambda name: name.partition("/")[0] in clean or run_of(name) in before_any, tuple(notes))


def _note(side: Side, model: Any, layers: Mapping[str, str], whose: str) -> str:
    """'float32 inside: norm (LlamaRMSNorm), in theirs: mul takes float32 numbers; and 4 more layers'."""
    kinds = side.driver.layers(model)
    said = [f"{path or 'the model'} ({type(kinds[path]).__name__}): {what}" for path, what in layers.items()]
    more = f"; and {len(said) - SAID} more layers" if len(said) > SAID else ""
    return f"float32 inside, in {whose}: {'; '.join(said[:SAID])}{more}"
