"""What the eleven steps feed to both sides of the multi-task model: checkpoints, batches, logits, files. Numpy only."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter import datasets
from splinter.ports.common import checkpoint
from splinter.ports.common.proof import files
from splinter.ports.common.proof.recipes import unlike
from splinter.ports.common.training.schedule import Recipe
from splinter.sample import PATH as SAMPLE

from ..config import MODES, RATES, RECIPE, TASKS, MultitaskConfig, read_checkpoint, shapes, write_companions
from ..data import NAMES, PREFIXES, Dataset, Tokens
from ..feed import MixedFeed, steps_of_an_epoch

Arrays = Mapping[str, np.ndarray]
VOCABULARY = "vocab/bert-base-uncased-vocab.txt"

# no field at its default, no two of a kind alike: one that is ignored, or taken for another, changes a number. The
# epsilon is a power of 2, which Paddle's float32 holds exactly
TINY = MultitaskConfig(
    vocab_size=2048,
    hidden_size=60,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=112,
    hidden_act="gelu_pytorch_tanh",
    hidden_dropout_prob=0.15,
    attention_probs_dropout_prob=0.25,
    max_position_embeddings=64,
    type_vocab_size=3,
    initializer_range=0.05,
    layer_norm_eps=2.0**-15,
    head_dropout_prob=0.35,
)
BASE = MultitaskConfig()


# -- checkpoints ------------------------------------------------------------------------------------------


def write_random(folder: Path, config: MultitaskConfig, seed: int, vocabulary: Path | None, std: float = 0.02) -> Path:
    """A checkpoint of random weights with the heads of both designs.

    Args:
        std: of the dense matrices; BERT's 0.02 fits its width, a narrow model needs more to be alive.
    """
    sizes = {name: shape for design in MODES for name, shape in shapes(replace(config, design=design)).items()}

    def scaled(name: str, values: np.ndarray) -> np.ndarray:
        if name.startswith("bert.") or name.endswith("bias"):
            return files.bert_like(name, values, std)
        return values * np.float32(1.5 / np.sqrt(sizes[name][1]))

    files.write_random(folder, sizes, seed, scaled, vocabulary)
    write_companions(folder, config, None)
    return folder


@functools.cache
def tiny() -> Path:
    """The embedded checkpoint: 2 layers, width 60, the shipped vocabulary, seed 0."""
    return write_random(checkpoint.scratch("multitask-tiny"), TINY, seed=0, vocabulary=SAMPLE / "vocab.txt", std=0.15)


@functools.cache
def tiny_options() -> Path:
    """The other value of every option of the heads."""
    config = replace(TINY, pooling="cls", head_activation="none", pair_features="compare")
    return write_random(checkpoint.scratch("multitask-options"), config, seed=0, vocabulary=None, std=0.15)


@functools.cache
def base() -> Path:
    """Random weights at base size."""
    vocabulary = files.vocabulary_or_none(VOCABULARY)
    return write_random(checkpoint.scratch("multitask-base"), BASE, seed=0, vocabulary=vocabulary)


# -- batches ----------------------------------------------------------------------------------------------


def _sentences(rng: np.random.Generator, lengths: list[int], vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and mask (B, T): [CLS], random pieces, [SEP], padding to the longest."""
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.integers(104, vocabulary, size=length)
        ids[row, 0], ids[row, length - 1] = 101, 102
    return ids, (np.arange(ids.shape[1]) < np.array(lengths)[:, None]).astype(np.int64)


def _task(rng: np.random.Generator, task: str, lengths: list[list[int]], vocabulary: int) -> dict[str, np.ndarray]:
    """The columns of one task; `lengths` of each side."""
    rows = len(lengths[0])
    batch: dict[str, np.ndarray] = {}
    for prefix, some in zip(PREFIXES[task], lengths, strict=True):
        names = (f"{task}/{prefix}{name}" for name in ("input_ids", "attention_mask"))
        batch.update(zip(names, _sentences(rng, some, vocabulary), strict=True))
    if task == "similarity":
        return {**batch, f"{task}/labels": np.round(rng.uniform(0, 5, rows), 2).astype(np.float32)}
    return {**batch, f"{task}/labels": rng.integers(0, 5 if task == "sentiment" else 2, rows)}


def _joint(
    rng: np.random.Generator, vocabulary: int, sentiment: list[int], first: list[int], second: list[int], size: int = 0
) -> dict[str, np.ndarray]:
    batch: dict[str, np.ndarray] = {"batch_size": np.array(size or len(first))}
    for task in TASKS:
        batch |= _task(rng, task, [sentiment] if task == "sentiment" else [first, second], vocabulary)
    return batch


def batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Input batches for forward and backward, labels included: an ordinary one and hostile ones.

    `joint` has pairs of very different length; in `one side` only the second sentences are padded; `empty` holds
    sentences that are nothing but [CLS][SEP]; `single` is a batch of one; `last` is smaller than its nominal size;
    in `equal` both sides and all rows are the same; then each task alone.
    """
    config = read_checkpoint(folder)[0]
    rng, vocabulary = np.random.default_rng(7), config.vocab_size
    longest = min(config.max_position_embeddings, 128)
    made = {
        "joint": _joint(rng, vocabulary, [longest, 5, 17, 9], [longest, 3, 8, 20], [4, longest - 1, 30, 7]),
        "one side": _joint(rng, vocabulary, [12] * 3, [11] * 3, [6, 25, 13]),
        "empty": _joint(rng, vocabulary, [2, 9], [2, 2], [15, 2]),
        "single": _joint(rng, vocabulary, [14], [10], [23]),
        "last": _joint(rng, vocabulary, [6, 19, 8], [9, 4, 12], [16, 7, 5], size=8),
    }
    equal = _joint(rng, vocabulary, [10] * 3, [13] * 3, [13] * 3)
    for name in equal:
        if name.endswith("input_ids"):
            equal[name] = np.repeat(equal[name.replace("/b_", "/a_")][:1], 3, axis=0)
    made["equal"] = equal
    for task in TASKS:
        alone = {n: a for n, a in made["joint"].items() if n.startswith(f"{task}/")}
        made[f"{task} alone"] = {"batch_size": np.array(4), **alone}
    return made


def texts(batch: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Ids and mask of each text of a batch: "sentiment/" has one, "similarity/a_" and "similarity/b_" are a pair."""
    prefixes = [f"{task}/{prefix}" for task in TASKS for prefix in PREFIXES[task]]
    return {prefix: (batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]) for prefix in prefixes}


