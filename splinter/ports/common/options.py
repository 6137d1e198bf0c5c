"""Options that the commands of all systems share: kinds of values, the model, the recipe, the run."""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .training.schedule import Recipe

LARGEST = 2**32 - 1  # as seeds go; nobody needs more of anything else
DEVICES = r"auto|cpu|gpu(:\d{1,4})?"


class Text(NamedTuple):
    """What the help of a command says of one system: a text, and one complete example."""

    text: str
    example: str


def _number(text: str, kind: type, least: float, most: float, expected: str) -> Any:
    try:
        number = kind(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:  # so is nan refused
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return number


def positive(text: str) -> int:
    """A whole number from 1."""
    return _number(text, int, 1, LARGEST, f"a whole number from 1 to {LARGEST}")


def processes(text: str) -> int:
    """A number of processes that a machine may bear."""
    return _number(text, int, 1, 4096, "a whole number from 1 to 4096")


def count(text: str) -> int:
    """A whole number from 0."""
    return _number(text, int, 0, LARGEST, f"a whole number from 0 to {LARGEST}")


def share(text: str) -> float:
    """A number from 0 to below 1."""
    return _number(text, float, 0, math.nextafter(1, 0), "a number from 0 to below 1")


def probability(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, 0, 1, "a number from 0 to 1")


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    return _number(text, float, 0, sys.float_info.max, "a number of 0 or more")


def number(text: str) -> float:
    """Any finite number."""
    return _number(text, float, -sys.float_info.max, sys.float_info.max, "a number")


def device(text: str) -> str:
    """auto, cpu, gpu or gpu:N."""
    if not re.fullmatch(DEVICES, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, gpu or gpu:NUMBER")
    return text


def path(text: str) -> Path:
    """A path that may exist or not."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no path")
    return Path(text)


def model_name(text: str) -> str:
    """A folder or a hub name."""
    return str(path(text))


def add_download(parser: argparse.ArgumentParser) -> None:
    """Whether the network may be used."""
    parser.add_argument(
        "--download", action="store_true", help="download a hub name (default: read only the local cache)"
    )


def add_model(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Options of every command that runs a model.

    Args:
        default: the model to run where none is named; None: one must be.
    """
    known = "checkpoint folder, hub name, splinter-mini-qa (answers at once), splinter-mini or minilm"
    parser.add_argument(
        "--model",
        type=model_name,
        default=default,
        required=default is None,
        metavar="NAME_OR_FOLDER",
        help=known + (f" (default: {default})" if default else ""),
    )
    parser.add_argument(
        "--framework", choices=("paddle", "torch"), default="paddle", help="framework that computes (default: paddle)"
    )
    parser.add_argument(
        "--device", type=device, default="auto", help="cpu, gpu or gpu:N (default: auto, a GPU where there is one)"
    )
    add_download(parser)


def add_run(parser: argparse.ArgumentParser, train: str, option: str = "--train", save_every: int = 50) -> None:
    """Options of a run that trains: what on, where to, and going on after an interruption.

    Args:
        train: help for `option`, whose value is stored as `train`.
        save_every: default.
    """
    parser.add_argument(option, dest="train", type=path, required=True, metavar="PATH", help=train)
    parser.add_argument("--output", type=path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run; the result is the same")
    parser.add_argument(
        "--save-every",
        type=positive,
        default=save_every,
        metavar="N",
        help=f"updates per checkpoint (default: {save_every})",
    )


def add_skip_bad(parser: argparse.ArgumentParser) -> None:
    """Whether bad examples stop a command."""
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave bad examples out, and tell of them (default: stop with all)"
    )


def add_recipe(parser: Any, recipe: Recipe, rows: str = "examples") -> None:
    """Hyperparameters, with the defaults of a recipe."""

    def add(name: str, kind: Any, metavar: str, text: str) -> None:
        default = getattr(recipe, name.strip("-").replace("-", "_"))
        shown = f"{default:g}" if isinstance(default, float) else default
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {shown})")

    add("--seed", count, "N", "seed of the order of batches, of dropout and of new weights")
    add("--learning-rate", not_negative, "RATE", "learning rate at its peak")
    add("--batch-size", positive, "N", f"{rows} per update")
    add("--epochs", positive, "N", "passes over the data")
    add("--min-steps", count, "N", "train for at least N updates")
    add("--max-steps", count, "N", "stop after N updates, with the same schedule; 0: no limit")
    add("--warmup", share, "SHARE", "share of the updates in which the rate rises to its peak")
    add("--weight-decay", not_negative, "X", "weight decay, of matrices only")


def add_micro_batch(group: Any, rows: str) -> None:
    """How many rows go through the model at a time."""
    group.add_argument(
        "--micro-batch",
        type=positive,
        default=0,
        metavar="N",
        help=f"{rows} that go through the model at once; saves memory; without dropout the result is the same "
        "(default: all)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """The precision of matrix products."""
    from .training.schedule import PRECISIONS

    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="bf16: matrix products in bfloat16 (default: float32)",
    )


def recipe_of(options: argparse.Namespace, recipe: Recipe) -> Recipe:
    """The recipe with what the options say; None: they leave it open."""
    from dataclasses import fields, replace

    given = {f.name: getattr(options, f.name, None) for f in fields(recipe)}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def run_of(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """The fields of `tasks.Training` but its settings."""
    return {
        "train": options.train,
        "output": options.output,
        "recipe": recipe_of(options, recipe),
        "resume": options.resume,
        "save_every": options.save_every,
    }


def sizes_of(options: argparse.Namespace) -> dict[str, int]:
    """The sizes of rows that are asked for."""
    names = ("max_length", "doc_stride", "max_query_length")
    return {name: size for name in names if (size := getattr(options, name)) is not None}


def rounded(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores for a reader: six digits behind the point, so 55.00000000000001 is 55.0.

    A threshold keeps all digits: it is to be given to an option, and decides between equal scores.
    """
    return {
        name: round(score, 6) if isinstance(score, float) and not name.endswith("thresh") else score
        for name, score in scores.items()
    }


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `tasks.Settings`."""
    return {
        "model": options.model,
        "framework": options.framework,
        "device": options.device,
        "download": options.download,
        "batch_size": options.batch_size,
        "progress": not options.quiet and sys.stderr.isatty(),
    }
