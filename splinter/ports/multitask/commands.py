"""The commands of `splinter COMMAND --system multitask`: their options, their help, and what they print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from splinter.align.terminal import printable
from splinter.ports.common import options as shared
from splinter.ports.common.options import Text

from .config import CHOICES, RATES, RECIPE, TASKS
from .feed import SAMPLING

FILES = """data, a folder of the course's files (tab-separated with a header, plain or .gz):
  ids-sst-SPLIT.csv      id, sentence, sentiment (0 to 4); with --sentiment cfimdb: ids-cfimdb-SPLIT.csv (0, 1)
  quora-SPLIT.csv        id, sentence1, sentence2, is_duplicate (0.0 or 1.0); also quora-train-subset.csv
  sts-SPLIT.csv          id, sentence1, sentence2, similarity (0 to 5)
  SPLIT is train, dev or test-student. Rows whose label is no number are dropped, and counted."""
PHASES = """phases:
  pretrain   the encoder is frozen, only the heads learn (rate 1e-3)
  finetune   everything learns (rate 1e-5); from the folder of a pretrain run it goes on with its heads"""

TEXTS = {
    "convert": Text(
        "Reads a BERT in the layout of transformers, or a model of this system. With --head fresh the heads are new.",
        "splinter convert --system multitask run-finetune multitask-model",
    ),
    "finetune": Text(
        f"The epoch with the best mean of the three dev scores is kept.\n\n{FILES}\n\n{PHASES}",
        "splinter finetune --system multitask --model minilm --train cs224n --phase pretrain --output heads\n"
        "  splinter finetune --system multitask --model heads --train cs224n --phase finetune --output run",
    ),
    "evaluate": Text(
        "Prints the accuracy of sentiment and of paraphrase, Pearson's correlation of similarity, their mean, and how\n"
        f"often each class is predicted, as JSON.\n\n{FILES}",
        "splinter evaluate --system multitask --model run --data cs224n --predictions predictions",
    ),
    "predict": Text(
        'Each input line: {"sentence": "A fine film."} for its sentiment, or {"sentence1": "...", "sentence2": "..."}\n'
        'for paraphrase and similarity; "id" is optional. Each line is answered as it comes. With --json,\n'
        '"probability" is always that of a paraphrase.',
        "splinter predict --system multitask --model run 'A film to remember.'\n"
        "  splinter predict --system multitask --model run --pair 'How old are you?' 'What is your age?'",
    ),
}


def add(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a command the options of this system."""
    {"convert": _convert, "finetune": _finetune, "evaluate": _evaluate, "predict": _predict}[command](parser)


def _design(parser: Any) -> None:
    texts = {
        "design": "heads: two layers per pair task, or one (default: the checkpoint's, else version2)",
        "pooling": "what stands for a sentence: the pooler's output or [CLS] (default: the checkpoint's, else pooled)",
        "pair_features": "paraphrase reads u, v, or also |u - v| and u * v (default: the checkpoint's, else concat)",
        "head_activation": "between two layers of a head (default: the checkpoint's, else relu)",
    }
    for name, text in texts.items():
        parser.add_argument(f"--{name.replace('_', '-')}", choices=CHOICES[name], help=text)


def _files(parser: Any, *splits: str) -> None:
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=f"which of {', '.join(TASKS)} (default: all)",
    )
    parser.add_argument(
        "--sentiment", choices=("sst", "cfimdb"), default="sst", help="which sentiment data (default: sst)"
    )
    for task in TASKS:
        for split in splits:
            parser.add_argument(
                f"--{task}-{split}",
                type=shared.path,
                nargs="+",
                metavar="FILE",
                help=f"{split} data of {task}, for files outside the folder or under another name",
            )


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--head",
        choices=("pretrained", "auto", "fresh"),
        default="pretrained",
        help="fresh: new heads (default: pretrained)",
    )
    _design(parser)


