"""What the eleven steps feed to both sides of JointBERT: checkpoints, batches, logits, files. Numpy only."""

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

from ..config import MODES, PAD, RECIPE, UNK, JointConfig, read_checkpoint, shapes, write_companions
from ..data import MAX_LENGTH, read_labels

Arrays = Mapping[str, np.ndarray]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LABELS = ("slot_labels", "intent_labels")
CORPUS, HOSTILE = SAMPLE / "intents", SAMPLE / "hostile"
SHIPPED = {"sample": CORPUS, "hostile": HOSTILE / "intents"}
VOCABULARY = "vocab/bert-base-uncased-vocab.txt"


def _labels() -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = read_labels(CORPUS)
    assert found is not None, "the shipped corpus has its label files"
    return found.intents, found.slots


@functools.cache
def tiny_config() -> JointConfig:
    """Sizes of the embedded checkpoint, with the labels of the shipped corpus.

    No field at its default, no two of a kind alike: one that is ignored, or taken for another, changes a number. The
    epsilon is a power of 2, which Paddle's float32 holds exactly.
    """
    intents, slots = _labels()
    return JointConfig(
        vocab_size=2048,
        hidden_size=60,
        num_hidden_layers=2,
        num_attention_heads=5,
        intermediate_size=112,
        hidden_act="gelu_new",
        hidden_dropout_prob=0.15,
        attention_probs_dropout_prob=0.25,
        max_position_embeddings=64,
        type_vocab_size=3,
        initializer_range=0.05,
        layer_norm_eps=2.0**-15,
        intents=intents,
        slots=slots,
        use_crf=True,
        slot_loss_coef=0.7,
        dropout_rate=0.35,
        decode_padding=True,
    )


@functools.cache
def base_config() -> JointConfig:
    """bert-base-uncased with as many labels as ATIS has."""
    slots = [PAD, UNK, "O", *(f"{kind}-{n:02d}" for n in range(60) for kind in "BI")][:122]
    return JointConfig(intents=(UNK, *(f"intent_{n}" for n in range(21))), slots=tuple(slots), use_crf=True)


# -- checkpoints ------------------------------------------------------------------------------------------


def write_random(
    folder: Path,
    config: JointConfig,
    seed: int,
    vocabulary: Path | None,
    std: float = 0.02,
    forbidden: float = 0.0,
) -> Path:
    """A checkpoint of random weights.

    Args:
        std: of the dense matrices; BERT's 0.02 fits its width, a narrow model needs more to be alive.
        forbidden: what two transitions of three lose, in nats.
    """
    head = np.float32(2 / np.sqrt(config.hidden_size))

    def scaled(name: str, values: np.ndarray) -> np.ndarray:
        if name == "crf.transitions":
            return 0.5 * values - np.float32(forbidden) * (np.add.outer(*map(np.arange, values.shape)) % 3 > 0)
        if name.startswith("crf."):
            return 0.5 * values
        if "classifier" in name and name.endswith("weight"):
            return values * head
        return files.bert_like(name, values, std)

    files.write_random(folder, shapes(config), seed, scaled, vocabulary)
    write_companions(folder, config, None)
    return folder


@functools.cache
def tiny() -> Path:
    """The embedded checkpoint: 2 layers, width 60, the shipped vocabulary and labels, seed 0."""
    return write_random(
        checkpoint.scratch("jointbert-tiny"), tiny_config(), seed=0, vocabulary=SAMPLE / "vocab.txt", std=0.15
    )


@functools.cache
def tiny_forbidden() -> Path:
    """The same weights, but for transitions: most labels may not follow one another, as some do in BIO.

    What the CRF's faster sums would lose then is left of the score of a sentence, so the plain ones must serve.
    """
    return write_random(
        checkpoint.scratch("jointbert-forbidden"), tiny_config(), seed=0, vocabulary=None, std=0.15, forbidden=200.0
    )


@functools.cache
def base() -> Path:
    """Random weights at base size."""
    vocabulary = files.vocabulary_or_none(VOCABULARY)
    return write_random(checkpoint.scratch("jointbert-base"), base_config(), seed=0, vocabulary=vocabulary, std=0.04)


# -- batches ----------------------------------------------------------------------------------------------


