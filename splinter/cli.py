"""The command line: convert, finetune, evaluate, predict, align.

Thin on purpose: parse, call one function, print. Wrong input ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from splinter import __version__

LARGEST = 2**32 - 1  # as seeds go; nobody needs more of anything else


class _Parser(argparse.ArgumentParser):
    """One line for a mistake; argparse puts the whole usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _command(commands: Any, name: str, help: str, text: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=help,
        description=f"{help}\n\n{text}",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _number(text: str, kind: type, least: float, most: float, expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:  # so is nan refused
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return number


def _positive(text: str) -> int:
    return _number(text, int, 1, LARGEST, f"a whole number from 1 to {LARGEST}")


def _count(text: str) -> int:
    return _number(text, int, 0, LARGEST, f"a whole number from 0 to {LARGEST}")


def _share(text: str) -> float:
    return _number(text, float, 0, math.nextafter(1, 0), "a number from 0 to below 1")


def _not_negative(text: str) -> float:
    return _number(text, float, 0, sys.float_info.max, "a number of 0 or more")


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|gpu(:\d{1,4})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, gpu or gpu:NUMBER")
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return Path(text)


def _model(text: str) -> str:
    return str(_path(text))


MODES = """modes:
  hf     behaves as transformers does with the published checkpoints: raw text, answers of up to 30 word pieces
  paper  behaves as the authors' few-shot code: MRQA tokens, answers of up to 10 word pieces"""
FILES = """files, plain or .gz; the kind is told by what is in them:
  MRQA JSON lines, as in the few-shot archive (with or without _qass), or SQuAD JSON 1.1 and 2.0"""


def _shared(parser: argparse.ArgumentParser, mode_default: str) -> None:
    """Options of every command that runs a model."""
    parser.add_argument(
        "--model", type=_model, required=True, metavar="NAME_OR_FOLDER", help="checkpoint folder or hub name"
    )
    parser.add_argument("--framework", choices=("paddle", "torch"), default="paddle", help="who computes (paddle)")
    parser.add_argument("--mode", choices=("hf", "paper"), help=f"whose behaviour, see above ({mode_default})")
    parser.add_argument("--device", type=_device, default="auto", help="cpu, gpu or gpu:N (a GPU where there is one)")
    parser.add_argument(
        "--download", action="store_true", help="let a hub name be fetched; else only the cache is read"
    )
    windows = parser.add_argument_group("windows", "A context too long for the model is read in overlapping windows.")
    windows.add_argument("--max-length", type=_positive, default=384, metavar="N", help="size, in word pieces (384)")
    windows.add_argument(
        "--doc-stride", type=_positive, default=128, metavar="N", help="paper: from start to start; hf: overlap (128)"
    )
    windows.add_argument(
        "--max-query-length", type=_positive, default=64, metavar="N", help="paper: longest question, in pieces (64)"
    )


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="splinter",
        description="Splinter (few-shot question answering by span selection) in PaddlePaddle.",
        epilog="splinter COMMAND --help explains each command and ends in an example.\n"
        "First steps: convert a checkpoint, finetune it on a few questions, predict or evaluate with the result.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"splinter {__version__}")
    top.add_argument("--no-tune", action="store_true", help="leave Paddle's CPU settings alone (as SPLINTER_TUNE=0)")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    convert = _command(
        commands,
        "convert",
        "Convert a checkpoint to a folder that Paddle and transformers both open.",
        "Reads the layout of transformers (tau/splinter-base-qass and its like) or the authors' own, from\n"
        "model.safetensors or pytorch_model.bin. Every tensor must be there, with the right shape.\n\n" + MODES,
        "splinter convert tau/splinter-base-qass splinter-base --download",
    )
    convert.add_argument("source", type=_model, help="checkpoint folder or hub name")
    convert.add_argument("output", type=_path, help="folder to write; must hold no checkpoint yet")
    convert.add_argument("--mode", choices=("hf", "paper"), help="behaviour to record (the checkpoint's, else hf)")
    convert.add_argument(
        "--head",
        choices=("pretrained", "fresh"),
        default="pretrained",
        help="fresh: a new random span selection head, for a checkpoint without one (pretrained)",
    )
    convert.add_argument(
        "--download", action="store_true", help="let a hub name be fetched; else only the cache is read"
    )

    finetune = _command(
        commands,
        "finetune",
        "Fine-tune a model on a few questions, by the paper's recipe unless told otherwise.",
        "The output folder gets the model, log.jsonl (one line per update), training.json (what was done), and,\n"
        "while it runs, a checkpoint. Interrupted, the same command with --resume ends in the same bits.\n\n"
        f"{FILES}\n\n{MODES}",
        "splinter finetune --model splinter-base --train squad-train-seed-42-num-examples-16_qass.jsonl --output run16",
    )
    finetune.add_argument("--train", type=_path, required=True, metavar="FILE", help="questions with answers")
    finetune.add_argument("--output", type=_path, required=True, metavar="FOLDER", help="folder to write")
    _shared(finetune, "paper")
    finetune.add_argument("--quiet", action="store_true", help="no progress bar")
    finetune.add_argument("--resume", action="store_true", help="go on after an interruption, to the same result")
    finetune.add_argument("--save-every", type=_positive, default=50, metavar="N", help="updates per checkpoint (50)")
    steps = finetune.add_argument_group(
        "recipe", "The rate rises from 0 to its peak, then falls to 0; defaults are those of the paper."
    )
    steps.add_argument(
        "--head",
        choices=("auto", "pretrained", "fresh"),
        default="auto",
        help="span selection head: the checkpoint's, or a new random one (auto: new only where there is none)",
    )
    steps.add_argument("--seed", type=_count, default=42, metavar="N", help="for batches, dropout and a new head (42)")
    steps.add_argument("--learning-rate", type=_not_negative, default=3e-5, metavar="RATE", help="peak rate (3e-5)")
    steps.add_argument("--batch-size", type=_positive, default=12, metavar="N", help="windows per update (12)")
    steps.add_argument("--epochs", type=_positive, default=10, metavar="N", help="passes over the data (10)")
    steps.add_argument(
        "--min-steps", type=_count, default=200, metavar="N", help="but no fewer updates than this (200)"
    )
    steps.add_argument(
        "--max-steps", type=_count, default=0, metavar="N", help="stop after this many, same schedule; 0: never (0)"
    )
    steps.add_argument("--warmup", type=_share, default=0.1, metavar="SHARE", help="of the updates, to the peak (0.1)")
    steps.add_argument("--weight-decay", type=_not_negative, default=0.0, metavar="X", help="of matrices only (0.0)")

    evaluate = _command(
        commands,
        "evaluate",
        "Score a model on a file of questions: exact match and F1, in points from 0 to 100.",
        f"Prints the scores as JSON.\n\n{FILES}\n\n{MODES}",
        "splinter evaluate --model run16 --data dev-v1.1.json --predictions predictions.json",
    )
    evaluate.add_argument("--data", type=_path, required=True, metavar="FILE", help="questions with answers")
    evaluate.add_argument("--predictions", type=_path, metavar="FILE", help="also write question id -> text, as JSON")
    evaluate.add_argument("--limit", type=_positive, metavar="N", help="only the first N questions")
    _shared(evaluate, "the checkpoint's")
    evaluate.add_argument("--quiet", action="store_true", help="no progress bar")
    _answers(evaluate)

    predict = _command(
        commands,
        "predict",
        "Answer one question from the options, or many from JSON lines.",
        'Each input line: {"question": "Who wrote it?", "context": "Ann wrote it in 1990.", "id": "optional"}.\n'
        "From standard input, each line is answered as it comes. An answer is a piece of its context; characters\n"
        f"are counted from 0, the end is exclusive; probabilities are shares among the answers shown.\n\n{MODES}",
        "splinter predict --model run16 --question 'Who wrote it?' --context 'Ann wrote it in 1990.'\n"
        "  cat questions.jsonl | splinter predict --model run16 --input - --json",
    )
    asked = predict.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; needs --context or --context-file")
    asked.add_argument("--input", type=_path, metavar="FILE", help="JSON lines, plain or .gz; - for standard input")
    context = predict.add_mutually_exclusive_group()
    context.add_argument("--context", metavar="TEXT", help="the text that holds the answer")
    context.add_argument(
        "--context-file", type=_path, metavar="FILE", help="the same from a file; - for standard input"
    )
    predict.add_argument("--n-best", type=_positive, default=3, metavar="N", help="answers per question (3)")
    predict.add_argument("--json", action="store_true", help="one JSON object per question")
    _shared(predict, "the checkpoint's")
    predict.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)  # predict shows no bar
    _answers(predict)

    align = _command(
        commands,
        "align",
        "Prove the port equal to its reference: run the alignment suite and write its report.",
        "Runs tests/alignment with pytest and writes alignment.json, an HTML report and badges. Ends with pytest's\n"
        "exit code. Needs a clone of the project and torch (pip install 'splinter[align]').",
        "splinter align -k forward",
    )
    align.add_argument("--suite", type=_path, metavar="FOLDER", help="suite to run (tests/alignment of the project)")
    align.add_argument(
        "--report", type=_path, default=Path("report"), metavar="FOLDER", help="folder to write (report)"
    )
    align.add_argument(
        "--badges", type=_path, default=Path("badges"), metavar="FOLDER", help="folder to write (badges)"
    )
    align.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="further options go to pytest")
    return top


