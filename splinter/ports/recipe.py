"""Fine-tuning without a framework: steps, learning rates, order of batches, log, checkpoints, resume.

Both frameworks train through `fit`; what is theirs alone (forward, backward, update) is a `Trainer`
(train_paddle.py, train_torch.py). Schedule and step rule: oriram/splinter finetuning/run_mrqa.py at 1df4c13.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from splinter import stopping
from splinter.align import files
from splinter.align.files import SafetensorsFile, save_safetensors
from splinter.runtime import SettingError, whole_number

from .checkpoint import HUB_FILES, CheckpointError, read_json, write_json

SCHEDULES, OPTIMIZERS = ("linear", "constant", "from-start"), ("hf", "bert")
PRECISIONS = ("float32", "bf16")
LOG, STATE = "log.jsonl", "trainer.json"
RECORD = "training.json"
"""Written last: a folder that holds it holds a finished run."""
STEP = re.compile(r"step-\d{6,}")
OF_STATES = re.compile(r"state\.safetensors|trainer\.json|\d+\.safetensors")
"""Files in the folders of training states, `step-NNNNNN` and `best`."""


class TrainingError(RuntimeError):
    """Training that cannot go on; names the step and the batch."""


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
                raise ValueError(f"{name} {getattr(self, name)!r} is not known; one of {', '.join(known)} is")


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


def order(features: int, plan: Plan, recipe: Recipe, start: int = 0) -> Iterator[np.ndarray]:
    """Row numbers of each batch from update `start` on; each epoch its own permutation, a function of the seed."""
    for update in range(start, plan.updates):
        epoch, position = divmod(update, plan.per_epoch)
        if position == 0 or update == start:
            rows = np.random.default_rng((recipe.seed, epoch)).permutation(features)
        yield rows[position * recipe.batch_size : (position + 1) * recipe.batch_size]


def trim(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch cut to its longest row (rounded up to 8): padding adds exactly nothing, and costs time."""
    longest = int(batch["attention_mask"].sum(axis=1).max())
    tokens = min(batch["attention_mask"].shape[1], -(-longest // 8) * 8)
    return {name: a[:, :tokens] if a.ndim == 2 else a for name, a in batch.items()}


def parts(batch: Mapping[str, np.ndarray], rows: int) -> Iterator[Mapping[str, np.ndarray]]:
    """A batch in portions of so many rows, 0: of all; none where a member of a team has no row of it."""
    total = len(next(iter(batch.values())))
    size = rows or max(1, total)
    for begin in range(0, total, size):
        yield {name: column[begin : begin + size] for name, column in batch.items()}


def parts_by_length(batch: Mapping[str, np.ndarray], rows: int) -> Iterator[Mapping[str, np.ndarray]]:
    """A batch in portions of so many rows of like length, each cut to its longest row."""
    order = np.argsort(batch["attention_mask"].sum(axis=1), kind="stable")
    return map(trim, parts({name: column[order] for name, column in batch.items()}, rows))


class Feed(Protocol):
    """Where the batches of a run come from, for data that is more than one table; see `Table`."""

    @property
    def plan(self) -> Plan:
        """The schedule."""

    def about(self) -> dict[str, Any]:
        """What identifies the data (JSON values); a resumed run must find the same."""

    def batches(self, start: int) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], list[str]]]]:
        """The batch of each update from `start` on, and a function that names its examples for an error."""


