"""Theirs, for dev_data and train_data: the skeleton's reading restated, and transformers' Python BertTokenizer; for
training, which rows each update sees.

Shares no code with data.py and feed.py. Source: minBERT default final project, datasets.py (load_multitask_data,
preprocess_string and the collate functions of its datasets).
"""

import csv
import gzip
from functools import cache

import numpy as np
from transformers import BertTokenizer

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


def mixed(files, rows, recipe, sampling, alpha):
    """The batches of a run; a file that is used up begins again, shuffled anew.

    Args:
        files: task -> what `columns` found, in the order of the tasks.
        rows: task -> how many of its first rows are read.
        sampling: "joint" = each update sees one batch of every task; else of one task, drawn with odds of its number
            of rows to the power of alpha.

    Yields:
        Padded ids and masks of each task and side, labels, and the nominal size of a batch.
    """
    size = recipe.batch_size
    steps = -(-rows["sentiment"] // size)  # an epoch is one pass over the sentiment data
    odds = np.array([rows[task] ** alpha for task in files])
    turns = []
    for epoch in range(recipe.epochs):
        drawn = np.random.default_rng((recipe.seed, 1, epoch)).choice(list(files), steps, p=odds / odds.sum())
        turns += [list(files)] * steps if sampling == "joint" else [[task] for task in drawn.tolist()]
    used = dict.fromkeys(files, 0)
    for tasks in turns[: recipe.max_steps or None]:
        batch = {"batch_size": np.array(size)}
        for task in tasks:
            passes, place = divmod(used[task], -(-rows[task] // size))
            used[task] += 1
            order = np.random.default_rng((recipe.seed, 2, list(files).index(task), passes)).permutation(rows[task])
            chosen, found = order[place * size : (place + 1) * size], files[task]
            for side in ("",) if task == "sentiment" else ("a_", "b_"):
                texts = np.split(found[f"{side}flat"], np.cumsum(found[f"{side}lengths"])[:-1])
                widest = max(len(texts[i]) for i in chosen)
                for name, fill in (("input_ids", lambda text: text), ("attention_mask", np.ones_like)):
                    padded = [np.pad(fill(texts[i]), (0, widest - len(texts[i]))) for i in chosen]
                    batch[f"{task}/{side}{name}"] = np.stack(padded).astype(np.int64)
            batch[f"{task}/labels"] = found["labels"][chosen]
        yield batch


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
