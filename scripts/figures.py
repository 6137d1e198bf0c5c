#!/usr/bin/env python3
"""Write the tables of README from files that runs have left; nothing is typed by hand.

Between `<!-- NAME -->` and `<!-- /NAME -->` in README.md:
  align   worst figure of each step from alignment.json files, beside what a 2021 port reported
  bench   ratios Paddle / torch from a pytest-benchmark JSON file

example:
  tox -e align -- --checkpoint base && tox -e bench -- --benchmark-json=bench.json
  python scripts/figures.py --align report/alignment.json --bench bench.json
"""

import argparse
import json
import re
import sys
from pathlib import Path

from splinter.align.steps import STEPS
from splinter.align.weights import write_whole

README = Path(__file__).parents[1] / "README.md"

# ncpaddle/splinter-paddlepaddle at 09cc9f5, as its logs and write-up print them
EARLIER = {
    "forward": "encoder 3.27e-07, logits 1.09e-03 (means)",
    "dev_data": "0.0, but a file compared with itself",
    "metric": "0.0",
    "loss": "4.77e-07 random, 4.10e-05 model",
    "lr": "0.0",
    "optimizer": "no figure of its own",
    "regularization": "no figure; LayerNorm decayed unnoticed",
    "backward": "2.00e-03 (log: 3.08e-03, failed)",
    "train_data": "0.0, one batch of ids",
    "init": "no check (a copied number)",
    "training": "F1 54.40 / 72.63 / 82.89 (claims 55.62)",
}


def align_table(paths: list[Path]) -> str:
    """One row per step: the worst of all modes, by precision."""
    latest = {}  # a case that stands in several files counts once, as the last file has it
    for path in paths:
        for r in json.loads(path.read_text(encoding="utf-8"))["results"]:
            if r["system"] == "splinter" and r["verdict"] != "skipped":
                latest[r["mode"], r["step"], r["checkpoint"], r["dtype"]] = r
    results = list(latest.values())
    rows = [
        "| step | 2021 port | here, float64 or exact | here, float32 | numbers compared | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for step in STEPS:
        mine = [r for r in results if r["step"] == step]
        cells = [
            _worst([r for r in mine if r["dtype"] != "float32"]),
            _worst([r for r in mine if r["dtype"] == "float32"]),
        ]
        count = sum(r["values"] for r in mine)
        verdict = "passed" if mine and all(r["verdict"] == "passed" for r in mine) else "not passed"
        rows.append(f"| {step} | {EARLIER[step]} | {cells[0]} | {cells[1]} | {count:,} | {verdict} |")
    sizes = sorted({r["checkpoint"] for r in results})
    return "\n".join([*rows, "", f"Checkpoints: {', '.join(sizes)}; modes: hf, paper."])


def _worst(results: list[dict]) -> str:
    """Largest error relative to its tensor, over all tensors that are held to a tolerance."""
    if not results:
        return ""
    if results[0]["dtype"] == "statistics" or results[0]["step"] == "init":
        room = min(r["headroom"] for r in results if r["headroom"])
        return f"KS distance {1 / room:.2f} of critical"
    tensors = [
        (t["max_rel"], t["max_abs"], t["name"])
        for r in results
        for t in r["tensors"]
        if t["allowed"] or not t["passed"]
    ]
    if results[0]["step"] == "regularization":
        tensors = [t for t in tensors if t[2].startswith("factor")]
    tensors = [t for t in tensors if not re.search(r"key\.bias|cls\.(start|end)\.norm\.bias", t[2])]
    if not tensors or max(tensors)[0] == 0:
        return "0.0"
    relative, absolute, name = max(tensors)
    return f"{relative:.1e} relative ({absolute:.1e}, `{name.rpartition('/')[2]}`)"


def bench_table(path: Path) -> str:
    """Medians by group, as a ratio to torch or transformers."""
    groups: dict[str, dict[str, float]] = {}
    for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]:
        side = "theirs" if ("torch" in one["name"] or "transformers" in one["name"]) else "ours"
        groups.setdefault(one["group"], {})[side] = one["stats"]["median"]
    rows = ["| what | ours, s | torch / transformers, s | ratio |", "|---|---|---|---|"]
    for group, times in groups.items():
        if len(times) == 2:
            ratio = times["ours"] / times["theirs"]
            rows.append(f"| {group} | {times['ours']:.3f} | {times['theirs']:.3f} | {ratio:.2f} |")
    return "\n".join(rows)


def insert(text: str, name: str, table: str) -> str:
    """Replace what stands between the two markers.

    Raises:
        ValueError: README has no such markers.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"README.md has no place for {name}: add <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--align", type=Path, nargs="+", default=[], metavar="JSON", help="from --align-json")
    parser.add_argument("--bench", type=Path, metavar="JSON", help="from --benchmark-json")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    try:
        if options.align:
            text = insert(text, "align", align_table(options.align))
        if options.bench:
            text = insert(text, "bench", bench_table(options.bench))
    except (OSError, ValueError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    write_whole(README, lambda file: file.write(text), "w")
    return 0


if __name__ == "__main__":
    sys.exit(main())
