"""Dropout for a CPU: the law of paddle's, from a generator that is faster there.

paddle 3.3.1 draws a float64 for each number; a whole number of 32 bits takes less time. Dropout is the largest part of
a train step (docs/speed.md).
"""

from __future__ import annotations

import sys

import paddle
import paddle.nn.functional as F
from paddle import nn

from splinter.align import paddle_side
from splinter.align.framework import Drop


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
    drawn = paddle.randint(-(2**31), 2**31 - 1, paddle.shape(x), "int32")  # of all int32 but the largest
    kept = (drawn >= round(p * 2**32) - 2**31).astype(x.dtype)
    return x * (kept * (1 / (1 - p)))


class Dropout(nn.Dropout):
    """Dropout by the function above."""

    def __init__(self, p: float = 0.5):
        super().__init__(p)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return dropout(x, self.p, self.training)


paddle_side.DRIVER.watch(Drop("dropout", home=sys.modules[__name__]))
