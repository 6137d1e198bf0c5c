"""The map of the weights, found: which tensor of theirs feeds which of ours, and why one may think so.

Whole layers are matched first (weight and bias together), over the whole model at once; then single tensors; then one of
one side against several of the other (packed attention, lists of experts). Who holds a tensor decides its orientation,
its name and its place among the layers whose it is. What that leaves open is an error that names the rule which decides
it, never a guess.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .files import WeightError
from .inventory import Inventory, Tensor, take_inventory
from .naming import Names, split
from .weights import Rule, WeightMap, folded

__all__ = ["Found", "Inventory", "Tensor", "find", "take_inventory"]

NAME, ORDER, ONLY, TIED, TRIED, UNDECIDED = (
    "by name",
    "by shape and order",
    "by shape, nothing else fits",
    "by name, tied in theirs alone",
    "by trial",
    "by nothing yet",
)
PACKED = ", one of one side for several of the other"
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
    trial: Trial | None = None,
) -> Found:
    """The map between two models.

    Args:
        rules: decided by hand; they go first.
        drop: template of their names -> reason why they have no place with us.
        trial: decides where neither names nor order do, and proves what order decides.

    Raises:
        WeightError: a tensor has no counterpart and takes part, or has several and nothing decides.
    """
    return _Search(theirs, ours, rules, dict(drop or {})).found(trial)


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


Items = Callable[[Inventory, Collection[str]], list[Item]]
Links = list[tuple[Rule, bool]]
"""Rules for what two items hold, and whether each could be no other by shape and holder."""

Together = Callable[[Item, Item], Links | None]
"""(theirs, ours) -> how all tensors of the one become all of the other, or None."""


def _together(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
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


def _families(layers: Iterable[Item]) -> list[Item]:
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


def _cut(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """One layer of theirs feeds several of ours."""
    return _parts(theirs, ours, frameworks, lambda their, our: _cuts(their, our, *frameworks))


def _joined(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
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
            more = {"transpose": turned, "axis": axis, "shares": shares}
            found.append([Rule(their.name, o.name, part=(k, len(ours)), **more) for k, o in enumerate(ours)])
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


def _lists(side: Inventory, left: Collection[str]) -> list[Item]:
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


def _stacked(theirs: Item, ours: Item, frameworks: tuple[str, str]) -> Links | None:
    """A list of theirs is one tensor of ours with an axis more, or the other way."""
    (short, long) = (theirs, ours) if len(theirs.tensors) > 1 else (ours, theirs)
    (stack, *more), members = long.tensors, short.tensors
    if more or stack.shape[:1] != (len(members),) or len(stack.shape) != len(members[0].shape) + 1:
        return None
    ways = [turned for turned in (False, True) if _turned(members[0].shape, turned) == stack.shape[1:]]
    ways = ways[:1] if frameworks[0] == frameworks[1] or len(stack.shape) < 3 else ways
    if not ways:
        return None
    how = {"transpose": ways[0], "stack": True}
    if short is theirs:
        return [(Rule(tuple(t.name for t in members), stack.name, **how), len(ways) == 1)]
    rules = [Rule(stack.name, t.name, part=(k, len(members)), **how) for k, t in enumerate(members)]
    return [(rule, len(ways) == 1) for rule in rules]


def role(tensor: Tensor) -> str:
    """What a tensor is in its layer, in the words that all ports share; running statistics and learned ones differ."""
    return " ".join(split(tensor.leaf)) or tensor.leaf


Pair = tuple[int, int]
Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Items of theirs, items of ours: any of the one may belong to any of the other."""


class _Groups:
    """Pairs that might be exchanged, joined to groups."""

    def __init__(self, chosen: Sequence[Pair]):
        self.partner = dict(chosen), {j: i for i, j in chosen}
        self.group: dict[tuple[int, int], set[tuple[int, int]]] = {}  # (side, item) -> all that it hangs together with

    def join(self, pair: Pair, rivals: Iterable[Pair]) -> None:
        members = {(0, pair[0]), (1, pair[1])}
        for i, j in rivals:
            both = {(0, i), (1, j), (0, self.partner[1].get(j, i)), (1, self.partner[0].get(i, j))}
            members |= both
        for member in tuple(members):
            members |= self.group.get(member, set())
        for member in members:
            self.group[member] = members

    def found(self) -> list[Group]:
        """Each once."""
        every = {id(members): members for members in self.group.values()}
        sides = [[tuple(sorted(k for s, k in members if s == side)) for side in (0, 1)] for members in every.values()]
        return sorted((theirs, ours) for theirs, ours in sides)


