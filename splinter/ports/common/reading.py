"""How files are read: whole or line by line, never more at once than a limit; and what a mistyped name may mean.

A device such as /dev/zero has no end, and a .gz of a few megabytes may unpack to gigabytes.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from splinter.runtime import whole_number

VARIABLE = "SPLINTER_MAX_BYTES"
DEFAULT = 2**28
"""Bytes that are read at once: a line, or a file that is read whole."""
MANY = 10_000
"""Names of a folder that are compared with a mistyped one."""


class TooLarge(ValueError):
    """More to be read at once than the limit; the message says how to change it."""


def most() -> int:
    """The limit: what the environment says, in bytes."""
    return whole_number(VARIABLE, DEFAULT, least=1)


class Bounded:
    """An open file that gives a line, or all that is left, as long as neither is larger than the limit.

    Args:
        file: of bytes, or of text, where characters are counted.
        name: for the error.

    Raises:
        TooLarge: on the way.
    """

    def __init__(self, file: Any, name: Any):
        self.file, self.name, self.most = file, name, most()

    def __iter__(self) -> Iterator[Any]:
        while line := self.readline():
            yield line

    def readline(self) -> Any:
        """The next line with its end; empty after the last."""
        return self._within(self.file.readline(self.most + 1), "a line")

    def read(self) -> Any:
        """All that is left."""
        return self._within(self.file.read(self.most + 1), "the file")

    def _within(self, content: Any, what: str) -> Any:
        if len(content) > self.most:
            raise TooLarge(
                f"{self.name}: {what} is larger than {self.most:,} bytes, the most that is read at once; "
                f"{VARIABLE}=NUMBER in the environment allows more"
            )
        return content


def whole(path: Path) -> bytes:
    """The content of a file of a checkpoint or a run.

    Raises:
        TooLarge: more than the limit.
        OSError: it is not there, or no regular file: a pipe without a writer would be waited for without end.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is a folder, a pipe or a device, expected a file")
    with open(path, "rb") as file:
        return Bounded(file, path).read()


def meant(name: str, known: Iterable[str], folder: Path | None = None) -> str:
    """ " (did you mean ...?)" with the most similar of the known names, in their folder; "" where none is like it."""
    close = difflib.get_close_matches(name, list(known), cutoff=0.75)  # none.csv and quote.csv: 0.71
    close.sort(key=lambda one: sorted(one) != sorted(name))  # --modle is --model with two letters exchanged
    return f" (did you mean {folder / close[0] if folder else close[0]}?)" if close else ""


def meant_path(path: str | os.PathLike[str]) -> str:
    """The same for a path that is not there, with what lies in its folder."""
    path = Path(path)
    try:
        with os.scandir(path.parent) as entries:
            return meant(path.name, [entry.name for entry in itertools.islice(entries, MANY)], path.parent)
    except OSError:
        return ""
