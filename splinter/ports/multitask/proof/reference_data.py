"""Theirs, for dev_data and train_data: the skeleton's reading restated, and transformers' Python BertTokenizer; for
training, which rows each update sees.

Shares no code with data.py and feed.py. Source: minBERT default final project, datasets.py (load_multitask_data,
preprocess_string and the collate functions of its datasets).
"""

import csv
import gzip
import itertools
from functools import cache

import numpy as np
from transformers import BertTokenizer

TASKS = ("sentiment", "paraphrase", "similarity")
PYTHON = hasattr(BertTokenizer, "_tokenize")
"""Since transformers 5.0 the class of that name is the fast tokenizer, which needs no help."""


class ByWords(BertTokenizer):
    """The Python tokenizer, which spells each word and looks up each piece once: whole files have a million of them.

    What stands between two blanks is spelt alone there, too. The rows that `columns` pads are left to the original.
    """

    def __init__(self, *arguments, **more):
        self._spell = cache(super()._tokenize)
        self._convert_token_to_id_with_added_voc = cache(super()._convert_token_to_id_with_added_voc)
        super().__init__(*arguments, **more)

    def _tokenize(self, text, split_special_tokens=False):
        return [piece for word in text.split(" ") for piece in self._spell(word, split_special_tokens)]


def columns(path, task, vocabulary, longest, collated):
    """A file as columns.

    Args:
        path: a course file, plain or .gz.
        task: sentiment, paraphrase or similarity.
        vocabulary: vocab.txt.
        longest: pieces of a sentence, with [CLS] and [SEP].
        collated: number of rows -> lists of row numbers, each compared as a padded batch.

    Returns:
        names of rows, texts of each side, and a dict of flat ids and lengths of each side, labels, padded batches.
    """
    tokenizer, by_words = (
        kind(str(vocabulary), do_lower_case=True) for kind in (BertTokenizer, ByWords if PYTHON else BertTokenizer)
    )
    if task == "sentiment":
        rows = _sentences(path)
        sides = {"": [row[1] for row in rows]}
    else:
        rows = _pairs(path, task)
        sides = {"a_": [row[1] for row in rows], "b_": [row[2] for row in rows]}
    labels = np.array([row[-1] for row in rows], np.float32 if task == "similarity" else np.int64)
    found: dict = {}
    for side, texts in sides.items():
        ids = by_words(texts, truncation=True, max_length=longest)["input_ids"]
        found[f"{side}flat"] = np.array([number for one in ids for number in one], np.int32)
        found[f"{side}lengths"] = np.array([len(one) for one in ids], np.int64)
    found["labels"] = labels
    for number, some in enumerate(collated(len(rows))):
        for side, texts in sides.items():
            chosen = [texts[i] for i in some]
            padded = tokenizer(chosen, return_tensors="pt", padding=True, truncation=True, max_length=longest)
            for name in ("input_ids", "attention_mask"):
                found[f"batch {number}/{task}/{side}{name}"] = padded[name].numpy()
        found[f"batch {number}/{task}/labels"] = labels[list(some)]
    return [row[0] for row in rows], list(sides.values()), found


def _records(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") if str(path).endswith(".gz") else open(path) as file:
        yield from csv.DictReader(file, delimiter="\t")


def _sentences(path):
    found = []
    for record in _records(path):
        text = record["sentence"].lower().strip()
        found.append((record["id"].lower().strip(), text, int(record["sentiment"].strip())))
    return found


def _pairs(path, task):
    found = []
    for record in _records(path):
        try:
            label = int(float(record["is_duplicate"])) if task == "paraphrase" else float(record["similarity"])
        except ValueError:
            continue  # as theirs does, without a word
        sides = [_spaced(record[f"sentence{i}"]) for i in (1, 2)]
        found.append((record["id"].lower().strip(), *sides, label))
    return found


def _spaced(text):
    return " ".join(text.lower().replace(".", " .").replace("?", " ?").replace(",", " ,").replace("'", " '").split())


def batches(files, counts, recipe, sampling, alpha):
    """The batches of a run, restated in the plainest way: each task's rows, pass after pass, and whose turn it is.

    Args:
        files: task -> what `columns` found, in the order of the tasks.
        counts: task -> how many of its first rows are read; an epoch is one pass over those of sentiment.
        sampling: "joint" = every update sees a batch of each task; else one task, drawn with the odds size ** alpha.

    Yields:
        Padded ids and masks of each task and side, labels, and the nominal size of a batch.
    """
    steps = -(-counts["sentiment"] // recipe.batch_size)
    updates = min(recipe.epochs * steps, recipe.max_steps or recipe.epochs * steps)
    turns = [list(files)] * updates
    if sampling != "joint":
        odds, drawn = np.array([counts[task] ** alpha for task in files]), []
        for epoch in range(recipe.epochs):
            generator = np.random.default_rng((recipe.seed, 1, epoch))
            drawn += generator.choice(list(files), steps, p=odds / odds.sum()).tolist()
        turns = [[task] for task in drawn[:updates]]
    rows = {task: _rows(counts[task], TASKS.index(task), recipe) for task in files}
    for tasks in turns:
        batch = {"batch_size": np.array(recipe.batch_size)}
        for task in tasks:
            batch |= _batch(files[task], task, next(rows[task]))
        yield batch


def _rows(count, task, recipe):
    """A task's batches of rows, pass after pass, each in an order of its own; the last of a pass may be smaller."""
    for turn in itertools.count():
        order = np.random.default_rng((recipe.seed, 2, task, turn)).permutation(count).tolist()
        yield from (order[begin : begin + recipe.batch_size] for begin in range(0, count, recipe.batch_size))


def _batch(found, task, rows):
    """ids, mask and labels of some rows, each text padded to its longest."""
    batch = {f"{task}/labels": found["labels"][rows]}
    for side in ("",) if task == "sentiment" else ("a_", "b_"):
        ends = np.cumsum(found[f"{side}lengths"])
        texts = [found[f"{side}flat"][ends[row] - found[f"{side}lengths"][row] : ends[row]] for row in rows]
        longest = max(len(text) for text in texts)
        batch[f"{task}/{side}input_ids"] = np.array([[*text, *[0] * (longest - len(text))] for text in texts])
        masks = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
        batch[f"{task}/{side}attention_mask"] = np.array(masks)
    return batch
