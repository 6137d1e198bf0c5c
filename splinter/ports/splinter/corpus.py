"""A corpus for pretraining: passages with their recurring spans, in shards on disk.

A shard is a safetensors file of N passages with C spans that recur and Q questions:

    tokens (pieces,) int32         piece ids of all passages, one after the other
    keys (N, 3) int64              document, pass, number of the passage in the document
    lengths (C,) int16             pieces of each span
    starts (occurrences,) int16    where each span begins, counted in its passage, all spans one after the other
    questions (Q, 3) int16         of epoch 0: place of the question, first and last piece of its answer
    *_offsets int64                where each passage begins in tokens, clusters and questions, and each span in starts

A shard is a function of its documents and the settings alone, whoever makes it, and is written whole or not
at all; a manifest with the sha256 of each makes the corpus. Masks are not fixed: what is stored are the spans,
and each epoch draws its own questions from a generator of (seed, document, pass, passage, epoch). Those of epoch 0
are stored for readers in other languages; training draws them again. Framework-free.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splinter.ports.checkpoint import VOCABULARY, read_json

from . import spans
from .spans import Cluster, Masked

MANIFEST, SETTINGS, STATISTICS, NGRAMS = "manifest.json", "settings.json", "statistics.json", "ngrams.txt"
FORMAT = 1
LENGTHS = (8, 2**15 - 1)
"""Pieces of a passage, least and most: places in it are stored in 16 bits."""
MODES = ("paper", "whole-word")
WAY_OUT = "fetch it again, or mine into another folder"


class CorpusError(ValueError):
    """A corpus that is not whole, or another one than asked for; says which file and what to do."""


@dataclass(frozen=True)
class Mining:
    """What decides a corpus, besides the text and the vocabulary.

    Args:
        mode: "paper" = the reference's rule on half words, "whole-word" = each occurrence ends with a word.
        length: pieces of a passage, with [CLS] and [SEP].
        passes: times that the text is gone through, cut at other places (the paper: 5).
        seed: of the questions.
        lossless: see `passages.encode`.
    """

    mode: str = "paper"
    length: int = 512
    passes: int = 1
    seed: int = 12345
    lossless: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise CorpusError(f"mode {self.mode!r} is not known; one of {', '.join(MODES)} is")
        if not LENGTHS[0] <= self.length <= LENGTHS[1]:
            raise CorpusError(f"--length {self.length}: a passage has {LENGTHS[0]} to {LENGTHS[1]} pieces")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise CorpusError(f"seed {self.seed!r}: expected a whole number from 0 on")


def generator(seed: int, document: int, number: int, passage: int, epoch: int) -> spans.Random:
    """The random numbers of one passage in one epoch."""
    return np.random.RandomState(np.random.PCG64([seed, document, number, passage, epoch]))


class Columns:
    """The arrays of a shard while they grow; their names, types and shapes stand above."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, int, int]] = []
        self.tokens: list[int] = []
        self.questions: list[tuple[int, int, int]] = []
        self.lengths: list[int] = []
        self.starts: list[int] = []
        self.ends: dict[str, list[int]] = {name: [0] for name in ("tokens", "clusters", "starts", "questions")}

    def add(self, key: tuple[int, int, int], tokens: list[int], clusters: list[Cluster], masked: Masked) -> None:
        """Append a passage with its spans, and its questions of epoch 0."""
        self.keys.append(key)
        self.tokens += tokens
        self.questions += masked.questions
        for cluster in clusters:
            self.lengths.append(cluster.length)
            self.starts += cluster.starts
            self.ends["starts"].append(len(self.starts))
        self.ends["tokens"].append(len(self.tokens))
        self.ends["clusters"].append(len(self.lengths))
        self.ends["questions"].append(len(self.questions))

    def encoded(self) -> bytes:
        """The shard as a file's content."""
        from safetensors.numpy import save

        arrays: dict[str, np.ndarray] = {
            "tokens": np.array(self.tokens, np.int32),  # a vocabulary may have more than 2^16 pieces
            "keys": np.array(self.keys, np.int64).reshape(-1, 3),
            "lengths": np.array(self.lengths, np.int16),
            "starts": np.array(self.starts, np.int16),
            "questions": np.array(self.questions, np.int16).reshape(-1, 3),
            **{f"{name}_offsets": np.array(ends, np.int64) for name, ends in self.ends.items()},
        }
        return save(arrays, {"format": f"splinter corpus {FORMAT}"})


# -- reading ----------------------------------------------------------------------------------------------


class Passage(NamedTuple):
    """One passage: (document, pass, number in the document), its piece ids, its recurring spans."""

    key: tuple[int, int, int]
    tokens: list[int]
    clusters: list[Cluster]


