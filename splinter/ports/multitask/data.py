"""The course's files of sentiment, paraphrase and similarity -> word pieces and labels. Numpy only.

Files, text rules and the dropping of rows without a label are those of Stanford CS 224N's default final project
(minBERT, datasets.py): tab-separated with a header and standard quoting, despite the name `.csv`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splinter.ports.common.text import DataError, VocabularyError, WordPieces, decoded, existing, open_bytes
from splinter.ports.common.training.feed import digest

__all__ = ["DataError", "Dataset", "Tokens", "VocabularyError", "find", "load", "read", "tokenizer"]

TEXTS = {"sentiment": ("sentence",), "paraphrase": ("sentence1", "sentence2"), "similarity": ("sentence1", "sentence2")}
LABEL = {"sentiment": "sentiment", "paraphrase": "is_duplicate", "similarity": "similarity"}
PREFIXES = {"sentiment": ("",), "paraphrase": ("a_", "b_"), "similarity": ("a_", "b_")}
"""Task -> what stands before `input_ids` and `attention_mask` in the names of its columns."""

NAMES = {"sst": "ids-sst", "cfimdb": "ids-cfimdb", "paraphrase": "quora", "similarity": "sts"}
"""Data set -> how the names of its files begin; the task sentiment has two."""
LONGEST = 512
BLOCK = 4096


# -- files ------------------------------------------------------------------------------------------------


def find(folder: Path, task: str, split: str, sentiment: str = "sst") -> Path:
    """The file of a task in a folder, plain or .gz; a `-subset` of a training file where the whole is not there.

    Args:
        split: "train", "dev" or "test".
        sentiment: "sst" or "cfimdb".

    Raises:
        DataError: none there; says which names were looked for.
    """
    stem = NAMES[sentiment if task == "sentiment" else task]
    endings = {"train": ("train", "train-subset"), "dev": ("dev",), "test": ("test-student", "test")}[split]
    names = [f"{stem}-{ending}.csv" for ending in endings]
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(
        f"{folder}: holds no {' or '.join(names)}, plain or .gz; name another folder, the file with "
        f"--{task}-{split}, or fewer tasks with --tasks"
    )


@dataclass(frozen=True)
class Rows:
    """A file's rows as text.

    Args:
        ids: N names of rows.
        texts: one list of N texts, or two for pairs.
        labels: (N,) int64, float32 for similarity; None in a file without labels.
        dropped: lines of rows whose label is no number.
    """

    ids: list[str]
    texts: tuple[list[str], ...]
    labels: np.ndarray | None
    dropped: list[int]


def sentence(text: str) -> str:
    """A sentence of the sentiment files: lower-cased and stripped."""
    return text.lower().strip()


def pair_text(text: str) -> str:
    """One text of a pair: lower-cased, a space before each of . ? , ' and white space collapsed."""
    text = text.lower()
    for mark in ".?,'":
        text = text.replace(mark, f" {mark}")
    return " ".join(text.split())


CLEAN = {"sentiment": sentence, "paraphrase": pair_text, "similarity": pair_text}


def read(path: Path, task: str, classes: int = 5, labels: bool = True) -> Rows:
    """Read a file.

    Args:
        classes: of sentiment; a label beyond is a mistake of the file, not a row to drop.
        labels: False = the file is read for prediction, and may have none.

    Raises:
        DataError: with file, line, value and way out.
    """
    existing(path, f"a file of {task}, tab-separated with a header")
    texts: tuple[list[str], ...] = tuple([] for _ in TEXTS[task])
    ids, found, dropped = [], [], []
    record: list[str] = []  # the lines of the row that is being read

    def lines(file: Iterable[bytes]) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            record.append(decoded(line, f"{path}, line {number}"))
            yield record[-1]

    with open_bytes(path) as file:
        reader = csv.reader(lines(file), delimiter="\t", strict=True)
        try:
            header = next(reader, [])
            wanted = ["id", *TEXTS[task], *([LABEL[task]] if labels else [])]
            if missing := [name for name in wanted if name not in header]:
                raise DataError(
                    f"{path}, line 1: column {missing[0]!r} is missing (found {header}); "
                    f"a {task} file has {', '.join(wanted)}, separated by tabs"
                )
            column = {name: header.index(name) for name in wanted}
            record.clear()
            for row in reader:
                if any("\n" in cell and "\t" in cell for cell in row):
                    raise csv.Error("a quoted text holds tabs and ends of lines, as if it had swallowed other rows")
                record.clear()
                if not row:
                    continue  # an empty line
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    raise DataError(
                        f"{where}: {len(row)} columns, the header has {len(header)}; "
                        "separate columns by one tab, and quote a text that holds one"
                    )
                if labels:
                    label = _label(row[column[LABEL[task]]], task, classes, where)
                    if label is None:
                        dropped.append(reader.line_num)
                        continue
                    found.append(label)
                ids.append(row[column["id"]].lower().strip())
                for kept, name in zip(texts, TEXTS[task], strict=True):
                    kept.append(CLEAN[task](row[column[name]]))
        except csv.Error as error:
            line = reader.line_num - len(record) + 1 + _unclosed("".join(record))
            said = str(error).replace("'\t'", "a tab")  # which would be shown as a blank
            raise DataError(f"{path}, line {line}: {said}; mend the quotes of this line") from None
    if not ids:
        why = f"; the labels of all {len(dropped)} are no numbers" if dropped else ""
        raise DataError(f"{path}: holds no row{why}; give a {task} file with rows")
    # float32, not the float64 of the skeleton: the scores it is compared with are float32
    kind = np.float32 if task == "similarity" else np.int64
    return Rows(ids, texts, np.array(found, kind) if labels else None, dropped)


