#!/usr/bin/env python3
"""Write the tables of README and docs from files that runs have left; nothing is typed by hand.

Always written, from results/*.json:
  badges, evidence      README.md, with docs/badges/*.svg and docs/report.svg
  kill                  docs/evidence.md: the kill matrix by step, and the smallest errors noticed
  zoo                   docs/zoo.md: ports that nobody here wrote, under prove
  trainings, few-shot   docs/trainings.md: both frameworks side by side; splinter-mini beside other starts
  reliability, ...      splinter/mini-qa/README.md: how far to trust a probability
From files that an option names:
  --steps   keeps a full run of the eleven steps in results/steps.json, from which badges and picture are drawn
  --kill    keeps a kill matrix in results/kill.json
  --align   docs/evidence.md: the worst figure of each step and system, beside what earlier ports reported
  --bench   docs/speed.md: ratios Paddle / torch from JSON files of pytest-benchmark
  --plots   few-shot.svg and pretraining.svg; needs matplotlib: pip install -e '.[align,figures]'

example:
  pytest tests/alignment/test_steps.py -n 2 -m "not base" --align-json=report/steps.json
  python scripts/figures.py --steps report/steps.json
  tox -e align -- --checkpoint base && python scripts/figures.py --align report/alignment.json
  tox -e bench -- --checkpoint base --benchmark-json=bench.json && python scripts/figures.py --bench bench.json
  tox -e zoo -- --zoo-json=results/zoo.json && tox -e zoo-formers -- --zoo-json=results/zoo.json &&
    python scripts/figures.py
  tox -e kill && python scripts/figures.py --kill report/kill.json
"""

import argparse
import json
import sys
from pathlib import Path

from evidence import documents, plots, proof, tables
from evidence.experiments import RESULTS, read

from splinter.align.files import write_whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=Path, metavar="JSON", help="from --align-json: a full run of the eleven steps")
    parser.add_argument("--kill", type=Path, metavar="JSON", help="from --kill-matrix --align-json")
    parser.add_argument("--align", type=Path, nargs="+", default=[], metavar="JSON", help="from --align-json")
    parser.add_argument("--bench", type=Path, nargs="+", default=[], metavar="JSON", help="from --benchmark-json")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="folder for the plots")
    options = parser.parse_args()
    try:
        if options.steps:
            write(proof.RECORD, proof.dumped(proof.kept(options.steps)))
        if options.kill:
            write(documents.KILLS, json.dumps(tables.kill_record(options.kill), indent=1) + "\n")
        made = documents.recorded()
        if options.align:
            made["align"] = tables.align_table(options.align)
        if options.bench:
            made["bench"] = tables.bench_table(options.bench)
        for path, text in {**documents.written(made), **documents.drawn()}.items():
            write(path, text)
        if options.plots:
            plots.few_shot(RESULTS, options.plots / "few-shot.svg")
            if read("pretraining")["runs"]:
                plots.curves("pretraining", RESULTS, options.plots / "pretraining.svg")
    except (OSError, ValueError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    return 0


def write(path: Path, text: str) -> None:
    """A whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(text), "w")


if __name__ == "__main__":
    sys.exit(main())
