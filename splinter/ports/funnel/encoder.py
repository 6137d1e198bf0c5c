"""Funnel's encoder and decoder in PaddlePaddle: relative attention, pooling between the blocks, and back to all tokens.

Dai, Lai, Yang, Le: Funnel-Transformer: Filtering out Sequential Redundancy for Efficient Language Processing,
NeurIPS 2020 (arXiv 2006.03236). Equal to `transformers` 4.57 models/funnel in every option: both forms of
relative attention (appendix A.2.1 and A.2.2), mean and max pooling, with and without a [CLS] of its own.

Block b works on ceil(T / 2**b) tokens; the decoder spreads the last block's tokens over T again. Padding is
pooled like any token: **outputs depend on how many padding tokens a row has**, so whoever compares two runs
pads both alike.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from splinter.ports.common.paddle import kernels
from splinter.ports.common.paddle.encoder import activation
from splinter.ports.common.paddle.encoder import linear as dense
from splinter.ports.common.paddle.layers import Dropout, LayerNorm, fusible, join_heads, split_heads

from .config import FunnelConfig

CLS_SEGMENT = 2  # [CLS] belongs to both segments
MASKED = 1e6  # taken off the score of a masked key


def linear(config: FunnelConfig, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A Linear with Funnel's law: N(0, 1 / (in + out)) unless the configuration names a deviation."""
    std = math.sqrt(1.0 / (inputs + outputs)) if config.initializer_std is None else config.initializer_std
    return dense(inputs, outputs, std, bias)


# -- a sequence on its way through the blocks -------------------------------------------------------------


@dataclass(frozen=True)
class Sequence:
    """What attention must know of the tokens of one length: which they were at the start, and who may be seen.

    Attributes:
        tokens: (T,) int64 numpy, the input token that each pooled token stands for.
        step: distance between neighbours in input tokens, 2 ** number of poolings.
        segments: (B, T) integers.
        mask: (B, T) floats, 1 = attend.
    """

    tokens: np.ndarray
    step: int
    segments: paddle.Tensor
    mask: paddle.Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def positions(self, separate_cls: bool) -> np.ndarray:
        """(T,) equally spaced; [CLS] of its own takes the place before its first neighbour."""
        positions = self.tokens.copy()
        if separate_cls:
            positions[0] = 1 - self.step
        return positions


