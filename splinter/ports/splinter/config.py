"""Splinter's configuration, weight names and checkpoint layouts. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.weights import Rule, WeightMap
from splinter.ports.common import bert, checkpoint
from splinter.ports.common.checkpoint import BertConfig, CheckpointError
from splinter.ports.common.text import QUESTION_TOKEN

MODES = ("hf", "paper")
HEADS = ("qass", "plain")


@dataclass(frozen=True)
class SplinterConfig(BertConfig):
    """Encoder sizes, the head, and which of the two published behaviours.

    `mode`: `hf` = `transformers`; `paper` = the authors' fine-tuning code ([SEP] masked, segments ignored,
    fill -10000, [MASK] read as the question token).
    `span_head`: `qass` = question-aware span selection; `plain` = a start and an end score of each token alone, what
    the paper compares with; in `paper` mode only, transformers has none.
    """

    vocab_size: int = 28996  # transformers' class default of 30522 is wrong for every published checkpoint
    question_token_id: int = 104
    mask_token_id: int = 103
    sep_token_id: int = 102
    head_layer_norm_eps: float = 1e-5
    mode: str = "hf"
    span_head: str = "qass"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise CheckpointError(f"mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        if self.span_head not in HEADS:
            raise CheckpointError(f"span_head {self.span_head!r} is not known; use one of {', '.join(HEADS)}")
        if self.span_head == "plain" and self.mode == "hf":
            raise CheckpointError("a plain span head goes with --mode paper; transformers' Splinter has none")

    def with_questions(self) -> SplinterConfig:
        """This configuration, if its head asks questions.

        Raises:
            CheckpointError: a plain head.
        """
        if self.span_head == "plain":
            raise CheckpointError(
                "a plain span head asks no questions, so it cannot be pretrained; convert with --head fresh"
            )
        return self

    def for_pretraining(self) -> SplinterConfig:
        """The pretraining variant: the authors' TensorFlow graph has tanh gelu and epsilon 1e-12 in the head."""
        if self.mode == "hf":
            return self
        return replace(self.with_questions(), hidden_act="gelu_pytorch_tanh", head_layer_norm_eps=1e-12)


# -- weight names -----------------------------------------------------------------------------------------

HEAD_PREFIX = {"transformers": "splinter_qass.", "authors": "cls.span_predictions."}
PLAIN = "qa_outputs"
"""The plain head, in every layout; the name it has in transformers' models for question answering."""


def has_head(tensors: Iterable[str]) -> bool:
    """Whether a span head of either kind is among the names of a checkpoint."""
    return any(name.startswith((*HEAD_PREFIX.values(), PLAIN)) for name in tensors)


def _head_rules(prefix: str, classifier: str, transpose: bool) -> list[Rule]:
    rules = []
    for part in ("query_start", "query_end", "start", "end"):
        theirs, ours = f"{prefix}{part}_transform", f"cls.{part}"
        rules.append(Rule(f"{theirs}.dense.weight", f"{ours}.dense.weight", transpose=True))
        rules.append(Rule(f"{theirs}.dense.bias", f"{ours}.dense.bias"))
        rules += [Rule(f"{theirs}.LayerNorm.{leaf}", f"{ours}.norm.{leaf}") for leaf in ("weight", "bias")]
    for part in ("start", "end"):
        rules.append(Rule(f"{prefix}{part}_{classifier}", f"cls.{part}_classifier.weight", transpose))
    rules += [Rule(f"{PLAIN}.weight", "cls.scores.weight", transpose=True), Rule(f"{PLAIN}.bias", "cls.scores.bias")]
    return rules


def weight_map(layout: str = "transformers", head: bool = True) -> WeightMap:
    """Their tensor names -> ours.

    Args:
        layout: "transformers", or "authors" (oriram/splinter; there the two classifier matrices are raw
            parameters used as Q @ M, already (in, out): no transpose).
        head: False leaves the head of the checkpoint behind, for a fresh one.
    """
    drop: dict[str, str] = {}
    if layout == "transformers":
        rules = bert.encoder_rules("splinter")
        head_rules = _head_rules("splinter_qass.", "classifier.weight", transpose=True)
        drop["splinter.embeddings.position_ids"] = "a constant 0..511 that old versions stored"
    else:
        rules = bert.encoder_rules("bert")
        head_rules = _head_rules("cls.span_predictions.", "classifier", transpose=False)
        drop["bert.embeddings.position_ids"] = "a constant 0..511 that old versions stored"
        drop |= {f"bert.pooler.dense.{leaf}": "the pooler is never used" for leaf in ("weight", "bias")}
        leaves = ["bias", "decoder.weight", "decoder.bias"]
        leaves += [f"transform.{p}.{leaf}" for p in ("dense", "LayerNorm") for leaf in ("weight", "bias")]
        drop |= {f"cls.predictions.{leaf}": "a masked language model head" for leaf in leaves}
    if head:
        return WeightMap(rules + head_rules, drop)
    return WeightMap(rules, drop | {rule.theirs: "a fresh head was asked for" for rule in head_rules})


