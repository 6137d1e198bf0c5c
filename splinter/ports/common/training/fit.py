"""The training loop, the same for both frameworks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from splinter import stopping
from splinter.align import files
from splinter.ports.common.checkpoint import CheckpointError

from . import TrainingError, schedule
from .best import Best
from .feed import Feed
from .log import LOG, append, read_log, write_log
from .schedule import Recipe
from .state import STEP, discard, latest, resumed, save
from .trainer import Trainer


@dataclass(frozen=True)
class Keep:
    """Where a run keeps its log and its training states, and how.

    Args:
        folder: made where it is missing.
        every: updates between training states.
        resume: go on from the newest whole state there.
        lead: whether this process writes; of a team that trains together, only one does, and all read.
        about: what else decides the run (JSON values); a resumed run must be told the same.
    """

    folder: Path
    every: int = 50
    resume: bool = False
    lead: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Who looks at the model while it is trained.

    Args:
        look: called with the number of updates done, now and then and after the last; what it returns (scores on dev
            data, say) is logged under "dev". See `Best`.
        every: updates between looks; 0 = once per epoch.
    """

    look: Callable[[int], Mapping[str, Any]] | None = None
    every: int = 0


def fit(
    trainer: Trainer,
    feed: Feed,
    recipe: Recipe,
    keep: Keep | None = None,
    watch: Watch | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Train; returns the log, one entry per update: step, lr, loss (nats), norm, seconds.

    The random state is (seed, update): dropout is reseeded before each update and the order of batches is a
    function of seed and epoch, so a resumed run needs no generator state and ends bit for bit where the
    uninterrupted one ends.

    Args:
        keep: where log and training states go; None keeps nothing.
        progress: a bar on standard error.

    Raises:
        TrainingError: the loss is not finite; names update and batch.
        CheckpointError: nothing to resume, or the run in the folder was another one.
    """
    plan, watch = feed.plan, watch or Watch()
    # what a resumed run must find as it was
    run = {} if keep is None else {"recipe": asdict(recipe), **feed.about(), **keep.about}
    log = [] if keep is None else _opened(trainer, keep, run, watch)
    bar = _bar(plan.updates, len(log), progress)
    began = time.perf_counter()
    for update, (batch, named) in enumerate(feed.batches(len(log)), len(log)):
        stopping.check()
        trainer.seed(recipe.seed, update)
        now = schedule.rate(plan, recipe.learning_rate, update)
        try:
            loss, norm = trainer.step(batch, now)
            if not math.isfinite(norm):  # clipped by it, every weight is NaN now: no checkpoint may be written
                raise FloatingPointError(f"the gradient norm is {norm}")
        except FloatingPointError as error:
            raise TrainingError(
                f"update {update + 1} of {plan.updates}: {error}; the batch was {', '.join(named())}. "
                "Look at these examples, or start in another folder with a lower learning rate"
            ) from None
        done = update + 1
        looks = done == plan.updates or (watch.look and done % (watch.every or plan.per_epoch) == 0)
        saves = keep is not None and done % keep.every == 0
        if looks or saves:
            refuse_broken(trainer, done)
        entry: dict[str, Any] = {
            "step": done,
            "lr": now,
            "loss": loss,
            "norm": norm,
            "seconds": round(time.perf_counter() - began, 4),
        }
        if watch.look is not None and looks:
            # JSON has no nan (an undefined correlation)
            entry["dev"] = {k: None if v != v else v for k, v in watch.look(done).items()}
        log.append(entry)
        if keep is not None and keep.lead:
            append(keep.folder / LOG, entry, sync=saves)  # the training state counts on so many lines
            if saves and done < plan.updates:
                save(trainer, keep.folder, run, done)
        bar.set_postfix(loss=f"{loss:.4f}", lr=f"{now:.2e}", refresh=False)
        bar.update()
        began = time.perf_counter()  # what an update takes: its batch and its step, no dev data and no checkpoint
    bar.close()
    return log


def _opened(trainer: Trainer, keep: Keep, run: Mapping[str, Any], watch: Watch) -> list[dict[str, Any]]:
    """Make the folder ready; returns the log so far, [] of a new run.

    Raises:
        CheckpointError: see `fit`.
    """
    log: list[dict[str, Any]] = []
    folder = keep.folder
    folder.mkdir(parents=True, exist_ok=True)
    if keep.resume:
        log = resumed(trainer, folder, run)
        read_log(folder / LOG, 1)  # what is no log of a run is not written over
        if isinstance(watch.look, Best):
            watch.look.check()
    elif keep.lead and latest(folder) is not None:
        raise CheckpointError(f"{folder} holds an unfinished run; add --resume to go on, or name another folder")
    if keep.lead:
        for path in folder.iterdir():
            if STEP.fullmatch(files.target_of(path.name) or ""):  # of a kill; as large as a whole one
                discard(path)
        write_log(folder / LOG, log)
    return log


def refuse_broken(trainer: Trainer, updates: int) -> None:
    """Weights that are no numbers must reach no checkpoint, no model and no dev score.

    Raises:
        TrainingError: NaN or infinity in a weight or a moment.
    """
    for name, array in trainer.state().items():
        if not np.isfinite(array).all():
            raise TrainingError(
                f"after update {updates} {name} holds NaN or infinity: the learning rate is too high; lower it and "
                "start again in another folder"
            )


def _bar(total: int, done: int, progress: bool):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, disable=not progress, desc="training", unit="step")