def _answers(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that answer."""
    parser.add_argument(
        "--max-answer-length", type=_positive, metavar="N", help="longest answer (paper: 10 pieces, hf: 30)"
    )
    parser.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="windows per forward pass (16)")


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from splinter.ports.splinter.tasks import Settings, Sizes

    return Settings(
        model=options.model,
        framework=options.framework,
        mode=options.mode,
        device=options.device,
        download=options.download,
        sizes=Sizes(options.max_length, options.doc_stride, options.max_query_length),
        batch_size=getattr(options, "batch_size", 16),
        progress=not options.quiet and sys.stderr.isatty(),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def run_convert(options: argparse.Namespace) -> None:
    from splinter.ports.splinter import tasks

    print(tasks.convert(options.source, options.output, options.mode, options.head, options.download))


def run_finetune(options: argparse.Namespace) -> None:
    from splinter.ports.recipe import Recipe
    from splinter.ports.splinter import tasks

    names = ("learning_rate", "warmup", "epochs", "min_steps", "max_steps", "batch_size", "weight_decay", "seed")
    hyper = Recipe(**{name: getattr(options, name) for name in names})
    record = tasks.finetune(
        _settings(options),
        options.train,
        options.output,
        hyper,
        options.head,
        options.resume,
        options.save_every,
        say=_say,
    )
    print(f"{options.output}: {record['updates']} updates, loss {record['final_loss']:.4f}, {record['seconds']} s")


def run_evaluate(options: argparse.Namespace) -> None:
    from splinter.ports.splinter import tasks

    scores = tasks.evaluate(
        _settings(options), options.data, options.predictions, options.max_answer_length, options.limit
    )
    print(json.dumps(scores, indent=1, ensure_ascii=False))


def _questions(options: argparse.Namespace, mode: str) -> Iterator[Any]:
    """The questions of the command line, a file or standard input, as examples.

    Raises:
        DataError: what is missing, with the line.
    """
    from splinter.ports.splinter import data

    if options.input is not None:
        return data.read_questions(options.input, mode)
    context = options.context if options.context is not None else data.read_context(options.context_file)
    return iter([data.example("1", options.question, context, mode, "the command line")])


def run_predict(options: argparse.Namespace) -> None:
    from splinter.ports.splinter import data, tasks

    given = options.context is not None or options.context_file is not None
    if given == (options.input is not None):
        raise tasks.UsageError(
            "--question needs --context TEXT or --context-file FILE" if not given else "--input brings its own contexts"
        )
    stream, file = str(options.input) == "-", options.input or options.context_file
    if file is not None and str(file) != "-":
        data.existing(file, "a file of JSON lines" if options.input else "a text file")  # before a model loads
    answerer = tasks.open_answerer(_settings(options), options.max_answer_length, options.n_best)
    for example, spans in answerer.answers(_questions(options, answerer.config.mode), stream=stream):
        if options.json:
            answers = [
                {
                    "text": span.text,
                    "probability": span.probability,
                    "score": span.score,
                    "start": span.start_char,
                    "end": span.end_char,
                }
                for span in spans
            ]
            print(json.dumps({"id": example.id, "answers": answers}, ensure_ascii=False), flush=True)
        else:
            print(example.question.removesuffix(" [MASK]."))
            for span in spans:
                where = "" if span.start_char is None else f"  (characters {span.start_char}-{span.end_char})"
                print(f"  {span.probability:6.1%}  {span.text}{where}", flush=True)


def run_align(options: argparse.Namespace) -> int:
    from splinter.datasets import PROJECT
    from splinter.ports.splinter.tasks import UsageError

    for name in ("jinja2", "pytest", "torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"the proof needs {name}, which is not installed; pip install 'splinter[align]'")
    from splinter.align import report

    suite = options.suite or next(
        (p for p in (Path("tests/alignment"), PROJECT / "tests" / "alignment") if p.is_dir()), None
    )
    if suite is None or not suite.is_dir():
        raise UsageError("no alignment suite here: run inside a clone of the project, or give --suite FOLDER")
    for folder in (options.report, options.badges):
        folder.mkdir(parents=True, exist_ok=True)  # said now, not after minutes of tests
    record = options.report / "alignment.json"
    record.unlink(missing_ok=True)  # an older run's record is no evidence for this one
    rest = [option for option in options.rest if option != "--"]
    command = [sys.executable, "-m", "pytest", str(suite), f"--align-json={record}", *rest]
    code = subprocess.call(command)
    if record.is_file():
        page = report.write(record, options.report, options.badges)
        print(f"report: {page}")
    return code


COMMANDS = {
    "convert": run_convert,
    "finetune": run_finetune,
    "evaluate": run_evaluate,
    "predict": run_predict,
    "align": run_align,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 2 for wrong input, 130 when interrupted."""
    top = parser()
    options, surplus = top.parse_known_args(arguments)
    if options.command is None:
        top.print_help(sys.stderr)
        return 2
    if options.command == "align":
        options.rest = [*surplus, *options.rest]
    elif surplus:
        top.error(f"{' '.join(surplus)!r} is not known to {options.command}")
    if options.no_tune:
        os.environ["SPLINTER_TUNE"] = "0"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - closed by the caller (2>&-)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in tests
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # a Windows code page lacks most of it
    try:
        return COMMANDS[options.command](options) or 0
    except KeyboardInterrupt:
        _say("splinter: interrupted" + ("; go on with --resume" if options.command == "finetune" else ""))
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; nothing to report
        return 0
    except Exception as error:
        # what the project raises itself is written for the user; anything else is a fault of the program
        ours = type(error).__module__.split(".")[0] == "splinter"
        if not ours and not isinstance(error, OSError):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename or 'output'}: {error.strerror}"
        _say(f"splinter {options.command}: {' '.join(text.split())}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
