"""runtime.py: the user's environment wins, the switch is off when it says so, and odd machines do no harm."""

import ctypes
import functools
import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from splinter import datasets, runtime
from splinter.cli import main as cli
from splinter.ports.common import backend

SETTINGS = ("MKL_DEBUG_CPU_TYPE", "OMP_NUM_THREADS", "SPLINTER_TUNE")


@pytest.fixture
def machine(monkeypatch):
    """A process that was never tuned, on an AMD processor with four cores; the environment is a copy."""

    def make(flags=("avx2", "avx512f"), vendor="AuthenticAMD", **environment):
        plain = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        monkeypatch.setattr(os, "environ", {**plain, **environment})
        monkeypatch.setattr(runtime, "_tune", functools.cache(runtime._tune.__wrapped__))
        monkeypatch.setattr(runtime, "_processor", lambda: (frozenset(flags), vendor))
        monkeypatch.setattr(runtime, "cores", lambda: 4)
        monkeypatch.setattr(runtime, "_keep_freed_memory", lambda: True)
        monkeypatch.delitem(sys.modules, "paddle", raising=False)

    return make


def test_tune_sets_what_the_user_left_open(machine):
    """
    Threads, MKL's path and malloc are set in the process and reported.
    """
    machine()
    settings = {"MKL_DEBUG_CPU_TYPE": "7", "OMP_NUM_THREADS": "4", "FLAGS_new_executor_serial_run": "1"}
    assert runtime.tune() == {**settings, "malloc": "freed memory is kept (mallopt)"}
    assert {name: os.environ[name] for name in settings} == settings


def test_the_environment_of_the_user_stays(machine):
    """
    What is set already is left alone, and the report says what counts.
    """
    machine(OMP_NUM_THREADS="1", MKL_DEBUG_CPU_TYPE="5")
    done = runtime.tune()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_DEBUG_CPU_TYPE"]) == ("1", "5")
    assert (done["OMP_NUM_THREADS"], done["MKL_DEBUG_CPU_TYPE"]) == ("1", "5")


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_both_frameworks_are_tuned(monkeypatch, framework):
    """
    Whoever computes, the settings are made before.
    """
    calls = []
    monkeypatch.setattr(runtime, "tune", lambda: calls.append(framework))
    backend.opened("splinter", framework)
    assert calls == [framework]


def test_tune_is_off_with_splinter_tune_0(machine, monkeypatch):
    """
    Nothing is set, nothing is reported, malloc is not touched.
    """
    machine(SPLINTER_TUNE="0")
    monkeypatch.setattr(runtime, "_keep_freed_memory", lambda: pytest.fail("malloc was touched"))
    before = dict(os.environ)
    assert runtime.tune() == {}
    assert runtime.applied() == {}
    assert os.environ == before


def test_applied_tells_only_what_was_done(machine):
    """
    Asking does not tune: empty before, and what `tune` returned after.
    """
    machine()
    assert runtime.applied() == {}
    assert "OMP_NUM_THREADS" not in os.environ
    assert runtime.tune() == runtime.applied() != {}


@pytest.mark.parametrize(
    ("flags", "vendor", "chosen"),
    [
        (("avx2", "avx512f"), "AuthenticAMD", "7"),
        (("avx2",), "AuthenticAMD", "5"),
        ((), "AuthenticAMD", None),
        (("avx2", "avx512f"), "GenuineIntel", None),
        ((), "", None),
    ],
)
def test_mkl_gets_a_path_that_the_processor_has(machine, flags, vendor, chosen):
    """
    AVX-512 or AVX2 on AMD, nothing elsewhere: a path without its instructions would crash.
    """
    machine(flags, vendor)
    assert runtime.tune().get("MKL_DEBUG_CPU_TYPE") == chosen
    assert os.environ.get("MKL_DEBUG_CPU_TYPE") == chosen


def test_tuning_too_late_is_said(machine, monkeypatch):
    """
    Paddle reads its threads on import; a report of settings that came later would be a lie.
    """
    machine()
    monkeypatch.setitem(sys.modules, "paddle", object())
    assert "paddle was imported before" in runtime.tune()["late"]


def test_the_proof_loads_no_framework_before_it_is_tuned():
    """
    Reading conftest.py and test_steps.py loads none: what is imported before keeps the threads that it has.
    """
    text = """
import json, sys
import pytest
from splinter import datasets, runtime
code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests/alignment/test_steps.py"])
print(json.dumps([code, runtime.applied(), sorted({"paddle", "torch"} & set(sys.modules))]))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment.pop("SPLINTER_TUNE", None)
    project = {"cwd": datasets.PROJECT, "env": environment, "encoding": "utf-8"}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, **project)
    code, applied, loaded = json.loads(done.stdout.splitlines()[-1])
    assert (code, loaded) == (0, []), done.stdout
    assert "OMP_NUM_THREADS" in applied and "late" not in applied


def test_the_processor_is_read_from_cpuinfo(monkeypatch):
    """
    The first processor counts; without the file there are no flags.
    """
    text = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n\nvendor_id\t: Other\nflags\t\t: none\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **how: text)
    assert runtime._processor() == ({"fpu", "avx2"}, "AuthenticAMD")
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert runtime._processor() == (frozenset(), "")


def unreadable(*arguments, **how):
    """A file or library that this machine has not."""
    raise OSError("not to be had")


def test_cores_are_physical_and_allowed(monkeypatch):
    """
    Four logical processors on two cores are two; without the topology each counts as one.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    siblings = {"cpu0": "0,2\n", "cpu1": "1,3\n", "cpu2": "0,2\n", "cpu3": "1,3\n"}
    monkeypatch.setattr(Path, "read_text", lambda self, **how: siblings[self.parts[-3]])
    assert runtime.cores() == 2
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert runtime.cores() == 4


