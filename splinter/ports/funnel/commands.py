"""The commands of `splinter COMMAND --system funnel`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from splinter.ports.common import UsageError
from splinter.ports.common import options as shared
from splinter.ports.common.options import Text

from .config import PUBLISHED, RECIPES, TASKS, FunnelConfig

RECIPE = RECIPES["classification"]
FILES = """files, plain or .gz; the file name decides the task unless --task is given:
  .tsv   QNLI: a heading, then index, question, sentence, label with tabs between, no quoting
  .json  SQuAD 1.1 or 2.0; where some questions have no answer, the model may say so
  .jsonl MRQA lines, rows of `datasets`, or {"question": ..., "context": ..., "answer": ...}"""
PADDING = "Rows count as padded to --max-length: Funnel pools padding along with the text, so answers may depend on it."

TEXTS = {
    "convert": Text(
        "Reads the layout of transformers (funnel-transformer/small and its like), from model.safetensors or\n"
        "pytorch_model.bin. Every tensor must be there, with the right shape. With --from-scratch the source is a\n"
        "vocab.txt (BERT's uncased one or Funnel's), and the weights are random.",
        "splinter convert --system funnel funnel-transformer/small funnel-small --download\n"
        "  splinter convert --system funnel vocab.txt tiny --from-scratch small --set d_model=128 n_head=2 d_inner=512",
    ),
    "finetune": Text(
        f"Follows the recipe of docs/funnel.md unless options change it.\n\n{FILES}\n\n{PADDING}",
        "splinter finetune --system funnel --model funnel-small --train qnli/train.tsv --output qnli-run",
    ),
    "evaluate": Text(
        f"Prints accuracy, or exact match and F1, in points from 0 to 100, as JSON.\n\n{FILES}\n\n{PADDING}",
        "splinter evaluate --system funnel --model squad-run --data dev-v2.0.json --predictions predictions.json",
    ),
    "predict": Text(
        "For QNLI, whether a sentence holds the answer to a question; for SQuAD, the answer out of a context.\n"
        'Each input line: {"question": "Who wrote it?", "context": "Ann wrote it in 1990.", "id": "optional"}, with\n'
        '"sentence" in place of "context" for QNLI. From standard input, each line is answered as it comes.\n'
        "For SQuAD, --input also takes a file for finetune or evaluate, with or without answers.\n\n"
        f"{PADDING}",
        "splinter predict --system funnel --model qnli-run --question 'Who wrote it?' --sentence 'Ann wrote it.'\n"
        "  cat questions.jsonl | splinter predict --system funnel --model squad-run --input - --json",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command the options of this system."""
    {"convert": _convert, "finetune": _finetune, "evaluate": _evaluate, "predict": _predict}[command](parser)


