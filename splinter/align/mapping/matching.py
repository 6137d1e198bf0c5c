"""Which item of theirs belongs to which of ours: an assignment over all of them, and what it rests on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..files import WeightError
from ..weights import Rule
from .fitting import Item, Together
from .naming import Names

NAME, ORDER, ONLY = "by name", "by shape and order", "by shape, nothing else fits"
IMPOSSIBLE = 1e6
MARGIN, SURE = 0.05, 0.2
"""By how much names must be nearer to each other than to any other: where order says the same, where it does not."""

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


class Block:
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
        """Pair -> why; groups of pairs that could be exchanged: that order alone decides, that nothing decides."""
        reasons: dict[Pair, str] = {}
        order, doubt = _Groups(chosen), _Groups(chosen)
        for i, j in chosen:
            rivals = list(self._rivals(i, j, chosen))
            near = [one for one in rivals if one[1] <= (MARGIN if one[2] else SURE)]
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
        if a.ran is None or b.ran is None or c.ran is None or d.ran is None or a.ran == b.ran or c.ran == d.ran:
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


def choices(block: Block, groups: Iterable[Group], needed: bool) -> list[Choice]:
    """One choice for each kind of group: what is so in one layer is so in all."""
    kinds: dict[Any, list[Group]] = {}
    for theirs, ours in groups:
        labels = [
            [_starless(side[k].label) for k in items] for side, items in ((block.theirs, theirs), (block.ours, ours))
        ]
        telling = all(len(set(names)) == len(names) for names in labels)
        kinds.setdefault(tuple(map(tuple, labels)) if telling else (theirs, ours), []).append((theirs, ours))
    return [Choice(list(_options(block, alike)), needed) for alike in kinds.values()]


def _options(block: Block, groups: Sequence[Group]) -> Iterator[list[Rule]]:
    """The rules of each way to pair the items of a group, alike in all groups; first the one that was chosen."""
    chosen = dict(block.assignment())
    taken = [(i, chosen[i]) for theirs, _ in groups for i in theirs if i in chosen]
    yield [rule for pair in taken for rule, _ in block.pairs[pair]]
    theirs, ours = groups[0]
    few = len(theirs) <= 4 and all((len(one), len(other)) == (len(theirs), len(ours)) for one, other in groups)
    for order in itertools.permutations(range(len(ours)), len(theirs)) if few else ():
        pairs = [(group[0][n], group[1][k]) for group in groups for n, k in enumerate(order)]
        if pairs != taken and all(pair in block.pairs for pair in pairs):
            yield [rule for pair in pairs for rule, _ in block.pairs[pair]]


def _starless(label: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in label.split("."))


def undecided(choice: Choice, tried: bool) -> str:
    """An error that lists the candidates and what decides between them."""
    what = "a trial does not tell either" if tried else "neither names nor order tell"
    lines = [", ".join(map(repr, option[:4])) + (", ..." if len(option) > 4 else "") for option in choice.options[:4]]
    return (
        f"the map is not decided for {len(choice.ours)} tensors of ours ({', '.join(choice.ours[:4])}), {what}; "
        "one of these lines decides:\n  " + "\n  ".join(f"rules=[{line}]" for line in lines)
    )
