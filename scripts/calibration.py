#!/usr/bin/env python3
"""Measure how far the probabilities of splinter-mini-qa can be trusted: results/calibration.json.

The dev file is cut in two halves by a hash of the context; no question of one half is on a context of the other. Each
part is written as soon as it is measured. scripts/figures.py writes the tables of splinter/mini-qa/README.md from it.

example:
  python scripts/calibration.py --dev dev-v1.1.json --own docs/questions.csv \\
    --unanswerable dev-v2.0-reconstructed.json \\
    --other new_wiki_v1.0.json.gz reddit_v1.0.json.gz amazon_reviews_v1.0.json.gz && python scripts/figures.py
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from evidence import calibration

from splinter.ports.common import checkpoint
from splinter.ports.common.tasks import environment


def keep(path: Path, about: dict, **part: Any) -> None:
    """Put a part into the record, beside those of the same model that are there."""
    found = checkpoint.read_json(path) if path.exists() else {}
    if any(found.get(key) != about[key] for key in ("sha256", "framework")):
        found = {}
    if "other" in part:
        part = {"other": found.get("other", {}) | part["other"]}
    checkpoint.write_json(path, found | about | part)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", type=Path, metavar="FILE", help="SQuAD's dev file, or another with answers")
    parser.add_argument("--own", type=Path, metavar="FILE", help="questions that are kept with their answers")
    parser.add_argument(
        "--other", type=Path, nargs="+", default=[], metavar="FILE", help="files of other kinds of text; 1,000 of each"
    )
    parser.add_argument(
        "--unanswerable", type=Path, metavar="FILE", help="SQuAD 2.0: 1,000 questions without an answer"
    )
    parser.add_argument("--model", default="splinter-mini-qa", metavar="NAME_OR_FOLDER", help="which model")
    parser.add_argument("--framework", choices=("paddle", "torch"), default="torch")
    parser.add_argument("--output", type=Path, default=calibration.RECORD, metavar="FILE", help="record to write")
    options = parser.parse_args()
    from splinter.ports.splinter import tasks

    try:
        answerer = tasks.open_answerer(tasks.Settings(options.model, options.framework), n_best=1, repeated=True)
        sha256 = checkpoint.fingerprint(checkpoint.resolve(options.model))
        about = {"sha256": sha256, "framework": options.framework, "versions": environment()["versions"]}
        if options.own:
            keep(options.output, about, own=calibration.measure_own(answerer, options.own))
        for file in options.other:
            name = file.name.removesuffix(".gz").removesuffix(".json").removesuffix("_v1.0")
            keep(options.output, about, other={name: calibration.measure_other(answerer, file)})
        if options.unanswerable:
            keep(options.output, about, unanswerable=calibration.measure_unanswerable(answerer, options.unanswerable))
        if options.dev:
            keep(options.output, about, dev=calibration.measure_dev(answerer, options.dev))
    except (OSError, ValueError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