CELL = re.compile(r'("[^"]*(?:""[^"]*)*"|[^"\t\n][^\t\n]*|)\t')


def _unclosed(row: str) -> int:
    """The line of a row (from 0) on which the text opens whose quote ends too late, or where none may end."""
    begin = 0
    while (cell := CELL.match(row, begin)) and not ("\n" in cell[1] and "\t" in cell[1]):
        begin = cell.end()
    return row.count("\n", 0, begin)


def _label(text: str, task: str, classes: int, where: str) -> float | None:
    """The label as a number, None when it is none; paraphrase's `0.0` and `1.0` are classes.

    Raises:
        DataError: a number that cannot be a label.
    """
    try:
        number = float(text)
    except ValueError:
        return None
    if task == "similarity":
        fits, expected = 0 <= number <= 5, "a number from 0 to 5"
    else:
        most = 1 if task == "paraphrase" else classes - 1
        fits, expected = 0 <= number <= most and number == int(number), f"a whole number from 0 to {most}"
    if not fits:
        raise DataError(f"{where}: {LABEL[task]} is {text.strip()!r}, expected {expected}; correct it")
    return number


# -- pieces -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """N sentences of different length, one after the other.

    Args:
        flat: (sum of lengths,) int32 ids, [CLS] and [SEP] included.
        starts: (N + 1,) int64; sentence i is flat[starts[i]:starts[i + 1]].
        pad: id of [PAD].
    """

    flat: np.ndarray
    starts: np.ndarray
    pad: int

    @property
    def lengths(self) -> np.ndarray:
        """(N,) pieces of each sentence."""
        return np.diff(self.starts)

    def padded(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids and mask of some sentences, (B, T) int64 each, T the longest of them."""
        lengths = self.lengths[rows]
        ids = np.full((len(rows), int(lengths.max())), self.pad, np.int64)
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[number, :length] = self.flat[self.starts[row] : self.starts[row] + length]
        return ids, mask


def tokenizer(folder: Path) -> WordPieces:
    """The word pieces of a vocabulary, as transformers' Python BertTokenizer cuts them."""
    return WordPieces(folder, python=True)


def tokens(texts: Sequence[str], pieces: WordPieces, longest: int = LONGEST) -> Tokens:
    """Each text alone between [CLS] and [SEP], cut to `longest` pieces in all."""
    found: list[np.ndarray] = []
    for begin in range(0, len(texts), BLOCK):  # all at once, the tokenizer's own objects would fill the memory
        for ids in pieces.encode(texts[begin : begin + BLOCK]):
            found.append(np.array([pieces.cls, *ids[: longest - 2], pieces.sep], np.int32))
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in found])])
    return Tokens(np.concatenate(found), starts, pieces.pad)


@dataclass(frozen=True)
class Dataset:
    """A file, or several of one task, as model input.

    Args:
        task: one of TASKS.
        ids: N names of rows.
        texts: one or two `Tokens` of N sentences.
        labels: (N,), None for a file without.
        dropped: how many rows had no label.
        source: the files, for messages.
    """

    task: str
    ids: list[str]
    texts: tuple[Tokens, ...]
    labels: np.ndarray | None
    dropped: int = 0
    source: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Some rows as the columns that a model reads; the texts of a pair are padded apart."""
        made: dict[str, np.ndarray] = {}
        for prefix, some in zip(PREFIXES[self.task], self.texts, strict=True):
            names = (f"{self.task}/{prefix}{name}" for name in ("input_ids", "attention_mask"))
            made.update(zip(names, some.padded(rows), strict=True))
        if self.labels is not None:
            made[f"{self.task}/labels"] = self.labels[rows]
        return made

    def first(self, rows: int) -> Dataset:
        """The first rows only; 0 = all."""
        if not 0 < rows < len(self):
            return self
        cut = tuple(Tokens(s.flat[: s.starts[rows]], s.starts[: rows + 1], s.pad) for s in self.texts)
        labels = None if self.labels is None else self.labels[:rows]
        return Dataset(self.task, self.ids[:rows], cut, labels, self.dropped, self.source)

    def columns(self) -> dict[str, np.ndarray]:
        """Everything as arrays: flat ids and lengths of each text, labels."""
        made: dict[str, np.ndarray] = {}
        for prefix, some in zip(PREFIXES[self.task], self.texts, strict=True):
            made |= {f"{prefix}flat": some.flat, f"{prefix}lengths": some.lengths}
        return made if self.labels is None else made | {"labels": self.labels}

    def hash(self) -> str:
        """16 hex digits of all of it."""
        return digest(self.columns())


def load(
    paths: Sequence[Path],
    task: str,
    pieces: WordPieces,
    longest: int = LONGEST,
    classes: int = 5,
    labels: bool = True,
) -> Dataset:
    """Files of one task, one after the other.

    Raises:
        DataError: see `read`.
    """
    parts = [read(path, task, classes, labels) for path in paths]
    ids = [name for part in parts for name in part.ids]
    texts = [[text for part in parts for text in part.texts[i]] for i in range(len(TEXTS[task]))]
    found = [part.labels for part in parts if part.labels is not None]
    return Dataset(
        task,
        ids,
        tuple(tokens(some, pieces, longest) for some in texts),
        np.concatenate(found) if labels else None,
        sum(len(part.dropped) for part in parts),
        ", ".join(map(str, paths)),
    )