def _rows(rng: np.random.Generator, lengths: Iterable[int], tokens: int, config: JointConfig) -> dict[str, np.ndarray]:
    """Rows of [CLS] pieces [SEP] padding with random pieces and labels; about every third piece goes on with a word."""
    lengths = np.asarray(list(lengths))
    shape = (len(lengths), tokens)
    place, real = np.arange(tokens), np.arange(tokens) < lengths[:, None]
    ids = np.where(real, rng.integers(120, config.vocab_size, size=shape), 0)
    ids[:, 0] = 101
    ids[np.arange(len(lengths)), lengths - 1] = 102
    slots = rng.integers(1, len(config.slots), size=shape) * (rng.random(shape) < 0.7)
    slots[:, 1] = np.maximum(slots[:, 1], 1)  # the first piece of a sentence begins a word
    inside = (place > 0) & (place < lengths[:, None] - 1)
    return {
        "input_ids": ids,
        "attention_mask": real.astype(np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
        "slot_labels": np.where(inside, slots, 0),
        "intent_labels": rng.integers(0, len(config.intents), size=len(lengths)),
    }


def batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Input batches for forward and backward, labels included.

    `padded` has rows of very different length, a sentence of one word among them; `odd` a row where no slot label
    counts, one where all labels are UNK, one with [UNK] and with id 0 in its text, one with second segments;
    `single` is a batch of one without padding; `one padded` has padding in one row alone.
    """
    config = read_checkpoint(folder)[0]
    rng = np.random.default_rng(7)
    tokens = 24 if config.hidden_size < 256 else 50
    made = {
        "padded": _rows(rng, [tokens, tokens - 1, tokens // 2, 3], tokens, config),
        "odd": _rows(rng, [12, 9, 12, 10], 12, config),
        "single": _rows(rng, [11], 11, config),
        "one padded": _rows(rng, [16, 16, 5], 16, config),
    }
    odd = made["odd"]
    odd["slot_labels"][0] = 0
    odd["slot_labels"][1] = np.minimum(odd["slot_labels"][1], 1)
    odd["intent_labels"][1] = 0
    odd["input_ids"][2, 3:5] = (100, 0)
    odd["token_type_ids"][3, 5:] = 1
    return made


def asked_batch(folder: Path, mode: str) -> dict[str, np.ndarray]:
    """What a model is asked between updates: `padded` with padding behind every row, which is cut off by default."""
    padded = batches(folder, mode)["padded"]
    return {name: np.pad(column, ((0, 0), (0, 8))) if column.ndim == 2 else column for name, column in padded.items()}


def few_batches(folder: Path, mode: str) -> dict[str, dict[str, np.ndarray]]:
    """Those with padding: what the CRF leaves out of a sentence."""
    return {name: batch for name, batch in batches(folder, mode).items() if name in ("padded", "odd")}


def train_batches(folder: Path, mode: str) -> list[dict[str, np.ndarray]]:
    """Twenty batches for the updates of the backward step (three at base size: each costs seconds)."""
    config = read_checkpoint(folder)[0]
    rng = np.random.default_rng(11)
    tokens, count = (16, 20) if config.hidden_size < 256 else (32, 3)
    return [_rows(rng, rng.integers(4, tokens + 1, size=6), tokens, config) for _ in range(count)]


def readout(outputs: Arrays, batch: Arrays) -> dict[str, np.ndarray]:
    """The outputs to compare: real positions and padding apart, and what is predicted."""
    read: dict[str, np.ndarray] = {}
    real = batch["attention_mask"] == 1  # (B, T)
    for name, array in outputs.items():
        if array.ndim == 3:  # (B, T, ...)
            read[name], read[f"{name} of padding"] = array[real], array[~real]
        else:
            read[name] = array
        if name.endswith("logits"):
            read[f"argmax of {name}"] = array.argmax(axis=-1)
    return read


# -- losses -----------------------------------------------------------------------------------------------


def loss_cases(folder: Path, mode: str) -> dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Injected logits and labels: small and beyond 64, full and ragged masks, one row, labels where none should be
    (on [CLS], [SEP] and padding), no slot label that counts."""
    config, rng = read_checkpoint(folder)[0], np.random.default_rng(3)  # a CRF holds as many labels as its logits

    def case(scale: float, lengths: Sequence[int], tokens: int = 14, slots: int | None = None):
        batch = _rows(rng, lengths, tokens, config)
        rows = len(lengths)
        logits = {
            "intent_logits": scale * rng.standard_normal((rows, len(config.intents))),
            "slot_logits": scale * rng.standard_normal((rows, tokens, len(config.slots))),
        }
        labels = {name: batch[name] for name in ("attention_mask", *LABELS)}
        if slots is not None:
            labels["slot_labels"] = rng.integers(min(slots, 1), slots + 1, size=(rows, tokens))
        return logits, labels

    return {
        "small": case(1.0, [14, 9, 3, 12]),
        "full": case(2.0, [14] * 5),
        # a CRF adds up a sentence: sums of thousands would leave float32 few digits for probabilities
        "beyond 64": case(100.0 if mode == "softmax" else 40.0, [14, 9, 3, 12]),
        "labels everywhere": case(1.0, [14, 9, 3], slots=len(config.slots) - 1),
        "all ignored": case(1.0, [14, 6], slots=0),
        "one row": case(5.0, [10]),
    }


# -- files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One part of a corpus as model input."""

    corpus: Path
    part: str
    vocabulary: Path
    max_length: int = MAX_LENGTH

    @property
    def training(self) -> bool:
        """Whether it is the part that labels are taken from."""
        return self.part == "train"


TRAINING, EVALUATION = "sample/train", "sample/dev"
SAMPLES: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": dict.fromkeys(MODES, ("sample/dev", "sample/test", "hostile/dev", "hostile/dev short")),
    "train_data": dict.fromkeys(
        MODES, ("sample/train", "sample/train short", "hostile/train", "hostile/train short", "hostile/train other")
    ),
}
REAL: dict[str, dict[str, tuple[str, ...]]] = {
    "dev_data": dict.fromkeys(MODES, ("atis/dev", "atis/test", "snips/dev", "snips/test")),
    "train_data": dict.fromkeys(MODES, ("atis/train", "snips/train")),
}
SAMPLES["metric"], REAL["metric"] = SAMPLES["dev_data"], REAL["dev_data"]  # all that is evaluated is decoded

