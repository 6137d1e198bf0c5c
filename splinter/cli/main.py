"""The commands: convert, finetune, evaluate, predict, mine, pretrain, kernels, align, explain, judge, prove.

Thin on purpose: call one function, print. Wrong input ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splinter import runtime, stopping
from splinter.align.terminal import CONTROL, printable

from .parser import COMPUTING, line, parsed, refuse_without

# -- commands ---------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that a reader can read in any script; what a terminal would act upon stays escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return CONTROL.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _rooms(chosen: argparse.Namespace) -> Any:
    return importlib.import_module(f"splinter.ports.{chosen.system}.commands")


def run_convert(chosen: argparse.Namespace) -> None:
    print(printable(_rooms(chosen).convert(chosen)))


def run_finetune(chosen: argparse.Namespace) -> None:
    _say_trained(chosen, _rooms(chosen).finetune(chosen, _say))


def _say_trained(chosen: argparse.Namespace, record: dict[str, Any]) -> None:
    output = printable(str(chosen.output))
    print(f"{output}: {record['updates']} updates, loss {record['final_loss']:.4f}, {record['seconds']} s")
    for name in ("best", "last"):
        if name in record:
            scores = ", ".join(f"{k} {v:.4f}" for k, v in record[name]["scores"].items() if isinstance(v, float))
            print(f"  {name}: after {record[name]['updates']} updates, dev {scores}")


def run_evaluate(chosen: argparse.Namespace) -> None:
    print(_json(_rooms(chosen).evaluate(chosen), indent=1))


def run_predict(chosen: argparse.Namespace) -> None:
    for answer in _rooms(chosen).predict(chosen):
        stopping.check()
        for note in answer.pop("notes", ()):
            _say(line(f"splinter predict: {note}"))
        if (lines := answer.pop("lines", None)) is not None:
            print(_json(answer) if chosen.json else printable("\n".join(lines)), flush=True)


def run_mine(chosen: argparse.Namespace) -> None:
    from splinter.ports.splinter.pretraining import commands

    print(printable(commands.mine(chosen)))


def run_pretrain(chosen: argparse.Namespace) -> None:
    from splinter.ports.splinter.pretraining import commands

    if (record := commands.pretrain(chosen, _say)) is not None:
        _say_trained(chosen, record)


def run_kernels(chosen: argparse.Namespace) -> None:
    refuse_without("kernels", ("paddle",), "paddle")
    runtime.import_paddle()
    from splinter.ports.common.paddle import kernels

    there = kernels.path().exists()
    began = time.perf_counter()
    made = kernels.build()
    kernels.forget()
    used = "used from now on" if kernels.loaded() else f"not used: {kernels.VARIABLE}=0 in the environment"
    how = "are built already" if there else f"were built in {time.perf_counter() - began:.1f} s"
    print(printable(f"the kernels {how}, and are {used}: {made}"))


def run_align(chosen: argparse.Namespace) -> int:
    from splinter.datasets import PROJECT
    from splinter.ports.common import UsageError
    from splinter.ports.common.folders import alone

    refuse_without("the proof", ("torch", "transformers", "filelock"), "align")
    from splinter.align import report

    suite = chosen.suite or next(
        (p for p in (Path("tests/alignment"), PROJECT / "tests" / "alignment") if p.is_dir()), None
    )
    if suite is None or not suite.exists():
        raise UsageError("no alignment suite here: run inside a clone of the project, or give --suite PATH")
    record = chosen.report / "alignment.json"
    new = chosen.report / f"alignment-{os.getpid()}.json"  # the last record stays where no test ran: -k mistyped
    rest = [option for option in chosen.rest if option != "--"]
    command = [sys.executable, "-m", "pytest", str(suite), f"--align-json={new}", *rest]
    badges = contextlib.nullcontext() if chosen.badges == chosen.report else alone(chosen.badges)
    with alone(chosen.report), badges:  # said now, not after minutes of tests
        try:
            code = subprocess.call(command)
            if new.is_file() and any(report.read(new).get(key) for key in ("results", "kills", "floors")):
                os.replace(new, record)
                page = report.write(record, chosen.report, chosen.badges)
                print(printable(f"report: {page}"))
        finally:
            new.unlink(missing_ok=True)
    return code


def run_explain(chosen: argparse.Namespace) -> None:
    from splinter.align.explain import told
    from splinter.align.record import read

    print(told(read(chosen.file)), end="")


def run_judge(chosen: argparse.Namespace) -> int:
    from splinter.align import stored
    from splinter.align.compare import Tolerance
    from splinter.align.files import write_whole

    tolerance = Tolerance(0.0, chosen.rtol, why="asked for")
    found = [stored.judge(*pair, tolerance, chosen.step) for pair in stored.pairs(chosen.theirs, chosen.ours)]
    for alignment in found:
        print(stored.verdict(alignment))
    if chosen.align_json is not None:
        words = {True: "passed", False: "failed"}
        results = [one.record(tolerance, words[one.passed], "; ".join([*one.problems, *one.notes])) for one in found]
        document = {"schema": 1, "environment": {}, "results": results}
        write_whole(chosen.align_json, lambda file: json.dump(document, file, indent=1), "w")
    return 0 if all(one.passed for one in found) else 1


def run_prove(chosen: argparse.Namespace) -> int:
    from splinter.align.proving.command import run

    return run(chosen)


COMMANDS = {
    "judge": run_judge,
    "prove": run_prove,
    "explain": run_explain,
    "convert": run_convert,
    "finetune": run_finetune,
    "evaluate": run_evaluate,
    "predict": run_predict,
    "mine": run_mine,
    "pretrain": run_pretrain,
    "kernels": run_kernels,
    "align": run_align,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 2 for wrong input, 130 when interrupted, 143 when terminated; 1 where
    judge or prove finds a difference, and pytest's own of align."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _open_streams()
    chosen = argparse.Namespace(command=None)
    try:
        chosen = parsed(arguments)
        fast = runtime.subnormals_are_zero() if chosen.command in COMPUTING else contextlib.nullcontext()
        with stopping.raised(), fast:
            code = COMMANDS[chosen.command](chosen) or 0
            sys.stdout.flush()  # here, where a full disk or a reader that left can still be told from success
        return code
    except KeyboardInterrupt as error:
        signum = getattr(error, "signum", signal.SIGINT)
    except BrokenPipeError as error:
        if error.filename is not None:  # a pipe that was named, and got half of what it was to get
            return _failed(error, chosen)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; nothing to report
        return 0
    except Exception as error:
        signum = stopping.heard()
        if not signum:
            return _failed(error, chosen)
    # only here: what the frames of the command held, a progress bar and worker processes, has ended
    _say(f"splinter: {stopping.WORDS[signal.Signals(signum)]}{_to_resume(chosen)}")
    return 128 + signum


def _open_streams() -> None:
    """Make the standard streams fit to write to. One that the caller closed leads nowhere; left closed, it would be
    the next file that is opened."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in tests
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # a Windows code page lacks most of it


