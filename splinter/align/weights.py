"""Weights on their way from one framework to the other: names and layouts; strict both ways.

A `WeightMap` is a list of rules `theirs -> ours`. A `*` in a rule stands for a layer number. Conversion is
a bijection with a list of named exceptions: every tensor of ours is filled exactly once or kept by a rule that says
why, every tensor of theirs is used exactly once or dropped by a rule that says why, and shapes and dtypes are checked.
A tensor that would stay random is an error, never a warning: Paddle's `set_state_dict` only returns a list of names.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .files import WeightError

FLOATING = ("float16", "float32", "float64")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """One line of the map: `theirs` feeds `ours`.

    What a rule does to the numbers, always in this order, whichever of it is asked for:

    1. several of theirs are joined along `axis`, or one `part` is cut out of theirs along `axis`;
    2. `reshape`;
    3. `permute`, all axes in another order;
    4. `transpose`, the last two axes exchanged.

    So `axis` counts in their layout, `permute` in the reshaped one.

    Args:
        theirs: their tensor, or several of them that feed one of ours.
        part: (which, of how many), counted from 0: ours is this part of theirs; the others go to other rules.
        axis: along which theirs are joined or cut.
        stack: the axis is one that the single tensor lacks: (E, out, in) beside E times (out, in).
        shares: how large the parts are to each other, 4:1:1 for instance; () where they are equal.

    Examples:
        Rule("layer.*.dense.weight", "encoder.*.linear.weight", transpose=True)
        Rule("attn.in_proj_weight", "attn.q.weight", part=(0, 3), transpose=True)
        Rule("c_attn.weight", "k.weight", part=(1, 3), axis=1)
        Rule(("gate.weight", "up.weight"), "gate_up.weight")
        Rule(("experts.0.weight", "experts.1.weight"), "experts.weight", stack=True)
        Rule("v.weight_g", "v.weight_g", reshape=(-1,))
    """

    theirs: Any  # str, or a tuple of them; most callers know which
    ours: str
    transpose: bool = False
    part: tuple[int, int] | None = None
    axis: int = 0
    stack: bool = False
    shares: tuple[int, ...] = ()
    reshape: Shape | None = None
    permute: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.theirs, str):
            object.__setattr__(self, "theirs", tuple(self.theirs))
        which, many = self.part or (0, len(self.sources))
        if self.part and len(self.sources) > 1:
            raise WeightError(f"{self!r} cuts and joins at once; a part is one of one tensor")
        if not 0 <= which < many:
            raise WeightError(f"{self!r}: parts are counted from 0 to {many - 1}")
        if self.shares and len(self.shares) != many:
            raise WeightError(f"{self!r}: {len(self.shares)} shares for {many} parts")

    def __repr__(self) -> str:
        named = [(f.name, getattr(self, f.name)) for f in fields(self)[2:] if getattr(self, f.name) != f.default]
        return f"Rule({', '.join([_source(self.theirs), _source(self.ours), *(f'{n}={v!r}' for n, v in named)])})"

    @property
    def sources(self) -> tuple[str, ...]:
        """Their names."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    @property
    def whole(self) -> bool:
        """Whether one tensor becomes one tensor."""
        return self.part is None and len(self.sources) == 1 and not self.stack

    def convert(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Our array from theirs, one for each of `sources`.

        Raises:
            ValueError: the shapes do not allow it.
        """
        array = arrays[0] if self.whole else self._cut(arrays[0]) if self.part else self.join(arrays)
        if self.reshape is not None:
            array = array.reshape(self.reshape)
        if self.permute is not None:
            array = array.transpose(self.permute)
        return array.swapaxes(-1, -2) if self.transpose and array.ndim > 1 else array

    def revert(self, array: np.ndarray, shapes: Mapping[str, Shape] | None = None) -> list[np.ndarray]:
        """Their arrays from ours, one for each of `sources`; of a `part` the part alone.

        Args:
            shapes: of their tensors; a `reshape` needs them.
        """
        if self.transpose and array.ndim > 1:
            array = array.swapaxes(-1, -2)
        if self.permute is not None:
            array = array.transpose(np.argsort(self.permute))
        if self.reshape is not None:
            if shapes is None:
                raise WeightError(f"{self.ours!r} was reshaped: the way back needs the shapes of theirs")
            array = array.reshape(self.convert_shape(shapes, laid=False))
        return [array] if self.whole or self.part else self._pieces(array, len(self.sources))

    def convert_shape(self, shapes: Mapping[str, Shape], laid: bool = True) -> Shape:
        """The shape that ours gets of theirs; `laid` False: before it is reshaped, permuted and transposed.

        Raises:
            ValueError: the shapes do not allow it.
        """
        empty = [np.broadcast_to(np.False_, shapes[name]) for name in self.sources]  # takes no memory
        rule = self if laid else replace(self, reshape=None, permute=None, transpose=False)
        return tuple(rule.convert(empty).shape)

    def join(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Parts of a tensor made one."""
        return np.stack(arrays, self.axis) if self.stack else np.concatenate(arrays, self.axis)

    def _cut(self, array: np.ndarray) -> np.ndarray:
        which, many = self.part or (0, 1)
        return self._pieces(array, many)[which]

    def _pieces(self, array: np.ndarray, many: int) -> list[np.ndarray]:
        """What `join` made one.

        Raises:
            ValueError: the axis does not divide so.
        """
        shares = self.shares or (1,) * many
        unit, rest = divmod(array.shape[self.axis], sum(shares))
        if rest or (self.stack and unit != 1):
            raise ValueError(f"axis {self.axis} of {array.shape} does not fall into {':'.join(map(str, shares))}")
        pieces = np.split(array, np.cumsum(shares)[:-1] * unit, self.axis)
        return [piece.squeeze(self.axis) for piece in pieces] if self.stack else pieces


Link = Rule
"""A rule applied to the tensors of one layer: concrete names in place of `*`."""


def _source(value: str | tuple[str, ...] | None) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(json.dumps, value))}{',' * (len(value) == 1)})"
    return "None" if value is None else json.dumps(value)


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\*", r"(\d+)") + r"\Z")


