"""Which layers of two models hand on comparable outputs, once it is known which tensors belong together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..weights import Rule, WeightMap
from .inventory import Inventory


def module_pairs(
    theirs: Inventory, ours: Inventory, rules: Sequence[Rule], layers: Mapping[str, str]
) -> dict[str, str | None]:
    """Our path -> theirs, of layers that ran on both sides; None: one that hands on nothing comparable.

    Args:
        layers: our path -> theirs, of those that hold tensors themselves and were matched as a whole.
    """
    if not theirs.ran or not ours.ran:
        return {}
    pairs: dict[str, str | None] = {
        mine: other for mine, other in layers.items() if mine in ours.order and other in theirs.order
    }
    pairs |= {mine: other for mine, other in _containers(theirs, ours, rules).items() if mine not in pairs}
    derived = WeightMap(rules, modules=pairs).modules(rule.ours for rule in rules)
    pairs |= {mine: None for mine, other in derived.items() if mine not in ours.order or other not in theirs.order}
    return dict(sorted(pairs.items(), key=lambda pair: ours.order.get(pair[0], -1)))


def _containers(theirs: Inventory, ours: Inventory, rules: Iterable[Rule]) -> dict[str, str]:
    """Layers of layers: those that hold the same tensors, all of them, as many of them one in another."""
    fed = {rule.ours: frozenset(rule.sources) for rule in rules}
    mine: dict[frozenset[str], list[str]] = {}
    for path, names in _below(fed, ours.order).items():
        mine.setdefault(frozenset().union(*(fed[name] for name in names)), []).append(path)
    other: dict[frozenset[str], list[str]] = {}
    for path, names in _below(frozenset().union(*fed.values()), theirs.order).items():
        other.setdefault(frozenset(names), []).append(path)
    return {
        our: their
        for held, paths in mine.items()
        if len(paths) == len(other.get(held, ()))
        for our, their in zip(sorted(paths), sorted(other[held]), strict=True)
    }


def _below(names: Iterable[str], paths: Collection[str]) -> dict[str, set[str]]:
    """Path of a layer that ran -> the tensors that it and the layers in it hold."""
    found: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        for k in range(1, len(parts)):
            if (path := ".".join(parts[:k])) in paths:
                found.setdefault(path, set()).add(name)
    return found
