"""pretraining.py: the feed, span accuracy, whole runs in both frameworks; what cannot be done is said, not tried."""

import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import load_file

from splinter.cli import main as cli
from splinter.ports.common import UsageError, checkpoint
from splinter.ports.common import tasks as common
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.paddle.train import PaddleTeam
from splinter.ports.common.tasks import Settings
from splinter.ports.common.torch import train as train_torch
from splinter.ports.splinter import data
from splinter.ports.splinter.config import read_checkpoint
from splinter.ports.splinter.pretraining import mining, objective
from splinter.ports.splinter.pretraining import tasks as pretraining
from splinter.ports.splinter.pretraining.corpus import Corpus, CorpusError, Mining
from splinter.ports.splinter.pretraining.objective import RECIPE, Passages, span_accuracy
from splinter.ports.splinter.pretraining.proof import cases as pretraining_cases
from splinter.ports.splinter.pretraining.tasks import pretrain
from splinter.ports.splinter.proof import cases
from splinter.runtime import SettingError
from splinter.sample import PATH

BOTH = pytest.mark.parametrize("framework", ["paddle", "torch"])
SHORT = replace(RECIPE, batch_size=4, max_steps=4, learning_rate=1e-3, warmup=0.0)
QUESTION = 104


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def corpus():
    """The shipped contexts, mined."""
    return pretraining_cases.corpus("sample/train")


@pytest.fixture
def run(corpus, tmp_path):
    """Pretrain the embedded checkpoint into tmp_path/run; keywords go to Settings, Recipe or pretrain itself."""

    def pretrained(framework="paddle", hyper=SHORT, folder=corpus.folder, model=None, **more):
        settings = Settings(str(model or cases.tiny()), framework)
        where = {"train": folder, "output": tmp_path / "run", "recipe": hyper, "save_every": 2}
        return pretrain(settings, lambda text: None, **where, **more)

    return pretrained


def weights(folder):
    """The bytes of the model."""
    return (folder / "model.safetensors").read_bytes()


def losses(folder):
    """The loss of each update."""
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


# -- the feed ---------------------------------------------------------------------------------------------


def test_the_weights_of_a_batch_add_up_to_one(corpus):
    """
    So that its loss is a sum over rows, however they are shared out.
    """
    feed = Passages(corpus, SHORT, QUESTION)
    for batch, _ in feed.batches(0):
        asked = (batch["question_positions"] > 0).sum()
        np.testing.assert_allclose(batch["weights"].sum(), asked / (asked + 1e-5), rtol=1e-15)


