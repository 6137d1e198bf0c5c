"""torch's half of a training run: AdamW from its formula and the trainer, shared by the references."""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed

from splinter.align import torch_side
from splinter.ports.common.checkpoint import write_model
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.trainer import BatchTrainer, Team
from splinter.runtime import whole_number


class TorchBackend:
    """What the backends of all systems share in torch; see `backend.Backend`."""

    @staticmethod
    def gpus() -> int:
        return torch.cuda.device_count()

    @staticmethod
    def seed(number: int) -> None:
        torch.manual_seed(number)

    def placed(self, model: Any, device: str) -> Any:
        """A model on a device; auto: on a GPU where there is one."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(device.replace("gpu", "cuda"))

    def stored(self, model: Any) -> Mapping[str, np.ndarray]:
        """The weights under the names and in the layout in which they are written."""
        return {name: parameter.detach().cpu().numpy() for name, parameter in model.named_parameters()}

    def save(self, model: Any, folder: Path, beside: Mapping[str, bytes]) -> None:
        arrays = self.stored(model)
        shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        write_model(folder, beside, shapes, lambda: iter(arrays.items()))


class AdamW:
    """transformers' old AdamW, written from its formula (docs of optimization.py 2.9): not torch.optim.AdamW.

    With c = 1 - beta^t: `w -= rate * sqrt(c2)/c1 * m / (sqrt(v) + eps)`, then `w -= rate * decay * w`. With the
    recipe's optimizer "bert", AdamWeightDecay of google-research/bert: c = 1, and the decay is that of the old w.
    t counts the updates of each parameter by itself, those in which it had a gradient: in the others it stands still,
    without momentum and without decay.

    Args:
        named: name -> parameter; those without gradient are left alone.
        decayed: names that decay.
    """

    def __init__(self, named: Mapping[str, torch.Tensor], recipe: Recipe, decayed: Iterable[str] = ()):
        self.named, self.recipe, self.updates = dict(named), recipe, 0
        self.decayed = set(decayed)
        self.counts: dict[str, int] = {}
        self.memory: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """Clip by global norm, update, clear gradients; returns the norm before clipping."""
        r, parameters = self.recipe, [p for p in self.named.values() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, r.max_norm or math.inf).item() if parameters else 0.0
        self.updates += 1
        bert = r.optimizer == "bert"
        for name, w in self.named.items():
            g = w.grad
            if g is None:
                continue
            if name not in self.memory:
                self.memory[name] = (torch.zeros_like(w), torch.zeros_like(w))
            m, v = self.memory[name]
            t = self.counts[name] = self.counts.get(name, 0) + 1
            correction = 1.0 if bert else math.sqrt(1.0 - r.beta2**t) / (1.0 - r.beta1**t)
            m.mul_(r.beta1).add_(g, alpha=1.0 - r.beta1)
            v.mul_(r.beta2).addcmul_(g, g, value=1.0 - r.beta2)
            decays = r.weight_decay and name in self.decayed
            if decays and bert:
                w.add_(w, alpha=-rate * r.weight_decay)
            # into the gradient, of no more use: new memory for an embedding costs more than all the rest
            w.addcdiv_(m, torch.sqrt(v, out=g).add_(r.epsilon), value=-rate * correction)
            if decays and not bert:
                w.add_(w, alpha=-rate * r.weight_decay)
            w.grad = None
        return norm

    def moments(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Name -> first and second moment, of the parameters that have been updated."""
        return self.memory

    def load(
        self, moments: Mapping[str, tuple[np.ndarray, np.ndarray]], counts: Mapping[str, int], updates: int
    ) -> None:
        """Restore both moments, and the count of updates of each parameter and of all."""
        self.counts, self.updates = dict(counts), updates
        for name, pair in moments.items():
            w = self.named[name]
            self.memory[name] = tuple(torch.tensor(a, dtype=w.dtype, device=w.device) for a in pair)


class TorchTeam(Team):
    """As torchrun starts it; without it, a team of one."""

    def __init__(self) -> None:
        super().__init__("RANK", "WORLD_SIZE")

    @cached_property
    def device(self) -> str:
        return f"gpu:{whole_number('LOCAL_RANK', 0, least=0)}" if torch.cuda.is_available() else "cpu"

    def join(self, parameter: torch.Tensor) -> None:
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if parameter.is_cuda else "gloo")
            atexit.register(distributed.destroy_process_group)

    def summed(self, numbers: list[float], parameter: torch.Tensor) -> list[float]:
        tensor = torch.tensor(numbers, dtype=torch.float64, device=parameter.device)
        distributed.all_reduce(tensor)
        return tensor.tolist()

    @torch.no_grad()
    def sum_gradients(self, parameters: list[torch.Tensor]) -> None:
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = torch.cat([p.grad.flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(part.view_as(p))


class TorchTrainer(BatchTrainer):
    """A model in training: see `trainer.BatchTrainer`. On a GPU where the model lies on one.

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
        named = dict(model.named_parameters())
        super().__init__(model, loss, named, AdamW(named, recipe, decayed), recipe, precision, team, mean_of_rows)
        first = next(iter(named.values()))
        self.dtype, self.device = str(first.dtype).removeprefix("torch."), first.device

    def backward(self, batch: Mapping[str, np.ndarray], share: float = 1.0) -> float:
        tensors = {n: t.to(self.device) for n, t in torch_side.from_numpy(batch, self.dtype).items()}
        half = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with torch_side.float64_softmax(), half:
            loss = self.loss(self.model, tensors) * share
        loss.backward()
        return loss.item()

    def reseed(self, number: int) -> None:
        torch.manual_seed(number)

    def state(self) -> dict[str, np.ndarray]:
        state = torch_side.state(self.model)
        for name, (first, second) in self.optimizer.moments().items():
            state[f"moment1/{name}"], state[f"moment2/{name}"] = torch_side.to_numpy(first), torch_side.to_numpy(second)
            state[f"updates/{name}"] = np.array(self.optimizer.counts[name])
        return state

    def load(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(torch.tensor(state[name]))
        moments = {n: (state[f"moment1/{n}"], state[f"moment2/{n}"]) for n in self.named if f"moment1/{n}" in state}
        counts = {n: int(state[f"updates/{n}"]) if f"updates/{n}" in state else updates for n in moments}
        self.optimizer.load(moments, counts, updates)
