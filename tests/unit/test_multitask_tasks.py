"""The multi-task commands on the embedded checkpoint: fine-tune, resume, score, predict, convert; mistakes."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from splinter.align.files import WeightError
from splinter.cli import main as cli
from splinter.cli import parser
from splinter.ports.common import UsageError, backend, folders
from splinter.ports.common import tasks as common
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.tasks import Settings
from splinter.ports.common.training.log import LOG
from splinter.ports.multitask import commands, config, data, tasks
from splinter.ports.multitask.config import TASKS, read_checkpoint
from splinter.ports.multitask.proof import cases
from splinter.ports.multitask.tasks import Choices, Files
from splinter.sample import PATH

BOTH = pytest.mark.parametrize("framework", ["paddle", "torch"])
SAMPLE = PATH / "multitask"
SHORT = replace(config.RECIPE, learning_rate=1e-3, epochs=2)
CHOICES = Choices(steps=2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(framework="paddle", model=None):
    """The embedded checkpoint."""
    return Settings(str(model or cases.tiny()), framework)


@pytest.fixture
def finetune(tmp_path):
    """Train into tmp_path/run."""

    def run(
        framework="paddle", resume=False, choices=CHOICES, hyper=SHORT, files=None, said=None, output="run", **more
    ):
        say = (lambda text: None) if said is None else said.append
        files = files or Files(SAMPLE)
        run = {"train": files.folder, "output": tmp_path / output, "recipe": hyper, "resume": resume, "save_every": 2}
        return common.train(
            tasks.Finetuning(settings=settings(framework, **more), files=files, choices=choices, **run), say
        )

    return run


def weights(folder):
    """The bytes of the model."""
    return (folder / "model.safetensors").read_bytes()


def splinter(capsys, *arguments):
    """Run the command line: exit code, standard output, standard error."""
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


# -- fine-tuning ------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_an_interrupted_run_ends_in_the_same_bits(finetune, tmp_path, monkeypatch, framework, sampling):
    """
    Stopped in the fourth update, resumed from the second: weights, log and scores are those of the whole run.
    """
    choices = replace(CHOICES, sampling=sampling, phase="pretrain" if sampling == "joint" else "finetune")
    whole = finetune(framework, choices=choices)
    kept = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    computing = backend.opened("multitask", framework)
    plain, left = computing.trainer, iter(range(3))

    def trainer(model, hyper):
        made = plain(model, hyper)
        step = made.step

        def interrupted(batch, rate):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return step(batch, rate)

        made.step = interrupted
        return made

    with monkeypatch.context() as patch:
        patch.setattr(computing, "trainer", trainer)
        with pytest.raises(KeyboardInterrupt):
            finetune(framework, choices=choices)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best", "log.jsonl", "step-000002"]
    record = finetune(framework, resume=True, choices=choices)
    assert weights(tmp_path / "run") == kept
    assert {n: record[n] for n in ("best", "last", "best_of_each", "passes", "final_loss")} == {
        n: whole[n] for n in ("best", "last", "best_of_each", "passes", "final_loss")
    }


@BOTH
def test_both_phases_one_after_the_other(finetune, tmp_path, framework):
    """
    Pretrain leaves BERT as it was; finetune starts from its heads and moves everything.
    """
    first = finetune(framework, choices=replace(CHOICES, phase="pretrain", head="fresh"), output="heads")
    start, heads = (load_file(folder / "model.safetensors") for folder in (cases.tiny(), tmp_path / "heads"))
    assert all(np.array_equal(heads[name], start[name]) for name in heads if name.startswith("bert."))
    assert all(not np.array_equal(heads[name], start[name]) for name in heads if not name.startswith("bert."))
    assert (first["head"], first["phase"]) == ("fresh", "pretrain")

    still = replace(SHORT, learning_rate=0.0)
    second = finetune(framework, hyper=still, model=tmp_path / "heads", output="still")
    assert second["head"] == "pretrained"
    after = load_file(tmp_path / "still" / "model.safetensors")
    assert all(np.array_equal(heads[name], after[name]) for name in heads)  # carried over, bit for bit

    finetune(framework, model=tmp_path / "heads", output="run")
    moved = load_file(tmp_path / "run" / "model.safetensors")
    fixed = {name for name in moved if np.array_equal(moved[name], heads[name])}
    assert not fixed


def test_the_record_tells_what_was_done(finetune, tmp_path):
    """
    Rows, passes, histograms, the best of each task, and the epoch that was kept by the mean of the three.
    """
    said = []
    record = finetune(said=said)
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == record
    assert "quora-dev.csv: 1 rows dropped, their label is no number" in said[0]
    assert said[1].startswith("sentiment 60 + 30, paraphrase 60 + 29, similarity 60 + 30 rows; 4 updates, 2 per epoch")
    assert record["rows"]["paraphrase"] == {"train": 60, "dev": 29}
    assert record["passes"] == dict.fromkeys(TASKS, 0.533)
    log = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    seen = {entry["step"]: entry["dev"] for entry in log if "dev" in entry}
    assert list(seen) == [2, 4]
    assert seen[2]["passes"]["sentiment"] == pytest.approx(0.267)
    assert record["best"]["scores"]["mean"] == max(scores["mean"] for scores in seen.values())
    for task in TASKS:
        assert record["best_of_each"][task]["score"] == max(scores[task] for scores in seen.values())
        assert sum(seen[2]["predicted"][task].values()) == record["rows"][task]["dev"]
    assert read_checkpoint(tmp_path / "run")[0].design == "version2"


def test_fewer_tasks_other_data_other_heads(finetune, tmp_path):
    """
    Sentiment of two classes alone, from files by name, in version 1; the other heads stay as they were made.
    """
    rows = ["\tid\tsentence\tsentiment", *(f"{i}\tx{i}\t{'good' if i % 2 else 'bad'} film\t{i % 2}" for i in range(12))]
    file = tmp_path / "movies.csv"
    file.write_text("\n".join(rows), encoding="utf-8")
    named = {("sentiment", "train"): (file, file), ("sentiment", "dev"): (file,)}
    files = Files(tmp_path / "none", named, ("sentiment",), "cfimdb")
    record = finetune(files=files, choices=Choices(head="fresh", design="version1"), hyper=replace(SHORT, epochs=1))
    assert (record["rows"], record["updates"]) == ({"sentiment": {"train": 24, "dev": 12}}, 3)
    assert record["best"]["scores"]["mean"] == record["best"]["scores"]["sentiment"]
    config, tensors, missing = read_checkpoint(tmp_path / "run")
    assert (config.design, config.sentiment_classes, missing) == ("version1", 2, ())
    assert tensors["paraphrase_classifier.weight"].shape == (1, 120)
    found = tasks.evaluate(settings(model=tmp_path / "run"), files)
    assert found["sentiment"] == record["best"]["scores"]["sentiment"]


def test_dev_rows_choose_by_the_first_rows(finetune):
    """
    A look costs less; the record says how many rows it saw.
    """
    record = finetune(choices=replace(CHOICES, dev_rows=7))
    assert {task: sizes["dev"] for task, sizes in record["rows"].items()} == dict.fromkeys(TASKS, 7)
    assert sum(record["best"]["scores"]["predicted"]["sentiment"].values()) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyper": replace(SHORT, seed=1)}, "seed was 11711, now 1"),
        ({"choices": replace(CHOICES, sampling="proportional")}, "kind was joint, now proportional"),
        ({"choices": replace(CHOICES, phase="pretrain")}, "phase was finetune, now pretrain"),
        ({"choices": replace(CHOICES, dev_rows=3)}, "similarity was"),
        ({"choices": replace(CHOICES, head_activation="none")}, "head_activation was relu, now none"),
        ({"files": Files(SAMPLE, tasks=("sentiment",))}, r"tasks was .*, now \['sentiment'\]"),
        ({"framework": "torch"}, "framework was paddle, now torch"),
    ],
    ids=["seed", "sampling", "phase", "dev rows", "activation", "tasks", "framework"],
)
def test_a_resumed_run_is_the_same_run(finetune, monkeypatch, change, message):
    """
    Other options than the first time: an error that says which, finished or not.
    """
    with monkeypatch.context() as patch:
        patch.setattr(backend.opened("multitask", "paddle"), "save", _full)
        with pytest.raises(OSError, match="No space"):
            finetune()
    with pytest.raises(CheckpointError, match=message):
        finetune(resume=True, **change)


def _full(*arguments):
    raise OSError(28, "No space left on device")


def test_a_finished_run_is_neither_repeated_nor_overwritten(finetune):
    """
    --resume finds nothing to do, and is not fooled by other choices.
    """
    record, said = finetune(), []
    assert finetune(resume=True, said=said) == record
    assert "finished already" in said[0]
    with pytest.raises(UsageError, match=r"holds model\.safetensors already"):
        finetune()
    with pytest.raises(UsageError, match=r"with other options \(sampling was joint, now proportional\)"):
        finetune(resume=True, choices=replace(CHOICES, sampling="proportional"))


# -- scoring and predicting -------------------------------------------------------------------------------


def test_frameworks_and_batches_score_alike(tmp_path):
    """
    Paddle or torch, sentences one by one or 64 at a time: the same scores and files of predictions.
    """
    found, written = [], []
    for framework, size in (("paddle", 64), ("torch", 64), ("paddle", 1)):
        given = replace(settings(framework), batch_size=size)
        folder = tmp_path / f"{framework}-{size}"
        found.append(tasks.evaluate(given, Files(SAMPLE), predictions=folder, say=lambda text: None))
        written.append(folder)
    for task in TASKS:
        assert found[0][task] == pytest.approx(found[1][task], abs=1e-6)
        assert found[0][task] == pytest.approx(found[2][task], abs=1e-6)
    assert found[0]["mean"] == pytest.approx(sum(found[0][task] for task in TASKS) / 3)
    assert found[0]["dropped"] == {"sentiment": 0, "paraphrase": 1, "similarity": 0}
    for name in ("sst-dev-output.csv", "para-dev-output.csv"):
        assert len({(folder / name).read_text() for folder in written}) == 1


def test_the_files_of_predictions_are_the_courses(tmp_path):
    """
    A header, then `id, value`, one line per row with a label, and nothing else.
    """
    tasks.evaluate(settings(), Files(SAMPLE), predictions=tmp_path / "out", say=lambda text: None)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "para-dev-output.csv",
        "sst-dev-output.csv",
        "sts-dev-output.csv",
    ]
    lines = (tmp_path / "out" / "para-dev-output.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("id, Predicted_Is_Paraphrase", 30)
    assert lines[1].split(", ")[0] == data.read(SAMPLE / "quora-dev.csv", "paraphrase").ids[0]
    name, value = (tmp_path / "out" / "sts-dev-output.csv").read_text().splitlines()[1].split(", ")
    assert -100 < float(value) < 100
    assert name


def test_files_without_labels_are_predicted_not_scored(tmp_path):
    """
    The course's test files: predictions, no scores; without --predictions there is nothing to do.
    """
    for task, stem in (("sentiment", "ids-sst"), ("similarity", "sts")):
        header = "0\t\tid\tsentence" if task == "sentiment" else "\tid\tsentence1\tsentence2"
        row = "0\t0.0\tx1\tA day." if task == "sentiment" else "0\tx1\tA day.\tA night."
        (tmp_path / f"{stem}-test-student.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    files = Files(tmp_path, tasks=("sentiment", "similarity"))
    found = tasks.evaluate(settings(), files, "test", tmp_path / "out")
    assert found["rows"] == {"sentiment": 1, "similarity": 1}
    assert "sentiment" not in found
    assert (tmp_path / "out" / "sst-test-output.csv").read_text().splitlines()[1].startswith("x1, ")
    with pytest.raises(UsageError, match="carry no labels: nothing can be scored; write them with --predictions"):
        tasks.evaluate(settings(), files, "test")


def test_an_undefined_correlation_is_null_with_a_warning(tmp_path):
    """
    All scores alike: nan, not 0, and JSON has no nan.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["similarity_out.weight"] = np.zeros_like(tensors["similarity_out.weight"])
    save_file(tensors, folder / "model.safetensors")
    found = tasks.evaluate(settings(model=folder), Files(SAMPLE), say=lambda text: None)
    assert (found["similarity"], found["mean"]) == (None, None)
    assert "correlation is undefined (nan): all predictions are" in found["warnings"][0]


