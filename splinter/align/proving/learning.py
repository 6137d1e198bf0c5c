"""What moves the weights where the user names no loss and no optimizer: the same arithmetic for every framework."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..pairing import blanked
from .batches import DECODED, MASKS, padding

RATE = 1e-2
"""How far one update of `Descent` moves the weights, as a share of their norm."""


class Descent:
    """Steepest descent with steps of one length: the same arithmetic, in numpy, for both frameworks.

    It is no user's optimizer. It moves the weights along the gradients, so that twenty gradients are compared and not
    one, and unlike Adam it makes nothing of the noise in a gradient that is all but zero.
    """

    def __init__(self, driver: Any, named: Mapping[str, Any]):
        self.driver, self.named = driver, dict(named)

    def step(self, rate: float) -> float:
        """Move by `rate` times the norm of the weights, against the gradient; returns the gradient's norm.

        Weights without a gradient do not count: one side alone may have some.
        """
        arrays = {name: self.driver.to_numpy(one) for name, one in self.named.items()}
        gradients = {n: self.driver.to_numpy(p.grad) for n, p in self.named.items() if p.grad is not None}
        norm, size = _norm(gradients), _norm({name: arrays[name] for name in gradients})
        for name, gradient in gradients.items():
            if norm > 0:
                self.driver.fill(self.named[name], arrays[name] - (rate * size / norm) * gradient)
            self.named[name].grad = None
        return norm


def _norm(arrays: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays.values())))


class Stepped:
    """An optimizer of the user's framework, as the steps want one."""

    def __init__(self, driver: Any, optimizer: Any, named: Mapping[str, Any]):
        self.driver, self.optimizer, self.named = driver, optimizer, dict(named)

    def step(self, rate: float) -> float:
        """One update at the optimizer's own rate; returns the norm of all gradients before it."""
        norm = _norm({n: self.driver.to_numpy(p.grad) for n, p in self.named.items() if p.grad is not None})
        self.optimizer.step()
        for parameter in self.named.values():
            parameter.grad = None
        return norm


def distance(driver: Any, seed: int) -> Callable[[Any, Mapping[str, Any], Any], Any]:
    """A loss that sends a gradient through every floating output: its mean distance to fixed random targets.

    Targets are drawn from the name and the shape of an output alone, so both sides have the same; what stands at
    padding counts for nothing. The distance is sqrt(1 + d^2): its gradient is never larger than 1, and all terms are
    positive, so that the loss is no small difference of large numbers, of which rounding would be a large part.
    """

    def loss(model: Any, outputs: Mapping[str, Any], batch: Any) -> Any:
        total: Any = 0.0
        masks = padding({key: driver.to_numpy(value) for key, value in batch.items() if key in (*MASKS, DECODED)})
        for name, tensor in outputs.items():
            if "float" not in str(tensor.dtype):
                continue
            rng, shape = np.random.default_rng([seed, zlib.crc32(name.encode())]), tuple(tensor.shape)
            counts = blanked({name: np.ones(shape)}, masks)[name]
            target, share = driver.like(rng.normal(size=shape), tensor), driver.like(counts / counts.size, tensor)
            total = total + (((tensor - target) ** 2 + 1).sqrt() * share).sum()
        return total

    return loss
