"""Settings that make Paddle, and torch, fast on a CPU, in one place: call `tune` before the first import of paddle.

All are safe for results (the alignment suite runs with them) and off with SPLINTER_TUNE=0:

- MKL_DEBUG_CPU_TYPE: the MKL inside Paddle's wheel takes a slow path on AMD processors; 7 selects the AVX-512
  path, 5 the AVX2 one. Only where the processor has these instructions; read before MKL's first product.
- OMP_NUM_THREADS: Paddle starts with one thread; here the physical cores.
- FLAGS_new_executor_serial_run: the static graph's worker threads spend as long waiting in the kernel as working;
  a BERT is a chain, there is nothing to run beside it.
- malloc: freed activations stay with the process instead of going back to the system and being zeroed
  again; glibc's `mallopt`, since its environment variables count at process start only. The one that torch needs.

The command line also trains and answers under `subnormals_are_zero`, which the suite does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from . import stopping

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # malloc.h
_FENV_WORDS, _MXCSR = 8, 7  # fenv_t of glibc on x86-64: 32 bytes, the register of SSE and AVX last
_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 1 << 15, 1 << 6  # what comes out, what goes in


class SettingError(ValueError):
    """An environment variable that is set to what it cannot be."""


def whole_number(variable: str, default: int, least: int) -> int:
    """The number that an environment variable holds; the default where it is not set.

    Raises:
        SettingError: it holds something else, or less than `least`.
    """
    text = os.environ.get(variable)
    if text is None:
        return default
    # nothing needs more digits; int() would take "1_0" and digits of other scripts, too
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
        raise SettingError(
            f"{variable}={text!r} in the environment is not a whole number from {least} on; correct it, or unset it"
        )
    return int(text)


def tune() -> dict[str, str]:
    """Apply the settings once; what the user has set in the environment stays.

    Returns:
        What was applied, for the log and the report.
    """
    return _tune() if os.environ.get("SPLINTER_TUNE", "1") != "0" else {}


def applied() -> dict[str, str]:
    """What `tune` did in this process; empty when it was never called or is switched off.

    Besides, what others told by `also_applied`, and whether subnormal numbers count as zero just now.
    """
    done = {**(_tune() if _tune.cache_info().currsize else {}), **_ALSO}
    return {**done, "subnormals": "zero"} if sys.float_info.min / 2 == 0.0 else done


_ALSO: dict[str, str] = {}


def also_applied(setting: str, value: str | None) -> None:
    """Tell of a setting that somebody else has made in this process; None: has taken back."""
    if value is None:
        _ALSO.pop(setting, None)
    else:
        _ALSO[setting] = value


@cache
def _tune() -> dict[str, str]:
    done = {}
    flags, vendor = _processor()
    if vendor == "AuthenticAMD" and "avx2" in flags:
        done["MKL_DEBUG_CPU_TYPE"] = os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "7" if "avx512f" in flags else "5")
    done["OMP_NUM_THREADS"] = os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    done["FLAGS_new_executor_serial_run"] = os.environ.setdefault("FLAGS_new_executor_serial_run", "1")
    os.environ.setdefault("GLOG_minloglevel", "2")  # the executor's notes are not for users
    if _keep_freed_memory():
        done["malloc"] = "freed memory is kept (mallopt)"
    if "paddle" in sys.modules:
        done["late"] = "paddle was imported before; its threads are as they were"
    return done


@contextlib.contextmanager
def subnormals_are_zero() -> Iterator[bool]:
    """Numbers below the normal range (1.2e-38 in float32) count as zero, in this thread and in those it starts.

    A sharp softmax leaves probabilities and gradients of 1e-40, and Intel's processors leave the fast path for each
    product with one. Not part of `tune`: what the proof compares, and what a caller computes beside us, keeps them.

    Yields:
        Whether it is so: on x86-64 with glibc, unless SPLINTER_TUNE=0.
    """
    before = None if os.environ.get("SPLINTER_TUNE", "1") == "0" else _float_environment()
    if before is None:
        yield False
        return
    libm, saved = before
    changed = type(saved)(*saved)
    changed[_MXCSR] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
    libm.fesetenv(changed)
    try:
        yield True
    finally:
        libm.fesetenv(saved)


def _float_environment() -> tuple[ctypes.CDLL, ctypes.Array] | None:
    """glibc's functions and what they hold of this thread; None where its layout is not the one known here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        libm = ctypes.CDLL("libm.so.6")
    except OSError:
        return None  # another C library
    saved = (ctypes.c_uint32 * _FENV_WORDS)()
    return (libm, saved) if libm.fegetenv(saved) == 0 else None


def import_paddle() -> None:
    """Tune, then import paddle without its two notices on standard error.

    paddle 3.3.1 prints that more than one OpenMP thread is unwise (its wheel carries MKL, for which it is not)
    and warns that ccache is missing (it is wanted only for compiling custom operators).
    """
    tune()
    whole_number("PADDLE_TRAINER_ID", 0, least=0)  # paddle reads it, and without a number breaks off with a traceback
    with stopping.deferred():
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.filterwarnings("ignore", message=".*ccache.*")
            import paddle
        paddle.disable_signal_handler()  # it answers SIGTERM with pages of C++ frames


def _processor() -> tuple[frozenset[str], str]:
    """Instruction flags and vendor of the processor; empty where /proc/cpuinfo is not to be had."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset(), ""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    return frozenset(fields.get("flags", "").split()), fields.get("vendor_id", "")


def instructions() -> frozenset[str]:
    """The processor's instruction flags, as Linux names them; empty where they are not known."""
    return _processor()[0]


def computes_bfloat16() -> bool:
    """Whether the processor has products in bfloat16; True where its instructions are not known."""
    flags, _ = _processor()
    return not flags or not flags.isdisjoint(("avx512_bf16", "amx_bf16"))


def cores() -> int:
    """Physical cores that this process may use."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(path.read_text(encoding="ascii").strip())
        except OSError:
            siblings.add(str(cpu))
    return max(1, len(siblings))


def _keep_freed_memory() -> bool:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False  # another C library: nothing to set
    # one arena: those of threads give back what lies at their end, whatever the threshold
    wanted = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 256 * 2**20, _M_ARENA_MAX: 1}
    return all(mallopt(parameter, value) for parameter, value in wanted.items())
