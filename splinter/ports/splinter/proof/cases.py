"""What the eleven steps feed to both sides of Splinter: checkpoints, batches, logits, files. Numpy only."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
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

from ..config import MODES, SplinterConfig, read_checkpoint, shapes, write_companions

Arrays = Mapping[str, np.ndarray]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LABELS = ("start_positions", "end_positions")

# no field at its default, no two of a kind alike: one that is ignored, or taken for another, changes a number. An
# epsilon is a power of 2, which Paddle's float32 holds exactly
TINY = SplinterConfig(
    vocab_size=2048,
    hidden_size=60,
    num_hidden_layers=2,
    num_attention_heads=5,
    intermediate_size=112,
    hidden_dropout_prob=0.15,
    attention_probs_dropout_prob=0.25,
    max_position_embeddings=384,
    type_vocab_size=3,
    initializer_range=0.05,
    layer_norm_eps=2.0**-15,
)
BASE = SplinterConfig()
VOCABULARY = "vocab/bert-base-cased-vocab.txt"


# -- checkpoints ------------------------------------------------------------------------------------------


def write_random(
    folder: Path, config: SplinterConfig, seed: int, vocabulary: Path | None, logits: float, std: float = 0.02
) -> Path:
    """A checkpoint of random weights in the layout of transformers.

    Args:
        logits: rough size that unmasked logits reach; the two matrices of the head are scaled for it.
        std: of the dense matrices; BERT's 0.02 fits its width, a narrow model needs more to be alive.
    """
    head = np.float32(logits / config.hidden_size / 1.6)

    def scaled(name: str, values: np.ndarray) -> np.ndarray:
        return values * head if "classifier" in name else files.bert_like(name, values, std)

    files.write_random(folder, shapes(config), seed, scaled, vocabulary)
    write_companions(folder, config, None)
    return folder


@functools.cache
def tiny() -> Path:
    """The embedded checkpoint: 2 layers, width 60, the shipped vocabulary, seed 0."""
    return write_random(
        checkpoint.scratch("tiny"), TINY, seed=0, vocabulary=SAMPLE / "vocab.txt", logits=60.0, std=0.15
    )


@functools.cache
def plain() -> Path:
    """The sizes of `tiny` with a plain head."""
    config = replace(TINY, span_head="plain", mode="paper")
    return write_random(
        checkpoint.scratch("plain"), config, seed=0, vocabulary=SAMPLE / "vocab.txt", logits=0, std=0.15
    )


@functools.cache
def base() -> Path:
    """Random weights at base size, scaled so that logits reach 1e3 as those of the published weights do."""
    return write_random(
        checkpoint.scratch("base"), BASE, seed=0, vocabulary=files.vocabulary_or_none(VOCABULARY), logits=700.0
    )


# -- batches ----------------------------------------------------------------------------------------------


def _rows(rng: np.random.Generator, lengths: list[int], tokens: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Rows of [CLS] question [QUESTION] . [SEP] context [SEP] padding with random pieces."""
    ids = np.zeros((len(lengths), tokens), dtype=np.int64)
    segments, mask = np.zeros_like(ids), np.zeros_like(ids)
    for row, length in enumerate(lengths):
        question = int(rng.integers(3, max(4, length // 4)))
        ids[row, :length] = rng.integers(120, vocabulary, size=length)
        ids[row, 0] = 101
        ids[row, question : question + 3] = (104, 119, 102)
        ids[row, length - 1] = 102
        segments[row, question + 3 : length] = 1
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}


def _question_of(ids: np.ndarray, mode: str) -> np.ndarray:
    """In `paper` rows the question token is written as [MASK]."""
    return np.where(ids == 104, 103, ids) if mode == "paper" else ids


def batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Input batches for forward and backward: an ordinary one and hostile ones, labels included.

    `padded` has rows of very different length; `odd` a row without a question token, one with two, one with an
    extra [SEP] and [MASK], one with id 0 in its text; `single` is a batch of one without padding; `empty` (hf
    only) holds a row that is nothing but padding. With the fill of -10000 such a row amplifies rounding to
    1e-3 in both frameworks, and no data path makes one.
    """
    config = read_checkpoint(folder)[0]
    rng = np.random.default_rng(7)
    small = config.hidden_size < 256
    tokens = min(config.max_position_embeddings, 48 if small else 384)
    vocabulary = config.vocab_size
    made = {"padded": _rows(rng, [tokens, tokens - 1, tokens // 2, 12], tokens, vocabulary)}
    tokens = min(tokens, 128)
    odd = _rows(rng, [tokens, tokens - 5, tokens - 9, tokens // 2], tokens, vocabulary)
    odd["input_ids"][0][odd["input_ids"][0] == 104] = 200
    odd["input_ids"][1, tokens - 10] = 104
    odd["input_ids"][2, tokens - 20 : tokens - 18] = (102, 103)
    odd["input_ids"][3, tokens // 2 - 4] = 0
    made["odd"] = odd
    made["single"] = _rows(rng, [33], 33, vocabulary)
    if mode == "hf":
        made["empty"] = _rows(rng, [20, 20], 24, vocabulary)
        made["empty"]["attention_mask"][1] = 0
    for name, batch in made.items():
        batch["input_ids"] = _question_of(batch["input_ids"], mode)
        lengths = batch["attention_mask"].sum(axis=1)
        start = rng.integers(0, np.maximum(lengths, 1))
        batch["start_positions"] = start.astype(np.int64)
        batch["end_positions"] = np.minimum(start + 2, np.maximum(lengths - 1, 0)).astype(np.int64)
        if name == "odd":
            batch["start_positions"][0], batch["end_positions"][1] = -1, batch["input_ids"].shape[1]
    return made


def train_batches(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    """Twenty batches for the updates of the backward step (three at base size: each costs seconds)."""
    config = read_checkpoint(folder)[0]
    small = config.hidden_size < 256
    rng = np.random.default_rng(11)
    tokens = 32 if small else 64
    made = []
    for _ in range(20 if small else 3):
        lengths = rng.integers(12, tokens + 1, size=4).tolist()
        batch = _rows(rng, lengths, tokens, config.vocab_size)
        batch["input_ids"] = _question_of(batch["input_ids"], mode)
        start = rng.integers(0, np.array(lengths) - 3)
        made.append({**batch, "start_positions": start, "end_positions": start + 2})
    return made


def readout(outputs: Arrays, batch: Arrays) -> dict[str, np.ndarray]:
    """The outputs to compare: real positions and filled ones apart, and the predicted positions.

    Filled logits are of size 1e4 or 3.4e38 and would set the scale of everything beside them. Less their row's mean
    they are compared as well: softmax ignores a shift of a whole row, and beside a large one it would hide the rest.
    """
    read = {}
    for name, array in outputs.items():
        real = np.broadcast_to((batch["attention_mask"] == 1)[(slice(None),) + (None,) * (array.ndim - 2)], array.shape)
        read[name] = np.where(real, array, 0)
        mean = read[name].sum(axis=-1, keepdims=True) / np.maximum(real.sum(axis=-1, keepdims=True), 1)
        read[f"{name} less their row's mean"] = np.where(real, array - mean, 0).astype(array.dtype)
        read[f"{name} of padding"] = array[~real]
        read[f"argmax of {name}"] = array.argmax(axis=-1)
    return read


# -- losses -----------------------------------------------------------------------------------------------


def loss_cases(folder: Path, mode: str) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Injected logits and labels: small and large, beyond -64, clamped, ignored, all ignored, batch of one."""
    rng = np.random.default_rng(3)
    rows, tokens = 12, 64

    def case(scale, offset=0.0, labels=None, rows=rows):
        logits = {n: offset + scale * rng.standard_normal((rows, tokens)) for n in ("start_logits", "end_logits")}
        start = rng.integers(0, tokens, size=rows) if labels is None else np.array(labels)
        return logits, {"start_positions": start, "end_positions": np.minimum(start + 1, tokens)}

    edges = [-5, -1, 0, tokens - 1, tokens, tokens + 7] * 2
    return {
        "small": case(1.0),
        "trained": case(12.0, offset=785.0),
        "beyond 64": case(100.0),
        "edges": case(3.0, labels=edges),
        "all ignored": case(1.0, labels=[tokens] * rows),
        "one row": case(5.0, rows=1),
    }


# -- files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One file as model input: which, for training or evaluation, with which vocabulary, cased or not.

    `block` examples are read at a time by us alone: it decides nothing.
    """

    path: Path
    training: bool
    vocabulary: Path
    sizes: Mapping[str, int]
    lower_case: bool = False
    block: int = 256


SHORT = {"max_length": 160, "doc_stride": 32}  # windows for trainings of seconds; the shipped texts still need several
FAR = {"max_length": 160, "doc_stride": 96}  # fewer windows, in the mode where the stride is from start to start
TIGHT = {"max_length": 24, "doc_stride": 4, "max_query_length": 8}  # one piece more or less is another window
SIZES = {"short": SHORT, "far": FAR, "tight": TIGHT}
TRAINING = "sample/fewshot-train short"
EVALUATION = {"hf": "sample/fewshot-dev short", "paper": "sample/fewshot-dev far"}
SAMPLES: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": dict.fromkeys(
        MODES,
        (
            *("sample/fewshot-dev", "sample/squad-dev", "sample/squad-dev uncased"),
            *("sample/hostile/squad", "sample/hostile/squad uncased", "sample/hostile/squad other"),
            *("sample/hostile/ladder tight", "sample/hostile/mrqa", "sample/hostile/rows"),
        ),
    ),
    "train_data": dict.fromkeys(
        MODES,
        (
            *("sample/fewshot-train", "sample/squad-train", "sample/hostile/squad labelled"),
            *("sample/hostile/ladder tight labelled", "sample/hostile/mrqa labelled", "sample/hostile/rows labelled"),
        ),
    ),
}
REAL: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": {
        "hf": ("squad_fewshot/dev_qass_50.jsonl", "squad_v1/dev-v1.1.json"),
        "paper": ("squad_fewshot/dev_qass_50.jsonl",),
    },
    "train_data": dict.fromkeys(
        MODES,
        tuple(
            f"squad_fewshot/squad-train-seed-{seed}-num-examples-{size}_qass.jsonl"
            for size, seeds in ((16, range(42, 47)), (32, (42,)), (128, (43,)), (1024, (42,)))
            for seed in seeds
        ),
    ),
}

# what is decoded: another vocabulary gives no other answers, and one real file is enough
SAMPLES["metric"] = {
    mode: tuple(name for name in names if not name.endswith("other")) for mode, names in SAMPLES["dev_data"].items()
}
REAL["metric"] = dict.fromkeys(MODES, ("squad_fewshot/dev_qass_50.jsonl",))

data_sources = files.DataSources(SAMPLES, REAL, VOCABULARY)


def source(name: str) -> Source:
    """What a data source's name stands for: a file, then how it is read."""
    if name.startswith("sample/"):
        stem, *how = name.removeprefix("sample/").split()
        hostile = stem.startswith("hostile/")
        path = SAMPLE / f"{stem}.json"
        sizes = next((sizes for word, sizes in SIZES.items() if word in how), {})
        return Source(
            path if path.exists() else path.with_suffix(".jsonl"),
            "train" in stem or "labelled" in how,
            SAMPLE / ("hostile/vocab.txt" if "other" in how else "vocab.txt"),
            sizes,
            lower_case="uncased" in how,
            block=10 if hostile else Source.block,
        )
    return Source(datasets.find(name), "train" in name, datasets.find(VOCABULARY), {})


def model_inputs(columns: Arrays, labels: bool = False) -> dict[str, np.ndarray]:
    """The columns that a model reads."""
    return {name: columns[name] for name in INPUTS + (LABELS if labels else ())}


# -- training ---------------------------------------------------------------------------------------------


def training_recipe(folder: Path) -> Recipe:
    """A short few-shot run; steps large enough that the tiny model really learns in them."""
    small = read_checkpoint(folder)[0].hidden_size < 256
    return Recipe(learning_rate=2e-3, epochs=2, min_steps=0) if small else Recipe(epochs=1, min_steps=0)


def training_record(log: list[dict[str, float]], decoded: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """What the training step compares: the curve, the scores, and in float64 every predicted text.

    In float32 two answers that nearly tie may change places; the scores are held to the tolerance instead.
    """
    record = {name: np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}
    record |= {name: np.asarray(decoded[name], dtype) for name in ("exact", "f1", "total")}
    return record | ({"text": decoded["text"]} if dtype == "float64" else {})


def recipe() -> Recipe:
    """What optimizer and schedule are aligned with; the defaults are compared by themselves."""
    return unlike(Recipe())


# -- metric -----------------------------------------------------------------------------------------------

TEXTS = (
    *("the  Cat", "cat", "a", "an the", "", ".", "!?", "$31.5 billion", "31.5 billion", "billion 31.5 the"),
    *(
        "caf\u00e9",
        "cafe\u0301",
        "Stra\u00dfe",
        "STRASSE",
        "\u0130stanbul",
        "\uff26ull",
        "\u201cquoted\u201d",
        '"quoted"',
    ),
    *("\U0001f98a fox", "fox", "no no yes", "no yes yes", "\u6f22\u5b57", "\u6f22", "a\u00a0b", "a b", "x" * 50),
    *("A-10", "10", "a 10", "an-other", "a\u0301 x", "x\x1cthe\x85y", "the\u200bx", "th\u00e9", "x_a_y", "THE x The"),
    *("x\u2013the\u2013y", "x\u2013\u2013y", "x\u2013 \u2013y"),
)


def metric_cases(mode: str) -> dict[str, str | None]:
    """Hostile predictions without and with no-answer odds and a threshold, then logits through the whole decoding.

    Returns:
        Case -> the data source whose columns it works on, None for the first three.
    """
    decoded = {f"decode {name}": name for name in data_sources("metric", mode)}
    return {"predictions": None, "odds": None, "threshold": None, **decoded}


def predictions(case: str) -> tuple[Any, ...]:
    """What `evaluate` takes: gold texts and predicted texts by question id, every text against every other; but for
    the first case no-answer odds as well, and a threshold for the last.

    The odds have few distinct values, so that thresholds tie. Some are the threshold itself, some above it, and some
    are of questions that are not asked.
    """
    rng = np.random.default_rng(17)
    golds, predicted = {}, {}
    for i, gold in enumerate(TEXTS):
        for j, text in enumerate(TEXTS):
            golds[f"{i}-{j}"] = [gold] if (i + j) % 3 else [gold, TEXTS[(i * 7 + j) % len(TEXTS)]]
            predicted[f"{i}-{j}"] = text
    for name in list(golds)[::11]:
        golds[name] = []
    odds = {name: float(rng.integers(0, 48)) / 40 for name in (*golds, "not asked", "nor this")}
    return {"predictions": (golds, predicted), "odds": (golds, predicted, odds)}.get(
        case, (golds, predicted, odds, 0.5)
    )


def injected_logits(columns: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, T) as float32 for a file's features, coarse enough that ties are common.

    In every seventh question all are equal; in every seventh no piece of the context is among the best.
    """
    rng = np.random.default_rng(19)
    shape, index = columns["input_ids"].shape, columns["example_index"]
    start, end = (np.round(rng.normal(0, 4, size=shape), 1).astype(np.float32) for _ in range(2))
    inside = columns["offsets"][:, :, 0] >= 0 if "offsets" in columns else columns["token_of_piece"] >= 0
    for logits in (start, end):
        logits[index % 7 == 3] = 0.5
        logits[~inside & (index % 7 == 5)[:, None]] += 100
    return start, end


def kept(examples: Iterable[Any], columns: Arrays) -> list[Any]:
    """The examples that have rows: mode paper gives none to a context without a piece."""
    asked = set(columns["questions"].tolist())
    return [example for example in examples if example.id in asked]


def row(columns: Arrays, number: int) -> dict[str, np.ndarray]:
    """One row of all columns."""
    return {name: column[number] for name, column in columns.items() if len(column) > number}


def decoded_record(found: Sequence[Sequence[Mapping[str, Any]]], scores: Mapping[str, float]) -> dict[str, np.ndarray]:
    """What the metric step compares: n-best lists of all examples, flattened, and the scores of the best."""
    spans = [span for one in found for span in one]
    record = {"candidates": np.array([len(one) for one in found])}
    record |= {k: np.array([span[k] for span in spans]) for k in ("text", "probability", "start_logit", "end_logit")}
    for place in ("start_char", "end_char") if "start_char" in spans[0] else ():
        record[place] = np.array([-1 if span[place] is None else span[place] for span in spans])
    return record | {name: np.float64(score) for name, score in scores.items()}
