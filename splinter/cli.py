"""The command line: convert, finetune, evaluate, predict, align.

Thin on purpose: parse, call one function, print. Wrong input ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from splinter import __version__

def _command(commands: Any, name: str, help: str, example: str, **kwargs: Any) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=help,
        description=help,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **kwargs,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of 1 or more")
    return number


def _probability(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not in [0, 1)")
    return number


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{number} is not a number of 0 or more")
    return number


def _shared(parser: argparse.ArgumentParser, mode_default: str) -> None:
    """Options of every command that runs a model."""
    parser.add_argument("--model", required=True, metavar="NAME_OR_FOLDER", help="checkpoint folder, or a hub name")
    parser.add_argument("--framework", choices=("paddle", "torch"), default="paddle", help="default: paddle")
    parser.add_argument("--mode", choices=("hf", "paper"), help=f"whose behaviour; default: {mode_default}")
    parser.add_argument("--device", default="auto", help="cpu, gpu or gpu:N; default: a GPU where there is one")
    parser.add_argument("--download", action="store_true", help="let a hub name be fetched; nothing is otherwise")
    parser.add_argument("--max-length", type=_positive, default=384, help="window, in word pieces (384)")
    parser.add_argument("--doc-stride", type=_positive, default=128, help="paper: step; hf: overlap of windows (128)")
    parser.add_argument("--max-query-length", type=_positive, default=64, help="paper: question, in pieces (64)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="splinter",
        description="Splinter (few-shot question answering by span selection) in PaddlePaddle.",
        epilog="Each command has its own --help with a complete example. SPLINTER_TUNE=0 switches the CPU settings off.",
    )
    top.add_argument("--version", action="version", version=f"splinter {__version__}")
    top.add_argument("--no-tune", action="store_true", help="leave Paddle's CPU settings as they are")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    convert = _command(
        commands,
        "convert",
        "Convert a checkpoint (transformers or authors' layout) to a folder that Paddle and transformers both open.",
        "splinter convert tau/splinter-base-qass splinter-base --download",
    )
    convert.add_argument("source", help="folder or hub name")
    convert.add_argument("output", type=Path, help="folder to write")
    convert.add_argument("--mode", choices=("hf", "paper"), help="behaviour to record; default: the checkpoint's, or hf")
    convert.add_argument("--head", choices=("pretrained", "fresh"), default="pretrained", help="fresh: a new random head")
    convert.add_argument("--download", action="store_true", help="let a hub name be fetched; nothing is otherwise")

    finetune = _command(
        commands,
        "finetune",
        "Fine-tune on a few examples (MRQA JSON lines or SQuAD JSON), by the paper's recipe unless told otherwise.",
        "splinter finetune --model splinter-base --train squad-train-seed-42-num-examples-16_qass.jsonl --output run16",
    )
    _shared(finetune, "paper")
    finetune.add_argument("--train", type=Path, required=True, metavar="FILE", help="training questions")
    finetune.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="model, log and checkpoints")
    finetune.add_argument("--head", choices=("auto", "pretrained", "fresh"), default="auto", help="auto: fresh if none")
    finetune.add_argument("--resume", action="store_true", help="go on after an interruption, to the same result")
    finetune.add_argument("--save-every", type=_positive, default=50, metavar="N", help="updates per checkpoint (50)")
    finetune.add_argument("--seed", type=int, default=42, help="order of batches, dropout, fresh head (42)")
    finetune.add_argument("--learning-rate", type=_not_negative, default=3e-5, help="at its peak (3e-5)")
    finetune.add_argument("--batch-size", type=_positive, default=12, help="rows per update (12)")
    finetune.add_argument("--epochs", type=_positive, default=10, help="passes over the data (10)")
    finetune.add_argument("--min-steps", type=int, default=200, help="fewest updates of the schedule (200)")
    finetune.add_argument("--max-steps", type=int, default=0, help="stop after so many updates, same schedule")
    finetune.add_argument("--warmup", type=_probability, default=0.1, help="share of updates (0.1)")
    finetune.add_argument("--weight-decay", type=_not_negative, default=0.0, help="decoupled decay (0.0)")

    evaluate = _command(
        commands,
        "evaluate",
        "Exact match and F1 of a model on a file of questions.",
        "splinter evaluate --model run16 --data dev-v1.1.json --predictions predictions.json",
    )
    _shared(evaluate, "the checkpoint's")
    evaluate.add_argument("--data", type=Path, required=True, metavar="FILE", help="MRQA JSON lines or SQuAD JSON")
    evaluate.add_argument("--predictions", type=Path, metavar="FILE", help="also write question id -> text")
    evaluate.add_argument("--limit", type=_positive, help="only the first questions")
    evaluate.add_argument("--max-answer-length", type=_positive, help="pieces (paper 10, hf 30)")
    evaluate.add_argument("--batch-size", type=_positive, default=16, help="rows per forward pass (16)")

    predict = _command(
        commands,
        "predict",
        "Answer questions: one from the options, or JSON lines with 'question' and 'context' from a file or -.",
        "splinter predict --model run16 --question 'Who wrote it?' --context 'Ann wrote it in 1990.'\n"
        "  cat questions.jsonl | splinter predict --model run16 --input - --json",
    )
    _shared(predict, "the checkpoint's")
    predict.add_argument("--question", metavar="TEXT")
    predict.add_argument("--context", metavar="TEXT", help="the text that holds the answer")
    predict.add_argument("--context-file", type=Path, metavar="FILE", help="the same from a file, or - for standard input")
    predict.add_argument("--input", metavar="FILE", help="JSON lines; - for standard input")
    predict.add_argument("--n-best", type=_positive, default=3, help="answers per question (3)")
    predict.add_argument("--max-answer-length", type=_positive, help="pieces (paper 10, hf 30)")
    predict.add_argument("--batch-size", type=_positive, default=16, help="rows per forward pass (16)")
    predict.add_argument("--json", action="store_true", help="one JSON object per question")

    align = _command(
        commands,
        "align",
        "Run the alignment suite and write alignment.json, the HTML report and the badges.",
        "splinter align -k forward",
    )
    align.add_argument("--suite", type=Path, metavar="FOLDER", help="tests/alignment; default: that of the project")
    align.add_argument("--report", type=Path, default=Path("report"), metavar="FOLDER", help="default: report")
    align.add_argument("--badges", type=Path, default=Path("badges"), metavar="FOLDER", help="default: badges")
    align.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="further options go to pytest")
    return top


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
        UsageError, DataError: what is missing, with the line.
    """
    from splinter.ports.splinter import data
    from splinter.ports.splinter.tasks import UsageError

    if options.input is not None:
        name = "standard input" if options.input == "-" else options.input
        with sys.stdin if options.input == "-" else open(options.input, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield data.example_from_json(line, mode, f"{name}, line {number}")
        return
    if options.question is None:
        raise UsageError("nothing asked: give --question with --context, or --input FILE (- for standard input)")
    context = options.context
    if context is None:
        if options.context_file is None:
            raise UsageError("--question needs --context TEXT or --context-file FILE")
        read = sys.stdin.read() if str(options.context_file) == "-" else options.context_file.read_text(encoding="utf-8")
        context = read
    yield data.example("1", options.question, context, mode, "the command line")


def run_predict(options: argparse.Namespace) -> None:
    from splinter.ports.splinter import tasks

    answerer = tasks.open_answerer(_settings(options), options.max_answer_length, options.n_best)
    for example, spans in answerer.answers(_questions(options, answerer.config.mode), stream=options.input == "-"):
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
    from splinter.align import report
    from splinter.datasets import PROJECT
    from splinter.ports.splinter.tasks import UsageError

    suite = options.suite or next(
        (p for p in (Path("tests/alignment"), PROJECT / "tests" / "alignment") if p.is_dir()), None
    )
    if suite is None or not suite.is_dir():
        raise UsageError("no alignment suite here: run inside a clone of the project, or give --suite FOLDER")
    record = options.report / "alignment.json"
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
    if options.command == "align":
        options.rest = [*surplus, *options.rest]
    elif surplus:
        top.error(f"unrecognized arguments: {' '.join(surplus)}")
    if options.no_tune:
        os.environ["SPLINTER_TUNE"] = "0"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        return COMMANDS[options.command](options) or 0
    except KeyboardInterrupt:
        _say("splinter: interrupted; finetune goes on with --resume")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; nothing to report
        return 0
    except Exception as error:
        # what the project raises itself is written for the user; anything else is a fault of the program
        ours = type(error).__module__.split(".")[0] == "splinter"
        if not ours and not isinstance(error, OSError):
            raise
        text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)
        _say(f"splinter {options.command}: {' '.join(text.split())}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
