"""Whole trainings on real data in both frameworks: what is recorded is complete, and a new run agrees with it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from splinter import datasets, experiments, runtime
from splinter.experiments import EXPERIMENTS
from splinter.ports.common import checkpoint

README = Path(experiments.__file__).parents[1] / "README.md"
BARS = {"multitask": {"sentiment": 39.1, "paraphrase": 76.4, "similarity": 45.4}}
"""Scores in points that both frameworks must exceed: those of the earlier design's note."""


MARGINS = {
    # dropout off, the same first weights: what differs is rounding, grown through some hundred updates of float32
    "funnel-qnli": 2.0,
    "funnel-squad2": 2.0,
    # dropout on: three deviations of a difference, where three seeds show a deviation of 0.9
    "jointbert-snips-long": 3.8,
    # dropout on, new heads drawn by each framework: other numbers of the same law
    "multitask": 5.0,
}
"""How far two single runs may be apart, in points; else 2. Of few-shot-mini-16, Paddle's five runs differ from torch's
with a deviation of 0.64, three of which are 1.9."""


def margin(name):
    """How far two single runs may be apart, in points; few-shot runs of 128 as far as chance was seen to take them."""
    noise = experiments.noise() if name == "few-shot-mini-128" else None
    return noise["margin"] if noise else MARGINS.get(name, 2.0)


CURVES = 1e-3
"""Largest relative difference of a loss: float32's 6e-8, grown over some hundred updates; seen 2.8e-5."""


def recorded(name):
    """The record of an experiment; skips where it was not run yet."""
    record = experiments.read(name)
    if not record["runs"]:
        pytest.skip(f"results/{name}.json is not there yet: {record['command']}")
    return record


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_training_record_is_complete(name):
    """Every seed in every framework stands in results/, once, with its commands, versions and scores."""
    record, experiment = recorded(name), EXPERIMENTS[name]
    made = [(one["framework"], one["seed"]) for one in record["runs"]]
    assert len(made) == len(set(made)) and set(made) <= set(experiment.runs)
    for one in record["runs"]:
        assert len(one["commands"]) == len(experiment.stages)
        assert one["versions"]["torch"] and one["versions"]["paddlepaddle"]
        found = experiments.points(experiment, one)
        assert found.keys() == {heading for _, _, heading, _ in experiment.scores}
        assert all(0 <= value <= 100 for value in found.values())
    commands = {tuple(_without_its_own(command, one) for command in one["commands"]) for one in record["runs"]}
    assert len(commands) == 1, "runs differ in more than framework, precision, micro-batch and seed"
    if missing := set(experiment.runs) - set(made):
        pytest.skip(f"{len(missing)} of {len(experiment.runs)} runs are still to be made: {record['command']}")


def _without_its_own(command, run):
    """A command of a run without what it may have alone."""
    own = {run["framework"]: "F", f"--seed {run['seed']}": "", f"-seed-{run['seed']}-": ""}
    for old, new in own.items():
        command = command.replace(old, new)
    # micro-batches: the same update; how the first runs were made stays legible. float32: the table has a mark for it
    command = re.sub(r"--micro-batch \d+|--precision \w+", "", command)
    return " ".join(command.split())


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_training_agrees_in_both_frameworks(name):
    """No difference between the frameworks that the 95 % interval of the seeds excludes; of a single seed, none
    beyond the margin."""
    recorded(name)
    found = experiments.compared(name)
    if not any(framework == "paddle" for framework, _ in EXPERIMENTS[name].runs):
        pytest.skip(f"{name} is run in torch alone")
    if not found and EXPERIMENTS[name].scores:
        pytest.skip(f"no seed of {name} is recorded in both frameworks yet")
    for heading, one in found.items():
        assert experiments.verdict(one) != "different", f"{name}, {heading}: {one}"
        if one["runs"] < 3:  # the interval of two differences is 13 times their deviation: it would hold anything
            assert abs(one["difference"]) <= margin(name), f"{name}, {heading}: {one}"


@pytest.mark.parametrize("name", [name for name, experiment in EXPERIMENTS.items() if experiment.curves])
def test_training_curves_lie_over_each_other(name):
    """From the same weights, without dropout, every update has the same loss but for float32 that grows."""
    recorded(name)
    updates, found = experiments.apart(name)
    assert updates > 100 and found <= CURVES


@pytest.mark.parametrize("name", list(BARS))
def test_training_beats_the_earlier_scores(name):
    """In one checkpoint, in both frameworks, every run."""
    for one in recorded(name)["runs"]:
        found = experiments.points(EXPERIMENTS[name], one)
        for heading, bar in BARS[name].items():
            assert found[heading] > bar, f"{one['framework']}, seed {one['seed']}: {heading} {found[heading]}"


def test_training_tables_come_from_the_records(figures):
    """README's tables of trainings are what scripts/figures.py makes of results/ now."""
    for table in (figures.trainings_table, figures.few_shot_table):
        assert table(experiments.RESULTS) in README.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_training_again_gives_what_is_recorded(name, tmp_path, capsys):
    """One seed, trained anew in both frameworks: scores within four standard deviations of the record, or the margin of
    single runs; losses, where dropout is off, within that of rounding."""
    recorded(name)
    experiment = EXPERIMENTS[name]
    starts = [a for _, arguments in experiment.stages for a in arguments if a in checkpoint.NAMED]
    try:
        experiments.find_data(experiment)
        for start in starts or ["minilm"]:
            checkpoint.resolve(start)
    except (datasets.DataMissing, checkpoint.CheckpointError) as error:
        pytest.skip(str(error))
    seed = experiment.seeds[0]
    # bfloat16 where it must be imitated takes ten times as long; rounding moves F1 less than chance does
    precision = None if runtime.computes_bfloat16() or torch.cuda.is_available() else "float32"
    record = experiments.run(name, tmp_path / "work", tmp_path / "results", jobs=2, seeds=[seed], precision=precision)
    with capsys.disabled():
        print(json.dumps(record, indent=1))
    stored = {(one["framework"], one["seed"]): one for one in experiments.read(name)["runs"]}
    spread = experiments.compared(name)
    for one in record["runs"]:
        before = stored[one["framework"], seed]
        for heading, value in experiments.points(experiment, one).items():
            deviation = (spread[heading]["deviation"][one["framework"]] if heading in spread else None) or 0.0
            allowed = max(4 * deviation, margin(name))
            was = experiments.points(experiment, before)[heading]
            assert abs(value - was) <= allowed, f"{one['framework']}: {heading} {value}, was {was}"
        for label, training in one["trainings"].items() if experiment.curves else ():
            losses = np.array([training["losses"], before["trainings"][label]["losses"]])
            assert np.abs(losses[0] / losses[1] - 1).max() <= CURVES
