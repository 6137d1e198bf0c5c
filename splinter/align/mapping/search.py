"""The map of the weights, found: which tensor of theirs feeds which of ours, and why one may think so.

Whole layers are matched first (weight and bias together), over the whole model at once; then single tensors; then one
of one side against several of the other (packed attention, lists of experts). Who holds a tensor decides its
orientation, its name and its place among the layers whose it is. What that leaves open is tried, or it is an error that
names the rule which decides it, never a guess.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..files import WeightError
from ..weights import Rule, WeightMap, folded
from .fitting import Item, Items, Together, cut, families, fit, joined, layers, lists, singles, stacked, together
from .inventory import Inventory, Tensor
from .matching import Block, Choice, choices, undecided
from .modules import module_pairs
from .naming import Names, split

TIED, TRIED, UNDECIDED = (
    "by name, tied in theirs alone",
    "by trial",
    "by nothing yet",
)
PACKED = ", one of one side for several of the other"
GIVEN = "by the rule given"
SAME = 0.5
"""Names that are nearer to each other than this mean the same tensor, where nothing else lies nearer."""
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


Trial = Callable[[WeightMap], Mapping[str, float]]
"""A whole map -> path of our layer, "" for the outputs -> how far what it makes of the reference's own input is from
what the reference makes of it, in units of the largest number."""

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
        self.layers: dict[str, str] = {}  # our path -> one of its tensors, of layers matched as a whole
        self.unsure: list[Rule] = []
        self.choices: list[Choice] = []
        self.left = {t.name: t for t in theirs.tensors}, {t.name: t for t in ours.tensors}
        self._given(WeightMap(rules, drop))

    def found(self, trial: Trial | None) -> Found:
        self._computed()
        one_to_one = functools.partial(together, frameworks=self.frameworks)
        self._match_packed()
        self._match(layers, layers, one_to_one)
        self._match(singles, singles, one_to_one)
        self._match(lists, singles, functools.partial(stacked, frameworks=self.frameworks))
        self._match(singles, lists, functools.partial(stacked, frameworks=self.frameworks))
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
        pairs = {path: self.links[name].sources[0].rpartition(".")[0] for path, name in self.layers.items()}
        return WeightMap(folded(rules), self.drop, self.keep, module_pairs(self.theirs, self.ours, rules, pairs))

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

    def _match(self, theirs: Items, ours: Items, become: Together) -> None:
        block = Block(theirs(self.theirs, self.left[0]), ours(self.ours, self.left[1]), become)
        if not block.pairs:
            return
        chosen = block.assignment()
        reasons, order, doubt = block.settled(chosen)
        self.choices += choices(block, order, needed=False) + choices(block, doubt, needed=True)
        for i, j in chosen:
            for link, sure in block.pairs[i, j]:
                self._take(link, reasons.get((i, j), UNDECIDED) + ("" if link.whole else PACKED))
                self.unsure += [] if sure else [link]
            if theirs is ours is layers:
                self.layers[block.ours[j].label] = block.ours[j].tensors[0].name

    def _match_packed(self) -> None:
        """Layers that are several there or here, of telling names, where no layer of the other side is like them."""
        for split_here in (True, False):  # theirs is one and ours are several, then the other way
            sides = [layers(side, left) for side, left in zip((self.theirs, self.ours), self.left, strict=True)]
            whole, several = sides[not split_here], families(sides[split_here])
            others = sides[split_here]
            lonely = [one for one in whole if not any(self._alike(one, other, split_here) for other in others)]
            pack = functools.partial(cut if split_here else joined, frameworks=self.frameworks)
            theirs, ours = (lonely, several) if split_here else (several, lonely)
            self._match(lambda *_, found=theirs: found, lambda *_, found=ours: found, pack)

    def _alike(self, one: Item, other: Item, theirs: bool) -> bool:
        return together(*((one, other) if theirs else (other, one)), self.frameworks) is not None

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
                raise WeightError(undecided(choice, bool(trial)))

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
            if names.distance(alias, name) < SAME:
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
        """An error that lists what has no counterpart, and what would give it one."""
        names, lines = Names(theirs, ours), []
        for our in list(ours):
            their = min(theirs, key=lambda name: names.distance(name, our), default="")
            if their and names.distance(their, our) < SAME:
                sizes = list(self.left[0][their].shape), list(self.left[1][our].shape)
                lines.append(f"{their} is {sizes[0]} in theirs, {our} {sizes[1]} in ours: are both built alike?")
                theirs, ours = [one for one in theirs if one != their], [one for one in ours if one != our]
        for lost, whose, left in ((ours, "ours", self.left[1]), (theirs, "theirs", self.left[0])):
            if lost:
                told = ", ".join(f"{name} {list(left[name].shape)}" for name in lost[:6])
                more = f" and {len(lost) - 6} more" if len(lost) > 6 else ""
                lines.append(f"without a counterpart in {whose}: {told}{more}")
        way = Rule(theirs[0] if theirs else "their.name", ours[0] if ours else "our.name")
        if theirs or ours:
            lines.append(f"rules=[{way!r}] feeds ours, drop={{their name: reason}} leaves theirs out")
        return "tensors do not find each other:\n  " + "\n  ".join(lines)

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


def _within(path: str, names: Iterable[str]) -> bool:
    """Whether a layer holds one of the tensors."""
    return not path or any(name.startswith(f"{path}.") for name in names)


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
