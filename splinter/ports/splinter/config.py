"""Splinter's configuration, weight names and checkpoint layouts. Imports no framework."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.weights import FLOATING, Rule, WeightError, WeightMap
from splinter.ports import checkpoint
from splinter.ports.checkpoint import BertConfig, CheckpointError

MODES = ("hf", "paper")


@dataclass(frozen=True)
class SplinterConfig(BertConfig):
    """Encoder sizes, the head, and which of the two published behaviours.

    `mode`: `hf` = `transformers`; `paper` = the authors' fine-tuning code ([SEP] masked, segments ignored,
    fill -10000, [MASK] read as the question token).
    """

    vocab_size: int = 28996  # transformers' class default of 30522 is wrong for every published checkpoint
    question_token_id: int = 104
    mask_token_id: int = 103
    sep_token_id: int = 102
    head_layer_norm_eps: float = 1e-5
    mode: str = "hf"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise CheckpointError(f"mode {self.mode!r} is not known; use one of {', '.join(MODES)}")

    def for_pretraining(self) -> SplinterConfig:
        """The pretraining variant: the authors' TensorFlow graph has tanh gelu and epsilon 1e-12 in the head."""
        if self.mode == "hf":
            return self
        return replace(self, hidden_act="gelu_new", head_layer_norm_eps=1e-12)


# -- weight names -----------------------------------------------------------------------------------------

HEAD_PREFIX = {"transformers": "splinter_qass.", "authors": "cls.span_predictions."}


def _encoder_rules(prefix: str) -> list[Rule]:
    layer, ours = f"{prefix}.encoder.layer.*", "bert.encoder.*"
    names = {
        "attention.self.query": "attention.query",
        "attention.self.key": "attention.key",
        "attention.self.value": "attention.value",
        "attention.output.dense": "attention.output",
        "intermediate.dense": "inner",
        "output.dense": "outer",
    }
    rules = [
        Rule(f"{prefix}.embeddings.{theirs}_embeddings.weight", f"bert.embeddings.{mine}.weight")
        for theirs, mine in (("word", "word"), ("position", "position"), ("token_type", "segment"))
    ]
    for theirs, mine in names.items():
        # paddle Linear stores (in, out), torch (out, in)
        rules.append(Rule(f"{layer}.{theirs}.weight", f"{ours}.{mine}.weight", transpose=True))
        rules.append(Rule(f"{layer}.{theirs}.bias", f"{ours}.{mine}.bias"))
    norms = {
        f"{prefix}.embeddings.LayerNorm": "bert.embeddings.norm",
        f"{layer}.attention.output.LayerNorm": f"{ours}.attention.norm",
        f"{layer}.output.LayerNorm": f"{ours}.norm",
    }
    rules += [Rule(f"{t}.{leaf}", f"{o}.{leaf}") for t, o in norms.items() for leaf in ("weight", "bias")]
    return rules


def _head_rules(prefix: str, classifier: str, transpose: bool) -> list[Rule]:
    rules = []
    for part in ("query_start", "query_end", "start", "end"):
        theirs, ours = f"{prefix}{part}_transform", f"cls.{part}"
        rules.append(Rule(f"{theirs}.dense.weight", f"{ours}.dense.weight", transpose=True))
        rules.append(Rule(f"{theirs}.dense.bias", f"{ours}.dense.bias"))
        rules += [Rule(f"{theirs}.LayerNorm.{leaf}", f"{ours}.norm.{leaf}") for leaf in ("weight", "bias")]
    for part in ("start", "end"):
        rules.append(Rule(f"{prefix}{part}_{classifier}", f"cls.{part}_classifier.weight", transpose))
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
        rules = _encoder_rules("splinter")
        head_rules = _head_rules("splinter_qass.", "classifier.weight", transpose=True)
        drop["splinter.embeddings.position_ids"] = "a constant 0..511 that old versions stored"
    else:
        rules = _encoder_rules("bert")
        head_rules = _head_rules("cls.span_predictions.", "classifier", transpose=False)
        drop["bert.embeddings.position_ids"] = "a constant 0..511 that old versions stored"
        drop |= {f"bert.pooler.dense.{leaf}": "the pooler is never used" for leaf in ("weight", "bias")}
        leaves = ["bias", "decoder.weight", "decoder.bias"]
        leaves += [f"transform.{p}.{leaf}" for p in ("dense", "LayerNorm") for leaf in ("weight", "bias")]
        drop |= {f"cls.predictions.{leaf}": "a masked language model head" for leaf in leaves}
    if head:
        return WeightMap(rules + head_rules, drop)
    return WeightMap(rules, drop | {rule.theirs: "a fresh head was asked for" for rule in head_rules})