def _to_resume(chosen: argparse.Namespace) -> str:
    """How to go on, where something was saved to go on from, be it the log of a run's first updates."""
    from splinter.ports.common.training.log import LOG
    from splinter.ports.common.training.state import latest
    from splinter.ports.splinter.pretraining.corpus import SETTINGS

    if not hasattr(chosen, "resume"):
        return ""
    saved = latest(chosen.output) is not None or any((chosen.output / name).exists() for name in (LOG, SETTINGS))
    return "; go on with --resume" if saved else ""


def _failed(error: Exception, chosen: argparse.Namespace) -> int:
    """Say what was wrong, in a line; returns the exit code.

    Raises:
        Exception: what is not written for the user is a fault of the program, and comes through.
    """
    from splinter.ports.common.text import DataErrors

    command = f"splinter {chosen.command}" if chosen.command else "splinter"
    text = str(error)
    if isinstance(error, MemoryError):
        text = f"out of memory ({error}); ask for smaller batches, lengths or steps"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'output'}: {error.strerror}"
        if error.errno == errno.ENOSPC and hasattr(chosen, "resume"):
            text += f"; free some space{_to_resume(chosen).replace(';', ' and', 1)}"
        if error.filename is None:  # standard output: what is left in its buffer would fail once more at the end
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif not isinstance(error, OSError) and type(error).__module__.split(".")[0] != "splinter":
        raise error
    # bad examples of a file, or tensors without a counterpart, are told together, each in a line of its own
    first, *others = error.lines if isinstance(error, DataErrors) else text.split("\n  ")
    _say("\n".join([line(f"{command}: {first}"), *(f"  {line(one)}" for one in others)]))
    return 2
