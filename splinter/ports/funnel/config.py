"""Funnel's configuration, weight names, published sizes and checkpoint layout. Imports no framework.

Dai, Lai, Yang, Le: Funnel-Transformer, NeurIPS 2020. Names are those of `transformers` 4.57 models/funnel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align.files import WeightError
from splinter.align.weights import FLOATING, Rule, WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.checkpoint import ACTIVATIONS, CheckpointError
from splinter.ports.common.training.schedule import Recipe

MODES = ("classification", "answering")
TASKS = {"qnli": "classification", "squad": "answering"}
"""Names of the tasks on the command line -> modes."""
KINDS = ("base", "full", *MODES)
"""What a model holds: the encoder; encoder and decoder; the encoder with a class head; all with a span head."""


@dataclass(frozen=True)
class FunnelConfig:
    """Sizes and variants, under the names of `transformers`' config.json; defaults are the published ones.

    `block_sizes` counts layers with weights of their own, `block_repeats` how often each of them is applied. `labels`
    names the classes in the order of the head's rows; () = they have no names, transformers' LABEL_0 and so on.
    """

    vocab_size: int = 30522
    block_sizes: tuple[int, ...] = (4, 4, 4)
    block_repeats: tuple[int, ...] = (1, 1, 1)
    num_decoder_layers: int = 2
    d_model: int = 768
    n_head: int = 12
    d_head: int = 64
    d_inner: int = 3072
    hidden_act: str = "gelu_new"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    initializer_range: float = 0.1
    initializer_std: float | None = None
    layer_norm_eps: float = 1e-9
    pooling_type: str = "mean"
    attention_type: str = "relative_shift"
    separate_cls: bool = True
    truncate_seq: bool = True
    pool_q_only: bool = True
    num_labels: int = 2
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.block_sizes) != len(self.block_repeats):
            raise CheckpointError(
                f"block_sizes {[*self.block_sizes]} and block_repeats {[*self.block_repeats]} differ in length; "
                "give both, one number per block"
            )
        if self.labels and len(self.labels) != self.num_labels:
            named = f"there are {len(self.labels)} labels ({', '.join(self.labels)})"
            raise CheckpointError(f"{named}, but num_labels is {self.num_labels}")
        for field in fields(self):
            if field.name == "labels":
                continue
            name, value = field.name, getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,) if field.type == "int" else ()
            if (isinstance(value, tuple) and not value) or any(number < 1 for number in numbers):
                raise CheckpointError(f"{name} is {value}, expected 1 or more")
            most = 1e-3 if name.endswith("eps") else 1.0
            real = field.type.startswith("float") and value is not None
            if real and not (0 <= value <= most and math.isfinite(value)):
                raise CheckpointError(f"{name} is {value}, expected a number from 0 to {most:g}")
        if self.d_model % 2:
            raise CheckpointError(f"d_model {self.d_model} is odd; positions need a sine and a cosine half")
        choices = {
            "hidden_act": ACTIVATIONS,
            "pooling_type": ("mean", "max"),
            "attention_type": ("relative_shift", "factorized"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise CheckpointError(f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; the number of labels as transformers stores it, by their names."""
        values = asdict(self)
        count, labels = values.pop("num_labels"), values.pop("labels")
        labels = labels or [f"LABEL_{i}" for i in range(count)]
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        names = {"id2label": {str(i): name for i, name in enumerate(labels)}}
        return {**values, **lists, **names, "label2id": {name: i for i, name in enumerate(labels)}}


def config_from_dict(values: Mapping[str, Any], source: str) -> FunnelConfig:
    """Build a configuration from the values of a config.json.

    Raises:
        CheckpointError: a value of the wrong kind or out of range; names source, key and value.
    """
    values = dict(values)
    if values.get("block_repeats") is None and isinstance(values.get("block_sizes"), list):
        values["block_repeats"] = [1] * len(values["block_sizes"])
    for name in ("block_sizes", "block_repeats"):
        value = values.get(name, [])
        if not isinstance(value, list) or any(type(number) is not int for number in value):
            raise CheckpointError(f"{source}: {name} is {value!r}, expected a number per block, such as [4,4,4]")
    names = _class_names(values, source)
    if isinstance(values.get("id2label"), dict) or names:  # where transformers keeps the number of labels
        values["num_labels"] = len(names or values["id2label"])
    values["labels"] = names
    return checkpoint.config_from_dict(FunnelConfig, values, source)


