"""scripts/evidence: every run once, recorded at once; means, intervals and verdicts by hand."""

import dataclasses
import json
from pathlib import Path

import pytest
from evidence import experiments, findings, plots, running, tables
from evidence.experiments import Experiment

from splinter import datasets
from splinter.align.kill import Kill, Strike
from splinter.align.record import SCHEMA
from splinter.ports.common import checkpoint

TOY = Experiment(
    title="toy",
    needs=("toy/train.tsv",),
    stages=(
        (
            "train",
            (
                "finetune",
                "--model",
                "{shared}",
                "--seed",
                "{seed}",
                "--train",
                "{data}/toy",
                "--output",
                "{work}/model",
            ),
        ),
        ("test", ("evaluate", "--model", "{work}/model", "--framework", "{framework}")),
    ),
    scores=(("test", "accuracy", "accuracy", 100),),
    seeds=(1, 2, 3),
    published={"accuracy": 90.0},
    source="nowhere",
    once=("convert", "nothing", "{shared}"),
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
        returncode, stdout, stderr = 0, "", "boom"

    def spawn(command, **rest):
        done = Done()
        if "convert" in command:
            Path(command[-1]).mkdir()
            (Path(command[-1]) / "model.safetensors").write_text("the first")
            return done
        calls.append(command[3:])
        done.returncode = 1 if (tmp_path / "fail").exists() and "--framework" in command else 0
        if "finetune" in command:
            output = tmp_path / "work" / command[command.index("--output") + 1]
            output.mkdir(parents=True, exist_ok=True)
            training = {"environment": {"versions": {"numpy": "2"}}, "updates": 3, "final_loss": 0.5, "seconds": 1.0}
            training["start_sha256"] = checkpoint.fingerprint(tmp_path / "work" / "shared")
            (output / "training.json").write_text(json.dumps(training))
        done.stdout = json.dumps({"accuracy": 0.8 + 0.05 * ("paddle" in command), "model": "somewhere"})
        return done

    monkeypatch.setattr(running.subprocess, "run", spawn)

    def run(**more):
        return running.run("toy", tmp_path / "work", tmp_path / "results", say=lambda text: None, **more)

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
        record["runs"][0]["commands"][0]
        == "splinter finetune --model SHARED --seed 1 --train $SPLINTER_DATA/toy --output RUN/model"
    )
    assert record["runs"][0]["scores"] == {"test": {"accuracy": pytest.approx(0.85)}}


def test_what_ended_before_a_failure_is_kept(toy, tmp_path):
    """
    A failing command is named with its last words; after it, only what is missing runs.
    """
    _, run = toy
    run(seeds=[1])
    (tmp_path / "fail").touch()
    with pytest.raises(running.ExperimentError, match=r"splinter evaluate .* ended with 1: boom"):
        run()
    (tmp_path / "fail").unlink()
    assert len(run()["runs"]) == 6


def test_runs_from_other_weights_are_not_mixed_in(toy, tmp_path):
    """
    A record knows what its runs began from; when that is another file now, nothing is run.
    """
    calls, run = toy
    run(seeds=[1])
    (tmp_path / "work" / "shared" / "model.safetensors").write_text("another")
    with pytest.raises(running.ExperimentError, match=r"toy: paddle, seed 1 began from weights \w+, .*shared has \w+ "):
        run()
    assert len(calls) == 4


def test_what_another_process_recorded_meanwhile_stays(toy, tmp_path, monkeypatch):
    """
    Two shells at one experiment: none takes the other's runs away.
    """
    _, run = toy
    one = running._one

    def with_another(*given):
        monkeypatch.setattr(running, "_one", one)
        run(seeds=[3])
        return one(*given)

    monkeypatch.setattr(running, "_one", with_another)
    assert [made["seed"] for made in run(seeds=[1])["runs"]] == [1, 1, 3, 3]


def test_without_its_data_an_experiment_says_so(toy, monkeypatch, tmp_path):
    """
    Before anything runs.
    """
    calls, run = toy
    monkeypatch.setattr(running, "find_data", lambda experiment: datasets.find("toy/none.tsv"))
    with pytest.raises(datasets.DataMissing, match=r"toy/none\.tsv"):
        run()
    assert calls == []


def test_one_folder_must_hold_everything_under_its_very_name(toy, monkeypatch, tmp_path):
    """
    A file in another folder, or packed where the command names it plain, would fail in the command.
    """
    assert running.find_data(TOY) == tmp_path / "data"
    (tmp_path / "data" / "toy" / "train.tsv").rename(tmp_path / "data" / "toy" / "train.tsv.gz")
    with pytest.raises(datasets.DataMissing, match=r"no data folder holds all of toy/train\.tsv"):
        running.find_data(TOY)


