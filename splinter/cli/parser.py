"""The options of the command line: one parser for all commands, with the options of one system."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from splinter import __version__, ports, stopping
from splinter.align.proving import options as proving
from splinter.align.terminal import printable, shortened
from splinter.ports.common import UsageError, options, reading


def line(text: str) -> str:
    """An error as one line that a terminal can show whole."""
    return shortened(printable(" ".join(text.split()), keep=""))


class Parser(argparse.ArgumentParser):
    """One line for a mistake; argparse puts the whole usage above it."""

    commands: Mapping[str, Any]
    """The parsers of the commands, by name."""
    help_with = ""
    """What to add before --help: an option that brings others along."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{line(f'{self.prog}: {message}; see {self.prog}{self.help_with} --help')}\n")

    def unknown(self, name: str, meant: str) -> NoReturn:
        """Ends with a line on something that the command does not know."""
        self.error(f"{name!r} is not known to {self.prog.split()[-1]}{meant}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = reading.meant(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, error.message + meant) from None


def _command(commands: Any, name: str, help: str, text: str, example: str) -> Parser:
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
while it runs, a checkpoint. After an interruption, run the same command with --resume. On a CPU the result has the
same bits as a run without interruption; on a GPU it is nearly the same."""


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
    command.add_argument(
        "--system", choices=list(ports.SYSTEMS), default=DEFAULT, help=f"which model (default: {DEFAULT})"
    )
    if name == "convert":
        command.add_argument("source", type=options.model_name, help="checkpoint folder, hub name or minilm")
        command.add_argument("output", type=options.path, help="folder to write; must hold no checkpoint yet")
        options.add_download(command)
    else:
        if name == "evaluate":
            command.add_argument("--data", type=options.path, required=True, metavar="PATH", help="data with answers")
        options.add_model(command, getattr(rooms, "READY", None) if name == "predict" else None)
        if name == "finetune":
            options.add_run(command, "training data")
        else:
            quiet = argparse.SUPPRESS if name == "predict" else "no progress bar"  # predict shows no bar
            command.add_argument("--quiet", action="store_true", help=quiet)
        if name == "predict":
            command.add_argument("--json", action="store_true", help="one JSON object per answer")
    rooms.add(name, command)


def parser(system: str = DEFAULT) -> Parser:
    """The whole command line, with the options of one system."""
    top = Parser(
        prog="splinter",
        description="Splinter (few-shot question answering by span selection) and its sibling systems in\n"
        "PaddlePaddle: convert, fine-tune, evaluate and use them, and prove them equal to PyTorch.",
        epilog="splinter COMMAND --help explains each command and ends in an example.\n"
        "First steps:\n"
        '  splinter predict --question "Who wrote it?" --context "Ann wrote it in 1990."\n'
        "  splinter finetune --model splinter-mini --train sample --min-steps 0 --micro-batch 3 --output my-qa\n"
        "and predict with --model my-qa.\n\n"
        f"splinter reads at most {reading.DEFAULT:,} bytes at once: one line, or the whole file where it has no\n"
        f"lines. {reading.VARIABLE}=NUMBER in the environment changes this limit.",
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

    _command(
        commands,
        "kernels",
        "Build faster kernels for the CPU at hand.",
        "Compiles what a model spends its time on, for this processor, with the C++ compiler that is there: $CXX,\n"
        "else g++. It takes seconds, once, on Linux. From then on every command uses them on a CPU; docs/speed.md\n"
        "says what they gain.\n"
        "Results are the same but for rounding, and for the numbers that dropout draws for a seed.\n"
        "SPLINTER_KERNELS=0 in the environment does without them, 1 refuses to run without them.",
        "splinter kernels",
    )

    align = _command(
        commands,
        "align",
        "Prove the port equal to its reference: run the alignment suite and write its report.",
        "Runs tests/alignment with pytest and writes alignment.json, an HTML report and badges. Ends with pytest's\n"
        "exit code. Needs a clone of the project and torch (pip install -e '.[align]').",
        "splinter align -k forward",
    )
    align.add_argument(
        "--suite",
        type=options.path,
        metavar="PATH",
        help="suite, or a file of it (default: tests/alignment of the project)",
    )
    align.add_argument(
        "--report",
        type=options.path,
        default=Path("report"),
        metavar="FOLDER",
        help="folder to write (default: report)",
    )
    align.add_argument(
        "--badges",
        type=options.path,
        default=Path("badges"),
        metavar="FOLDER",
        help="folder to write (default: badges)",
    )
    align.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="further options go to pytest")

    explain = _command(
        commands,
        "explain",
        "Say why steps of a stored proof failed: which layer, which kind of fault, how the error grew.",
        "Reads what `splinter align` or pytest --align-json wrote. Kinds: data, layout, reduced precision, rounding,\n"
        "semantic. Each layer has three errors, relative to the largest number. propagated: in the model as it runs.\n"
        "given: of its input, alone: of its output, when all layers before it are replaced by the reference's.",
        "splinter explain report/alignment.json",
    )
    explain.add_argument("file", type=options.path, metavar="FILE", help="alignment.json")

    prove = _command(
        commands,
        "prove",
        "Prove that a port does what its original does: name the layer and the kind of fault.",
        proving.TEXT,
        "splinter prove my_port.py",
    )
    proving.add_options(prove)
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
    judge.add_argument(
        "--step", default="", metavar="STEP", help="which of the eleven steps (default: from the file name)"
    )
    judge.add_argument(
        "--rtol",
        type=options.not_negative,
        default=1e-5,
        metavar="X",
        help="allowed difference, relative to the largest number of an array (default: 1e-5)",
    )
    judge.add_argument("--align-json", type=options.path, metavar="FILE", help="write a record for the report")
    return top


COMPUTING = ("finetune", "evaluate", "predict", "pretrain")
"""Commands that run a model, at the speed of numbers that are not subnormal; `judge` may be shown some."""

WITHOUT_MODEL = ("align", "explain", "judge", "kernels", "prove")
"""Commands that need nothing of the extra `product`; `align` and `kernels` say themselves what they need."""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
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
        refuse_without(chosen.command, ("tokenizers", "huggingface_hub", "filelock", "tqdm", *computes), "paddle")
    if chosen.command in COMPUTING:
        _start_tokenizers()
    return chosen


def refuse_without(what: str, packages: Sequence[str], extra: str) -> None:
    """A package that is not installed is named together with the extra that brings it.

    Raises:
        UsageError: there is one.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            way_out = f"in a clone of the project: pip install -e '.[{extra}]'"
            raise UsageError(f"{what} needs {name}, which is not installed; {way_out}")


def _start_tokenizers() -> None:
    """Start the threads of tokenizers deaf to signals: they would take one that waits for the import of a framework."""
    from tokenizers import Tokenizer, models

    with stopping.deferred():
        Tokenizer(models.WordPiece({"a": 0}, unk_token="a")).encode_batch(["a", "a"])


def _refuse_unknown(top: Parser, named: str, arguments: Sequence[str]) -> None:
    """An option that the command does not have is told before the one that is missing in its place."""
    for name in (one.partition("=")[0] for one in _options_of(arguments)):
        known = top.commands[named]._option_string_actions
        if re.fullmatch(r"--[a-z][\w-]*", name) and name not in {*known, *top._option_string_actions}:
            others = [one for one in ports.SYSTEMS if name in parser(one).commands[named]._option_string_actions]
            meant = f" (it goes with --system {others[0]})" if others else reading.meant(name, known)
            top.commands[named].unknown(name, meant)


def _refuse_other_system(command: Parser, system: str, model: str | None) -> None:
    found = ports.system_of(Path(model)) if model else None
    if found not in (None, system):
        command.error(f"{model} holds a model of {found}; add --system {found}")
