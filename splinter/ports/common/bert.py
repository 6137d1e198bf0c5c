"""What the ports on a BERT encoder share about checkpoints: tensor names, shapes, and reading a plain BERT.

Framework-free. The layout is that of `transformers` 4.57 models/bert.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.weights import FLOATING, Rule, WeightError, WeightMap

from . import checkpoint
from .checkpoint import BertConfig, CheckpointError

POOLER = re.compile(r"(^|\.)pooler\.")


def encoder_rules(prefix: str, pooler: bool = False) -> list[Rule]:
    """Tensor names of transformers' BertModel under `prefix` -> those of encoder.Bert under `bert`."""
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
    if pooler:
        rules.append(Rule(f"{prefix}.pooler.dense.weight", "bert.pooler.weight", transpose=True))
        rules.append(Rule(f"{prefix}.pooler.dense.bias", "bert.pooler.bias"))
    return rules


def encoder_shapes(config: BertConfig, prefix: str, pooler: bool = False) -> dict[str, tuple[int, ...]]:
    """Names (those of transformers under `prefix`) and shapes of an encoder of these sizes."""
    width, inner = config.hidden_size, config.intermediate_size
    rows = {
        "word_embeddings": config.vocab_size,
        "position_embeddings": config.max_position_embeddings,
        "token_type_embeddings": config.type_vocab_size,
    }
    sizes: dict[str, tuple[int, ...]] = {f"{prefix}.embeddings.{n}.weight": (r, width) for n, r in rows.items()}

    def norm(path: str) -> None:
        sizes.update({f"{path}.LayerNorm.weight": (width,), f"{path}.LayerNorm.bias": (width,)})

    def dense(path: str, inputs: int, outputs: int) -> None:
        sizes.update({f"{path}.weight": (outputs, inputs), f"{path}.bias": (outputs,)})

    norm(f"{prefix}.embeddings")
    for number in range(config.num_hidden_layers):
        layer = f"{prefix}.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", width, width)
        dense(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output")
        dense(f"{layer}.intermediate.dense", width, inner)
        dense(f"{layer}.output.dense", inner, width)
        norm(f"{layer}.output")
    if pooler:
        dense(f"{prefix}.pooler.dense", width, width)
    return sizes


class Renamed(Mapping[str, np.ndarray]):
    """Tensors under other names, still read lazily.

    Args:
        tensors: name -> array.
        rename: old name -> new name, None for a tensor to leave out.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], rename: Callable[[str], str | None]):
        self.tensors = tensors
        self.names = {new: name for name in tensors if (new := rename(name)) is not None}
        self.headers = {new: headers(tensors)[name] for new, name in self.names.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.names[name]]

    def __iter__(self):
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def headers(tensors: Mapping[str, np.ndarray]) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """Name -> (shape, dtype), without reading a file that is lazy."""
    return getattr(tensors, "headers", None) or {n: (a.shape, a.dtype.name) for n, a in tensors.items()}


def refuse_layers(tensors: Mapping[str, np.ndarray], config: BertConfig, source: str) -> None:
    """The number of layers, before anything is made for each of them.

    Raises:
        WeightError: the configuration has another number than the tensors.
    """
    layers = len({match[1] for name in tensors if (match := re.search(r"encoder\.layer\.(\d+)\.", name))})
    if layers != config.num_hidden_layers:
        raise WeightError(f"{source}: num_hidden_layers is {config.num_hidden_layers}, the tensors have {layers}")


def refuse_misfits(
    tensors: Mapping[str, np.ndarray],
    mapping: WeightMap,
    expected: Mapping[str, tuple[int, ...]],
    source: str,
) -> None:
    """Every tensor against the configuration, before either framework builds a model of these sizes.

    transformers' own loader only warns of a missing tensor, and leaves it random.

    Args:
        expected: our names -> shapes in our layout, of all that the checkpoint must hold.

    Raises:
        WeightError: a tensor missing, surplus, of another shape or not floating.
    """
    found = headers(tensors)
    for link in mapping.plan(tensors, expected, source):
        (shape, dtype), wanted = found[link.theirs], expected[link.ours]
        wanted = wanted[::-1] if link.transpose else wanted
        if tuple(shape) != tuple(wanted):
            raise WeightError(
                f"{source}: tensor {link.theirs!r} has shape {shape}, the configuration asks for {wanted}"
            )
        if dtype not in FLOATING:
            raise WeightError(
                f"{source}: tensor {link.theirs!r} has dtype {dtype}, expected one of {', '.join(FLOATING)}; "
                "save the checkpoint in one of these"
            )


def expected(mapping: WeightMap, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Their names and shapes -> our names and shapes."""
    return {
        link.ours: sizes[name][::-1] if link.transpose else sizes[name]
        for name, link in mapping.links_from(sizes).items()
    }


def read_bert(folder: Path, head: str, pooler: bool = True) -> tuple[dict[str, Any], Mapping[str, np.ndarray], bool]:
    """Open a checkpoint on a BERT encoder: a plain one to start from, or one of ours with its head.

    Plain ones come as `transformers` writes them: BertModel (names without prefix), BertForMaskedLM and
    BertForPreTraining (prefix `bert.`, a language model head that is left behind, old files without pooler).

    Args:
        head: regular expression of the tensors of the system's own head.
        pooler: whether the system reads it.

    Returns:
        The values of config.json, the tensors (lazy, encoder under `bert.`), and whether the head is among them.

    Raises:
        CheckpointError: not a BERT, or without the pooler.
    """
    values = checkpoint.read_json(folder / checkpoint.CONFIG)
    tensors = checkpoint.open_weights(folder)
    bare = "embeddings.word_embeddings.weight" in tensors
    own = re.compile(head)

    def rename(name: str) -> str | None:
        name = f"bert.{name}" if bare and not own.match(name) else name
        # old files call LayerNorm's weight and bias gamma and beta, and store the constant 0..511
        name = re.sub(
            r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name
        )
        if name == "bert.embeddings.position_ids" or name.startswith(("cls.predictions.", "cls.seq_relationship.")):
            return None
        return name

    renamed = Renamed(tensors, rename)
    if "bert.embeddings.word_embeddings.weight" not in renamed:
        kind, first = values.get("model_type", "unknown"), next(iter(tensors), "none")
        raise CheckpointError(
            f"{folder} is a checkpoint of another model (model_type {kind!r}, first tensor {first!r}); "
            "expected a BERT such as bert-base-uncased, or a model fine-tuned here"
        )
    if others := [name for name in renamed if not name.startswith("bert.") and not own.match(name)]:
        raise CheckpointError(
            f"{folder} holds {others[0]!r}, the head of another model; take a plain BERT, or a model of this system"
        )
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise CheckpointError(
            f"{folder / checkpoint.CONFIG}: position_embedding_type {values['position_embedding_type']!r}, "
            "only 'absolute'"
        )
    if pooler and not any(POOLER.search(name) for name in renamed):
        raise CheckpointError(f"{folder} holds no pooler, which this model reads; take a checkpoint with one")
    return values, renamed, any(own.match(name) for name in renamed)
