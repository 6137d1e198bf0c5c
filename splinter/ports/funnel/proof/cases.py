"""What the eleven steps feed to both sides of Funnel: checkpoints, batches, logits, files. Numpy only."""

from __future__ import annotations

import functools
from collections.abc import Mapping
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

from .. import data
from ..config import PUBLISHED, RECIPES, FunnelConfig, read_checkpoint, shapes, write_companions

Arrays = Mapping[str, np.ndarray]
VOCABULARY = "vocab/bert-base-uncased-vocab.txt"

# no field at its default, no two of a kind alike: one that is ignored, or taken for another, changes a number. The
# epsilon is a power of 2, which Paddle's float32 holds exactly
TINY = FunnelConfig(
    vocab_size=2048,
    block_sizes=(2, 1, 2),
    block_repeats=(1, 2, 1),
    d_model=32,
    n_head=3,
    d_head=10,
    d_inner=56,
    hidden_act="gelu",
    hidden_dropout=0.15,
    attention_dropout=0.25,
    activation_dropout=0.2,
    initializer_range=0.07,
    layer_norm_eps=2.0**-15,
)


FACTORIZED: dict[str, dict[str, Any]] = {
    "classification": {"separate_cls": False},
    "answering": {"truncate_seq": False, "pool_q_only": False},
}
OPTIONS: dict[str, dict[str, Any]] = {"answering": {"pooling_type": "max", "separate_cls": False}}
"""Mode -> fields that its models change, so that with PORT's own every value of every option is in some mode; the
decoder, which answering alone has, spreads the tokens in each of its three ways."""


# -- checkpoints ------------------------------------------------------------------------------------------


def write_random(folder: Path, config: FunnelConfig, seed: int, vocabulary: Path | None, logits: float) -> Path:
    """A checkpoint of random weights with decoder and both heads.

    Nothing is zero or one as a fresh model would have it, and the relative terms are large enough to matter
    beside the content: a swapped, dropped or untransposed tensor shows.

    Args:
        logits: rough size that logits reach.
    """
    sizes = shapes(config, "tasks")
    head = np.float32(logits / config.d_model**0.5)

    def scaled(name: str, values: np.ndarray) -> np.ndarray:
        leaf = name.rpartition(".")[2]
        if "layer_norm.weight" in name:
            return 1 + 0.1 * values
        if leaf == "bias":
            return 0.1 * values
        if "embeddings" in name:
            return values
        if leaf in ("r_w_bias", "r_r_bias", "r_s_bias", "seg_embed"):
            return 0.5 * values
        if name.startswith(("classifier.linear_out", "qa_outputs")):
            return values * head
        # keeps the size of what goes through: a row sums `inputs` products
        inputs = sizes[name][0] if leaf == "r_kernel" else sizes[name][1]
        return values * np.float32(1 / inputs**0.5)

    files.write_random(folder, sizes, seed, scaled, vocabulary)
    write_companions(folder, config, "answering", None)
    return folder


@functools.cache
def tiny() -> Path:
    """The embedded checkpoint: three blocks of width 32, the second repeated, the shipped vocabulary, seed 0."""
    return write_random(
        checkpoint.scratch("funnel-tiny"), TINY, seed=0, vocabulary=vocabulary(SAMPLE / "vocab.txt"), logits=4.0
    )


@functools.cache
def tiny_factorized() -> Path:
    """Factorized relative attention, and other values of what `TINY` leaves as published, or must."""
    config = replace(
        TINY, attention_type="factorized", hidden_act="gelu_new", num_decoder_layers=1, initializer_std=0.3
    )
    return write_random(checkpoint.scratch("funnel-factorized"), config, seed=0, vocabulary=None, logits=4.0)


@functools.cache
def base() -> Path:
    """Random weights in the layout of funnel-transformer/small."""
    return write_random(checkpoint.scratch("funnel-base"), PUBLISHED["small"], seed=0, vocabulary=None, logits=4.0)