@dataclass(frozen=True)
class Table:
    """The usual feed: one table of model inputs and labels, each column (N, ...)."""

    columns: Mapping[str, np.ndarray]
    recipe: Recipe
    names: Callable[[np.ndarray], list[str]] | None = None
    prepare: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]] = dict

    @property
    def features(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    @property
    def plan(self) -> Plan:
        """The schedule for so many rows."""
        return plan(self.features, self.recipe)

    def about(self) -> dict[str, Any]:
        """Number of rows and a hash of every column."""
        return {"features": self.features, "data": digest(self.columns)}

    def batches(self, start: int):
        """See `Feed`; `prepare` gives each batch its last touch."""
        for rows in order(self.features, self.plan, self.recipe, start):
            batch = self.prepare({name: column[rows] for name, column in self.columns.items()})
            yield batch, lambda rows=rows: self.names(rows) if self.names else list(map(str, rows))


class Trainer(Protocol):
    """One framework's half of a training run."""

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> tuple[float, float]:
        """Forward, backward, clip, update; returns loss (nats) and the global gradient norm before clipping.

        Raises:
            FloatingPointError: the loss is not finite; the weights are untouched.
        """

    def seed(self, *numbers: int) -> None:
        """Seed the framework's random numbers (dropout)."""

    def state(self) -> dict[str, np.ndarray]:
        """Weights and both moments, by name."""

    def load(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        """Restore what `state` returned, after `updates` updates."""


class Team(ABC):
    """The processes that train one model together, each with its share of the rows of a batch.

    Args:
        rank, size: environment variables in which the launcher says them; without it, a team of one.

    Attributes:
        rank: which one this process is, from 0.
        size: how many there are; 1: nothing is exchanged.

    Raises:
        SettingError: a variable that is no number, or a rank that is not below the size.
    """

    def __init__(self, rank: str, size: str):
        self.rank, self.size = whole_number(rank, 0, least=0), whole_number(size, 1, least=1)
        if self.rank >= self.size:
            raise SettingError(
                f"{rank}={self.rank} in the environment is not below {size}={self.size}; correct them, or unset both"
            )

    @property
    @abstractmethod
    def device(self) -> str:
        """Where this process computes: its own GPU, where there are GPUs."""

    @abstractmethod
    def join(self, parameter: Any) -> None:
        """Meet the others, once; over what joins the devices that parameters are on."""

    @abstractmethod
    def summed(self, numbers: list[float], parameter: Any) -> list[float]:
        """Each number, summed over the team in float64."""

    @abstractmethod
    def sum_gradients(self, parameters: list) -> None:
        """Sum gradients over the team, in place; a parameter without one counts as zero."""

    def add_up(self, loss: float, parameters: Iterable, updates: int) -> float:
        """Sum the loss and, in place, the gradients over the team; a parameter without a gradient anywhere gets none.

        Args:
            updates: how many this process has made.

        Raises:
            TrainingError: the processes are at different updates.
        """
        if self.size == 1:
            return loss
        parameters = list(parameters)
        self.join(parameters[0])
        known = [loss, updates, *(float(p.grad is not None) for p in parameters)]
        loss, total, *counts = self.summed(known, parameters[0])
        if total != self.size * updates:
            raise TrainingError(
                f"the {self.size} processes are at different updates, this one at {updates}: do they all see the same "
                "--output folder?"
            )
        self.sum_gradients([p for p, count in zip(parameters, counts, strict=True) if count])
        return loss


class BatchTrainer(ABC):
    """What a trainer does with a batch in either framework.

    Args:
        loss: (model, batch of tensors) -> scalar. In a team it must be a sum over rows; for micro-batches, that or a
            mean of rows.
        named: name -> parameter.
        optimizer: has step(rate) and updates.
        precision: one of PRECISIONS; "bf16": matrix products in bfloat16, weights and the rest as they are.
        team: a `Team` that shares the rows of a batch; every member makes the same update. None: no team.
        mean_of_rows: whether the loss is a mean in which each row counts alike, so that a part of the rows gives its
            share of it; then micro-batches need no team.
    """

    def __init__(
        self,
        model: Any,
        loss: Callable,
        named: Mapping,
        optimizer: Any,
        recipe: Recipe,
        precision: str,
        team: Team | None,
        mean_of_rows: bool,
    ):
        if recipe.micro_batch and team is None and not mean_of_rows:
            raise ValueError("micro-batches need a loss that is a mean of rows, or a sum over rows and a team (of one)")
        if team is not None and mean_of_rows:
            raise ValueError("a team adds up the losses of its members: they must be sums over rows, not means")
        self.model, self.loss, self.named, self.optimizer = model, loss, named, optimizer
        self.micro_batch, self.precision, self.team = recipe.micro_batch, precision, team

    @abstractmethod
    def backward(self, batch: Mapping[str, np.ndarray], share: float = 1.0) -> float:
        """Loss of rows times their share, whose gradients are added to what is there."""

    @abstractmethod
    def reseed(self, number: int) -> None:
        """Seed the framework's random numbers."""

    def step(self, batch: Mapping[str, np.ndarray], rate: float) -> tuple[float, float]:
        self.model.train()
        if self.team is None and self.micro_batch:
            total = len(next(iter(batch.values())))
            portions = parts_by_length(batch, self.micro_batch)
            value = sum(self.backward(part, len(next(iter(part.values()))) / total) for part in portions)
        elif self.team is None:
            value = self.backward(batch)
        else:
            share = {name: column[self.team.rank :: self.team.size] for name, column in batch.items()}
            value = sum(self.backward(part) for part in parts(share, self.micro_batch))
            value = self.team.add_up(value, self.named.values(), self.optimizer.updates)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        return value, self.optimizer.step(rate)

    def seed(self, *numbers: int) -> None:
        rank = 0 if self.team is None else self.team.rank
        numbers = (*numbers, rank) if rank else numbers  # each member drops out its own units
        self.reseed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def fit(
    trainer: Trainer,
    columns: Mapping[str, np.ndarray] | Feed,
    recipe: Recipe,
    folder: Path | None = None,
    resume: bool = False,
    save_every: int = 50,
    names: Callable[[np.ndarray], list[str]] | None = None,
    progress: bool = False,
    prepare: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]] = dict,
    about: Mapping[str, Any] | None = None,
    watch: Callable[[int], Mapping[str, Any]] | None = None,
    watch_every: int = 0,
    lead: bool = True,
) -> list[dict[str, Any]]:
    """Train; returns the log, one entry per update: step, lr, loss (nats), norm, seconds.

    The random state is (seed, update): dropout is reseeded before each update and the order of batches is a
    function of seed and epoch, so a resumed run needs no generator state and ends bit for bit where the
    uninterrupted one ends.

    Args:
        columns: model inputs and labels, each (N, ...); or a `Feed`, which brings its own batches.
        folder: where log and checkpoints go; None keeps nothing.
        resume: go on from the newest whole checkpoint in `folder`.
        save_every: updates between checkpoints.
        names: row numbers -> names of the examples, for error messages.
        progress: a bar on standard error.
        prepare: last touch to a batch before it goes in (cutting off padding, say).
        about: what else decides the run (JSON values); a resumed run must be told the same.
        watch: called with the number of updates done, now and then and after the last; what it returns
            (scores on dev data, say) is logged under "dev". See `Best`.
        watch_every: updates between such calls; 0 = once per epoch.
        lead: whether this process writes; of a team that trains together, only one does, and all read.

    Raises:
        TrainingError: the loss is not finite; names update and batch.
        CheckpointError: nothing to resume, or the run in `folder` was another one.
    """
    feed: Feed = Table(columns, recipe, names, prepare) if isinstance(columns, Mapping) else columns
    schedule = feed.plan
    run = {"recipe": asdict(recipe), **feed.about(), **(about or {})}
    log: list[dict[str, Any]] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            log = _resume(trainer, folder, run)
            _read_log(folder / LOG, 1)  # what is no log of a run is not written over
            if isinstance(watch, Best):
                watch.check()
        elif lead and latest(folder) is not None:
            raise CheckpointError(f"{folder} holds an unfinished run; add --resume to go on, or name another folder")
        if lead:
            for path in folder.iterdir():
                if STEP.fullmatch(files.target_of(path.name) or ""):  # of a kill; as large as a whole one
                    discard(path)
            write_log(folder / LOG, log)
    bar = _bar(schedule.updates, len(log), progress)
    began = time.perf_counter()
    for update, (batch, named) in enumerate(feed.batches(len(log)), len(log)):
        stopping.check()
        trainer.seed(recipe.seed, update)
        now = rate(schedule, recipe.learning_rate, update)
        try:
            loss, norm = trainer.step(batch, now)
            if not math.isfinite(norm):  # clipped by it, every weight is NaN now: no checkpoint may be written
                raise FloatingPointError(f"the gradient norm is {norm}")
        except FloatingPointError as error:
            raise TrainingError(
                f"update {update + 1} of {schedule.updates}: {error}; the batch was {', '.join(named())}. "
                "Look at these examples, or start in another folder with a lower learning rate"
            ) from None
        done = update + 1
        looks = done == schedule.updates or (watch is not None and done % (watch_every or schedule.per_epoch) == 0)
        if looks or (folder is not None and done % save_every == 0):
            refuse_broken(trainer, done)
        entry: dict[str, Any] = {
            "step": done,
            "lr": now,
            "loss": loss,
            "norm": norm,
            "seconds": round(time.perf_counter() - began, 4),
        }
        if watch is not None and looks:
            # JSON has no nan (an undefined correlation)
            entry["dev"] = {k: None if v != v else v for k, v in watch(done).items()}
        log.append(entry)
        if folder is not None and lead:
            _append(folder / LOG, entry, sync=done % save_every == 0)  # the checkpoint counts on so many lines
            if done % save_every == 0 and done < schedule.updates:
                save(trainer, folder, run, done)
        bar.set_postfix(loss=f"{loss:.4f}", lr=f"{now:.2e}", refresh=False)
        bar.update()
        began = time.perf_counter()  # what an update takes: its batch and its step, no dev data and no checkpoint
    bar.close()
    return log