@pytest.mark.parametrize(
    ("flags", "has"), [(("avx2", "amx_bf16"), True), (("avx512_bf16",), True), (("avx2", "avx512f"), False), ((), True)]
)
def test_who_computes_bfloat16(machine, flags, has):
    """
    Whose flags say so; where there are none to read, nobody is warned.
    """
    machine(flags)
    assert runtime.computes_bfloat16() is has


def test_another_c_library_is_left_alone(monkeypatch):
    """
    Where there is no mallopt, nothing is set and nothing fails.
    """
    monkeypatch.setattr(ctypes, "CDLL", unreadable)
    assert runtime._keep_freed_memory() is False


SUBNORMAL = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"),
    reason="the register that decides is that of x86-64, and it is reached by way of glibc",
)


def smallest_half() -> float:
    """Half the smallest normal float64: 0.0 where subnormal numbers count as zero."""
    return sys.float_info.min / 2


@SUBNORMAL
def test_subnormals_are_zero_here_and_in_threads_that_start_here():
    """
    As long as it lasts; then all is as before, whatever happened.
    """
    seen = []
    with pytest.raises(ZeroDivisionError), runtime.subnormals_are_zero() as done:  # noqa: PT012 - the end is the point
        thread = threading.Thread(target=lambda: seen.append(smallest_half()))
        thread.start()
        thread.join()
        seen.append(smallest_half())
        assert done and runtime.applied()["subnormals"] == "zero"
        seen.append(1 / smallest_half())
    assert seen == [0.0, 0.0]
    assert smallest_half() > 0 and "subnormals" not in runtime.applied()


@SUBNORMAL
@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_subnormals_are_zero_in_the_products_of_a_framework(framework):
    """
    In a new process with two threads, as the command line runs: 1e-20 * 1e-20, a million times.
    """
    ones = {"paddle": "paddle.full([1000, 1000], 1e-20)", "torch": "torch.full([1000, 1000], 1e-20)"}[framework]
    text = f"""
from splinter import datasets, runtime
from splinter.ports.common import backend
with runtime.subnormals_are_zero():
    backend.opened("splinter", "{framework}")
    import {framework}
    small = {ones}
    print((small * small).max().item(), (small @ small).max().item())
print((small * small)[0, 0].item() > 0)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "SPLINTER_TUNE": "1"}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, encoding="utf-8", env=environment)
    assert done.stdout.splitlines() == ["0.0 0.0", "True"], done.stderr


def test_subnormals_are_left_alone_where_asked_or_unknown(monkeypatch):
    """
    With SPLINTER_TUNE=0, on another processor and with another C library nothing is set and nothing fails.
    """

    def untouched():
        with runtime.subnormals_are_zero() as done:
            return not done and smallest_half() > 0

    with monkeypatch.context() as patch:
        patch.setenv("SPLINTER_TUNE", "0")
        assert untouched()
    monkeypatch.delenv("SPLINTER_TUNE", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        assert untouched()
    monkeypatch.setattr(ctypes, "CDLL", unreadable)
    assert untouched()


@SUBNORMAL
@pytest.mark.parametrize(
    ("command", "zero"),
    [
        (["predict", "--model", "none", "--question", "q", "--context", "c"], True),
        (["judge", "a.npy", "b.npy"], False),
    ],
)
def test_the_command_line_computes_without_subnormals(monkeypatch, command, zero):
    """
    Commands that run a model; not the one that judges saved arrays, to the last bit.
    """
    monkeypatch.delenv("SPLINTER_TUNE", raising=False)
    seen = []
    monkeypatch.setitem(cli.COMMANDS, command[0], lambda chosen: seen.append(smallest_half() == 0.0))
    assert cli.main(command) == 0
    assert seen == [zero]
    assert smallest_half() > 0


@pytest.mark.parametrize("value", ["", "abc", "-1", "0", "1.0", "1_0", "\u0661", "9" * 30])
def test_a_variable_that_is_no_number_is_named(monkeypatch, value):
    """
    With its value and the way out; not set, it is the default.
    """
    monkeypatch.setenv("SOME_VARIABLE", value)
    with pytest.raises(runtime.SettingError, match=rf"^SOME_VARIABLE='{value}' in the environment is not .*unset it$"):
        runtime.whole_number("SOME_VARIABLE", 7, least=1)
    monkeypatch.setenv("SOME_VARIABLE", "12")
    assert runtime.whole_number("SOME_VARIABLE", 7, least=1) == 12
    monkeypatch.delenv("SOME_VARIABLE")
    assert runtime.whole_number("SOME_VARIABLE", 7, least=1) == 7