class Corpus:
    """A whole corpus, read as it is needed.

    Args:
        folder: what `splinter mine` wrote.
        check: compare the sha256 of every shard, and the number of its passages, with the manifest; else only the
            sizes.

    Attributes:
        manifest: what manifest.json says.
        length: most pieces of a passage.
        questions: of epoch 0, of all passages.
        sources: the files that were mined, name and bytes of each.

    Raises:
        CorpusError: no manifest, another vocabulary than the shards have, a shard that is missing, cut off or changed.
    """

    def __init__(self, folder: Path, check: bool = True):
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).is_file():
            if (self.folder / SETTINGS).exists():
                raise CorpusError(f"{folder} is unfinished; run splinter mine again with --resume")
            raise CorpusError(f"{folder} holds no {MANIFEST}; give a folder that splinter mine wrote")
        self.manifest = read_json(self.folder / MANIFEST)
        if self.manifest.get("format") != FORMAT:
            raise CorpusError(
                f"{self.folder / MANIFEST} has format {self.manifest.get('format')}, this version reads {FORMAT}; "
                "mine again"
            )
        try:
            self.settings = Mining(**self.manifest["mining"])
            if sha256(self.folder / VOCABULARY) != self.manifest["vocabulary_sha256"]:
                raise CorpusError(f"{self.folder / VOCABULARY} is not the vocabulary that was mined with; {WAY_OUT}")
            self.paths = [self._checked(shard, check) for shard in self.manifest["shards"]]
            self.firsts = np.cumsum([0, *(shard["passages"] for shard in self.manifest["shards"])])
            self.questions = sum(shard["questions"] for shard in self.manifest["shards"])
            self.sources = self.manifest["sources"]
        except (KeyError, TypeError) as error:
            raise CorpusError(f"{self.folder / MANIFEST} is damaged ({error}); mine again") from None
        self.length = self.settings.length

    def _checked(self, shard: Mapping[str, Any], check: bool) -> Path:
        path = self.folder / shard["name"]
        if not path.is_file():
            raise CorpusError(f"{path} is missing; {WAY_OUT}")
        facts: dict[str, Callable[[], Any]] = {"bytes": lambda: path.stat().st_size}
        if check:  # in this order: each relies on the ones before it
            facts |= {"sha256": lambda: sha256(path), "passages": lambda: len(_mapped(path, shard["sha256"])["keys"])}
        for name, fact in facts.items():
            if (value := fact()) != shard[name]:
                raise CorpusError(
                    f"{path}: {name} {value}, the manifest says {shard[name]}; it was cut off or changed, {WAY_OUT}"
                )
        return path

    def shard(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of a shard."""
        return _mapped(self.paths[number], self.manifest["shards"][number]["sha256"])

    def __len__(self) -> int:
        """Passages."""
        return int(self.firsts[-1])

    def __getitem__(self, number: int) -> Passage:
        """Passage `number` of the corpus, from 0."""
        if not 0 <= number < len(self):
            raise IndexError(f"passage {number} of {len(self)}")
        which = int(np.searchsorted(self.firsts, number, side="right")) - 1
        shard, row = self.shard(which), number - int(self.firsts[which])

        def part(name: str) -> slice:
            return slice(*shard[f"{name}_offsets"][row : row + 2].tolist())

        clusters = part("clusters")
        bounds = shard["starts_offsets"][clusters.start : clusters.stop + 1].tolist()
        lengths = shard["lengths"][clusters].tolist()
        recurring = [
            Cluster(length, shard["starts"][begin:end].tolist())
            for length, begin, end in zip(lengths, bounds[:-1], bounds[1:], strict=True)
        ]
        document, passed, passage = shard["keys"][row].tolist()
        return Passage((document, passed, passage), shard["tokens"][part("tokens")].tolist(), recurring)

    def masked(self, number: int, epoch: int, question: int) -> Masked:
        """Passage `number` with the questions of an epoch."""
        passage = self[number]
        random = generator(self.settings.seed, *passage.key, epoch)
        return spans.mask(passage.tokens, passage.clusters, random, question)


def sha256(path: Path) -> str:
    """Of a file, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(200)  # a mapped file counts as an open one, of which there may be 1024
def _mapped(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file as views of the mapped file: nothing is read before it is looked at.

    Args:
        sha256: of what the file should hold: one of the same name, mined anew, is another.
    """
    data = np.memmap(path, np.uint8, "r")
    begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:begin].tobytes())
    types = {"I64": np.int64, "I32": np.int32, "I16": np.int16}
    return {
        name: data[begin + one["data_offsets"][0] : begin + one["data_offsets"][1]]
        .view(types[one["dtype"]])
        .reshape(one["shape"])
        for name, one in header.items()
        if name != "__metadata__"
    }


def records(corpus: Corpus, numbers: Iterable[int], epoch: int, question: int) -> dict[str, np.ndarray]:
    """Masked passages as the arrays that the model takes.

    Args:
        numbers: of the passages, B of them.

    Returns:
        input_ids, attention_mask (B, T) padded to the longest; question_positions, start_positions, end_positions
        (B, Q) padded with 0; weights (B, Q) float32, 1 for a question. T and Q as the batch needs them.
    """
    drawn = [corpus.masked(number, epoch, question) for number in numbers]
    tokens = max((len(one.tokens) for one in drawn), default=0)
    asked = max((1, *(len(one.questions) for one in drawn)))
    ids, mask = np.zeros((2, len(drawn), tokens), np.int64)
    labels = np.zeros((3, len(drawn), asked), np.int64)
    weights = np.zeros((len(drawn), asked), np.float32)
    for row, one in enumerate(drawn):
        ids[row, : len(one.tokens)], mask[row, : len(one.mask)] = one.tokens, one.mask
        if one.questions:
            labels[:, row, : len(one.questions)] = np.transpose(one.questions)
            weights[row, : len(one.questions)] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "question_positions": labels[0],
        "start_positions": labels[1],
        "end_positions": labels[2],
        "weights": weights,
    }