def _finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--phase", choices=tuple(RATES), default="finetune", help="which weights learn, see above (default: finetune)"
    )
    parser.add_argument(
        "--head",
        choices=("auto", "fresh"),
        default="auto",
        help="heads to start from: the checkpoint's, or new ones (default: auto, the checkpoint's if it has them, else "
        "new ones)",
    )
    _design(parser)
    parser.add_argument(
        "--encoder-dropout",
        type=shared.share,
        metavar="X",
        help="dropout of BERT itself, in both phases; 0: frozen features have no noise (default: the checkpoint's)",
    )
    _files(parser.add_argument_group("data"), "train", "dev")
    group = parser.add_argument_group("sampling", "An epoch is a number of updates, as the data sets differ in size.")
    group.add_argument(
        "--sampling",
        choices=SAMPLING,
        default="joint",
        help="joint: each update sees a batch of every task; proportional: a batch of one task, drawn by its size "
        "(default: joint)",
    )
    group.add_argument(
        "--alpha",
        type=shared.not_negative,
        default=0.5,
        metavar="X",
        help="proportional: draw by the size to this power (default: 0.5)",
    )
    group.add_argument(
        "--steps-per-epoch",
        type=shared.count,
        default=0,
        metavar="N",
        help="updates per epoch; 0: one pass over the sentiment data, or over the smallest set where there is no "
        "sentiment data (default: 0)",
    )
    group.add_argument(
        "--dev-rows",
        type=shared.count,
        default=0,
        metavar="N",
        help="choose the model by the first N rows of each dev set; 0: by all (default: 0)",
    )
    group = parser.add_argument_group("recipe", "A constant rate; 1e-3 in the phase pretrain unless one is given.")
    shared.add_recipe(group, RECIPE, "rows of each task")
    parser.set_defaults(learning_rate=None)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictions", type=shared.path, metavar="FOLDER", help="also write the course's files of predictions"
    )
    parser.add_argument(
        "--split",
        choices=("dev", "test"),
        default="dev",
        help="test: predict only, for files without labels (default: dev)",
    )
    _files(parser, "dev", "test")
    _batch_size(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sentence", nargs="?", help="a text, for its sentiment")
    parser.add_argument("--pair", nargs=2, metavar="TEXT", help="two texts, for paraphrase and similarity")
    parser.add_argument("--input", type=shared.path, metavar="FILE", help="JSON lines; - for standard input")
    _batch_size(parser)


def _batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=shared.positive, default=64, metavar="N", help="sentences per forward pass (default: 64)"
    )


# -- commands ---------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace):
    from splinter.ports.common.tasks import Settings

    return Settings(**shared.settings_of(options))


def _chosen_files(options: argparse.Namespace, folder: Any, *splits: str):
    from .tasks import Files

    named = {
        (task, split): tuple(found)
        for task in TASKS
        for split in splits
        if (found := getattr(options, f"{task}_{split}")) is not None
    }
    return Files(folder, named, tuple(task for task in TASKS if task in options.tasks), options.sentiment)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


def convert(options: argparse.Namespace) -> str:
    """Convert; returns a line about it."""
    from . import tasks

    changes = {name: getattr(options, name) for name in CHOICES}
    return tasks.convert(options.source, options.output, options.head, options.download, **changes)


def finetune(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Fine-tune; returns the record of the run."""
    from splinter.ports.common.tasks import train

    from .tasks import Choices, Finetuning

    run = shared.run_of(options, RECIPE)
    if options.learning_rate is None:
        run["recipe"] = replace(run["recipe"], learning_rate=RATES[options.phase])
    choices = Choices(
        phase=options.phase,
        head=options.head,
        sampling=options.sampling,
        alpha=options.alpha,
        steps=options.steps_per_epoch,
        dev_rows=options.dev_rows,
        encoder_dropout=options.encoder_dropout,
        **{name: getattr(options, name) for name in CHOICES},
    )
    files = _chosen_files(options, options.train, "train", "dev")
    return train(Finetuning(settings=_settings(options), files=files, choices=choices, **run), say)


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Score; returns the scores."""
    from . import tasks

    files = _chosen_files(options, options.data, "dev", "test")
    return shared.rounded(tasks.evaluate(_settings(options), files, options.split, options.predictions, _say))


def predict(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sentiment, paraphrase and similarity of texts, each as it comes.

    Yields:
        What --json prints of a text or a pair, with the lines for a reader under "lines".
    """
    from splinter.ports.common import UsageError
    from splinter.ports.common.text import existing

    from . import tasks

    given = [options.sentence, options.pair, options.input]
    if sum(one is not None for one in given) != 1:
        raise UsageError("give one of these: a sentence, --pair TEXT TEXT, or --input FILE")
    if options.input is None:
        rows: Any = [("1", (options.sentence,) if options.pair is None else tuple(options.pair))]
    else:
        if str(options.input) != "-":
            existing(options.input, "a file of JSON lines")  # before a model loads
        rows = tasks.asked_rows(options.input)
    yield from tasks.predict(_settings(options), rows)
