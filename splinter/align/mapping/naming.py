"""How alike two names of layers are: words that ports exchange for one another, numbers that count layers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True)
class Words:
    """A name taken apart.

    Args:
        words: each with how often it occurs.
        counts: which one in its list each numbered layer on the way is.
    """

    words: frozenset[tuple[str, int]]
    counts: tuple[int, ...]


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
        """0: the same words, 1: none in common; one more for layers of another number."""
        a, b = self.words[0, theirs], self.words[1, ours]
        total = sum(self.weight[word] for words in (a.words, b.words) for word in words)
        common = sum(self.weight[word] for word in a.words & b.words)
        shared = list(zip(a.counts, b.counts, strict=False))
        return (1 - 2 * common / total if total else 0.0) + any(x != y for x, y in shared)


def _ranks(names: Iterable[str]) -> Mapping[str, dict[int, int]]:
    """Path of a list -> number of its layer -> which one of those that occur it is."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        parts = name.split(".")
        for k, part in enumerate(parts):
            if part.isdigit():
                numbers.setdefault(".".join(parts[:k]), set()).add(int(part))
    return {path: {number: rank for rank, number in enumerate(sorted(found))} for path, found in numbers.items()}


def _apart(name: str, ranks: Mapping[str, dict[int, int]]) -> Words:
    parts = name.split(".")
    counts = tuple(ranks[".".join(parts[:k])][int(part)] for k, part in enumerate(parts) if part.isdigit())
    words = Counter(split(".".join(part for part in parts if not part.isdigit())))
    return Words(frozenset((word, k) for word, many in words.items() for k in range(many)), counts)
