"""Whole trainings in both frameworks, recorded: the same seeds and batches in torch and Paddle, every run once.

An experiment is a list of commands of the command line. Each run is kept in `results/NAME.json` with its
commands, seed, versions and scores as soon as it ends, so an interrupted experiment goes on where it stopped;
a run that is recorded is never repeated, and none is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import datasets
from .align.files import write_whole
from .ports.common import checkpoint
from .ports.common.training.log import LOG

FRAMEWORKS = ("torch", "paddle")
RESULTS = datasets.PROJECT / "results"

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Number of runs -> two-sided 95 % quantile of Student's t with one degree of freedom less."""


class ExperimentError(RuntimeError):
    """A run that did not end well; the message holds its command and its last words."""


@dataclass(frozen=True)
class Experiment:
    """What is trained and evaluated, and which figures count.

    Args:
        title: for the table.
        needs: data files without which it cannot run.
        stages: (label, arguments of `splinter`); {data} is the data folder, {work} the run's own, {seed},
            {framework} and {precision} what they say. What an `evaluate` prints is recorded under its label.
        scores: (label, key in what `evaluate` printed, heading, factor to points 0-100).
        seeds: fixed here, before any run.
        published: heading -> the figure to stand beside, with its source in `source`.
        source: where the published figures are from, and what differs.
        once: arguments of `splinter` that make what all runs start from, in {shared}; run once.
        seeds_of: framework -> its seeds, where they are fewer.
        precision: framework -> its --precision, where a stage asks.
        curves: both frameworks start from the same weights, without dropout: the loss of each update is recorded.
    """

    title: str
    needs: tuple[str, ...]
    stages: tuple[tuple[str, tuple[str, ...]], ...]
    scores: tuple[tuple[str, str, str, float], ...]
    seeds: tuple[int, ...]
    published: Mapping[str, float]
    source: str
    once: tuple[str, ...] = ()
    seeds_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    precision: Mapping[str, str] = field(default_factory=dict)
    curves: bool = False

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(framework, seed) of each run, in the order they are made."""
        return [(f, seed) for f in FRAMEWORKS for seed in self.seeds_of.get(f, self.seeds)]


def _jointbert(
    corpus: str,
    title: str,
    epochs: int,
    published: Mapping[str, float],
    seeds: tuple[int, ...] = (1, 2, 3),
) -> Experiment:
    model, data = "{work}/model", "{data}/" + corpus
    shared = ("--system", "jointbert", "--framework", "{framework}")
    train = ("finetune", *shared, "--model", "minilm", "--train", data, "--output", model, "--seed", "{seed}")
    return Experiment(
        title=f"JointBERT, {title}, MiniLM-L6, {epochs} epoch{'s' * (epochs > 1)}",
        needs=(f"{corpus}/train/seq.in", f"{corpus}/test/seq.in"),
        stages=(
            # a narrow encoder takes, and needs, a larger rate than the recipe's 5e-5
            ("train", (*train, "--epochs", str(epochs), "--learning-rate", "2e-4", "--save-every", "500")),
            ("test", ("evaluate", *shared, "--model", model, "--data", f"{data}/test")),
        ),
        scores=(
            ("test", "intent_acc", "intent", 1),
            ("test", "slot_f1", "slot F1", 1),
            ("test", "sentence_acc", "sentence", 1),
        ),
        seeds=seeds,
        published=published,
        source="Chen et al. 2019, BERT-base (12 layers, width 768); here 6 layers, width 384",
    )


def _funnel(task: str, title: str, seed: int, files: tuple[str, str], head: tuple, scores: tuple) -> Experiment:
    """A small Funnel from random weights, both frameworks from the same ones, without dropout: two equal runs."""
    sizes = ("d_model=128", "n_head=2", "d_inner=512", "block_sizes=[2,2,2]", "hidden_dropout=0", "attention_dropout=0")
    shared, model = ("--system", "funnel", "--framework", "{framework}"), "{work}/model"
    vocabulary = "vocab/bert-base-uncased-vocab.txt"
    rate = ("--learning-rate", "5e-4", "--save-every", "200")
    train = ("finetune", *shared, "--model", "{shared}", "--train", "{data}/" + files[0], "--output", model)
    return Experiment(
        title=f"Funnel 2-2-2 H128 from scratch, {title}",
        needs=(vocabulary, *files),
        once=(
            *("convert", "--system", "funnel", "{data}/" + vocabulary, "{shared}", "--from-scratch", "small"),
            *("--task", task, "--seed", str(seed), "--set", *sizes),
        ),
        stages=(
            ("train", (*train, *head, *rate, "--seed", "{seed}")),
            ("held out", ("evaluate", *shared, "--model", model, "--data", "{data}/" + files[1], *head[:2])),
        ),
        scores=scores,
        seeds=(seed,),
        published={},
        source="no published model is of this size",
        curves=True,
    )


def _multitask() -> Experiment:
    """Heads on a frozen encoder, then everything; the paraphrase head compares, for want of Quora's full data."""
    shared = ("--system", "multitask", "--framework", "{framework}")
    data = ("--train", "{data}/cs224n", "--dev-rows", "1000")
    recipe = (*data, "--batch-size", "32", "--seed", "{seed}", "--save-every", "100")
    quora = ("{data}/cs224n/quora-train-subset.csv.gz", "{data}/cs224n/qqp-train-sample.csv")
    heads, model = "{work}/heads", "{work}/model"
    start: tuple[str, ...] = (
        "--model",
        "minilm",
        "--phase",
        "pretrain",
        "--pair-features",
        "compare",
        "--encoder-dropout",
        "0",
    )
    start += ("--pooling", "cls", "--steps-per-epoch", "400", "--epochs", "1")
    tune: tuple[str, ...] = (
        "--model",
        heads,
        "--phase",
        "finetune",
        "--learning-rate",
        "1e-4",
        "--steps-per-epoch",
        "220",
    )
    tune += ("--epochs", "1")
    files = (
        "ids-sst-train.csv",
        "sts-train.csv",
        "quora-dev.csv.gz",
        "quora-train-subset.csv.gz",
        "qqp-train-sample.csv",
    )
    train = ("finetune", *shared)
    score = ("evaluate", *shared, "--data", "{data}/cs224n")
    tasks = ("sentiment", "paraphrase", "similarity")
    return Experiment(
        title="multi-task, MiniLM-L6",
        needs=tuple(f"cs224n/{file}" for file in files),
        stages=(
            ("frozen", (*train, *start, *recipe, "--paraphrase-train", *quora, "--output", heads)),
            ("fine-tuned", (*train, *tune, *recipe, "--paraphrase-train", *quora, "--output", model)),
            ("fine-tuned", (*score, "--model", model)),
        ),
        scores=(*(("fine-tuned", task, task, 100) for task in tasks),),
        seeds=(1,),
        published={"sentiment": 39.1, "paraphrase": 76.4, "similarity": 45.4},
        source="the one-page design note (BERT-base)",
    )