def train_batches(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    """Twenty joint batches for the updates of the backward step (three at base size: each costs seconds)."""
    config = read_checkpoint(folder)[0]
    small = config.hidden_size < 256
    rng = np.random.default_rng(11)
    made = []
    for number in range(20 if small else 3):
        rows = 3 if number % 5 == 4 else 4  # the last batch of a pass is smaller
        sentiment, first, second = (rng.integers(2, 25, rows).tolist() for _ in range(3))
        made.append(_joint(rng, config.vocab_size, sentiment, first, second, size=4))
    return made


def task_batches(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    """Six batches for updates that see one task each: what the others alone use has no gradient then."""
    made = train_batches(folder, mode)
    turns = zip(made[2:8], TASKS * 2, strict=True)  # among them a batch that is smaller than its nominal size
    return [{n: a for n, a in batch.items() if n.startswith((task, "batch_size"))} for batch, task in turns]


def readout(outputs: Arrays, batch: Arrays) -> dict[str, np.ndarray]:
    """The outputs, and the classes they mean."""
    read = dict(outputs)
    for task in ("sentiment", "paraphrase"):
        if task in outputs:
            logits = outputs[task]
            read[f"class of {task}"] = logits.argmax(axis=-1) if logits.ndim == 2 else (logits > 0).astype(np.int64)
    return read


# -- losses -----------------------------------------------------------------------------------------------


def loss_cases(folder: Path, mode: str) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Injected outputs and labels: small, large (beyond -64), ties, one row, a smaller last batch, each task alone."""
    rng = np.random.default_rng(3)

    def case(scale: float, rows: int = 8, size: int = 8, ties: bool = False, tasks: tuple[str, ...] = TASKS):
        shape = {
            "sentiment": (rows, 5),
            "paraphrase": (rows, 2) if mode == "version2" else (rows,),
            "similarity": (rows,),
        }
        outputs = {task: scale * rng.standard_normal(shape[task]) for task in tasks}
        if ties:
            outputs = {task: np.full_like(a, 1.5) for task, a in outputs.items()}
        labels = {
            "sentiment/labels": rng.integers(0, 5, rows),
            "paraphrase/labels": rng.integers(0, 2, rows),
            "similarity/labels": np.round(rng.uniform(0, 5, rows), 1).astype(np.float32),
        }
        kept = {name: labels[name] for task in tasks for name in labels if name.startswith(task)}
        return outputs, {"batch_size": np.array(size), **kept}

    made = {
        "small": case(1.0),
        "large": case(30.0),
        "beyond 64": case(200.0),
        "ties": case(1.0, ties=True),
        "one row": case(2.0, rows=1, size=1),
        "last batch": case(1.0, rows=3),
    }
    return made | {f"{task} alone": case(2.0, tasks=(task,)) for task in TASKS}


# -- files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One file as model input: of which task, with which vocabulary, cut to how many pieces."""

    path: Path
    task: str
    vocabulary: Path
    longest: int


SHORT = 12
"""Pieces in the sources called `short`: most sentences are cut."""
COLLATED = 64
"""Rows of a padded batch in the data steps."""

HOW = {"dev": ("", " short"), "train": (" other",)}
"""How a data step reads the hostile pages."""
SAMPLES = {
    f"{part}_data": dict.fromkeys(
        MODES,
        (
            *(f"sample/{task}-{part}{cut}" for task in TASKS for cut in ("", " short")),
            *(f"sample/hostile/{task}{how}" for task in TASKS for how in HOW[part]),
        ),
    )
    for part in ("dev", "train")
}
REAL: dict[str, dict[str, tuple[str, ...]]] = {
    # text becomes the same arrays in either design: once is enough
    "dev_data": {
        "version1": (),
        "version2": (
            "cs224n/ids-sst-dev.csv",
            "cs224n/quora-dev.csv",
            "cs224n/sts-dev.csv",
            "cs224n/ids-cfimdb-dev.csv",
        ),
    },
    "train_data": {
        "version1": (),
        "version2": ("cs224n/ids-sst-train.csv", "cs224n/quora-train-subset.csv", "cs224n/sts-train.csv"),
    },
}

data_sources = files.DataSources(SAMPLES, REAL, VOCABULARY)


def source(name: str) -> Source:
    """What a data source's name stands for: a file, then `short`, or `other` for another vocabulary."""
    if name.startswith("sample/hostile/"):
        task, _, how = name.removeprefix("sample/hostile/").partition(" ")
        vocabulary = SAMPLE / ("hostile/vocab.txt" if how == "other" else "vocab.txt")
        return Source(SAMPLE / f"hostile/{task}.csv", task, vocabulary, SHORT if how == "short" else 512)
    if name.startswith("sample/"):
        stem, _, short = name.removeprefix("sample/").partition(" ")
        task, _, split = stem.partition("-")
        path = SAMPLE / "multitask" / f"{NAMES['sst' if task == 'sentiment' else task]}-{split}.csv"
        return Source(path, task, SAMPLE / "vocab.txt", SHORT if short else 512)
    task = "paraphrase" if "quora" in name else "similarity" if "sts" in name else "sentiment"
    return Source(datasets.find(name), task, datasets.find(VOCABULARY), 512)


def text_columns(task: str, ids: Sequence[str], texts: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Names of rows, and a checksum of each cleaned text: word pieces are blind to most of the cleaning."""
    sums = {
        f"{prefix}text": np.array([zlib.crc32(text.encode()) for text in some])
        for prefix, some in zip(PREFIXES[task], texts, strict=True)
    }
    return {"ids": np.array(ids), **sums}


def collated(rows: int) -> list[np.ndarray]:
    """Row numbers of the batches that the data steps compare padded: the first four and the last of a file."""
    batches = [np.arange(begin, min(begin + COLLATED, rows)) for begin in range(0, rows, COLLATED)]
    return [*batches[:4], *batches[4:][-1:]]


def dataset(task: str, columns: Arrays) -> Dataset:
    """A data source's columns, of either side, as the container that a feed reads."""
    sides = []
    for prefix in PREFIXES[task]:
        starts = np.concatenate([[0], np.cumsum(columns[f"{prefix}lengths"])])
        sides.append(Tokens(columns[f"{prefix}flat"], starts, 0))
    return Dataset(task, columns["ids"].tolist(), tuple(sides), columns["labels"])


# -- training ---------------------------------------------------------------------------------------------

ROWS = {"sentiment": 60, "paraphrase": 35, "similarity": 13}
"""First rows of the shipped files, so many that a task's size matters."""


def recipe(phase: str = "finetune") -> Recipe:
    """What optimizer and schedule of a phase are aligned with; the defaults are compared by themselves."""
    return unlike(replace(RECIPE, learning_rate=RATES[phase]))


def training_recipe(folder: Path) -> Recipe:
    """A short run; steps large enough that the tiny model really learns in them."""
    small = read_checkpoint(folder)[0].hidden_size < 256
    return replace(RECIPE, learning_rate=1e-3, epochs=3) if small else replace(RECIPE, epochs=1, max_steps=2)


def sampling(frozen: bool) -> tuple[str, float]:
    """How a training mixes its tasks, and the power of their sizes: all in each update, or one of them in turn."""
    return ("proportional", 0.3) if frozen else ("joint", 0.5)


def training_feed(folder: Path, columns: Callable[[str], Arrays], frozen: bool) -> MixedFeed:
    """Our feed of the first rows of the shipped training files."""
    sets = {task: dataset(task, columns(f"sample/{task}-train")).first(rows) for task, rows in ROWS.items()}
    hyper = training_recipe(folder)
    return MixedFeed(sets, hyper, steps_of_an_epoch(sets, hyper.batch_size), *sampling(frozen))


def training_record(
    log: list[dict[str, float]], outputs: Arrays, scores: Mapping[str, float], dtype: str
) -> dict[str, np.ndarray]:
    """What the training step compares: the curve, the dev outputs of every task, and the scores."""
    record = {name: np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}
    record |= {f"dev {task}": np.asarray(array, dtype) for task, array in outputs.items()}
    return record | {f"score of {task}": np.asarray(value, dtype) for task, value in scores.items()}


# -- metric -----------------------------------------------------------------------------------------------


def metric_cases(mode: str) -> dict[str, str | None]:
    """Injected outputs and labels; none needs a file."""
    return dict.fromkeys(METRIC)


def predictions(case: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Task, outputs and labels of a metric case."""
    rng = np.random.default_rng(17)
    return METRIC[case](rng)


def _classes(rng: np.random.Generator, rows: int, classes: int, ties: bool = False) -> Any:
    logits = rng.normal(0, 2, (rows, classes)).astype(np.float32)
    logits = np.round(logits) if ties else logits
    return ("sentiment" if classes == 5 else "paraphrase"), logits, rng.integers(0, classes, rows)


def _one_logit(rng: np.random.Generator) -> Any:
    # halves: many logits are 0, whose sigmoid of 0.5 rounds to the even 0
    return "paraphrase", (rng.integers(-3, 4, 500) / 2).astype(np.float32), rng.integers(0, 2, 500)


def _missing_class(rng: np.random.Generator) -> Any:
    logits = rng.normal(0, 1, (200, 5)).astype(np.float32)
    logits[:, 3] -= 100  # never predicted, and class 4 is in no label
    return "sentiment", logits, rng.integers(0, 4, 200)


def _one_class(rng: np.random.Generator) -> Any:
    return "paraphrase", np.array([[1.0, -1.0]] * 64, np.float32), rng.integers(0, 2, 64)


def _edges(rng: np.random.Generator) -> Any:
    logits = np.array([0.0, -0.0, 1e-3, -1e-3, 700.0, -700.0] * 8, np.float32)
    return "paraphrase", logits, rng.integers(0, 2, len(logits))


def _scores(rng: np.random.Generator, scale: float = 1.0, shift: float = 0.0) -> Any:
    labels = np.round(rng.uniform(0, 5, 863), 1).astype(np.float32)
    return "similarity", (scale * (labels + rng.normal(0, 2, 863)) + shift).astype(np.float32), labels


METRIC: dict[str, Callable[[np.random.Generator], Any]] = {
    "five classes": lambda rng: _classes(rng, 1101, 5),
    "two classes": lambda rng: _classes(rng, 2000, 2),
    "ties": lambda rng: _classes(rng, 400, 5, ties=True),
    "two ties": lambda rng: _classes(rng, 400, 2, ties=True),
    "one logit": _one_logit,
    "a class that is missing": _missing_class,
    "edges of one logit": _edges,
    "all right": lambda rng: ("sentiment", np.eye(5, dtype="f4"), np.arange(5)),
    "nothing right": lambda rng: ("sentiment", np.eye(5, dtype="f4"), np.roll(np.arange(5), 1)),
    "one class for all": _one_class,
    "one row": lambda rng: _classes(rng, 1, 5),
    "scores": _scores,
    "negative": lambda rng: _scores(rng, scale=-0.3),
    "far from zero": lambda rng: _scores(rng, shift=1e4),
    "tiny": lambda rng: _scores(rng, scale=1e-20),
    "two rows": lambda rng: ("similarity", np.array([1, 2], "f4"), np.array([5, 0], "f4")),
    "all but the last constant": lambda rng: ("similarity", np.eye(20, dtype="f4")[-1], rng.uniform(0, 5, 20)),
    "perfect": lambda rng: ("similarity", np.arange(7, dtype="f4"), np.arange(7, dtype="f4") / 3),
    "perfectly wrong": lambda rng: ("similarity", np.arange(7, dtype="f4"), -np.arange(7, dtype="f4") / 3),
    "constant scores": lambda rng: ("similarity", np.full(20, 2.5, np.float32), rng.uniform(0, 5, 20).astype("f4")),
    "constant labels": lambda rng: ("similarity", rng.uniform(0, 5, 20).astype("f4"), np.full(20, 2.5, np.float32)),
}


def metric_record(task: str, predicted: np.ndarray, found: Mapping[str, float]) -> dict[str, np.ndarray]:
    """What the metric step compares. A correlation is kept to 12 digits: scipy's own order of additions is not
    the same in all versions, and moves the last two."""
    record = {} if task == "similarity" else {"classes": predicted.astype(np.int64)}
    for name, value in found.items():
        record[f"{name} is nan"] = np.asarray(np.isnan(value))
        record[name] = np.float64(0.0 if np.isnan(value) else round(value, 12) if name == "pearson" else value)
    return record
