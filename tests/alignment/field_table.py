"""Every field of every configuration and recipe: which step notices when our side alone reads another value.

`NOTICED` has a row for each field of a configuration, `STEP_OF` and `READ_IN` for each of a recipe, so that a new one
cannot be forgotten; `test_fields.py` asks for that, and runs each step named here.
"""

from dataclasses import dataclass, fields
from typing import Any

import transformers
from transformers.models.splinter.modeling_splinter import SplinterFullyConnectedLayer

from splinter.ports import proofs
from splinter.ports.funnel.config import FunnelConfig
from splinter.ports.jointbert.config import JointConfig
from splinter.ports.multitask.config import MultitaskConfig
from splinter.ports.splinter.config import SplinterConfig

PORTS = {port.name: port for port in proofs.load_all()}


@dataclass(frozen=True)
class Seen:
    """Where a field that our side alone reads otherwise shows.

    Args:
        step: "load": the weights do not fit; else a step, `dropout` being that of `regularization`.
        port, mode: in which; "" = the system's own port, in its first mode.
        value: what our side reads; None: the default, or where that is the value of the checkpoint, another one.
    """

    step: str
    port: str = ""
    mode: str = ""
    value: Any = None


@dataclass(frozen=True)
class Unseen:
    """A field that no step is sensitive to.

    Args:
        why: that is right.
        value: another one that our side may read without effect; None where a test is about something else.
    """

    why: str
    value: Any = None


LOAD, FORWARD, LOSS, DROPOUT, INIT = (Seen(step) for step in ("load", "forward", "loss", "dropout", "init"))
BERT = {
    "vocab_size": LOAD,
    "hidden_size": Seen("load", value=120),  # a multiple of the heads, as a configuration demands
    "num_hidden_layers": LOAD,
    "num_attention_heads": FORWARD,
    "intermediate_size": LOAD,
    "hidden_act": FORWARD,
    "hidden_dropout_prob": DROPOUT,
    "attention_probs_dropout_prob": DROPOUT,
    "max_position_embeddings": LOAD,
    "type_vocab_size": LOAD,
    "initializer_range": INIT,
    "layer_norm_eps": FORWARD,
    "pad_token_id": INIT,
}
NOTICED: dict[str, dict[str, Seen | Unseen]] = {
    "splinter": {
        **BERT,
        "hidden_act": Seen("forward", value="gelu_new"),
        "question_token_id": FORWARD,
        "mask_token_id": Seen("forward", mode="paper"),
        "sep_token_id": Seen("forward", mode="paper"),
        "head_layer_norm_eps": Seen("forward", value=1e-12),
        "mode": Seen("forward", value="paper"),
        "span_head": Seen("load", "splinter-plain", "paper"),
    },
    "jointbert": {
        **BERT,
        "intents": Seen("load", value=("UNK", "other")),
        "slots": Seen("load", value=("PAD", "UNK", "O")),
        "use_crf": Seen("load", mode="softmax", value=True),
        "slot_loss_coef": LOSS,
        "dropout_rate": DROPOUT,
        "decode_padding": Seen("forward", mode="crf"),
    },
    "multitask": {
        **BERT,
        "design": Seen("load", value="version2"),
        "sentiment_classes": LOAD,
        "head_dropout_prob": DROPOUT,
        "pooling": Seen("forward", value="cls"),
        "head_activation": Seen("forward", mode="version2", value="none"),
        "pair_features": Seen("load", mode="version2", value="compare"),
        "trained": Unseen("says which heads may answer on the command line; the model has all", ("sentiment",)),
    },
    "funnel": {
        "vocab_size": LOAD,
        "block_sizes": Seen("load", value=(2, 2, 2)),
        "block_repeats": FORWARD,
        "num_decoder_layers": Seen("load", mode="answering", value=3),
        "d_model": LOAD,
        "n_head": LOAD,
        "d_head": LOAD,
        "d_inner": LOAD,
        "hidden_act": FORWARD,
        "hidden_dropout": DROPOUT,
        "attention_dropout": DROPOUT,
        "activation_dropout": DROPOUT,
        "initializer_range": INIT,
        "initializer_std": Seen("init", value=0.3),
        "layer_norm_eps": FORWARD,
        "pooling_type": Seen("forward", value="max"),
        # one and the same function, by the addition theorems: what is dropped tells them apart
        "attention_type": Seen("dropout", value="factorized"),
        "separate_cls": FORWARD,
        "truncate_seq": FORWARD,
        "pool_q_only": FORWARD,
        "num_labels": Seen("load", value=3),
        "labels": Unseen("names of classes for who reads an answer; their number is num_labels", ("yes", "no")),
    },
}

CONFIGS: dict[str, type] = {
    "splinter": SplinterConfig,
    "jointbert": JointConfig,
    "multitask": MultitaskConfig,
    "funnel": FunnelConfig,
}
FOLDERS = {name: [PORTS[one].checkpoints["tiny"] for one in ports] for name, ports in {
    "splinter": ("splinter", "splinter-plain"),
    "jointbert": ("jointbert",),
    "multitask": ("multitask", "multitask-options"),
    "funnel": ("funnel", "funnel-factorized"),
}.items()}  # fmt: skip

