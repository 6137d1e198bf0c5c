#!/usr/bin/env python3
"""The whole path on the embedded default: build the tiny checkpoint, fine-tune it in Paddle, score it, ask it.

The tiny model starts from random weights and learns 48 questions by heart; it shows that every part works, not
how well Splinter answers. Give another --model for that.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from splinter.cli import main as cli
from splinter.ports.splinter.proof import cases
from splinter.sample import PATH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or hub name; default: the tiny random one")
    parser.add_argument("--steps", type=int, default=140, help="updates (default: 140)")
    options = parser.parse_args()
    train = PATH / "fewshot-train.jsonl"
    lines = train.read_text(encoding="utf-8").splitlines()
    asked = json.loads(lines[1])
    with tempfile.TemporaryDirectory() as folder:
        model, tuned = options.model or str(cases.tiny()), str(Path(folder) / "tuned")
        steps = ["--min-steps", str(options.steps), "--epochs", "1"]
        if not options.model:
            steps += ["--learning-rate", "3e-3", "--head", "fresh"]
        # shorter windows for speed; the sample has questions that the paper's 64 pieces would cut
        sizes = ["--max-length", "256", "--doc-stride", "96", "--max-query-length", "128"]
        for command in (
            ["finetune", "--model", model, "--train", str(train), "--output", tuned, *steps, *sizes],
            ["evaluate", "--model", tuned, "--data", str(PATH / "fewshot-dev.jsonl"), *sizes],
            ["predict", "--model", tuned, "--question", asked["qas"][0]["question"], "--context", asked["context"]],
        ):
            print("$ splinter " + " ".join(a if len(a) < 60 else repr(a[:57] + "...") for a in command), flush=True)
            if code := cli.main(command):
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