def test_comparison_by_hand(toy, tmp_path):
    """
    Paired by seed: torch 80, paddle 85, a difference of 5 in each pair, so its interval is 0.
    """
    _, run = toy
    run()
    found = findings.compared("toy", tmp_path / "results")["accuracy"]
    assert (found["torch"], found["paddle"]) == (pytest.approx(80), pytest.approx(85))
    assert found["difference"] == pytest.approx(5)
    assert found["interval"] == pytest.approx(0, abs=1e-9)
    assert (found["runs"], found["published"]) == (3, 90.0)
    assert findings.verdict(found) == "different"


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
    assert findings.verdict({"difference": difference, "interval": interval}) == word


def test_summary_by_hand():
    """
    Mean 2, deviation 1, interval t * s / sqrt(n) for the runs 1, 2, 3; of one run the mean alone.
    """
    assert findings.summary([1.0, 2.0, 3.0]) == {
        "mean": 2.0,
        "deviation": 1.0,
        "interval": pytest.approx(4.303 / 3**0.5),
    }
    assert findings.summary([1.0]) == {"mean": 1.0, "deviation": None, "interval": None}
    with pytest.raises(ValueError, match="0 runs: an interval is known for 2 to 10"):
        findings.summary([])


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
    assert findings.apart("x", tmp_path) == (2, pytest.approx(0.1))
    write(json.dumps({"runs": runs[:1]}))
    assert findings.apart("x", tmp_path) is None
    write(json.dumps({"runs": [{**runs[0], "trainings": {"train": {}}}]}))
    assert findings.apart("x", tmp_path) is None


# -- the few-shot claim -----------------------------------------------------------------------------------


@pytest.fixture
def claimed(tmp_path):
    """Records: three paired samples at 16 examples, one at 128, splinter-mini alone at 1024; Paddle once."""
    scores = {
        "few-shot-mini-16": {42: 30.0, 43: 32.0, 44: 34.0, 45: 99.0},
        "few-shot-control-16": {42: 20.0, 43: 21.0, 44: 22.0},
        "few-shot-mini-128": {42: 50.0},
        "few-shot-control-128": {42: 41.0},
        "few-shot-plain-128": {42: 12.0},
        "few-shot-mini-1024": {42: 60.0},
        "few-shot-noise-128": {1: 51.0, 2: 52.0},
    }
    for name, found in scores.items():
        runs = [
            {"framework": "torch", "seed": seed, "scores": {"dev": {"f1": f1, "exact": 0.0}}, "commands": [precision]}
            for seed, f1 in found.items()
            for precision in ["--precision " + ("float32" if seed == 43 else "bf16")]
        ]
        if name == "few-shot-mini-16":
            runs.append({"framework": "paddle", "seed": 42, "scores": {"dev": {"f1": 30.5, "exact": 0.0}}})
        (tmp_path / f"{name}.json").write_text(json.dumps({"experiment": name, "runs": runs}), encoding="utf-8")
    return tmp_path


def test_the_claim_by_hand(claimed):
    """
    Differences 10, 11, 12: mean 11, deviation 1, interval t / sqrt(3); a sample without its pair does not count.
    """
    found = findings.claim(16, results=claimed)
    assert (found["runs"], found["mini"]["mean"], found["rival"]["mean"]) == (3, 32.0, 21.0)
    assert found["difference"] == {"mean": 11.0, "deviation": 1.0, "interval": pytest.approx(4.303 / 3**0.5)}
    one = findings.claim(128, results=claimed)
    assert one["difference"] == {"mean": 9.0, "deviation": None, "interval": None}
    assert findings.claim(1024, results=claimed) is None
    assert findings.claim(128, "plain", claimed)["difference"]["mean"] == 38.0
    assert findings.few_shot("mini", 16, "paddle", claimed) == {42: 30.5}


def test_few_shot_runs_differ_in_their_sample_and_their_start_alone():
    """
    Same recipe, same training seed, same questions; torch runs all samples, Paddle some.
    """
    mini, *rivals = (experiments.EXPERIMENTS[f"few-shot-{start}-128"] for start in experiments.STARTS)
    there = [" ".join(a for _, arguments in one.stages for a in arguments) for one in (mini, *rivals)]
    assert {there[0].replace("splinter-mini", "{shared}")} == set(there[1:])
    assert len({one.once for one in rivals}) == 3
    assert "num-examples-128" in there[0]
    assert "--seed" not in there[0].replace("train-seed", "")
    assert (mini.seeds, mini.seeds_of) == ((42, 43, 44, 45, 46), {"paddle": (42, 43)})


