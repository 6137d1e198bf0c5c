#!/usr/bin/env python3
"""Make the checkpoint that the project ships, splinter/mini, from a finished run of `splinter pretrain`.

Weights go to float16, and what held-out text says of them to results/splinter-mini.json.

example:
  python scripts/ship_mini.py pretrained --dev held-out
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from splinter import experiments
from splinter.ports import checkpoint
from splinter.ports.recipe import LOG
from splinter.ports.tasks import RECORD

KEPT = ("model", "corpus", "updates", "passages", "precision", "dropout", "recipe")


def record(run: Path) -> dict:
    """What belongs to the result: recipe, versions, held-out shares, and the loss of each 100 updates in nats."""
    training = checkpoint.read_json(run / RECORD)
    lines = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    updates = [line for line in lines if "loss" in line]
    return {
        **{key: training[key] for key in KEPT if key in training},
        "versions": training["environment"]["versions"],
        "seconds_per_update": round(statistics.median(line["seconds"] for line in updates), 3),
        # the median: a question whose answer lies in a hole costs 10,000 nats, in the authors' rules as here
        "losses": [
            {
                "step": begin + 100,
                "median": round(statistics.median(one["loss"] for one in updates[begin : begin + 100]), 4),
            }
            for begin in range(0, len(updates) - 99, 100)
        ],
        "dev": [{"step": line["step"], **line["dev"]} for line in lines if "dev" in line],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of splinter pretrain")
    parser.add_argument("--output", type=Path, default=checkpoint.MINI_FOLDER, metavar="FOLDER", help="(splinter/mini)")
    parser.add_argument("--dev", type=Path, required=True, metavar="FOLDER", help="corpus of held-out text")
    options = parser.parse_args()
    from splinter.ports import tasks
    from splinter.ports.splinter.corpus import Corpus
    from splinter.ports.splinter.model import SplinterForQuestionAnswering
    from splinter.ports.splinter.pretraining import span_accuracy

    try:
        found = record(options.run)
        model = SplinterForQuestionAnswering.from_pretrained(options.run, mode="hf")
        # pretraining knows no segments: what it learnt with the first row holds for the second
        rows = model.bert.embeddings.segment.weight
        rows.set_value(rows[:1].expand_as(rows))
        model.save_pretrained(options.output, dtype="float16")
        side = tasks.backend("splinter", "torch")
        shipped = side.open_pretraining(options.output, "cpu", 0.0)
        scores = span_accuracy(side, shipped, Corpus(options.dev), model.config.question_token_id)
        found |= {"sha256": checkpoint.fingerprint(options.output), "held out": scores}
        checkpoint.write_json(experiments.RESULTS / "splinter-mini.json", found)
    except (OSError, ValueError, KeyError) as error:
        print(f"ship_mini: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
