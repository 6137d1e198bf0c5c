"""The Paddle BERT encoder that Splinter, JointBERT and the multi-task model share.

Post-layer-norm transformer encoder (Devlin et al., NAACL 2019, section 3), equal to `transformers`'
`BertModel` and `SplinterModel`: models/bert and models/splinter, 4.57. Own code on
`paddle.nn`: paddlenlp's base class resets LayerNorm epsilons and pulls in a large dependency tree.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import paddle
from paddle import nn

from .layers import Dropout, LayerNorm, Linear, attention, gelu, spread

_FILLED_LATER = ContextVar("a checkpoint will fill what is built now", default=False)


@contextlib.contextmanager
def filled_later() -> Iterator[None]:
    """No numbers are drawn for the weights of a model that is built in here; they are zero until a checkpoint fills
    them. Drawing takes longer than reading."""
    token = _FILLED_LATER.set(True)
    try:
        yield
    finally:
        _FILLED_LATER.reset(token)


def normal(std: float) -> paddle.ParamAttr:
    """BERT's initial law of matrices, N(0, std)."""
    law = nn.initializer.Constant(0.0) if _FILLED_LATER.get() else nn.initializer.Normal(std=std)
    return paddle.ParamAttr(initializer=law)


def linear(inputs: int, outputs: int, std: float, bias: bool = True) -> Linear:
    """A Linear with BERT's initial law and zero bias; Paddle's own default is Xavier uniform."""
    zeros = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
    return Linear(inputs, outputs, weight_attr=normal(std), bias_attr=zeros if bias else False)


def embedding(rows: int, width: int, std: float) -> nn.Embedding:
    """An Embedding with law N(0, std). No `padding_idx`: Paddle then returns zeros whatever the row holds."""
    return nn.Embedding(rows, width, weight_attr=normal(std))


def activation(name: str):
    """`gelu` is the exact erf form; `gelu_new` and `gelu_pytorch_tanh` the tanh approximation.

    Raises:
        ValueError: another name.
    """
    if name == "gelu":
        return lambda x: gelu(x, approximate=False)
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return lambda x: gelu(x, approximate=True)
    raise ValueError(f"hidden_act {name!r} is not known; use 'gelu' or 'gelu_new'")


def additive_mask(mask: paddle.Tensor, fill: float, dtype) -> paddle.Tensor:
    """(B, T) integers, 1 = attend -> (B, T) float to add to scores: 0 where attended, `fill` elsewhere.

    An integer 0/1 mask handed to attention as floats would be *added* as it is: wrong by 1, silently.
    """
    return (1.0 - mask.astype(dtype)) * fill


class BertEmbeddings(nn.Layer):
    """Word + position + segment embeddings, LayerNorm, dropout."""

    def __init__(self, config):
        super().__init__()
        std, width = config.initializer_range, config.hidden_size
        self.word = embedding(config.vocab_size, width, std)
        self.position = embedding(config.max_position_embeddings, width, std)
        self.segment = embedding(config.type_vocab_size, width, std)
        self.norm = LayerNorm(width, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.pad_token_id = config.pad_token_id
        with paddle.no_grad():
            self.word.weight[config.pad_token_id] = 0.0  # the reference's law: the row starts at zero

    def forward(self, input_ids, token_type_ids, position_ids):
        """All arguments (B, T) integers, positions may be (1, T); returns (B, T, D)."""
        words = self.word(input_ids)  # (B, T, D)
        if not self.word.weight.stop_gradient:
            # torch's padding_idx returns the row but keeps gradient from it; Paddle has no such mode
            pad = (input_ids == self.pad_token_id).unsqueeze(-1)
            words = paddle.where(pad, words.detach(), words)
        # the reference's order of additions, for equal rounding
        return self.dropout(self.norm(words + self.segment(token_type_ids) + self.position(position_ids)))


class BertAttention(nn.Layer):
    """Multi-head self-attention with output projection, residual and LayerNorm."""

    def __init__(self, config):
        super().__init__()
        std, width = config.initializer_range, config.hidden_size
        if width % config.num_attention_heads:
            raise ValueError(f"hidden_size {width} is no multiple of num_attention_heads {config.num_attention_heads}")
        self.heads = config.num_attention_heads
        self.scale = 1.0 / math.sqrt(width // self.heads)
        self.query = linear(width, width, std)
        self.key = linear(width, width, std)
        self.value = linear(width, width, std)
        self.output = linear(width, width, std)
        self.norm = LayerNorm(width, epsilon=config.layer_norm_eps)
        self.dropout_probs = Dropout(config.attention_probs_dropout_prob)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x, mask):
        """x (B, T, D), mask additive, see `layers.spread`; returns (B, T, D)."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        context = attention(q, k, v, mask, self.heads, self.scale, self.dropout_probs)  # (B, T, D)
        return self.norm(self.dropout(self.output(context)) + x)


class BertLayer(nn.Layer):
    """Attention, then the position-wise feed-forward block."""

    def __init__(self, config):
        super().__init__()
        std, width = config.initializer_range, config.hidden_size
        self.attention = BertAttention(config)
        self.inner = linear(width, config.intermediate_size, std)
        self.outer = linear(config.intermediate_size, width, std)
        self.norm = LayerNorm(width, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = activation(config.hidden_act)

    def forward(self, x, mask):
        x = self.attention(x, mask)
        return self.norm(self.dropout(self.outer(self.activation(self.inner(x)))) + x)


class Bert(nn.Layer):
    """Embeddings, encoder layers and, where asked for, the pooler (Splinter has none)."""

    def __init__(self, config, pooler: bool = False):
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.heads = config.num_attention_heads
        self.encoder = nn.LayerList([BertLayer(config) for _ in range(config.num_hidden_layers)])
        if pooler:
            self.pooler = linear(config.hidden_size, config.hidden_size, config.initializer_range)

    @property
    def dtype(self):
        """float32 or float64, that of the weights."""
        return self.embeddings.word.weight.dtype

    def forward(self, input_ids, attention_mask, token_type_ids=None, position_ids=None, fill=None):
        """Encode a batch.

        Args:
            input_ids: (B, T) integers.
            attention_mask: (B, T) integers, 1 = attend.
            token_type_ids: (B, T) integers; None = all 0.
            position_ids: (B, T) integers; None = 0..T-1.
            fill: added to the score of a masked key; None = the most negative number of the dtype.

        Returns:
            (B, T, D) states of the last layer.
        """
        if token_type_ids is None:
            token_type_ids = paddle.zeros_like(input_ids)
        if position_ids is None:
            position_ids = paddle.arange(input_ids.shape[1]).unsqueeze(0)
        fill = paddle.finfo(self.dtype).min if fill is None else fill
        x = self.embeddings(input_ids, token_type_ids, position_ids)
        mask = spread(additive_mask(attention_mask, fill, self.dtype).unsqueeze([1, 2]), self.heads)
        for layer in self.encoder:
            x = layer(x, mask)
        return x

    def pool(self, states):
        """tanh of a dense layer over the first token: (B, T, D) -> (B, D)."""
        return paddle.tanh(self.pooler(states[:, 0]))
