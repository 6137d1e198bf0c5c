#!/usr/bin/env python3
"""Run a recorded experiment: whole trainings in torch and Paddle, written to results/NAME.json run by run.

example:
  python scripts/experiment.py jointbert-atis --work runs --jobs 2
"""

import argparse
import sys
from pathlib import Path

from splinter import experiments
from splinter.ports.common import checkpoint
from splinter.ports.common.training.schedule import PRECISIONS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(experiments.EXPERIMENTS))
    parser.add_argument("--work", type=Path, default=Path("runs"), metavar="FOLDER", help="models (runs)")
    parser.add_argument("--results", type=Path, default=experiments.RESULTS, metavar="FOLDER", help="records (results)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (1)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the experiments that name one (theirs); float32 for a processor without products in bfloat16",
    )
    options = parser.parse_args()
    try:
        work = options.work / options.name
        experiments.run(options.name, work, options.results, options.jobs, precision=options.precision)
    except (OSError, experiments.ExperimentError, checkpoint.CheckpointError) as error:
        print(f"experiment: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
