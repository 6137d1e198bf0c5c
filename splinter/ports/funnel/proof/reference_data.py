"""Theirs, for dev_data and train_data: FunnelTokenizerFast called as transformers' scripts call it.

Shares no code with data.py: files are read with json and csv, labels found by looking at every piece. Columns
carry the names and dtypes of data.py, as dicts of numpy arrays.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
from transformers import FunnelTokenizer, FunnelTokenizerFast

LABELS = {"entailment": 0, "not_entailment": 1}
WITNESSED = 100


def _text(path) -> str:
    data = Path(path).read_bytes()
    return (gzip.decompress(data) if str(path).endswith(".gz") else data).decode("utf-8")


def _tokenizers(vocabulary):
    return FunnelTokenizerFast(str(vocabulary)), FunnelTokenizer(str(vocabulary))


def pairs(path, vocabulary, max_length: int = 128) -> dict[str, np.ndarray]:
    """A QNLI file as columns: ids, mask, segments (N, T) int64, labels (N,) int64.

    Raises:
        AssertionError: the Python tokenizer spells one of the first pairs differently.
    """
    rows = list(csv.DictReader(io.StringIO(_text(path), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    questions, sentences = [row["question"] for row in rows], [row["sentence"] for row in rows]
    fast, slow = _tokenizers(vocabulary)
    encoded = fast(
        questions,
        sentences,
        truncation=True,
        max_length=max_length,
        padding="max_length",
        return_token_type_ids=True,  # transformers 5 leaves them out
        return_tensors="np",
    )
    columns = {name: encoded[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    for row, (one, other) in enumerate(zip(questions[:WITNESSED], sentences, strict=False)):
        _witness(slow, one, other, columns, row, max_length)
    return {**columns, "labels": np.array([LABELS[row["label"]] for row in rows], np.int64)}


def _witness(slow, one, other, columns, row, length):
    """The Python tokenizer on texts where the two mean the same: printable ASCII, nothing cut."""
    if (one + other).isascii() and (one + other).isprintable():
        theirs = slow(one, other, return_token_type_ids=True)
        if len(theirs["input_ids"]) <= length:
            for name in ("input_ids", "token_type_ids"):
                assert theirs[name] == columns[name][row][: len(theirs[name])].tolist(), (name, one, other)


def questions(path) -> list[dict]:
    """The questions of a SQuAD file: id, question, context, golds, and (text, start) of the first answer or None."""
    found = []
    for article in json.loads(_text(path))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = [] if qa.get("is_impossible") else qa["answers"]
                one = {"id": qa["id"], "question": qa["question"], "context": paragraph["context"]}
                one["golds"] = [answer["text"] for answer in answers]
                one["answer"] = (answers[0]["text"], answers[0]["answer_start"]) if answers else None
                found.append(one)
    return found


def windows(
    path, vocabulary, training, limit=None, max_length=512, doc_stride=128, max_query_length=64
) -> dict[str, np.ndarray]:
    """A SQuAD file as columns, the fast tokenizer doing the windows.

    Args:
        limit: number of questions, None for all.

    Raises:
        AssertionError: the Python tokenizer spells one of the first questions differently.
    """
    examples = questions(path)[:limit]
    fast, slow = _tokenizers(vocabulary)
    asked = _cut(fast, [one["question"] for one in examples], max_query_length)
    parts = []
    for first in range(0, len(examples), 1000):  # as datasets.map does: all at once would hold gigabytes of lists
        some = examples[first : first + 1000]
        encoded = fast(
            asked[first : first + 1000],
            [one["context"] for one in some],
            truncation="only_second",
            max_length=max_length,
            stride=doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
            padding="max_length",
        )
        parts.append(_columns(encoded, some, first, training))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    firsts = np.unique(columns["example_index"], return_index=True)[1]
    for number, one in enumerate(examples[:WITNESSED]):
        _witness(slow, asked[number], one["context"], columns, firsts[number], max_length)
    return columns


def _cut(fast, questions, most):
    """Questions up to their `most`-th piece, as text."""
    encoded = fast(questions, add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for question, ids, offsets in zip(questions, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        text = question if len(ids) <= most else question[: offsets[most - 1][1]]
        if text != question:
            assert fast(text, add_special_tokens=False)["input_ids"] == ids[:most], question
        found.append(text)
    return found


def _columns(encoded, examples, first, training):
    columns = {n: np.array(encoded[n], np.int64) for n in ("input_ids", "attention_mask", "token_type_ids")}
    sample = encoded["overflow_to_sample_mapping"]
    context = [[part == 1 for part in encoded.sequence_ids(row)] for row in range(len(sample))]
    offsets = np.array(encoded["offset_mapping"], np.int32)
    columns["offsets"] = np.where(np.array(context)[:, :, None], offsets, np.int32(-1))
    columns["example_index"] = np.array(sample, np.int64) + first
    if training:
        mapped = encoded["offset_mapping"]
        ends = [_label(mapped[row], context[row], examples[number]["answer"]) for row, number in enumerate(sample)]
        columns["start_positions"], columns["end_positions"] = np.array(ends, np.int64).T.copy()
    return columns


def _label(offsets, context, answer):
    """Look at every context piece: the last that begins by the answer's first character, the first that ends after."""
    pieces = [index for index, inside in enumerate(context) if inside]
    if answer is None or not pieces:
        return 0, 0
    begin, stop = answer[1], answer[1] + len(answer[0])
    starts = [index for index in pieces if offsets[index][0] <= begin]
    ends = [index for index in pieces if offsets[index][1] >= stop]
    return (starts[-1], ends[0]) if starts and ends else (0, 0)
