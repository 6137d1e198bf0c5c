"""Files in, files out: `write` for a program, `main` for the command line."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..badge import draw
from ..files import write_whole
from ..record import ReportError, read
from ..steps import STEPS
from ..terminal import printable, shortened
from .matrix import matrix
from .page import render
from .verdict import badge


def write(
    alignment_json: str | Path,
    folder: str | Path,
    badges: str | Path | None = None,
    kill_json: str | Path | None = None,
    baseline_json: str | Path | None = None,
    mutants_json: str | Path | None = None,
) -> Path:
    """
    Write folder/index.html and, where `badges` names a folder, badges/STEP.json and STEP.svg for all eleven steps.

    Nothing is written unless everything could be made; each file then appears whole or not at all.

    Args:
        alignment_json: what `--align-json` wrote.
        folder: made if missing.
        badges: made if missing; None writes no badges.
        kill_json: what `--kill-matrix --align-json` wrote; None: the report says nothing of planted bugs.
        baseline_json: an earlier alignment.json to compare with.
        mutants_json: rounds of mutants; None: the report says nothing of them.

    Returns:
        Path of the HTML page.

    Raises:
        ReportError: the input cannot be used; names file and line.
    """
    alignment = read(alignment_json)
    for path, keys in ((kill_json, ("kills", "floors")), (mutants_json, ("mutants",))):
        if path is not None:
            evidence = read(path)
            alignment |= {key: evidence.get(key, []) for key in keys}
    page = Path(folder) / "index.html"
    files = {page: render(alignment, None if baseline_json is None else read(baseline_json))}
    if badges is not None:
        for step in STEPS:
            made = badge(alignment, step)
            files[Path(badges) / f"{step}.json"] = json.dumps(made, indent=2) + "\n"
            files[Path(badges) / f"{step}.svg"] = draw(made)
    for target, text in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, partial(_put, text))
    return page


def _put(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8", errors="replace"))  # JSON may smuggle in half a surrogate pair


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0 written, 2 bad input or no place to write."""
    parser = argparse.ArgumentParser(
        prog="python -m splinter.align.report",
        description="Turn the alignment.json of `pytest --align-json` into an HTML page and badges.",
        epilog="Exit code 0 says that the report was written, not that all steps passed; 2: input or output unusable.",
    )
    parser.add_argument("alignment", type=Path, help="the file that pytest --align-json=FILE wrote")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder for index.html (default: %(default)s)")
    parser.add_argument(
        "--badges",
        type=Path,
        help="folder for STEP.json, shields.io endpoints, and STEP.svg (default: none written)",
    )
    parser.add_argument("--baseline", type=Path, help="an earlier alignment.json; what is worse now is marked")
    parser.add_argument("--kills", type=Path, help="the file that pytest --kill-matrix --align-json=FILE wrote")
    parser.add_argument("--mutants", type=Path, help="rounds of mutants, such as results/mutants.json")
    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in tests
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal lacks most names
    try:
        page = write(args.alignment, args.out, args.badges, args.kills, args.baseline, args.mutants)
        alignment = read(args.alignment)
        print(matrix(alignment | ({"kills": read(args.kills).get("kills", [])} if args.kills else {})), end="")
    except ReportError as error:
        print(f"report: {shortened(printable(str(error), keep=''))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(printable(f"report: cannot write {error.filename}: {error.strerror}"), file=sys.stderr)
        return 2
    print(printable(f"wrote {page}" + (f" and {len(STEPS)} badges in {args.badges}" if args.badges else "")))
    return 0
