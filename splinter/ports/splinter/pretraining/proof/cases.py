"""What the steps feed to both sides of Splinter's pretraining: batches, losses, mined text, a tiny run. Numpy only."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter import datasets
from splinter.ports.common import checkpoint
from splinter.ports.common.proof import files
from splinter.ports.common.proof.recipes import unlike
from splinter.ports.common.training.schedule import Recipe
from splinter.sample import PATH as SAMPLE

from ... import data
from ...config import read_checkpoint
from .. import passages
from ..corpus import Corpus, Mining
from ..objective import RECIPE, span_accuracy

VOCABULARY = "vocab/bert-base-cased-vocab.txt"
SAMPLES = {
    "train_data": dict.fromkeys(
        ("hf", "paper"),
        (
            "sample/train",
            "sample/train whole-word",
            "sample/dev",
            "sample/dev words twice",
            "sample/dev sentences twice",
            "sample/hostile",
            "sample/hostile whole-word",
            "sample/hostile long",
            "sample/hostile pages",
            "sample/hostile books",
        ),
    )
}
REAL = {"train_data": {"hf": (), "paper": ("wiki/dev/wiki_00", "wiki/dev/wiki_00 whole-word")}}
data_sources = files.DataSources(SAMPLES, REAL, VOCABULARY)
LONGEST = 2000
"""Characters of a line of real text: where a line is longer than a passage, the two sides differ on purpose."""
ARTICLES = 60
"""Of a real file: the restatement looks at every pair of equal pieces."""


def batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Rows with several question tokens, holes (mask 0 inside the text) and unused question slots."""
    config = read_checkpoint(folder)[0]
    rng = np.random.default_rng(13)
    rows, tokens, questions = 3, 40, 5
    ids = rng.integers(120, config.vocab_size, size=(rows, tokens))
    mask = np.ones_like(ids)
    ids[:, 0], ids[:, -1] = 101, 102
    positions, start, end, weights = (np.zeros((rows, questions), dtype=np.int64) for _ in range(4))
    for row, count in enumerate((5, 2, 1)):
        at = np.sort(rng.choice(np.arange(4, tokens - 4, 3), size=count, replace=False))
        ids[row, at] = 104
        ids[row, at + 1], mask[row, at + 1] = 0, 0  # a masked span of two pieces leaves one hole
        positions[row, :count] = at
        kept = np.flatnonzero(mask[row, :28] & mask[row, 1:29])[1:]  # a span of two pieces without a hole
        start[row, :count] = rng.choice(kept, size=count)
        end[row, :count] = start[row, :count] + 1
        weights[row, :count] = 1
    ids[2, 30:], mask[2, 30:] = 0, 0
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "question_positions": positions,
        "start_positions": start,
        "end_positions": end,
        "weights": weights.astype(np.float64),
    }
    return {"questions": batch}


def loss_cases(folder: Path, mode: str) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Those of answering, with a question axis and unused slots; and a batch without any question."""
    rng = np.random.default_rng(5)
    rows, questions, tokens = 3, 6, 40

    def case(scale, used):
        logits = {n: scale * rng.standard_normal((rows, questions, tokens)) for n in ("start_logits", "end_logits")}
        weights = (np.arange(questions) < np.array(used)[:, None]).astype(np.float64)
        start = np.where(weights > 0, rng.integers(1, tokens - 1, size=(rows, questions)), 0)
        labels = {"start_positions": start, "end_positions": np.where(weights > 0, start + 1, 0), "weights": weights}
        return logits, labels

    return {"small": case(1.0, [6, 3, 1]), "beyond 64": case(100.0, [6, 3, 1]), "no question": case(1.0, [0, 0, 0])}


# -- mined text -------------------------------------------------------------------------------------------


@functools.cache
def text(name: str) -> Path:
    """A data source as a file: a hostile one as it is, else JSON lines of the contexts of a shipped file or of the
    first articles of a real one."""
    file, _, how = name.partition(" ")
    if file == "sample/hostile":
        return SAMPLE / "hostile" / (f"{how}.txt" if how in ("pages", "books") else "mining.jsonl")
    target = checkpoint.scratch("text")
    if file.startswith("sample/"):
        examples = data.read_examples(SAMPLE / f"fewshot-{file.removeprefix('sample/')}.jsonl", "hf", training=False)
        found = [list(dict.fromkeys(example.context for example in examples))]
        if how == "words twice":  # more recurs than there may be questions
            found = [[" ".join(f"{word} {word}" for word in line.split()) for line in found[0]]]
        if how == "sentences twice":  # more recurs than a span may have pieces
            found = [[". ".join(f"{part}. {part}" for part in line.split(". ")) for line in found[0]]]
    else:
        found = [document.segments for document in passages.documents(datasets.find(file))][:ARTICLES]
    lines = (json.dumps({"text": "\n".join(line for line in lines if len(line) < LONGEST)}) for lines in found)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def settings(name: str) -> tuple[Path, Mining]:
    """Vocabulary and settings that a source is mined with; two passes, so that packing is cut in two ways.

    0.15 of 97 pieces rounds to another number of questions than 0.15 of 95, which leaves out [CLS] and [SEP]; 0.15 of
    230 are more than the 30 that a passage may have.
    """
    sample = name.startswith("sample/")
    mode = "whole-word" if name.endswith("whole-word") else "paper"
    vocabulary = SAMPLE / "vocab.txt" if sample else datasets.find(VOCABULARY)
    length = 230 if name.endswith("long") else 97 if sample else 512
    return vocabulary, Mining(mode, length, passes=2, seed=3, lossless=False)


@functools.cache
def corpus(name: str) -> Corpus:
    """A data source, mined by our own code."""
    from ..mining import mine

    vocabulary, how = settings(name)
    folder = checkpoint.scratch("corpus")
    mine([str(text(name))], folder, data.Tokenizer(vocabulary, "hf", literal=True), how, size=2**40)
    return Corpus(folder)


# -- a tiny run -------------------------------------------------------------------------------------------


def recipe() -> Recipe:
    """What optimizer and schedule are aligned with; the defaults are compared by themselves."""
    return unlike(RECIPE)


def training_recipe(folder: Path) -> Recipe:
    """12 updates of 12 passages in micro-batches of 5, with the decay and the schedule of the real run."""
    rate = 1e-3 if read_checkpoint(folder)[0].hidden_size <= 64 else 1e-4
    return replace(RECIPE, batch_size=12, micro_batch=5, epochs=4, warmup=0.2, learning_rate=rate, seed=5)


def training_record(log: list[dict[str, float]], asked: Any, model: Any, dtype: str) -> dict[str, np.ndarray]:
    """What the training step compares: losses, gradient norms, span accuracy on held-out passages."""
    found = span_accuracy(asked, model, corpus("sample/dev"), model.config.question_token_id)
    curves = {name: np.array([entry[name] for entry in log], dtype=dtype) for name in ("loss", "norm")}
    return curves | {name: np.float64(value) for name, value in found.items()}