def test_a_feed_goes_on_where_it_stopped(corpus):
    """
    The batches from update 3 on are those of a feed that began at 0, into the next epoch.
    """
    feed = Passages(corpus, replace(SHORT, epochs=2, max_steps=0), QUESTION)
    whole = [batch for batch, _ in feed.batches(0)]
    assert len(whole) == feed.plan.updates == 2 * feed.plan.per_epoch
    for one, (other, _) in zip(whole[3:], feed.batches(3), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_each_epoch_asks_anew(corpus):
    """
    The same passages, other questions; the same ones again for the same epoch.
    """
    rows = np.arange(len(corpus))
    first, second = (objective.model_inputs(corpus, rows, epoch, QUESTION) for epoch in (0, 1))
    assert not np.array_equal(first["input_ids"], second["input_ids"])
    assert np.array_equal(first["input_ids"], objective.model_inputs(corpus, rows, 0, QUESTION)["input_ids"])


def test_a_batch_names_its_documents(corpus):
    """
    For the message of a loss that is not finite.
    """
    _, names = next(Passages(corpus, SHORT, QUESTION).batches(0))
    assert names() == ["document 0"] * 4


# -- span accuracy ----------------------------------------------------------------------------------------


class Fixed:
    """A backend whose model points at what it is told."""

    def __init__(self, start=0, end=0):
        self.moved = (start, end)
        self.asked = 0

    def logits(self, model, batch):
        self.asked += len(batch["input_ids"])
        assert "start_positions" not in batch and "weights" not in batch
        tokens = batch["input_ids"].shape[1]
        hits = [np.minimum(label + move, tokens - 1) for label, move in zip(model.pop(0), self.moved, strict=True)]
        return tuple(np.eye(tokens)[hit] for hit in hits)


@pytest.mark.parametrize(("moved", "expected"), [((0, 0), (1, 1, 1)), ((1, 0), (0, 1, 0)), ((0, 1), (1, 0, 0))])
def test_span_accuracy_counts_questions(corpus, moved, expected):
    """
    Start, end and both of every question; padding questions do not count.
    """
    limit, found = 5, []
    rows = np.linspace(0, len(corpus) - 1, limit).round().astype(int)
    for begin in (0, 4):
        batch = objective.model_inputs(corpus, rows[begin : begin + 4], 0, QUESTION)
        found.append((batch["start_positions"], batch["end_positions"]))
    backend = Fixed(*moved)
    scores = span_accuracy(backend, found, corpus, QUESTION, limit, batch_size=4)
    asked = sum(len(corpus.masked(int(row), 0, QUESTION).questions) for row in rows)
    assert (scores["start"], scores["end"], scores["both"], scores["questions"]) == (*expected, asked)
    assert scores["span"] == expected[2]
    assert backend.asked == limit


def test_a_span_may_be_right_where_its_parts_are_not(corpus):
    """
    The highest end lies before the start: `both` misses, the best span of a possible length does not.
    """

    class Crossed(Fixed):
        def logits(self, model, batch):
            start, end = super().logits(model, batch)
            end[..., 0] += 1.5  # [CLS] ends nothing
            return start, end

    rows = np.array([0])
    batch = objective.model_inputs(corpus, rows, 0, QUESTION)
    scores = span_accuracy(Crossed(), [(batch["start_positions"], batch["end_positions"])], corpus, QUESTION, 1)
    assert (scores["both"], scores["span"]) == (0, 1)


@pytest.mark.parametrize(("tokens", "longest"), [(12, 3), (5, 10), (1, 10)])
def test_the_best_span_is_the_best_of_all(tokens, longest):
    """
    As looking at every pair of places finds it: the end not before the start, not too far behind it; ties to the first
    start, then the shortest.
    """
    rng = np.random.default_rng(0)
    start, end = rng.integers(0, 4, size=(2, 3, 7, tokens)).astype("float32")
    first, last = objective.best_spans(start, end, longest)
    for b, q in np.ndindex(first.shape):
        pairs = [(a, z) for a in range(tokens) for z in range(a, min(tokens, a + longest))]
        assert (first[b, q], last[b, q]) == max(pairs, key=lambda p: start[b, q, p[0]] + end[b, q, p[1]])


# -- runs -------------------------------------------------------------------------------------------------


@BOTH
def test_a_run_learns_and_is_recorded(run, corpus, tmp_path, framework):
    """
    The loss falls, held-out passages are looked at, and the model opens as one for answering.
    """
    hyper = replace(SHORT, epochs=4, max_steps=0, batch_size=12)
    record = run(framework, hyper, dev=corpus.folder, dev_passages=6, evaluate_every=6)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    assert [entry["step"] for entry in log if "dev" in entry] == [6, 12]
    assert (record["task"], record["updates"], record["processes"]) == ("pretrain", 12, 1)
    config, tensors, layout = read_checkpoint(tmp_path / "run")
    assert (layout, config) == ("transformers", replace(read_checkpoint(cases.tiny())[0], mode="paper"))
    assert set(tensors) == set(read_checkpoint(cases.tiny())[1])


@BOTH
def test_an_interrupted_run_ends_in_the_same_bits(run, tmp_path, monkeypatch, framework):
    """
    Stopped in the third update and resumed from the second, weights and log are those of the whole run.
    """
    run(framework, dropout=0.1)
    whole, curve, real = weights(tmp_path / "run"), losses(tmp_path / "run"), Passages.batches
    shutil.rmtree(tmp_path / "run")
    with monkeypatch.context() as patch:

        def two(self, start):
            for number, batch in enumerate(real(self, start)):
                if number == 2:
                    raise KeyboardInterrupt
                yield batch

        patch.setattr(Passages, "batches", two)
        with pytest.raises(KeyboardInterrupt):
            run(framework, dropout=0.1)
    assert (tmp_path / "run" / "step-000002").is_dir()
    run(framework, dropout=0.1, resume=True)
    assert (weights(tmp_path / "run"), losses(tmp_path / "run")) == (whole, curve)


@BOTH
def test_micro_batches_change_nothing_but_rounding(run, tmp_path, framework):
    """
    Four updates of 8 passages, all at once and 3 at a time.
    """
    found = []
    for rows in (0, 3):
        run(framework, replace(SHORT, batch_size=8, micro_batch=rows), dropout=0.0)
        found.append(load_file(tmp_path / "run" / "model.safetensors"))
        shutil.rmtree(tmp_path / "run")
    for name, array in found[0].items():
        # float32, sums in another order; weights move by up to 4e-3
        np.testing.assert_allclose(found[1][name], array, rtol=0, atol=4e-6, err_msg=name)


def test_bfloat16_is_rounding_too(run, tmp_path):
    """
    Products in bfloat16 keep the first loss to two digits, and the weights in float32.
    """
    first = []
    for precision in ("float32", "bf16"):
        run("torch", dropout=0.0, precision=precision)
        first.append(losses(tmp_path / "run")[0])
        assert load_file(tmp_path / "run" / "model.safetensors")["splinter_qass.start_classifier.weight"].dtype == "f4"
        shutil.rmtree(tmp_path / "run")
    assert first[0] != first[1] == pytest.approx(first[0], rel=2e-2)  # eps of bfloat16 is 8e-3


def test_paddle_has_no_bfloat16_on_a_cpu(run):
    """
    auto_cast of paddle 3.3.1 does nothing there but warn, so it is refused; once it works, this says so.
    """
    with pytest.raises(UsageError, match="--precision bf16 needs a GPU in Paddle"):
        run(precision="bf16")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with paddle.amp.auto_cast(dtype="bfloat16"):
            product = paddle.matmul(paddle.ones([2, 2]), paddle.ones([2, 2]))
    assert product.dtype == paddle.float32


def test_both_frameworks_draw_the_same_curve(run, tmp_path):
    """
    The same passages, questions and order: without dropout the losses agree to float32.
    """
    curves = []
    for framework in ("paddle", "torch"):
        run(framework, dropout=0.0)
        curves.append(losses(tmp_path / "run"))
        shutil.rmtree(tmp_path / "run")
    np.testing.assert_allclose(*curves, rtol=1e-5)


# -- what cannot be done ----------------------------------------------------------------------------------


def test_another_vocabulary_is_refused(run, tmp_path):
    """
    Ids of another vocabulary would be other words.
    """
    lines = (PATH / "vocab.txt").read_text(encoding="utf-8").splitlines()
    lines[1000], lines[1001] = lines[1001], lines[1000]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = data.Tokenizer(tmp_path / "vocab.txt", "hf", literal=True)
    mining.mine([str(pretraining_cases.text("sample/train"))], tmp_path / "other", tokenizer, Mining(length=64))
    with pytest.raises(CorpusError, match="was mined with another vocabulary; mine it with --tokenizer"):
        run(folder=tmp_path / "other")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_passages_longer_than_the_model_are_refused(run, tmp_path):
    """
    There would be no positions for them.
    """
    tokenizer = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True)
    mining.mine([str(pretraining_cases.text("sample/train"))], tmp_path / "long", tokenizer, Mining(length=385))
    assert Corpus(tmp_path / "long").length == 385
    with pytest.raises(CorpusError, match="passages of 385 pieces, the model 384 positions"):
        run(folder=tmp_path / "long")