@functools.cache
def vocabulary(bert: Path) -> Path:
    """Funnel's vocabulary made from a BERT vocabulary file."""
    folder = checkpoint.scratch("funnel-vocabulary")
    folder.mkdir(parents=True)
    return data.write_vocabulary(bert, folder / checkpoint.VOCABULARY)


# -- batches ----------------------------------------------------------------------------------------------


def _rows(rng: np.random.Generator, lengths: list[int], tokens: int, config: FunnelConfig, mode: str):
    """Rows of <cls> A <sep> B <sep> padding with random pieces, and labels for the mode."""
    ids = np.zeros((len(lengths), tokens), dtype=np.int64)
    segments, mask = np.zeros_like(ids), np.zeros_like(ids)
    for row, length in enumerate(lengths):
        first = int(rng.integers(2, max(3, length // 2)))
        ids[row, :length] = rng.integers(120, config.vocab_size, size=length)
        ids[row, [0, first, length - 1]] = (101, 102, 102)
        segments[row, first + 1 : length] = 1
        segments[row, 0] = 2
        mask[row, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    if mode == "classification":
        return {**batch, "labels": rng.integers(0, config.num_labels, size=len(lengths))}
    start = rng.integers(0, np.array(lengths) - 2)
    return {**batch, "start_positions": start, "end_positions": start + 2}


def batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Input batches for forward and backward: an ordinary one and hostile ones, labels included.

    `padded` has rows of very different length, one of five tokens among padding; `odd` and `shortest` have
    lengths that leave a token over at every pooling; `single` is a batch of one without padding; `segments` has
    rows of one segment only and a [CLS] that is not of segment 2; `labels` has labels to clamp and to ignore.
    """
    config = read_checkpoint(folder)[0]
    rng = np.random.default_rng(7)
    tokens = 31 if config.d_model < 256 else 127
    made = {
        "padded": _rows(rng, [tokens, tokens - 1, tokens // 2, 5], tokens, config, mode),
        "odd": _rows(rng, [9, 8, 7], 9, config, mode),
        "thirteen": _rows(rng, [13, 12, 6], 13, config, mode),
        "shortest": _rows(rng, [5, 5, 4], 5, config, mode),
        "even": _rows(rng, [16, 10], 16, config, mode),
        "single": _rows(rng, [13], 13, config, mode),
        "segments": _rows(rng, [17, 17, 17], 18, config, mode),
        "labels": _rows(rng, [21, 20, 11], 21, config, mode),
    }
    made["segments"]["token_type_ids"][:2] = [[0] * 18, [1] * 18]
    made["segments"]["token_type_ids"][2, 0] = 0
    for name in data.TARGETS[mode]:
        made["labels"][name][0] = -100 if mode == "classification" else 21
    if mode == "answering":
        made["labels"]["start_positions"][1] = -3
    return made


def few_batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Those in which a token is left over at one pooling, at none, at all; and rows too short to be pooled twice."""
    made = batches(folder, mode)
    kept = {name: made[name] for name in ("padded", "even", "thirteen", "segments")}
    return kept | {"short": _rows(np.random.default_rng(9), [3, 3, 3], 3, read_checkpoint(folder)[0], mode)}


def train_batches(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    """Twenty batches for the updates of the backward step (three at base size: each costs seconds)."""
    config = read_checkpoint(folder)[0]
    small = config.d_model < 256
    rng = np.random.default_rng(11)
    tokens = 24 if small else 64
    lengths = [rng.integers(8, tokens + 1, size=4).tolist() for _ in range(20 if small else 3)]
    return [_rows(rng, some, tokens, config, mode) for some in lengths]


def readout(outputs: Arrays, batch: Arrays) -> dict[str, np.ndarray]:
    """The outputs to compare, those of padding included (nothing is filled), and the predicted positions."""
    return {**outputs, **{f"argmax of {name}": array.argmax(axis=-1) for name, array in outputs.items()}}


# -- losses -----------------------------------------------------------------------------------------------


def loss_cases(folder: Path, mode: str) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Injected logits and labels: small and large, beyond -64, clamped, ignored, all ignored, batch of one."""
    rng = np.random.default_rng(3)
    return _class_cases(rng) if mode == "classification" else _span_cases(rng)


def _class_cases(rng: np.random.Generator):
    def case(scale, rows=12, classes=2, labels=None):
        logits = {"logits": scale * rng.standard_normal((rows, classes))}
        drawn = rng.integers(0, classes, size=rows)
        return logits, {"labels": drawn if labels is None else np.array(labels)}

    return {
        "small": case(1.0),
        "beyond 64": case(100.0),
        "three classes": case(2.0, classes=3),
        "some ignored": case(1.0, labels=[0, -100, 1, 1, -100, 0] * 2),
        "all ignored": case(1.0, labels=[-100] * 12),
        "one row": case(1.0, rows=1),
        "one label": case(1.0, classes=1, labels=rng.normal(size=12)),  # regression
    }


def _span_cases(rng: np.random.Generator):
    rows, tokens = 12, 64

    def case(scale, offset=0.0, labels=None, rows=rows):
        logits = {n: offset + scale * rng.standard_normal((rows, tokens)) for n in ("start_logits", "end_logits")}
        start = rng.integers(0, tokens, size=rows) if labels is None else np.array(labels)
        return logits, {"start_positions": start, "end_positions": np.minimum(start + 1, tokens)}

    edges = [-5, -1, 0, tokens - 1, tokens, tokens + 7] * 2
    return {
        "small": case(1.0),
        "offset": case(12.0, offset=85.0),
        "beyond 64": case(100.0),
        "edges": case(3.0, labels=edges),
        "all ignored": case(1.0, labels=[tokens] * rows),
        "one row": case(5.0, rows=1),
    }


# -- recipes ----------------------------------------------------------------------------------------------


def recipe(mode: str = "classification") -> Recipe:
    """What optimizer and schedule are aligned with; the defaults of each mode are compared by themselves."""
    return unlike(RECIPES[mode])


# -- files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One file as model input: which, for training or evaluation, with which vocabulary.

    `block` rows of the file are read at a time by us alone: it decides nothing.
    """

    path: Path
    training: bool
    vocabulary: Path
    sizes: Mapping[str, int]
    limit: int | None = None
    block: int = 256


SHORT: dict[str, dict[str, int]] = {  # rows for trainings of seconds; contexts need many windows
    "classification": {"max_length": 72},
    "answering": {"max_length": 96, "doc_stride": 24, "max_query_length": 16},
}
NARROW: dict[str, int] = {"max_length": 24}  # both texts of most pairs are cut
GRID: dict[str, int] = {"max_length": 11}  # 8 pieces of both texts, which the hostile pairs have in all shares
LEAST: dict[str, int] = {"max_length": 5}
TIGHT: dict[str, int] = {"max_length": 24, "doc_stride": 4, "max_query_length": 8}  # one piece more: another window
TRAINING = {"classification": "sample/qnli-train short", "answering": "sample/squad-train short"}
EVALUATION = {"classification": "sample/qnli-dev short", "answering": "sample/squad2-dev short"}
SAMPLES: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": {
        "classification": (
            *("sample/qnli-dev", "sample/qnli-dev short", "sample/qnli-dev narrow"),
            *("sample/hostile/qnli", "sample/hostile/qnli grid", "sample/hostile/qnli other"),
        ),
        "answering": (
            *("sample/squad-dev", "sample/squad2-dev", "sample/squad-dev short", "sample/squad2-dev short"),
            *("sample/hostile/squad", "sample/hostile/squad other", "sample/hostile/squad2"),
            *("sample/hostile/squad2 tight", "sample/hostile/ladder tight"),
        ),
    },
    "train_data": {
        "classification": (
            *("sample/qnli-train", "sample/qnli-train short", "sample/qnli-train narrow"),
            "sample/hostile/qnli least",
        ),
        "answering": (
            *("sample/squad-train", "sample/squad2-dev labelled", "sample/squad-train short"),
            *("sample/hostile/squad labelled", "sample/hostile/squad2 labelled"),
            "sample/hostile/ladder tight labelled",
        ),
    },
}
REAL: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": {
        "classification": ("qnli/dev.tsv",),
        "answering": ("squad_v1/dev-v1.1.json", "squad_v2/dev-v2.0-reconstructed.json"),
    },
    "train_data": {
        "classification": ("qnli/train-sample.tsv",),
        "answering": ("squad_v1/train-subset-v1.1.json first", "squad_v2/dev-half-a-v2.0.json labelled"),
    },
}
# what is decoded: another vocabulary gives no other answers, and one real file is enough
SAMPLES["metric"] = {"answering": tuple(n for n in SAMPLES["dev_data"]["answering"] if not n.endswith("other"))}
REAL["metric"] = {"answering": ("squad_v2/dev-v2.0-reconstructed.json first",)}

data_sources = files.DataSources(SAMPLES, REAL, VOCABULARY)


def source(name: str) -> Source:
    """What a data source's name stands for: a file, then how it is read, `first` being the first 2000."""
    file, *how = name.split()
    training = "train" in file or "labelled" in how
    if file.startswith("sample/"):
        stem = file.removeprefix("sample/")
        mode = "classification" if "qnli" in stem else "answering"
        path = SAMPLE / f"{stem}.{'tsv' if mode == 'classification' else 'json'}"
        sizes = {"short": SHORT[mode], "narrow": NARROW, "grid": GRID, "least": LEAST, "tight": TIGHT}
        return Source(
            path,
            training,
            vocabulary(SAMPLE / ("hostile/vocab.txt" if "other" in how else "vocab.txt")),
            next((size for word, size in sizes.items() if word in how), {}),
            block=10 if stem.startswith("hostile/") else Source.block,
        )
    real = vocabulary(datasets.find(VOCABULARY))
    return Source(datasets.find(file), training, real, {}, 2000 if "first" in how else None)


def model_inputs(columns: Arrays, mode: str) -> dict[str, np.ndarray]:
    """The columns that a model and its loss read."""
    return {name: columns[name] for name in (*data.INPUTS, *data.TARGETS[mode])}


# -- training ---------------------------------------------------------------------------------------------


def training_recipe(folder: Path, mode: str) -> Recipe:
    """A short run; steps large enough that the tiny model really learns in them."""
    small = read_checkpoint(folder)[0].d_model < 256
    epochs = 4 if small and mode == "classification" else 1
    return replace(RECIPES[mode], learning_rate=1e-3 if small else 2e-5, batch_size=8, epochs=epochs)


def training_record(log: list[dict[str, float]], decoded: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """What the training step compares: the curve, scores, logits or odds, and in float64 every candidate answer.

    In float32 two answers that nearly tie may change places; the numbers are held to the tolerance instead.
    """
    record = {name: np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}
    numbers = ("accuracy", "logits", "exact", "f1", "total", "odds")
    record |= {name: np.asarray(decoded[name], dtype) for name in numbers if name in decoded}
    texts = ("answers", "text") if dtype == "float64" else ()
    return record | {name: decoded[name] for name in texts if name in decoded}


# -- metric -----------------------------------------------------------------------------------------------

TEXTS = (
    *("the  Cat", "cat", "a", "an the", "", ".", "!?", "$31.5 billion", "31.5 billion", "billion 31.5 the"),
    *("caf\u00e9", "cafe\u0301", "Stra\u00dfe", "STRASSE", "\u201cquoted\u201d", '"quoted"', "no no yes"),
    *("no yes yes", "\u6f22\u5b57", "\u6f22", "a\u00a0b", "a b", "x" * 50),
    *("A-10", "10", "a 10", "an-other", "a\u0301 x", "x\x1cthe\x85y", "the\u200bx", "\u0130T", "x_a_y", "THE x The"),
    *("x\u2013the\u2013y", "x\u2013\u2013y", "x\u2013 \u2013y"),
)


def metric_cases(mode: str) -> dict[str, str | None]:
    """Hostile predictions with odds, then logits through the whole decoding.

    Returns:
        Case -> the data source whose columns it works on, None for those that need none.
    """
    if mode == "classification":
        return {"accuracy": None, "accuracy with ties": None}
    return {"predictions": None, **{f"decode {name}": name for name in data_sources("metric", mode)}}


def classes(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and logits (N, 2); with ties, the two are equal in every third row."""
    rng = np.random.default_rng(23)
    labels, logits = rng.integers(0, 2, size=997), np.round(rng.normal(size=(997, 2)), 1)
    if case.endswith("ties"):
        logits[::3, 1] = logits[::3, 0]
    return labels, logits


def predictions() -> tuple[dict[str, list[str]], dict[str, str], dict[str, float]]:
    """Gold texts, answers and null odds by question id: every text against every other, some without a gold."""
    rng = np.random.default_rng(17)
    golds, predicted = {}, {}
    for i, gold in enumerate(TEXTS):
        for j, text in enumerate(TEXTS):
            golds[f"{i}-{j}"] = [gold] if (i + j) % 3 else [gold, TEXTS[(i * 7 + j) % len(TEXTS)]]
            predicted[f"{i}-{j}"] = text
    for name in list(golds)[::5]:
        golds[name] = []
    for name in list(golds)[::7]:
        predicted[name] = ""
    # few distinct values: thresholds tie; some beyond 1, where a limit for probabilities would cut in
    return golds, predicted, {name: float(rng.integers(-30, 30)) / 10 for name in golds}


def has_null(name: str) -> bool:
    """Whether a data source has questions without answer, as SQuAD 2.0."""
    return "squad2" in name or "squad_v2" in name


def injected_logits(columns: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Start and end logits (N, T) as float32, coarse enough that ties are common.

    In every seventh question all are equal, in every fifth no context piece is among the best. [CLS] scores one below
    the best span in every third, so that it ties with some candidates, and less than 20 candidates in others.
    """
    rng = np.random.default_rng(19)
    shape, index = columns["input_ids"].shape, columns["example_index"]
    # eighths: sums are exact, so equal ones tie
    start, end = (np.round(rng.normal(0, 4, size=shape) * 8).astype(np.float32) / 8 for _ in range(2))
    inside = columns["offsets"][:, :, 0] >= 0
    for rows, offset in ((index % 3 == 0, -0.5), (index % 3 == 1, -9)):
        for logits in (start, end):
            logits[rows, 0] = np.where(inside, logits, -99).max(axis=1)[rows] + offset
    for logits in (start, end):
        logits[index % 7 == 4] = 0.5
        logits[~inside & (index % 5 == 2)[:, None]] += 100
    return start, end


def decoded_record(
    entries: list[list[Mapping[str, Any]]], odds: list[float], texts: list[str], scores: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """What the metric step compares: candidates of all questions, flattened, odds, answers and scores."""
    flat = [entry for one in entries for entry in one]
    record = {"candidates": np.array([len(one) for one in entries]), "odds": np.array(odds), "answers": np.array(texts)}
    record |= {k: np.array([entry[k] for entry in flat]) for k in ("text", "probability", "start_logit", "end_logit")}
    for place in ("start_char", "end_char"):
        record[place] = np.array([-1 if entry[place] is None else entry[place] for entry in flat])
    return record | {name: np.float64(score) for name, score in scores.items()}
