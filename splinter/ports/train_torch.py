"""torch's half of a training run: AdamW from its formula and the trainer, shared by the references."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from splinter.align import torch_side

from .recipe import Recipe


def gpus() -> int:
    """How many GPUs this torch can use."""
    return torch.cuda.device_count()


def seed(number: int) -> None:
    """Seed what new weights are drawn from."""
    torch.manual_seed(number)


def linear_rates(features: int, recipe: Recipe) -> list[float]:
    """What transformers' linear schedule gives each update, and 25 beyond the last; the step rule restated."""
    from transformers import get_linear_schedule_with_warmup

    per_epoch = -(-features // recipe.batch_size)
    total, epochs = per_epoch * recipe.epochs, recipe.epochs
    if total < recipe.min_steps:
        total, epochs = recipe.min_steps, recipe.min_steps // per_epoch + 1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(total * recipe.warmup), total)
    used = []
    for _ in range(epochs * per_epoch + 25):
        used.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return used


class AdamW:
    """transformers' old AdamW, written from its formula (docs of optimization.py 2.9): not torch.optim.AdamW.

    With c = 1 - beta^t: `w -= rate * sqrt(c2)/c1 * m / (sqrt(v) + eps)`, then `w -= rate * decay * w`.

    Args:
        named: name -> parameter; those without gradient are left alone.
        decayed: names that decay.
    """

    def __init__(self, named: Mapping[str, torch.Tensor], recipe: Recipe, decayed: Iterable[str] = ()):
        self.named, self.recipe, self.updates = dict(named), recipe, 0
        self.decayed = set(decayed)
        self.memory: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """Clip by global norm, update, clear gradients; returns the norm before clipping."""
        r, parameters = self.recipe, [p for p in self.named.values() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, r.max_norm or math.inf).item() if parameters else 0.0
        self.updates += 1
        correction = math.sqrt(1.0 - r.beta2**self.updates) / (1.0 - r.beta1**self.updates)
        for name, w in self.named.items():
            g = w.grad
            if g is None:
                continue
            if name not in self.memory:
                self.memory[name] = (torch.zeros_like(w), torch.zeros_like(w))
            m, v = self.memory[name]
            m.mul_(r.beta1).add_(g, alpha=1.0 - r.beta1)
            v.mul_(r.beta2).addcmul_(g, g, value=1.0 - r.beta2)
            w.addcdiv_(m, v.sqrt().add_(r.epsilon), value=-rate * correction)
            if r.weight_decay and name in self.decayed:
                w.add_(w, alpha=-rate * r.weight_decay)
            w.grad = None
        return norm

    def moments(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Name -> first and second moment, of the parameters that have been updated."""
        return self.memory

    def load(self, moments: Mapping[str, tuple[np.ndarray, np.ndarray]], updates: int) -> None:
        """Restore both moments and the count of updates."""
        self.updates = updates
        for name, pair in moments.items():
            w = self.named[name]
            self.memory[name] = tuple(torch.tensor(a, dtype=w.dtype, device=w.device) for a in pair)


class TorchTrainer:
    """A model in training: see `recipe.Trainer`. On a GPU where the model lies on one."""

    def __init__(self, model, loss: Callable, recipe: Recipe, decayed: Iterable[str] = ()):
        self.model, self.loss = model, loss
        self.named = dict(model.named_parameters())
        self.optimizer = AdamW(self.named, recipe, decayed)
        first = next(iter(self.named.values()))
        self.dtype, self.device = str(first.dtype).removeprefix("torch."), first.device

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> tuple[float, float]:
        self.model.train()
        tensors = {n: t.to(self.device) for n, t in torch_side.from_numpy(batch, self.dtype).items()}
        with torch_side.float64_softmax():
            loss = self.loss(self.model, tensors)
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value}")
            loss.backward()
        return value, self.optimizer.step(rate)

    def seed(self, *numbers: int) -> None:
        seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def state(self) -> dict[str, np.ndarray]:
        state = torch_side.state(self.model)
        for name, (first, second) in self.optimizer.moments().items():
            state[f"moment1/{name}"], state[f"moment2/{name}"] = torch_side.to_numpy(first), torch_side.to_numpy(second)
        return state

    def load(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(torch.tensor(state[name]))
        moments = {n: (state[f"moment1/{n}"], state[f"moment2/{n}"]) for n in self.named if f"moment1/{n}" in state}
        self.optimizer.load(moments, updates)