def _pretraining() -> Experiment:
    """One pass over the held-out articles, both frameworks from the same weights, without dropout: two equal runs."""
    recipe = ("--batch-size", "8", "--learning-rate", "2e-4", "--warmup", "0.1", "--optimizer", "hf", "--dropout", "0")
    shared = ("--framework", "{framework}", "--model", "{shared}", "--output", "{work}/model", "--seed", "{seed}")
    tokenizer = ("--tokenizer", "{shared}")
    return Experiment(
        title="Pretraining by recurring span selection, MiniLM-L6, 154 updates of 8 passages",
        needs=("wiki/dev/wiki_00",),
        once=("convert", "minilm", "{shared}", "--head", "matching", "--mode", "paper"),
        stages=(
            ("corpus", ("mine", "{data}/wiki/dev", "--output", "{work}/corpus", "--length", "256", *tokenizer)),
            ("train", ("pretrain", *shared, "--corpus", "{work}/corpus", *recipe)),
        ),
        scores=(),
        seeds=(1,),
        published={},
        source="nothing to compare with",
        curves=True,
    )


SAMPLING_SEEDS, SIZES = (42, 43, 44, 45, 46), (16, 128, 1024)
PUBLISHED_F1 = {16: 54.6, 128: 72.7, 1024: 82.8}
"""F1 in points on SQuAD, Splinter-base, mean of the five samples (Ram et al. 2021, table 1)."""
_START = ("convert", "minilm", "{shared}", "--mode", "paper")
STARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mini": ("splinter-mini", ()),
    "control": ("{shared}", (*_START, "--head", "matching")),
    "plain": ("{shared}", (*_START, "--head", "plain")),
    "random": ("{shared}", (*_START, "--head", "fresh", "--encoder", "fresh")),
}
"""What few-shot runs start from: model, and the command that makes it. `control` is what splinter-mini was pretrained
from, head included: recurring span selection is all that lies between the two. `plain` is its encoder with a start and
an end score of each token, `random` random weights of the same sizes."""