@pytest.mark.parametrize("which", ["folder", "dev"])
def test_a_corpus_without_a_question_is_refused(run, tmp_path, which):
    """
    Its loss is 0 and teaches nothing; as held-out text it scores 0 whatever the model knows.
    """
    (tmp_path / "text.txt").write_text("Bread, soup; 7 keys!")
    tokenizer = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True)
    mining.mine([str(tmp_path / "text.txt")], tmp_path / "dull", tokenizer, Mining(length=64))
    with pytest.raises(CorpusError, match="dull has no question: nothing recurs in its passages; mine longer ones"):
        run(**{which: tmp_path / "dull"})
    assert not (tmp_path / "run").exists()


def test_a_finished_run_knows_its_corpus_by_another_spelling(run, corpus, tmp_path):
    """
    A relative path, say.
    """
    made = run()
    there = Path(os.path.relpath(corpus.folder))
    assert run(folder=there, resume=True) == made


def test_two_runs_do_not_write_into_one_folder(run, tmp_path):
    """
    Their logs would be mixed, and each would remove what the other has kept.
    """
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(UsageError, match=r"another run is writing into .*run; wait"),
    ):
        run()
    run()
    assert not list((tmp_path / "run").glob(".*"))


@BOTH
def test_a_model_folder_may_go_while_it_is_pretrained(run, tmp_path, monkeypatch, framework):
    """
    What lies beside the weights was read before the first update.
    """
    model = shutil.copytree(cases.tiny(), tmp_path / "model")
    fit = common.fit
    monkeypatch.setattr(common, "fit", lambda *given, **more: (shutil.rmtree(model), fit(*given, **more))[1])
    run(framework, model=model)
    assert (tmp_path / "run" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()
    assert read_checkpoint(tmp_path / "run")[0].mode == "paper"


def test_another_case_is_refused(run, tmp_path):
    """
    Lower-cased text has hardly a word of a cased vocabulary.
    """
    tokenizer = data.Tokenizer(PATH / "vocab.txt", "hf", literal=True, lower_case=True)
    mining.mine([str(pretraining_cases.text("sample/train"))], tmp_path / "lower", tokenizer, Mining(length=64))
    with pytest.raises(CorpusError, match=r"do_lower_case was True, now False\); mine it with --tokenizer"):
        run(folder=tmp_path / "lower")


@pytest.mark.parametrize(("framework", "variable"), [("paddle", "WORLD_SIZE"), ("torch", "PADDLE_TRAINERS_NUM")])
def test_the_launcher_of_the_other_framework_is_refused(run, monkeypatch, framework, variable):
    """
    Each of its processes would think itself alone, and all would write to one folder.
    """
    monkeypatch.setenv(variable, "2")
    with pytest.raises(
        UsageError, match=r"started this process, but it works with --framework .* only; add that option"
    ):
        run(framework)


def test_a_team_shares_no_device(corpus, monkeypatch, tmp_path):
    """
    The launcher gives each process its own.
    """
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--device gpu:0 with 2 processes; leave it to the launcher"):
        pretrain(
            Settings(str(cases.tiny()), "torch", device="gpu:0"),
            train=corpus.folder,
            output=tmp_path / "run",
            recipe=SHORT,
        )


def test_a_batch_smaller_than_the_team_is_refused(run, monkeypatch):
    """
    A process without a row would have nothing to add.
    """
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "8")
    with pytest.raises(UsageError, match="--batch-size 4 is less than the 8 processes that share it"):
        run()