def _fill(template: str, numbers: Iterable[str]) -> str:
    for number in numbers:
        template = template.replace("*", number, 1)
    return template


def _reason(templates: Mapping[str, str], name: str) -> str | None:
    return next((reason for template, reason in templates.items() if _pattern(template).match(name)), None)


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


class WeightMap:
    """The renaming between two models; printed, it is the Python source of itself.

    Args:
        rules: in any order; both sides of a rule hold the same number of `*`.
        drop: template of their names -> reason why they have no place with us (an unused pooler, say).
        keep: template of our names -> reason why nothing of theirs feeds them (a table that the model fills itself).
        modules: our module path -> their module path, beside those that the rules tell; None: it has no partner (a
            Linear whose weight one side alone reads without running it). `*` as in rules.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        drop: Mapping[str, str] | None = None,
        keep: Mapping[str, str] | None = None,
        modules: Mapping[str, str | None] | None = None,
    ):
        self.rules = tuple(rules)
        self.drop = dict(drop or {})
        self.keep = dict(keep or {})
        self.module_pairs = dict(modules or {})
        self._by_ours = [(_pattern(rule.ours), rule) for rule in self.rules]
        self._by_theirs = [(_pattern(name), rule) for rule in self.rules for name in rule.sources]

    def __repr__(self) -> str:
        def block(name: str, lines: Sequence[str], ends: str) -> str:
            return "".join([f"    {name}{ends[0]}\n", *(f"        {line},\n" for line in lines), f"    {ends[1]},\n"])

        text = block("", [repr(rule) for rule in self.rules], "[]")
        for name, told in (("drop", self.drop), ("keep", self.keep), ("modules", self.module_pairs)):
            if told:
                text += block(f"{name}=", [f"{_source(k)}: {_source(v)}" for k, v in told.items()], "{}")
        return f"WeightMap(\n{text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightMap) and self._told() == other._told()

    def __hash__(self) -> int:
        return hash(self.rules)

    def _told(self) -> tuple:
        return self.rules, self.drop, self.keep, self.module_pairs

    def links(self, ours: Iterable[str]) -> list[Link]:
        """The concrete link for each of our tensor names, in their order; kept ones have none.

        Raises:
            WeightError: one of our tensors has no rule, or more than one.
        """
        found = []
        for name in ours:
            matches = [(rule, m) for pattern, rule in self._by_ours if (m := pattern.match(name))]
            if not matches and self.reason_kept(name) is not None:
                continue
            if len(matches) != 1:
                raise WeightError(f"the weight map has {len(matches)} rules for our tensor {name!r}, needs one")
            found.append(_applied(matches[0][0], matches[0][1].groups()))
        return found

    def links_from(self, theirs: Iterable[str]) -> dict[str, Link]:
        """Their tensor name -> its link, for those that a rule takes whole."""
        return {name: link for link in self._taking(theirs) if link.whole for name in link.sources}

    def names_from(self, theirs: Collection[str]) -> list[str]:
        """Our names of what their tensors feed; what no rule takes keeps its name, marked."""
        links = self._taking(theirs)
        taken = {name for link in links for name in link.sources}
        ours = dict.fromkeys(link.ours for link in links)
        return [*ours, *(f"theirs:{n}" for n in theirs if n not in taken and self.reason_dropped(n) is None)]

    def _taking(self, theirs: Iterable[str]) -> list[Link]:
        """Every link that has one of these among its sources."""
        found: dict[Link, None] = {}
        for name in theirs:
            for pattern, rule in self._by_theirs:
                if match := pattern.match(name):
                    found[_applied(rule, match.groups())] = None
        return list(found)

    def translate(self, theirs: Mapping[str, np.ndarray], gradients: bool = False) -> dict[str, np.ndarray]:
        """Arrays under their parameter names (weights, moments, gradients) under our names and layout.

        What no rule takes whole shows up as `theirs:name`, unless it is dropped.

        Args:
            gradients: that is what they are. One of a tensor that the map drops stays, for it has an effect after
                all; where only some of theirs that feed one of ours have one, it is zero for the others.
        """
        translated: dict[str, np.ndarray] = {}
        used: set[str] = set()
        for link in self._taking(theirs):
            there = [theirs[name] for name in link.sources if name in theirs]
            if len(there) < len(link.sources) and not gradients:
                continue
            arrays = [theirs[name] if name in theirs else np.zeros_like(there[0]) for name in link.sources]
            translated[link.ours] = np.require(link.convert(arrays), requirements="C")
            used.update(link.sources)
        for name, array in theirs.items():
            if name not in used and (gradients or self.reason_dropped(name) is None):
                translated[f"theirs:{name}"] = array
        return translated

    def rule_of(self, ours: str) -> Rule | None:
        """The rule that feeds our tensor, if there is one."""
        return next((rule for pattern, rule in self._by_ours if pattern.match(ours)), None)

    def reason_dropped(self, theirs: str) -> str | None:
        """Why their tensor is left behind, or None when it is not dropped."""
        return _reason(self.drop, theirs)

    def reason_kept(self, ours: str) -> str | None:
        """Why nothing of theirs feeds our tensor, or None when something has to."""
        return _reason(self.keep, ours)

    def plan(self, theirs: Iterable[str], ours: Iterable[str], source: str = "the checkpoint") -> list[Link]:
        """Match every name of both sides, or say what is wrong.

        Raises:
            WeightError: a tensor missing from theirs, surplus in theirs, used twice or in part.
        """
        links, have = self.links(ours), set(theirs)
        uses: dict[str, list[Link]] = {}
        for link in links:
            for name in link.sources:
                uses.setdefault(name, []).append(link)
        problems = [
            f"{len(names)} {what}: {_few(names)}"
            for what, names in (
                ("missing", [name for name in uses if name not in have]),
                ("surplus", sorted(name for name in have - set(uses) if self.reason_dropped(name) is None)),
                ("used twice", sorted(name for name, takers in uses.items() if _overlap(takers))),
                ("used in part", sorted(name for name, takers in uses.items() if not _covered(takers))),
            )
            if names
        ]
        if problems:
            raise WeightError(f"{source} does not fit: tensors {'; '.join(problems)}")
        return links

    def convert(
        self,
        theirs: Mapping[str, np.ndarray],
        ours: Mapping[str, Shape],
        source: str = "the checkpoint",
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (our name, array in our layout), one tensor at a time so that memory stays flat.

        Args:
            theirs: their arrays; a lazy mapping is read once for each of our tensors.
            ours: our tensor names and the shapes that the model expects.
            source: what to call the checkpoint in an error.

        Raises:
            WeightError: names, shapes or dtypes do not fit.
        """
        for link in self.plan(theirs.keys(), ours.keys(), source):
            arrays = [theirs[name] for name in link.sources]
            for name, array in zip(link.sources, arrays, strict=True):
                if array.dtype.name not in FLOATING:
                    raise WeightError(
                        f"{source}: tensor {name!r} has dtype {array.dtype}, expected one of {', '.join(FLOATING)}"
                    )
            try:
                array = link.convert(arrays)
            except ValueError as error:
                raise WeightError(f"{source}: {link} does not fit {[a.shape for a in arrays]}: {error}") from None
            if tuple(array.shape) != tuple(ours[link.ours]):
                raise WeightError(
                    f"{source}: tensor {', '.join(map(repr, link.sources))} has shape {tuple(array.shape)} in our "
                    f"layout, the configuration asks for {tuple(ours[link.ours])}"
                )
            yield link.ours, array

    def revert(
        self, ours: Mapping[str, np.ndarray], shapes: Mapping[str, Shape] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The way back: yield (their name, array in their layout).

        Args:
            shapes: of their tensors, which a `reshape` needs.

        Raises:
            WeightError: a part of theirs is not among ours.
        """
        parts: dict[str, dict[int, np.ndarray]] = {}
        for link in self.links(ours.keys()):
            arrays = link.revert(ours[link.ours], shapes)
            if link.part is None:
                yield from zip(link.sources, arrays, strict=True)
                continue
            (name,), (which, many) = link.sources, link.part
            parts.setdefault(name, {})[which] = arrays[0]
            if len(parts[name]) == many:
                yield name, link.join([array for _, array in sorted(parts.pop(name).items())])
        if parts:
            raise WeightError(f"ours hold only a part of their {', '.join(parts)}")

    def modules(self, ours: Iterable[str]) -> dict[str, str]:
        """Our module path -> their module path: the pairs that were told, then those that own linked tensors.

        This is how the forward step knows, for any port, which two activations to compare: a Linear of
        theirs whose weight feeds a Linear of ours must also produce the same output. A tensor whose last name
        differs (a bare parameter there, a Linear's weight here) says nothing about modules, nor does one of several.
        """
        names = list(ours)
        pairs = self._told_modules(names)
        told = set(pairs.values())
        for link in self.links(names):
            (mine, _, leaf), (other, _, their_leaf) = link.ours.rpartition("."), link.sources[0].rpartition(".")
            if leaf == their_leaf and link.whole and other not in told:
                pairs.setdefault(mine, other)
        return {mine: other for mine, other in pairs.items() if other is not None}

    def _told_modules(self, names: Iterable[str]) -> dict[str, str | None]:
        """The pairs of `modules`, a `*` filled with the numbers of the modules that hold our tensors."""
        paths = list(dict.fromkeys(path for name in names for path in _above(name)))
        pairs: dict[str, str | None] = {}
        for mine, other in self.module_pairs.items():
            matches = ((path, _pattern(mine).match(path)) for path in (paths if "*" in mine else [mine]))
            pairs |= {path: other and _fill(other, match.groups()) for path, match in matches if match}
        return pairs


def _applied(rule: Rule, numbers: Sequence[str | None]) -> Link:
    theirs = tuple(_fill(name, map(str, numbers)) for name in rule.sources)
    return replace(
        rule, theirs=theirs[0] if isinstance(rule.theirs, str) else theirs, ours=_fill(rule.ours, map(str, numbers))
    )


def _above(name: str) -> list[str]:
    """Paths of the modules that hold a tensor, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts))]


