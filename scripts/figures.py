#!/usr/bin/env python3
"""Write the tables of README from files that runs have left; nothing is typed by hand.

Between `<!-- NAME -->` and `<!-- /NAME -->` in README.md:
  align     worst figure of each step and system from alignment.json files, beside what earlier ports reported
  bench     ratios Paddle / torch from a pytest-benchmark JSON file
  trainings both frameworks side by side, from results/*.json (always written)
  kill      the kill matrix by step, and the smallest errors noticed, from the file of tox -e kill
  few-shot  splinter-mini beside starts without recurring span selection, likewise
and with --plots docs, docs/few-shot.svg (F1 over examples) and docs/pretraining.svg (losses of both frameworks); that
needs matplotlib: pip install -e '.[align,figures]'.

example:
  tox -e align -- --checkpoint base && tox -e bench -- --checkpoint base --benchmark-json=bench.json
  python scripts/figures.py --align report/alignment.json --bench bench.json
  tox -e kill && python scripts/figures.py --kill report/kill.json
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

from splinter import experiments
from splinter.align import kill, report
from splinter.align.files import write_whole
from splinter.align.steps import STEPS
from splinter.ports import proofs

README = Path(__file__).parents[1] / "README.md"
KILLS = experiments.RESULTS / "kill.json"

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
    zero = {port.name: re.compile(port.zero_gradient) for port in proofs.load_all()}
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


def _worst(results: list[dict], zero: re.Pattern) -> str:
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
    tensors = [t for t in tensors if not zero.search(t[2].rpartition("/")[2])]
    if not tensors or max(tensors)[0] == 0:
        return "0.0"
    relative, absolute, name = max(tensors)
    return f"{relative:.1e} relative ({absolute:.1e}, `{name.rpartition('/')[2]}`)"


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
    """Medians by group, as a ratio to torch or transformers; a group that stands in several files is the last one's."""
    groups: dict[str, dict[str, float]] = {}
    for one in (one for path in paths for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]):
        side = "theirs" if ("torch" in one["name"] or "transformers" in one["name"]) else "ours"
        groups.setdefault(one["group"], {})[side] = one["stats"]["median"]
    rows = ["| what | ours, s | torch / transformers, s | ratio |", "|---|---|---|---|"]
    for group, times in groups.items():
        if len(times) == 2:
            ratio = times["ours"] / times["theirs"]
            rows.append(f"| {group} | {times['ours']:.3f} | {times['theirs']:.3f} | {ratio:.2f} |")
    return "\n".join(rows)


