"""Kernels of our own for a CPU: built on request by the user's compiler, used where they were built.

`splinter kernels` compiles kernels.cc for the processor at hand, in seconds, into the cache. From then on models that
are opened on a CPU run by them; without them, or with SPLINTER_KERNELS=0, by paddle's own, with the same results but
for rounding, and for the numbers that dropout draws for a seed. SPLINTER_KERNELS=1 refuses to run without them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import paddle

from splinter import datasets, runtime

VARIABLE = "SPLINTER_KERNELS"
SOURCE = Path(__file__).with_name("kernels.cc")
INSTRUCTIONS = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "abm", "adx", "amx", "aes", "gfni", "popcnt", "sha", "vaes")
FLAGS = [
    *("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math"),  # else no loop with a square root or a comparison is vectorized
    *("-fPIC", "-shared", "-w", "-DPADDLE_WITH_CUSTOM_KERNEL"),
]
_UNUSED = ContextVar("paddle's own kernels alone", default=False)


class BuildError(RuntimeError):
    """The kernels could not be built, or do not load."""


def possible() -> bool:
    """Whether they can be built for a machine and a paddle like these."""
    return sys.platform.startswith("linux") and platform.machine() == "x86_64" and os.path.isfile(_mkl())


def compiler() -> list[str]:
    """The C++ compiler, $CXX, else g++, with the options that belong to it; []: there is none."""
    command = shlex.split(os.environ.get("CXX") or "g++")
    return command if command and shutil.which(command[0]) else []


@functools.cache
def _key() -> str:
    instructions = sorted(one for one in runtime.instructions() if one.startswith(INSTRUCTIONS))
    version = paddle.version.full_version, paddle.version.commit, str(paddle.version.cuda())
    told = "\n".join([*FLAGS, *version, *instructions])
    return hashlib.sha256(SOURCE.read_bytes() + told.encode()).hexdigest()[:16]


def path() -> Path:
    """Where the kernels lie for this source, this paddle and the instructions of this processor."""
    return datasets.cache().with_name("kernels") / f"{_key()}.so"


def build() -> Path:
    """Compile the kernels, unless they lie in the cache.

    Raises:
        BuildError: no compiler, or it fails; the message ends in what it said.
    """
    if not possible():
        machine = f"{sys.platform} on {platform.machine()}"
        raise BuildError(f"the kernels are for Linux on x86-64 and want {_mkl()}; this is {machine}")
    target = path()
    if target.exists():
        return target
    command = compiler()
    if not command:
        asked = os.environ.get("CXX") or "g++"
        raise BuildError(f"no C++ compiler: {asked} is not on the path; install g++, or name one in CXX")
    home = Path(paddle.__file__).parent
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        headers = [f"-I{home / 'include'}", f"-I{home / 'include' / 'third_party'}"]
        # paddle's OpenMP in place of the compiler's: the threads of two get in each other's way
        libraries = ["-l:libpaddle.so", "-Wl,--as-needed", "-l:libiomp5.so"]
        folders = [f"-L{home / 'base'}", f"-L{home / 'libs'}"]
        done = subprocess.run(
            [*command, *FLAGS, str(SOURCE), "-o", str(made), *headers, *folders, *libraries],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise BuildError(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        os.replace(made, target)
    return target


@functools.cache
def loaded() -> bool:
    """Whether the kernels are there to be called; loads them once.

    Raises:
        BuildError: they lie in the cache and cannot be loaded, or SPLINTER_KERNELS=1 asks for what was not built.
        SettingError: SPLINTER_KERNELS is no whole number.
    """
    asked = runtime.whole_number(VARIABLE, -1, least=0)
    if asked == 0:
        return False
    try:
        there = possible() and os.path.isfile(file := path())  # Path.is_file raises where the cache may not be read
    except RuntimeError:  # there is no home
        there = False
    if not there:
        if asked > 0:
            raise BuildError(f"{VARIABLE}={asked}, and there are none for this processor: run `splinter kernels`")
        return False
    _register(file)
    runtime.also_applied("kernels", file.stem)
    return True


@functools.cache
def _register(file: Path) -> None:
    """Tell paddle of the operators of a file; it takes them once per process."""
    from paddle.utils.cpp_extension.extension_utils import load_op_meta_info_and_register_op

    try:
        mkl = ctypes.CDLL(str(_mkl()))
        products = mkl.cblas_sgemm, mkl.cblas_dgemm, mkl.MKL_Set_Num_Threads_Local
    except (OSError, AttributeError) as error:
        raise BuildError(f"this paddle lacks MKL's products ({error}); {VARIABLE}=0 does without kernels") from error
    try:
        # the OpenMP that it was linked to, even where torch has brought another one into the process
        ours = ctypes.CDLL(str(file), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
        ours.splinter_products(*products)
        load_op_meta_info_and_register_op(str(file))
    except (OSError, RuntimeError) as error:
        raise BuildError(f"{file} does not load ({error}); remove it and run `splinter kernels` again") from error


def _mkl() -> Path:
    """The library of matrix products that paddle brings for a CPU."""
    return Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"


def wanting() -> bool:
    """Whether there are none and they could be built."""
    return VARIABLE not in os.environ and possible() and not loaded() and bool(compiler())


def forget() -> None:
    """Look into the cache anew, after a build."""
    loaded.cache_clear()
    runtime.also_applied("kernels", None)


@contextlib.contextmanager
def unused() -> Iterator[None]:
    """What is run, or compiled, in here uses paddle's own kernels alone."""
    token = _UNUSED.set(True)
    try:
        yield
    finally:
        _UNUSED.reset(token)


def serve(*tensors: paddle.Tensor) -> bool:
    """Whether the kernels compute on these: on a CPU, in float32 or float64, all alike."""
    dtype = tensors[0].dtype
    return (
        not _UNUSED.get()
        and dtype in (paddle.float32, paddle.float64)
        and all(tensor.dtype == dtype for tensor in tensors[1:])
        and paddle.get_device() == "cpu"
        and loaded()
    )


def run(name: str, *arguments) -> list[paddle.Tensor]:
    """The results of a kernel, which compiled models take as well."""
    return paddle._C_ops._run_custom_op(f"splinter_{name}", *map(_bits, arguments))


def _bits(argument):
    """Floats, and lists of them, travel as the whole numbers of their bits; see `Double` in kernels.cc."""
    if isinstance(argument, list):
        return [_bits(one) for one in argument]
    return struct.unpack("q", struct.pack("d", argument))[0] if isinstance(argument, float) else argument