def _overlap(takers: Sequence[Link]) -> bool:
    """Whether rules take the same numbers of a tensor twice."""
    counted = Counter(link.part for link in takers)
    return max(counted.values()) > 1 or (None in counted and len(counted) > 1)


def _covered(takers: Sequence[Link]) -> bool:
    """Whether the parts that rules take are all there are, cut along one axis."""
    ways = {(link.part[1], link.axis, link.stack, link.shares) for link in takers if link.part}
    return not ways or (len(ways) == 1 and len({link.part for link in takers}) == next(iter(ways))[0])


def folded(rules: Iterable[Rule]) -> list[Rule]:
    """The same map with `*` for the numbers of layers, where both sides have the same ones and nothing else fits."""
    rules = list(rules)
    grouped: dict[Rule, list[Rule]] = {}
    for rule in rules:
        grouped.setdefault(_starred(rule), []).append(rule)
    found = []
    for starred, group in grouped.items():
        reach = _pattern(starred.ours)
        others = [rule for rule in rules if reach.match(rule.ours) and rule not in group]
        found += group if others else [starred]
    return found


def _starred(rule: Rule) -> Rule:
    ours, numbers = _numbers(rule.ours)
    theirs = [_numbers(name) for name in rule.sources]
    if not numbers or any(other != numbers for _, other in theirs):
        return rule
    names = tuple(name for name, _ in theirs)
    return replace(rule, ours=ours, theirs=names[0] if isinstance(rule.theirs, str) else names)


def _numbers(name: str) -> tuple[str, list[str]]:
    parts = name.split(".")
    return ".".join("*" if part.isdigit() else part for part in parts), [part for part in parts if part.isdigit()]
