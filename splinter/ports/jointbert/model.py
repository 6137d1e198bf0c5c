"""JointBERT in PaddlePaddle: a BERT encoder, an intent head, a slot head, and on request a CRF.

Chen, Zhuo, Wang: BERT for Joint Intent Classification and Slot Filling, arXiv 1902.10909. The authors' code is
not public; details follow monologg/JointBERT (PyTorch), whose tensor names a saved model has. The CRF is the
linear chain of Lafferty et al., ICML 2001, with the parametrisation of pytorch-crf 0.7.2.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import paddle
from paddle import nn

from splinter.align.weights import WeightMap
from splinter.ports.common import checkpoint
from splinter.ports.common.paddle.encoder import Bert
from splinter.ports.common.paddle.layers import Dropout
from splinter.ports.common.paddle.model import Pretrained, cross_entropy

from .config import JointConfig, companions, read_checkpoint, weight_map

NO_LABEL = -100  # no intent is ever left out
MODERATE = 40.0  # spread of transitions, in nats, up to which the CRF's sums are products of matrices


def _uniform(bound: float) -> paddle.ParamAttr:
    return paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))


class Head(nn.Layer):
    """Dropout, then a dense layer: (..., D) -> (..., labels)."""

    def __init__(self, width: int, labels: int, dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        # torch's law for Linear, weight and bias alike; Paddle's own is Xavier uniform and a zero bias
        bound = 1 / math.sqrt(width)
        self.linear = nn.Linear(width, labels, weight_attr=_uniform(bound), bias_attr=_uniform(bound))

    def forward(self, x):
        return self.linear(self.dropout(x))


class CRF(nn.Layer):
    """Linear-chain conditional random field over S tags.

    score(y) = start[y0] + sum_t emission[t, yt] + sum_t transitions[y(t-1), yt] + end[y_last]. A mask says which
    steps count: (B, T) booleans, True first, then False. It is used through `where`, never as a factor: what stands
    at a masked step, an infinity included, cannot reach the result.
    """

    def __init__(self, tags: int):
        super().__init__()

        def parameter(*shape):
            return self.create_parameter(list(shape), attr=_uniform(0.1))

        self.start_transitions, self.end_transitions = parameter(tags), parameter(tags)
        self.transitions = parameter(tags, tags)  # [from, to]

    def _weights(self, dtype):
        parameters = (self.start_transitions, self.transitions, self.end_transitions)
        return (p.astype(dtype) for p in parameters)  # the emissions decide the precision

    def log_likelihood(self, emissions, tags, mask):
        """log P(tags | emissions) of each sentence, in nats.

        Args:
            emissions: (B, T, S) floats.
            tags: (B, T) int64.
            mask: (B, T) booleans, the first of each row True.

        Returns:
            (B,).
        """
        return self._score(emissions, tags, mask) - self._log_partition(emissions, mask)

    def _score(self, emissions, tags, mask):
        start, transitions, end = self._weights(emissions.dtype)
        picked = paddle.take_along_axis(emissions, tags.unsqueeze(-1), axis=2).squeeze(-1)  # (B, T)
        steps = transitions.flatten()[tags[:, :-1] * transitions.shape[1] + tags[:, 1:]]  # (B, T-1)
        zero = paddle.zeros_like(picked)
        inner = paddle.where(mask, picked, zero).sum(axis=1) + paddle.where(mask[:, 1:], steps, zero[:, 1:]).sum(axis=1)
        last = paddle.take_along_axis(tags, mask.astype("int64").sum(axis=1, keepdim=True) - 1, axis=1)  # (B, 1)
        return start[tags[:, 0]] + inner + end[last.squeeze(1)]

    def _log_partition(self, emissions, mask):
        """logsumexp of the scores of all paths, by the forward recursion; (B,).

        logsumexp_i(alpha_i + T_ij) is log(exp(alpha - max) @ exp(T - top)) + max + top, a product of matrices instead
        of B * S * S exponentials: forty times faster. The sum keeps a term of at least exp(-spread of T), and what
        underflows is below exp(-87): nothing is lost while the spread is moderate. Else the plain form serves, and on a
        GPU, where exponentials cost little and products may be rounded to TF32.
        """
        start, transitions, end = self._weights(emissions.dtype)
        top = transitions.max(axis=0, keepdim=True).detach()  # (1, to)
        moderate = emissions.place.is_cpu_place() and (top - transitions).max().item() <= MODERATE
        into = paddle.exp(transitions - top) if moderate else transitions.t().unsqueeze(0)
        alpha = start + emissions[:, 0]  # (B, S)
        for t in range(1, emissions.shape[1]):
            if moderate:
                most = alpha.max(axis=-1, keepdim=True).detach()  # (B, 1)
                longer = paddle.log(paddle.matmul(paddle.exp(alpha - most), into)) + most + top  # (B, to)
            else:
                longer = paddle.logsumexp(alpha.unsqueeze(1) + into, axis=-1)  # (B, to, from) -> (B, to)
            alpha = paddle.where(mask[:, t : t + 1], longer + emissions[:, t], alpha)
        return paddle.logsumexp(alpha + end, axis=-1)

    @paddle.no_grad()
    def decode(self, emissions, mask):
        """The best path of each sentence (Viterbi): (B, T, S), (B, T) -> (B, T) int64, 0 where masked."""
        start, transitions, end = self._weights(emissions.dtype)
        into = transitions.t().unsqueeze(0)  # (1, to, from)
        stay = paddle.arange(emissions.shape[2]).unsqueeze(0)  # (1, S)
        score, pointers = start + emissions[:, 0], []  # (B, S)
        for t in range(1, emissions.shape[1]):
            total = score.unsqueeze(1) + into  # (B, to, from)
            here = mask[:, t : t + 1]  # (B, 1)
            pointers.append(paddle.where(here, total.argmax(axis=-1), stay))
            score = paddle.where(here, total.max(axis=-1) + emissions[:, t], score)
        path = [(score + end).argmax(axis=-1, keepdim=True)]  # (B, 1)
        for pointer in reversed(pointers):
            path.append(paddle.take_along_axis(pointer, path[-1], axis=1))
        found = paddle.concat(path[::-1], axis=1)  # (B, T)
        return paddle.where(mask, found, paddle.zeros_like(found))


class JointBert(Pretrained):
    """Intent logits from the pooled first token, slot logits from every token."""

    def __init__(self, config: JointConfig):
        super().__init__()
        if not config.intents:
            raise checkpoint.CheckpointError("the configuration names no labels; a JointBERT needs intents and slots")
        self.config = config
        self.bert = Bert(config, pooler=True)
        self.intent_classifier = Head(config.hidden_size, len(config.intents), config.dropout_rate)
        self.slot_classifier = Head(config.hidden_size, len(config.slots), config.dropout_rate)
        self.crf = CRF(len(config.slots)) if config.use_crf else None

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        """Logits of a batch.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64, 1 = token.
            token_type_ids: (B, T) int64; None = all 0.

        Returns:
            intent logits (B, I), slot logits (B, T, S).
        """
        return self.heads(*self.encode(input_ids, attention_mask, token_type_ids))

    def encode(self, input_ids, attention_mask, token_type_ids=None):
        """States (B, T, D) and pooled first token (B, D)."""
        states = self.bert(input_ids, attention_mask, token_type_ids)
        return states, self.bert.pool(states)

    def heads(self, states, pooled):
        """(B, T, D), (B, D) -> intent logits (B, I), slot logits (B, T, S)."""
        return self.intent_classifier(pooled), self.slot_classifier(states)

    def loss(self, intent_logits, slot_logits, intent_labels, slot_labels, attention_mask):
        """Intent loss + slot_loss_coef * slot loss, a scalar in nats.

        Without CRF the slot loss is the mean cross entropy of the positions whose label is not 0 (PAD: [CLS],
        [SEP], padding and all but the first piece of a word); nan when there is none, as in torch. With CRF it is
        minus the mean over SENTENCES of the log-likelihood of all positions up to [SEP], PAD being a tag like
        others, and so about ten times larger.

        Args:
            intent_logits, slot_logits: (B, I), (B, T, S).
            intent_labels, slot_labels: (B,), (B, T) int64.
            attention_mask: (B, T) int64.
        """
        losses, counted = cross_entropy(intent_logits, intent_labels, NO_LABEL)
        real = attention_mask == 1
        if self.crf is not None:
            slot_loss = -self.crf.log_likelihood(slot_logits, slot_labels, real).mean()
        else:
            labels = paddle.where(real, slot_labels, paddle.zeros_like(slot_labels)).flatten()  # (B * T,)
            slot_losses, slot_counted = cross_entropy(slot_logits.flatten(0, 1), labels, ignore=0)
            slot_loss = slot_losses.sum() / slot_counted.sum()
        return losses.sum() / counted.sum() + self.config.slot_loss_coef * slot_loss

    def decode(self, slot_logits, attention_mask, padding: bool | None = None):
        """The slot id of every position: (B, T, S), (B, T) -> (B, T) int64.

        Args:
            padding: run Viterbi over the padding too; None = as the configuration says.
        """
        if self.crf is None:
            return slot_logits.argmax(axis=-1)
        padding = self.config.decode_padding if padding is None else padding
        return self.crf.decode(slot_logits, attention_mask >= 0 if padding else attention_mask == 1)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike[str],
        heads: str = "pretrained",
        labels=None,
        download: bool = False,
        cache: str | None = None,
        **changes,
    ):
        """Load a JointBERT, or put fresh heads on a BERT.

        Args:
            name_or_folder: a folder or a hub name.
            heads: "pretrained" = those of the checkpoint, an error when it has none; "fresh" = new random ones,
                for the labels given as `intents` and `slots` among the changes.
            labels: intents and slots, for a checkpoint that does not say.
            download: may fetch from the hub.
            cache: hub cache folder.
            changes: configuration fields to change, such as dropout_rate.

        Raises:
            CheckpointError, WeightError: with the file, the tensor and the way out.
        """
        folder = checkpoint.resolve(name_or_folder, download, cache)
        config, tensors, found = read_checkpoint(folder, labels, **changes)
        if heads == "pretrained" and not found:
            raise checkpoint.CheckpointError(
                f"{folder} is a BERT without intent and slot heads; splinter finetune --system jointbert gives it some"
            )
        kept, fresh = heads == "pretrained", ("intent_classifier.", "slot_classifier.", "crf.")
        model = cls.unfilled(config, fresh=not kept)
        return model.filled(weight_map(config.use_crf, kept), tensors, folder, fresh=() if kept else fresh)

    def stored(self) -> WeightMap:
        """The names of monologg/JointBERT."""
        return weight_map(self.config.use_crf)

    def companions(self, source: Path | None) -> dict[str, bytes]:
        return companions(self.config, source)

    def compile(self) -> None:
        """Make `forward` faster; see `compile_method`."""
        self.compile_method("forward", ("ids", "mask", "segments"))