def test_weights_that_are_no_numbers_are_named(tmp_path):
    """
    A diverged model is not scored, and not converted; with Paddle the tensor is named.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["sentiment_classifier.bias"] = np.full(5, np.nan, "float32")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="model answers with NaN: its weights are broken"):
        tasks.evaluate(settings("torch", model=folder), Files(SAMPLE))
    with pytest.raises(WeightError, match=r"tensor 'sentiment_classifier\.bias' holds NaN"):
        tasks.evaluate(settings(model=folder), Files(SAMPLE))
    with pytest.raises(WeightError, match=r"tensor 'sentiment_classifier\.bias' holds NaN"):
        tasks.convert(str(folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@BOTH
def test_a_model_folder_may_go_while_it_is_trained(finetune, tmp_path, monkeypatch, framework):
    """
    What lies beside the weights was read before the first update.
    """
    model = shutil.copytree(cases.tiny(), tmp_path / "model")
    fit = common.fit
    monkeypatch.setattr(common, "fit", lambda *given, **more: (shutil.rmtree(model), fit(*given, **more))[1])
    finetune(framework, model=model)
    assert (tmp_path / "run" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()
    assert tasks.open_runner(settings(framework, tmp_path / "run")).pieces.size


def test_predictions_are_written_alone(tmp_path):
    """
    A folder that another command writes into is refused; a mistyped model leaves none behind.
    """
    with folders.alone(tmp_path / "out"), pytest.raises(UsageError, match="another run is writing into"):
        tasks.evaluate(settings(), Files(SAMPLE), predictions=tmp_path / "out")
    with pytest.raises(CheckpointError):
        tasks.evaluate(settings(model="mistyped"), Files(SAMPLE), predictions=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@BOTH
def test_one_text_has_a_sentiment_and_two_a_likeness(framework):
    """
    In the order they come, by the same cleaning as the files.
    """
    rows = [("1", ("A GOOD film",)), ("2", ("Who made it?", "By whom was it made?")), ("3", ("a good film",))]
    one, pair, again = tasks.predict(settings(framework), rows)
    assert one["sentiment"] == int(np.argmax(one["probabilities"]))
    assert sum(one["probabilities"]) == pytest.approx(1)
    assert one["probabilities"] == again["probabilities"]
    assert pair["paraphrase"] == (pair["probability"] > 0.5)
    assert f"similarity {pair['similarity']:.2f} of 5" in pair["lines"][2]


@pytest.mark.parametrize(("lean", "said"), [(-9, "a paraphrase"), (9, "no paraphrase")])
def test_the_probability_is_that_of_what_is_said(tmp_path, lean, said):
    """
    "no paraphrase (73.8%)" where a paraphrase has 26.2%; "probability" is always that of a paraphrase.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["paraphrase_out.bias"][0] += lean
    save_file(tensors, folder / "model.safetensors")
    (pair,) = tasks.predict(settings(model=folder), [("1", ("Who made it?", "By whom was it made?"))])
    assert pair["lines"][2].startswith(f"  {said} ({max(pair['probability'], 1 - pair['probability']):.1%}), ")
    assert pair["paraphrase"] == (pair["probability"] > 0.5) == (said == "a paraphrase")