class _Block:
    """Items of both sides and what speaks for each pair of them."""

    def __init__(self, theirs: list[Item], ours: list[Item], together: Together):
        self.theirs, self.ours = theirs, ours
        names = Names(*([label for item in side for label in item.labels] for side in (theirs, ours)))
        self.pairs = {
            (i, j): links
            for i, their in enumerate(theirs)
            for j, our in enumerate(ours)
            if (links := together(their, our))
        }
        self.names = np.full((len(theirs), len(ours)), np.inf)
        for i, j in self.pairs:
            both = itertools.product(theirs[i].labels, ours[j].labels)
            self.names[i, j] = min(names.distance(their, our) for their, our in both)
        self.places = [_ranks(side) for side in (theirs, ours)]

    def assignment(self) -> list[Pair]:
        """Which belongs to which: three times the distance of names, and that in the order of running."""
        solve = _solver()
        far = np.abs(np.array(self.places[0])[:, None] - np.array(self.places[1])[None, :])
        cost = np.where(np.isfinite(self.names), 3 * np.nan_to_num(self.names, posinf=0) + far, IMPOSSIBLE)
        return [(i, j) for i, j in zip(*solve(cost), strict=True) if (i, j) in self.pairs]

    def settled(self, chosen: Sequence[Pair]) -> tuple[dict[Pair, str], list[Group], list[Group]]:
        """Pair -> why; groups that order alone decides, of pairs that could be exchanged; groups that nothing decides."""
        reasons: dict[Pair, str] = {}
        order, doubt = _Groups(chosen), _Groups(chosen)
        for i, j in chosen:
            rivals = list(self._rivals(i, j, chosen))
            near = [(pair, names, ordered) for pair, names, ordered in rivals if names <= MARGIN]
            if not near:
                alike = rivals or self.names[i, j] < 0.5
                reasons[i, j] = NAME if alike else ONLY
            elif all(ordered and names >= -MARGIN for _, names, ordered in near):
                reasons[i, j] = ORDER
                order.join((i, j), [pair for pair, *_ in near])
            else:
                doubt.join((i, j), [pair for pair, *_ in near])
        return reasons, order.found(), doubt.found()

    def _rivals(self, i: int, j: int, chosen: Sequence[Pair]) -> Iterator[tuple[Pair, float, bool]]:
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


@dataclass
class Choice:
    """What may be so or otherwise.

    Args:
        options: rules for the same tensors of ours; the first is what names and order are for, if for any.
        needed: nothing but a trial decides.
    """

    options: list[list[Rule]]
    needed: bool

    @property
    def ours(self) -> list[str]:
        """The tensors that it is about."""
        return [rule.ours for rule in self.options[0]]


Trial = Callable[[WeightMap], Mapping[str, float]]
"""A whole map -> path of our layer, "" for the outputs -> how far what it makes of the reference's own input is from what
the reference makes of it, in units of the largest number."""