data_sources = files.DataSources(SAMPLES, REAL, VOCABULARY, file=lambda name: f"{name}/seq.in")


def source(name: str) -> Source:
    """What a data source's name stands for: corpus/part, then `short` for rows that cut sentences, or `other` for
    another vocabulary.

    Raises:
        DataMissing: it is in no data folder.
    """
    path, _, how = name.partition(" ")
    corpus, part = path.split("/")
    cut = {"max_length": 12} if how == "short" else {}
    if corpus in SHIPPED:
        return Source(SHIPPED[corpus], part, HOSTILE / "vocab.txt" if how == "other" else SAMPLE / "vocab.txt", **cut)
    folder = datasets.find(f"{corpus}/{part}/seq.in").parent.parent
    return Source(folder, part, datasets.find(VOCABULARY), **cut)


def model_inputs(columns: Arrays, labels: bool = True) -> dict[str, np.ndarray]:
    """The columns that a model reads."""
    return {name: columns[name] for name in INPUTS + (LABELS if labels else ())}


# -- training ---------------------------------------------------------------------------------------------


def recipe() -> Recipe:
    """What optimizer and schedule are aligned with; the defaults are compared by themselves."""
    return unlike(RECIPE)


def training_recipe(folder: Path) -> Recipe:
    """A short run; steps large enough that the tiny model really learns in them."""
    small = read_checkpoint(folder)[0].hidden_size < 256
    return replace(RECIPE, learning_rate=3e-3, epochs=12) if small else replace(RECIPE, epochs=1)


def training_record(log: list[dict[str, Any]], scores: Arrays, predicted: Arrays, dtype: str) -> dict[str, np.ndarray]:
    """What the training step compares: the curve, the scores, and in float64 every prediction."""
    record = {name: np.array([entry[name] for entry in log], dtype) for name in ("loss", "norm")}
    record |= {name: np.asarray(value, dtype) for name, value in scores.items()}
    record["dev loss"] = np.asarray(predicted["loss"], dtype)
    if dtype == "float64":
        record |= {"intents": predicted["intent_logits"].argmax(axis=-1), "slots": predicted["slots"]}
    return record


# -- metric -----------------------------------------------------------------------------------------------


def metric_cases(mode: str) -> dict[str, str | None]:
    """Golden and hostile tags, then logits through the whole decoding.

    Returns:
        Case -> the data source whose columns it works on, None for the first ones.
    """
    decoded = {f"decode {name}": name for name in data_sources("metric", mode)}
    return dict.fromkeys(("golden", "hostile", "nothing right", "all right", "no chunk", "any tag")) | decoded


