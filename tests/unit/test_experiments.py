"""experiments.py: every run once, recorded at once; means, intervals and verdicts by hand."""

import json

import pytest

from splinter import datasets, experiments
from splinter.experiments import Experiment

TOY = Experiment(
    title="toy",
    needs=("toy/train.tsv",),
    stages=(
        ("train", ("finetune", "--seed", "{seed}", "--train", "{data}/toy", "--output", "{work}/model")),
        ("test", ("evaluate", "--model", "{work}/model", "--framework", "{framework}")),
    ),
    scores=(("test", "accuracy", "accuracy", 100),),
    seeds=(1, 2, 3),
    published={"accuracy": 90.0},
    source="nowhere",
)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """The toy experiment, its data, and commands that only say what they were given: (calls, run)."""
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "train.tsv").write_text("x")
    monkeypatch.setenv("SPLINTER_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(experiments.EXPERIMENTS, "toy", TOY)
    calls = []

    class Done:
        returncode, stderr = 0, "boom"

    def spawn(command, **rest):
        calls.append(command[3:])
        done = Done()
        done.returncode = 1 if (tmp_path / "fail").exists() and "--framework" in command else 0
        if "finetune" in command:
            output = tmp_path / "work" / command[command.index("--output") + 1]
            output.mkdir(parents=True, exist_ok=True)
            training = {"environment": {"versions": {"numpy": "2"}}, "updates": 3, "final_loss": 0.5, "seconds": 1.0}
            (output / "training.json").write_text(json.dumps(training))
        done.stdout = json.dumps({"accuracy": 0.8 + 0.05 * ("paddle" in command), "model": "somewhere"})
        return done

    monkeypatch.setattr(experiments.subprocess, "run", spawn)

    def run(**more):
        return experiments.run("toy", tmp_path / "work", tmp_path / "results", say=lambda text: None, **more)

    return calls, run


def test_every_run_is_recorded_once(toy, tmp_path):
    """
    Three seeds in two frameworks; a second call runs nothing, and no path of this machine is in the record.
    """
    calls, run = toy
    record = run(jobs=2)
    assert [(one["seed"], one["framework"]) for one in record["runs"]] == [
        (seed, framework) for seed in (1, 2, 3) for framework in ("paddle", "torch")
    ]
    assert len(calls) == 12
    stored = (tmp_path / "results" / "toy.json").read_text()
    assert json.loads(stored) == record == run()
    assert len(calls) == 12
    assert str(tmp_path) not in stored
    assert (
        record["runs"][0]["commands"][0] == "splinter finetune --seed 1 --train $SPLINTER_DATA/toy --output RUN/model"
    )
    assert record["runs"][0]["scores"] == {"test": {"accuracy": pytest.approx(0.85)}}


def test_what_ended_before_a_failure_is_kept(toy, tmp_path):
    """
    A failing command is named with its last words; after it, only what is missing runs.
    """
    _, run = toy
    run(seeds=[1])
    (tmp_path / "fail").touch()
    with pytest.raises(experiments.ExperimentError, match=r"splinter evaluate .* ended with 1: boom"):
        run()
    (tmp_path / "fail").unlink()
    assert len(run()["runs"]) == 6


def test_without_its_data_an_experiment_says_so(toy, monkeypatch, tmp_path):
    """
    Before anything runs.
    """
    calls, run = toy
    monkeypatch.setattr(experiments, "find_data", lambda experiment: datasets.find("toy/none.tsv"))
    with pytest.raises(datasets.DataMissing, match=r"toy/none\.tsv"):
        run()
    assert calls == []


def test_one_folder_must_hold_everything_under_its_very_name(toy, monkeypatch, tmp_path):
    """
    A file in another folder, or packed where the command names it plain, would fail in the command.
    """
    assert experiments.find_data(TOY) == tmp_path / "data"
    (tmp_path / "data" / "toy" / "train.tsv").rename(tmp_path / "data" / "toy" / "train.tsv.gz")
    with pytest.raises(datasets.DataMissing, match=r"no data folder holds all of toy/train\.tsv"):
        experiments.find_data(TOY)


def test_comparison_by_hand(toy, tmp_path):
    """
    Paired by seed: torch 80, paddle 85, a difference of 5 in each pair, so its interval is 0.
    """
    _, run = toy
    run()
    found = experiments.compared("toy", tmp_path / "results")["accuracy"]
    assert (found["torch"], found["paddle"]) == (pytest.approx(80), pytest.approx(85))
    assert found["difference"] == pytest.approx(5)
    assert found["interval"] == pytest.approx(0, abs=1e-9)
    assert (found["runs"], found["published"]) == (3, 90.0)
    assert experiments.verdict(found) == "different"


@pytest.mark.parametrize(
    ("difference", "interval", "word"),
    [
        (0.1, 0.2, "no difference seen"),
        (0.1, 3.0, "inconclusive"),
        (0.3, 0.2, "different"),
        (0.3, None, "one run each"),
    ],
)
def test_verdicts(difference, interval, word):
    """
    A difference outside its interval; an interval too wide to tell; neither.
    """
    assert experiments.verdict({"difference": difference, "interval": interval}) == word


def test_summary_by_hand():
    """
    Mean 2, deviation 1, interval t * s / sqrt(n) for the runs 1, 2, 3.
    """
    assert experiments.summary([1.0, 2.0, 3.0]) == {
        "mean": 2.0,
        "deviation": 1.0,
        "interval": pytest.approx(4.303 / 3**0.5),
    }
    with pytest.raises(ValueError, match="1 runs: an interval needs 2 to 10"):
        experiments.summary([1.0])


def test_losses_are_compared_update_by_update(tmp_path):
    """
    Of runs that start from the same weights; others have none recorded.
    """
    runs = [
        {"framework": framework, "seed": 1, "trainings": {"train": {"losses": losses}}}
        for framework, losses in (("torch", [2.0, 1.0]), ("paddle", [2.0, 1.1]))
    ]
    write = (tmp_path / "x.json").write_text
    write(json.dumps({"runs": runs}))
    assert experiments.apart("x", tmp_path) == (2, pytest.approx(0.1))
    write(json.dumps({"runs": runs[:1]}))
    assert experiments.apart("x", tmp_path) is None
    write(json.dumps({"runs": [{**runs[0], "trainings": {"train": {}}}]}))
    assert experiments.apart("x", tmp_path) is None
