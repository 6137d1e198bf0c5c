"""The tables of README and docs, in Markdown, each a function of a record; nothing is typed by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from splinter.align import kill, report
from splinter.align.steps import STEPS
from splinter.ports import proofs

from . import findings
from .experiments import EXPERIMENTS, FRAMEWORKS, PUBLISHED_F1, SAMPLING_SEEDS, SIZES, STARTS, read

# What the logs and write-ups of earlier Paddle ports print: ncpaddle/splinter-paddlepaddle at 09cc9f5,
# ncpaddle/JointBERT-paddle at 17c0c26, chfhf/funnel-paddle; for the multi-task model there is a note with scores only.
EARLIER = {
    "splinter": {
        "forward": "encoder 3.27e-07, logits 1.09e-03 (means)",
        "dev_data": "0.0, but a file compared with itself",
        "metric": "0.0",
        "loss": "4.77e-07 random, 4.10e-05 model",
        "lr": "0.0",
        "regularization": "no figure; LayerNorm decayed unnoticed",
        "backward": "2.00e-03 (log: 3.08e-03, failed)",
        "train_data": "0.0, one batch of ids",
        "init": "no check (a copied number)",
        "training": "F1 54.40 / 72.63 / 82.89 (claims 55.62)",
    },
    "jointbert": {
        "forward": "states 4.88e-07, pooled 3.24e-07, intent 1.39e-06, slot 5.84e-07 (means)",
        "dev_data": "0.0",
        "metric": "0.0",
        "loss": "7.74e-07",
        "lr": "0.0",
        "regularization": "no figure; per-tensor clipping unnoticed",
        "backward": "8.05e-05 over 6 of 20 rounds, failed; all: 1.74e-02",
        "train_data": "0.0, but Splinter's files",
        "init": "no check (a copied file)",
        "training": "ATIS 97.5 / 95.6 / 87.6, SNIPS 98.6 / 96.1 / 91.4",
    },
    "funnel": {
        "forward": "mean 3.76e-07, max 5.72e-06, one unmasked sentence",
        "backward": "mean 1.66e-08, max 3.59e-04, one tensor",
        "training": "QNLI 95.15, SQuAD 1.1 94.73, 2.0 90.12 (xlarge)",
    },
    "multitask": {"training": "0.391 / 0.764 / 0.454"},
}
NOTHING = "no figure"


def align_table(paths: list[Path]) -> str:
    """One table per system, one row per step: the worst of all modes, by precision."""
    latest = {}  # a case that stands in several files counts once, as the last file has it
    for path in paths:
        for r in json.loads(path.read_text(encoding="utf-8"))["results"]:
            if r["verdict"] != "skipped":
                latest[r["system"], r["mode"], r["step"], r["checkpoint"], r["dtype"]] = r
    zero = zeros()
    tables = []
    for system, earlier in EARLIER.items():
        results = [r for key, r in latest.items() if key[0] == system]
        rows = [
            f"**{system}**",
            "",
            "| step | earlier port | here, float64 or exact | here, float32 | numbers compared | verdict |",
            "|---|---|---|---|---|---|",
        ]
        for step in STEPS:
            mine = [r for r in results if r["step"] == step]
            rounded = [r for r in mine if r["dtype"] == "float32"]
            cells = [_worst([r for r in mine if r["dtype"] != "float32"], zero[system]), _worst(rounded, zero[system])]
            count = sum(r["values"] for r in mine)
            verdict = "passed" if mine and all(r["verdict"] == "passed" for r in mine) else "not passed"
            rows.append(f"| {step} | {earlier.get(step, NOTHING)} | {cells[0]} | {cells[1]} | {count:,} | {verdict} |")
        sizes, modes = sorted({r["checkpoint"] for r in results}), sorted({r["mode"] for r in results})
        kinds = sorted({r["reference"] for r in results if r.get("reference")})
        rows += ["", f"Checkpoints: {', '.join(sizes)}; modes: {', '.join(modes)}; reference: {', '.join(kinds)}."]
        tables.append("\n".join(rows))
    return "\n\n".join(tables)


def worst(result: dict, zero: re.Pattern) -> tuple[float, float, str] | None:
    """Largest error of one case: (relative to its tensor, absolute, tensor), over what is held to a tolerance.

    Args:
        result: of an alignment.json, with its tensors.
        zero: parameters whose gradient is zero by algebra, so that a relative error says nothing.

    Returns:
        None where everything is equal.
    """
    found = [
        (one["max_rel"], one["max_abs"], one["name"].rpartition("/")[2])
        for one in result["tensors"]
        if (one["allowed"] or not one["passed"])
        and (result["step"] != "regularization" or one["name"].startswith("factor"))
    ]
    found = [one for one in found if one[0] and not zero.search(one[2])]
    return max(found, default=None)


def zeros() -> dict[str, re.Pattern]:
    """Port -> the parameters whose gradient is zero by algebra."""
    return {port.name: re.compile(port.zero_gradient or r"(?!)") for port in proofs.load_all()}


def _worst(results: list[dict], zero: re.Pattern) -> str:
    """The worst of several cases of one step, in words."""
    if not results:
        return ""
    if results[0]["step"] == "init":
        return ks_distance(results)
    errors = [error for one in results if (error := worst(one, zero))]
    if not errors:
        return "0.0"
    relative, absolute, name = max(errors)
    return f"{relative:.1e} relative ({absolute:.1e}, `{name}`)"


def ks_distance(results: list[dict]) -> str:
    """How near the Kolmogorov-Smirnov distance came to its critical value."""
    return f"KS distance {1 / min(one['headroom'] for one in results if one['headroom']):.2f} of critical"


def kill_record(path: Path) -> dict:
    """What is kept of a kill matrix: the red steps of each bug and what its own one said; the floors.

    Raises:
        ReportError: no such file, or not one of ours.
        ValueError: it holds no kill matrix.
    """
    document = report.read(path)
    if not document.get("kills"):
        raise ValueError(f"{path} holds no kill matrix; tox -e kill writes one")
    kept, kills = ("bug", "system", "mode", "expected", "verdict", "red"), []
    for one in document["kills"]:
        own = [
            {key: strike[key] for key in ("step", "red", "margin")}
            for strike in one["strikes"]
            if strike["step"] == one["expected"]
        ]
        kills.append({**{name: one[name] for name in kept}, "strikes": own})
    return {"command": "tox -e kill", "kills": kills, "floors": document.get("floors") or []}


def kill_table(record: dict) -> str:
    """What each step killed of the planted bugs, and the smallest error that it notices; see `kill_record`."""
    floors = record["floors"]
    # a port that differs from its system by a setting or an objective counts as that system
    kills = [{**one, "system": one["system"].partition("-")[0]} for one in record["kills"]]
    systems = list(dict.fromkeys(one["system"] for one in kills))
    rows = [
        f"| step | {' | '.join(systems)} | killed | by this step first | narrowest kill |",
        "|---|" + "---|" * (len(systems) + 3),
    ]

    def score(some: list[dict], step: str) -> str:
        return f"{sum(step in one['red'] for one in some)} of {len(some)}" if some else ""

    for row in kill.table(kills):
        step, margin = row["step"], row["margin"]
        mine = [one for one in kills if one["expected"] == step]
        cells = [score([one for one in mine if one["system"] == system], step) for system in systems]
        narrowest = "" if margin is None else f"{report.number(margin)} times its limit: {row['narrowest']}"
        cells += [score(mine, step), str(row["first"]), narrowest]
        rows.append(f"| {' | '.join([step, *cells])} |")
    counts = kill.tally(kills)
    share = 100 * counts["first"] / len(kills)
    rows += [
        "",
        f"{len(kills) - counts['survived']} of {len(kills)} bugs are killed, {counts['first']} ({share:.1f} %) by the "
        f"step that is about them before any other; {counts['late']} after another step, {counts['elsewhere']} not by "
        f"it, {counts['training']} by the training alone.",
        "",
        "| step | an error x | smallest x noticed in float64 | in float32 |",
        "|---|---|---|---|",
    ]
    smallest: dict[tuple[str, str], dict[str, float]] = {}
    for one in floors:
        smallest.setdefault((one["step"], one["what"]), {})[one["dtype"]] = one["smallest"]
    for (step, what), found in smallest.items():
        sizes = [report.number(found[dtype]) if dtype in found else "" for dtype in ("float64", "float32")]
        rows.append(f"| {step} | {what} | {' | '.join(sizes)} |")
    return "\n".join(rows)


def bench_table(paths: list[Path]) -> str:
    """Seconds of each group, and the ratio to torch or transformers; of what stands in several files, the last one's.

    Models are timed twice, by paddle's own kernels and by ours, each time in turns with torch: their ratios are
    medians over pairs, the seconds of torch those beside paddle's own. Other groups have one entry for each side.
    """
    groups: dict[str, dict[str, float]] = {}
    for one in (one for path in paths for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]):
        found, extra = groups.setdefault(one["group"], {}), one["extra_info"]
        side = extra.get("built", "theirs" if "transformers" in one["name"] else "paddle's own")
        found[side] = one["stats"]["median"]
        if extra and (side == "paddle's own" or "theirs" not in found):
            found["theirs"] = extra["torch"]
        if extra:
            found[f"{side}, ratio"] = extra["ratio"]
    rows = ["| what | Paddle, s | with our kernels, s | torch / transformers, s | ratio | ratio with our kernels |"]
    rows.append("|---|---|---|---|---|---|")
    for group, found in groups.items():
        if {"paddle's own", "theirs"} <= found.keys():
            found.setdefault("paddle's own, ratio", found["paddle's own"] / found["theirs"])
            places = {"paddle's own": 3, "kernels": 3, "theirs": 3, "paddle's own, ratio": 2, "kernels, ratio": 2}
            cells = [f"{found[one]:.{digits}f}" if one in found else "" for one, digits in places.items()]
            rows.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(rows)


def trainings_table(folder: Path) -> str:
    """Every recorded experiment: both frameworks, their paired difference with its 95 % interval, the verdict."""
    rows = [
        "| experiment | score | torch | Paddle | Paddle - torch | verdict | published |",
        "|---|---|---|---|---|---|---|",
    ]

    def shown(mean: float, deviation: float | None) -> str:
        return f"{mean:.2f}" if deviation is None else f"{mean:.2f} (sd {deviation:.2f})"

    for name, experiment in EXPERIMENTS.items():
        for heading, one in findings.compared(name, folder).items():
            difference = f"{one['difference']:+.2f}"
            if one["interval"] is not None:
                difference += f" ± {one['interval']:.2f}"
            published = "" if one["published"] is None else f"{one['published']:.1f}"
            columns = [shown(one[f], one["deviation"][f]) for f in ("torch", "paddle")]
            label = f"{experiment.title}, {_seeds(one['runs'])}"
            cells = [label, heading, *columns, difference, findings.verdict(one), published]
            rows.append(f"| {' | '.join(cells)} |")
        if (found := findings.apart(name, folder)) is not None:
            label = f"{experiment.title}, {_seeds(len(experiment.seeds))}"
            cells = [label, f"loss of each of {found[0]} updates", "", "", f"{found[1]:.1e} relative at most", "", ""]
            rows.append(f"| {' | '.join(cells)} |")
    told_of = [one for name, one in EXPERIMENTS.items() if findings.compared(name, folder)]
    sources: dict[str, list[str]] = {}
    for experiment in told_of:
        if experiment.published:
            sources.setdefault(experiment.source, []).append(experiment.title)
    told = [f"- {source} ({'; '.join(titles)})" for source, titles in sources.items()]
    return "\n".join([*rows, "", "Published figures are from:", "", *told] if told else rows)


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number > 1)}"


RIVALS = {
    "control": "its own start, head included",
    "plain": "its encoder's start, plain head",
    "random": "random weights",
}
"""The other starts of few-shot runs, and what table and plot call them."""


def few_shot_table(folder: Path) -> str:
    """What recurring span selection does for F1, and below it every run."""
    rows = [
        "| examples | against | runs | splinter-mini | the other | difference | verdict | published, base |",
        "|---|---|---|---|---|---|---|---|",
    ]
    runs = [
        f"| start | examples | framework | {' | '.join(f'sample {seed}' for seed in SAMPLING_SEEDS)} |",
        "|---|---|---|" + "---|" * len(SAMPLING_SEEDS),
    ]

    def shown(one: dict, sign: str = "") -> str:
        text = f"{one['mean']:{sign}.2f}"
        return text if one["interval"] is None else f"{text} ± {one['interval']:.2f} (sd {one['deviation']:.2f})"

    for size in SIZES:
        for rival in RIVALS:
            if (found := findings.claim(size, rival, folder)) is not None:
                cells = [shown(found["mini"]), shown(found["rival"]), shown(found["difference"], "+")]
                cells += [findings.claimed(found), str(PUBLISHED_F1[size])]
                rows.append(f"| {size} | {RIVALS[rival]} (`{rival}`) | {found['runs']} | {' | '.join(cells)} |")
        for start in STARTS:
            for framework in FRAMEWORKS:
                if scores := findings.few_shot(start, size, framework, folder):
                    wider = findings.in_float32(start, size, folder) if framework == "torch" else set()
                    told = {seed: f"{score:.2f}" + "\\*" * (seed in wider) for seed, score in scores.items()}
                    each = [told.get(seed, "") for seed in SAMPLING_SEEDS]
                    runs.append(f"| {start} | {size} | {framework} | {' | '.join(each)} |")
    note = ["", "\\* in float32, on a processor without products in bfloat16"] if any("\\*" in r for r in runs) else []
    return "\n".join([*rows, "", *runs, *note, *_decoding(folder), "", *_starts(folder), *_frameworks(folder)])


def _decoding(folder: Path) -> list[str]:
    """Which runs were scored when answers of an uncased model were still decoded as those of a cased one."""
    names = [f"few-shot-{start}-{size}" for start in STARTS for size in SIZES]
    runs = [run for name in names for run in read(name, folder)["runs"]]
    before = sum(run.get("decoding") == "cased" for run in runs)
    if not before:
        return []
    which = "All" if before == len(runs) else f"{before} of"
    return [
        "",
        f"{which} {len(runs)} runs were scored while answers of uncased models were decoded as those of cased ones: "
        'an answer kept the characters that follow it in its word ("in 1874." for "in 1874"). docs/splinter.md says '
        "how much that costs.",
    ]


def _starts(folder: Path) -> list[str]:
    """How each start is made, and which runs of torch, and of splinter-mini in Paddle, were not made."""
    made = [
        f"- `{start}`: `{' '.join(('splinter', *once)).format(shared='SHARED')}`"
        for start, (_, once) in STARTS.items()
        if once
    ]
    missing = []
    for framework in FRAMEWORKS:
        for start in STARTS if framework == "torch" else ["mini"]:
            for size in SIZES:
                there = findings.few_shot(start, size, framework, folder)
                if lacking := [str(seed) for seed in SAMPLING_SEEDS if seed not in there]:
                    samples = f" (of sample{'s' * (len(lacking) > 1)} {', '.join(lacking)})" if there else ""
                    missing.append(f"{start} {size}{samples}{' in Paddle' * (framework == 'paddle')}")
    return ["The other starts:", "", *made, *(["", f"Not run: {'; '.join(missing)}."] if missing else [])]


def _frameworks(folder: Path) -> list[str]:
    """Paddle beside torch on the same samples, and what dropout alone does; nothing before both are recorded."""
    apart: dict[tuple[int, int], float] = {}
    for size in SIZES:
        theirs, ours = (findings.few_shot("mini", size, framework, folder) for framework in FRAMEWORKS)
        apart |= {(size, seed): ours[seed] - theirs[seed] for seed in theirs if seed in ours}
    noise = findings.noise(folder)
    if noise is None or not apart:
        return []
    margin = noise["margin"]
    alike = [abs(difference) <= margin for (size, _), difference in apart.items() if size == 128]
    told = "; ".join(f"{size} examples, sample {seed}: {one:+.2f}" for (size, seed), one in apart.items())
    return [
        "",
        f"Paddle (float32) - torch (bfloat16) on the same sample: {told}. Chance alone: {noise['runs']} torch runs "
        "on sample 42 of 128 examples differ only in the training seed, which changes dropout and the order of "
        f"batches. Their standard deviation is {noise['deviation']:.2f}. Two such runs may differ by "
        f"{margin:.2f} points (95 %). {sum(alike)} of {len(alike)} differences at 128 examples are no larger.",
    ]