EQUAL, APART, MOST = 1e-5, 30.0, 24
"""What is equal in a trial; by how many times the others must be further off; how many options are tried."""


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
        self.unsure: list[Rule] = []
        self.choices: list[Choice] = []
        self.left = {t.name: t for t in theirs.tensors}, {t.name: t for t in ours.tensors}
        self._given(WeightMap(rules, drop))

    def found(self, trial: Trial | None) -> Found:
        self._computed()
        one_to_one = functools.partial(_together, frameworks=self.frameworks)
        self._match_packed()
        self._match(_layers, _layers, one_to_one)
        self._match(_singles, _singles, one_to_one)
        self._match(_lists, _singles, functools.partial(_stacked, frameworks=self.frameworks))
        self._match(_singles, _lists, functools.partial(_stacked, frameworks=self.frameworks))
        self._shared()
        self._leave()
        self._turn()
        self._decide(trial)
        for tensor in (*self.theirs.tensors, *self.ours.tensors):
            if tensor.aliases:
                self.notes.append(f"tied: {tensor.name} = {' = '.join(tensor.aliases)}")
        reasons = {tensor.name: self.reasons[tensor.name] for tensor in self.ours.tensors if tensor.name in self.links}
        return Found(self.weights(), reasons, self.notes, self.tied)

    def weights(self) -> WeightMap:
        """The map as it stands."""
        rules = [self.links[tensor.name] for tensor in self.ours.tensors if tensor.name in self.links]
        return WeightMap(folded(rules), self.drop, self.keep, self._modules(rules))

    def _given(self, told: WeightMap) -> None:
        """What was decided by hand."""
        theirs, ours = self.left
        for link in told.links([name for name in ours if told.rule_of(name)]):
            if missing := [name for name in link.sources if name not in theirs and name not in self._aliases()]:
                raise WeightError(f"rules=: theirs have no {', '.join(missing)}, which is to feed {link.ours}")
            self._take(link, GIVEN, keep=True)
        for link in self.links.values():
            for name in link.sources:
                theirs.pop(name, None)
        for name in [name for name in theirs if told.reason_dropped(name) is not None]:
            del theirs[name]

    def _aliases(self) -> dict[str, str]:
        return {alias: tensor.name for tensor in self.theirs.tensors for alias in tensor.aliases}

    def _take(self, link: Rule, reason: str, keep: bool = False) -> None:
        self.links[link.ours], self.reasons[link.ours] = link, reason
        self.left[1].pop(link.ours, None)
        for name in () if keep else link.sources:
            self.left[0].pop(name, None)

    def _computed(self) -> None:
        """Tables that no checkpoint holds are computed by each side; they are judged by what they do."""
        for side, told, left in zip(("theirs", "ours"), (self.drop, self.keep), self.left, strict=True):
            for name in [name for name, tensor in left.items() if tensor.kind == "passing"]:
                told[name] = COMPUTED
                self.notes.append(f"derived, left out: {name} ({side})")
                del left[name]

    def _match(self, theirs: Items, ours: Items, together: Together) -> None:
        block = _Block(theirs(self.theirs, self.left[0]), ours(self.ours, self.left[1]), together)
        if not block.pairs:
            return
        chosen = block.assignment()
        reasons, order, doubt = block.settled(chosen)
        self.choices += _choices(block, order, needed=False) + _choices(block, doubt, needed=True)
        for i, j in chosen:
            for link, sure in block.pairs[i, j]:
                self._take(link, reasons.get((i, j), UNDECIDED) + ("" if link.whole else PACKED))
                self.unsure += [] if sure else [link]
            if theirs is ours is _layers:
                self.layers[block.ours[j].label] = block.theirs[i].label

    def _match_packed(self) -> None:
        """Layers that are several there or here, of telling names, where no layer of the other side is like them."""
        for cut in (True, False):
            sides = [_layers(side, left) for side, left in zip((self.theirs, self.ours), self.left, strict=True)]
            whole, several = sides[not cut], _families(sides[cut])
            lonely = [one for one in whole if not any(self._alike(one, other, cut) for other in sides[cut])]

            def pack(their: Item, our: Item, cut: bool = cut) -> Links | None:
                return _cut(their, our, self.frameworks) if cut else _joined(their, our, self.frameworks)

            if several and lonely:
                lists = (lonely, several) if cut else (several, lonely)
                self._match(lambda *_, k=lists[0]: k, lambda *_, k=lists[1]: k, pack)

    def _alike(self, one: Item, other: Item, theirs: bool) -> bool:
        return _together(*((one, other) if theirs else (other, one)), self.frameworks) is not None

    def _decide(self, trial: Trial | None) -> None:
        """What names and order leave open is tried, and what order decides is tried as well.

        Raises:
            WeightError: there is no trial, or it does not tell.
        """
        for choice in sorted(self.choices, key=lambda choice: not choice.needed):
            best = self._tried(choice, trial) if trial and 1 < len(choice.options) <= MOST else None
            if best is not None:
                self.links |= {rule.ours: rule for rule in choice.options[best]}
                self.reasons |= dict.fromkeys(choice.ours, TRIED)
            elif choice.needed:
                raise WeightError(_undecided(choice, bool(trial)))

    def _tried(self, choice: Choice, trial: Trial) -> int | None:
        """The option under which layers are equal that are not under the others, or None."""
        results, before = [], self.links
        for option in choice.options:
            self.links = before | {rule.ours: rule for rule in option}
            results.append(trial(self.weights()))
        self.links = before
        equal = set(range(len(results)))
        told = False
        for path in set.intersection(*(set(result) for result in results)):
            values = np.array([result[path] for result in results])
            good = values <= max(EQUAL, values.min())
            if _within(path, choice.ours) and values.min() <= EQUAL and (values[~good] > APART * values.min()).all():
                told |= not good.all()
                equal &= set(np.flatnonzero(good).tolist())
        return equal.pop() if told and len(equal) == 1 else None

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
        held = {t.name: t.holder for t in self.theirs.tensors}, {t.name: t.holder for t in self.ours.tensors}
        sizes = {t.name: t.shape for t in self.ours.tensors}
        unsure = {link.ours for link in self.unsure}
        seen: dict[tuple, set[bool]] = {}
        squares: dict[tuple, list[Rule]] = {}
        for name, link in self.links.items():
            kinds = held[0].get(link.sources[0]), held[1][name]
            if name in unsure:
                squares.setdefault(kinds, []).append(link)
            elif len(sizes[name]) > 1:
                seen.setdefault(kinds, set()).add(link.transpose)
        for kinds, links in squares.items():
            ways = seen.get(kinds, set())
            options = [[replace(link, transpose=turned) for link in links] for turned in ways or (False, True)]
            if len(options) == 1:
                self.links |= {link.ours: link for link in options[0]}
                self.reasons |= {link.ours: f"{self.reasons[link.ours]}, turned as others" for link in links}
            else:
                self.choices.append(Choice(options, needed=True))

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


