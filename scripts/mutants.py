#!/usr/bin/env python3
"""Change the source of the port side at random, one small change at a time, and see whether a step turns red.

Results go to report/mutants/SEED.jsonl, one a line; the same command goes on where it stopped, as long as no source has
changed. Data of SPLINTER_DATA is not used: the shipped samples alone are.

example:
  python scripts/mutants.py --seed 1 --count 100
  python scripts/mutants.py --again
  python scripts/mutants.py --coverage
"""

import argparse
import itertools
import json
import os
import signal
import sys
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy: a process with threads is not one to fork
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what a driver starts does not survive a fork either
os.environ.pop("SPLINTER_DATA", None)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["SPLINTER_KERNELS"] = "0"  # as in the steps: what is changed is the Python that they replace

from evidence import mutants, rounds  # noqa: E402
from tqdm import tqdm  # noqa: E402

from splinter.align.files import write_whole  # noqa: E402
from splinter.align.record import read  # noqa: E402
from splinter.align.rounds import counted  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="how many mutants (default: 100)")
    parser.add_argument(
        "--again",
        action="store_true",
        help="try the survivors of results/mutants.json that are neither equivalent nor outside, and stop",
    )
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="write the lines that no step executes, and stop; red where one has no reason",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="write the round to results/mutants.json, where each survivor gets its verdict",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report/mutants"), metavar="FOLDER", help="default: report/mutants"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that forks are ended as well
    tqdm.monitor_interval = 0  # its thread would be in the way of forks
    try:
        baseline = mutants.measured(options.out / "baseline.json", lambda some, n: tqdm(some, "baseline", n))
        if options.coverage:
            return coverage(baseline, options.out / "coverage.txt")
        return again(baseline) if options.again else go(baseline, options)
    except (OSError, mutants.MutantError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2


def coverage(baseline: mutants.Baseline, path: Path) -> int:
    """The lines that no step executes, by file and function; red where one has no reason, or a reason has no line."""
    found, lines = mutants.unexecuted(baseline), []
    for file, functions in found.items():
        lines.append(file)
        lines += [f"  {name or '(no function)'}: {', '.join(map(str, some))}" for name, some in functions.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {path}: {sum(len(some) for one in found.values() for some in one.values())} lines")
    for what, names in zip(("no reason for", "no line needs the reason for"), mutants.reasons(found), strict=True):
        for name in names:
            print(f"{what} {name}", file=sys.stderr)
    return 1 if any(mutants.reasons(found)) else 0


def again(baseline: mutants.Baseline) -> int:
    """Which recorded survivors a step notices by now."""
    ground = mutants.Ground(baseline)
    records = [one for each in read(rounds.RECORD)["mutants"] for one in each["survivors"]]
    found = [ground.again(one) for one in records if one["verdict"] not in ("equivalent", "outside")]
    waiting = [one for one in found if one]
    print(f"{len(waiting)} survivors; {len(found) - len(waiting)} more are no longer in the sources")
    survived = 0
    for one in tqdm(mutants.tried(ground, waiting), "mutants", len(waiting)):
        survived += not one["red"]
        tqdm.write(survivor(one) if not one["red"] else f"{one['file']}:{one['line']} {one['operator']}: {one['red']}")
    return 1 if survived else 0


def go(baseline: mutants.Baseline, options: argparse.Namespace) -> int:
    """Draw mutants, leave out those that have a result, try the others."""
    path = options.out / f"{options.seed}.jsonl"
    ground = mutants.Ground(baseline)
    chosen = list(itertools.islice(ground.drawn(options.seed), options.count))
    found = {mutants.key(one): one for one in mutants.resumed(path, baseline.digest)}
    waiting = [one for one in chosen if mutants.key(ground.described(one)) not in found]
    with open(path, "a", encoding="utf-8") as file:
        for one in tqdm(mutants.tried(ground, waiting), "mutants", len(waiting)):
            file.write(json.dumps({"digest": baseline.digest, **one}) + "\n")
            file.flush()
            found[mutants.key(one)] = one
            if not one["red"]:
                tqdm.write(survivor(one))
    results = [found[mutants.key(ground.described(one))] for one in chosen]
    document = rounds.kept(options.seed, results)
    if options.keep:
        write_whole(rounds.RECORD, lambda file: file.write(rounds.dumped(document)), "w")
    executed, outside = (sum(ground.sites(kind).values()) for kind in (ground.executed, ground.outside))
    print(f"places to change: {executed} that a step executes, {outside} outside: no step runs the line")
    print(f"seed {options.seed}: {counted(document['mutants'][-1])}")
    return 0


def survivor(one: dict) -> str:
    """A mutant that no step noticed."""
    where = f"{one['file']}:{one['line']} {one['function']}: {one['operator']}, {one['ran']} cases green"
    return f"{where}\n- {one['before']}\n+ {one['after']}"


if __name__ == "__main__":
    sys.exit(main())
