"""Processes that are forked to run something that may crash, hang, or eat memory, and say how it goes.

This process must have no threads and must have computed nothing: what a framework starts does not survive a fork.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = 2
MEMORY = 8 * 2**30
"""Bytes that a fork may take beyond what it starts with: a change may ask for any size."""

Say = Callable[[dict[str, Any]], None]
"""Tells the process that forked this one something, as JSON: `start`, what begins now, with its `limit` in seconds, and
`end`, each with whatever else."""


@dataclass
class Fork:
    """A process that says what it does, a line of JSON each.

    Args:
        pipe: what it says.
        folder: its temporary files.
        deadline: when it is to be stopped, by `time.monotonic`.
        current: what it is at.
        late: it was stopped.
        done: it has come to its end by itself.
    """

    pid: int
    pipe: int
    folder: str
    deadline: float
    current: Any = None
    said: list[dict[str, Any]] = field(default_factory=list)
    rest: bytes = b""
    late: bool = False
    done: bool = False

    def hear(self) -> bool:
        """Read what was said; False: nothing more will be."""
        received = os.read(self.pipe, 1 << 20)
        *lines, self.rest = (self.rest + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "done" in message:
                self.done = True
                return False  # not its end: what it has started may have the pipe open still
            self.said.append(message)
            self.current = message.get("start")
            self.deadline = time.monotonic() + message.get("limit", math.inf)
        return bool(received)

    def end(self) -> str:
        """Take leave of it; says how it ended where it was not by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it has started, too
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pipe)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.late:
            return "timeout"
        return "" if self.done else f"ended with {status}"


def fork(body: Callable[[Say], None], limit: float = math.inf) -> Fork:
    """A process that runs `body`; nothing that it prints is kept, and no temporary file.

    Args:
        limit: seconds until it must have said something.
    """
    folder = tempfile.mkdtemp(prefix="splinter-mutant-")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Fork(pid, reading, folder, time.monotonic() + limit)
    status = 1
    try:  # from here on this is the other process, which must never return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        os.close(reading)
        tempfile.tempdir = folder
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))

        def say(message: dict[str, Any]) -> None:
            text = json.dumps(message).encode() + b"\n"
            while text:
                text = text[os.write(writing, text) :]

        body(say)
        say({"done": True})
        status = 0
    finally:
        os._exit(status)


def tended(waiting: Iterator[tuple[Any, Callable[[], Fork]]]) -> Iterator[tuple[Any, Fork, str]]:
    """Two forks at a time, until none is waiting: each with its label, and how it ended where not by itself."""
    running: dict[int, tuple[Any, Fork]] = {}
    try:
        while True:
            while len(running) < WORKERS and (ahead := next(waiting, None)) is not None:
                label, start = ahead
                made = start()
                running[made.pipe] = label, made
            if not running:
                return
            now = time.monotonic()
            soonest = min(one.deadline for _, one in running.values())
            ready, _, _ = select.select(list(running), [], [], max(0.0, min(soonest - now, 5.0)))
            for pipe, (label, one) in list(running.items()):
                if pipe in ready:
                    over = not one.hear()
                else:
                    over = one.late = time.monotonic() > one.deadline
                if over:
                    del running[pipe]
                    yield label, one, one.end()
    finally:
        for _, one in running.values():
            one.end()