def test_a_framework_may_have_fewer_seeds(toy, monkeypatch):
    """
    What an experiment leaves out for one framework is not run there.
    """
    monkeypatch.setitem(experiments.EXPERIMENTS, "toy", dataclasses.replace(TOY, seeds_of={"paddle": (2,)}))
    runs = toy[1]()["runs"]
    assert [(one["framework"], one["seed"]) for one in runs] == [
        ("torch", 1),
        ("paddle", 2),
        ("torch", 2),
        ("torch", 3),
    ]


def test_another_precision_where_an_experiment_names_one(toy, monkeypatch):
    """
    What is asked for goes into the command and so into the record; otherwise the experiment's own.
    """
    label, train = TOY.stages[0]
    stages = ((label, (*train, "--precision", "{precision}")), *TOY.stages[1:])
    changed = dataclasses.replace(TOY, stages=stages, precision={"torch": "bf16"})
    monkeypatch.setitem(experiments.EXPERIMENTS, "toy", changed)
    toy[1](seeds=[1])
    runs = toy[1](seeds=[2], precision="bf17")["runs"]
    asked = {(one["framework"], one["seed"]): one["commands"][0].split("--precision ")[1] for one in runs}
    assert asked == {("torch", 1): "bf16", ("torch", 2): "bf17", ("paddle", 1): "float32", ("paddle", 2): "float32"}


def test_what_is_kept_of_a_kill_matrix(tmp_path):
    """
    Of the strikes its own step's, and the floors.
    """

    def killed(bug, *red):
        strikes = tuple(Strike(step, True, "x", 3.0) for step in red)
        return Kill(bug, "toy", "hf", "float64", "loss", "mutant", (), strikes).record()

    floor = {"step": "loss", "what": "loss off", "dtype": "float64", "system": "toy", "smallest": 2.0}
    kills = [killed("mean", "loss", "lr"), killed("sum", "lr")]
    document = {"schema": SCHEMA, "environment": {}, "results": [], "kills": kills, "floors": [floor]}
    path = tmp_path / "kill.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    record = tables.kill_record(path)
    own = {"step": "loss", "red": True, "margin": 3.0}
    assert [(one["bug"], one["red"], one["strikes"]) for one in record["kills"]] == [
        ("mean", ["loss", "lr"], [own]),
        ("sum", ["lr"], []),
    ]
    assert record["floors"] == [floor]
    assert "| loss | 1 of 2 | 1 of 2 | 1 | 3 times its limit: mean |" in tables.kill_table(record)


def test_tables_and_plot_of_the_claim(claimed, tmp_path):
    """
    A row per size with both, a row per start, size and framework with every run; the plot is a whole SVG, always the
    same.
    """
    table = tables.few_shot_table(claimed)
    scores = "32.00 ± 4.97 (sd 2.00) | 21.00 ± 2.48 (sd 1.00) | +11.00 ± 2.48 (sd 1.00)"
    assert f"| 16 | its own start, head included (`control`) | 3 | {scores} | holds | 54.6 |" in table
    assert "(`control`) | 1 | 50.00 | 41.00 | +9.00 | one run each | 72.7 |" in table
    assert "(`plain`) | 1 | 50.00 | 12.00 | +38.00 | one run each | 72.7 |" in table
    assert "(`random`)" not in table
    assert "- `plain`: `splinter convert minilm SHARED --mode paper --head plain`" in table
    assert "Not run: mini 16 (of sample 46); mini 128 (of samples 43, 44, 45, 46); mini 1024 (of samples" in table
    assert "; control 1024; plain 16; plain 128 (of samples 43, 44, 45, 46); plain 1024; random 16;" in table
    assert "; mini 16 (of samples 43, 44, 45, 46) in Paddle; mini 128 in Paddle; mini 1024 in Paddle." in table
    assert "| mini | 16 | paddle | 30.50 |  |  |  |  |" in table
    assert "| mini | 16 | torch | 30.00 | 32.00\\* | 34.00 | 99.00 |  |" in table
    assert "\\* in float32" in table
    # 50, 51 and 52: deviation 1 of three runs: their difference by chance is within 4.303 * sqrt(2)
    assert "16 examples, sample 42: +0.50. " in table
    assert "deviation is 1.00. Two such runs may differ by 6.09 points (95 %)." in table
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        plots.few_shot(claimed, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    with pytest.raises(ValueError, match=r"not recorded in both frameworks; python scripts/experiment\.py pretraining"):
        plots.curves("pretraining", claimed, tmp_path / "curves.svg")
    runs = [
        {"framework": name, "trainings": {"train": {"losses": [3.0, 2.0 + number / 100]}}}
        for number, name in enumerate(experiments.FRAMEWORKS)
    ]
    (tmp_path / "pretraining.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
    plots.curves("pretraining", claimed, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
