"""What can be checked, and the options of `splinter prove`; light, for every command of the program reads it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .error import ProveError

if TYPE_CHECKING:
    from ..compare import Tolerance
    from ..weights import Rule, WeightMap

CHECKS = ("weights", "forward", "backward", "dropout", "init", "decode", "export", "compiled")
"""What `prove` compares, in this order."""
STEP = {
    "weights": "forward",
    "dropout": "regularization",
    "decode": "forward",
    "export": "forward",
    "compiled": "forward",
}
"""Of the eleven steps, the one under which a check stands in a report; a check without an entry is a step itself."""
PRECISIONS = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Options:
    """The keyword arguments of `prove`; see there."""

    loss: tuple[Callable, Callable] | None = None
    rules: Sequence[Rule] | WeightMap = ()
    drop: Mapping[str, str] | None = None
    weights: str = "copy"
    outputs: Sequence[str] | Mapping[str, str] | None = None
    skip: str | Sequence[str] = ()
    steps: Sequence[str] | None = None
    dtypes: Sequence[str] = ("float64", "float32")
    tolerance: Tolerance | Mapping[str, Any] | None = None
    optimizer: tuple[Callable, Callable] | None = None
    updates: int = 20
    hostile: bool = True
    export: tuple[Callable, Callable] | bool | None = None
    compiled: Callable[[Any], Any] | bool | None = None
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if self.weights not in ("copy", "check"):
            raise ProveError(f"weights={self.weights!r}: 'copy' (theirs go into ours) or 'check' (both hold them)")
        if unknown := sorted(set(self.steps or ()) - set(CHECKS)):
            raise ProveError(f"steps={list(self.steps or ())}: no {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        if self.updates < 1:
            raise ProveError(f"updates={self.updates}: at least 1; steps= leaves backward out")
        if unknown := sorted(set(self.dtypes) - set(PRECISIONS)):
            raise ProveError(f"dtypes={list(self.dtypes)}: no {', '.join(unknown)}; there are {', '.join(PRECISIONS)}")


TEXT = """Takes a file with theirs() and ours(), which build the models, and batch(), which returns what both are given;
or two classes and a configuration, for random weights. Finds which weights belong together, makes hostile batches, and
runs every check that two models and a batch allow. Ends with exit code 0 where the port is aligned, 1 where it is not,
and 2 where it could not be run."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.py", help="defines theirs(), ours() and batch()")
    parser.add_argument("--theirs", metavar="MODULE:CLASS", help="the original, where no file is given")
    parser.add_argument("--ours", metavar="MODULE:CLASS", help="the port")
    parser.add_argument("--config", type=Path, metavar="JSON", help="configuration of both classes")
    parser.add_argument(
        "--weights",
        choices=("copy", "check"),
        default=None,
        help="copy: theirs go into ours; check: both hold the checkpoint already (default: copy)",
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="names that belong together, * for a layer's number, ^T at the end for a transposed one; "
        "may be given again",
    )
    parser.add_argument("--drop", action="append", default=[], metavar="THEIRS", help="a tensor without a counterpart")
    parser.add_argument("--steps", nargs="+", choices=CHECKS, metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=PRECISIONS,
        metavar="DTYPE",
        help=f"of {', '.join(PRECISIONS)} (default: float64 float32)",
    )
    parser.add_argument("--updates", type=int, metavar="N", help="updates one upon another (default: 20)")
    parser.add_argument("--no-hostile", action="store_true", help="the batches as they are, and no others")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write page, badges, report.md and alignment.json"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table for a pull request")
    parser.add_argument("--write-suite", type=Path, metavar="FOLDER", help="write the proof as tests to keep")
    parser.add_argument("--kill", action="store_true", help="plant faults in the port; tell which checks notice")