def test_a_version_1_model_predicts_too(tmp_path):
    """
    One logit of paraphrase becomes a probability.
    """
    tasks.convert(str(cases.tiny()), tmp_path / "one", design="version1")
    (pair,) = tasks.predict(settings(model=tmp_path / "one"), [("1", ("a b", "c d"))])
    assert 0 < pair["probability"] < 1
    found = tasks.evaluate(settings(model=tmp_path / "one"), Files(SAMPLE), say=lambda text: None)
    assert sum(found["predicted"]["paraphrase"].values()) == 29


# -- converting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["version1", "version2"])
def test_a_converted_model_is_bit_identical(tmp_path, design):
    """
    Every tensor of the chosen design, in the twin's names and layout; again, byte for byte.
    """
    line = tasks.convert(str(cases.tiny()), tmp_path / "new", design=design)
    assert f"{design}, pretrained heads" in line
    before, after = load_file(cases.tiny() / "model.safetensors"), load_file(tmp_path / "new" / "model.safetensors")
    assert all(np.array_equal(before[name], after[name]) for name in after)
    tasks.convert(str(tmp_path / "new"), tmp_path / "again")
    assert weights(tmp_path / "new") == weights(tmp_path / "again")
    with pytest.raises(UsageError, match=r"holds model\.safetensors already"):
        tasks.convert(str(cases.tiny()), tmp_path / "new")