def _class_names(values: Mapping[str, Any], source: str) -> list[str]:
    """The names of the classes by their numbers; [] where they only repeat these, as LABEL_0 does.

    `id2label` counts, as in transformers, in whatever order it is written; `label2id` where that names nothing.

    Raises:
        CheckpointError: the numbers are not 0, 1 and so on.
    """
    for key in ("id2label", "label2id"):
        table = values.get(key)
        if not isinstance(table, dict):
            continue
        pairs = table.items() if key == "id2label" else ((number, name) for name, number in table.items())
        found, numbers = {str(number): str(name) for number, name in pairs}, [str(n) for n in range(len(table))]
        if found.keys() != set(numbers):
            raise CheckpointError(
                f"{source}: {key} numbers its classes {', '.join(found)}; expected 0 to {numbers[-1]}"
            )
        if any(found[number] not in (number, f"LABEL_{number}") for number in numbers):
            return [found[number] for number in numbers]
    return []


PUBLISHED = {
    "small": FunnelConfig(),
    "medium": FunnelConfig(block_sizes=(6, 3, 3), block_repeats=(1, 2, 2)),
    "intermediate": FunnelConfig(block_sizes=(6, 6, 6)),
    "large": FunnelConfig(block_sizes=(8, 8, 8), d_model=1024, n_head=16, d_inner=4096),
    "xlarge": FunnelConfig(block_sizes=(10, 10, 10), d_model=1024, n_head=16, d_inner=4096),
}
"""The authors' checkpoints by name: B4-4-4H768, B6-3x2-3x2H768, B6-6-6H768, B8-8-8H1024, B10-10-10H1024."""


# -- weight names -----------------------------------------------------------------------------------------

LAYER = {  # their name -> ours, matrices transposed by `weight_map`
    "attention.r_w_bias": "attention.content_bias",
    "attention.r_r_bias": "attention.position_bias",
    "attention.r_kernel": "attention.position_kernel",
    "attention.r_s_bias": "attention.segment_bias",
    "attention.seg_embed": "attention.segment_embedding",
    "attention.q_head.weight": "attention.q_head.weight",
}
for _path in ("attention.k_head", "attention.v_head", "attention.post_proj", "attention.layer_norm"):
    LAYER |= {f"{_path}.{leaf}": f"{_path}.{leaf}" for leaf in ("weight", "bias")}
for _path in ("ffn.linear_1", "ffn.linear_2", "ffn.layer_norm"):
    LAYER |= {f"{_path}.{leaf}": f"{_path}.{leaf}" for leaf in ("weight", "bias")}

EMBEDDINGS = ("word_embeddings.weight", "layer_norm.weight", "layer_norm.bias")
HEADS = {
    "classification": ("classifier.linear_hidden", "classifier.linear_out"),
    "answering": ("qa_outputs",),
}
PRETRAINING = ("discriminator_predictions.dense", "discriminator_predictions.dense_prediction", "lm_head")


def _is_matrix(name: str) -> bool:
    """Whether a tensor is the weight of a Linear: paddle stores (in, out), torch (out, in)."""
    return name.endswith(".weight") and "layer_norm" not in name and "embeddings" not in name


def weight_map(kind: str, prefixed: bool = True, fresh_head: bool = False) -> WeightMap:
    """Their tensor names -> ours.

    Args:
        kind: one of KINDS, what our model holds.
        prefixed: their encoder's names start with `funnel.`, as in models with a head; bare ones go without.
        fresh_head: the head stays as the initialiser left it, whatever the checkpoint has.
    """
    theirs, ours = ("funnel." if flag else "" for flag in (prefixed, kind in MODES))
    rules = [Rule(f"{theirs}embeddings.{leaf}", f"{ours}embeddings.{leaf}") for leaf in EMBEDDINGS]
    decoder = [(f"{theirs}decoder.layers.*", f"{ours}decoder.layers.*")]
    stacks = [(f"{theirs}encoder.blocks.*.*", f"{ours}encoder.blocks.*.*")]
    drop: dict[str, str] = {}
    if kind in ("full", "answering"):
        stacks += decoder
    else:
        drop |= {f"{decoder[0][0]}.{name}": "this model has no decoder" for name in LAYER}
    for stack, own in stacks:
        rules += [Rule(f"{stack}.{name}", f"{own}.{mine}", _is_matrix(name)) for name, mine in LAYER.items()]
    for task, paths in HEADS.items():
        leaves = [f"{path}.{leaf}" for path in paths for leaf in ("weight", "bias")]
        if task == kind and not fresh_head:
            rules += [Rule(leaf, leaf, _is_matrix(leaf)) for leaf in leaves]
        else:
            drop |= dict.fromkeys(leaves, "a fresh head was asked for" if task == kind else "the head of another task")
    drop |= {f"{path}.{leaf}": "a pretraining head" for path in PRETRAINING for leaf in ("weight", "bias")}
    return WeightMap(rules, drop)