_PADDLE_SAMPLES = {16: SAMPLING_SEEDS, 128: SAMPLING_SEEDS[:2]}
"""Of splinter-mini, by number of examples: what a CPU has time for."""


def _few_shot(start: str, size: int, noise: bool = False) -> Experiment:
    """Fine-tuning by the paper's recipe on its samples of SQuAD; the training seed is fixed, the samples differ.

    Args:
        noise: the other way round: one sample, and training seeds that differ, so in dropout and order alone.
    """
    file, dev = f"squad_fewshot/squad-train-seed-{{}}-num-examples-{size}_qass.jsonl", "squad_v1/dev-v1.1.json.gz"
    file += ".gz" * (size > 256)
    model, once = STARTS[start]
    shared = ("--framework", "{framework}")
    # micro-batches of rows of like length: 2.2 times as fast as whole batches on a CPU, half of which is padding
    faster = ("--precision", "{precision}", "--micro-batch", "3")
    train = ("finetune", *shared, *faster, "--model", model, "--output", "{work}/model")
    score = ("evaluate", *shared, "--model", "{work}/model", "--data", "{data}/" + dev, "--sample", "2000")
    varied: tuple[str, ...] = ("--train", "{data}/" + file.format("{seed}"))
    if noise:
        varied = ("--train", "{data}/" + file.format(SAMPLING_SEEDS[0]), "--seed", "{seed}")
    return Experiment(
        title=f"Few-shot SQuAD, {start}, {size} examples" + ", one sample" * noise,
        needs=(*(file.format(seed) for seed in (SAMPLING_SEEDS[:1] if noise else SAMPLING_SEEDS)), dev),
        stages=(("train", (*train, *varied)), ("dev", score)),
        scores=(("dev", "f1", "F1", 1), ("dev", "exact", "exact", 1)),
        seeds=(1, 2) if noise else SAMPLING_SEEDS if size < 1024 else SAMPLING_SEEDS[:1],
        published={"F1": PUBLISHED_F1[size]},
        source="Splinter-base (12 layers, width 768), all of MRQA's dev file; here 2,000 questions of the official one",
        once=once,
        seeds_of={"paddle": _PADDLE_SAMPLES.get(size, ()) if start == "mini" and not noise else ()},
        precision={"torch": "bf16"},
    )


QNLI = ("qnli/train-sample.tsv.gz", "qnli/train-sample-heldout.tsv")
SQUAD2 = ("squad_v2/dev-half-a-v2.0.json.gz", "squad_v2/dev-half-b-v2.0-reconstructed.json.gz")

