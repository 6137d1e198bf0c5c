#!/usr/bin/env python3
"""Run a recorded experiment: whole trainings in torch and Paddle, written to results/NAME.json run by run.

example:
  python scripts/experiment.py jointbert-atis --work runs --jobs 2
"""

import argparse
import sys
from pathlib import Path

from evidence import running
from evidence.experiments import EXPERIMENTS, RESULTS

from splinter.ports.common import checkpoint
from splinter.ports.common.training.schedule import PRECISIONS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(EXPERIMENTS))
    parser.add_argument(
        "--work", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of the models (default: runs)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the records (default: results)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the frameworks for which an experiment names one (default: the experiment's); float32 suits a "
        "processor without products in bfloat16",
    )
    options = parser.parse_args()
    try:
        work = options.work / options.name
        running.run(options.name, work, options.results, options.jobs, precision=options.precision)
    except (OSError, running.ExperimentError, checkpoint.CheckpointError) as error:
        print(f"experiment: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
