"""JointBERT's configuration, recipe, weight names and checkpoint layout. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.weights import Rule, WeightMap
from splinter.ports.common import bert, checkpoint
from splinter.ports.common.checkpoint import BertConfig, CheckpointError
from splinter.ports.common.training.schedule import Recipe

MODES = ("softmax", "crf")
PAD, UNK = "PAD", "UNK"
HEAD = r"(intent_classifier|slot_classifier|crf)\."

RECIPE = Recipe(learning_rate=5e-5, warmup=0.0, epochs=10, min_steps=0, batch_size=32, seed=1234)
"""Of monologg/JointBERT's main.py; the paper has the same rate (Chen et al. 2019, section 3.2)."""


@dataclass(frozen=True)
class JointConfig(BertConfig):
    """Encoder sizes, the two label sets, and how slots are decoded.

    intents, slots: labels in the order of their ids; the first slot is PAD, which takes no part in the loss
        without CRF. Empty for a plain BERT that has no heads yet.
    use_crf: a linear-chain CRF on top of the slot logits.
    slot_loss_coef: weight of the slot loss in the sum.
    dropout_rate: of the two heads; the encoder has rates of its own.
    decode_padding: Viterbi runs over the padding as well, as in monologg/JointBERT; by default it stops at the mask.
    """

    vocab_size: int = 30522
    intents: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    use_crf: bool = False
    slot_loss_coef: float = 1.0
    dropout_rate: float = 0.1
    decode_padding: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("intents", "slots"):
            if problem := label_problem(getattr(self, name), first=PAD if name == "slots" else None):
                raise CheckpointError(f"{name}: {problem}")
        if bool(self.intents) != bool(self.slots):
            raise CheckpointError("only one of intents and slots has labels; give both")

    @property
    def mode(self) -> str:
        """ "softmax" or "crf"."""
        return "crf" if self.use_crf else "softmax"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return super().to_dict() | {"intents": list(self.intents), "slots": list(self.slots)}


def label_problem(labels: Sequence[str], first: str | None) -> str | None:
    """What is wrong with a label set, None when it can be used; an empty one stands for "not yet known"."""
    if not labels:
        return None
    if first is not None and labels[0] != first:
        return f"the first label is {labels[0]!r}, expected {first!r}"
    if UNK not in labels:
        return f"{UNK!r} is missing, which labels unseen in training become"
    if empty := [number for number, label in enumerate(labels) if not label or label.split() != [label]]:
        return f"label {empty[0]} (from 0) is {labels[empty[0]]!r}, expected a word"
    if len(set(labels)) < len(labels):
        return f"{next(label for label in labels if labels.count(label) > 1)!r} stands there twice"
    return "one label alone; there is nothing to choose" if len(labels) < 2 else None


# -- weight names -----------------------------------------------------------------------------------------

CRF_TENSORS = ("start_transitions", "end_transitions", "transitions")


def weight_map(crf: bool, heads: bool = True) -> WeightMap:
    """Their tensor names (monologg/JointBERT on transformers' BertModel) -> ours.

    Args:
        crf: the model has a CRF; without, one of the checkpoint is left behind.
        heads: False leaves the heads of the checkpoint behind, for fresh ones.
    """
    rules = bert.encoder_rules("bert", pooler=True)
    drop: dict[str, str] = {}
    head = []
    for name in ("intent_classifier", "slot_classifier"):
        head.append(Rule(f"{name}.linear.weight", f"{name}.linear.weight", transpose=True))
        head.append(Rule(f"{name}.linear.bias", f"{name}.linear.bias"))
    chain = [Rule(f"crf.{name}", f"crf.{name}") for name in CRF_TENSORS]  # [from, to] in both: never transposed
    if not crf:
        drop |= {rule.theirs: "decoding without the CRF was asked for" for rule in chain}
        chain = []
    if not heads:
        drop |= {rule.theirs: "fresh heads were asked for" for rule in head + chain}
        return WeightMap(rules, drop)
    return WeightMap(rules + head + chain, drop)


def shapes(config: JointConfig) -> dict[str, tuple[int, ...]]:
    """Names (theirs) and shapes of all tensors of a checkpoint of these sizes."""
    width, intents, slots = config.hidden_size, len(config.intents), len(config.slots)
    sizes = bert.encoder_shapes(config, "bert", pooler=True)
    for name, labels in (("intent_classifier", intents), ("slot_classifier", slots)):
        sizes |= {f"{name}.linear.weight": (labels, width), f"{name}.linear.bias": (labels,)}
    if config.use_crf:
        sizes |= {f"crf.{name}": (slots,) for name in CRF_TENSORS[:2]} | {f"crf.{CRF_TENSORS[2]}": (slots, slots)}
    return sizes


# -- checkpoints ------------------------------------------------------------------------------------------


def read_checkpoint(
    folder: Path, labels: tuple[Sequence[str], Sequence[str]] | None = None, **changes: Any
) -> tuple[JointConfig, Mapping[str, np.ndarray], bool]:
    """Open a checkpoint folder: a plain BERT, or a JointBERT with its heads.

    Args:
        labels: intents and slots, for a checkpoint of monologg/JointBERT, whose config.json does not hold them.
        changes: configuration fields to change once the tensors have been checked.

    Returns:
        The configuration, the tensors (lazy), and whether the heads are among them.

    Raises:
        CheckpointError: not a BERT, heads without labels, or a configuration that cannot be used.
        WeightError: the tensors do not fit the configuration.
    """
    values, tensors, heads = bert.read_bert(folder, HEAD)
    source = str(folder / checkpoint.CONFIG)
    if heads and labels is not None:
        values = values | {"intents": list(labels[0]), "slots": list(labels[1])}
    if heads:
        values = {"use_crf": any(name.startswith("crf.") for name in tensors)} | values
    config = checkpoint.config_from_dict(JointConfig, values, source)
    if heads and not config.intents:
        raise CheckpointError(
            f"{source} does not say which labels the heads stand for; convert it with --labels FOLDER, the folder of "
            "intent_label.txt and slot_label.txt"
        )
    if not heads and config.intents:
        raise CheckpointError(f"{folder} names labels, but holds no heads; take a whole checkpoint")
    bert.refuse_layers(tensors, config, str(folder))
    mapping = weight_map(config.use_crf, heads)
    sizes = shapes(config) if heads else bert.encoder_shapes(config, "bert", pooler=True)
    bert.refuse_misfits(tensors, mapping, bert.expected(mapping, sizes), str(folder))
    return replace(config, **changes), tensors, heads


def write_companions(folder: Path, config: JointConfig, source: Path | None) -> None:
    """Write what lies beside the weights: config.json, tokenizer settings, and the vocabulary of `source`."""
    values = {"model_type": "bert", "architectures": ["JointBERT"], **config.to_dict()}
    checkpoint.write_companions(folder, values, source, "BertTokenizer")


def companions(config: JointConfig, source: Path | None) -> dict[str, bytes]:
    """What lies beside the weights, by name; see `checkpoint.companions`."""
    return checkpoint.companions(lambda folder: write_companions(folder, config, source))