BY_MODE = "the modes are that field's values, whatever the checkpoint says"
BY_PORT = "the checkpoint has the published value; funnel-options and funnel-factorized change it on both sides"
BY_VOCABULARY = "where the shipped vocabulary has it; the reading of data demands that line"
AT_DEFAULT: dict[str, dict[str, str]] = {
    "splinter": {
        "pad_token_id": BY_VOCABULARY,
        "hidden_act": "pretraining has the other form in mode paper",
        "question_token_id": BY_VOCABULARY,
        "mask_token_id": BY_VOCABULARY,
        "sep_token_id": BY_VOCABULARY,
        "head_layer_norm_eps": "transformers has it written in; pretraining has another one in mode paper",
    },
    "jointbert": {"pad_token_id": BY_VOCABULARY},
    "multitask": {
        "pad_token_id": BY_VOCABULARY,
        "design": BY_MODE,
        "sentiment_classes": "as many as the shipped data has; the command line takes no other head for it",
        "trained": NOTICED["multitask"]["trained"].why,  # type: ignore[union-attr]
    },
    "funnel": {
        "pooling_type": BY_PORT,
        "separate_cls": BY_PORT,
        "truncate_seq": BY_PORT,
        "pool_q_only": BY_PORT,
        "num_labels": "transformers gives the head for answers as many rows, and reads two",
        "labels": NOTICED["funnel"]["labels"].why,  # type: ignore[union-attr]
    },
}
"""Fields that have their default in every tiny checkpoint, and why."""


# -- defaults ---------------------------------------------------------------------------------------------

REFERENCES: dict[str, Any] = {
    "splinter": transformers.SplinterConfig,
    "jointbert": transformers.BertConfig,
    "multitask": transformers.BertConfig,
    "funnel": transformers.FunnelConfig,
}

MONOLOGG = "monologg/JointBERT main.py"
COURSE = "CS 224N default project, multitask_classifier.py"
RESTATED: dict[str, dict[str, tuple[Any, str]]] = {
    "splinter": {
        "vocab_size": (28996, "lines of bert-base-cased's vocabulary, which all published checkpoints have"),
        "mask_token_id": (103, "line of [MASK] there, from 0; oriram/splinter finetuning/modeling.py"),
        "sep_token_id": (102, "line of [SEP] there, from 0"),
        "head_layer_norm_eps": (
            SplinterFullyConnectedLayer(2, 2).LayerNorm.eps,
            "transformers' own head, which leaves torch's default",
        ),
        "mode": ("hf", "a decision of this project: what AutoModel gives for a published checkpoint"),
        "span_head": ("qass", "Ram et al. 2021, section 4"),
    },
    "jointbert": {
        "intents": ((), "label files, none by default"),
        "slots": ((), "label files, none by default"),
        "use_crf": (False, f"{MONOLOGG} --use_crf, a flag"),
        "slot_loss_coef": (1.0, f"{MONOLOGG} --slot_loss_coef"),
        "dropout_rate": (0.1, f"{MONOLOGG} --dropout_rate"),
        "decode_padding": (False, "a decision of this project; monologg decodes padding, docs/jointbert.md"),
    },
    "multitask": {
        "design": ("version2", "docs/multitask.md"),
        "sentiment_classes": (5, f"{COURSE} N_SENTIMENT_CLASSES"),
        "head_dropout_prob": (0.3, f"{COURSE} --hidden_dropout_prob"),
        "pooling": ("pooled", f"{COURSE} forward: pooler_output"),
        "head_activation": ("relu", "docs/multitask.md"),
        "pair_features": ("concat", "docs/multitask.md"),
        "trained": ((), "nothing is known of a model"),
    },
    "funnel": {
        "labels": ((), "transformers: LABEL_0 and so on, no names"),
    },
}
"""Defaults that the reference's configuration lacks, or has otherwise: value and source."""


# -- recipes ----------------------------------------------------------------------------------------------

STEP_OF: dict[str, str] = {
    **dict.fromkeys(("learning_rate", "warmup", "epochs", "min_steps", "max_steps", "batch_size"), "lr"),
    **dict.fromkeys(("seed", "schedule", "micro_batch"), "lr"),
    **dict.fromkeys(("beta1", "beta2", "epsilon", "optimizer"), "optimizer"),
    **dict.fromkeys(("weight_decay", "max_norm"), "regularization"),
}
"""Field of a recipe -> the step that compares its default."""

READ_IN: dict[str, str | Unseen] = {
    **dict.fromkeys(("learning_rate", "warmup", "epochs", "min_steps", "max_steps", "batch_size", "schedule"), "rates"),
    **dict.fromkeys(("beta1", "beta2", "epsilon", "optimizer", "weight_decay", "max_norm"), "optimizer"),
    "seed": Unseen("both sides share the order of batches"),
    "micro_batch": Unseen("the result is the same by intent: their trainings take whole batches, ours parts"),
}
"""Field of a recipe -> the function of a side that must read it."""


def names(config: type) -> list[str]:
    """The fields of a dataclass."""
    return [field.name for field in fields(config)]
