"""Sentence pairs (QNLI) and questions on contexts (SQuAD) to model inputs (numpy and the Rust `tokenizers` only).

    rows = pair_features(read_pairs("dev.tsv"), Tokenizer("vocab.txt"))
    for kept, rows in answer_features(read_examples("dev-v2.0.json"), Tokenizer("vocab.txt")):
        ...

`<cls> A <sep> B <sep> <pad>...`, segments 2 for `<cls>`, 0 for A, 1 for B, 0 for padding. Every row has the same
length: the model pools padding too, so its outputs depend on how much there is of it, until there is enough (`trim`).

Source: Dai et al., NeurIPS 2020; transformers 4.57.6 models/funnel/tokenization_funnel_fast.py (pieces, truncation,
windows), examples/pytorch/question-answering/run_qa.py (labels), chfhf/funnel-paddle (offsets, overlap).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from pathlib import Path

import numpy as np

from splinter.align.files import write_whole
from splinter.ports.common.squad import Example, Refused, name_of, no_room, read, refuse_empty, window_starts
from splinter.ports.common.squad import read_context as read_context
from splinter.ports.common.squad import read_examples as read_examples
from splinter.ports.common.text import (
    DataError,
    VocabularyError,
    WordPieces,
    existing,
    open_text,
    required,
    vocabulary_lines,
    vocabulary_text,
)

SPECIAL = {0: "<pad>", 96: "<s>", 97: "</s>", 100: "<unk>", 101: "<cls>", 102: "<sep>", 103: "<mask>"}
"""Funnel's vocabulary is BERT's uncased one with these lines (from 0) renamed."""
TOKENS = {"pad": "<pad>", "unk": "<unk>", "cls": "<cls>", "sep": "<sep>", "mask": "<mask>"}
LABELS = ("entailment", "not_entailment")
"""QNLI's classes in the order of GLUE, which a head has unless its checkpoint names them otherwise."""
CLS_SEGMENT = 2
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Columns that a model reads."""
TARGETS = {"classification": ("labels",), "answering": ("start_positions", "end_positions")}
"""Mode -> columns that its loss reads as well."""


def write_vocabulary(bert: Path, target: Path) -> Path:
    """Write Funnel's vocabulary, made from BERT's vocab.txt or already its own.

    Raises:
        VocabularyError: no file, or too short for the special tokens.
    """
    lines = vocabulary_lines(bert)
    if len(lines) <= max(SPECIAL):
        raise VocabularyError(f"{bert} has {len(lines)} lines; the special tokens stand on lines up to {max(SPECIAL)}")
    for number, token in SPECIAL.items():
        lines[number] = token
    write_whole(target, lambda file: file.write(vocabulary_text(lines)), "w")
    return target


class Tokenizer(WordPieces):
    """Funnel's word pieces: BERT's uncased ones under other names of the special tokens.

    Args:
        vocabulary: a vocab.txt, or a folder with one; lower-cased unless the files beside it say otherwise.

    Raises:
        VocabularyError: no file, or `<cls>` and the like are missing (a BERT vocabulary has `[CLS]`).
    """

    def __init__(self, vocabulary):
        super().__init__(vocabulary, tokens=TOKENS, added=("<s>", "</s>"))


# -- QNLI -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, a sentence, and whether the sentence holds the answer: 0 entailment, 1 not, None unknown."""

    id: str
    question: str
    sentence: str
    label: int | None
    where: str = field(default="", compare=False)


def read_pairs(path, labelled: bool = True) -> Iterator[Pair]:
    """The lines of a QNLI file: tabs between `index question sentence label`, a heading, no quoting; or `.gz`.

    Args:
        labelled: False = labels are not wanted; the column may be missing, as in the test file.

    Raises:
        DataError: unreadable file, another heading, or no line at all. Lines with other columns or labels, or an index
            that was used before, are told together at the end; after one no more good ones come.
    """
    return _pairs(existing(path, "a QNLI .tsv file"), labelled)


def _pairs(path, labelled):
    columns = ["index", "question", "sentence", "label"]
    number, seen, refused = 0, set(), Refused(path)
    try:
        with open_text(path) as file:
            heading = file.readline().rstrip("\r\n").split("\t")
            if heading[:3] != columns[:3] or (labelled and heading != columns):
                raise DataError(f"{path}, line 1: the heading is {heading}; expected {columns}, with tabs between")
            for number, line in enumerate(file, 2):
                with refused:
                    pair = _pair(line.rstrip("\r\n").split("\t"), len(heading), labelled, f"{path}, line {number}")
                    if pair.id in seen:
                        raise DataError(f"{pair.where}: index {pair.id[:60]!r} was used before; make them unique")
                    seen.add(pair.id)
                    if not refused.count:
                        yield pair
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected UTF-8 text, gzipped when named .gz") from error
    refused.tell()
    if not number:
        raise DataError(f"{path}: no pairs below the heading; give lines of {columns}")


