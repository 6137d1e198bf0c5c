"""The layers on which a CPU spends its time, by our kernels where they were built (kernels.py), else by paddle.

Either way they are the same in law and in what they compute, but for rounding; docs/speed.md says what each gains.
"""

from __future__ import annotations

import sys

import paddle
import paddle.nn.functional as F
from paddle import nn

from splinter.align import paddle_side
from splinter.align.framework import Drop

from . import kernels


class Linear(nn.Linear):
    """x W + b, with W (in, out)."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(..., in) -> (..., out)."""
        # a kernel would compute the gradient of a frozen weight as well
        frozen = self.weight.stop_gradient and paddle.is_grad_enabled()
        if self.bias is not None and not frozen and kernels.serve(x, self.weight):
            return kernels.run("linear", x, self.weight, self.bias)[0]
        return super().forward(x)


class LayerNorm(nn.LayerNorm):
    """Of the last axis, with weight and bias."""

    def __init__(self, width: int, epsilon: float):
        super().__init__(width, epsilon=epsilon)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """(..., D) -> (..., D)."""
        if kernels.serve(x, self.weight):
            return kernels.run("layer_norm", x, self.weight, self.bias, float(self._epsilon))[0]
        return super().forward(x)


def gelu(x: paddle.Tensor, approximate: bool = False) -> paddle.Tensor:
    """x times the normal distribution at x; `approximate`: by tanh."""
    return kernels.run("gelu", x, approximate)[0] if kernels.serve(x) else F.gelu(x, approximate=approximate)


def _whole_numbers(shape) -> paddle.Tensor:
    """Random ones, of all int32 but the largest; paddle 3.3.1 draws a float64 for each number, which takes longer."""
    return paddle.randint(-(2**31), 2**31 - 1, shape, "int32")


def _key() -> paddle.Tensor:
    """Of a kernel's dropout, (2,)."""
    return _whole_numbers([2])


def dropout(x: paddle.Tensor, p: float = 0.5, training: bool = True) -> paddle.Tensor:
    """Each number is zero with probability p, else divided by 1 - p; in evaluation mode all stay.

    Args:
        x: of any shape; what is not float32 or float64, or lies on a GPU, is dropped by paddle's own function.
        p: the rate, to a precision of 2^-32.
    """
    if not training or p == 0:
        return x
    plain = paddle.get_device() != "cpu" or x.dtype not in (paddle.float32, paddle.float64)
    if plain or p == 1:
        return F.dropout(x, p, training=True)
    if kernels.serve(x):
        return kernels.run("dropout", x, _key(), float(p))[0]
    drawn = _whole_numbers(paddle.shape(x))
    kept = (drawn >= round(p * 2**32) - 2**31).astype(x.dtype)
    return x * (kept * (1 / (1 - p)))


_DROPOUT = dropout


class Dropout(nn.Dropout):
    """Dropout by the function above."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"a dropout of {p}: it is a share, from 0 to 1")
        super().__init__(p)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return dropout(x, self.p, self.training)

    @property
    def rate(self) -> float:
        """How much falls now: nothing in evaluation mode."""
        return float(self.p) if self.training else 0.0

    def key(self) -> paddle.Tensor:
        """What a kernel that drops out inside of itself draws by, (2,) int32."""
        return _key() if self.rate else paddle.zeros([2], "int32")


def fusible(drop: nn.Layer) -> bool:
    """Whether a kernel may do what this layer does. It is not called then, and its hooks see nothing.

    Not another layer in its place, nor a `forward` of its own, nor while something stands in place of the function
    `dropout`, as when the proof holds masks.
    """
    if type(drop) is not Dropout or "forward" in vars(drop):
        return False
    return drop.rate == 0 or (drop.rate < 1 and dropout is _DROPOUT)


def spread(mask: paddle.Tensor, heads: int) -> paddle.Tensor:
    """(B, 1, 1, T) numbers to add to scores -> what `attention` takes, for all layers at once; our kernel as it is.

    Paddle's CPU kernel is far slower at broadcasting than at equal shapes (bench_speed.py): (B, H, T, T) for it.
    """
    return mask if kernels.serve(mask) else mask.expand([-1, heads, mask.shape[-1], -1])


def split_heads(x: paddle.Tensor, heads: int) -> paddle.Tensor:
    """(B, T, D) -> (B, H, T, D / H)."""
    # 0 keeps an axis: sizes stay symbolic when Paddle compiles the model for any batch
    return x.reshape([0, 0, heads, x.shape[2] // heads]).transpose([0, 2, 1, 3])


def join_heads(x: paddle.Tensor, width: int) -> paddle.Tensor:
    """(B, H, T, D / H) -> (B, T, D)."""
    return x.transpose([0, 2, 1, 3]).reshape([0, 0, width])


def attention(
    q: paddle.Tensor, k: paddle.Tensor, v: paddle.Tensor, mask: paddle.Tensor, heads: int, scale: float, drop: nn.Layer
) -> paddle.Tensor:
    """softmax(q k' scale + mask) v of each head.

    Args:
        q: (B, Q, D), a head's numbers side by side.
        k, v: (B, K, D).
        mask: what `spread` makes, of all texts or (1, ...) for each. A constant: it gets no gradient.
        drop: falls on the probabilities.

    Returns:
        (B, Q, D).
    """
    mask = mask.detach()
    if kernels.serve(q, k, v, mask) and fusible(drop):
        return kernels.run("attention", q, k, v, mask, drop.key(), heads, float(scale), drop.rate)[0]
    scores = paddle.matmul(split_heads(q, heads), split_heads(k, heads), transpose_y=True)  # (B, H, Q, K)
    probs = drop(F.softmax(scores * scale + mask, axis=-1))
    return join_heads(paddle.matmul(probs, split_heads(v, heads)), q.shape[2])


paddle_side.DRIVER.watch(Drop("dropout", home=sys.modules[__name__]))