class Best:
    """Keeps the weights of the best dev score; give it to `fit` as `watch`.

    Resuming needs no word about it: a run that goes on from a checkpoint sees the scores it saw before, and
    only a higher one replaces what is kept.

    Args:
        evaluate: () -> scores of the model as it is.
        key: which score chooses; the first of equal ones is kept.
        folder: where the weights are kept, in best/; None keeps them in memory.
    """

    FOLDER = "best"

    def __init__(self, trainer: Trainer, evaluate: Callable[[], Mapping[str, Any]], key: str, folder: Path | None):
        self.trainer, self.evaluate, self.key = trainer, evaluate, key
        self.folder = None if folder is None else folder / self.FOLDER
        self.kept: dict[str, Any] = {}
        self.weights: Mapping[str, np.ndarray] = {}
        # without a training state the run starts anew, and what was best before is not this one's
        if self.folder is not None and latest(self.folder.parent) and (self.folder / STATE).is_file():
            self.kept, self.weights = self._read(self.folder / STATE)

    def __call__(self, updates: int) -> Mapping[str, Any]:
        scores = self.evaluate()
        if not self.kept or self._value(scores) > self._value(self.kept["scores"]):
            self._keep({"updates": updates, "scores": {k: None if v != v else v for k, v in scores.items()}})
        return scores

    def _read(self, path: Path) -> tuple[dict[str, Any], SafetensorsFile]:
        """What an interrupted run has kept.

        Raises:
            CheckpointError: it is not as it was written.
        """
        kept, way_out = read_json(path), "start in another folder"
        scores = kept.get("scores")
        value = scores.get(self.key, "missing") if isinstance(scores, dict) else "missing"
        if type(kept.get("updates")) is not int or not (value is None or _is_number(value)):
            raise CheckpointError(f"{path} is damaged: it names no update with its score {self.key!r}; {way_out}")
        return kept, _open_state(path.with_name(f"{kept['updates']}.safetensors"), way_out)

    def check(self) -> None:
        """That what was kept can be restored: told before the training, not after it.

        Raises:
            CheckpointError: it has other tensors than the model.
        """
        if isinstance(self.weights, SafetensorsFile):
            _refuse_others(self.weights, _weights(self.trainer).items(), "start in another folder")

    def _value(self, scores: Mapping[str, Any]) -> float:
        value = scores[self.key]
        return -math.inf if value is None or value != value else value  # any score is better than none

    def _keep(self, kept: dict[str, Any]) -> None:
        weights = _weights(self.trainer)
        older, self.kept, self.weights = self.kept, kept, weights
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{kept['updates']}.safetensors"
        shapes = {name: (array.shape, array.dtype.name) for name, array in weights.items()}
        save_safetensors(target, shapes, lambda: iter(weights.items()))
        write_json(self.folder / STATE, kept)  # names the file that counts, so a crash between the two loses nothing
        self.weights = SafetensorsFile(target)
        if older and older["updates"] != kept["updates"]:
            (self.folder / f"{older['updates']}.safetensors").unlink(missing_ok=True)

    def restore(self) -> dict[str, Any]:
        """Put the kept weights into the model; returns {"updates": ..., "scores": ...}."""
        self.trainer.load(self.weights, self.kept["updates"])
        return self.kept


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


