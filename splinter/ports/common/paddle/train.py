"""Paddle's half of a training run: the AdamW of the recipes and the trainer, shared by the ports."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.distributed as distributed

from splinter.align import paddle_side
from splinter.ports.common.paddle import kernels
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import BatchTrainer, Team
from splinter.runtime import whole_number


class PaddleBackend:
    """What the backends of all systems share in Paddle; see `backend.Backend`."""

    @staticmethod
    def gpus() -> int:
        return paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0

    @staticmethod
    def seed(number: int) -> None:
        paddle.seed(number)

    @staticmethod
    def place(device: str) -> None:
        """Where the models that are opened from now on lie; auto: on a GPU where there is one."""
        if device != "auto":
            paddle.set_device(device)

    def save(self, model: Any, folder: Path, beside: Mapping[str, bytes]) -> None:
        model.write(folder, beside)


def clear(parameter) -> None:
    """Forget a gradient. Paddle 3.3.1's clear_gradient leaves zeros instead, and then momentum moves a parameter
    that the next batch does not use, where torch leaves it alone (tests/alignment/test_frameworks.py)."""
    parameter.grad = None


def clip(gradients: list[paddle.Tensor], limit: float) -> float:
    """Scale gradients, in place, to a global norm of at most `limit`; returns the norm before.

    By torch's formula, limit / (norm + 1e-6), which paddle.nn.ClipGradByGlobalNorm has not. Not by
    paddle.nn.utils.clip_grad_norm_: on a CPU paddle 3.3.1 adds up all squares of a tensor in one float32, 2.7e-2 off
    for a word embedding of base size; row by row it is 4e-8 (tests/alignment/test_frameworks.py tells when the
    detour is no longer needed).
    """

    def squares(gradient):
        return (gradient.square().sum(axis=-1) if gradient.ndim else gradient.square()).sum()

    norm = paddle.add_n([squares(gradient) for gradient in gradients]).sqrt()
    scale = (limit / (norm + 1e-6)).clip(max=1.0)
    for gradient in gradients:
        gradient.multiply_(scale)
    return norm.item()


class AdamW:
    """transformers' old AdamW (up to 4.56; optimization.py in 2.9): not paddle.optimizer.AdamW.

    Epsilon is added before bias correction, and decay comes after the step, on the new weights. With
    c = 1 - beta^t: `w -= rate * sqrt(c2)/c1 * m / (sqrt(v) + eps)`, then `w -= rate * decay * w`. With the
    recipe's optimizer "bert", AdamWeightDecay of google-research/bert: c = 1, and the decay is that of the old w.
    t counts the updates of each parameter by itself, those in which it had a gradient: in the others it stands still,
    without momentum and without decay.

    Plain tensor operations rather than Paddle's fused Adam kernel (handing it eps / sqrt(c2) gives the same
    formula): in float32 the kernel forms 1 - beta2 from a rounded beta2, so its second moments are 1.3e-5
    too small (paddle 3.3.1; tests/alignment/test_frameworks.py tells when that changes).

    Args:
        named: name -> parameter; those without gradient are left alone.
        decayed: names that decay.
    """

    def __init__(self, named: Mapping[str, paddle.Tensor], recipe: Recipe, decayed: Iterable[str] = ()):
        self.named, self.recipe, self.updates = dict(named), recipe, 0
        self.decayed = set(decayed)
        self.counts: dict[str, int] = {}
        self.memory: dict[str, tuple[paddle.Tensor, paddle.Tensor]] = {}

    @paddle.no_grad()
    def step(self, rate: float) -> float:
        """Clip by global norm, update, clear gradients; returns the norm before clipping."""
        r, gradients = self.recipe, [p.grad for p in self.named.values() if p.grad is not None]
        limit = r.max_norm or math.inf
        by_kernels = bool(gradients) and kernels.serve(*gradients)
        if by_kernels:
            norm = math.sqrt(paddle.add_n([kernels.run("squares", one)[0] for one in gradients]).item())
            scale = min(limit / (norm + 1e-6), 1.0)
        else:
            norm = clip(gradients, limit) if gradients else 0.0
        self.updates += 1
        bert = r.optimizer == "bert"
        epsilon = {} if by_kernels else {dtype: self._epsilon(dtype) for dtype in {one.dtype for one in gradients}}
        for name, w in self.named.items():
            g = w.grad
            if g is None:
                continue
            if name not in self.memory:
                self.memory[name] = (paddle.zeros_like(w), paddle.zeros_like(w))
            m, v = self.memory[name]
            t = self.counts[name] = self.counts.get(name, 0) + 1
            correction = 1.0 if bert else math.sqrt(1.0 - r.beta2**t) / (1.0 - r.beta1**t)
            decay = rate * r.weight_decay if name in self.decayed else 0.0
            before, after = (decay, 0.0) if bert else (0.0, decay)
            if by_kernels:
                numbers = [scale, r.beta1, r.beta2, r.epsilon, rate * correction, before, after]
                # detached: a leaf itself may not be written to
                kernels.run("adamw", w.detach(), g, m, v, [float(one) for one in numbers])
            else:
                m.scale_(r.beta1).add_(g.scale(1.0 - r.beta1))
                v.scale_(r.beta2).add_(g.square().scale_(1.0 - r.beta2))
                if before:
                    w.subtract_(w.scale(before))  # w * (1 - tiny) would round the factor
                w.subtract_((m / v.sqrt().add_(epsilon[w.dtype])).scale_(rate * correction))
                if after:
                    w.subtract_(w.scale(after))
            clear(w)
        return norm

    def _epsilon(self, dtype) -> paddle.Tensor:
        return paddle.to_tensor(self.recipe.epsilon, dtype=dtype)  # scale(bias=...) would hold it in float32

    def moments(self) -> dict[str, tuple[paddle.Tensor, paddle.Tensor]]:
        """Name -> first and second moment, of the parameters that have been updated."""
        return self.memory

    def load(
        self, moments: Mapping[str, tuple[np.ndarray, np.ndarray]], counts: Mapping[str, int], updates: int
    ) -> None:
        """Restore both moments, and the count of updates of each parameter and of all."""
        self.counts, self.updates = dict(counts), updates
        self.memory = {n: (paddle.to_tensor(m), paddle.to_tensor(v)) for n, (m, v) in moments.items()}


class PaddleTeam(Team):
    """As paddle.distributed.launch starts it; without it, a team of one."""

    def __init__(self) -> None:
        super().__init__("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM")

    @property
    def device(self) -> str:
        return f"gpu:{whole_number('FLAGS_selected_gpus', 0, least=0)}" if PaddleBackend.gpus() else "cpu"

    def join(self, parameter: paddle.Tensor) -> None:
        if not distributed.is_initialized():
            if parameter.place.is_cpu_place():
                os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # else Paddle moves to a GPU where there is one
            distributed.init_parallel_env()

    def summed(self, numbers: list[float], parameter: paddle.Tensor) -> list[float]:
        tensor = paddle.to_tensor(numbers, dtype="float64")
        distributed.all_reduce(tensor)
        return tensor.tolist()

    @paddle.no_grad()
    def sum_gradients(self, parameters: list[paddle.Tensor]) -> None:
        for p in parameters:
            p.grad = paddle.zeros_like(p) if p.grad is None else p.grad
        flat = paddle.concat([p.grad.flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.size for p in parameters]), strict=True):
            p.grad = part.reshape(p.shape)


class PaddleTrainer(BatchTrainer):
    """A model in training: see `trainer.BatchTrainer`.

    Args:
        decayed: names that decay.
    """

    def __init__(
        self,
        model,
        loss: Callable,
        recipe: Recipe,
        decayed: Iterable[str] = (),
        precision: str = "float32",
        team: Team | None = None,
        mean_of_rows: bool = False,
    ):
        named = paddle_side.parameters(model)
        super().__init__(model, loss, named, AdamW(named, recipe, decayed), recipe, precision, team, mean_of_rows)
        self.dtype = str(next(iter(named.values())).dtype).removeprefix("paddle.")

    def backward(self, batch: Mapping[str, np.ndarray], share: float = 1.0) -> float:
        half = paddle.amp.auto_cast(dtype="bfloat16") if self.precision == "bf16" else nullcontext()
        with half:
            loss = self.loss(self.model, paddle_side.from_numpy(batch, self.dtype)) * share
        loss.backward()
        return loss.item()

    def kernels(self) -> str | None:
        return kernels.path().stem if kernels.serve(next(iter(self.named.values()))) else None

    def advice(self) -> str:
        on_cpu = next(iter(self.named.values())).place.is_cpu_place()
        if not on_cpu or not kernels.wanting():
            return ""
        return "to train faster on this CPU, run `splinter kernels` once, which takes some seconds"

    def reseed(self, number: int) -> None:
        paddle.seed(number)

    def state(self) -> dict[str, np.ndarray]:
        state = paddle_side.state(self.model)
        for name, (first, second) in self.optimizer.moments().items():
            state[f"moment1/{name}"], state[f"moment2/{name}"] = first.numpy(), second.numpy()
            state[f"updates/{name}"] = np.array(self.optimizer.counts[name])
        return state

    def load(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        for name, parameter in self.named.items():
            parameter.set_value(state[name])
        moments = {n: (state[f"moment1/{n}"], state[f"moment2/{n}"]) for n in self.named if f"moment1/{n}" in state}
        counts = {n: int(state[f"updates/{n}"]) if f"updates/{n}" in state else updates for n in moments}
        self.optimizer.load(moments, counts, updates)
