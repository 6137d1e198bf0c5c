#!/usr/bin/env python3
"""Make the checkpoint that the project ships, splinter/mini, from finished runs of `splinter pretrain`.

Runs are given in the order they were made, each begun from the one before; the last one is shipped. A first run that
began from splinter-mini itself stands behind the recorded runs of that checkpoint. Weights go to float16, and what
held-out text says of them to results/splinter-mini.json.

example:
  python scripts/ship_mini.py pretrained pretrained-again --dev held-out
"""

import argparse
import json
import shlex
import statistics
import sys
from pathlib import Path

from splinter import experiments
from splinter.ports.common import checkpoint
from splinter.ports.common.training.log import LOG
from splinter.ports.common.training.state import RECORD

KEPT = ("start_sha256", "mining", "sources", "updates", "passages", "precision", "dropout", "recipe")
FILE = experiments.RESULTS / "splinter-mini.json"


def command(text: str) -> str:
    """A recorded command as one would type it beside its folders: `splinter` first, of each path its name."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in shlex.split(text)[1:]]
    return shlex.join(["splinter", *(word for word in words if word not in ("--resume", "--quiet"))])


def record(run: Path) -> dict:
    """What belongs to the result: recipe, versions, held-out shares, and the loss of each 100 updates in nats."""
    training = checkpoint.read_json(run / RECORD)
    lines = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    updates = [line for line in lines if "loss" in line]
    return {
        "model": Path(training["model"]).name,
        "command": command(training["environment"]["command"]),
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


def lineage(folders: list[Path]) -> list[dict]:
    """The records of all runs, the first begun from an encoder.

    Raises:
        ValueError: a run did not begin from the one before it.
    """
    shipped = checkpoint.read_json(FILE)
    runs = [record(folder) for folder in folders]
    for before, run, folder in zip(folders, runs[1:], folders[1:], strict=False):
        if run["start_sha256"] != checkpoint.fingerprint(before):
            raise ValueError(f"{folder} did not begin from what {before} holds now; give the runs in their order")
    return [*shipped["runs"], *runs] if runs[0]["start_sha256"] == shipped["sha256"] else runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of splinter pretrain, in order")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="try: model and record go here, not to splinter/mini"
    )
    parser.add_argument("--dev", type=Path, required=True, metavar="FOLDER", help="corpus of held-out text")
    options = parser.parse_args()
    from splinter.ports.common import folders, tasks
    from splinter.ports.splinter.model import SplinterForQuestionAnswering
    from splinter.ports.splinter.pretraining.objective import span_accuracy
    from splinter.ports.splinter.pretraining.tasks import open_corpus

    try:
        runs = lineage(options.runs)
        model = SplinterForQuestionAnswering.from_pretrained(options.runs[-1], mode="hf")
        held_out = open_corpus(options.dev, options.runs[-1], model.config)
        # pretraining knows no segments: what it learnt with the first row holds for the second
        rows = model.bert.embeddings.segment.weight
        rows.set_value(rows[:1].expand_as(rows))
        folder = options.output or checkpoint.MINI_FOLDER
        with folders.alone(folder):
            model.save_pretrained(folder, dtype="float16")
        side = tasks.backend("splinter", "torch")
        scores = span_accuracy(
            side, side.open_pretraining(folder, "cpu", 0.0), held_out, model.config.question_token_id
        )
        found = {"runs": runs, "sha256": checkpoint.fingerprint(folder), "held out": scores}
        checkpoint.write_json(options.output / FILE.name if options.output else FILE, found)
    except (OSError, ValueError, KeyError) as error:
        print(f"ship_mini: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
