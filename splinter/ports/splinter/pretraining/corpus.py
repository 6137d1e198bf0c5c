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
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splinter.ports.common import reading
from splinter.ports.common.checkpoint import VOCABULARY, read_json

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
            raise CorpusError(f"mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        if type(self.length) is not int or not LENGTHS[0] <= self.length <= LENGTHS[1]:
            raise CorpusError(f"--length {self.length}: a passage has {LENGTHS[0]} to {LENGTHS[1]} pieces")
        for name in ("seed", "passes"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise CorpusError(f"{name} {value!r}: expected a whole number from 0 on")


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
        check: compare the sha256 of every shard with the manifest, and look at every number in it; else only at
            sizes, types and shapes.

    Attributes:
        manifest: what manifest.json says.
        length: most pieces of a passage.
        questions: of epoch 0, of all passages.
        sources: the files that were mined, name and bytes of each.

    Raises:
        CorpusError: no manifest, another vocabulary than the shards have, a shard that is missing, cut off or changed,
            or that says what cannot be: whoever made it, nothing is read outside the folder.
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
            vocabulary = self.folder / VOCABULARY
            if not vocabulary.is_file() or sha256(vocabulary) != self.manifest["vocabulary_sha256"]:
                raise CorpusError(f"{vocabulary} is not the vocabulary that was mined with; {WAY_OUT}")
            for shard in self.manifest["shards"]:
                _refuse_entry(shard)
            size = len(reading.whole(vocabulary).splitlines()) if check else None
            self.paths = [self._checked(shard, size) for shard in self.manifest["shards"]]
            self.firsts = np.cumsum([0, *(shard["passages"] for shard in self.manifest["shards"])])
            self.questions = sum(shard["questions"] for shard in self.manifest["shards"])
            self.sources = self.manifest["sources"]
        except (KeyError, TypeError) as error:
            raise CorpusError(f"{self.folder / MANIFEST} is damaged ({error}); mine again") from None
        self.length = self.settings.length

    def _checked(self, shard: Mapping[str, Any], vocabulary: int | None) -> Path:
        """The path of a shard; with a size of the vocabulary, all that is in it has been looked at."""
        path = self.folder / shard["name"]
        if not path.is_file():
            raise CorpusError(f"{path} is missing; {WAY_OUT}")
        facts: dict[str, Callable[[], Any]] = {"bytes": lambda: path.stat().st_size}
        if vocabulary is not None:  # in this order: each relies on the ones before it
            facts["sha256"] = lambda: sha256(path)
        facts["passages"] = lambda: len(_mapped(path, shard["sha256"])["keys"])
        facts["questions"] = lambda: len(_mapped(path, shard["sha256"])["questions"])
        for name, fact in facts.items():
            if (value := fact()) != shard[name]:
                raise CorpusError(
                    f"{path}: {name} {value}, the manifest says {shard[name]}; it was cut off or changed, {WAY_OUT}"
                )
        if vocabulary is not None and (
            wrong := _wrong(_mapped(path, shard["sha256"]), vocabulary, self.settings.length)
        ):
            raise CorpusError(f"{path}: {wrong}; {WAY_OUT}")
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


SHARD = re.compile(r"shard-\d{6,}\.safetensors")
TYPES = {"I64": np.int64, "I32": np.int32, "I16": np.int16}
COLUMNS = {
    "tokens": ("I32", ()),
    "keys": ("I64", (3,)),
    "lengths": ("I16", ()),
    "starts": ("I16", ()),
    "questions": ("I16", (3,)),
    **{f"{name}_offsets": ("I64", ()) for name in ("tokens", "clusters", "starts", "questions")},
}
"""Of a shard: type, and shape after the first axis."""
OWNERS = {"tokens": ("keys", "tokens"), "clusters": ("keys", "lengths"), "questions": ("keys", "questions")}
OWNERS |= {"starts": ("lengths", "starts")}
"""Offsets -> the column with a row per part, and the column that is cut into these parts."""


def _refuse_entry(shard: Any) -> None:
    """What a manifest says of a shard could be so.

    Raises:
        KeyError, TypeError: it could not.
    """
    if not (isinstance(shard["name"], str) and SHARD.fullmatch(shard["name"]) and isinstance(shard["sha256"], str)):
        raise TypeError(f"{str(shard['name'])[:40]!r} is no name of a shard with its sha256")
    for name in ("bytes", "passages", "questions"):
        if type(shard[name]) is not int or not 0 <= shard[name] < 2**63:
            raise TypeError(f"{name} {str(shard[name])[:40]} of {shard['name']}")


@functools.lru_cache(200)  # a mapped file counts as an open one, of which there may be 1024
def _mapped(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file as views of the mapped file: nothing is read before it is looked at.

    Args:
        sha256: of what the file should hold: one of the same name, mined anew, is another.

    Raises:
        CorpusError: it has not the columns of a shard, or they reach beyond the file.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
        if not 8 < begin <= len(data):
            raise ValueError(f"a header of {begin - 8} bytes")
        header = json.loads(data[8:begin].tobytes())
        columns = {name: _column(data[begin:], header[name], *COLUMNS[name]) for name in COLUMNS}
        for name, (rows, parts) in OWNERS.items():
            ends = columns[f"{name}_offsets"]
            if len(ends) != len(columns[rows]) + 1 or ends[0] != 0 or ends[-1] != len(columns[parts]):
                raise ValueError(f"{name}_offsets do not fit {rows} and {parts}")
        return columns
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CorpusError(f"{path} is no shard of a corpus ({error}); {WAY_OUT}") from None


def _column(data: np.ndarray, entry: Any, dtype: str, rest: tuple[int, ...]) -> np.ndarray:
    """One array of a shard, as its header describes it.

    Raises:
        ValueError, TypeError, KeyError: it describes something else, or bytes that are not there.
    """
    (begin, end), shape = entry["data_offsets"], entry["shape"]
    numbers = [begin, end, *shape]
    if any(type(number) is not int or not 0 <= number <= len(data) for number in numbers) or begin > end:
        raise ValueError(f"{entry!r} lies outside the file")
    if entry["dtype"] != dtype or tuple(shape[1:]) != rest:
        raise ValueError(f"{entry!r} is not {dtype} of shape (..., {rest})")
    return data[begin:end].view(TYPES[dtype]).reshape(shape)


def _wrong(columns: Mapping[str, np.ndarray], vocabulary: int, length: int) -> str:
    """What of the numbers of a shard cannot be; "" where all can.

    Args:
        vocabulary: how many pieces it has.
        length: most pieces of a passage.
    """
    offsets = [columns[f"{name}_offsets"] for name in ("tokens", "clusters", "starts")]
    if any((ends[1:] < ends[:-1]).any() for ends in (*offsets, columns["questions_offsets"])):
        return "offsets that go back"
    pieces, clusters, starts = map(np.diff, offsets)  # of each passage, of each passage, of each span
    if pieces.min(initial=1) < 1 or pieces.max(initial=1) > length:
        return f"a passage without a piece, or of more than {length}"
    ids, spans = columns["tokens"], columns["lengths"].astype(np.int64)
    if ids.min(initial=0) < 0 or ids.max(initial=0) >= vocabulary:
        return f"a piece beyond the {vocabulary} of the vocabulary"
    if columns["keys"].min(initial=0) < 0:
        return "a negative key"
    room = np.repeat(np.repeat(pieces, clusters) - spans, starts)  # of each occurrence
    if spans.min(initial=1) < 1 or starts.min(initial=1) < 1 or columns["starts"].min(initial=0) < 0:
        return "a span of no piece, or of no occurrence"
    return "a span that ends outside its passage" if (columns["starts"] > room).any() else ""


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