GOLDEN = [
    ("B-a I-a O B-b", "B-a I-a O I-b"),  # I- after O starts a chunk
    ("B-a I-a", "B-a B-a"),
    ("UNK UNK O", "UNK UNK O"),  # a label without a hyphen is a chunk
    ("O O", "PAD O"),
    ("B-a I-b I-b", "B-a B-b I-b"),
    ("I-a I-a O", "B-a I-a O"),
    ("O O O", "O O O"),
    ("B-a B-a I-a", "B-a I-a B-a"),
    ("UNK B-a", "UNK I-a"),
    ("O UNK UNK", "PAD UNK UNK"),
    ("O B-x.time", "O B-x.date"),
]


ODD = [
    *("O", "B-a", "I-a", "E-a", "S-a", "L-a", "U-a", "B-b", "I-b", "E-b", "B", "I", "E", "S", "X", "B-", "I-", "-a"),
    *("B-a-b", "I-a-b", "B--a", "b-a", "o", "O-a", "Oa", "Ba", "B_a", ".", "._a", "\u00e9-a", "B-\u00e9"),
]
"""Tags of other schemes, of none, and without a type."""


def predictions(case: str) -> tuple[list[str], list[str], list[list[str]], list[list[str]]]:
    """Gold and predicted intents, gold and predicted tags."""
    if case == "golden":
        gold, found = ([pair[side].split() for pair in GOLDEN] for side in (0, 1))
        intents = [f"i{n % 3}" for n in range(len(GOLDEN))]
        return intents, intents[1:] + intents[:1], gold, found
    if case == "nothing right":
        return ["a", "b"], ["b", "a"], [["O"], ["O", "O"]], [["B-x"], ["O", "PAD"]]
    if case in ("all right", "no chunk"):
        tags = [["B-a", "I-a"], [], ["O"]] if case == "all right" else [["O"], []]
        return ["a"] * len(tags), ["a"] * len(tags), tags, tags
    rng = np.random.default_rng(17)
    labels = np.array([PAD, UNK, "O", "O", "O", "B-a", "I-a", "B-b", "I-b", "B-a.b", "I-a.b"])
    if case == "any tag":
        labels = np.array(ODD)
    gold, found = [], []
    for _ in range(400):
        size = int(rng.integers(1 if case == "hostile" else 0, 12))
        one = rng.integers(1, len(labels), size=size)
        other = np.where(rng.random(size) < 0.7, one, rng.integers(0, len(labels), size=size))
        gold.append(labels[one].tolist())
        found.append(labels[other].tolist())
    drawn = rng.integers(0, 3, size=(2, 400)).astype(str)
    return drawn[0].tolist(), drawn[1].tolist(), gold, found


DECODED_ROWS = {"softmax": 10_000, "crf": 128}  # Viterbi over the whole of ATIS would take most of the suite's time


def injected_logits(columns: Arrays, mode: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits for the rows of a data source, right more often than not, as float32; and those rows.

    Returns:
        intent_logits (N, I) and slot_logits (N, T, S); the columns cut to N rows.
    """
    rng = np.random.default_rng(19)
    rows = {n: columns[n][: DECODED_ROWS[mode]] for n in (*INPUTS, *LABELS)}
    made = {}
    for name, labels, count in (
        ("intent_logits", rows["intent_labels"], len(columns["intents"])),
        ("slot_logits", rows["slot_labels"], len(columns["slots"])),
    ):
        logits = rng.standard_normal((*labels.shape, count), dtype=np.float32)
        made[name] = logits + np.float32(3.5) * (np.arange(count) == labels[..., None])
    return made, rows


def injected_crf(tags: int) -> dict[str, np.ndarray]:
    """Parameters of a CRF, float32."""
    rng = np.random.default_rng(23)
    sizes: dict[str, tuple[int, ...]] = {"start_transitions": (tags,), "end_transitions": (tags,)}
    sizes["transitions"] = (tags, tags)
    return {name: rng.standard_normal(size, dtype=np.float32) for name, size in sizes.items()}


def decoded_record(
    intents: Sequence[str], tags: Sequence[Sequence[str]], scores: Mapping[str, Any], **arrays: np.ndarray
) -> dict[str, np.ndarray]:
    """What the metric step compares: predicted labels, paths and scores."""
    record = {"intents": np.array(intents), "tags": np.array([" ".join(row) for row in tags])}
    return record | arrays | {name: np.float64(score) for name, score in scores.items()}