def _pair(cells, columns, labelled, where):
    if len(cells) != columns:
        raise DataError(f"{where}: {len(cells)} columns, expected {columns}; put tabs between them")
    if labelled and cells[3] not in LABELS:
        raise DataError(f"{where}: label {cells[3][:40]!r} is not known; use one of {', '.join(LABELS)}")
    label = LABELS.index(cells[3]) if labelled else None
    return Pair(cells[0], cells[1], cells[2], label, where)


def read_asked_pairs(path) -> Iterator[Pair]:
    """Lines {"question": ..., "sentence": ..., "id": optional} of a file, `-` for standard input, one by one."""

    def on_sentence(where, record):
        sentence = required(record, "sentence", str, where)

        def pair(place, asked):
            question = required(asked, "question", str, place)
            refuse_empty(question, sentence, place, "sentence")
            return Pair(name_of(asked, place), question, sentence, None, place)

        return pair

    return read(path, on_sentence, answers=False, layouts='lines such as {"question": "Who?", "sentence": "Ann did."}')


@dataclass
class PairFeatures:
    """N rows of T positions, as columns."""

    input_ids: np.ndarray  # (N, T) int64
    attention_mask: np.ndarray  # (N, T) int64
    token_type_ids: np.ndarray  # (N, T) int64
    labels: np.ndarray | None  # (N,) int64; None where the file has none

    def __len__(self):
        return len(self.input_ids)


def pair_features(pairs: Iterable[Pair], tokenizer: Tokenizer, max_length: int = 128, block: int = 1000):
    """Pairs as rows; what is too long is cut from the longer of the two.

    Raises:
        ValueError: no room for three special tokens and a piece of each.
    """
    if max_length < 5:
        raise ValueError(f"max_length is {max_length}; a pair needs 5 or more")
    pairs, parts = iter(pairs), []
    while chunk := list(islice(pairs, block)):
        first = tokenizer.encode([pair.question for pair in chunk])
        second = tokenizer.encode([pair.sentence for pair in chunk])
        rows = []
        for a, b in zip(first, second, strict=True):
            left, right = shares(len(a), len(b), max_length - 3)
            rows.append(([tokenizer.cls, *a[:left], tokenizer.sep], [*b[:right], tokenizer.sep]))
        given = [pair.label for pair in chunk if pair.label is not None]
        labels = np.array(given, np.int64) if len(given) == len(chunk) else None
        ids, mask, segments = _table(rows, tokenizer.pad, max_length)
        parts.append(PairFeatures(ids, mask, segments, labels))
    return _joined(PairFeatures, parts)


