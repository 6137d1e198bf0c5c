"""The command line: convert, finetune, evaluate, predict, mine, pretrain, align, explain, judge.

Thin on purpose: parse, call one function, print. Wrong input ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # python -m splinter.cli
    from splinter.__main__ import main as start

    sys.exit(start())

import argparse
import contextlib
import errno
import importlib
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from splinter import __version__, ports, runtime, stopping
from splinter.align.terminal import CONTROL, printable, shortened
from splinter.ports.common import reading

from . import options


class _Parser(argparse.ArgumentParser):
    """One line for a mistake; argparse puts the whole usage above it."""

    commands: Mapping[str, Any]
    """The parsers of the commands, by name."""
    help_with = ""
    """What to add before --help: an option that brings others along."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{_line(f'{self.prog}: {message}; see {self.prog}{self.help_with} --help')}\n")

    def unknown(self, name: str, meant: str) -> NoReturn:
        """Ends with a line on something that the command does not know."""
        self.error(f"{name!r} is not known to {self.prog.split()[-1]}{meant}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = reading.meant(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, error.message + meant) from None


def _command(commands: Any, name: str, help: str, text: str, example: str) -> _Parser:
    return commands.add_parser(
        name,
        help=help,
        description=f"{help}\n\n{text}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --sys would be read too late to bring the options of a system
    )


DEFAULT = "splinter"
HELP = {
    "convert": "Convert a checkpoint to a folder that Paddle and transformers both open.",
    "finetune": "Fine-tune a model.",
    "evaluate": "Score a model on a file with answers.",
    "predict": "Run a model on text that you type, or on a file.",
}
MINE = "Find recurring spans in raw text: what Splinter is pretrained on."
PRETRAIN = "Pretrain Splinter by recurring span selection."
RUNS = """The output folder gets the model, log.jsonl (one line per update), training.json (what was done), and,
while it runs, a checkpoint. Interrupted, the same command with --resume ends in the same bits (on a GPU, nearly)."""


def _options_of(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments that may be options."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _asked(arguments: Sequence[str]) -> tuple[str, str | None]:
    """The values of --system and --model, read ahead: the one decides which other options there are."""
    ahead = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ahead.add_argument("--system", default=DEFAULT)
    ahead.add_argument("--model")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        found = ahead.parse_known_args(_options_of(arguments))[0]
        return found.system, found.model
    return DEFAULT, None


def _system_command(commands: Any, name: str, system: str) -> None:
    """One of the four commands that every system has, with the options that all share and the system's own."""
    rooms = importlib.import_module(f"splinter.ports.{system}.commands")
    text, example = rooms.TEXTS[name]
    text = f"{RUNS}\n\n{text}" if name == "finetune" else text
    others = [other for other in ports.SYSTEMS if other != system]
    if others:
        text += f"\n\nThis is the help for --system {system}; {', '.join(others)} have their own:\n"
        text += f"  splinter {name} --system {others[0]} --help"
    command = _command(commands, name, HELP[name], text, example)
    command.help_with = "" if system == DEFAULT else f" --system {system}"
    command.add_argument("--system", choices=list(ports.SYSTEMS), default=DEFAULT, help=f"which model ({DEFAULT})")
    if name == "convert":
        command.add_argument("source", type=options.model_name, help="checkpoint folder, hub name or minilm")
        command.add_argument("output", type=options.path, help="folder to write; must hold no checkpoint yet")
        options.add_download(command)
    else:
        if name == "evaluate":
            command.add_argument("--data", type=options.path, required=True, metavar="PATH", help="data with answers")
        options.add_model(command)
        if name == "finetune":
            options.add_run(command, "training data")
        else:
            quiet = argparse.SUPPRESS if name == "predict" else "no progress bar"  # predict shows no bar
            command.add_argument("--quiet", action="store_true", help=quiet)
        if name == "predict":
            command.add_argument("--json", action="store_true", help="one JSON object per answer")
    rooms.add(name, command)


def parser(system: str = DEFAULT) -> _Parser:
    """The whole command line, with the options of one system."""
    top = _Parser(
        prog="splinter",
        description="Splinter (few-shot question answering by span selection) and its sibling systems in\n"
        "PaddlePaddle: convert, fine-tune, evaluate and use them, and prove them equal to PyTorch.",
        epilog="splinter COMMAND --help explains each command and ends in an example.\n"
        "First steps:\n"
        "  splinter finetune --model splinter-mini --train sample --min-steps 0 --micro-batch 3 --output my-qa\n"
        "and predict with my-qa.\n\n"
        f"Of a file, {reading.DEFAULT:,} bytes at most are read at once (a line; what is not in lines, whole);\n"
        f"{reading.VARIABLE}=NUMBER in the environment changes this.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"splinter {__version__}")
    top.add_argument("--no-tune", action="store_true", help="leave threads and malloc alone (as SPLINTER_TUNE=0)")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    top.commands = commands.choices

    for name in HELP:
        _system_command(commands, name, system)

    pretraining = importlib.import_module("splinter.ports.splinter.pretraining.commands")
    pretraining.add("mine", _command(commands, "mine", MINE, *pretraining.TEXTS["mine"]))
    text, example = pretraining.TEXTS["pretrain"]
    pretrain = _command(commands, "pretrain", PRETRAIN, f"{RUNS}\n\n{text}", example)
    options.add_model(pretrain)
    options.add_run(pretrain, "folder of splinter mine", "--corpus", save_every=1000)
    pretraining.add("pretrain", pretrain)

    align = _command(
        commands,
        "align",
        "Prove the port equal to its reference: run the alignment suite and write its report.",
        "Runs tests/alignment with pytest and writes alignment.json, an HTML report and badges. Ends with pytest's\n"
        "exit code. Needs a clone of the project and torch (pip install -e '.[align]').",
        "splinter align -k forward",
    )
    align.add_argument(
        "--suite", type=options.path, metavar="FOLDER", help="suite to run (tests/alignment of the project)"
    )
    align.add_argument(
        "--report", type=options.path, default=Path("report"), metavar="FOLDER", help="folder to write (report)"
    )
    align.add_argument(
        "--badges", type=options.path, default=Path("badges"), metavar="FOLDER", help="folder to write (badges)"
    )
    align.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="further options go to pytest")

    explain = _command(
        commands,
        "explain",
        "Say why steps of a stored proof failed: which layer, which kind of fault, how the error grew.",
        "Reads what `splinter align` or pytest --align-json wrote. Kinds: data, layout, reduced precision, rounding,\n"
        "semantic. Each layer is judged as the model runs (propagated), and with all before it replaced by the\n"
        "reference's (given: its input, alone: its output); errors are relative to the largest number.",
        "splinter explain report/alignment.json",
    )
    explain.add_argument("file", type=options.path, metavar="FILE", help="alignment.json")

    judge = _command(
        commands,
        "judge",
        "Judge arrays that two runs have saved: what a log of mean differences does and does not prove.",
        "Reads .npy as reprod_log saves it (a dict of arrays; code in it is refused), .npz and .safetensors, two\n"
        "files or two folders. Ends with exit code 1 where anything differs or the files cannot prove anything.",
        "splinter judge forward_torch.npy forward_paddle.npy",
    )
    judge.add_argument("theirs", type=options.path, metavar="THEIRS", help="file or folder of the reference")
    judge.add_argument("ours", type=options.path, metavar="OURS", help="file or folder of the port")
    judge.add_argument("--step", default="", metavar="STEP", help="of the eleven (told by the file's name)")
    judge.add_argument(
        "--rtol",
        type=options.not_negative,
        default=1e-5,
        metavar="X",
        help="allowed, relative to the largest number of an array (1e-5)",
    )
    judge.add_argument("--align-json", type=options.path, metavar="FILE", help="write a record for the report")
    return top


# -- commands ---------------------------------------------------------------------------------------------


def _line(text: str) -> str:
    """An error as one line that a terminal can show whole."""
    return shortened(printable(" ".join(text.split()), keep=""))


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
        lines = answer.pop("lines")
        print(_json(answer) if chosen.json else printable("\n".join(lines)), flush=True)


def run_mine(chosen: argparse.Namespace) -> None:
    from splinter.ports.splinter.pretraining import commands

    print(printable(commands.mine(chosen)))


def run_pretrain(chosen: argparse.Namespace) -> None:
    from splinter.ports.splinter.pretraining import commands

    if (record := commands.pretrain(chosen, _say)) is not None:
        _say_trained(chosen, record)


def run_align(chosen: argparse.Namespace) -> int:
    from splinter.datasets import PROJECT
    from splinter.ports.common import UsageError
    from splinter.ports.common.folders import alone

    _refuse_without("the proof", ("torch", "transformers", "filelock"), "align")
    from splinter.align import report

    suite = chosen.suite or next(
        (p for p in (Path("tests/alignment"), PROJECT / "tests" / "alignment") if p.is_dir()), None
    )
    if suite is None or not suite.is_dir():
        raise UsageError("no alignment suite here: run inside a clone of the project, or give --suite FOLDER")
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


COMPUTING = ("finetune", "evaluate", "predict", "pretrain")
"""Commands that run a model, at the speed of numbers that are not subnormal; `judge` may be shown some."""

WITHOUT_MODEL = ("align", "explain", "judge")
"""Commands that need nothing of the extra `product`; `align` says itself what it needs."""

COMMANDS = {
    "judge": run_judge,
    "explain": run_explain,
    "convert": run_convert,
    "finetune": run_finetune,
    "evaluate": run_evaluate,
    "predict": run_predict,
    "mine": run_mine,
    "pretrain": run_pretrain,
    "align": run_align,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 2 for wrong input, 130 when interrupted, 143 when terminated; 1 where
    judge finds a difference, and pytest's own of align."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _open_streams()
    chosen = argparse.Namespace(command=None)
    try:
        chosen = _parsed(arguments)
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


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options. Exits with a line on a mistake, and after a help or the version."""
    system, model = _asked(arguments)
    top = parser(system if system in ports.SYSTEMS else DEFAULT)
    if not arguments:
        top.print_help(sys.stderr)
        top.exit(2)
    try:
        named = next((one for one in arguments if not one.startswith("-")), None)
        if (
            named is not None
            and named in top.commands
            and system in ports.SYSTEMS
            and not {"-h", "--help"} & {*arguments}
        ):
            if named != "align":  # which hands on what it does not know
                _refuse_unknown(top, named, arguments)
            if named in HELP:
                _refuse_other_system(top.commands[named], system, model)
        chosen, surplus = top.parse_known_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # of a help
        raise
    if chosen.command is None:
        top.error("a command is missing")
    if chosen.command == "align":
        chosen.rest = [*surplus, *chosen.rest]
    elif surplus:
        top.commands[chosen.command].unknown(" ".join(surplus), "")
    if chosen.command == "convert":
        _refuse_other_system(top.commands["convert"], system, chosen.source)
    if chosen.no_tune:
        os.environ["SPLINTER_TUNE"] = "0"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if chosen.command not in WITHOUT_MODEL:
        computes = ("paddle",) if chosen.command == "convert" else ()  # the others have a say in which framework
        _refuse_without(chosen.command, ("tokenizers", "huggingface_hub", "filelock", "tqdm", *computes), "paddle")
    if chosen.command in COMPUTING:
        _start_tokenizers()
    return chosen


def _refuse_without(what: str, packages: Sequence[str], extra: str) -> None:
    """The packages of an extra, where they are not installed, are named together with it. Raises UsageError."""
    from splinter.ports.common import UsageError

    for name in packages:
        if importlib.util.find_spec(name) is None:
            way_out = f"in a clone of the project: pip install -e '.[{extra}]'"
            raise UsageError(f"{what} needs {name}, which is not installed; {way_out}")


def _start_tokenizers() -> None:
    """Start the threads of tokenizers deaf to signals: they would take one that waits for the import of a framework."""
    from tokenizers import Tokenizer, models

    with stopping.deferred():
        Tokenizer(models.WordPiece({"a": 0}, unk_token="a")).encode_batch(["a", "a"])


def _refuse_unknown(top: _Parser, named: str, arguments: Sequence[str]) -> None:
    """An option that the command does not have is told before the one that is missing in its place."""
    for name in (one.partition("=")[0] for one in _options_of(arguments)):
        known = top.commands[named]._option_string_actions
        if re.fullmatch(r"--[a-z][\w-]*", name) and name not in {*known, *top._option_string_actions}:
            others = [one for one in ports.SYSTEMS if name in parser(one).commands[named]._option_string_actions]
            meant = f" (it goes with --system {others[0]})" if others else reading.meant(name, known)
            top.commands[named].unknown(name, meant)


def _refuse_other_system(command: _Parser, system: str, model: str | None) -> None:
    found = ports.system_of(Path(model)) if model else None
    if found not in (None, system):
        command.error(f"{model} holds a model of {found}; add --system {found}")


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
    # bad examples of a file are told together, each in a line of its own
    first, *others = error.lines if isinstance(error, DataErrors) else [text]
    _say("\n".join([_line(f"{command}: {first}"), *(f"  {_line(one)}" for one in others)]))
    return 2
