"""ATIS and Snips on their way to JointBERT: three parallel files -> sentences -> rows of pieces. Numpy only.

A corpus is a folder with train/, dev/ and test/, each with seq.in (words), seq.out (one BIO tag per word) and label
(the intent), one sentence per line. Labels are those of intent_label.txt and slot_label.txt in the folder, or else of
its train part. Layout and rules: Goo et al., NAACL 2018; monologg/JointBERT data_loader.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splinter.ports.common.text import DataError, WordPieces, decoded, existing, is_empty, open_bytes

from .config import PAD, UNK, label_problem

PARTS = ("train", "dev", "test")
WORDS, TAGS, INTENTS = "seq.in", "seq.out", "label"
INTENT_LABELS, SLOT_LABELS = "intent_label.txt", "slot_label.txt"
MAX_LENGTH = 50


@dataclass(frozen=True)
class Sentence:
    """One example; `tags` and `intent` are empty where they are to be found. `id` is the number of its line."""

    words: list[str]
    tags: list[str]
    intent: str
    where: str
    id: str = "1"


@dataclass(frozen=True)
class Labels:
    """Both label sets in the order of their ids."""

    intents: tuple[str, ...]
    slots: tuple[str, ...]


# -- files ------------------------------------------------------------------------------------------------


def _lines(path: Path, expected: str) -> list[str]:
    """Lines of a text file as open() gives them, without white space at their ends."""
    existing(path, expected, pipe=False)
    with open_bytes(path) as file, io.StringIO(decoded(file.read(), path), newline=None) as text:
        return [line.strip() for line in text]


def read(folder: Path) -> list[Sentence]:
    """The sentences of one part of a corpus, such as atis/train.

    Raises:
        DataError: a file is missing or empty, the three differ in number of lines, a line is empty, words and tags
            differ in number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; give a folder with {WORDS}, {TAGS} and {INTENTS}")
    if not (folder / WORDS).exists() and (inside := [name for name in PARTS if (folder / name).is_dir()]):
        raise DataError(f"{folder} is a whole corpus; name one part of it, such as {folder / inside[-1]}")
    paths = [folder / name for name in (WORDS, TAGS, INTENTS)]
    columns = [_lines(path, f"the {path.name} of a corpus") for path in paths]
    counts = [len(lines) for lines in columns]
    if len(set(counts)) > 1:
        said = ", ".join(f"{path.name} {count}" for path, count in zip(paths, counts, strict=True))
        raise DataError(
            f"{folder}: the files differ in number of lines ({said}); each line is one sentence in all three"
        )
    if not counts[0]:
        raise DataError(f"{paths[0]} is empty; expected one sentence per line")
    sentences = []
    for number, (text, tags, intent) in enumerate(zip(*columns, strict=True), 1):
        for path, line in zip(paths, (text, tags, intent), strict=True):
            if not line:
                raise DataError(f"{path}, line {number} is empty; remove it from all three files")
        words, tag = text.split(), tags.split()  # some words are two spaces apart
        if len(words) != len(tag):
            raise DataError(
                f"{paths[1]}, line {number} has {len(tag)} tags for the {len(words)} words of {WORDS}; "
                "expected one for each"
            )
        if PAD in tag:
            raise DataError(f"{paths[1]}, line {number}: {PAD} stands for what is not scored and is no tag; use O")
        if len(intent.split()) > 1:
            raise DataError(f"{paths[2]}, line {number} is {intent[:60]!r}; expected one intent, a single word")
        sentences.append(Sentence(words, tag, intent, f"{folder} line {number}", str(number)))
    return sentences


def read_texts(path: Path) -> Iterator[Sentence]:
    """Sentences without labels, one per line of a file or of standard input, each as it comes.

    Raises:
        DataError: no such file, or nothing in it; blank lines are passed over.
    """
    if str(path) != "-":
        existing(path, "a text file with one sentence per line")
    name, found = "standard input" if str(path) == "-" else path, False
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                found = True
                yield sentence(decoded(line, f"{name}, line {number}"), f"{name}, line {number}", str(number))
    if not found:
        raise DataError(f"{name} is empty; expected one sentence per line")


def sentence(text: str, where: str, name: str = "1") -> Sentence:
    """One sentence without labels.

    Raises:
        DataError: nothing in it.
    """
    if is_empty(text):
        raise DataError(f"{where}: no words; give a sentence")
    return Sentence(text.split(), [], "", where, name)


