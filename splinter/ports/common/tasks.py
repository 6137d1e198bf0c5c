"""What the command line does with any system: a run that trains, with record and resume, and what all tasks check.

Imports no framework. A system's own tasks.py describes its runs; `backend.opened` picks its train.py (Paddle) or
twin.py (torch).
"""

from __future__ import annotations

import contextlib
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from splinter import __version__, runtime

from . import UsageError, checkpoint
from .folders import alone, refuse_checkpoint, refuse_occupied, refuse_others, write_model
from .text import VocabularyError, WordPieces
from .training.best import Best
from .training.feed import Feed
from .training.fit import Keep, Watch, fit
from .training.log import LOG
from .training.schedule import Recipe
from .training.state import RECORD, differences, forget
from .training.trainer import Trainer

RESUME = " (--resume goes on with a run that was interrupted)"
SIZES = ("max_length", "doc_stride", "max_query_length")


@dataclass(frozen=True)
class Settings:
    """What every task shares."""

    model: str
    framework: str = "paddle"
    device: str = "auto"
    download: bool = False
    batch_size: int = 16
    progress: bool = False


@dataclass
class Run:
    """A run that trains, ready to start.

    Args:
        trainer: the model in training.
        feed: its batches.
        save: writes the model, with what lies beside its weights, to a folder.
        beside: that: name -> content, read before the first update.
        summary: one line on what is about to happen.
        about: what else decides the run; a resumed run must be told the same.
        details: what the record says beside the shared things.
        best: where dev data chooses the model that is saved.
        watch: where dev data is only looked at.
        watch_every: updates between looks at the dev data; 0 = once per epoch.
        notes: what was noticed in the data, a line each; said before the summary.
    """

    trainer: Trainer
    feed: Feed
    save: Callable[[Path, Mapping[str, bytes]], None]
    beside: Mapping[str, bytes]
    summary: str
    about: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    best: Best | None = None
    watch: Callable[[int], Mapping[str, Any]] | None = None
    watch_every: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Training(ABC):
    """A run that trains, as it was asked for: from the parsed options to the trainer, this one description.

    A system adds the fields of its own options, and says in `prepare` what they come to.

    Args:
        settings: the model to start from, and how to compute.
        train: what to train on.
        output: folder for the model, the log and the training states.
        recipe: hyperparameters and seed.
        resume: go on after an interruption.
        save_every: updates between training states.
    """

    settings: Settings
    train: Path
    output: Path
    recipe: Recipe
    resume: bool = False
    save_every: int = 50

    task: ClassVar[str] = "finetune"
    """For the record: "finetune" or "pretrain"."""

    @property
    def lead(self) -> bool:
        """Whether this process writes; see `fit.Keep`."""
        return True

    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """Further options that a finished run must agree with (JSON values)."""

    @abstractmethod
    def prepare(self) -> Run:
        """Read the data and open the model; not called where there is nothing left to do."""


