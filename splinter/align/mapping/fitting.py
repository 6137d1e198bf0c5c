"""Which tensors of theirs could become which of ours: by shape, by who holds them, as parts of one another."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from ..weights import Rule
from .inventory import Inventory, Tensor
from .naming import split


def stored(tensor: Tensor, framework: str) -> str:
    """In which order the last two axes are kept: "out in", "in out", "same" in every framework, or "unknown"."""
    kind = tensor.holder
    if len(tensor.shape) < 2 or "Embedding" in kind or "Norm" in kind:
        return "same"
    if kind == "Conv1D" and framework == "torch":
        return "in out"  # of transformers
    if "Conv" in kind or any(word in kind for word in ("RNN", "LSTM", "GRU", "Bilinear")):
        return "same"
    if "Linear" in kind or kind == "MultiheadAttention":
        return "out in" if framework == "torch" else "in out"
    return "unknown"


@dataclass(frozen=True)
class Fit:
    """How a tensor of theirs becomes one of ours; `sure`: it could not be otherwise by its shape and holder."""

    transpose: bool = False
    reshape: tuple[int, ...] | None = None
    sure: bool = True


def fit(their: Tensor, our: Tensor, frameworks: tuple[str, str]) -> Fit | None:
    """How, or None when it cannot."""
    if their.kind != our.kind and {their.kind, our.kind} == {"parameter", "buffer"}:
        return None
    ways = [turned for turned in (False, True) if _turned(their.shape, turned) == our.shape]
    kinds = stored(their, frameworks[0]), stored(our, frameworks[1])
    if "unknown" not in kinds:
        told = set(kinds) == {"out in", "in out"}
        ways = [turned for turned in ways if turned == told or len(our.shape) < 2]
    elif frameworks[0] == frameworks[1] and False in ways:
        ways = [False]
    if ways:
        return Fit(ways[0] and len(our.shape) > 1, sure=len(ways) == 1 or len(our.shape) < 2)
    if _thin(their.shape) == _thin(our.shape) and len(_thin(our.shape)) < 2:
        return Fit(reshape=our.shape)
    if set(kinds) <= {"unknown", "same"} and (_merges(their.shape, our.shape) or _merges(our.shape, their.shape)):
        return Fit(reshape=our.shape)  # heads as an axis of their own there, in one with their size here
    return None


def _turned(shape: tuple[int, ...], turned: bool) -> tuple[int, ...]:
    return (*shape[:-2], *shape[:-3:-1]) if turned and len(shape) > 1 else shape


def _merges(shape: tuple[int, ...], merged: tuple[int, ...]) -> bool:
    """Whether neighbouring axes of a shape, taken together, give the other."""
    if not merged or not shape:
        return not merged and not shape
    sizes = itertools.accumulate(shape, operator.mul)
    return any(size == merged[0] and _merges(shape[k:], merged[1:]) for k, size in enumerate(sizes, 1))


def _thin(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


@dataclass(frozen=True)
class Item:
    """What is matched as a whole: the tensors of one layer, or one tensor.

    Args:
        label: the path that its name is judged by.
        labels: that and its other ones, of shared tensors.
        ran: when its layer first ran, None if never.
        place: in the order of definition.
    """

    label: str
    tensors: tuple[Tensor, ...]
    labels: tuple[str, ...]
    ran: int | None
    place: int


def layers(side: Inventory, left: Collection[str]) -> list[Item]:
    """One item for each layer."""
    held: dict[str, list[Tensor]] = {}
    for tensor in side.tensors:
        if tensor.name in left:
            held.setdefault(tensor.path, []).append(tensor)
    return [
        Item(path, tuple(tensors), (path,), side.order.get(path), k) for k, (path, tensors) in enumerate(held.items())
    ]


def singles(side: Inventory, left: Collection[str]) -> list[Item]:
    """One item for each tensor."""
    return [
        Item(t.name, (t,), (t.name, *t.aliases), side.order.get(t.path), k)
        for k, t in enumerate(t for t in side.tensors if t.name in left)
    ]


Items = Callable[[Inventory, Collection[str]], list[Item]]
Links = list[tuple[Rule, bool]]
"""Rules for what two items hold, and whether each could be no other by shape and holder."""

Together = Callable[[Item, Item], Links | None]
"""(theirs, ours) -> how all tensors of the one become all of the other, or None."""


def together(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """One to one, by what tensors are called in the layer."""
    if len(theirs.tensors) != len(ours.tensors):
        return None
    if len(ours.tensors) == 1:
        pairs = [(theirs.tensors[0], ours.tensors[0])]
    else:
        roles = {role(tensor): tensor for tensor in theirs.tensors}
        pairs = [(roles[role(our)], our) for our in ours.tensors if role(our) in roles]
    fits = [fit(their, our, frameworks) for their, our in pairs]
    if len(pairs) < len(ours.tensors) or len({their.name for their, _ in pairs}) < len(pairs) or None in fits:
        return None
    return [
        (Rule(their.name, our.name, transpose=how.transpose, reshape=how.reshape), how.sure)
        for (their, our), how in zip(pairs, fits, strict=True)
        if how
    ]


FAMILIES = (("query", "key", "value"), ("gate", "up"))
"""Layers beside each other that others keep as one, in this order."""


def families(layers: Iterable[Item]) -> list[Item]:
    """An item for all layers of a family, under the path that they have in common."""
    beside: dict[str, dict[str, Item]] = {}
    for layer in layers:
        parent, _, last = layer.label.rpartition(".")
        for word in split(last):
            beside.setdefault(parent, {}).setdefault(word, layer)
    return [
        Item(parent, tuple(t for word in family for t in found[word].tensors), (parent,), found[family[0]].ran,
             found[family[0]].place)
        for parent, found in beside.items() for family in FAMILIES if set(family) <= set(found)
    ]  # fmt: skip


def _by_role(item: Item) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for tensor in item.tensors:
        found.setdefault(role(tensor).split()[-1], []).append(tensor)
    return found


def cut(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """One layer of theirs feeds several of ours."""
    return _parts(theirs, ours, frameworks, lambda their, our: _cuts(their, our, *frameworks))


def joined(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """Several layers of theirs feed one of ours."""
    return _parts(ours, theirs, frameworks, lambda our, their: _joins(their, our, *frameworks))


def _parts(
    whole: Item, several: Item, frameworks: tuple[str, str], ways: Callable[[Tensor, list[Tensor]], list[list[Rule]]]
) -> Links | None:
    pieces = _by_role(several)
    found: Links = []
    for one in whole.tensors:
        options = ways(one, pieces.pop(role(one).split()[-1], []))
        if not options:
            return None
        found += [(rule, len(options) == 1) for rule in options[0]]
    return None if pieces else found


def _cuts(their: Tensor, ours: list[Tensor], framework: str, our_framework: str) -> list[list[Rule]]:
    """Each way in which one of theirs falls into ours."""
    found = []
    for turned in _turns(their, ours, framework, our_framework):
        for axis, shares in _axes(their.shape, [_turned(our.shape, turned) for our in ours]):
            found.append(
                [Rule(their.name, o.name, turned, (k, len(ours)), axis, shares=shares) for k, o in enumerate(ours)]
            )
    return found


def _joins(theirs: list[Tensor], our: Tensor, framework: str, our_framework: str) -> list[list[Rule]]:
    """Each way in which theirs make up one of ours."""
    names = tuple(their.name for their in theirs)
    return [
        [Rule(names, our.name, transpose=turned, axis=axis, shares=shares)]
        for turned in _turns(our, theirs, our_framework, framework)
        for axis, shares in _axes(_turned(our.shape, turned), [their.shape for their in theirs])
    ]


def _turns(one: Tensor, others: list[Tensor], framework: str, other_framework: str) -> list[bool]:
    """Whether a matrix may be transposed on its way."""
    kinds = {stored(one, framework), *(stored(other, other_framework) for other in others)}
    if len(one.shape) < 2 or ("unknown" in kinds and framework == other_framework):
        return [False]
    return [False, True] if "unknown" in kinds else [kinds == {"in out", "out in"}]


def _axes(shape: tuple[int, ...], pieces: list[tuple[int, ...]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Along which axis pieces make up a shape, and their shares where they are not equal."""
    if len(pieces) < 2 or any(len(piece) != len(shape) for piece in pieces):
        return
    for axis in range(len(shape)):
        rests = {(*piece[:axis], *piece[axis + 1 :]) for piece in pieces}
        sizes = [piece[axis] for piece in pieces]
        if rests == {(*shape[:axis], *shape[axis + 1 :])} and sum(sizes) == shape[axis]:
            unit = math.gcd(*sizes)
            yield axis, () if len(set(sizes)) == 1 else tuple(size // unit for size in sizes)


def lists(side: Inventory, left: Collection[str]) -> list[Item]:
    """An item for each tensor that all members of a list have: the experts, say."""
    held: dict[str, list[tuple[int, Tensor]]] = {}
    for tensor in side.tensors:
        parts = tensor.name.split(".")
        numbered = [k for k, part in enumerate(parts) if part.isdigit()]
        if tensor.name in left and numbered:
            k = numbered[-1]
            held.setdefault(".".join((*parts[:k], *parts[k + 1 :])), []).append((int(parts[k]), tensor))
    return [
        Item(path, tuple(t for _, t in sorted(members, key=lambda m: m[0])), (path,), None, place)
        for place, (path, members) in enumerate(held.items())
        if len(members) > 1 and len({t.shape for _, t in members}) == 1
    ]


def stacked(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """A list of theirs is one tensor of ours with an axis more, or the other way."""
    (short, long) = (theirs, ours) if len(theirs.tensors) > 1 else (ours, theirs)
    (stack, *more), members = long.tensors, short.tensors
    if more or stack.shape[:1] != (len(members),) or len(stack.shape) != len(members[0].shape) + 1:
        return None
    ways = [turned for turned in (False, True) if _turned(members[0].shape, turned) == stack.shape[1:]]
    ways = ways[:1] if frameworks[0] == frameworks[1] or len(stack.shape) < 3 else ways
    if not ways:
        return None
    if short is theirs:
        rules = [Rule(tuple(t.name for t in members), stack.name, ways[0], stack=True)]
    else:
        rules = [Rule(stack.name, t.name, ways[0], (k, len(members)), stack=True) for k, t in enumerate(members)]
    return [(rule, len(ways) == 1) for rule in rules]


def role(tensor: Tensor) -> str:
    """What a tensor is in its layer, in the words that all ports share; running statistics and learned ones differ."""
    return " ".join(split(tensor.leaf)) or tensor.leaf
