"""What recorded experiments say: means, intervals and verdicts, from `results/NAME.json` alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .experiments import EXPERIMENTS, FRAMEWORKS, RESULTS, SAMPLING_SEEDS, Experiment, read

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Number of runs -> two-sided 95 % quantile of Student's t with one degree of freedom less."""


def points(experiment: Experiment, one: Mapping[str, Any]) -> dict[str, float]:
    """Heading -> score of a run, in points 0-100."""
    return {
        heading: one["scores"][label][key] * factor
        for label, key, heading, factor in experiment.scores
        if label in one["scores"]
    }


def apart(name: str, results: Path = RESULTS) -> tuple[int, float] | None:
    """How far the losses of the two frameworks are apart, update by update, where they start from the same weights.

    Returns:
        Updates compared, and the largest difference relative to torch's loss; None where losses are not recorded.
    """
    curves: dict[tuple[int, str], dict[str, list[float]]] = {}
    for one in read(name, results)["runs"]:
        for label, training in one["trainings"].items():
            if "losses" in training:
                curves.setdefault((one["seed"], label), {})[one["framework"]] = training["losses"]
    pairs = [
        (theirs, ours)
        for found in curves.values()
        if len(found) == len(FRAMEWORKS)
        for theirs, ours in zip(*(found[framework] for framework in FRAMEWORKS), strict=True)
    ]
    return (len(pairs), max(abs(theirs - ours) / theirs for theirs, ours in pairs)) if pairs else None


def summary(scores: Sequence[float]) -> dict[str, Any]:
    """Mean, sample deviation and half width of the 95 % interval, in the unit of the scores.

    Of one run the latter two cannot be told: None.

    Raises:
        ValueError: no run, or more than 10.
    """
    if len(scores) == 1:
        return {"mean": scores[0], "deviation": None, "interval": None}
    if len(scores) not in T95:
        raise ValueError(f"{len(scores)} runs: an interval is known for 2 to 10")
    deviation = statistics.stdev(scores)
    return {
        "mean": statistics.mean(scores),
        "deviation": deviation,
        "interval": T95[len(scores)] * deviation / len(scores) ** 0.5,
    }


def compared(name: str, results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Both frameworks side by side, by heading.

    Returns:
        Heading -> {"torch": mean, "paddle": mean, "deviation": {framework: ...}, "difference": mean of the paired
        differences, "interval": its 95 % half width (None for one seed), "runs": seeds, "published": figure}.
    """
    experiment, record = EXPERIMENTS[name], read(name, results)
    by_run = {(one["framework"], one["seed"]): points(experiment, one) for one in record["runs"]}
    seeds = [seed for seed in experiment.seeds if all((f, seed) in by_run for f in FRAMEWORKS)]
    found = {}
    for _, _, heading, _ in experiment.scores:
        columns = {f: [by_run[f, seed][heading] for seed in seeds] for f in FRAMEWORKS}
        if not seeds:
            continue
        paired = [ours - theirs for theirs, ours in zip(*columns.values(), strict=True)]
        each, difference = {f: summary(column) for f, column in columns.items()}, summary(paired)
        found[heading] = {
            **{f: one["mean"] for f, one in each.items()},
            "deviation": {f: one["deviation"] for f, one in each.items()},
            "difference": difference["mean"],
            "interval": difference["interval"],
            "runs": len(seeds),
            "published": experiment.published.get(heading),
        }
    return found


def few_shot(start: str, size: int, framework: str = "torch", results: Path = RESULTS) -> dict[int, float]:
    """Sampling seed -> F1 in points of the recorded few-shot runs."""
    name = f"few-shot-{start}-{size}"
    runs = read(name, results)["runs"]
    return {r["seed"]: points(EXPERIMENTS[name], r)["F1"] for r in runs if r["framework"] == framework}


def in_float32(start: str, size: int, results: Path = RESULTS) -> set[int]:
    """Sampling seeds of torch's few-shot runs that were made in float32, where the experiment says bfloat16."""
    runs = [one for one in read(f"few-shot-{start}-{size}", results)["runs"] if one["framework"] == "torch"]
    return {one["seed"] for one in runs if "--precision float32" in one["commands"][0]}


def noise(results: Path = RESULTS) -> dict[str, float] | None:
    """`summary` of F1 on one sample by several training seeds: what dropout and order alone do.

    Returns:
        Besides, "runs", and "margin": what two such runs may be apart (95 %), in points. None for fewer than two.
    """
    name = "few-shot-noise-128"
    found = [points(EXPERIMENTS[name], one)["F1"] for one in read(name, results)["runs"]]
    if found:  # the run with the recipe's own seed is one more of them
        found += [f1 for seed, f1 in few_shot("mini", 128, results=results).items() if seed == SAMPLING_SEEDS[0]]
    if len(found) < 2:
        return None
    spread = summary(found)
    # two runs that differ in chance alone: their difference has sqrt(2) of a run's deviation
    return {**spread, "runs": len(found), "margin": T95[len(found)] * 2**0.5 * spread["deviation"]}


def claim(size: int, rival: str = "control", results: Path = RESULTS) -> dict[str, Any] | None:
    """What recurring span selection does for F1: splinter-mini against another start, sample by sample.

    Returns:
        "mini" and "rival": `summary` of their F1, "difference": that of the paired differences, "runs": how many; None
        where nothing is recorded of both.
    """
    mini, other = (few_shot(start, size, results=results) for start in ("mini", rival))
    seeds = sorted(set(mini) & set(other))
    if not seeds:
        return None
    columns = {"mini": [mini[seed] for seed in seeds], "rival": [other[seed] for seed in seeds]}
    columns["difference"] = [mini[seed] - other[seed] for seed in seeds]
    return {**{name: summary(column) for name, column in columns.items()}, "runs": len(seeds)}


def claimed(found: Mapping[str, Any]) -> str:
    """What `claim` says of the claim, in a word."""
    gain = found["difference"]
    if gain["interval"] is None:
        return "one run each"
    if abs(gain["mean"]) <= gain["interval"]:
        return "inconclusive"
    return "holds" if gain["mean"] > 0 else "refuted"


def verdict(one: Mapping[str, Any], margin: float = 1.0) -> str:
    """What the comparison of one heading says.

    Args:
        one: a value of `compared`.
        margin: in points; an interval wider than this cannot tell.
    """
    if one["interval"] is None:
        return "one run each"
    if abs(one["difference"]) > one["interval"]:
        return "different"
    return "no difference seen" if one["interval"] <= margin else "inconclusive"
