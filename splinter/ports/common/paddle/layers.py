"""The layers of paddle.nn on which a CPU spends its time, by our kernels where they were built (kernels.py).

Each is that of paddle in law and in what it computes, but for rounding; docs/speed.md says what each gains.
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


def spread(mask: paddle.Tensor, heads: int) -> paddle.Tensor:
    """(B, 1, 1, T) numbers to add to scores -> what `masked_softmax` takes, for all layers at once.

    Paddle's CPU kernel is far slower at broadcasting than at equal shapes (bench_speed.py): (B, H, T, T) for it.
    """
    return mask if kernels.serve(mask) else mask.expand([-1, heads, mask.shape[-1], -1])


def masked_softmax(scores: paddle.Tensor, mask: paddle.Tensor, scale: float = 1.0) -> paddle.Tensor:
    """softmax(scores * scale + mask) over the last axis.

    Args:
        scores: (B, H, Q, K).
        mask: of the same axes, each as long or 1, the last as long. A constant: it gets no gradient.
    """
    mask = mask.detach()
    if kernels.serve(scores, mask):
        return kernels.run("masked_softmax", scores, mask, float(scale))[0]
    scores = scores if scale == 1.0 else scores * scale
    return F.softmax(scores + mask, axis=-1)


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
    # of all int32 but the largest; paddle 3.3.1 draws a float64 for each number, which takes longer
    least, most = -(2**31), 2**31 - 1
    if kernels.serve(x):
        return kernels.run("dropout", x, paddle.randint(least, most, [2], "int32"), float(p))[0]
    drawn = paddle.randint(least, most, paddle.shape(x), "int32")
    kept = (drawn >= round(p * 2**32) - 2**31).astype(x.dtype)
    return x * (kept * (1 / (1 - p)))


class Dropout(nn.Dropout):
    """Dropout by the function above."""

    def __init__(self, p: float = 0.5):
        super().__init__(p)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return dropout(x, self.p, self.training)


paddle_side.DRIVER.watch(Drop("dropout", home=sys.modules[__name__]))