def write_log(path: Path, log: list[dict[str, Any]]) -> None:
    """Write a whole JSON-lines log (a resumed run drops the entries after its checkpoint)."""
    files.write_whole(path, lambda file: file.writelines(json.dumps(entry) + "\n" for entry in log), "w")


def _append(path: Path, entry: Mapping[str, Any], sync: bool) -> None:
    """Add a line to a log, on the disk when it returns if asked for.

    Raises:
        OSError: names the file, also where the disk is full.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise


def checkpoint_folder(folder: Path, updates: int) -> Path:
    """Where the training state after `updates` updates lies."""
    return folder / f"step-{updates:06d}"


def latest(folder: Path) -> Path | None:
    """The newest whole training state in a run's folder."""
    found = [path for path in folder.glob("step-*") if STEP.fullmatch(path.name)]
    return max(found, key=lambda path: int(path.name[5:]), default=None)


def save(trainer: Trainer, folder: Path, run: Mapping[str, Any], updates: int) -> None:
    """Write the training state beside the older one, rename it into place, then remove the older one."""
    older, target = latest(folder), checkpoint_folder(folder, updates)
    partial = folder / f".{target.name}.{os.getpid()}.partial"
    discard(partial)
    partial.mkdir()
    try:
        state = trainer.state()
        shapes = {name: (array.shape, array.dtype.name) for name, array in state.items()}
        save_safetensors(partial / "state.safetensors", shapes, lambda: iter(state.items()))
        write_json(partial / STATE, {**run, "updates": updates})
        os.replace(partial, target)
    except BaseException as error:
        discard(partial)
        if isinstance(error, OSError):
            error.filename = str(target)  # the name that the user knows
        raise
    if older is not None and older != target:
        discard(older)