ATIS = {"intent": 97.5, "slot F1": 96.1, "sentence": 88.2}
SNIPS = {"intent": 98.6, "slot F1": 97.0, "sentence": 92.8}

EXPERIMENTS: dict[str, Experiment] = {
    "jointbert-atis": _jointbert("atis", "ATIS", 6, ATIS),
    "jointbert-snips": _jointbert("snips", "SNIPS", 2, SNIPS),
    "jointbert-snips-long": _jointbert("snips", "SNIPS", 4, SNIPS, seeds=(1,)),
    "multitask": _multitask(),
    "pretraining": _pretraining(),
    **{f"few-shot-{start}-{size}": _few_shot(start, size) for start in STARTS for size in SIZES},
    "few-shot-noise-128": _few_shot("mini", 128, noise=True),
    "funnel-qnli": _funnel(
        "qnli",
        "QNLI sample",
        1,
        QNLI,
        ("--max-length", "128", "--epochs", "3"),
        (("held out", "accuracy", "accuracy", 1),),
    ),
    "funnel-squad2": _funnel(
        "squad",
        "SQuAD 2.0 half A to B",
        1,
        SQUAD2,
        ("--max-length", "256", "--epochs", "1"),
        (
            ("held out", "exact", "exact, threshold 0", 1),
            ("held out", "f1", "F1, threshold 0", 1),
            ("held out", "best_f1", "F1, best threshold", 1),
            ("held out", "HasAns_f1", "F1, answerable", 1),
        ),
    ),
}


# -- running ----------------------------------------------------------------------------------------------


