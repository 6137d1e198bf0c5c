"""log.jsonl: one line for each update of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from splinter.align import files
from splinter.ports.common.checkpoint import CheckpointError

LOG = "log.jsonl"


def write_log(path: Path, log: list[dict[str, Any]]) -> None:
    """Write a whole JSON-lines log (a resumed run drops the entries after its checkpoint)."""
    files.write_whole(path, lambda file: file.writelines(json.dumps(entry) + "\n" for entry in log), "w")


def append(path: Path, entry: Mapping[str, Any], sync: bool) -> None:
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


def read_log(path: Path, updates: int) -> list[dict[str, Any]]:
    """The entries of the first updates, as far as there are any.

    Raises:
        CheckpointError: a line that is no entry of its update.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    log: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:updates], 1):
        try:
            entry = json.loads(line)
            if entry["step"] != number or not all(is_number(entry[key]) for key in ("lr", "loss", "norm", "seconds")):
                raise ValueError("not the entry of this update")
            if not all(value is None or is_number(value) for value in _leaves(entry.get("dev", {}))):
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


def is_number(value: Any) -> bool:
    """A finite number of JSON; one of hundreds of digits is none."""
    return type(value) in (int, float) and abs(value) < 1e300