def trainings_table(folder: Path) -> str:
    """Every recorded experiment: both frameworks, their paired difference with its 95 % interval, the verdict."""
    rows = [
        "| experiment | score | torch | Paddle | Paddle - torch | verdict | published |",
        "|---|---|---|---|---|---|---|",
    ]

    def shown(mean: float, deviation: float | None) -> str:
        return f"{mean:.2f}" if deviation is None else f"{mean:.2f} (sd {deviation:.2f})"

    for name, experiment in experiments.EXPERIMENTS.items():
        for heading, one in experiments.compared(name, folder).items():
            difference = f"{one['difference']:+.2f}"
            if one["interval"] is not None:
                difference += f" ± {one['interval']:.2f}"
            published = "" if one["published"] is None else f"{one['published']:.1f}"
            columns = [shown(one[f], one["deviation"][f]) for f in ("torch", "paddle")]
            label = f"{experiment.title}, {_seeds(one['runs'])}"
            cells = [label, heading, *columns, difference, experiments.verdict(one), published]
            rows.append(f"| {' | '.join(cells)} |")
        if (found := experiments.apart(name, folder)) is not None:
            label = f"{experiment.title}, {_seeds(len(experiment.seeds))}"
            cells = [label, f"loss of each of {found[0]} updates", "", "", f"{found[1]:.1e} relative at most", "", ""]
            rows.append(f"| {' | '.join(cells)} |")
    shown_experiments = [one for name, one in experiments.EXPERIMENTS.items() if experiments.compared(name, folder)]
    sources: dict[str, list[str]] = {}
    for one in shown_experiments:
        if one.published:
            sources.setdefault(one.source, []).append(one.title)
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
        f"| start | examples | framework | {' | '.join(f'sample {seed}' for seed in experiments.SAMPLING_SEEDS)} |",
        "|---|---|---|" + "---|" * len(experiments.SAMPLING_SEEDS),
    ]

    def shown(one: dict, sign: str = "") -> str:
        text = f"{one['mean']:{sign}.2f}"
        return text if one["interval"] is None else f"{text} ± {one['interval']:.2f} (sd {one['deviation']:.2f})"

    for size in experiments.SIZES:
        for rival in RIVALS:
            if (found := experiments.claim(size, rival, folder)) is not None:
                cells = [shown(found["mini"]), shown(found["rival"]), shown(found["difference"], "+")]
                cells += [experiments.claimed(found), str(experiments.PUBLISHED_F1[size])]
                rows.append(f"| {size} | {RIVALS[rival]} (`{rival}`) | {found['runs']} | {' | '.join(cells)} |")
        for start in experiments.STARTS:
            for framework in experiments.FRAMEWORKS:
                if scores := experiments.few_shot(start, size, framework, folder):
                    wider = experiments.in_float32(start, size, folder) if framework == "torch" else set()
                    told = {seed: f"{score:.2f}" + "\\*" * (seed in wider) for seed, score in scores.items()}
                    each = [told.get(seed, "") for seed in experiments.SAMPLING_SEEDS]
                    runs.append(f"| {start} | {size} | {framework} | {' | '.join(each)} |")
    note = ["", "\\* in float32, on a processor without products in bfloat16"] if any("\\*" in r for r in runs) else []
    return "\n".join([*rows, "", *runs, *note, *_decoding(folder), "", *_starts(folder), *_frameworks(folder)])


def _decoding(folder: Path) -> list[str]:
    """Which runs were scored when answers of an uncased model were still decoded as those of a cased one."""
    names = [f"few-shot-{start}-{size}" for start in experiments.STARTS for size in experiments.SIZES]
    runs = [run for name in names for run in experiments.read(name, folder)["runs"]]
    before = sum(run.get("decoding") == "cased" for run in runs)
    if not before:
        return []
    which = "All" if before == len(runs) else f"{before} of"
    return [
        "",
        f"{which} {len(runs)} runs were scored while answers of uncased models were decoded as those of cased ones: "
        'an answer kept what follows it in its word ("in 1874." for "in 1874"). docs/splinter.md has what that costs.',
    ]


def _starts(folder: Path) -> list[str]:
    """How each start is made, and which runs of torch, and of splinter-mini in Paddle, were not made."""
    made = [
        f"- `{start}`: `{' '.join(('splinter', *once)).format(shared='SHARED')}`"
        for start, (_, once) in experiments.STARTS.items()
        if once
    ]
    missing = []
    for framework in experiments.FRAMEWORKS:
        for start in experiments.STARTS if framework == "torch" else ["mini"]:
            for size in experiments.SIZES:
                there = experiments.few_shot(start, size, framework, folder)
                if lacking := [str(seed) for seed in experiments.SAMPLING_SEEDS if seed not in there]:
                    samples = f" (of sample{'s' * (len(lacking) > 1)} {', '.join(lacking)})" if there else ""
                    missing.append(f"{start} {size}{samples}{' in Paddle' * (framework == 'paddle')}")
    return ["The other starts:", "", *made, *(["", f"Not run: {'; '.join(missing)}."] if missing else [])]


