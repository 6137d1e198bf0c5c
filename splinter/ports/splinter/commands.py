"""The commands of `splinter COMMAND --system splinter`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from splinter.ports.common import options as shared
from splinter.ports.common.options import Text
from splinter.ports.common.training.schedule import Recipe

if TYPE_CHECKING:  # help does without
    from splinter.ports.common.squad import Refused

    from .answering import Answer
    from .data import Check, Example
    from .tasks import Reply

RECIPE = Recipe()
READY = "splinter-mini-qa"
"""The model that `predict` asks where none is named."""
MODES = """modes:
  hf     behaves as transformers does with the published checkpoints: raw text, answers of up to 30 word pieces
  paper  behaves as the authors' few-shot code: MRQA tokens, answers of up to 10 word pieces"""
FILES = """files, plain or .gz; the content decides the layout:
  MRQA JSON lines, as in the few-shot archive (with or without _qass), or SQuAD JSON 1.1 and 2.0;
  rows of `datasets`, or {"question": ..., "context": ..., "answer": ...}, as JSON lines or in a list;
  a table (CSV) with the columns question, context and answer; the answer is looked up in its context;
  sample: the examples that come with the project"""

TEXTS = {
    "convert": Text(
        "Reads the layout of transformers (tau/splinter-base-qass and its like) or the authors' own, from\n"
        "model.safetensors or pytorch_model.bin; with --head fresh also a plain BERT, to pretrain. Every tensor must\n"
        "be there, with the right shape.\n\n" + MODES,
        "splinter convert tau/splinter-base-qass splinter-base --download",
    ),
    "finetune": Text(
        f"Follows the paper's few-shot recipe unless options change it.\n\n{FILES}\n\n{MODES}",
        "splinter finetune --model splinter-base --train squad-train-seed-42-num-examples-16_qass.jsonl --output run16",
    ),
    "evaluate": Text(
        f"Prints exact match and F1, in points from 0 to 100, as JSON.\n\n{FILES}\n\n{MODES}",
        "splinter evaluate --model run16 --data dev-v1.1.json --predictions predictions.json",
    ),
    "predict": Text(
        'Each input line: {"question": "Who wrote it?", "context": "Ann wrote it in 1990.", "id": "optional"}.\n'
        "--input also takes a file for finetune or evaluate, with or without answers. From standard input, each line\n"
        "is answered as it comes. An answer is a piece of its context; characters are counted from 0, the end is\n"
        "exclusive. Its probability is among all that could be answered from the text: what a model believes, not\n"
        f"how often it is right.\n\n{MODES}",
        "splinter predict --question 'Who wrote it?' --context 'Ann wrote it in 1990.'\n"
        "  cat questions.jsonl | splinter predict --model run16 --input - --json",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command the options of this system."""
    {"convert": _convert, "finetune": _finetune, "evaluate": _evaluate, "predict": _predict}[command](parser)


def _windows(parser: argparse.ArgumentParser, mode_default: str, trained: str = "as in training, else ") -> None:
    parser.add_argument(
        "--mode", choices=("hf", "paper"), help=f"which behaviour to follow, see above (default: {mode_default})"
    )
    group = parser.add_argument_group("windows", "A context too long for the model is read in overlapping windows.")
    for name, default, text in (
        ("--max-length", 384, "size, in pieces"),
        ("--doc-stride", 128, "paper: from start to start; hf: overlap"),
        ("--max-query-length", 64, "paper: longest question, in pieces"),
    ):
        group.add_argument(name, type=shared.positive, metavar="N", help=f"{text} (default: {trained}{default})")


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode", choices=("hf", "paper"), help="behaviour to record (default: the checkpoint's, else hf)"
    )
    parser.add_argument(
        "--head",
        choices=("pretrained", "fresh", "matching", "plain"),
        default="pretrained",
        help="fresh: a new random span selection head. matching: a new head that starts by comparing the question with "
        "each token, for short pretraining. plain: a new head that ignores the question, as a baseline (mode paper "
        "only). (default: pretrained)",
    )
    parser.add_argument(
        "--encoder",
        choices=("pretrained", "fresh"),
        default="pretrained",
        help="fresh: random encoder weights; needs a new --head (default: pretrained)",
    )
    parser.add_argument(
        "--seed", type=shared.count, default=42, metavar="N", help="seed of fresh weights (default: 42)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="float16: half the size (default: float32)"
    )


def _finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dev", type=shared.path, metavar="PATH", help="held-out data; the epoch with the best F1 on it is saved"
    )
    shared.add_skip_bad(parser)
    shared.add_precision(parser)
    _windows(parser, "paper", trained="")
    group = parser.add_argument_group(
        "recipe", "The rate rises from 0 to its peak, then falls to 0; defaults are those of the paper."
    )
    group.add_argument(
        "--head",
        choices=("auto", "pretrained", "fresh"),
        default="auto",
        help="span selection head: the checkpoint's, or a new random one (default: auto, the checkpoint's if it has "
        "one, else a new one)",
    )
    shared.add_recipe(group, RECIPE, "windows")
    shared.add_micro_batch(group, "mode paper: windows of similar length")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", type=shared.path, metavar="FILE", help="also write question id -> text")
    shared.add_skip_bad(parser)
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--limit", type=shared.positive, metavar="N", help="only the first N questions")
    some.add_argument("--sample", type=shared.positive, metavar="N", help="only N questions, always the same ones")
    _windows(parser, "the checkpoint's")
    _answers(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; needs --context or --context-file")
    asked.add_argument("--input", type=shared.path, metavar="FILE", help="questions, see above; - for standard input")
    shared.add_skip_bad(parser)
    context = parser.add_mutually_exclusive_group()
    context.add_argument("--context", metavar="TEXT", help="the text that holds the answer")
    context.add_argument(
        "--context-file", type=shared.path, metavar="FILE", help="the same from a file; - for standard input"
    )
    parser.add_argument(
        "--n-best", type=shared.positive, default=3, metavar="N", help="answers shown, at most 20 (default: 3)"
    )
    parser.add_argument(
        "--min-probability",
        type=shared.probability,
        default=0.0,
        metavar="P",
        help="show no answer with less, 0 to 1; the model card of splinter-mini-qa tells what this costs (default: 0)",
    )
    _windows(parser, "the checkpoint's")
    _answers(parser)


def _answers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-answer-length",
        type=shared.positive,
        metavar="N",
        help="longest answer (default: 10 pieces in mode paper, 30 in mode hf)",
    )
    parser.add_argument(
        "--batch-size", type=shared.positive, default=16, metavar="N", help="windows per forward pass (default: 16)"
    )


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from .tasks import Settings

    return Settings(
        **shared.settings_of(options),
        mode=options.mode,
        sizes=shared.sizes_of(options),
    )


def convert(options: argparse.Namespace) -> str:
    """Convert; returns a line about it."""
    from . import tasks

    o = options
    return tasks.convert(o.source, o.output, o.mode, o.head, o.encoder, o.seed, o.download, o.dtype)


def finetune(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune; returns the record of the run."""
    from splinter.ports.common.tasks import train

    from .tasks import Finetuning

    return train(
        Finetuning(
            settings=_settings(options),
            head=options.head,
            precision=options.precision,
            dev=options.dev,
            skip_bad=options.skip_bad,
            **shared.run_of(options, RECIPE),
        ),
        say,
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score; returns the scores."""
    from . import tasks

    o = options
    which = o.limit, o.sample, o.skip_bad
    scores = tasks.evaluate(_settings(o), o.data, o.predictions, o.max_answer_length, *which)
    return shared.rounded(scores)


def _questions(options: argparse.Namespace, mode: str, bad: Refused, check: Check) -> Iterator[Example]:
    """The questions of the command line, a file or standard input, as examples.

    Args:
        bad, check: see `data.read_examples`.

    Raises:
        DataError: what is missing, with the line.
    """
    from . import data

    if options.input is not None:
        return data.read_questions(options.input, mode, bad, check)
    context = options.context if options.context is not None else data.read_context(options.context_file)
    return iter([data.example("1", options.question, context, mode, "the command line")])


def predict(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Answer questions, each as it comes.

    Yields:
        What --json prints of a question, with the lines for a reader under "lines", and under "notes" those for
        standard error; notes alone at the end.
    """
    from splinter.ports.common import UsageError
    from splinter.ports.common.squad import FILE, SKIP_BAD, Refused
    from splinter.ports.common.text import existing

    from . import tasks

    given = options.context is not None or options.context_file is not None
    if given == (options.input is not None):
        raise UsageError(
            "--question needs --context TEXT or --context-file FILE" if not given else "--input brings its own contexts"
        )
    stream, file = str(options.input) == "-", options.input or options.context_file
    if file is not None and str(file) != "-":
        existing(file, FILE if options.input else "a text file")  # before a model loads
    answerer = tasks.open_answerer(_settings(options), options.max_answer_length, options.n_best)
    foreign: set[str] = set()  # contexts that were warned of
    bad = Refused(leave_out=options.skip_bad, option=SKIP_BAD)
    for reply in answerer.ask(_questions(options, answerer.config.mode, bad, answerer.fits), stream=stream):
        sure = [one for one in reply.answers if one.probability >= options.min_probability]
        if sure[:1] != reply.answers[:1]:  # the first answer is the model's, however many are shown
            sure = []
        yield {
            "id": reply.example.id,
            "answers": [asdict(one) for one in sure],
            "lines": [reply.example.question.removesuffix(" [MASK]."), *_lines(reply.answers, sure)],
            "notes": _notes(reply, foreign),
        }
    if bad.count:
        yield {"notes": bad.lines}


def _lines(found: Sequence[Answer], sure: Sequence[Answer]) -> list[str]:
    """Answers for a reader."""
    from .answering import percent

    if sure:
        return [f"  {percent(one.probability):>6}  {_line(one)}  (characters {one.start}-{one.end})" for one in sure]
    if found:
        return [f"  no answer: the best one has {percent(found[0].probability)} ({_line(found[0])})"]
    return ["  no answer: none was found in the text"]


def _line(found: Answer) -> str:
    """Its text in one line."""
    return " ".join(found.text.split())


TOLD = 10
"""Contexts that a reader is warned of, one line each."""


def _notes(reply: Reply, foreign: set[str]) -> list[str]:
    """A warning of a context that the vocabulary hardly reads, once."""
    from .answering import UNREADABLE

    if reply.unread < UNREADABLE or reply.example.context in foreign or len(foreign) == TOLD:
        return []
    foreign.add(reply.example.context)
    line = f"{reply.example.where}: the model cannot read much of this text, do not trust its answers: "
    line += f"{reply.unread:.0%} of the word pieces are [UNK] or single letters inside of words"
    return [line + "; no more such texts are told" * (len(foreign) == TOLD)]
