"""Folders that commands write: one command at a time, nothing of the user's lost, no model half of another one."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from splinter.align import files

from . import UsageError, checkpoint
from .checkpoint import CheckpointError
from .text import listed
from .training.log import LOG
from .training.state import RECORD

LOCK = ".lock"

Asked = ParamSpec("Asked")
Given = TypeVar("Given")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other command writes into a folder meanwhile; one that was killed holds nobody up.

    The folder is made, and goes again where nothing was written into it.

    Raises:
        UsageError: another does, or it is a file.
    """
    from filelock import FileLock, Timeout

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
    own = {*checkpoint.HUB_FILES, LOG, RECORD}
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
        raise CheckpointError(
            f"{checkpoint.VOCABULARY} is missing from the model's folder; without it {folder} could not read text"
        )

    def same(name: str) -> bool:
        path = folder / name
        return name in beside and path.is_file() and path.read_bytes() == beside[name]

    whole = all(map(same, beside))
    names = sorted({*checkpoint.HUB_FILES, *beside} - ({checkpoint.WEIGHTS} if whole else set()))
    if others := [name for name in names if os.path.lexists(folder / name) and not same(name)]:
        raise UsageError(f"{folder} holds what is not part of the new model: {listed(others)}; move it away")


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
    own = (*checkpoint.HUB_FILES, RECORD, LOG)
    if target.name in own and (target.parent / checkpoint.CONFIG).exists():
        raise UsageError(f"{target} belongs to a model; name another file for the predictions")
    if target.exists() and data_file.exists() and target.samefile(data_file):
        raise UsageError(f"{target} is the file of questions; name another one for the predictions")
