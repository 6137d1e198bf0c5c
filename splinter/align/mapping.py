"""The map of the weights, found: which tensor of theirs feeds which of ours, and why one may think so.

Whole layers are matched first (weight and bias together), over the whole model at once; then single tensors; then one of
one side against several of the other (packed attention, lists of experts). Who holds a tensor decides its orientation,
its name and its place among the layers whose it is. What that leaves open is an error that names the rule which decides
it, never a guess.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .files import WeightError
from .inventory import Inventory, Tensor, take_inventory
from .naming import Names, split
from .weights import Rule, WeightMap, folded

__all__ = ["Found", "Inventory", "Tensor", "find", "take_inventory"]

NAME, ORDER, ONLY, SQUARE, TIED = (
    "by name",
    "by shape and order",
    "by shape, nothing else fits",
    "by name, turned as others of its kind",
    "by name, tied in theirs alone",
)
GIVEN = "by the rule given"
IMPOSSIBLE = 1e6
MARGIN = 0.05
"""Names nearer to each other than to any other by this much are taken for each other; of 25 ports, see docs/zoo.md."""

COMPUTED = "derived: the model computes it from its configuration"
DERIVED = (
    "inv freq",
    "rotary",
    "sin",
    "cos",
    "cached",
    "position ids",
    "causal",
    "mask",
    "masked",
    "alibi",
    "sinusoid",
)
"""Words of tables that a model computes from its configuration."""


@dataclass
class Found:
    """A map, and what is to be said of it.

    Args:
        weights: the map.
        reasons: our tensor -> why it is fed by what feeds it.
        notes: tied tensors, tables that are derived, what was dropped.
        tied: a name of theirs that the map uses -> the name of the tensor that it shares.
    """

    weights: WeightMap
    reasons: dict[str, str]
    notes: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)

    @property
    def pairs(self) -> dict[str, str]:
        """Our tensor -> theirs, for all that are fed."""
        return {link.ours: " + ".join(link.sources) for link in self.weights.links(self.reasons)}


def find(
    theirs: Inventory,
    ours: Inventory,
    rules: Sequence[Rule] = (),
    drop: Mapping[str, str] | None = None,
) -> Found:
    """The map between two models.

    Args:
        rules: decided by hand; they go first.
        drop: template of their names -> reason why they have no place with us.

    Raises:
        WeightError: a tensor has no counterpart and takes part, or has several and nothing decides.
    """
    return _Search(theirs, ours, rules, dict(drop or {})).found()


# Which numbers of theirs may be which of ours


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
    if (their.kind in ("buffer", "passing")) != (our.kind in ("buffer", "passing")):
        if "constant" not in (their.kind, our.kind):
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
    return None


def _turned(shape: tuple[int, ...], turned: bool) -> tuple[int, ...]:
    return (*shape[:-2], *shape[:-3:-1]) if turned and len(shape) > 1 else shape


def _thin(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


# Layers and tensors that are matched


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


def _layers(side: Inventory, left: Collection[str]) -> list[Item]:
    """One item for each layer."""
    held: dict[str, list[Tensor]] = {}
    for tensor in side.tensors:
        if tensor.name in left:
            held.setdefault(tensor.path, []).append(tensor)
    return [
        Item(path, tuple(tensors), (path,), side.order.get(path), k) for k, (path, tensors) in enumerate(held.items())
    ]


def _singles(side: Inventory, left: Collection[str]) -> list[Item]:
    """One item for each tensor."""
    return [
        Item(t.name, (t,), (t.name, *t.aliases), side.order.get(t.path), k)
        for k, t in enumerate(t for t in side.tensors if t.name in left)
    ]


Pairs = list[tuple[Tensor, Tensor, Fit]]


def _together(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Pairs | None:
    """Their tensors paired with ours one to one, by what they are called in the layer, or None."""
    if len(theirs.tensors) != len(ours.tensors):
        return None
    if len(ours.tensors) == 1:
        how = fit(theirs.tensors[0], ours.tensors[0], frameworks)
        return [(theirs.tensors[0], ours.tensors[0], how)] if how else None
    roles = {role(tensor): tensor for tensor in theirs.tensors}
    pairs = []
    for our in ours.tensors:
        their = roles.pop(role(our), None)
        how = fit(their, our, frameworks) if their else None
        if their is None or how is None:
            return None
        pairs.append((their, our, how))
    return pairs


def role(tensor: Tensor) -> str:
    """What a tensor is in its layer, in the words that all ports share; running statistics and learned ones differ."""
    return " ".join(split(tensor.leaf)) or tensor.leaf


class _Block:
    """Items of both sides and what speaks for each pair of them."""

    def __init__(self, theirs: list[Item], ours: list[Item], frameworks: tuple[str, str]):
        self.theirs, self.ours = theirs, ours
        names = Names(*([label for item in side for label in item.labels] for side in (theirs, ours)))
        self.pairs = {
            (i, j): pairs
            for i, their in enumerate(theirs)
            for j, our in enumerate(ours)
            if (pairs := _together(their, our, frameworks))
        }
        self.names = np.full((len(theirs), len(ours)), np.inf)
        for i, j in self.pairs:
            both = itertools.product(theirs[i].labels, ours[j].labels)
            self.names[i, j] = min(names.distance(their, our) for their, our in both)
        self.places = [_ranks(side) for side in (theirs, ours)]

    def assignment(self) -> list[tuple[int, int]]:
        """Which belongs to which: three times the distance of names, and that in the order of running."""
        solve = _solver()
        far = np.abs(np.array(self.places[0])[:, None] - np.array(self.places[1])[None, :])
        cost = np.where(np.isfinite(self.names), 3 * np.nan_to_num(self.names, posinf=0) + far, IMPOSSIBLE)
        return [(i, j) for i, j in zip(*solve(cost), strict=True) if (i, j) in self.pairs]

    def settled(self, chosen: list[tuple[int, int]]) -> tuple[dict[tuple[int, int], str], dict[tuple[int, int], list]]:
        """Pair -> why, and those that others could stand in for -> the others."""
        reasons, open_pairs = {}, {}
        for i, j in chosen:
            rivals = list(self._rivals(i, j, chosen))
            if not rivals:
                reasons[i, j] = NAME if self.names[i, j] < 0.5 else ONLY
            elif all(better > MARGIN for _, better, _ in rivals):
                reasons[i, j] = NAME
            elif all(better > MARGIN or better > -MARGIN and in_order for _, better, in_order in rivals):
                reasons[i, j] = ORDER
            else:
                open_pairs[i, j] = [pair for pair, better, ordered in rivals if better <= MARGIN and not ordered]
        return reasons, open_pairs

    def _rivals(self, i: int, j: int, chosen: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], float, bool]]:
        """Other partners: the pair that would be, by how much the names are against it, whether order is too."""
        taken, given = {k for k, _ in chosen}, {m for _, m in chosen}
        for k, m in chosen:
            if (i, m) in self.pairs and (k, j) in self.pairs and (k, m) != (i, j):
                names = self.names[i, m] + self.names[k, j] - self.names[i, j] - self.names[k, m]
                yield (i, m), names, self._ordered(i, j, k, m)
        for m in range(len(self.ours)):
            if m not in given and (i, m) in self.pairs:
                yield (i, m), self.names[i, m] - self.names[i, j], False
        for k in range(len(self.theirs)):
            if k not in taken and (k, j) in self.pairs:
                yield (k, j), self.names[k, j] - self.names[i, j], False

    def _ordered(self, i: int, j: int, k: int, m: int) -> bool:
        """Whether two pairs come in one order on both sides, as they run and as they are defined."""
        a, b, c, d = self.theirs[i], self.theirs[k], self.ours[j], self.ours[m]
        defined = (a.place < b.place) == (c.place < d.place)
        if None in (a.ran, b.ran, c.ran, d.ran) or a.ran == b.ran or c.ran == d.ran:
            return defined
        return defined and (a.ran < b.ran) == (c.ran < d.ran)


def _ranks(items: list[Item]) -> list[float]:
    """When each runs, from 0 to 1; what never does stands where it is defined."""
    order = sorted(range(len(items)), key=lambda k: (items[k].ran is None, items[k].ran or 0, items[k].place))
    found = [0.0] * len(items)
    for rank, k in enumerate(order):
        found[k] = rank / max(1, len(items) - 1)
    return found


def _solver() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise WeightError(
            "the map of the weights is found with scipy, which is not installed: pip install scipy, or write rules="
        ) from None
    return linear_sum_assignment


# The search


class _Search:
    def __init__(self, theirs: Inventory, ours: Inventory, rules: Sequence[Rule], drop: dict[str, str]):
        self.theirs, self.ours, self.drop = theirs, ours, drop
        self.frameworks = theirs.framework, ours.framework
        self.keep: dict[str, str] = {}
        self.links: dict[str, Rule] = {}
        self.reasons: dict[str, str] = {}
        self.notes: list[str] = []
        self.tied: dict[str, str] = {}
        self.layers: dict[str, str] = {}
        self.left = {t.name: t for t in theirs.tensors}, {t.name: t for t in ours.tensors}
        self._given(WeightMap(rules, drop))

    def found(self) -> Found:
        self._derived_integers()
        self._match(_layers)
        self._match(_singles)
        self._packed()
        self._shared()
        self._leave()
        self._turn()
        rules = [self.links[tensor.name] for tensor in self.ours.tensors if tensor.name in self.links]
        for tensor in (*self.theirs.tensors, *self.ours.tensors):
            if tensor.aliases:
                self.notes.append(f"tied: {tensor.name} = {' = '.join(tensor.aliases)}")
        modules = self._modules(rules)
        weights = WeightMap(folded(rules), self.drop, self.keep, modules)
        self.reasons = {rule.ours: self.reasons[rule.ours] for rule in rules}
        return Found(weights, self.reasons, self.notes, self.tied)

    def _given(self, told: WeightMap) -> None:
        """What was decided by hand."""
        theirs, ours = self.left
        patterned = [name for name in ours if told.rule_of(name)]
        for link in told.links(patterned):
            if missing := [name for name in link.sources if name not in theirs and name not in self._aliases()]:
                raise WeightError(f"rules=: theirs have no {', '.join(missing)}, which is to feed {link.ours}")
            self._take(link, GIVEN)
        for name in [name for name in theirs if told.reason_dropped(name) is not None]:
            del theirs[name]

    def _aliases(self) -> dict[str, str]:
        return {alias: tensor.name for tensor in self.theirs.tensors for alias in tensor.aliases}

    def _take(self, link: Rule, reason: str) -> None:
        self.links[link.ours], self.reasons[link.ours] = link, reason
        self.left[1].pop(link.ours, None)
        for name in link.sources:
            self.left[0].pop(name, None)

    def _derived_integers(self) -> None:
        """Tables that no checkpoint holds are computed by each side; they are judged by what they do."""
        for side, told, left in zip(("theirs", "ours"), (self.drop, self.keep), self.left, strict=True):
            for name in [name for name, tensor in left.items() if tensor.kind == "passing"]:
                told[name] = COMPUTED
                self.notes.append(f"derived, left out: {name} ({side})")
                del left[name]

    def _match(self, items: Callable[[Inventory, Collection[str]], list[Item]]) -> None:
        block = _Block(items(self.theirs, self.left[0]), items(self.ours, self.left[1]), self.frameworks)
        if not block.pairs:
            return
        reasons, open_pairs = block.settled(block.assignment())
        whole = items is _layers
        if open_pairs and not whole:
            raise WeightError(self._undecided(block, open_pairs))
        for (i, j), reason in reasons.items():
            for their, our, how in block.pairs[i, j]:
                sure = None if how.sure else SQUARE
                link = Rule(their.name, our.name, transpose=how.transpose, reshape=how.reshape)
                self._take(link, sure or reason)
            if whole:
                self.layers[block.ours[j].label] = block.theirs[i].label

    def _undecided(self, block: _Block, pairs: Mapping[tuple[int, int], list]) -> str:
        lines = []
        for (i, j), rivals in itertools.islice(pairs.items(), 4):
            our = block.ours[j].label
            others = [block.theirs[k].label for k, m in rivals if m == j] or [block.ours[m].label for _, m in rivals]
            ((their, mine, how), *_) = block.pairs[i, j]
            rule = Rule(their.name, mine.name, transpose=how.transpose, reshape=how.reshape)
            lines.append(
                f"{our} may be fed by {block.theirs[i].label}, or exchanged with {', '.join(others[:3])}: {rule}"
            )
        return (
            f"the map is not decided for {len(pairs)} tensors, of equal shape and no telling name or order; "
            f"rules=[...] decides:\n  " + "\n  ".join(lines)
        )

    # One of theirs against several of ours, and the other way

    def _packed(self) -> None:
        """Cut and joined ones."""

    def _shared(self) -> None:
        """A tensor that is tied in theirs and two in ours."""
        aliases = self._aliases()
        by_name = {t.name: t for t in self.theirs.tensors}
        for name, our in list(self.left[1].items()):
            names = Names(aliases, [name])
            fits = {
                alias: how for alias, t in aliases.items() if (how := fit(by_name[t], our, self.frameworks)) is not None
            }
            if not fits:
                continue
            alias = min(fits, key=lambda alias: names.distance(alias, name))
            if names.distance(alias, name) < 0.5:
                self._take(Rule(alias, name, transpose=fits[alias].transpose), TIED)
                self.tied[alias] = aliases[alias]
                self.notes.append(f"tied in theirs, not in ours: {alias} = {aliases[alias]}, {name} is its own")

    def _leave(self) -> None:
        """What has no counterpart is dropped or kept where it provably has no effect, else an error."""
        lost: list[list[str]] = []
        for side, told, left, inventory in zip(
            ("theirs", "ours"), (self.drop, self.keep), self.left, (self.theirs, self.ours), strict=True
        ):
            idle = set(inventory.idle(list(left)))
            for name, tensor in list(left.items()):
                if reason := _harmless(tensor, name in idle):
                    told[name] = reason
                    self.notes.append(f"{reason}: {name} ({side})")
                    del left[name]
            lost.append(list(left))
        if lost[0] or lost[1]:
            raise WeightError(self._lost(*lost))

    def _lost(self, theirs: list[str], ours: list[str]) -> str:
        lines = []
        for names, whose, left in ((ours, "ours", self.left[1]), (theirs, "theirs", self.left[0])):
            if names:
                told = ", ".join(f"{name} {list(left[name].shape)}" for name in names[:6])
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                lines.append(f"{len(names)} tensors of {whose} have no counterpart: {told}{more}")
        way = Rule(theirs[0] if theirs else "their.name", ours[0] if ours else "our.name")
        return "; ".join(lines) + f"; rules=[{way}] feeds ours, drop={{their name: reason}} leaves theirs out"

    def _turn(self) -> None:
        """Square matrices of layers of no known kind are turned as the other matrices of such layers are."""
        by_name = [{t.name: t for t in side.tensors} for side in (self.theirs, self.ours)]
        seen: dict[tuple[str, str], set[bool]] = {}
        squares = []
        for name, link in self.links.items():
            if not link.whole or link.sources[0] not in by_name[0]:
                continue
            their, our = by_name[0][link.sources[0]], by_name[1][name]
            how, kinds = fit(their, our, self.frameworks), (their.holder, our.holder)
            if how and not how.sure:
                squares.append((link, kinds))
            elif how and len(our.shape) > 1:
                seen.setdefault(kinds, set()).add(link.transpose)
        open_ones = []
        for link, kinds in squares:
            ways = seen.get(kinds, set())
            if self.reasons[link.ours] == GIVEN:
                continue
            if len(ways) == 1:
                self.links[link.ours] = replace(link, transpose=next(iter(ways)))
            else:
                open_ones.append(link)
        if open_ones:
            shown = "; ".join(f"{link} or {replace(link, transpose=not link.transpose)}" for link in open_ones[:4])
            raise WeightError(f"{len(open_ones)} square matrices may be turned or not, rules=[...] decides: {shown}")

    # Layers whose outputs are comparable

    def _modules(self, rules: Iterable[Rule]) -> dict[str, str | None]:
        theirs, ours = self.theirs.order, self.ours.order
        if not theirs or not ours:
            return {}
        pairs: dict[str, str | None] = {
            mine: other for mine, other in self.layers.items() if mine in ours and other in theirs
        }
        pairs |= {mine: other for mine, other in self._containers(rules).items() if mine not in pairs}
        derived = WeightMap(rules, modules=pairs).modules(self.links)
        pairs |= {mine: None for mine, other in derived.items() if mine not in ours or other not in theirs}
        order = {mine: k for k, mine in enumerate(self.ours.ran)}
        return dict(sorted(pairs.items(), key=lambda pair: order.get(pair[0], -1)))

    def _containers(self, rules: Iterable[Rule]) -> dict[str, str]:
        """Layers of layers: those that hold the same tensors, all of them, as many of them one in another."""
        fed = {rule.ours: frozenset(rule.sources) for rule in rules}
        mine: dict[frozenset[str], list[str]] = {}
        for path, names in _below(fed, self.ours.order).items():
            mine.setdefault(frozenset().union(*(fed[name] for name in names)), []).append(path)
        other: dict[frozenset[str], list[str]] = {}
        every = frozenset().union(*fed.values()) if fed else frozenset()
        for path, names in _below(every, self.theirs.order).items():
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


def _harmless(tensor: Tensor, idle: bool) -> str | None:
    """Why a tensor without a counterpart is no loss, or None."""
    if idle:
        return "no output reads it"
    if tensor.kind == "constant":
        return "not trained: each model fills its own"
    if tensor.kind == "buffer" and _derived(tensor.name):
        return COMPUTED
    return None


def _derived(name: str) -> bool:
    words = f" {' '.join(split(name))} "
    return any(f" {word} " in words for word in DERIVED)
