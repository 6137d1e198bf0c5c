"""Multi-task BERT in PaddlePaddle: one encoder, three heads for sentiment, paraphrase and similarity.

The course project "minBERT" of Stanford CS 224N leaves the heads to its students; what is open there is decided
in docs/multitask.md. Every sentence is encoded alone, in segment 0.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import paddle
import paddle.nn.functional as F
from paddle import nn

from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.paddle.encoder import Bert
from splinter.ports.common.paddle.layers import Dropout
from splinter.ports.common.paddle.model import Pretrained, cross_entropy

from .config import FILL, MultitaskConfig, companions, heads, read_checkpoint, weight_map, which_head


def head_linear(inputs: int, outputs: int) -> nn.Linear:
    """A Linear with the law of torch's: weight and bias U(-1/sqrt(in), 1/sqrt(in)).

    Paddle's own default is Xavier uniform with zero bias.
    """
    bound = 1.0 / math.sqrt(inputs)

    def law():
        return paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))

    return nn.Linear(inputs, outputs, weight_attr=law(), bias_attr=law())


class MultitaskBert(Pretrained):
    """The encoder and the heads of one design; `config.heads` names the layers of each."""

    def __init__(self, config: MultitaskConfig):
        super().__init__()
        self.config = config
        self.bert = Bert(config, pooler=True)
        for name, (inputs, outputs) in heads(config).items():
            setattr(self, name, head_linear(inputs, outputs))
        # of their own: BERT's dropout objects have another rate
        self.sentiment_dropout = Dropout(config.head_dropout_prob)
        self.paraphrase_dropout = Dropout(config.head_dropout_prob)

    def freeze(self) -> None:
        """Only the heads learn from here on. BERT's dropout stays on in training mode, as in minBERT."""
        for parameter in self.bert.parameters():
            parameter.stop_gradient = True

    def encode(self, input_ids, attention_mask):
        """Sentences, each alone: (B, T) integers and (B, T) 1 = token -> (B, D)."""
        states = self.bert(input_ids, attention_mask, fill=FILL)  # (B, T, D)
        return self.bert.pool(states) if self.config.pooling == "pooled" else states[:, 0]

    def activation(self, x):
        """Between the two layers of a head. Without it the paraphrase logit is additive in the two sentences."""
        return F.relu(x) if self.config.head_activation == "relu" else x

    def sentiment(self, e):
        """(B, D) -> (B, C) logits."""
        return self.sentiment_classifier(self.sentiment_dropout(e))

    def paraphrase(self, e1, e2):
        """Two (B, D) -> (B, 2) logits; version 1: (B,), one logit of "is a paraphrase"."""
        pair = paddle.concat([e1, e2], axis=1)  # (B, 2D)
        if self.config.design == "version1":
            return self.paraphrase_classifier(self.paraphrase_dropout(pair)).squeeze(1)
        if self.config.pair_features == "compare":
            pair = paddle.concat([pair, (e1 - e2).abs(), e1 * e2], axis=1)  # (B, 4D)
        return self.paraphrase_out(self.paraphrase_dropout(self.activation(self.paraphrase_hidden(pair))))

    def similarity(self, e1, e2):
        """Two (B, D) -> (B,) scores on the scale of the labels, 0 to 5."""
        if self.config.design == "version1":
            return self.similarity_classifier(paddle.concat([e1, e2], axis=1)).squeeze(1)
        # one tower for both texts: the score is symmetric
        a, b = (self.similarity_out(self.activation(self.similarity_hidden(e))) for e in (e1, e2))
        return (a * b).sum(axis=1) / math.sqrt(a.shape[1])

    def forward(self, batch):
        """The outputs of every task that the batch holds, by task.

        Args:
            batch: `sentiment/input_ids` and `sentiment/attention_mask`, (B, T) integers; of the pair tasks
                `paraphrase/a_input_ids`, `paraphrase/b_input_ids` and so on; a task may be missing.
        """
        outputs = {}
        if "sentiment/input_ids" in batch:
            outputs["sentiment"] = self.sentiment(self._encoded(batch, "sentiment/"))
        for task in ("paraphrase", "similarity"):
            if f"{task}/a_input_ids" in batch:
                e1, e2 = (self._encoded(batch, f"{task}/{side}_") for side in "ab")
                outputs[task] = getattr(self, task)(e1, e2)
        return outputs

    def _encoded(self, batch, prefix):
        return self.encode(batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"])

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        head: str = "pretrained",
        download: bool = False,
        cache: str | None = None,
        **changes,
    ):
        """Load a plain BERT, or a folder of `save_pretrained`.

        Args:
            name_or_folder: a folder, or a name such as `bert-base-uncased` in the hub's long form.
            head: "pretrained" = all heads must be there; "auto" = those that are there, the others fresh;
                "fresh" = new heads. `model.head` tells which it was.
            changes: configuration fields to change; None = leave.

        Raises:
            CheckpointError, WeightError: with the file, the tensor and the way out.
        """
        folder = checkpoint.resolve(name_or_folder, download, cache)
        config, tensors, missing = read_checkpoint(folder, head, **changes)
        model = cls.unfilled(config, fresh=bool(missing))
        model.head = which_head(head, missing, folder)
        fresh = tuple(f"{name}." for name in missing)
        return model.filled(weight_map(config.design), tensors, folder, fresh)

    def stored(self) -> WeightMap:
        """Names and layout of torch."""
        return weight_map(self.config.design)

    def companions(self, source: Path | None) -> dict[str, bytes]:
        return companions(self.config, source)

    def compile(self) -> None:
        """Make `encode` faster; see `compile_method`."""
        self.compile_method("encode", ("ids", "mask"))


def loss(outputs, batch):
    """The plain sum of the losses of the tasks in the batch, a scalar.

    Sentiment and paraphrase: cross entropy, its sum divided by the nominal batch size, so that a smaller last
    batch weighs less; similarity: mean squared error.

    Args:
        outputs: by task: (B, C), (B, 2) or (B,), (B,) floats.
        batch: `sentiment/labels`, `paraphrase/labels` (B,) integers, `similarity/labels` (B,) floats from 0 to 5;
            `batch_size`, a scalar integer.
    """
    losses = []
    for task in ("sentiment", "paraphrase"):
        if task in outputs:
            logits = outputs[task]
            if logits.ndim == 1:  # one logit z: sigmoid and binary cross entropy are the two classes 0 and z
                logits = paddle.stack([paddle.zeros_like(logits), logits], axis=1)  # (B, 2)
            each, _ = cross_entropy(logits, batch[f"{task}/labels"], ignore=-1)
            losses.append(each.sum() / batch["batch_size"].astype(each.dtype))
    if "similarity" in outputs:
        score, label = outputs["similarity"], batch["similarity/labels"]
        if score.shape != label.shape:  # (B,) against (B, 1) would broadcast to (B, B): finite, and wrong
            raise ValueError(f"scores {score.shape} and labels {label.shape} of similarity differ in shape")
        losses.append((score - label.astype(score.dtype)).square().mean())
    return sum(losses[1:], losses[0])
