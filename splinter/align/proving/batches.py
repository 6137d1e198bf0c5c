"""The user's batches as arrays, and hostile ones made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .error import ProveError

Batch = dict[str, Any]
"""name (or place, "0", "1", ...) -> array, or a plain value that is handed on as it is."""
PLAIN = (type(None), bool, int, float, str)

IDS = ("input_ids", "decoder_input_ids")
"""Names of (B, T) token numbers."""
ALONG = {
    "input_ids": ("attention_mask", "token_type_ids", "position_ids", "labels", "start_positions", "end_positions"),
    "decoder_input_ids": ("decoder_attention_mask", "decoder_position_ids", "labels"),
}
"""Names of what goes with the tokens: arrays whose second axis is that of the ids are cut with them."""
IGNORED = -100
"""A label that both libraries leave out of a loss."""


@dataclass(frozen=True)
class Batches:
    """What both models are given.

    Args:
        required: name -> batch; the two must agree on each.
        optional: name -> batch on which a difference is told and not counted: a row that is all padding has no meaning.
        positional: handed over by place, not by name.
    """

    required: dict[str, Batch]
    optional: dict[str, Batch] = field(default_factory=dict)
    positional: bool = False


def given(batches: Any) -> Batches:
    """The user's batch or named batches.

    Raises:
        ProveError: there is none, or a value is neither an array, a tensor, None, a number nor text.
    """
    named = batches if _are_named(batches) else {"batch": batches}
    if not named:
        raise ProveError("no batch was given; hand in a dict of arrays, as the models' forward names them")
    listed = {not isinstance(batch, Mapping) for batch in named.values()}
    if len(listed) > 1:
        raise ProveError("some batches are dicts and some are lists; hand in one kind: names, or places")
    return Batches({str(name): _arrays(batch) for name, batch in named.items()}, positional=listed.pop())


def _are_named(batches: Any) -> bool:
    """Whether a dict holds batches and not arrays."""
    if not isinstance(batches, Mapping):
        return False
    values = list(batches.values())

    def is_batch(value):
        listed = isinstance(value, (list, tuple)) and bool(value) and all(hasattr(one, "shape") for one in value)
        return isinstance(value, Mapping) or listed

    return all(is_batch(value) for value in values)


def _arrays(batch: Any) -> Batch:
    if isinstance(batch, Mapping):
        items: Iterable[tuple[Any, Any]] = batch.items()
    elif isinstance(batch, (list, tuple)):
        items = enumerate(batch)
    else:
        items = [(0, batch)]
    return {str(name): _array(str(name), value) for name, value in items}


def _array(name: str, value: Any) -> Any:
    if isinstance(value, PLAIN):
        return value
    for step in ("detach", "cpu", "numpy"):  # a tensor of either framework
        value = getattr(value, step)() if hasattr(value, step) else value
    array = np.array(value)
    if array.dtype.kind not in "fiub":
        raise ProveError(f"{name!r} of the batch is of type {array.dtype}: an array or tensor of numbers was expected")
    return array


def hostile(batches: Batches) -> Batches:
    """The first of the user's batches, varied where names tell what its arrays are.

    One row; one token; repeated ids; padding right, left and in the middle; a row that is all padding (compared, never
    required); twice as long.
    """
    batch = next(iter(batches.required.values()))
    required, optional = dict(batches.required), dict(batches.optional)
    rows = max((array.shape[0] for array in batch.values() if _is_array(array) and array.ndim), default=0)
    if rows > 1:
        required["one row"] = {key: _cut(value, 0, rows, slice(0, 1)) for key, value in batch.items()}
    if not batches.positional:
        for title, made in _of_tokens(batch):
            (optional if title in NOT_REQUIRED else required)[title] = made
    return Batches(required, optional, batches.positional)


def _of_tokens(batch: Batch) -> Iterable[tuple[str, Batch]]:
    """Variations along the tokens."""
    ids = next((name for name in IDS[:1] if _is_array(batch.get(name)) and batch[name].ndim == 2), None)
    if ids is None:
        return
    rows, tokens = batch[ids].shape
    if tokens > 1:
        yield "one token", _tokens(batch, ids, lambda array: array[:, :1])
    yield "repeated ids", {**batch, ids: np.full_like(batch[ids], batch[ids].flat[batch[ids].size // 2])}
    if tokens > 2:
        yield "longer", _tokens(batch, ids, lambda array: np.concatenate([array, array[:, ::-1]], axis=1))
    mask: Any = batch.get("attention_mask")
    if not _is_array(mask) or mask.shape != (rows, tokens) or tokens < 4:
        return
    third = max(1, tokens // 3)
    for title, padding in (("padding right", slice(-third, None)), ("padding left", slice(0, third)),
                           ("padding in the middle", slice(third, 2 * third))):  # fmt: skip
        padded = np.ones_like(mask)
        padded[::2, padding] = 0  # of every other row: rows of two lengths in one batch
        yield title, {**batch, "attention_mask": padded}
        if title == "padding right":
            yield NOT_REQUIRED[0], {**batch, "attention_mask": padded}
    if rows > 1:
        empty = np.ones_like(mask)
        empty[-1] = 0
        yield NOT_REQUIRED[1], {**batch, "attention_mask": empty}


NOT_REQUIRED = ("at the padding", "a row of padding")
"""Batches that are compared to the last place; everywhere else a place of padding has no meaning, and counts as 0."""
DECODED = "decoder_input_ids"
MASKS = ("attention_mask", "decoder_attention_mask")


def padding(batch: Mapping[str, Any]) -> list[np.ndarray]:
    """The masks (B, T) of a batch, 0 where a place is padding; none where it cannot be told whose places they are."""
    masks = [batch[name] for name in MASKS if _is_array(batch.get(name)) and batch[name].ndim == 2]
    decoded: Any = batch.get(DECODED)
    if _is_array(decoded) and MASKS[1] not in batch and any(mask.shape == decoded.shape for mask in masks):
        return []
    return masks


def _tokens(batch: Batch, ids: str, change: Callable[[np.ndarray], np.ndarray]) -> Batch:
    """The batch with every array that lies along the tokens changed, positions counted anew."""
    shape = batch[ids].shape
    along = (ids, *ALONG[ids])
    made = {}
    for name, value in batch.items():
        changes = name in along and _is_array(value) and value.shape[:2] == shape
        made[name] = np.ascontiguousarray(change(value)) if changes else value
        if changes and name == "position_ids":
            made[name] = np.broadcast_to(np.arange(made[name].shape[1]), made[name].shape).astype(value.dtype)
    return made


def _cut(value: Any, axis: int, size: int, part: slice) -> Any:
    if not _is_array(value) or value.ndim <= axis or value.shape[axis] != size:
        return value
    return value[(slice(None),) * axis + (part,)]


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)