def run(
    name: str,
    work: Path,
    results: Path = RESULTS,
    jobs: int = 1,
    seeds: Iterable[int] | None = None,
    precision: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run what of an experiment is not recorded yet.

    Args:
        name: one of EXPERIMENTS.
        work: folder for the models; a run that was interrupted resumes there.
        results: folder of the record, `NAME.json`.
        jobs: runs at a time, one thread each.
        seeds: fewer seeds than the experiment's.
        precision: another --precision than the experiment's, for the frameworks of which it names one.

    Returns:
        The record.

    Raises:
        DataMissing: a data file is not on this machine.
        ExperimentError: a command failed (what has ended before is recorded), or the recorded runs began elsewhere.
    """
    experiment = EXPERIMENTS[name]
    root = find_data(experiment)
    record = read(name, results)
    results.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    if experiment.once and not (work / "shared").exists():
        partial = work / f".shared.{os.getpid()}.partial"  # a whole folder or none
        shutil.rmtree(partial, ignore_errors=True)
        _command(experiment.once, root, work, {"shared": str(partial)})
        os.replace(partial, work / "shared")
    if experiment.once:
        record["once"] = _shown_command(experiment.once, {})
    refuse_other_start(experiment, record, work)
    done = {(one["framework"], one["seed"]) for one in record["runs"]}
    chosen = set(experiment.seeds if seeds is None else seeds)
    wanted = [one for one in experiment.runs if one[1] in chosen and one not in done]
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_one, experiment, root, work, framework, seed, precision) for framework, seed in wanted]
        try:
            for ended in as_completed(running):
                found = ended.result()
                runs = [*read(name, results)["runs"], found]  # another process may have made some of them meanwhile
                record["runs"] = sorted(runs, key=lambda one: (one["seed"], one["framework"]))
                write_whole(results / f"{name}.json", lambda file: json.dump(record, file, indent=1), "w")
                say(f"{name}: {found['framework']}, seed {found['seed']}: {_shown(experiment, found)}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return record


def read(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """What is recorded of an experiment so far."""
    path = results / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"experiment": name, "command": f"python scripts/experiment.py {name}", "runs": []}


def refuse_other_start(experiment: Experiment, record: Mapping[str, Any], work: Path) -> None:
    """Runs of one experiment begin from the same weights.

    Raises:
        ExperimentError: recorded runs began from others than a run would now.
    """
    label, arguments = next(stage for stage in experiment.stages if stage[1][0] in ("finetune", "pretrain"))
    model = arguments[arguments.index("--model") + 1].format(shared=work / "shared")
    now = checkpoint.fingerprint(checkpoint.resolve(model))
    for one in record["runs"]:
        was = one["trainings"][label].get("start_sha256", now)  # the oldest records do not say
        if was != now:
            raise ExperimentError(
                f"{record['experiment']}: {one['framework']}, seed {one['seed']} began from weights {was}, {model} has "
                f"{now} now; remove the record and {work} to make all runs anew"
            )


def find_data(experiment: Experiment) -> Path:
    """The data folder that holds all that an experiment needs, under the very names that its commands have.

    Raises:
        DataMissing: there is none.
    """
    for folder in datasets.folders():
        if all((folder / name).is_file() for name in experiment.needs):
            return folder
    raise datasets.DataMissing(
        f"no data folder holds all of {', '.join(experiment.needs)}, under these very names; "
        "see the data section of README"
    )


def _one(
    experiment: Experiment, root: Path, work: Path, framework: str, seed: int, precision: str | None
) -> dict[str, Any]:
    folder = work / f"{framework}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    values = {"framework": framework, "seed": str(seed), "shared": str(work / "shared")}
    values["precision"] = experiment.precision.get(framework, "float32")
    if precision is not None and framework in experiment.precision:
        values["precision"] = precision
    found: dict[str, Any] = {"framework": framework, "seed": seed, "commands": [], "scores": {}, "trainings": {}}
    for label, arguments in experiment.stages:
        shown, printed = _command(arguments, root, folder, values)
        found["commands"].append(shown)
        if arguments[0] == "evaluate":
            kept = json.loads(printed)
            found["scores"][label] = {k: v for k, v in kept.items() if k not in ("file", "model", "data")}
        if arguments[0] in ("finetune", "pretrain"):
            output = Path(arguments[arguments.index("--output") + 1].format(work=folder, **values, data=root))
            training = json.loads((output / "training.json").read_text(encoding="utf-8"))
            found["versions"] = training["environment"]["versions"]
            keys = ("start_sha256", "updates", "final_loss", "seconds", "best", "last")
            found["trainings"][label] = {key: training[key] for key in keys if key in training}
            if experiment.curves:
                found["trainings"][label]["losses"] = losses(output)
    return found


def losses(run: Path) -> list[float]:
    """The loss of each update of a run, as far as float32 goes."""
    lines = (run / LOG).read_text(encoding="utf-8").splitlines()
    return [float(f"{json.loads(line)['loss']:.9g}") for line in lines]


def _command(arguments: Sequence[str], root: Path, folder: Path, values: Mapping[str, str]) -> tuple[str, str]:
    """Run one command of the command line; returns it as a reader may type it, and what it printed."""
    extra = {"evaluate": ("--quiet",), "convert": ()}.get(arguments[0], ("--resume", "--quiet"))
    shown = _shown_command(arguments, values)
    full = [argument.format(data=root, work=folder, **values) for argument in (*arguments, *extra)]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(
        [sys.executable, "-m", "splinter", *full],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **threads},
    )
    if done.returncode:
        raise ExperimentError(f"{shown} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return shown, done.stdout


def _shown_command(arguments: Sequence[str], values: Mapping[str, str]) -> str:
    """A command as a reader may type it, without a path of this machine."""
    return " ".join(["splinter", *arguments]).format(
        data="$SPLINTER_DATA", work="RUN", **{**values, "shared": "SHARED"}
    )


def _shown(experiment: Experiment, one: Mapping[str, Any]) -> str:
    return ", ".join(f"{heading} {value:.2f}" for heading, value in points(experiment, one).items())


# -- reading ----------------------------------------------------------------------------------------------


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
