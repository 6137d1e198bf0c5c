"""The port of reader_torch.py, with other names, and a fault on request."""

import paddle
from paddle import nn
from paddle.nn import initializer


def linear(inputs, outputs):
    """torch's law: uniform within 1/sqrt(inputs), the bias too."""
    law = initializer.Uniform(-(inputs**-0.5), inputs**-0.5)
    return nn.Linear(inputs, outputs, weight_attr=law, bias_attr=law)


class Reader(nn.Layer):
    """Returns a tuple, as many ports do: logits, pooled."""

    def __init__(self, words=31, width=8, rate=0.1, epsilon=1e-5, residual=1.0, law=1.0):
        super().__init__()
        self.residual = residual
        self.word_embeddings = nn.Embedding(words, width, weight_attr=initializer.Normal(0.0, law))
        self.layer_norm = nn.LayerNorm(width, epsilon=epsilon)
        self.fc = linear(width, width)
        self.dropout = nn.Dropout(rate)
        self.out_proj = linear(width, 2)

    def forward(self, input_ids, attention_mask=None):
        states = self.layer_norm(self.word_embeddings(input_ids))
        states = self.residual * states + self.dropout(paddle.tanh(self.fc(states)))
        mask = paddle.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).astype(states.dtype)  # (B, T, 1)
        pooled = (states * mask).sum(1) / mask.sum(1).clip(min=1)
        return self.out_proj(states), pooled
