"""The multi-task model's configuration, weight names and checkpoints. Imports no framework."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.weights import Rule, WeightMap
from splinter.ports.common import bert, checkpoint
from splinter.ports.common.checkpoint import BertConfig, CheckpointError
from splinter.ports.common.training.schedule import Recipe

MODES = ("version1", "version2")
TASKS = ("sentiment", "paraphrase", "similarity")
FILL = -10000.0
"""Added to the score of a padded key, as in minBERT."""

CHOICES = {
    "design": MODES,
    "pooling": ("pooled", "cls"),
    "head_activation": ("relu", "none"),
    "pair_features": ("concat", "compare"),
}


@dataclass(frozen=True)
class MultitaskConfig(BertConfig):
    """Encoder sizes and the three heads.

    Args:
        design: "version2" (two layers for each pair task, similarity as a scaled inner product) or "version1"
            (one linear layer per task, each pair to one number).
        sentiment_classes: 5 for SST, 2 for CFIMDB.
        head_dropout_prob: the heads' own dropout; that of BERT is another number.
        pooling: what stands for a sentence: "pooled" = the pooler's output, "cls" = the last state of [CLS].
        head_activation: between the two layers of a version 2 head; "none" is the ablation.
        pair_features: what version 2's paraphrase head reads of two sentences u and v: "concat" = [u, v] as in the
            note, "compare" = [u, v, |u - v|, u * v] (Conneau et al., EMNLP 2017, section 3.1).
        trained: tasks whose heads have learned something; empty = it is not known, so all may answer.
    """

    vocab_size: int = 30522
    design: str = "version2"
    sentiment_classes: int = 5
    head_dropout_prob: float = 0.3
    pooling: str = "pooled"
    head_activation: str = "relu"
    pair_features: str = "concat"
    trained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise CheckpointError(f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(known)}")
        if unknown := set(self.trained) - set(TASKS):
            raise CheckpointError(f"trained {sorted(unknown)} is not known; use some of {', '.join(TASKS)}")
        if self.sentiment_classes < 2:
            raise CheckpointError(f"sentiment_classes is {self.sentiment_classes}, expected 2 or more")


def heads(config: MultitaskConfig) -> dict[str, tuple[int, int]]:
    """The linear layers of the heads: name -> (inputs, outputs)."""
    width = config.hidden_size
    sentiment = {"sentiment_classifier": (width, config.sentiment_classes)}
    if config.design == "version1":
        return sentiment | {"paraphrase_classifier": (2 * width, 1), "similarity_classifier": (2 * width, 1)}
    return sentiment | {
        "paraphrase_hidden": ((4 if config.pair_features == "compare" else 2) * width, width),
        "paraphrase_out": (width, 2),
        "similarity_hidden": (width, width),
        "similarity_out": (width, width),
    }


LEAVES = ("weight", "bias")
_HEADS = {design: tuple(heads(MultitaskConfig(design=design))) for design in MODES}
HEAD = rf"^({'|'.join(dict.fromkeys(name for names in _HEADS.values() for name in names))})\."
"""Matches every tensor of a head, of either design."""


def weight_map(design: str = "version2") -> WeightMap:
    """Their tensor names (the twin's: transformers' BertModel under `bert.`, Linear layers beside it) -> ours."""
    rules = bert.encoder_rules("bert", pooler=True)
    for name in _HEADS[design]:
        # paddle Linear stores (in, out), torch (out, in)
        rules += [Rule(f"{name}.weight", f"{name}.weight", transpose=True), Rule(f"{name}.bias", f"{name}.bias")]
    others = {name for names in _HEADS.values() for name in names} - set(_HEADS[design])
    return WeightMap(rules, {f"{name}.{leaf}": "a head of the other design" for name in others for leaf in LEAVES})


def shapes(config: MultitaskConfig) -> dict[str, tuple[int, ...]]:
    """Names (those of the twin) and shapes of all tensors of a checkpoint of these sizes."""
    sizes = bert.encoder_shapes(config, "bert", pooler=True)
    for name, (inputs, outputs) in heads(config).items():
        sizes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return sizes


def read_checkpoint(
    folder: Path, head: str = "auto", **changes: Any
) -> tuple[MultitaskConfig, Mapping[str, np.ndarray], tuple[str, ...]]:
    """Open a checkpoint folder: a plain BERT, or a model of ours.

    Args:
        head: "fresh" leaves the heads of the checkpoint behind.
        changes: configuration fields to change, None = leave; `design` chooses among the heads that are there.

    Returns:
        The configuration, the tensors (lazy), and the names of the heads that are not among them.

    Raises:
        CheckpointError: not a BERT, without pooler, or a configuration that cannot be used.
        WeightError: the tensors do not fit the configuration.
    """
    values, tensors, _ = bert.read_bert(folder, HEAD)
    if head == "fresh":
        tensors = bert.Renamed(tensors, lambda name: None if re.match(HEAD, name) else name)
    source = str(folder / checkpoint.CONFIG)
    stored = checkpoint.config_from_dict(MultitaskConfig, values, source)
    config = replace(stored, **{name: value for name, value in changes.items() if value is not None})
    missing = tuple(name for name in heads(config) if not any(f"{name}.{leaf}" in tensors for leaf in LEAVES))
    classes = stored.sentiment_classes
    if "sentiment_classifier" not in missing and config.sentiment_classes != classes:
        raise CheckpointError(
            f"{folder} has a head for {classes} sentiment classes, but {config.sentiment_classes} are asked for; "
            "take new heads (--head fresh), or keep the data set it was trained on"
        )
    bert.refuse_layers(tensors, config, str(folder))
    mapping = weight_map(config.design)
    expected = bert.expected(mapping, shapes(config))
    expected = {name: shape for name, shape in expected.items() if name.rpartition(".")[0] not in missing}
    bert.refuse_misfits(tensors, mapping, expected, str(folder))
    return config, tensors, missing


def which_head(asked: str, missing: tuple[str, ...], folder: Path) -> str:
    """What "auto" comes to: "pretrained", "fresh", or "partly fresh" where only some heads are there.

    Raises:
        CheckpointError: the pretrained heads are asked for and not all there.
    """
    if asked == "fresh" or not missing:
        return "fresh" if asked == "fresh" else "pretrained"
    if asked == "pretrained":
        raise CheckpointError(
            f"{folder} holds no head {missing[0]!r}; fine-tune it first (splinter finetune --system multitask), "
            "or name a folder that a run has written"
        )
    return "fresh" if "sentiment_classifier" in missing else "partly fresh"  # both designs have that one


def write_companions(folder: Path, config: MultitaskConfig, source: Path | None) -> None:
    """Write what lies beside the weights: config.json, tokenizer settings, and the vocabulary of `source`."""
    values = {"model_type": "bert", "architectures": ["MultitaskBert"], **config.to_dict()}
    checkpoint.write_companions(folder, values, source, "BertTokenizer")


def companions(config: MultitaskConfig, source: Path | None) -> dict[str, bytes]:
    """What lies beside the weights, by name; see `checkpoint.companions`."""
    return checkpoint.companions(lambda folder: write_companions(folder, config, source))


# -- recipes ----------------------------------------------------------------------------------------------

RECIPE = Recipe(
    learning_rate=1e-5,
    warmup=0.0,
    epochs=10,
    min_steps=0,
    batch_size=8,
    epsilon=1e-6,
    weight_decay=0.0,
    max_norm=0.0,
    seed=11711,
    schedule="constant",
)
"""minBERT's: AdamW in the form of transformers' old one with epsilon 1e-6, constant rate, no clipping, no decay."""

RATES = {"pretrain": 1e-3, "finetune": 1e-5}
"""Learning rate of each phase."""