def read_checkpoint(
    folder: Path, mode: str | None = None, **changes: Any
) -> tuple[SplinterConfig, Mapping[str, np.ndarray], str]:
    """Open a checkpoint folder.

    Returns:
        The configuration with `changes`, the tensors (lazy), and the layout, "transformers" or "authors"; a plain
        BERT has the latter, and no head.

    Raises:
        CheckpointError: not a Splinter, or a configuration that cannot be used.
        WeightError: the tensors do not fit the configuration.
    """
    values = checkpoint.read_json(folder / checkpoint.CONFIG)
    tensors = checkpoint.open_weights(folder)
    if any(name.startswith("splinter.") for name in tensors):
        layout = "transformers"
    elif any(name.startswith("bert.") for name in tensors) and (
        "StartEndSpanModel" in str(values.get("architectures")) or any("cls.span_predictions" in n for n in tensors)
    ):
        layout, renamed = "authors", bert.Renamed(tensors, lambda name: name.replace("new_cls.", "cls.", 1))
        if len(renamed) < len(tensors):
            raise CheckpointError(f"{folder} holds two heads, under cls. and new_cls.; remove the one not meant")
        tensors = renamed
    elif values.get("model_type") == "bert":  # a plain BERT to start from: the authors' layout without a head
        layout, tensors = "authors", bert.read_bert(folder, r"(?!)", pooler=False)[1]
    else:
        kind = values.get("model_type", "unknown")
        first = next(iter(tensors), "none")
        raise CheckpointError(
            f"{folder} is a checkpoint of another model (model_type {kind!r}, first tensor {first!r}); "
            "expected a Splinter such as tau/splinter-base-qass"
        )
    source = str(folder / checkpoint.CONFIG)
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise CheckpointError(
            f"{source}: position_embedding_type {values['position_embedding_type']!r}, only 'absolute'"
        )
    config = checkpoint.config_from_dict(SplinterConfig, values, source)
    _refuse_misfits(config, tensors, layout, str(folder))
    return replace(config, **(changes | ({"mode": mode} if mode else {}))), tensors, layout


def _refuse_misfits(config: SplinterConfig, tensors: Mapping[str, np.ndarray], layout: str, source: str) -> None:
    """Every tensor against the configuration; a head that is there is whole. Raises WeightError."""
    bert.refuse_layers(tensors, config, source)
    head = has_head(tensors)
    expected = bert.expected(weight_map("transformers"), shapes(config))
    expected = {name: shape for name, shape in expected.items() if head or not name.startswith("cls.")}
    bert.refuse_misfits(tensors, weight_map(layout, head), expected, source)


def write_companions(folder: Path, config: SplinterConfig, source: Path | None) -> None:
    """Write what lies beside the weights: config.json, tokenizer settings, and the vocabulary of `source`."""
    # of a plain head transformers knows nothing, and would leave its own at random with no more than a warning
    kind = "splinter" if config.span_head == "qass" else "splinter-plain"
    values = {"model_type": kind, "architectures": ["SplinterForQuestionAnswering"], **config.to_dict()}
    # transformers looks for the question token by its name, which a plain BERT does not have
    named = {config.question_token_id: QUESTION_TOKEN}
    checkpoint.write_companions(folder, values, source, "SplinterTokenizer", lower_case=False, named=named)


def companions(config: SplinterConfig, source: Path | None) -> dict[str, bytes]:
    """What lies beside the weights, by name; see `checkpoint.companions`."""
    return checkpoint.companions(lambda folder: write_companions(folder, config, source))


def shapes(config: SplinterConfig) -> dict[str, tuple[int, ...]]:
    """Names (those of transformers) and shapes of all tensors of a checkpoint of these sizes."""
    width, sizes = config.hidden_size, bert.encoder_shapes(config, "splinter")
    if config.span_head == "plain":
        return sizes | {f"{PLAIN}.weight": (2, width), f"{PLAIN}.bias": (2,)}
    for part in ("query_start", "query_end", "start", "end"):
        path = f"splinter_qass.{part}_transform"
        sizes |= {f"{path}.dense.weight": (width, width), f"{path}.dense.bias": (width,)}
        sizes |= {f"{path}.LayerNorm.weight": (width,), f"{path}.LayerNorm.bias": (width,)}
    for part in ("start", "end"):
        sizes[f"splinter_qass.{part}_classifier.weight"] = (width, width)
    return sizes