def _frameworks(folder: Path) -> list[str]:
    """Paddle beside torch on the same samples, and what dropout alone does; nothing before both are recorded."""
    apart = {}
    for size in experiments.SIZES:
        theirs, ours = (experiments.few_shot("mini", size, framework, folder) for framework in experiments.FRAMEWORKS)
        apart |= {(size, seed): ours[seed] - theirs[seed] for seed in theirs if seed in ours}
    noise = experiments.noise(folder)
    if noise is None or not apart:
        return []
    margin = noise["margin"]
    alike = [abs(difference) <= margin for (size, _), difference in apart.items() if size == 128]
    told = "; ".join(f"{size} examples, sample {seed}: {one:+.2f}" for (size, seed), one in apart.items())
    return [
        "",
        f"Paddle (float32) - torch (bfloat16) on the same sample: {told}. What chance does: {noise['runs']} training "
        "seeds on sample 42 of 128 examples, in torch, which change dropout and the order of batches, have a "
        f"deviation of {noise['deviation']:.2f}; two such runs may well differ by {margin:.2f} points (95 %). "
        f"Of the differences at 128 examples {sum(alike)} of {len(alike)} are no larger.",
    ]


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
    found = {one["framework"]: one["trainings"]["train"]["losses"] for one in experiments.read(name, folder)["runs"]}
    if set(found) != set(experiments.FRAMEWORKS):
        raise ValueError(f"{name} is not recorded in both frameworks; python scripts/experiment.py {name}")
    figure, (upper, lower) = _pyplot().subplots(
        2, 1, figsize=(6.4, 4.2), layout="constrained", sharex=True, height_ratios=(2, 1)
    )
    updates = range(1, len(found["torch"]) + 1)
    upper.plot(updates, found["torch"], color="C0", linewidth=3, alpha=0.5, label="torch")
    upper.plot(updates, found["paddle"], "--", color="C1", linewidth=1, label="Paddle")
    upper.set_title(experiments.EXPERIMENTS[name].title, fontsize="medium")
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


def plot(folder: Path, target: Path) -> None:
    """F1 over the number of examples: means with their 95 % interval, every run as a dot, the published points."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, (start, label) in enumerate({"mini": "splinter-mini", **RIVALS}.items()):
        shift = 1.03 ** (number - 1.5)  # beside each other, not over each other
        runs = {size: list(experiments.few_shot(start, size, results=folder).values()) for size in experiments.SIZES}
        found = {size: experiments.summary(scores) for size, scores in runs.items() if scores}
        if not found:
            continue
        means = [one["mean"] for one in found.values()]
        intervals = [math.nan if one["interval"] is None else one["interval"] for one in found.values()]  # nan: no bar
        places = [size * shift for size in found]
        axes.errorbar(places, means, yerr=intervals, marker="o", capsize=3, color=f"C{number}", label=label)
        for size in found:
            axes.plot([size * shift] * len(runs[size]), runs[size], ".", color=f"C{number}", alpha=0.4)
    published = experiments.PUBLISHED_F1
    axes.plot(list(published), list(published.values()), "s--", color="grey", label="Splinter-base, published")
    axes.set(xscale="log", xlabel="training examples", ylabel="F1 on SQuAD, points", ylim=(0, 100))
    axes.set_xticks(experiments.SIZES, [str(size) for size in experiments.SIZES], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    write_whole(target, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


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
    parser.add_argument("--bench", type=Path, nargs="+", default=[], metavar="JSON", help="from --benchmark-json")
    parser.add_argument("--kill", type=Path, metavar="JSON", help="from --kill-matrix --align-json")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="few-shot.svg and pretraining.svg")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    try:
        if options.align:
            text = insert(text, "align", align_table(options.align))
        text = insert(text, "trainings", trainings_table(experiments.RESULTS))
        text = insert(text, "few-shot", few_shot_table(experiments.RESULTS))
        if options.plots:
            plot(experiments.RESULTS, options.plots / "few-shot.svg")
            if experiments.read("pretraining")["runs"]:
                curves("pretraining", experiments.RESULTS, options.plots / "pretraining.svg")
        if options.kill:
            record = kill_record(options.kill)
            write_whole(KILLS, lambda file: file.write(json.dumps(record, indent=1) + "\n"), "w")
        if KILLS.is_file():
            text = insert(text, "kill", kill_table(json.loads(KILLS.read_text(encoding="utf-8"))))
        if options.bench:
            text = insert(text, "bench", bench_table(options.bench))
    except (OSError, ValueError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    write_whole(README, lambda file: file.write(text), "w")
    return 0


if __name__ == "__main__":
    sys.exit(main())
