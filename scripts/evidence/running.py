"""Run what of an experiment is not recorded yet, and keep each run in `results/NAME.json` as soon as it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from splinter import datasets
from splinter.align.files import write_whole
from splinter.ports.common import checkpoint
from splinter.ports.common.training.log import LOG

from .experiments import EXPERIMENTS, RESULTS, Experiment, read
from .findings import points


class ExperimentError(RuntimeError):
    """A run that did not end well; the message holds its command and its last words."""


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
        f"no data folder holds all of {', '.join(experiment.needs)}, under these very names; docs/data.md lists them"
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
