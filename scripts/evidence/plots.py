"""The two plots of docs: F1 over examples, and the losses of pretraining in both frameworks. They need matplotlib."""

from __future__ import annotations

import math
from pathlib import Path

from splinter.align.files import write_whole

from . import findings
from .experiments import EXPERIMENTS, FRAMEWORKS, PUBLISHED_F1, SIZES, read
from .tables import RIVALS


def _pyplot():
    """matplotlib, set to write the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "splinter", "svg.fonttype": "none", "font.family": "sans-serif"})
    return pyplot


def curves(name: str, folder: Path, target: Path) -> None:
    """The loss of each update in both frameworks, over each other, and how far they are apart.

    Raises:
        ValueError: not both are recorded.
    """
    found = {one["framework"]: one["trainings"]["train"]["losses"] for one in read(name, folder)["runs"]}
    if set(found) != set(FRAMEWORKS):
        raise ValueError(f"{name} is not recorded in both frameworks; python scripts/experiment.py {name}")
    figure, (upper, lower) = _pyplot().subplots(
        2, 1, figsize=(6.4, 4.2), layout="constrained", sharex=True, height_ratios=(2, 1)
    )
    updates = range(1, len(found["torch"]) + 1)
    upper.plot(updates, found["torch"], color="C0", linewidth=3, alpha=0.5, label="torch")
    upper.plot(updates, found["paddle"], "--", color="C1", linewidth=1, label="Paddle")
    upper.set_title(EXPERIMENTS[name].title, fontsize="medium")
    # logarithmic: a question whose answer lies in a hole costs 10,000 nats, in the authors' rules as here
    upper.set(yscale="log", ylabel="loss, nats")
    ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 50, 100) if min(found["torch"]) <= tick <= max(found["torch"])]
    upper.set_yticks(ticks, [str(tick) for tick in ticks], minor=False)
    upper.yaxis.set_minor_formatter("")
    upper.legend()
    apart = [max(abs(ours / theirs - 1), 1e-9) for theirs, ours in zip(found["torch"], found["paddle"], strict=True)]
    lower.plot(updates, apart, ".", color="C2", markersize=3)
    lower.set(yscale="log", xlabel="update", ylabel="apart, relative\n(at least 1e-9)")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    write_whole(target, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def few_shot(folder: Path, target: Path) -> None:
    """F1 over the number of examples: means with their 95 % interval, every run as a dot, the published points."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, (start, label) in enumerate({"mini": "splinter-mini", **RIVALS}.items()):
        shift = 1.03 ** (number - 1.5)  # beside each other, not over each other
        runs = {size: list(findings.few_shot(start, size, results=folder).values()) for size in SIZES}
        found = {size: findings.summary(scores) for size, scores in runs.items() if scores}
        if not found:
            continue
        means = [one["mean"] for one in found.values()]
        intervals = [math.nan if one["interval"] is None else one["interval"] for one in found.values()]  # nan: no bar
        places = [size * shift for size in found]
        axes.errorbar(places, means, yerr=intervals, marker="o", capsize=3, color=f"C{number}", label=label)
        for size in found:
            axes.plot([size * shift] * len(runs[size]), runs[size], ".", color=f"C{number}", alpha=0.4)
    published = PUBLISHED_F1
    axes.plot(list(published), list(published.values()), "s--", color="grey", label="Splinter-base, published")
    axes.set(xscale="log", xlabel="training examples", ylabel="F1 on SQuAD, points", ylim=(0, 100))
    axes.set_xticks(SIZES, [str(size) for size in SIZES], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    write_whole(target, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