@pytest.mark.parametrize("framework", ["paddle", "torch"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [("PADDLE_TRAINERS_NUM", "abc"), ("WORLD_SIZE", ""), ("PADDLE_TRAINER_ID", "x"), ("RANK", "2")],
)
def test_a_launcher_that_says_no_number_is_named(monkeypatch, framework, variable, value):
    """
    The variables of the framework that computes, and the sizes that the other launcher says.
    """
    monkeypatch.setenv(variable, value)
    team = train_paddle.PaddleTeam if framework == "paddle" else train_torch.TorchTeam
    if framework != ("paddle" if variable.startswith("PADDLE") else "torch") and variable in (
        "PADDLE_TRAINER_ID",
        "RANK",
    ):
        assert team().rank == 0
        return
    with pytest.raises(SettingError, match=f"{variable}='?{value}'? in the environment is not"):
        pretraining.refuse_launcher(Settings("m", framework=framework), team().size)


def test_only_the_first_of_a_team_writes(run, tmp_path, monkeypatch):
    """
    The others compute along, and leave no file.
    """
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(PaddleTeam, "add_up", lambda self, loss, parameters, updates: loss)  # there is no other
    assert run() is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_plain_bert_is_told_how_to_get_a_head(tmp_path, capsys):
    """
    `pretrain` wants a Splinter; `convert --head fresh` makes one from a BERT, the same each time.
    """
    bert = tmp_path / "bert"
    shutil.copytree(cases.tiny(), bert)
    config, tensors, _ = read_checkpoint(cases.tiny())
    from safetensors.numpy import save_file

    kept = {n.removeprefix("splinter."): tensors[n] for n in tensors if n.startswith("splinter.")}
    save_file(kept, bert / "model.safetensors")
    checkpoint.write_json(bert / "config.json", {"model_type": "bert", **config.to_dict()})
    assert cli.main(["convert", str(bert), str(tmp_path / "none")]) == 2
    assert "--head fresh" in capsys.readouterr().err
    made = []
    for seed in ("1", "1", "2"):
        assert cli.main(["convert", str(bert), str(tmp_path / "out"), "--head", "fresh", "--seed", seed]) == 0
        made.append(load_file(tmp_path / "out" / "model.safetensors"))
        shutil.rmtree(tmp_path / "out")
    head = "splinter_qass.start_classifier.weight"
    assert np.array_equal(made[0][head], made[1][head]) and not np.array_equal(made[0][head], made[2][head])
    assert all(np.array_equal(made[0][f"splinter.{name}"], array) for name, array in kept.items())


def test_the_command_pretrains(corpus, tmp_path, capsys):
    """
    From the command line, with the paper's recipe as default.
    """
    arguments = [
        "pretrain",
        "--model",
        str(cases.tiny()),
        "--corpus",
        str(corpus.folder),
        "--output",
        str(tmp_path / "run"),
    ]
    assert cli.main([*arguments, "--batch-size", "8", "--max-steps", "2", "--quiet"]) == 0
    assert "2 updates, loss" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert record["recipe"] | {"batch_size": 256, "max_steps": 0} == json.loads(json.dumps(vars(RECIPE)))
    assert cli.main(arguments) == 2
    assert "name another folder" in capsys.readouterr().err
