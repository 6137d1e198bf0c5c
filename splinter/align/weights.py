"""Weights on their way from one framework to the other: names, transposes, drops; strict both ways.

A `WeightMap` is a list of rules `theirs -> ours`. A `*` in a rule stands for a layer number. Conversion is
a bijection with a list of named exceptions: every tensor of ours is filled exactly once, every tensor of
theirs is used exactly once or dropped by a rule that says why, and shapes and dtypes are checked. A tensor
that would stay random is an error, never a warning: Paddle's `set_state_dict` only returns a list of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .files import WeightError

FLOATING = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Rule:
    """One line of the map: `theirs` feeds `ours`; `transpose` swaps the two axes of a matrix."""

    theirs: str
    ours: str
    transpose: bool = False


@dataclass(frozen=True)
class Link:
    """A rule applied to one tensor: the two concrete names and whether the matrix is transposed."""

    theirs: str
    ours: str
    transpose: bool


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\*", r"(\d+)") + r"\Z")


def _fill(template: str, numbers: Iterable[str]) -> str:
    for number in numbers:
        template = template.replace("*", number, 1)
    return template


class WeightMap:
    """The renaming between two models.

    Args:
        rules: in any order; both sides of a rule hold the same number of `*`.
        drop: template of their names -> reason why they have no place with us (an unused pooler, say).
    """

    def __init__(self, rules: Iterable[Rule], drop: Mapping[str, str] | None = None):
        self.rules = tuple(rules)
        self.drop = dict(drop or {})
        self._by_ours = [(_pattern(rule.ours), rule) for rule in self.rules]
        self._by_theirs = [(_pattern(rule.theirs), rule) for rule in self.rules]
        self._dropped = [_pattern(template) for template in self.drop]

    def links(self, ours: Iterable[str]) -> list[Link]:
        """The concrete link for each of our tensor names, in their order.

        Raises:
            WeightError: one of our tensors has no rule, or more than one.
        """
        found = []
        for name in ours:
            matches = [(rule, m) for pattern, rule in self._by_ours if (m := pattern.match(name))]
            if len(matches) != 1:
                raise WeightError(f"the weight map has {len(matches)} rules for our tensor {name!r}, needs one")
            rule, match = matches[0]
            found.append(Link(_fill(rule.theirs, match.groups()), name, rule.transpose))
        return found

    def links_from(self, theirs: Iterable[str]) -> dict[str, Link]:
        """Their tensor name -> its link, for those that a rule takes."""
        found = {}
        for name in theirs:
            for pattern, rule in self._by_theirs:
                if match := pattern.match(name):
                    found[name] = Link(name, _fill(rule.ours, match.groups()), rule.transpose)
        return found

    def reason_dropped(self, theirs: str) -> str | None:
        """Why their tensor is left behind, or None when it is not dropped."""
        for pattern, reason in zip(self._dropped, self.drop.values(), strict=True):
            if pattern.match(theirs):
                return reason
        return None

    def plan(self, theirs: Iterable[str], ours: Iterable[str], source: str = "the checkpoint") -> list[Link]:
        """Match every name of both sides, or say what is wrong.

        Raises:
            WeightError: a tensor missing from theirs, surplus in theirs, or used twice.
        """
        links, have = self.links(ours), set(theirs)
        wanted = [link.theirs for link in links]
        twice = sorted({name for name in wanted if wanted.count(name) > 1}) if len(set(wanted)) < len(wanted) else []
        missing = [name for name in wanted if name not in have]
        surplus = sorted(name for name in have - set(wanted) if self.reason_dropped(name) is None)
        problems = [
            f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
            for what, names in (("missing", missing), ("surplus", surplus), ("used twice", twice))
            if names
        ]
        if problems:
            raise WeightError(f"{source} does not fit: tensors {'; '.join(problems)}")
        return links

    def convert(
        self,
        theirs: Mapping[str, np.ndarray],
        ours: Mapping[str, tuple[int, ...]],
        source: str = "the checkpoint",
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (our name, array in our layout), one tensor at a time so that memory stays flat.

        Args:
            theirs: their arrays; a lazy mapping is read once per tensor.
            ours: our tensor names and the shapes that the model expects.
            source: what to call the checkpoint in an error.

        Raises:
            WeightError: names, shapes or dtypes do not fit.
        """
        for link in self.plan(theirs.keys(), ours.keys(), source):
            array = theirs[link.theirs]
            if array.dtype.name not in FLOATING:
                raise WeightError(
                    f"{source}: tensor {link.theirs!r} has dtype {array.dtype}, expected one of {', '.join(FLOATING)}"
                )
            if link.transpose:
                array = array.T
            if tuple(array.shape) != tuple(ours[link.ours]):
                raise WeightError(
                    f"{source}: tensor {link.theirs!r} has shape {tuple(array.shape)} in our layout, "
                    f"the configuration asks for {tuple(ours[link.ours])}"
                )
            yield link.ours, array

    def revert(self, ours: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """The way back: yield (their name, array in their layout)."""
        for link in self.links(ours.keys()):
            array = ours[link.ours]
            yield link.theirs, array.T if link.transpose else array

    def modules(self, ours: Iterable[str]) -> dict[str, str]:
        """Our module path -> their module path, for each pair of modules that owns linked tensors.

        This is how the forward step knows, for any port, which two activations to compare: a Linear of
        theirs whose weight feeds a Linear of ours must also produce the same output. A tensor whose last name
        differs (a bare parameter there, a Linear's weight here) says nothing about modules.
        """
        pairs: dict[str, str] = {}
        for link in self.links(ours):
            (mine, _, leaf), (other, _, their_leaf) = link.ours.rpartition("."), link.theirs.rpartition(".")
            if leaf == their_leaf:
                pairs.setdefault(mine, other)
        return pairs
