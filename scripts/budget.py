#!/usr/bin/env python3
"""Where the seconds of one train step go, in Paddle and in torch: the table of docs/speed.md.

Both take the same steps in turns, in one process, under the profiler of their framework. A row is the time of the
operations of one kind, forward and backward, by themselves; the optimizer, with clipping, is a row of its own.

example:
  python scripts/budget.py --size six --threads 1 --kernels
"""

import argparse
import os
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

KINDS = {
    "attention": r"attention",  # in one kernel
    "products": r"matmul|linear|addmm|bmm|\bmm\b|baddbmm|einsum",
    "dropout": r"dropout|bernoulli|randint|greater_equal|_masked_scale",
    "softmax": r"softmax",
    "LayerNorm": r"layer_norm",
    "gelu": r"gelu",
    "bias, residual, mask, scale": r"add|mul|scale|multiply|div|sub|where|sum",
    "copies": r"transpose|reshape|expand|copy|clone|contiguous|concat|cat|slice|fill|zero|full|assign|cast|empty|split",
}
"""Kind of operation -> what its names hold, the first that fits; the rest is `other`."""
OPTIMIZER, OTHER, WAITING = "optimizer", "other operations", "Python and between operations"


def kind_of(name: str) -> str:
    """The kind of an operation, by its name in either framework."""
    return next((kind for kind, names in KINDS.items() if re.search(names, name)), OTHER)


def paddle_step(trainer, step: Callable[[], None]) -> Counter[str]:
    """Milliseconds of each kind in one step."""
    from paddle import profiler

    cpu = [profiler.ProfilerTarget.CPU]
    # told what to do with a trace, paddle writes none into ./profiler_log
    with profiler.Profiler(targets=cpu, on_trace_ready=lambda run: None) as run, named(trainer, profiler.RecordEvent):
        step()
        run.step()
    spent: Counter[str] = Counter()

    def walk(node) -> bool:
        """Count the innermost operations of a tree; whether there are any."""
        whole = node.name == OPTIMIZER or node.name.startswith(("pd_op.", "custom_op."))
        below = [] if whole else [walk(child) for child in node.children_node]  # all of them are walked
        if any(below):
            return True
        if whole or "Operator" in str(node.type):
            spent[OPTIMIZER if node.name == OPTIMIZER else kind_of(node.name)] += (node.end_ns - node.start_ns) / 1e6
            return True
        return False

    for root in run.profiler_result.get_data().values():
        walk(root)
    return spent


def torch_step(trainer, step: Callable[[], None]) -> Counter[str]:
    """Milliseconds of each kind in one step."""
    from torch import profiler

    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as run, named(trainer, profiler.record_function):
        step()
    spent: Counter[str] = Counter()
    for event in run.events():
        if event.name == OPTIMIZER:
            spent[OPTIMIZER] += event.cpu_time_total / 1e3
            continue
        above, outside = event.cpu_parent, True
        while above is not None:
            outside, above = outside and above.name != OPTIMIZER, above.cpu_parent
        if outside and event.name.startswith("aten::"):
            spent[kind_of(event.name)] += event.self_cpu_time_total / 1e3
    return spent


class named:
    """The step of a trainer's optimizer as an event of a profiler."""

    def __init__(self, trainer, event: Callable):
        self.optimizer, self.event = trainer.optimizer, event

    def __enter__(self) -> None:
        plain = self.optimizer.step

        def step(*given, **more):
            with self.event(OPTIMIZER):
                return plain(*given, **more)

        self.optimizer.step = step

    def __exit__(self, *error) -> None:
        del self.optimizer.step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "six", "base"), default="six", help="of the model (default: six)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each framework (default: 1)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="measured steps of each (default: 5)")
    parser.add_argument("--kernels", action="store_true", help="by the kernels that `splinter kernels` has built")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["SPLINTER_KERNELS"] = str(int(options.kernels))
    from splinter import runtime

    runtime.import_paddle()
    import time

    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))
    import bench_speed

    torch.set_num_threads(options.threads)
    batch, measured, walls = bench_speed.batch(options.size), {}, {}
    with bench_speed.folder_of(options.size) as folder, runtime.subnormals_are_zero():
        sides = {}
        for side, profiled in (("paddle", paddle_step), ("torch", torch_step)):
            backend, model = bench_speed.opened(side, folder)
            trainer = bench_speed.trainer(backend, model)
            sides[side] = profiled, trainer, (lambda trainer=trainer: trainer.step(batch, 1e-5))
            sides[side][2]()
            measured[side], walls[side] = [], []
        for _ in range(options.steps):
            for side, (profiled, trainer, step) in sides.items():
                measured[side].append(profiled(trainer, step))  # first: after the other framework's, memory is new
                began = time.perf_counter()
                step()
                walls[side].append(1e3 * (time.perf_counter() - began))
    print(table(measured, walls))
    return 0


def table(measured: dict[str, list[Counter[str]]], walls: dict[str, list[float]]) -> str:
    """Medians in milliseconds, kind by kind."""
    found = {
        side: Counter({kind: statistics.median(one[kind] for one in runs) for run in runs for kind in run})
        for side, runs in measured.items()
    }
    whole = {side: statistics.median(times) for side, times in walls.items()}
    rows = [(kind, *(found[side][kind] for side in whole)) for kind in {*found["paddle"], *found["torch"]}]
    rows.sort(key=lambda row: -row[1])
    rows.append((WAITING, *(max(whole[side] - found[side].total(), 0.0) for side in whole)))
    rows.append(("the step", *whole.values()))
    lines = ["| what | Paddle, ms | torch, ms | ratio |", "|---|---|---|---|"]
    for kind, ours, theirs in rows:
        lines.append(f"| {kind} | {ours:,.0f} | {theirs:,.0f} | {f'{ours / theirs:.2f}' if theirs > 0.5 else ''} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