# -- labels -----------------------------------------------------------------------------------------------


def build_labels(sentences: Iterable[Sentence]) -> Labels:
    """The label sets of training sentences: UNK and the sorted intents; PAD, UNK and the sorted slots.

    Slots are sorted by type first, so that B-x and I-x are neighbours; O has an empty type and comes first.
    """
    intents, slots = set(), set()
    for one in sentences:
        intents.add(one.intent)
        slots.update(one.tags)
    return Labels(
        (UNK, *sorted(intents - {UNK})),
        (PAD, UNK, *sorted(slots - {PAD, UNK}, key=lambda slot: (slot[2:], slot[:2]))),
    )


def read_labels(folder: Path) -> Labels | None:
    """The label files of a corpus, None where it has none.

    Raises:
        DataError: only one of the two, or one that cannot be used.
    """
    paths = [Path(folder) / name for name in (INTENT_LABELS, SLOT_LABELS)]
    there = [path.is_file() for path in paths]
    if not any(there):
        return None
    if not all(there):
        raise DataError(f"{paths[there.index(False)]}: no such file; give both label files or none")
    found = [tuple(_lines(path, "a label file")) for path in paths]
    for path, labels, first in zip(paths, found, (None, PAD), strict=True):
        if not labels:
            raise DataError(f"{path} is empty; expected one label per line")
        if problem := label_problem(labels, first):
            raise DataError(f"{path}: {problem}; repair it, or remove both label files to have them built from train")
    return Labels(*found)


# -- rows -------------------------------------------------------------------------------------------------


def ids_of(labels: Sequence[str], wanted: Iterable[str]) -> np.ndarray:
    """Ids of labels; one that training did not know has that of UNK."""
    number = {label: i for i, label in enumerate(labels)}
    unknown = number[UNK]
    return np.array([number.get(label, unknown) for label in wanted], np.int64)


def features(
    sentences: Sequence[Sentence], pieces: WordPieces, labels: Labels, max_length: int = MAX_LENGTH
) -> dict[str, np.ndarray]:
    """Model inputs and labels of N sentences: [CLS] pieces [SEP], cut and padded to T = `max_length`.

    The first piece of a word carries its slot, all others PAD. A word without any piece counts as [UNK].

    Returns:
        input_ids, attention_mask, token_type_ids, slot_labels (N, T) and intent_labels (N,), int64. Without gold tags
        `slot_labels` is UNK at the first piece of every word, and intents are UNK.
    """
    words = [word for one in sentences for word in one.words]
    encoded = [ids or [pieces.unk] for ids in pieces.encode_words(words)]
    tags = [tag for one in sentences for tag in (one.tags or [UNK] * len(one.words))]
    slots = ids_of(labels.slots, tags)

    per_word = np.array([len(ids) for ids in encoded], np.int64)
    flat = np.array([number for ids in encoded for number in ids], np.int64)
    row_of_word = np.repeat(np.arange(len(sentences)), [len(one.words) for one in sentences])
    row = np.repeat(row_of_word, per_word)  # of each piece
    per_row = np.bincount(row, minlength=len(sentences))
    position = np.arange(len(flat)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    slot = np.zeros_like(flat)
    slot[np.cumsum(per_word) - per_word] = slots

    room = max_length - 2
    kept = position < room
    made = {name: np.zeros((len(sentences), max_length), np.int64) for name in ("input_ids", "slot_labels")}
    made["input_ids"][:] = pieces.pad
    made["input_ids"][row[kept], position[kept] + 1] = flat[kept]
    made["slot_labels"][row[kept], position[kept] + 1] = slot[kept]
    length = np.minimum(per_row, room)
    made["input_ids"][:, 0] = pieces.cls
    made["input_ids"][np.arange(len(sentences)), length + 1] = pieces.sep
    mask = (np.arange(max_length) < length[:, None] + 2).astype(np.int64)
    return {
        "input_ids": made["input_ids"],
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
        "slot_labels": made["slot_labels"],
        "intent_labels": ids_of(labels.intents, [one.intent or UNK for one in sentences]),
    }


def count_cut(sentences: Sequence[Sentence], rows: Mapping[str, np.ndarray]) -> int:
    """How many sentences have words beyond the end of their row; see `features`."""
    kept = (rows["slot_labels"] != 0).sum(axis=1).tolist()
    return sum(len(one.words) > words for one, words in zip(sentences, kept, strict=True))