def _within(path: str, names: Iterable[str]) -> bool:
    """Whether a layer holds one of the tensors."""
    return not path or any(name.startswith(f"{path}.") for name in names)


def _choices(block: _Block, groups: Iterable[Group], needed: bool) -> list[Choice]:
    """One choice for each kind of group: what is so in one layer is so in all."""
    kinds: dict[Any, list[Group]] = {}
    for theirs, ours in groups:
        labels = [
            [_starless(side[k].label) for k in items] for side, items in ((block.theirs, theirs), (block.ours, ours))
        ]
        telling = all(len(set(names)) == len(names) for names in labels)
        kinds.setdefault(tuple(map(tuple, labels)) if telling else (theirs, ours), []).append((theirs, ours))
    return [Choice(list(_options(block, alike)), needed) for alike in kinds.values()]


def _options(block: _Block, groups: Sequence[Group]) -> Iterator[list[Rule]]:
    """The rules of each way to pair the items of a group, alike in all groups, the chosen one first."""
    chosen = dict(block.assignment())
    theirs, ours = groups[0]
    orders = sorted(itertools.permutations(range(len(ours)), len(theirs)) if len(theirs) <= 4 else [],
                    key=lambda order: [chosen.get(i) != ours[k] for i, k in zip(theirs, order, strict=True)])  # fmt: skip
    for order in orders or [[ours.index(chosen[i]) for i in theirs if i in chosen]]:
        pairs = [(g[0][n], g[1][k]) for g in groups for n, k in enumerate(order) if len(g[1]) == len(ours)]
        if all(pair in block.pairs for pair in pairs):
            yield [rule for pair in pairs for rule, _ in block.pairs[pair]]


def _starless(label: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in label.split("."))


def _undecided(choice: Choice, tried: bool) -> str:
    """An error that lists the candidates and what decides between them."""
    what = "a trial does not tell either" if tried else "neither names nor order tell"
    lines = [", ".join(map(repr, option[:4])) + (", ..." if len(option) > 4 else "") for option in choice.options[:4]]
    return (
        f"the map is not decided for {len(choice.ours)} tensors of ours ({', '.join(choice.ours[:4])}), {what}; "
        "one of these lines decides:\n  " + "\n  ".join(f"rules=[{line}]" for line in lines)
    )


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