def train(asked_for: Training, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Train and save, with a record; goes on after an interruption.

    Returns:
        What training.json holds: data, updates, final loss, best and last dev scores, seconds, versions.

    Raises:
        UsageError: the folder holds a model, or a finished run with other options.
        CheckpointError, TrainingError: see `fit.fit`.
        DataError, WeightError: of the data and the model.
    """
    settings, output, lead = asked_for.settings, asked_for.output, asked_for.lead
    with alone(output) if lead else contextlib.nullcontext():
        recipe = asdict(asked_for.recipe)
        asked = {"recipe": recipe, "framework": settings.framework, "model": settings.model}
        asked |= {"train_file": str(asked_for.train), **asked_for.asked()}
        with contextlib.suppress(checkpoint.CheckpointError):  # gone since; a run that needs it says so
            asked["start_sha256"] = checkpoint.fingerprint(checkpoint.resolve(settings.model, settings.download))
        if asked_for.resume and (output / RECORD).exists():
            return _finished(output, asked, say)
        if not (asked_for.resume and (output / LOG).exists()):  # killed while it wrote its model: weights, no record
            # of a team, the others may see what the first one writes already
            (refuse_occupied if lead else refuse_checkpoint)(output, way_out="" if asked_for.resume else RESUME)
        run = asked_for.prepare()
        if lead:
            refuse_others(output, run.beside)
        for line in (*run.notes, run.summary, run.trainer.advice()):
            if line:
                say(line)
        # a path may change while the data stay the same; the feed knows them by their hash
        about = {**{k: v for k, v in asked.items() if k not in ("recipe", "train_file")}, **run.about}
        about["kernels"] = run.trainer.kernels()  # other bits without them
        log = fit(
            run.trainer,
            run.feed,
            asked_for.recipe,
            Keep(output, asked_for.save_every, asked_for.resume, lead, about),
            Watch(run.best or run.watch, run.watch_every),
            settings.progress,
        )
        chosen: dict[str, Any] = {}
        if run.best is not None:
            kept = run.best.restore()
            chosen = {"best": kept, "last": {"updates": len(log), "scores": log[-1]["dev"]}}
        if lead:
            write_model(output, run.beside, run.save)
        record = {
            "task": asked_for.task,
            **run.details,
            **asked,
            **chosen,
            "updates": len(log),
            "final_loss": log[-1]["loss"],
            # of all its updates, however often it was interrupted
            "seconds": round(sum(one["seconds"] for one in log), 1),
            "environment": environment(),
        }
        if lead:
            checkpoint.write_json(output / RECORD, record)
            forget(output)
        return record


def _finished(output: Path, asked: Mapping[str, Any], say) -> dict[str, Any]:
    """The record of a run that has nothing left to do."""
    record = checkpoint.read_json(output / RECORD)
    was, now = (one.get("train_file") for one in (record, asked))
    if was and now and Path(was).resolve() == Path(now).resolve():  # spelled otherwise
        asked = {**asked, "train_file": was}
    if other := differences(record, asked):
        raise UsageError(f"{output} is finished, with other options ({'; '.join(other)}); name another folder")
    say(f"{output} is finished already, trained on {record.get('train_file')}; nothing to resume")
    forget(output)  # killed just before it did so itself
    return record


def trained_sizes(folder: Path) -> dict[str, int]:
    """The sizes of the rows that a model was fine-tuned on, in pieces, by the record of its run; {} without one.

    Raises:
        CheckpointError: the record cannot be read, or a size is no whole number from 1.
    """
    path = folder / RECORD
    record = checkpoint.read_json(path) if path.is_file() else {}
    if record.get("task") != "finetune":  # pretrained, or a file of another program
        return {}
    sizes = record.get("sizes", record)
    found = {name: sizes[name] for name in SIZES if name in sizes} if isinstance(sizes, dict) else {"sizes": sizes}
    for name, size in found.items():
        if type(size) is not int or size < 1:
            raise checkpoint.CheckpointError(
                f"{path}: {name} is {str(size)[:60]!r}, expected a whole number from 1; correct it, or remove the file"
            )
    return found


PADDED_ROWS = 128
"""Fewer rows than this beyond the vocabulary are taken for padding of the matrix; more are another vocabulary."""


def check_vocabulary(pieces: WordPieces, rows: int, tokens: Mapping[str, int]) -> None:
    """A vocabulary that fits the model.

    Args:
        rows: of the model's word embedding.
        tokens: role of a special token -> its id in the configuration.

    Raises:
        VocabularyError: another size, or a special token elsewhere.
    """
    way_out = "take the vocab.txt that came with the checkpoint"
    if not rows - PADDED_ROWS < pieces.size <= rows:
        raise VocabularyError(f"{pieces.path} has {pieces.size} pieces, the model's embedding {rows} rows; {way_out}")
    for name, wanted in tokens.items():
        if (there := getattr(pieces, name)) != wanted:
            raise VocabularyError(
                f"{pieces.path} has the {name} token on line {there} (from 0), {name}_token_id in {checkpoint.CONFIG} "
                f"is {wanted}; {way_out}"
            )


def by_length(lengths: np.ndarray, batch_size: int) -> Iterable[np.ndarray]:
    """Row numbers of batches of like length, for evaluation where padding changes nothing."""
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]


def bar(items: Iterable, progress: bool, unit: str, total: int | None = None):
    """A progress bar on standard error."""
    from tqdm import tqdm

    return tqdm(items, disable=not progress, unit=f" {unit}", total=total)


def counted(model) -> str:
    """Tensors and numbers of a Paddle model, for one line on a conversion."""
    sizes = [int(np.prod(parameter.shape)) for parameter in model.parameters()]
    return f"{len(sizes)} tensors, {sum(sizes):,} numbers"


def environment() -> dict[str, Any]:
    """Versions and settings that belong to a result."""
    versions = {"python": platform.python_version(), "splinter": __version__}
    for name in ("paddlepaddle", "torch", "transformers", "tokenizers", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "runtime": runtime.applied(), "command": " ".join(sys.argv)}