def discard(folder: Path) -> None:
    """Remove a folder of training states; one that the user put something into stays, with that."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if OF_STATES.fullmatch(files.target_of(path.name) or path.name):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def forget(folder: Path) -> None:
    """Remove the training states of a finished run and what a kill left half written; all else is the user's."""
    for path in list(folder.iterdir()):
        name = files.target_of(path.name) or path.name
        if STEP.fullmatch(name) or path.name == Best.FOLDER:
            discard(path)
    files.sweep(folder, (*HUB_FILES, LOG, RECORD))


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where `stored` says otherwise than `now`, each as "seed was 42, now 7"; mappings are looked into."""
    found = []
    for key, value in json.loads(json.dumps(now)).items():
        was = stored.get(key)
        if isinstance(value, dict) and isinstance(was, dict):
            found += differences(was, value)
        elif was != value:
            found.append(f"{key} was {was}, now {value}")
    return found


def digest(columns: Mapping[str, np.ndarray]) -> str:
    """Hash (16 hex digits) of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{name} {columns[name].dtype.str} {columns[name].shape}".encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()[:16]


def _resume(trainer: Trainer, folder: Path, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    newest = latest(folder)
    if newest is None:
        return []  # killed before the first checkpoint: the run starts again, from the same seed
    way_out = f"where {newest.name} is damaged, remove it to train from the beginning"
    updates = int(newest.name.removeprefix("step-"))
    try:
        stored = read_json(newest / STATE)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {way_out}") from None
    state = _open_state(newest / "state.safetensors", way_out)
    if other := differences(stored, {**run, "updates": updates}):
        raise CheckpointError(
            f"{newest / STATE}: {'; '.join(other)}; resume with the same data and options, or start in another folder"
        )
    for name, array in trainer.state().items():
        moments = [f"moment1/{name}", f"moment2/{name}"]
        has_moments = any(one in state.headers for one in moments)  # none before its first gradient, else both
        _refuse_others(state, ((one, array) for one in (name, *(moments if has_moments else ()))), way_out)
    log = _read_log(folder / LOG, updates)
    if len(log) < updates:
        raise CheckpointError(
            f"{folder / LOG} has {len(log)} entries, {newest.name} comes after {updates}; start in another folder"
        )
    trainer.load(state, updates)
    return log


def _weights(trainer: Trainer) -> dict[str, np.ndarray]:
    """What of a trainer's state is the model's."""
    return {n: a for n, a in trainer.state().items() if not n.startswith(("moment1/", "moment2/"))}


def _open_state(path: Path, way_out: str) -> SafetensorsFile:
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        return SafetensorsFile(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{error}; {way_out}") from None


def _refuse_others(state: SafetensorsFile, arrays: Iterable[tuple[str, np.ndarray]], way_out: str) -> None:
    """Every array has its counterpart in the file, of the same shape and dtype.

    Raises:
        CheckpointError: names the first that has not.
    """
    for name, array in arrays:
        wanted, there = (array.shape, array.dtype.name), state.headers.get(name)
        if there != wanted:
            raise CheckpointError(f"{state.path}: {name} should be {wanted}, is {there}; {way_out}")


def _is_number(value: Any) -> bool:
    """A finite number of JSON; one of hundreds of digits is none."""
    return type(value) in (int, float) and abs(value) < 1e300


def _read_log(path: Path, updates: int) -> list[dict[str, Any]]:
    """The entries of the first updates, as far as there are any.

    Raises:
        CheckpointError: a line that is no entry of its update.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    log: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:updates], 1):
        try:
            entry = json.loads(line)
            if entry["step"] != number or not all(_is_number(entry[key]) for key in ("lr", "loss", "norm", "seconds")):
                raise ValueError("not the entry of this update")
            if not all(value is None or _is_number(value) for value in _leaves(entry.get("dev", {}))):
                raise ValueError("its 'dev' are no scores")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(f"{path}, line {number} is damaged ({error}); start in another folder") from None
        log.append(entry)
    return log


def _leaves(scores: dict[str, Any]) -> Iterator[Any]:
    """The values of nested scores.

    Raises:
        TypeError: what is no object.
    """
    if not isinstance(scores, dict):
        raise TypeError(f"'dev' is {str(scores)[:40]!r}")
    for value in scores.values():
        yield from _leaves(value) if isinstance(value, dict) else value if isinstance(value, list) else (value,)
