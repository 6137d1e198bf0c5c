"""How alike two names of layers are: words that ports exchange for one another, numbers that count layers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MEANING = {
    word: meaning
    for meaning, words in {
        "weight": "gamma scale w",
        "bias": "beta b",
        "variance": "var",
        "attention": "attn att attentions",
        "linear": "fc dense proj projection lin",
        "norm": "ln bn layernorm batchnorm",
        "query": "q queries",
        "key": "k keys",
        "value": "v values",
        "output": "out o",
        "embedding": "embed emb embs embeddings embd",
        "word embedding": "wte",
        "position embedding": "wpe",
        "word": "token tokens tok words",
        "position": "pos positional positions",
        "segment": "type",
        "layer": "block h blocks layers",
        "head": "classifier cls score heads",
        "downsample": "shortcut",
        "cross": "crossattention enc",
        "ffn": "mlp feedforward",
        "": "running model module",
    }.items()
    for word in words.split()
}
"""A word of a name -> the words that it stands for."""

TOGETHER = {
    r"layer_?norm": "norm",
    r"batch_?norm": "norm",
    r"feed_?forward": "ffn",
    r"encoder_attn": "cross_attn",
    r"encdec": "cross_",
    r"multi_?head": "",
}
"""What is one word though it is written as two."""


Place = tuple[int, int]


@dataclass(frozen=True)
class Words:
    """A name taken apart.

    Args:
        words: each with how often it occurs.
        places: which one of how many in its list each numbered layer on the way is.
        listed: whether there is a list of layers on the way.
    """

    words: frozenset[tuple[str, int]]
    places: tuple[Place, ...]
    listed: bool


def split(name: str) -> list[str]:
    """The words of a name, in the form that all ports of it share: split at dots, underscores, digits, capitals."""
    for pattern, word in TOGETHER.items():
        name = re.sub(pattern, f"_{word}_", name, flags=re.IGNORECASE)
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return [meaning for word in found for meaning in MEANING.get(word.lower(), word.lower()).split()]


class Names:
    """The names of two models, one weight for each word: what occurs everywhere says little.

    Args:
        sides: the names of each model.
    """

    def __init__(self, *sides: Iterable[str]):
        self.words: dict[tuple[int, str], Words] = {}
        for side, names in enumerate(sides):
            ranks = _ranks(names := list(names))
            for name in names:
                self.words[side, name] = _apart(name, ranks)
        seen = Counter(word for words in self.words.values() for word in words.words)
        self.weight = {word: math.log(1 + len(self.words) / count) for word, count in seen.items()}

    def distance(self, theirs: str, ours: str) -> float:
        """0: the same words, 1: none in common; one more for another place in lists of one length, half for none."""
        a, b = self.words[0, theirs], self.words[1, ours]
        total = sum(self.weight[word] for words in (a.words, b.words) for word in words)
        common = sum(self.weight[word] for word in a.words & b.words)
        return (
            (1 - 2 * common / total if total else 0.0) + _out_of_place(a.places, b.places) + (a.listed != b.listed) / 2
        )


def _out_of_place(theirs: Sequence[Place], ours: Sequence[Place]) -> float:
    """1 where lists that correspond are entered at different places, else 0.

    Of lists of other lengths nothing is known. Where one side has more lists one in another, the outermost may
    correspond, else the innermost.
    """
    pairs = [(a, b) for a, b in zip(theirs, ours, strict=False) if a[1] == b[1]]
    if len(theirs) != len(ours):
        ends = [(side[0], side[-1]) for side in (theirs, ours) if side]
        pairs = [pair for pair in zip(*ends, strict=True) if pair[0][1] == pair[1][1]][:1] if len(ends) == 2 else []
    return float(any(a != b for a, b in pairs))


def _list(parts: Sequence[str], k: int) -> tuple[str, int] | None:
    """The list that a part of a path is a member of, and its number there: `layers.3`, `conv3`."""
    match = re.fullmatch(r"(.*?)(\d+)", parts[k])
    return (".".join((*parts[:k], match[1])), int(match[2])) if match else None


def _ranks(names: Iterable[str]) -> Mapping[str, dict[int, int]]:
    """List -> number of its member -> which one of those that occur it is."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        parts = name.split(".")
        for found in filter(None, (_list(parts, k) for k in range(len(parts)))):
            numbers.setdefault(found[0], set()).add(found[1])
    return {path: {number: rank for rank, number in enumerate(sorted(found))} for path, found in numbers.items()}


def _apart(name: str, ranks: Mapping[str, dict[int, int]]) -> Words:
    parts = name.split(".")
    lists = filter(None, (_list(parts, k) for k in range(len(parts))))
    words = Counter(split(re.sub(r"\d+(?=\.|$)", "", name)))
    places = tuple((ranks[path][number], len(ranks[path])) for path, number in lists if len(ranks[path]) > 1)
    every = frozenset((word, k) for word, many in words.items() for k in range(many))
    return Words(every, places, any(part.isdigit() for part in parts))