def _task(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--task", choices=list(TASKS), help=f"which task (default: {default})")


def _rows(parser: argparse.ArgumentParser, trained: str = "as in training, else ") -> None:
    group = parser.add_argument_group("rows", "A context too long for a row is read in overlapping windows.")
    for name, default, text in (
        ("--max-length", "qnli 128, squad 512", "size, in pieces"),
        ("--doc-stride", "128", "squad: overlap"),
        ("--max-query-length", "64", "squad: longest question"),
    ):
        group.add_argument(name, type=shared.positive, metavar="N", help=f"{text} (default: {trained}{default})")


def _convert(parser: argparse.ArgumentParser) -> None:
    _task(parser, "what the checkpoint has a head for, else none")
    parser.add_argument(
        "--head",
        choices=("auto", "pretrained", "fresh"),
        default="auto",
        help="with --task: the checkpoint's, or a new random one (default: auto, the checkpoint's if it has one, else "
        "a new one)",
    )
    group = parser.add_argument_group("new models")
    group.add_argument("--from-scratch", choices=list(PUBLISHED), help="random weights of this published layout")
    group.add_argument(
        "--set", nargs="+", type=_field, default=[], metavar="FIELD=VALUE", help="other sizes, as in config.json"
    )
    group.add_argument(
        "--seed", type=shared.count, default=42, metavar="N", help="seed of the random weights (default: 42)"
    )


def _field(text: str) -> tuple[str, Any]:
    """A field of the configuration and its JSON value."""
    name, equals, value = text.partition("=")
    known = [field.name for field in fields(FunnelConfig) if field.name != "labels"]
    if name not in known or not equals:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FIELD=VALUE with a field of config.json ({', '.join(known)}); a value holds no space, as "
            "in block_sizes=[4,4,4]"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class _ByTask:
    """An argument group in which a default that differs between the tasks is left open, and both are told."""

    def __init__(self, group: Any):
        self.group = group

    def add_argument(self, name: str, **given: Any) -> None:
        key = name.strip("-").replace("-", "_")
        values = [getattr(RECIPES[mode], key) for mode in TASKS.values()]
        if len(set(values)) > 1:
            told = ", ".join(f"{task} {value:g}" for task, value in zip(TASKS, values, strict=True))
            given |= {"default": None, "help": f"{given['help'].rpartition(' (')[0]} (default: {told})"}
        self.group.add_argument(name, **given)


def _finetune(parser: argparse.ArgumentParser) -> None:
    _task(parser, "by the name of the training file")
    _rows(parser, trained="")
    group = parser.add_argument_group("recipe", "The rate rises from 0 to its peak, then falls to 0.")
    group.add_argument(
        "--head",
        choices=("auto", "pretrained", "fresh"),
        default="auto",
        help="the checkpoint's, or a new random one (default: auto, the checkpoint's if it has one, else a new one)",
    )
    shared.add_recipe(_ByTask(group), RECIPE, "rows")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    _task(parser, "by the name of the data file")
    parser.add_argument("--predictions", type=shared.path, metavar="FILE", help="also write id -> label or answer")
    parser.add_argument("--limit", type=shared.positive, metavar="N", help="only the first N rows of the file")
    _rows(parser)
    _answers(parser, "auto: if the file has questions without answer")


def _predict(parser: argparse.ArgumentParser) -> None:
    _task(parser, "what the checkpoint has a head for")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--question", metavar="TEXT", help="one question; needs --sentence, --context or --context-file")
    asked.add_argument("--input", type=shared.path, metavar="FILE", help="questions, see above; - for standard input")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--sentence", metavar="TEXT", help="qnli: the text that may hold the answer")
    given.add_argument("--context", metavar="TEXT", help="squad: the text that holds the answer")
    given.add_argument(
        "--context-file", type=shared.path, metavar="FILE", help="the same from a file; - for standard input"
    )
    parser.add_argument(
        "--n-best", type=shared.positive, default=3, metavar="N", help="squad: answers shown (default: 3)"
    )
    _rows(parser)
    _answers(parser, "auto: no")


def _answers(parser: argparse.ArgumentParser, auto: str) -> None:
    parser.add_argument(
        "--null-answers",
        choices=("auto", "yes", "no"),
        default="auto",
        help=f"squad: allow 'no answer' (default: {auto})",
    )
    parser.add_argument(
        "--null-threshold",
        type=shared.number,
        default=0.0,
        metavar="X",
        help="squad: give no answer when the no-answer odds are above X (default: 0)",
    )
    parser.add_argument(
        "--max-answer-length",
        type=shared.positive,
        default=30,
        metavar="N",
        help="squad: longest answer, in pieces (default: 30)",
    )
    parser.add_argument(
        "--batch-size", type=shared.positive, default=16, metavar="N", help="rows per forward pass (default: 16)"
    )


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from .tasks import Settings

    common = shared.settings_of(options)
    common["batch_size"] = common["batch_size"] or RECIPE.batch_size  # of training: the recipe's, not used here
    return Settings(
        **common,
        task=options.task,
        sizes=shared.sizes_of(options),
    )


def convert(options: argparse.Namespace) -> str:
    """Convert; returns a line about it."""
    from . import tasks

    if options.from_scratch:
        return tasks.from_scratch(
            Path(options.source), options.output, options.from_scratch, dict(options.set), options.seed, options.task
        )
    if options.set:
        raise UsageError("--set changes the sizes of a new model; add --from-scratch LAYOUT")
    return tasks.convert(options.source, options.output, options.task, options.head, options.download)


def finetune(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune; returns the record of the run."""
    from splinter.ports.common.tasks import train

    from .tasks import Finetuning, task_of_file

    recipe = RECIPES[TASKS[task_of_file(options.train, options.task)]]
    return train(
        Finetuning(settings=_settings(options), head=options.head, **shared.run_of(options, recipe)),
        say,
    )


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score; returns the scores."""
    from . import tasks

    scores = tasks.evaluate(
        _settings(options),
        options.data,
        options.predictions,
        options.limit,
        options.max_answer_length,
        options.null_threshold,
        {"auto": None, "yes": True, "no": False}[options.null_answers],
    )
    return shared.rounded(scores)


def predict(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Answer questions, each as it comes.

    Yields:
        What --json prints of a question, with the lines for a reader under "lines".
    """
    from splinter.ports.common.text import existing

    from . import tasks

    texts = (options.sentence, options.context, options.context_file)
    given = any(text is not None for text in texts)
    if given == (options.input is not None):
        raise UsageError(
            "--question needs --sentence TEXT, --context TEXT or --context-file FILE"
            if not given
            else "--input brings its own texts"
        )
    file = options.input or options.context_file
    if file is not None and str(file) != "-":
        existing(file, "a file of JSON lines" if options.input else "a text file")  # before a model loads
    worker = tasks.open_worker(_settings(options))
    if given and (options.sentence is not None) != (worker.mode == "classification"):
        raise UsageError(f"{options.model} is for {worker.mode}; give --sentence for qnli, --context for squad")
    return (_classes if worker.mode == "classification" else _spans)(worker, options)


def _classes(worker, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from . import data

    if options.input is not None:
        pairs = data.read_asked_pairs(options.input)
    else:
        data.refuse_empty(options.question, options.sentence, "the command line", "sentence")
        pairs = iter([data.Pair("1", options.question, options.sentence, None)])
    for pair, shares in worker.classes(pairs, stream=str(options.input) == "-"):
        best = int(shares.argmax())
        probabilities = dict(zip(data.LABELS, shares.tolist(), strict=True))
        lines = [pair.question, f"  {shares[best]:6.1%}  {data.LABELS[best]}: {pair.sentence}"]
        yield {"id": pair.id, "label": data.LABELS[best], "probabilities": probabilities, "lines": lines}


def _spans(worker, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from . import data

    if options.input is not None:
        examples = data.read_examples(options.input, answers=False)
    else:
        context = options.context if options.context is not None else data.read_context(options.context_file)
        data.refuse_empty(options.question, context, "the command line")
        examples = iter([data.Example("1", options.question, context, [], where="the command line")])
    null = options.null_answers == "yes"
    found = worker.answers(examples, null, options.max_answer_length, stream=str(options.input) == "-")
    for example, decoded in found:
        spans = decoded.spans[: options.n_best]
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
        lines = [example.question]
        for span in spans:
            where = "" if span.start_char is None else f"  (characters {span.start_char}-{span.end_char})"
            lines.append(f"  {span.probability:6.1%}  {span.text or '(no answer)'}{where}")
        text = decoded.text(options.null_threshold)
        extra = {"null_odds": decoded.odds} if null else {}
        if null and not text:
            lines.append("  says: no answer")
        yield {"id": example.id, "text": text, **extra, "answers": answers, "lines": lines}
