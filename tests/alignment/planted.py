"""Bugs to plant: what a porter gets wrong, as patches of the Paddle side. Each names the step that must catch it.

Nothing here edits a test, a tolerance or the reference. One file per system, `planted_<system>.py`, registers
its bugs with `bug`. Sources: port bugs seen in public ports and issue threads; `mutant` where none was found
but the mistake is of a common shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from splinter.ports import recipe, train_paddle


@dataclass(frozen=True)
class Bug:
    """One planted mistake.

    Args:
        name: what was done, in a few words.
        step: the step that must turn red.
        system: the port it is planted in, by name.
        mode: in which mode it shows.
        plant: applies it through pytest's monkeypatch.
        also: cheap steps that cannot help turning red with it.
        dtype: the precision in which the step is run.
        crashes: it shows as an exception, of shapes that do not fit, say.
    """

    name: str
    step: str
    system: str
    mode: str
    plant: Callable
    also: tuple[str, ...] = ()
    dtype: str = "float64"
    crashes: bool = False


BUGS: list[Bug] = []


def bug(name: str, step: str, system: str, mode: str, **more):
    """Register a planting function."""

    def register(plant: Callable) -> Callable:
        BUGS.append(Bug(name, step, system, mode, plant, **more))
        return plant

    return register


def while_running(patch, owner, name: str) -> Callable[[], bool]:
    """Whether `owner.name` is running: both sides share the loop of the recipe, and a bug in it shall touch one."""
    depth = [0]

    def change(plain):
        def planted(*a):
            depth[0] += 1
            try:
                return plain(*a)
            finally:
                depth[0] -= 1

        return planted

    wrap(patch, owner, name, change)
    return lambda: depth[0] > 0


def wrap(patch, owner, name: str, change: Callable) -> None:
    """Replace `owner.name` by `change(original)`."""
    patch.setattr(owner, name, change(getattr(owner, name)))


# -- bugs that fit several systems --------------------------------------------------------------------------


def clip_each(patch) -> None:
    """Each tensor is clipped by its own norm."""
    plain = train_paddle.clip

    def each(gradients, limit):
        norm = plain(gradients, float("inf"))
        for gradient in gradients:
            plain([gradient], limit)
        return norm

    patch.setattr(train_paddle, "clip", each)


def lose_shuffling(patch, train) -> None:
    """The training of the module `train` takes its rows in the order of the file."""
    plain, ours = recipe.order, while_running(patch, train, "train")

    def unshuffled(features, plan, r, start=0):
        for update, rows in enumerate(plain(features, plan, r, start), start):
            first = update % plan.per_epoch * r.batch_size
            yield np.arange(first, first + len(rows)) if ours() else rows

    patch.setattr(recipe, "order", unshuffled)


def skip_small(patch, rows: int) -> None:
    """Batches of fewer rows are left out."""

    def change(plain):
        return lambda self, batch, rate: (0.0, 0.0) if len(batch["input_ids"]) < rows else plain(self, batch, rate)

    wrap(patch, train_paddle.PaddleTrainer, "step", change)
