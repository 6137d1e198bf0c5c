"""Ctrl-C and SIGTERM end a command with one line and exit code 130 or 143, at whatever moment they come.

Imports next to nothing, so that it can listen before the rest is imported. While modules load, nothing is half done
and the process ends at once: an exception in the middle of an import may turn into another, or get lost. While a
command runs, `Stopped` is raised, so that partial files and worker processes are cleaned up. A second signal ends
the process at once.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal came; `signum` says which."""

    def __init__(self, signum: int):
        super().__init__(WORDS[signal.Signals(signum)])
        self.signum = signum


PATIENCE = 10.0
"""Seconds after which a signal is raised once more, where the command still runs."""
_heard = 0
_command: object = None
"""Stands for the command that runs."""


def heard() -> int:
    """The signal that came while a command ran; 0: none."""
    return _heard


def check() -> None:
    """Raise once more what was lost: an exception that Paddle's C++ meets in the middle of an operation may be."""
    if _heard and _command is not None:
        raise Stopped(_heard)


def _leave(signum: int, *frame: Any) -> None:
    with contextlib.suppress(OSError):  # not by print: the stream may be in use just now
        os.write(2, f"splinter: {WORDS[signal.Signals(signum)]}\n".encode())
    os._exit(128 + signum)


def _raise(signum: int, *frame: Any) -> None:
    global _heard
    if _heard:
        _leave(signum)
    _heard = signum
    if hasattr(signal, "pthread_kill"):  # not on Windows
        _thread.start_new_thread(_again, (signum, _command, _thread.get_ident()))
    raise Stopped(signum)


def _again(signum: int, command: object, thread: int) -> None:
    global _heard
    time.sleep(PATIENCE)
    if _command is command:
        _heard = 0
        signal.pthread_kill(thread, signum)


def _not_lost(unraisable: Any) -> None:
    """What is raised while Python frees an object is only printed; it comes once more, see `check`."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)


def _install(handler: Any) -> dict[int, Any]:
    """Returns the handlers before; a signal that is ignored, as after nohup, stays so."""
    before: dict[int, Any] = {}
    for signum in WORDS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not the main thread
                before[signum] = signal.signal(signum, handler)
    return before


def listen() -> None:
    """From here on a signal ends the process at once."""
    _install(_leave)


def ignore() -> None:
    """From here on all is done, and a signal changes nothing: the exit code says how the command ended."""
    _install(signal.SIG_IGN)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Meanwhile a signal raises `Stopped`; afterwards all is as before."""
    global _heard, _command
    _heard, _command = 0, object()
    before, hook, sys.unraisablehook = _install(_raise), sys.unraisablehook, _not_lost
    try:
        yield
    finally:
        _command, sys.unraisablehook = None, hook
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Meanwhile signals wait: Paddle, when it is imported, answers SIGTERM itself, with pages of C++ frames.

    In threads that are there already they must be blocked, too: in those that start within such a block they are.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)
    try:
        yield
    finally:
        for signum in WORDS:  # Paddle takes SIGTERM for itself, and gives back the system's handler instead of ours
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(signum, signal.getsignal(signum))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
