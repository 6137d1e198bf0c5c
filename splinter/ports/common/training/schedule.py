"""What decides a run: the recipe, how many updates it makes, and the learning rate of each.

Schedule and step rule: oriram/splinter finetuning/run_mrqa.py at 1df4c13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import TrainingError

SCHEDULES, OPTIMIZERS = ("linear", "constant", "from-start"), ("hf", "bert")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """What decides a fine-tuning run. Defaults: Splinter's few-shot recipe (Ram et al. 2021, section 5).

    Units: learning_rate per update at its peak, warmup as a share of all steps, max_norm as global L2 norm (0 =
    no clipping).
    """

    learning_rate: float = 3e-5
    warmup: float = 0.1
    epochs: int = 10
    min_steps: int = 200
    max_steps: int = 0  # 0 = no limit; cuts a run short without changing its schedule
    batch_size: int = 12
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_norm: float = 1.0
    seed: int = 42
    schedule: str = "linear"  # after the warm-up: "linear" to 0, "constant", or "from-start": linear counted from 0
    optimizer: str = "hf"  # "hf": transformers' old AdamW; "bert": without bias correction, decay before the step
    micro_batch: int = 0  # rows that go through the model at a time; 0 = all of the batch

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is not known; use one of {', '.join(known)}")


@dataclass(frozen=True)
class Plan:
    """How many updates, and the schedule's two corners, all in updates."""

    per_epoch: int
    total: int
    warmup: int
    updates: int
    schedule: str = "linear"


def plan(features: int, recipe: Recipe) -> Plan:
    """The step rule: `total` = epochs x batches, at least min_steps; whole epochs are run, overshooting it.

    Raises:
        TrainingError: no features.
    """
    if features < 1:
        raise TrainingError("nothing to train on: the data gave no features")
    per_epoch = math.ceil(features / recipe.batch_size)
    total, epochs = recipe.epochs * per_epoch, recipe.epochs
    if total < recipe.min_steps:
        total, epochs = recipe.min_steps, recipe.min_steps // per_epoch + 1
    updates = epochs * per_epoch
    updates = min(updates, recipe.max_steps or updates)
    return Plan(per_epoch, total, int(recipe.warmup * total), updates, recipe.schedule)


def rate(plan: Plan, peak: float, update: int) -> float:
    """Learning rate that update number `update` (from 0) uses: linear warm-up from 0, then as the schedule says.

    "linear" falls from the peak to 0 at `total`; "from-start" falls as if there had been no warm-up, so that it
    drops a little below the peak where the warm-up ends; "constant" stays at the peak.
    """
    if update < plan.warmup:
        return peak * (update / max(1, plan.warmup))
    if plan.schedule == "constant":
        return peak
    begin = plan.warmup if plan.schedule == "linear" else 0
    return peak * max(0.0, (plan.total - update) / max(1, plan.total - begin))


def rates(features: int, recipe: Recipe) -> list[float]:
    """The learning rate of each update, and of 25 beyond the last."""
    schedule = plan(features, recipe)
    return [rate(schedule, recipe.learning_rate, k) for k in range(schedule.updates + 25)]
