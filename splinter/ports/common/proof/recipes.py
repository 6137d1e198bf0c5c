"""The recipe that optimizer and schedule are compared with: no field of it is a default. Imports no framework."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from splinter.ports.common.training.schedule import Recipe

OTHERS: dict[str, Any] = {
    "warmup": 0.07,
    "epochs": 7,
    "min_steps": 150,
    "max_steps": 300,
    "batch_size": 20,
    "beta1": 0.85,
    "beta2": 0.98,
    "epsilon": 1e-7,
    "weight_decay": 0.02,
    "max_norm": 0.8,
    "seed": 5,
}
"""What no recipe has by default: a side that reads a default, its framework's, say, shows."""


def unlike(recipe: Recipe) -> Recipe:
    """A recipe with another value in every field, but for the two that name a formula."""
    return replace(recipe, learning_rate=1.7 * recipe.learning_rate, **OTHERS)