class Pooling:
    """Halving a sequence: (1, 2), (3, 4), ... become one token each, [CLS] stays alone.

    With `separate_cls` the first token is put in front once more, and with `truncate_seq` the last one dropped
    for it; pairs are then taken from the left. A token left over at the end is its own mean, maximum or minimum.
    """

    def __init__(self, config: FunnelConfig):
        self.separate_cls, self.truncate = config.separate_cls, config.separate_cls and config.truncate_seq
        self.kind = config.pooling_type

    def applies(self, length: int) -> bool:
        """Whether a sequence of this length is still pooled."""
        return length > (2 if self.separate_cls else 1)

    def _halves(self, x):
        """Left and right token of each pair: (B, T, ...) -> twice (B, T', ...)."""
        if self.separate_cls:
            x = paddle.concat([_first(x, 1), _first(x, x.shape[1] - self.truncate)], axis=1)
        if x.shape[1] % 2:
            x = paddle.concat([x, _rest(x, x.shape[1] - 1)], axis=1)
        x = x.reshape([x.shape[0], x.shape[1] // 2, 2, *x.shape[2:]])
        left, right = paddle.unbind(x, axis=2)
        return left, right

    def states(self, x):
        """Pool hidden states, (B, T, D) -> (B, T', D). Padding is pooled as well: the reference has no mask here."""
        left, right = self._halves(x)
        return paddle.maximum(left, right) if self.kind == "max" else (left + right) / 2

    def sequence(self, s: Sequence) -> Sequence:
        """The pooled sequence; a pair with a masked member is masked, its left token stands for it elsewhere."""
        kept = np.arange(len(s))
        if self.separate_cls:
            kept = np.concatenate([kept[:1], kept[:-1] if self.truncate else kept])
        kept = kept[::2]
        segments = paddle.index_select(s.segments, paddle.to_tensor(kept), axis=1)
        return Sequence(s.tokens[kept], 2 * s.step, segments, paddle.minimum(*self._halves(s.mask)))


@functools.lru_cache(maxsize=32)
def sinusoids(first: int, last: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """sin and cos of t / 10000 ** (2i / width) for t in [first, last): twice (last - first, width / 2) float64.

    In float64 whatever the model computes in; in float32 the reference's own sines of large distances are off
    by 3e-5 (it rounds the angle before it takes the sine).
    """
    frequency = 10000.0 ** (-np.arange(width // 2) / (width // 2))
    angle = np.arange(first, last)[:, None] * frequency
    return np.sin(angle), np.cos(angle)


class Positions(nn.Layer):
    """The tables of sines and cosines, dropped out once per pass and shared by all layers of a stack."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.width, self.factorized = config.d_model, config.attention_type == "factorized"
        self.separate_cls = config.separate_cls
        # the reference's 2T is one too few for some lengths without truncation
        self.beyond = 0 if config.truncate_seq else 2 ** len(config.block_sizes)
        self.sin_dropout = Dropout(config.hidden_dropout)
        self.cos_dropout = Dropout(config.hidden_dropout)

    def forward(self, length: int, dtype):
        """A function (query sequence, key sequence) -> `Relation`, for sequences made of `length` tokens."""
        reach = 2 * length + self.beyond
        span = (0, length) if self.factorized else (-reach, reach)
        sin, cos = (paddle.to_tensor(table, dtype=dtype) for table in sinusoids(*span, self.width))
        dropped = self.sin_dropout(sin), self.cos_dropout(cos)
        if self.factorized:
            tables = factors(sin, cos, *dropped)

            def rows(q, k):
                return tuple(_rows(table, s.tokens) for table, s in zip(tables, (q, q, k, k), strict=True))
        else:
            table = paddle.concat(dropped, axis=-1)  # (2 reach, D)

            def rows(q, k):
                return _rows(table, distances(q, k, self.separate_cls) + reach)

        return lambda q, k: self.relation(q, k, rows(q, k))

    def relation(self, queries: Sequence, keys: Sequence, rows):
        """What every layer between these two lengths uses."""
        mine, yours = queries.segments.unsqueeze(-1), keys.segments.unsqueeze(1)  # (B, Q, 1), (B, 1, K)
        same = (mine == yours) | (mine == CLS_SEGMENT) | (yours == CLS_SEGMENT)  # (B, Q, K)
        penalty = MASKED * (1 - keys.mask.unsqueeze([1, 2]))  # (B, 1, 1, K)
        apart = np.ones((len(queries), len(keys)))
        if self.separate_cls:
            apart[0], apart[:, 0] = 0, 0
        return Relation(
            rows, same.unsqueeze(1), paddle.to_tensor(apart, dtype=penalty.dtype), penalty, queries.step // keys.step
        )


@dataclass(frozen=True)
class Relation:
    """Queries of one length looking at keys of another, or of the same.

    Attributes:
        rows: sinusoids: (N, D), one per distance, or the four factors.
        same: (B, 1, Q, K) bool, whether query and key are of one segment.
        apart: (Q, K), 0 in the row and the column of a [CLS] of its own, which has no place and no segment.
        penalty: (B, 1, 1, K), taken off the scores.
        shift: keys per query, 2 while pooled queries look at unpooled keys, else 1.
    """

    rows: Any
    same: paddle.Tensor
    apart: paddle.Tensor
    penalty: paddle.Tensor
    shift: int


def _rows(table, numbers: np.ndarray):
    return paddle.index_select(table, paddle.to_tensor(numbers), axis=0)


def factors(sin, cos, sin_dropped, cos_dropped):
    """phi, pi (of queries), psi, omega (of keys), each (T, D): appendix A.2.2 as the authors' code has it.

    phi psi' + pi omega' holds sin and cos of differences by the addition theorems.
    """
    double = (paddle.concat([part, part], axis=-1) for part in (sin_dropped, cos_dropped))
    return (*double, paddle.concat([cos, sin], axis=-1), paddle.concat([-sin, cos], axis=-1))


def distances(q: Sequence, k: Sequence, separate_cls: bool) -> np.ndarray:
    """The descending distances whose scores `relative_shift` sorts into place, (N,) int64.

    Entry n is `first - n * k.step`; `first` is what makes the distance of query i and key j entry
    `s * (len(q) - i) + j`, s = 2 while pooled queries look at unpooled keys, else 1.
    """
    queries, keys = q.positions(separate_cls), k.positions(separate_cls)
    first = queries[0] - keys[0] + (q.step // k.step) * len(q) * k.step
    return np.arange(first, queries[0] - keys[-1] - 1, -k.step)


def relative_shift(scores, queries: int, keys: int, shift: int):
    """(B, H, Q, N) scores of each query with each distance -> (B, H, Q, K) scores with each key.

    A gather at `shift * (Q - i) + j`, done without one: read as N rows of Q, the wanted entries of consecutive
    queries lie `N - shift` apart once `shift` rows are gone.
    """
    batch, heads, _, listed = scores.shape
    scores = _rest(scores.reshape([batch, heads, listed, queries]), shift, axis=2)
    return _first(scores.reshape([batch, heads, queries, listed - shift]), keys, axis=3)


def _first(x, count: int, axis: int = 1):
    """The first entries of an axis. Not x[:, :count], whose gradient takes paddle 3.3.1 eight times as long on a CPU
    (bench_speed.py)."""
    return x if count == x.shape[axis] else paddle.split(x, [count, x.shape[axis] - count], axis)[0]


def _rest(x, count: int, axis: int = 1):
    """What is left of an axis without its first entries."""
    return paddle.split(x, [count, x.shape[axis] - count], axis)[1]


# -- layers -----------------------------------------------------------------------------------------------


class RelativeAttention(nn.Layer):
    """Attention over content, relative position and segment, with output projection, residual and LayerNorm.

    score = (q + u) k' + [(q + v) (R W)' + (q + w) e'], all of q, u, v, w times 1/sqrt(d); the bracket is zero
    in the row and column of a [CLS] of its own.
    """

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config = config
        self.heads, self.width = config.n_head, config.d_head
        self.scale = 1.0 / config.d_head**0.5
        self.factorized = config.attention_type == "factorized"
        inner = config.n_head * config.d_head
        self.q_head = linear(config, config.d_model, inner, bias=False)
        self.k_head = linear(config, config.d_model, inner)
        self.v_head = linear(config, config.d_model, inner)
        per_head = [config.n_head, config.d_head]
        self.content_bias = self._parameter(per_head)
        self.position_bias = self._parameter(per_head)
        self.position_kernel = self._parameter([config.d_model, *per_head])
        self.segment_bias = self._parameter(per_head)
        self.segment_embedding = self._parameter([2, *per_head])  # row 0 other, row 1 same segment
        self.post_proj = linear(config, inner, config.d_model)
        self.layer_norm = LayerNorm(config.d_model, epsilon=config.layer_norm_eps)
        self.attention_dropout = Dropout(config.attention_dropout)
        self.hidden_dropout = Dropout(config.hidden_dropout)

    def _parameter(self, shape):
        # uniform on [0, range], not around 0: so it is in transformers and in the authors' PyTorch code
        law = nn.initializer.Uniform(0.0, self.config.initializer_range)
        return self.create_parameter(shape, default_initializer=law)

    def _per_head(self, q, x):
        """(B, H, Q, d) times (D or N or 2, H, d) of each head -> (B, H, Q, D or N or 2)."""
        # the axis in front is for Paddle 3.3.1: it cannot go back through a product of four axes with three
        return paddle.matmul(q, x.transpose([1, 2, 0]).unsqueeze(0))

    def _biased(self, q, bias):
        return q + (bias * self.scale).unsqueeze(1)  # (B, H, Q, d) + (H, 1, d)

    def position_scores(self, q, relation: Relation):
        """(B, H, Q, d) scaled queries -> (B, H, Q, K)."""
        q = self._biased(q, self.position_bias)
        if self.factorized:
            phi, pi, psi, omega = relation.rows  # (Q, D), (Q, D), (K, D), (K, D)
            q = self._per_head(q, self.position_kernel)  # (B, H, Q, D)
            return paddle.matmul(q * phi, psi, transpose_y=True) + paddle.matmul(q * pi, omega, transpose_y=True)
        queries, keys = relation.apart.shape
        return relative_shift(self._per_head(q, self._distances(relation)), queries, keys, relation.shift)

    def _distances(self, relation: Relation):
        """The table of the sinusoids, seen by each head: (N, H, d)."""
        kernel = self.position_kernel.reshape([self.config.d_model, self.heads * self.width])
        return paddle.matmul(relation.rows, kernel).reshape([-1, self.heads, self.width])

    def segment_scores(self, q, relation: Relation):
        """(B, H, Q, d) scaled queries -> (B, H, Q, K)."""
        q = self._biased(q, self.segment_bias)
        other, same = self._per_head(q, self.segment_embedding).split(2, axis=-1)  # (B, H, Q, 1)
        return paddle.where(relation.same, same, other)

    def _plainly(self, q, k, v, relation: Relation):
        """(B, Q, D), (B, K, D), (B, K, D) -> context (B, Q, D), by operations of Paddle."""
        width = q.shape[2]
        q = split_heads(q, self.heads) * self.scale  # (B, H, Q, d)
        k, v = split_heads(k, self.heads), split_heads(v, self.heads)  # (B, H, K, d)
        scores = paddle.matmul(self._biased(q, self.content_bias), k, transpose_y=True)  # (B, H, Q, K)
        scores = scores + (self.position_scores(q, relation) + self.segment_scores(q, relation)) * relation.apart
        probs = self.attention_dropout(F.softmax(scores - relation.penalty, axis=-1))
        return join_heads(paddle.matmul(probs, v), width)

    def _by_kernel(self, q, k, v, relation: Relation):
        """The same by a kernel. Its queries are q + u for all terms; what v and w differ from u by is an offset."""
        u, places, segments = self.content_bias, self._distances(relation), self.segment_embedding
        places_offset = ((self.position_bias - u) * places).sum(-1)  # (N, H)
        segments_offset = ((self.segment_bias - u) * segments).sum(-1)  # (2, H)
        offset = paddle.concat([places_offset, segments_offset]).t().contiguous()  # (H, N + 2)
        table = paddle.concat([places, segments]).reshape([-1, q.shape[2]])  # (N + 2, D)
        same = relation.same.squeeze(1).expand([q.shape[0], -1, -1])
        drop = self.attention_dropout
        numbers = self.heads, self.scale, drop.rate, relation.shift, self.config.separate_cls
        given = q, k, v, -relation.penalty, drop.key(), u.flatten(), table, offset, same
        return kernels.run("relative_attention", *given, *numbers)[0]

    def forward(self, x, others, relation: Relation):
        """Attend from x (B, Q, D) to others (B, K, D); returns (B, Q, D)."""
        q, k, v = self.q_head(x), self.k_head(others), self.v_head(others)
        served = kernels.serve(q, k, v) and fusible(self.attention_dropout) and not self.factorized
        context = (self._by_kernel if served else self._plainly)(q, k, v, relation)
        return self.layer_norm(x + self.hidden_dropout(self.post_proj(context)))


class FeedForward(nn.Layer):
    """Two dense layers around an activation, residual, LayerNorm."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.linear_1 = linear(config, config.d_model, config.d_inner)
        self.linear_2 = linear(config, config.d_inner, config.d_model)
        self.layer_norm = LayerNorm(config.d_model, epsilon=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)
        self.activation_dropout = Dropout(config.activation_dropout)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, x):
        inner = self.activation_dropout(self.activation(self.linear_1(x)))
        return self.layer_norm(x + self.dropout(self.linear_2(inner)))


class Layer(nn.Layer):
    """Attention, then the position-wise feed-forward part."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.attention = RelativeAttention(config)
        self.ffn = FeedForward(config)

    def forward(self, x, others, relation: Relation):
        return self.ffn(self.attention(x, others, relation))


class Encoder(nn.Layer):
    """Blocks of layers; entering a block but the first halves the sequence."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config, self.pooling = config, Pooling(config)
        self.positions = Positions(config)
        self.blocks = nn.LayerList([nn.LayerList([Layer(config) for _ in range(n)]) for n in config.block_sizes])

    def forward(self, x, sequence: Sequence):
        """x (B, T, D) -> states of the last block (B, T', D) and of the first one (B, T, D).

        "Of the first one": after as many layer applications as it has layers, so before its last one where it
        repeats them. The reference looks there, and its published repeats are all in later blocks.

        Raises:
            ValueError: too few tokens for this many blocks.
        """
        length = len(sequence)
        relate = self.positions(length, x.dtype)
        first, applied = x, 0
        for number, block in enumerate(self.blocks):
            others, keys = x, sequence
            if number and self.pooling.applies(len(sequence)):
                x, sequence = self.pooling.states(x), self.pooling.sequence(sequence)
                if not self.config.pool_q_only:
                    others, keys = x, sequence
            elif number:
                self._refuse_short(len(sequence), length)
            relation = relate(sequence, keys)
            for layer in block:
                for _ in range(self.config.block_repeats[number]):
                    x = layer(x, others, relation)
                    if keys is not sequence:  # only the first pass of a block looks at unpooled tokens
                        keys, relation = sequence, relate(sequence, sequence)
                    others = x
                    applied += 1
                    if applied == self.config.block_sizes[0]:
                        first = x
        return x, first

    def _refuse_short(self, length: int, tokens: int) -> None:
        c = self.config
        if length == 2 and c.attention_type == "relative_shift" and c.separate_cls and c.truncate_seq:
            least = 2 ** (len(self.blocks) - 1) + 1
            raise ValueError(f"{tokens} tokens are too few for {len(self.blocks)} blocks; pad to {least} or more")


class Decoder(nn.Layer):
    """The last block's tokens spread over the full length, plus the first block's states, then some layers."""

    def __init__(self, config: FunnelConfig):
        super().__init__()
        self.config = config
        self.positions = Positions(config)
        self.layers = nn.LayerList([Layer(config) for _ in range(config.num_decoder_layers)])

    def forward(self, x, first, sequence: Sequence):
        """x (B, T', D), first (B, T, D) -> (B, T, D)."""
        x = self.upsample(x, len(sequence)) + first
        relation = self.positions(len(sequence), x.dtype)(sequence, sequence)
        for layer in self.layers:
            x = layer(x, x, relation)
        return x

    def upsample(self, x, length: int):
        """Repeat each token, [CLS] excepted, and cut to `length`; what pooling truncated comes back as zeros."""
        stride = 2 ** (len(self.config.block_sizes) - 1)
        if stride == 1:
            return x
        if not self.config.separate_cls:
            return _first(x.repeat_interleave(stride, axis=1), length)
        spread = _rest(x, 1).repeat_interleave(stride, axis=1)
        if self.config.truncate_seq:
            spread = paddle.concat([spread, paddle.zeros([x.shape[0], stride - 1, x.shape[2]], x.dtype)], axis=1)
        return paddle.concat([_first(x, 1), _first(spread, length - 1)], axis=1)
