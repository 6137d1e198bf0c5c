"""The reference side of the data steps: monologg/JointBERT's processing restated sentence by sentence.

On transformers' Python BertTokenizer, plain lists and loops; shares no code with data.py.
"""

from functools import cache
from pathlib import Path

import numpy as np


@cache
def _tokenizer(vocabulary):
    from transformers import BertTokenizer

    return BertTokenizer(str(vocabulary), do_lower_case=True)


@cache
def _pieces(vocabulary, word):
    tokenizer = _tokenizer(vocabulary)
    return tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word) or [tokenizer.unk_token])


def _read(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file]


def built_labels(folder):
    """What monologg's vocab_process writes for a corpus folder: its intents and its slots, from train alone."""
    intents = ["UNK", *sorted(set(_read(Path(folder, "train", "label"))))]
    seen = set()
    for line in _read(Path(folder, "train", "seq.out")):
        for slot in line.split():
            seen.add(slot)
    return intents, ["PAD", "UNK", *sorted(seen, key=lambda slot: (slot[2:], slot[:2]))]


def labels(folder):
    """The label files of a corpus folder."""
    return _read(Path(folder, "intent_label.txt")), _read(Path(folder, "slot_label.txt"))


def features(folder, split, vocabulary, max_length=50):
    """The five columns of one part of a corpus, int64."""
    intents, slots = labels(folder)
    part = Path(folder, split)
    tokenizer = _tokenizer(vocabulary)
    names = ("input_ids", "attention_mask", "token_type_ids", "slot_labels", "intent_labels")
    columns: dict[str, list] = {name: [] for name in names}
    for text, tags, intent in zip(_read(part / "seq.in"), _read(part / "seq.out"), _read(part / "label"), strict=True):
        ids, slot_ids = [], []
        for word, tag in zip(text.split(), tags.split(), strict=True):
            pieces = _pieces(vocabulary, word)
            ids.extend(pieces)
            slot_ids.append(slots.index(tag) if tag in slots else slots.index("UNK"))
            slot_ids.extend([0] * (len(pieces) - 1))
        ids, slot_ids = ids[: max_length - 2], slot_ids[: max_length - 2]
        ids = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        slot_ids = [0, *slot_ids, 0]
        padding = max_length - len(ids)
        columns["input_ids"].append(ids + [tokenizer.pad_token_id] * padding)
        columns["attention_mask"].append([1] * len(ids) + [0] * padding)
        columns["token_type_ids"].append([0] * max_length)
        columns["slot_labels"].append(slot_ids + [0] * padding)
        columns["intent_labels"].append(intents.index(intent) if intent in intents else intents.index("UNK"))
    return {name: np.array(rows, dtype=np.int64) for name, rows in columns.items()}