def _joined(kind, parts):
    """One set of columns of many."""
    columns = {one.name: [getattr(part, one.name) for part in parts] for one in fields(kind)}
    return kind(**{name: None if found[0] is None else np.concatenate(found) for name, found in columns.items()})


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """How many pieces of each text stay: the longer one gives way, and if both are long they share alike.

    The odd piece of `room` goes to the longer text (to the second one if they tie), as in the Rust tokenizers'
    `longest_first`; the Python tokenizers give it to the first text.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if shorter > room // 2:
        shorter = room // 2
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def _table(rows, pad: int, length: int):
    """ids, mask and segments (N, T) int64 of rows that are (first part with <cls>, second part)."""
    ids = np.full((len(rows), length), pad, np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for row, (head, tail) in enumerate(rows):
        first, end = len(head), len(head) + len(tail)
        ids[row, :first], ids[row, first:end] = head, tail
        mask[row, :end] = 1
        segments[row, first:end] = 1
    segments[:, 0] = CLS_SEGMENT
    return ids, mask, segments


# -- SQuAD ------------------------------------------------------------------------------------------------


@dataclass
class AnswerFeatures:
    """N windows of T positions, as columns; the two labels are None unless training.

    Labels are row indices of the answer's first and last piece, 0 (`<cls>`) where the window does not hold all of
    it or there is none. `example_index` counts the examples over all blocks.
    """

    input_ids: np.ndarray  # (N, T) int64
    attention_mask: np.ndarray  # (N, T) int64
    token_type_ids: np.ndarray  # (N, T) int64
    offsets: np.ndarray  # (N, T, 2) int32 characters of each context piece, end exclusive; else -1
    example_index: np.ndarray  # (N,) int64
    start_positions: np.ndarray | None  # (N,) int64
    end_positions: np.ndarray | None  # (N,) int64, inclusive

    def __len__(self):
        return len(self.input_ids)


def answer_features(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    max_length: int = 512,
    doc_stride: int = 128,
    max_query_length: int = 64,
    training: bool = False,
    block: int = 256,
) -> Iterator[tuple[list[Example], AnswerFeatures]]:
    """Cut examples into windows that overlap by `doc_stride` pieces, `block` examples at a time, in order.

    The question is cut to `max_query_length` pieces. Unlike run_qa.py, an answer that starts on the last piece
    of its window is labelled there (that script walks on into `<sep>` and padding).

    Raises:
        DataError: a question leaves no room for its context.
        ValueError: a size is not positive.
    """
    if min(max_length, max_query_length, block) < 1 or doc_stride < 0:
        raise ValueError(f"not positive: {max_length=}, {doc_stride=}, {max_query_length=} or {block=}")
    examples, seen = iter(examples), 0
    while chunk := list(islice(examples, block)):
        rows = _windows(chunk, tokenizer, max_length, doc_stride, max_query_length, training)
        rows.example_index += seen
        seen += len(chunk)
        yield chunk, rows


def _windows(chunk, tokenizer, max_length, doc_stride, max_query_length, training) -> AnswerFeatures:
    questions = tokenizer.encode([example.question for example in chunk])
    contexts = list(dict.fromkeys(example.context for example in chunk))
    encoded = dict(zip(contexts, tokenizer.encode_offsets(contexts), strict=True))
    rows, track, index, labels = [], [], [], []
    for number, (example, question) in enumerate(zip(chunk, questions, strict=True)):
        pieces, offsets = encoded[example.context]
        head = [tokenizer.cls, *question[:max_query_length], tokenizer.sep]
        capacity = max_length - len(head) - 1
        if capacity < 1 or (len(pieces) > capacity and capacity <= doc_stride):
            raise no_room(example, len(question), max_length)
        for start in window_starts(len(pieces), capacity, max(capacity - doc_stride, 1)):
            part = slice(start, start + capacity)
            rows.append((head, [*pieces[part].tolist(), tokenizer.sep]))
            track.append((len(head), offsets[part]))
            index.append(number)
            if training:
                labels.append(label(example, offsets[part], len(head)))
    spread = np.full((len(rows), max_length, 2), -1, np.int32)
    for row, (first, part) in enumerate(track):
        spread[row, first : first + len(part)] = part
    starts, ends = np.array(labels, np.int64).reshape(-1, 2).T.copy() if training else (None, None)
    ids, mask, segments = _table(rows, tokenizer.pad, max_length)
    return AnswerFeatures(ids, mask, segments, spread, np.array(index, np.int64), starts, ends)


def label(example: Example, offsets: np.ndarray, first: int) -> tuple[int, int]:
    """Row indices of the answer's first and last piece, (0, 0) if the window does not hold it whole.

    Args:
        offsets: (n, 2) of the window's context pieces.
        first: row index of the first of them.
    """
    if example.answer_start is None or example.answer_text is None or not len(offsets):
        return 0, 0
    begin, stop = example.answer_start, example.answer_start + len(example.answer_text)
    if offsets[0, 0] > begin or offsets[-1, 1] < stop:
        return 0, 0
    start = int(np.searchsorted(offsets[:, 0], begin, side="right")) - 1
    return first + start, first + int(np.searchsorted(offsets[:, 1], stop))


def trim(columns: Mapping[str, np.ndarray], blocks: int) -> dict[str, np.ndarray]:
    """Rows cut where more padding changes nothing: behind the longest of them and 2 ** blocks tokens more.

    A text's last tokens are pooled with the padding behind them, that with the padding behind it, and so on; what
    is further away than all blocks pool together reaches no token of the text (tests/unit/test_funnel_model.py).
    Holds for [CLS] of its own and truncated sequences, as in all published models.
    """
    longest = int(columns["attention_mask"].sum(axis=1).max())
    tokens = min(columns["attention_mask"].shape[1], -(-(longest + 2**blocks) // 8) * 8)
    return {name: column[:, :tokens] if column.ndim == 2 else column for name, column in columns.items()}


def concatenate(blocks) -> tuple[list[Example], AnswerFeatures]:
    """(examples, features) of all blocks; `example_index` then indexes the examples."""
    examples, rows = zip(*blocks, strict=True)
    return list(chain.from_iterable(examples)), _joined(AnswerFeatures, rows)