def test_convert_wants_a_vocabulary_that_fits(tmp_path):
    """
    Without one, or with another, a model could not read text.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(lines[:500]), encoding="utf-8")
    with pytest.raises(data.VocabularyError, match=r"has 500 pieces, the model's embedding 2048 rows"):
        tasks.convert(str(folder), tmp_path / "new")
    (folder / "vocab.txt").unlink()
    with pytest.raises(data.VocabularyError, match=r"has no vocab\.txt"):
        tasks.convert(str(folder), tmp_path / "new")


def test_a_head_that_never_learned_does_not_answer(finetune, tmp_path):
    """
    New heads, trained on sentiment alone: the others are refused, until a second run has trained them.
    """
    finetune(files=Files(SAMPLE, tasks=("sentiment",)), choices=replace(CHOICES, head="fresh"))
    one = settings(model=str(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"trained on sentiment, not on paraphrase, similarity; .*--tasks sentiment"):
        tasks.evaluate(one, Files(SAMPLE), say=lambda text: None)
    assert "sentiment" in tasks.evaluate(one, Files(SAMPLE, tasks=("sentiment",)), say=lambda text: None)
    with pytest.raises(UsageError, match="not on paraphrase, similarity"):
        next(tasks.predict(one, [("1", ("One text .", "Another ."))]))
    assert next(tasks.predict(one, [("1", ("One text .",))]))["sentiment"] in range(5)
    finetune(model=str(tmp_path / "run"), output="more", files=Files(SAMPLE, tasks=("paraphrase", "similarity")))
    assert read_checkpoint(tmp_path / "more")[0].trained == TASKS


# -- the command line -------------------------------------------------------------------------------------


def test_the_phases_have_their_own_rates(monkeypatch, tmp_path):
    """
    1e-3 for pretrain, 1e-5 for finetune, unless one is given; minBERT's other settings.
    """
    seen = []
    monkeypatch.setattr(common, "train", lambda asked_for, say: seen.append(asked_for) or {})
    for extra in (["--phase", "pretrain"], ["--phase", "finetune"], ["--phase", "pretrain", "--learning-rate", "0.5"]):
        arguments = ["finetune", "--system", "multitask", "--model", "m", "--train", "t", "--output", "o", *extra]
        commands.finetune(parser.parser("multitask").parse_args(arguments), print)
    assert [given.recipe.learning_rate for given in seen] == [1e-3, 1e-5, 0.5]
    hyper = seen[0].recipe
    assert (hyper.batch_size, hyper.epsilon, hyper.max_norm, hyper.seed) == (8, 1e-6, 0.0, 11711)
    assert (hyper.schedule, hyper.warmup, hyper.weight_decay) == ("constant", 0.0, 0.0)


def test_the_commands_work_from_end_to_end(tmp_path, capsys, monkeypatch):
    """
    finetune, evaluate, predict with text, with a pair, from standard input.
    """
    common_options = ["--system", "multitask", "--model", cases.tiny()]
    code, out, err = splinter(
        capsys, "finetune", *common_options, "--train", SAMPLE, "--output", tmp_path / "run", "--phase", "pretrain",
        "--max-steps", "2", "--quiet", "--tasks", "similarity", "sentiment",
    )  # fmt: skip
    assert (code, "2 updates, loss" in out, "pretrain, version2, pretrained heads" in err) == (0, True, True)
    common_options[-1] = tmp_path / "run"
    code, out, _ = splinter(capsys, "evaluate", *common_options, "--data", SAMPLE, "--quiet")
    assert code == 0
    assert {"sentiment", "paraphrase", "similarity", "mean", "predicted", "seconds"} <= json.loads(out).keys()
    code, out, _ = splinter(capsys, "predict", *common_options, "A film to remember")
    assert out.startswith("A film to remember\n  sentiment ")
    code, out, _ = splinter(capsys, "predict", *common_options, "--pair", "one", "two", "--json")
    assert json.loads(out)["sentence2"] == "two"
    lines = '{"sentence": "a", "id": "x"}\n\n{"sentence1": "a", "sentence2": "b"}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    code, out, _ = splinter(capsys, "predict", *common_options, "--input", "-", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["x", "3"]


def wrong(name, *arguments, says):
    """A wrong command and what its one line says."""
    return pytest.param(arguments, says, id=name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        wrong("no folder", "evaluate", "--data", "/none", says="/none: no such folder; give the one that holds"),
        wrong("no file", "evaluate", "--data", str(PATH), says="holds no ids-sst-dev.csv, plain or .gz"),
        wrong("named file", "evaluate", "--data", str(SAMPLE), "--sts-dev", "x", says="'--sts-dev' is not known"),
        wrong(
            "named and missing", "evaluate", "--data", str(SAMPLE), "--similarity-dev", "/none.csv",
            says="/none.csv: no such file; give a file of similarity",
        ),
        wrong(
            "another task's file", "evaluate", "--data", str(SAMPLE), "--similarity-dev", f"{SAMPLE}/quora-dev.csv",
            says="line 1: column 'similarity' is missing",
        ),
        wrong("classes", "evaluate", "--data", "HERE", "--sentiment", "cfimdb", "--tasks", "sentiment",
              says="has a head for 5 sentiment classes, but cfimdb has 2; choose another --sentiment"),
        wrong("nothing asked", "predict", says="give one of these: a sentence, --pair TEXT TEXT, or --input FILE"),
        wrong("two asked", "predict", "a", "--pair", "b", "c", says="give one of these"),
        wrong("empty text", "predict", " ", says="1: a sentence is empty; give it some text"),
        wrong("no input", "predict", "--input", "/none", says="/none: no such file; give a file of JSON lines"),
        wrong("wrong key", "predict", "--input", "HERE/keys.jsonl", says="line 2: key 'sentence2' is missing"),
        wrong("both", "predict", "--input", "HERE/both.jsonl", says="line 1: both 'sentence' and a pair; give one"),
        wrong("no json", "predict", "--input", "HERE/no.jsonl", says="no.jsonl, line 1: not JSON"),
        wrong("target", "evaluate", "--data", str(SAMPLE), "--predictions", "HERE/no.jsonl",
              says="no.jsonl is a file; name a folder that may be written"),
        wrong("task", "evaluate", "--data", str(SAMPLE), "--tasks", "sts", says="invalid choice: 'sts'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, capsys, arguments, says):
    """
    Exit code 2, one line on standard error, and no traceback.
    """
    (tmp_path / "keys.jsonl").write_text('{"sentence": "a"}\n{"sentence1": "a"}\n', encoding="utf-8")
    (tmp_path / "both.jsonl").write_text('{"sentence": "a", "sentence1": "b"}\n', encoding="utf-8")
    (tmp_path / "no.jsonl").write_text("{", encoding="utf-8")
    (tmp_path / "ids-cfimdb-dev.csv").write_text("\tid\tsentence\tsentiment\n0\tx\ta\t1\n", encoding="utf-8")
    command, *rest = (argument.replace("HERE", str(tmp_path)) for argument in arguments)
    try:
        code, _, err = splinter(capsys, command, "--system", "multitask", "--model", cases.tiny(), *rest)
    except SystemExit as stopped:
        code, (_, err) = stopped.code, capsys.readouterr()
    err = "\n".join(line for line in err.splitlines() if "rows dropped" not in line)
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err
