#!/usr/bin/env python3
"""Make the checkpoint that answers at once, splinter/mini-qa, from a finished run of `splinter finetune --dev`.

The shipped one saw a part of SQuAD's training set, 12,105 questions (the first twelve articles, and those of the
few-shot samples): all that was at hand. Weights go to float16. What both frameworks score with them on a file of
questions, and how the run went, goes to results/splinter-mini-qa.json.

example:
  python scripts/split_squad.py part-of-train-v1.1.json --unseen dev-v1.1.json --train qa-train.json \\
    --held-out qa-held-out.json
  splinter finetune --framework torch --precision bf16 --model splinter-mini --train qa-train.json \\
    --dev qa-held-out.json --output qa --epochs 2 --min-steps 0 --learning-rate 1e-4 --batch-size 12 --micro-batch 3
  python scripts/ship_mini_qa.py qa --dev dev-v1.1.json
"""

import argparse
import sys
from pathlib import Path

import ship_mini

from splinter import experiments
from splinter.align.files import write_whole
from splinter.ports.common import checkpoint
from splinter.ports.common.training.state import RECORD

FILE = experiments.RESULTS / "splinter-mini-qa.json"
KEPT = ("examples", "windows", "recipe", "framework", "precision", "mode", "sizes", "start_sha256", "best", "updates")
SCORES = ("exact", "f1", "total")


def record(run: Path) -> dict:
    """What belongs to the result: recipe, versions, held-out scores, and the loss of each 100 updates in nats."""
    training, told = checkpoint.read_json(run / RECORD), ship_mini.record(run)
    said = {key: told[key] for key in ("command", "versions", "seconds_per_update", "losses")}
    return {**said, **{key: training[key] for key in KEPT}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of splinter finetune --dev")
    parser.add_argument("--dev", type=Path, required=True, metavar="FILE", help="questions that nothing was chosen by")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="try: model and record go here, not to splinter/mini-qa"
    )
    options = parser.parse_args()
    from splinter.ports.common.folders import alone
    from splinter.ports.splinter import tasks

    folder = options.output or checkpoint.MINI_QA_FOLDER
    try:
        found = {"run": record(options.run)}
        made = checkpoint.scratch("mini-qa")
        print(tasks.convert(str(options.run), made, dtype="float16"))
        with alone(folder):  # beside the model card, over an older model
            for path in made.iterdir():
                write_whole(folder / path.name, lambda file, path=path: file.write(path.read_bytes()))
        found |= {"sha256": checkpoint.fingerprint(folder), "file": options.dev.name, "scores": {}}
        for framework in experiments.FRAMEWORKS:
            settings = tasks.Settings(str(folder), framework, progress=sys.stderr.isatty())
            scores = tasks.evaluate(settings, options.dev)
            found["scores"][framework] = {key: scores[key] for key in SCORES}
            print(framework, found["scores"][framework], flush=True)
        checkpoint.write_json(folder / FILE.name if options.output else FILE, found)
    except (OSError, ValueError, KeyError) as error:
        print(f"ship_mini_qa: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
