"""What the command line does with any system: a fine-tuning run with record and resume, and what all tasks check.

Imports no framework. A system's own tasks.py builds its `Run`; `backend` picks its train.py (Paddle) or
reference.py (torch).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import platform
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from splinter import runtime, stopping
from splinter.align import files

from . import checkpoint, recipe
from .checkpoint import CheckpointError
from .text import VocabularyError, WordPieces, listed

RECORD = recipe.RECORD
LOCK = ".lock"
RESUME = " (--resume goes on with a run that was interrupted)"
SIZES = ("max_length", "doc_stride", "max_query_length")


class UsageError(ValueError):
    """Something asked for that cannot be done; the message says what to do instead."""


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
    """A fine-tuning run, ready to start.

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
    """

    trainer: recipe.Trainer
    feed: recipe.Feed
    save: Callable[[Path, Mapping[str, bytes]], None]
    beside: Mapping[str, bytes]
    summary: str
    about: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    best: recipe.Best | None = None
    watch: Callable[[int], Mapping[str, Any]] | None = None
    watch_every: int = 0


def train(
    settings: Settings,
    output: Path,
    hyper: recipe.Recipe,
    prepare: Callable[[], Run],
    asked: Mapping[str, Any],
    *,
    task: str,
    resume: bool = False,
    save_every: int = 50,
    say: Callable[[str], None] = print,
    lead: bool = True,
) -> dict[str, Any]:
    """Train and save, with a record; goes on after an interruption.

    Args:
        output: folder for the model, the log and the checkpoints.
        prepare: builds the run; not called when there is nothing left to do.
        asked: further options that a finished run must agree with (JSON values).
        task: "finetune" or "pretrain", for the record.
        lead: whether this process writes; see `recipe.fit`.

    Returns:
        What training.json holds.

    Raises:
        UsageError: the folder holds a model, or a finished run with other options.
        CheckpointError, TrainingError: see `recipe.fit`.
    """
    with alone(output) if lead else contextlib.nullcontext():
        asked = {"recipe": asdict(hyper), "framework": settings.framework, "model": settings.model, **asked}
        with contextlib.suppress(checkpoint.CheckpointError):  # gone since; a run that needs it says so
            asked["start_sha256"] = checkpoint.fingerprint(checkpoint.resolve(settings.model, settings.download))
        if resume and (output / RECORD).exists():
            return _finished(output, asked, say)
        if not (resume and (output / recipe.LOG).exists()):  # killed while it wrote its model: weights, but no record
            # of a team, the others may see what the first one writes already
            (refuse_occupied if lead else refuse_checkpoint)(output, way_out="" if resume else RESUME)
        run = prepare()
        if lead:
            refuse_others(output, run.beside)
        say(run.summary)
        log = recipe.fit(
            run.trainer,
            run.feed,
            hyper,
            output,
            resume,
            save_every,
            progress=settings.progress,
            # a path may change while the data stay the same; the feed knows them by their hash
            about={**{k: v for k, v in asked.items() if k not in ("recipe", "train_file")}, **run.about},
            watch=run.best or run.watch,
            watch_every=run.watch_every,
            lead=lead,
        )
        chosen: dict[str, Any] = {}
        if run.best is not None:
            kept = run.best.restore()
            chosen = {"best": kept, "last": {"updates": len(log), "scores": log[-1]["dev"]}}
        if lead:
            write_model(output, run.beside, run.save)
        record = {
            "task": task,
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
            recipe.forget(output)
        return record


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other command writes into a folder meanwhile; one that was killed holds nobody up.

    The folder is made, and goes again where nothing was written into it.

    Raises:
        UsageError: another does, or it is a file.
    """
    refuse_file(folder)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (Timeout, FileExistsError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and not folder.exists():  # or the other one removes it just now
            raise UsageError(f"{folder} cannot be made; name another folder") from None
        raise UsageError(f"another run is writing into {folder}; wait for it, or name another folder") from None
    try:
        yield
    finally:
        # while it is held: who has opened it by now looks, once it is his, whether it is still there (filelock does)
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
        for one in made:
            with contextlib.suppress(OSError):  # not empty, as a rule
                one.rmdir()


Asked = ParamSpec("Asked")
Given = TypeVar("Given")


def locks(argument: str) -> Callable[[Callable[Asked, Given]], Callable[Asked, Given]]:
    """A command that is `alone` in the folder that an argument of it names, first thing and to its end; None: none."""

    def decorate(command: Callable[Asked, Given]) -> Callable[Asked, Given]:
        signature = inspect.signature(command)

        @functools.wraps(command)
        def locked(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
            folder = signature.bind(*args, **kwargs).arguments.get(argument)
            with contextlib.nullcontext() if folder is None else alone(folder):
                return command(*args, **kwargs)

        return locked

    return decorate


def _finished(output: Path, asked: Mapping[str, Any], say) -> dict[str, Any]:
    """The record of a run that has nothing left to do."""
    record = checkpoint.read_json(output / RECORD)
    was, now = (one.get("train_file") for one in (record, asked))
    if was and now and Path(was).resolve() == Path(now).resolve():  # spelled otherwise
        asked = {**asked, "train_file": was}
    if other := recipe.differences(record, asked):
        raise UsageError(f"{output} is finished, with other options ({'; '.join(other)}); name another folder")
    say(f"{output} is finished already, trained on {record.get('train_file')}; nothing to resume")
    recipe.forget(output)  # killed just before it did so itself
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


def backend(system: str, framework: str) -> Any:
    """The module that runs a system in a framework.

    Raises:
        UsageError: the framework is not installed.
    """
    try:
        if framework == "paddle":
            runtime.import_paddle()
        else:
            runtime.tune()  # torch, too, asks the system for every array anew
        room = importlib.import_module(f"splinter.ports.{system}.{'train' if framework == 'paddle' else 'reference'}")
        stopping.check()
        return room
    except ImportError as error:
        raise UsageError(
            f"--framework {framework} needs {error.name or error}, which is not installed; "
            "in a clone of the project: pip install -e '.[align]' for torch, -e . for Paddle"
        ) from None


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


def check_device(side: Any, device: str) -> str:
    """A device that is there.

    Raises:
        UsageError: this machine, or the installed framework, has no such GPU.
    """
    kind, _, number = device.partition(":")
    if kind == "gpu" and int(number or 0) >= side.gpus():
        raise UsageError(f"--device {device}: {side.gpus()} GPUs are to be had here; use --device cpu")
    return device


def told_precision(side: Any, device: str, precision: str) -> str:
    """The precision for a summary, with a warning where it costs time instead of saving it.

    One update of splinter-mini in bf16 took 50 s on an AMD EPYC with AVX2 alone, in float32 5 s (torch 2.13).
    """
    on_gpu = side.gpus() > 0 and not device.startswith("cpu")
    if precision == "bf16" and not on_gpu and not runtime.computes_bfloat16():
        return f"{precision} (this processor has no products in bfloat16: float32 is many times faster)"
    return precision


def refuse_file(folder: Path) -> None:
    """A folder, or nothing yet.

    Raises:
        UsageError: it is a file.
    """
    if os.path.lexists(folder) and not folder.is_dir():  # also a link that leads nowhere
        raise UsageError(f"{folder} is a file; name a folder that may be written")


def refuse_checkpoint(folder: Path, way_out: str = "") -> None:
    """Never write over a model.

    Args:
        way_out: what else can be done, for the error.

    Raises:
        UsageError: the folder holds one, or is a file.
    """
    refuse_file(folder)
    for name in (checkpoint.WEIGHTS, checkpoint.OLD_WEIGHTS):
        if (folder / name).exists():
            raise UsageError(f"{folder} holds {name} already; name another folder, or remove it{way_out}")


def refuse_occupied(folder: Path, known: Collection[str] = (), way_out: str = "") -> None:
    """A folder to write into is empty, but for what a killed try left.

    Args:
        known: names that may be there, for `refuse_others` to look at.
        way_out: what else can be done, for the error.

    Raises:
        UsageError: it holds anything else; names the first few.
    """
    refuse_checkpoint(folder, way_out)
    own = {*checkpoint.HUB_FILES, recipe.LOG, RECORD}
    there = sorted(path.name for path in folder.iterdir() if files.target_of(path.name) not in own)
    if strangers := [name for name in there if name not in (LOCK, *known)]:
        raise UsageError(f"{folder} holds {listed(strangers)}; name a new or an empty folder{way_out}")


def refuse_others(folder: Path, beside: Mapping[str, bytes]) -> None:
    """A model can be written that will be read as it is; what has the name of a file of its is what a killed save left.

    Args:
        beside: name -> content of what lies beside the weights, which are written last.

    Raises:
        UsageError: other content, or weights without all of that.
        CheckpointError: no vocabulary: the folder that the model came from was removed.
    """
    if checkpoint.VOCABULARY not in beside:
        raise CheckpointError(f"{checkpoint.VOCABULARY} is gone from the model's folder; {folder} could not read text")

    def same(name: str) -> bool:
        path = folder / name
        return name in beside and path.is_file() and path.read_bytes() == beside[name]

    whole = all(map(same, beside))
    names = sorted({*checkpoint.HUB_FILES, *beside} - ({checkpoint.WEIGHTS} if whole else set()))
    if others := [name for name in names if os.path.lexists(folder / name) and not same(name)]:
        raise UsageError(f"{folder} holds {listed(others)}, not of the model to be written there; move it away")


def write_model(folder: Path, beside: Mapping[str, bytes], write: Callable[[Path, Mapping[str, bytes]], None]) -> None:
    """Write a model where nothing is lost by it.

    Args:
        write: writes weights and what lies beside them.

    Raises:
        UsageError, CheckpointError: see `refuse_others`.
    """
    refuse_others(folder, beside)
    write(folder, beside)
    files.sweep(folder, checkpoint.HUB_FILES)


def refuse_target(target: Path, data_file: Path) -> None:
    """A file for predictions that can be written and is not the data.

    Raises:
        UsageError: it cannot, or it is.
    """
    plain = not target.exists() or target.is_file()  # a device or a pipe is written into, a file beside its target
    place = target.resolve().parent if plain else target
    if target.is_dir() or not os.access(place, os.W_OK):
        why = f"{place} is not yours" if place.exists() else f"there is no folder {place}"
        why = "it is a folder" if target.is_dir() else why
        raise UsageError(f"{target} cannot be written: {why}; name another file")
    own = (*checkpoint.HUB_FILES, RECORD, recipe.LOG)
    if target.name in own and (target.parent / checkpoint.CONFIG).exists():
        raise UsageError(f"{target} belongs to a model; name another file for the predictions")
    if target.exists() and data_file.exists() and target.samefile(data_file):
        raise UsageError(f"{target} is the file of questions; name another one for the predictions")


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
    versions = {"python": platform.python_version()}
    for name in ("splinter", "paddlepaddle", "torch", "transformers", "tokenizers", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "runtime": runtime.applied(), "command": " ".join(sys.argv)}
