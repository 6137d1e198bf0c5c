"""Training states on the disk, `step-NNNNNN` in the folder of a run: written whole, resumed from, then removed."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from splinter.align import files
from splinter.align.files import SafetensorsFile, save_safetensors
from splinter.ports.common.checkpoint import HUB_FILES, CheckpointError, read_json, write_json

from .log import LOG, read_log
from .trainer import Trainer

STATE = "trainer.json"
BEST = "best"
"""Folder of the weights that scored best on dev data so far."""
RECORD = "training.json"
"""Written last: a folder that holds it holds a finished run."""
STEP = re.compile(r"step-\d{6,}")
OF_STATES = re.compile(r"state\.safetensors|trainer\.json|\d+\.safetensors")
"""Files in the folders of training states, `step-NNNNNN` and `best`."""


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
        if STEP.fullmatch(name) or path.name == BEST:
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


def resumed(trainer: Trainer, folder: Path, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    newest = latest(folder)
    if newest is None:
        return []  # killed before the first checkpoint: the run starts again, from the same seed
    way_out = f"where {newest.name} is damaged, remove it to train from the beginning"
    updates = int(newest.name.removeprefix("step-"))
    try:
        stored = read_json(newest / STATE)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {way_out}") from None
    state = open_state(newest / "state.safetensors", way_out)
    if other := differences(stored, {**run, "updates": updates}):
        raise CheckpointError(
            f"{newest / STATE}: {'; '.join(other)}; resume with the same data and options, or start in another folder"
        )
    for name, array in trainer.state().items():
        moments = [f"moment1/{name}", f"moment2/{name}"]
        has_moments = any(one in state.headers for one in moments)  # none before its first gradient, else both
        refuse_misfits(state, ((one, array) for one in (name, *(moments if has_moments else ()))), way_out)
        if (count := f"updates/{name}") in state.headers:  # a state of an earlier version has none
            refuse_misfits(state, [(count, np.array(0))], way_out)
    log = read_log(folder / LOG, updates)
    if len(log) < updates:
        raise CheckpointError(
            f"{folder / LOG} has {len(log)} entries, {newest.name} comes after {updates}; start in another folder"
        )
    trainer.load(state, updates)
    return log


def weights_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """What of a trainer's state is the model's."""
    return {n: a for n, a in trainer.state().items() if not n.startswith(("moment1/", "moment2/", "updates/"))}


def open_state(path: Path, way_out: str) -> SafetensorsFile:
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        return SafetensorsFile(path)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{error}; {way_out}") from None


def refuse_misfits(state: SafetensorsFile, arrays: Iterable[tuple[str, np.ndarray]], way_out: str) -> None:
    """Every array has its counterpart in the file, of the same shape and dtype.

    Raises:
        CheckpointError: names the first that has not.
    """
    for name, array in arrays:
        wanted, there = (array.shape, array.dtype.name), state.headers.get(name)
        if there != wanted:
            raise CheckpointError(f"{state.path}: {name} should be {wanted}, is {there}; {way_out}")