class _Renamed(Mapping[str, np.ndarray]):
    """The authors' `new_cls.` head under the name `cls.`; only one of the two exists in a file."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.tensors = tensors
        self.names = {name.replace("new_cls.", "cls.", 1): name for name in tensors}
        self.headers = {name: _headers(tensors)[theirs] for name, theirs in self.names.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.names[name]]

    def __iter__(self):
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_checkpoint(
    folder: Path, mode: str | None = None, **changes: Any
) -> tuple[SplinterConfig, Mapping[str, np.ndarray], str]:
    """Open a checkpoint folder.

    Returns:
        The configuration with `changes`, the tensors (lazy), and the layout, "transformers" or "authors".

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
        layout, renamed = "authors", _Renamed(tensors)
        if len(renamed) < len(tensors):
            raise CheckpointError(f"{folder} holds two heads, under cls. and new_cls.; remove the one not meant")
        tensors = renamed
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


def _headers(tensors: Mapping[str, np.ndarray]) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape, dtype), without reading a file that is lazy."""
    return getattr(tensors, "headers", None) or {n: (a.shape, a.dtype.name) for n, a in tensors.items()}


def _refuse_misfits(config: SplinterConfig, tensors: Mapping[str, np.ndarray], layout: str, source: str) -> None:
    """Every tensor against the configuration, before either framework builds a model of these sizes.

    transformers' own loader only warns of a missing tensor, and leaves it random.

    Raises:
        WeightError: a tensor missing, surplus, of another shape or not floating; a head that is there is whole.
    """
    layers = len({match[1] for name in tensors if (match := re.search(r"encoder\.layer\.(\d+)\.", name))})
    if layers != config.num_hidden_layers:
        raise WeightError(f"{source}: num_hidden_layers is {config.num_hidden_layers}, the tensors have {layers}")
    head = any(HEAD_PREFIX[layout] in name for name in tensors)
    sizes, headers = shapes(config), _headers(tensors)
    expected = {
        link.ours: sizes[name][::-1] if link.transpose else sizes[name]
        for name, link in weight_map("transformers").links_from(sizes).items()
        if head or not link.ours.startswith("cls.")
    }
    for link in weight_map(layout, head).plan(tensors, expected, source):
        (shape, dtype), wanted = headers[link.theirs], expected[link.ours]
        wanted = wanted[::-1] if link.transpose else wanted
        if shape != wanted:
            raise WeightError(
                f"{source}: tensor {link.theirs!r} has shape {shape}, the configuration asks for {wanted}"
            )
        if dtype not in FLOATING:
            raise WeightError(
                f"{source}: tensor {link.theirs!r} has dtype {dtype}, expected one of {', '.join(FLOATING)}; "
                "save the checkpoint in one of these"
            )


def write_companions(folder: Path, config: SplinterConfig, source: Path | None) -> None:
    """Write what lies beside the weights: config.json, tokenizer settings, and the vocabulary of `source`."""
    values = {"model_type": "splinter", "architectures": ["SplinterForQuestionAnswering"], **config.to_dict()}
    checkpoint.write_json(folder / checkpoint.CONFIG, values)
    if source is not None and source.resolve() != folder.resolve():
        for name in (checkpoint.VOCABULARY, checkpoint.TOKENIZER_CONFIG):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if not (folder / checkpoint.TOKENIZER_CONFIG).is_file():
        checkpoint.write_json(
            folder / checkpoint.TOKENIZER_CONFIG, {"tokenizer_class": "SplinterTokenizer", "do_lower_case": False}
        )


def shapes(config: SplinterConfig) -> dict[str, tuple[int, ...]]:
    """Names (those of transformers) and shapes of all tensors of a checkpoint of these sizes."""
    width, inner = config.hidden_size, config.intermediate_size
    rows = {
        "word_embeddings": config.vocab_size,
        "position_embeddings": config.max_position_embeddings,
        "token_type_embeddings": config.type_vocab_size,
    }
    sizes: dict[str, tuple[int, ...]] = {f"splinter.embeddings.{n}.weight": (r, width) for n, r in rows.items()}

    def norm(path: str) -> None:
        sizes.update({f"{path}.LayerNorm.weight": (width,), f"{path}.LayerNorm.bias": (width,)})

    def dense(path: str, inputs: int, outputs: int) -> None:
        sizes.update({f"{path}.weight": (outputs, inputs), f"{path}.bias": (outputs,)})

    norm("splinter.embeddings")
    for number in range(config.num_hidden_layers):
        layer = f"splinter.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", width, width)
        dense(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output")
        dense(f"{layer}.intermediate.dense", width, inner)
        dense(f"{layer}.output.dense", inner, width)
        norm(f"{layer}.output")
    for part in ("query_start", "query_end", "start", "end"):
        dense(f"splinter_qass.{part}_transform.dense", width, width)
        norm(f"splinter_qass.{part}_transform")
    for part in ("start", "end"):
        sizes[f"splinter_qass.{part}_classifier.weight"] = (width, width)
    return sizes