def shapes(config: FunnelConfig, kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a checkpoint, as transformers stores them.

    Args:
        kind: one of KINDS, or "tasks": everything with both heads.
    """
    c, prefix = config, "" if kind in ("base", "full") else "funnel."
    width, inner, heads, each = c.d_model, c.d_inner, c.n_head, c.d_head
    per_head, pair = (heads, each), (width,)
    layer: dict[str, tuple[int, ...]] = {
        "attention.r_w_bias": per_head,
        "attention.r_r_bias": per_head,
        "attention.r_kernel": (width, heads, each),
        "attention.r_s_bias": per_head,
        "attention.seg_embed": (2, heads, each),
        "attention.q_head.weight": (heads * each, width),
        "attention.k_head.weight": (heads * each, width),
        "attention.k_head.bias": (heads * each,),
        "attention.v_head.weight": (heads * each, width),
        "attention.v_head.bias": (heads * each,),
        "attention.post_proj.weight": (width, heads * each),
        "attention.post_proj.bias": pair,
        "attention.layer_norm.weight": pair,
        "attention.layer_norm.bias": pair,
        "ffn.linear_1.weight": (inner, width),
        "ffn.linear_1.bias": (inner,),
        "ffn.linear_2.weight": (width, inner),
        "ffn.linear_2.bias": pair,
        "ffn.layer_norm.weight": pair,
        "ffn.layer_norm.bias": pair,
    }
    sizes: dict[str, tuple[int, ...]] = {f"{prefix}embeddings.word_embeddings.weight": (c.vocab_size, width)}
    sizes |= {f"{prefix}embeddings.layer_norm.{leaf}": pair for leaf in ("weight", "bias")}
    stacks = [f"encoder.blocks.{b}.{i}" for b, size in enumerate(c.block_sizes) for i in range(size)]
    if kind in ("full", "answering", "tasks"):
        stacks += [f"decoder.layers.{i}" for i in range(c.num_decoder_layers)]
    for stack in stacks:
        sizes |= {f"{prefix}{stack}.{name}": shape for name, shape in layer.items()}
    dense: dict[str, tuple[int, ...]] = {}
    if kind in ("classification", "tasks"):
        dense |= {"classifier.linear_hidden": (width, width), "classifier.linear_out": (c.num_labels, width)}
    if kind in ("answering", "tasks"):
        dense |= {"qa_outputs": (2, width)}
    for path, shape in dense.items():
        sizes |= {f"{path}.weight": shape, f"{path}.bias": shape[:1]}
    return sizes


# -- checkpoints ------------------------------------------------------------------------------------------


def read_checkpoint(folder: Path, **changes: Any) -> tuple[FunnelConfig, Mapping[str, np.ndarray], bool]:
    """Open a checkpoint folder.

    Returns:
        The configuration with `changes`, the tensors (lazy), and whether the encoder's names start with `funnel.`.

    Raises:
        CheckpointError: not a Funnel, or a configuration that cannot be used.
        WeightError: the tensors do not fit the configuration.
    """
    source = folder / checkpoint.CONFIG
    values, tensors = checkpoint.read_json(source), checkpoint.open_weights(folder)
    word = "embeddings.word_embeddings.weight"
    prefixed = f"funnel.{word}" in tensors
    # BERT's table has the same last names behind its prefix, so the file must call itself a Funnel too
    if values.get("model_type") != "funnel" or not (prefixed or word in tensors):
        raise CheckpointError(
            f"{folder} is a checkpoint of another model (model_type {values.get('model_type', 'unknown')!r}, first "
            f"tensor {next(iter(tensors), 'none')!r}); expected a Funnel such as funnel-transformer/small"
        )
    config = config_from_dict(values, str(source))
    _refuse_misfits(config, tensors, prefixed, str(folder))
    return replace(config, **changes), tensors, prefixed


def has_head(tensors: Mapping[str, np.ndarray], kind: str) -> bool:
    """Whether a checkpoint brings the head of a task."""
    return any(name.startswith(HEADS[kind]) for name in tensors)


def has_decoder(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a checkpoint brings a decoder; those called `-base` do not."""
    return any("decoder.layers." in name for name in tensors)


def chosen_head(folder: Path, kind: str, head: str) -> str:
    """Which head a task starts from: "pretrained" or "fresh".

    Args:
        kind: "classification" or "answering".
        head: "pretrained", "fresh", or "auto" = the checkpoint's when it has one.

    Raises:
        CheckpointError: the checkpoint lacks the head asked for, or the decoder that answering needs.
    """
    tensors = read_checkpoint(folder)[1]
    there = has_head(tensors, kind)
    if head == "pretrained" and not there:
        raise CheckpointError(
            f"{folder} holds no head for {kind}; start from a new one with head='fresh' (--head fresh), "
            "or use a checkpoint that was fine-tuned for it"
        )
    if kind == "answering" and not has_decoder(tensors):
        raise CheckpointError(
            f"{folder} holds no decoder, which {kind} needs; use the checkpoint whose name lacks -base"
        )
    return {"auto": "pretrained" if there else "fresh"}.get(head, head)


def _refuse_misfits(config: FunnelConfig, tensors: Mapping[str, np.ndarray], prefixed: bool, source: str) -> None:
    """Every tensor of known name against the configuration, before a framework builds a model of these sizes."""
    headers = getattr(tensors, "headers", None) or {n: (a.shape, a.dtype.name) for n, a in tensors.items()}
    expected = shapes(config, "tasks")
    if not prefixed:
        expected = {name.removeprefix("funnel."): shape for name, shape in expected.items()}
    wanted = shapes(config, "base" if not prefixed else "classification")
    for name in wanted.keys() - tensors.keys():
        if not name.startswith(HEADS["classification"]):
            raise WeightError(f"{source}: tensor {name!r} is missing; block_sizes are {config.block_sizes}")
    for name, (shape, dtype) in headers.items():
        if name not in expected:
            if name.startswith(PRETRAINING):
                continue
            raise WeightError(f"{source}: tensor {name!r} has no place; block_sizes are {config.block_sizes}")
        if tuple(shape) != expected[name]:
            raise WeightError(
                f"{source}: tensor {name!r} has shape {shape}, the configuration asks for {expected[name]}"
            )
        if dtype not in FLOATING:
            raise WeightError(
                f"{source}: tensor {name!r} has dtype {dtype}, expected one of {', '.join(FLOATING)}; "
                "save the checkpoint in one of these"
            )


ARCHITECTURES = {
    "base": "FunnelBaseModel",
    "full": "FunnelModel",
    "classification": "FunnelForSequenceClassification",
    "answering": "FunnelForQuestionAnswering",
}


def write_companions(folder: Path, config: FunnelConfig, kind: str, source: Path | None) -> None:
    """Write what lies beside the weights: config.json, tokenizer settings, and the vocabulary of `source`."""
    values = {"model_type": "funnel", "architectures": [ARCHITECTURES[kind]], **config.to_dict()}
    checkpoint.write_companions(folder, values, source, "FunnelTokenizer")


def companions(config: FunnelConfig, kind: str, source: Path | None) -> dict[str, bytes]:
    """What lies beside the weights, by name; see `checkpoint.companions`."""
    return checkpoint.companions(lambda folder: write_companions(folder, config, kind, source))


# -- recipes ----------------------------------------------------------------------------------------------

RECIPES = {
    "classification": Recipe(learning_rate=2e-5, epochs=3, min_steps=0, batch_size=32, epsilon=1e-6),
    "answering": Recipe(learning_rate=3e-5, epochs=2, min_steps=0, batch_size=16, epsilon=1e-6),
}
"""Fine-tuning by mode: warm-up 10 %, linear to 0, clipped at 1, no decay. Rate, batch and epochs for QNLI are those
of the authors' PyTorch example, the rate for SQuAD that of their TensorFlow script; docs/funnel.md has the rest."""
