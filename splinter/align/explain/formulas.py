"""Formulas that a layer may follow, computed anew from what it was given: which one is theirs, which one ours.

A norm with its epsilon, an activation, attention. What a float64 pass gives is enough to tell 1e-12 from 1e-5, and gelu
from its approximation; nothing is taken from the models but arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

Arrays = Mapping[str, np.ndarray]
CLOSE = {"float64": 1e-6, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""How near to a formula, relative to the largest number, a result is to be called its result.

Far above rounding and above the float32 that a model may pin; far below what tells two formulas apart in most places:
gelu and its approximation differ by 5e-4."""
ENOUGH = 4096
"""Numbers that tell one activation from another."""


# -- norms ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Epsilon:
    """What a norm adds to the variance: the number, and how sure it is."""

    value: float
    spread: float

    def other(self, another: Epsilon) -> bool:
        """Whether the two are told apart."""
        return abs(self.value - another.value) > 8 * (self.spread + another.spread)

    def __str__(self) -> str:
        return "0" if abs(self.value) <= self.spread else f"{self.value:.3g}"


def epsilon(given: np.ndarray, made: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> Epsilon | None:
    """The epsilon of a LayerNorm or RMSNorm over the last axis; None: it is no such norm.

    made = weight * given / sqrt(mean(given**2) + epsilon) + bias, of each row, with or without its mean taken away.

    Args:
        given, made: (..., D); weight, bias: (D,).
    """
    if given.shape != made.shape or weight.shape != given.shape[-1:]:
        return None
    x = given.reshape(-1, given.shape[-1]).astype("float64")
    y = made.reshape(x.shape).astype("float64") - (0 if bias is None else bias)
    for rows in (x - x.mean(axis=1, keepdims=True), x):
        slope, variance = _slope(rows * weight, y), np.square(rows).mean(axis=1)
        found = _solved(slope, variance, np.abs(slope[:, None] * (rows * weight) - y).max() / np.abs(y).max())
        if found is not None:
            return found
    return None


def channel_epsilon(given: np.ndarray, made: np.ndarray, weight: np.ndarray, variance: np.ndarray) -> Epsilon | None:
    """The epsilon of a BatchNorm in evaluation: each channel is scaled by weight / sqrt(variance + epsilon).

    Args:
        given, made: (B, C, ...); weight, variance: (C,).
    """
    if given.shape != made.shape or given.ndim < 2 or weight.shape != variance.shape != given.shape[1:2]:
        return None
    x, y = (np.moveaxis(one.astype("float64"), 1, 0).reshape(len(weight), -1) for one in (given, made))
    x, y = (one - one.mean(axis=1, keepdims=True) for one in (x, y))
    slope = _slope(x, y)
    return _solved(slope / weight, variance.astype("float64"), np.abs(slope[:, None] * x - y).max() / np.abs(y).max())


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each row, what x is to be multiplied by to come closest to y."""
    square = np.square(x).sum(axis=1)
    return np.divide((x * y).sum(axis=1), square, out=np.zeros(len(x)), where=square > 0)


def _solved(slope: np.ndarray, variance: np.ndarray, rest: float) -> Epsilon | None:
    """Epsilon from 1 / sqrt(variance + epsilon) of many rows; None where it is not one and the same, or no norm at all.

    The rows of the smallest variance know it best, for rounding is relative to the sum.
    """
    usable = slope > 0
    if rest > CLOSE["float64"] or not usable.any():
        return None
    found = 1 / np.square(slope[usable]) - variance[usable]
    best = np.argsort(variance[usable])[: max(1, usable.sum() // 4)]
    value, sizes = float(np.median(found[best])), variance[usable][best]
    rounding = 16 * float(np.finfo("float64").eps) * float(np.median(sizes))
    spread = max(float(np.median(np.abs(found[best] - value))), rounding)
    return Epsilon(value, spread) if spread <= max(1e-3 * abs(value), 1e-6 * float(sizes.max())) else None


# -- activations ------------------------------------------------------------------------------------------


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.array([math.erf(one) for one in x / math.sqrt(2)])) / 2  # numpy has no erf


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": _gelu,
    "gelu in its tanh approximation": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "gelu as x sigmoid(1.702 x)": lambda x: x * _sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "squared relu": lambda x: np.maximum(x, 0) ** 2,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(x, 0),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "leaky relu of 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "no activation": lambda x: x,
}


def activation(before: Arrays, made: np.ndarray, dtype: str) -> str | None:
    """Which activation of which earlier array, perhaps times another one (a gate), gives this one; None: none of these.

    Args:
        before: name -> array, the last of which are tried.
    """
    alike = {n: a for n, a in before.items() if a.shape == made.shape and a.dtype.kind == "f" and np.isfinite(a).all()}
    chosen = np.random.default_rng(0).permutation(made.size)[:ENOUGH]
    last = {name: alike[name].reshape(-1)[chosen].astype("float64") for name in list(alike)[-3:]}
    result = made.reshape(-1)[chosen].astype("float64")
    found = []
    for (name, x), (formula, function) in itertools.product(reversed(list(last.items())), ACTIVATIONS.items()):
        value = function(x)
        found.append((apart(value, result), f"{formula} of {name}"))
        for gate, other in last.items():
            if gate != name and formula != "no activation":
                found.append((apart(value * other, result), f"{formula} of {name}, times {gate}"))
    nearest = min(found, key=lambda one: one[0], default=None)  # the first of several
    return nearest[1] if nearest and nearest[0] <= CLOSE[dtype] else None


def apart(value: np.ndarray, result: np.ndarray) -> float:
    """How far a formula is from a result, relative to the largest number."""
    size = float(np.abs(result).max(initial=0))
    return float(np.abs(value - result).max(initial=0)) / (size or 1.0)


# -- attention --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """softmax(q k' * scale + mask) v, in heads.

    Args:
        heads: how many.
        scale: "root": 1 / sqrt(width of a head), "full root": of all heads, "one": none.
        mask: what becomes of padded positions: "none": nothing, "out": they are left out, "added": the mask is added as
            0 and 1.
        causal: whether positions see only those before them.
        order: names of q, k and v.
        blocks: whether heads lie one behind the other ("whole") or each number of all heads together ("mixed").
    """

    heads: int
    scale: str
    mask: str
    causal: bool
    order: tuple[str, ...]
    blocks: str = "whole"

    def of(self, arrays: Arrays, kept: np.ndarray | None) -> np.ndarray:
        """(B, T, D) from q, k, v of that shape; kept: (B, T), whether a position is no padding."""
        q, k, v = (self._split(arrays[name].astype("float64")) for name in self.order)  # (B, H, T, d)
        width = {"root": q.shape[-1], "full root": q.shape[-1] * self.heads, "one": 1}[self.scale]
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(width)  # (B, H, T, T)
        if self.mask == "added" and kept is not None:
            scores = scores + kept[:, None, None, :]
        if self.mask == "out" and kept is not None:
            scores = np.where(kept[:, None, None, :], scores, -1e30)
        if self.causal:
            scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -1e30)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return self._joined(weights / weights.sum(axis=-1, keepdims=True) @ v)

    def _split(self, x: np.ndarray) -> np.ndarray:
        batch, length, _ = x.shape
        if self.blocks == "mixed":  # (B, T, d, H) -> (B, H, T, d)
            return x.reshape(batch, length, -1, self.heads).transpose(0, 3, 1, 2)
        return x.reshape(batch, length, self.heads, -1).transpose(0, 2, 1, 3)  # (B, T, H, d) -> (B, H, T, d)

    def _joined(self, x: np.ndarray) -> np.ndarray:
        batch, heads, length, width = x.shape
        axes = (0, 2, 3, 1) if self.blocks == "mixed" else (0, 2, 1, 3)
        return x.transpose(axes).reshape(batch, length, heads * width)

    def beside(self, reference: Attention) -> str:
        """What differs, in words; of ours beside theirs."""
        words = {
            "heads": f"{self.heads} heads, theirs {reference.heads}",
            "scale": f"{SCALES[self.scale]}, theirs {SCALES[reference.scale]}",
            "mask": f"{MASKS[self.mask]}, in theirs {MASKS[reference.mask]}",
            "causal": f"{CAUSAL[self.causal]}, in theirs {CAUSAL[reference.causal]}",
            "order": f"({', '.join(self.order)}) are query, key, value, in theirs ({', '.join(reference.order)})",
            "blocks": "the numbers of a head lie elsewhere (whole in one side, mixed in the other)",
        }
        return "; ".join(said for name, said in words.items() if getattr(self, name) != getattr(reference, name))


SCALES = {
    "root": "scores over the root of a head's width",
    "full root": "scores over the root of the whole width",
    "one": "scores not scaled",
}
MASKS = {"none": "padded positions take part", "out": "they are left out", "added": "the mask is added as 0 and 1"}
CAUSAL = {False: "each position sees all", True: "each sees those before it"}
LARGEST = 2**22
"""Numbers of one matrix of scores, beyond which attention is not computed anew: it is done some hundred times."""


def attention(before: Arrays, theirs: np.ndarray, ours: np.ndarray, kept: np.ndarray | None, dtype: str) -> str | None:
    """What attention of ours does otherwise than theirs does; None where theirs is not plain attention of these arrays.

    Args:
        before: name -> array; the last three of the shape of theirs are tried as q, k and v.
        theirs, ours: (B, T, D), the result before its projection.
        kept: (B, T), where a position is no padding.
    """
    alike = [name for name, array in before.items() if array.shape == theirs.shape and array.dtype.kind == "f"]
    if theirs.ndim != 3 or len(alike) < 3 or theirs.shape[0] * theirs.shape[1] ** 2 * 8 > LARGEST:
        return None
    if kept is not None and kept.shape != theirs.shape[:2]:
        kept = None
    arrays = {name: before[name] for name in alike[-3:]}
    for one in candidates(tuple(arrays), theirs.shape[-1], kept is not None):
        if apart(one.of(arrays, kept), theirs) <= CLOSE[dtype]:
            for other in variants(one, theirs.shape[-1], kept is not None):
                if other != one and apart(other.of(arrays, kept), ours) <= CLOSE[dtype]:
                    return other.beside(one)
            return None
    return None


def candidates(names: tuple[str, ...], width: int, masked: bool) -> Iterator[Attention]:
    """Attention as it may be, the usual first."""
    heads = [count for count in range(1, width) if width % count == 0 and width // count > 1]
    orders = sorted(itertools.permutations(names), key=lambda order: order != names)
    masks = ("out", "none", "added") if masked else ("none",)
    for order, causal, scale, mask, count in itertools.product(orders, (False, True), SCALES, masks, heads):
        yield Attention(count, scale, mask, causal, order)


def variants(one: Attention, width: int, masked: bool) -> Iterator[Attention]:
    """Attention that differs in one thing, then any other."""
    q, k, v = one.order
    yield from (replace(one, mask=mask) for mask in MASKS if masked)
    yield from (replace(one, scale=scale) for scale in SCALES)
    yield replace(one, causal=not one.causal)
    yield replace(one, order=(k, q, v))
    yield replace(one, blocks="mixed")
    yield from candidates(one.order, width, masked)
