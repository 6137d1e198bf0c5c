"""tasks.py: fine-tune, answer, score, convert, on the embedded checkpoint; what cannot be done is said, not tried."""

import json
import os
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from splinter import runtime
from splinter.align.files import WeightError
from splinter.ports.common import UsageError, folders
from splinter.ports.common import backend as backends
from splinter.ports.common import tasks as common
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.paddle import kernels
from splinter.ports.common.paddle.train import PaddleTrainer
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.common.training.state import differences
from splinter.ports.splinter import data, tasks, train, twin
from splinter.ports.splinter.config import companions, read_checkpoint
from splinter.ports.splinter.model import SplinterForQuestionAnswering
from splinter.ports.splinter.pretraining.model import SplinterForPreTraining
from splinter.ports.splinter.pretraining.proof import port as pretraining
from splinter.ports.splinter.proof import cases, port
from splinter.ports.splinter.tasks import Settings, Sizes
from splinter.sample import PATH

BOTH = pytest.mark.parametrize("framework", ["paddle", "torch"])
SHORT = Recipe(max_steps=4, batch_size=4, learning_rate=1e-3, warmup=0.0)
LONG = "why " * 100


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(framework="paddle", **changes):
    """The embedded checkpoint with short windows."""
    given = {"model": str(cases.tiny()), "framework": framework, "sizes": asdict(Sizes(160, 32, 64))}
    return Settings(**(given | changes))


@pytest.fixture(scope="module")
def train_file(tmp_path_factory):
    """The first contexts of the shipped few-shot file."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    lines = (PATH / "fewshot-train.jsonl").read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:6]), encoding="utf-8")
    return path


@pytest.fixture
def finetune(train_file, tmp_path):
    """Fine-tune into tmp_path/run; keywords go to Settings, Recipe or finetune itself."""

    def run(
        framework="paddle",
        resume=False,
        head="auto",
        hyper=SHORT,
        file=train_file,
        said=None,
        precision="float32",
        **changes,
    ):
        say = (lambda text: None) if said is None else said.append
        chosen = {"head": head, "precision": precision, "resume": resume, "save_every": 2}
        where = {"train": file, "output": tmp_path / "run"}
        return common.train(
            tasks.Finetuning(settings=settings(framework, **changes), recipe=hyper, **where, **chosen), say
        )

    return run


def weights(folder):
    """The bytes of the model."""
    return (folder / "model.safetensors").read_bytes()


# -- fine-tuning ------------------------------------------------------------------------------------------


def test_micro_batches_want_a_loss_whose_parts_add_up(finetune):
    """
    Mode hf leaves labels beyond a window out of its mean: refused before a model is built.
    """
    with pytest.raises(UsageError, match="--micro-batch goes with --mode paper"):
        finetune(hyper=replace(SHORT, micro_batch=2), mode="hf")


@BOTH
def test_an_interrupted_run_ends_in_the_same_bits(finetune, tmp_path, monkeypatch, framework):
    """
    Stopped after the third update and resumed from the second, weights and log are those of the whole run.
    """
    finetune(framework)
    whole = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    steps = iter(range(3))

    class Interrupted(type(backends.opened("splinter", framework).trainer(*_model_and_recipe(framework)))):
        def step(self, batch, rate):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return super().step(batch, rate)

    with monkeypatch.context() as patch:
        patch.setattr(
            backends.opened("splinter", framework),
            "trainer",
            _trainer(backends.opened("splinter", framework).trainer, Interrupted),
        )
        with pytest.raises(KeyboardInterrupt):
            finetune(framework)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["log.jsonl", "step-000002"]
    record = finetune(framework, resume=True)
    assert (record["updates"], weights(tmp_path / "run")) == (4, whole)


def _model_and_recipe(framework):
    return backends.opened("splinter", framework).open_model(cases.tiny(), "paper", "auto"), SHORT


def _trainer(build, kind):
    def made(*given):
        trainer = build(*given)
        trainer.__class__ = kind
        return trainer

    return made


def test_a_disk_full_at_the_end_costs_no_training(finetune, tmp_path, monkeypatch):
    """
    When the model cannot be written the last training state stays, and --resume goes on from it.
    """
    said = []
    with monkeypatch.context() as patch:
        patch.setattr(backends.opened("splinter", "paddle"), "save", _full)
        with pytest.raises(OSError, match="No space left"):
            finetune()
    assert (tmp_path / "run" / "step-000002").is_dir()
    finetune(resume=True, said=said)
    assert not list((tmp_path / "run").glob("step-*"))
    assert len(said) == 1


def _full(*arguments):
    raise OSError(28, "No space left on device")


def test_killed_between_model_and_record_the_run_is_not_finished(finetune, tmp_path):
    """
    training.json is written last: without it --resume trains on, to the same bits.
    """
    finetune()
    whole = weights(tmp_path / "run")
    (tmp_path / "run" / "training.json").unlink()
    with pytest.raises(UsageError, match=r"holds model\.safetensors already; .*--resume goes on"):
        finetune()
    finetune(resume=True)
    assert weights(tmp_path / "run") == whole


def test_a_finished_run_is_neither_repeated_nor_overwritten(finetune, tmp_path):
    """
    --resume says that nothing is left to do, and refuses to pass the run off as one with other options.
    """
    record, said = finetune(), []
    assert finetune(resume=True, said=said) == record
    assert "finished already" in said[0]
    with pytest.raises(UsageError, match=r"holds model\.safetensors already; name another folder"):
        finetune()
    with pytest.raises(UsageError, match=r"with other options \(seed was 42, now 7\)"):
        finetune(resume=True, hyper=replace(SHORT, seed=7))
    with pytest.raises(UsageError, match=r"\(mode was paper, now hf\)"):
        finetune(resume=True, mode="hf")


def tree(folder):
    """Relative path -> content of every file, None of every folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_a_folder_with_other_things_is_refused(finetune, tmp_path):
    """
    Whatever their names, before anything is read or written, with and without --resume.
    """
    foreign = ("best/7.safetensors", "log.txt", "step-by-step/x", "step-notes.txt", ".draft.partial", "vocab.txt")
    for name in foreign:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("mine")
    before = tree(tmp_path)
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"run holds \.draft\.partial, best, log\.txt and 3 more; name a new"):
            finetune(resume=resume, file=tmp_path / "mistyped")
    assert tree(tmp_path) == before


def test_a_mistyped_file_leaves_no_folder(finetune, tmp_path):
    """
    Neither that of the run nor those above it.
    """
    asked = {"train": tmp_path / "mistyped", "output": tmp_path / "a" / "b", "recipe": SHORT}
    with pytest.raises(data.DataError, match="no such file"):
        common.train(tasks.Finetuning(settings=settings(), **asked))
    assert not list(tmp_path.iterdir())


def interrupted(finetune, monkeypatch):
    """Stop a run when its model is to be written: log and training state are there."""
    with monkeypatch.context() as patch:
        patch.setattr(backends.opened("splinter", "paddle"), "save", _full)
        with pytest.raises(OSError, match="No space"):
            finetune()


def test_notes_in_the_folder_of_a_run_outlive_it(finetune, tmp_path, monkeypatch):
    """
    Beside the training states and inside them; what the run itself left half written goes.
    """
    finetune()
    whole = tree(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    interrupted(finetune, monkeypatch)
    notes = ("step-notes.txt", "step-000002/notes.txt", "best/notes.txt", ".draft.partial", ".draft.7.partial")
    for name in notes:
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("mine")
    for name in (".model.safetensors.7.partial", ".step-000002.7.partial/state.safetensors"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text("half")
    finetune(resume=True)
    found = tree(tmp_path / "run")
    assert {found[name] for name in notes} == {b"mine"}
    assert found.keys() - whole.keys() == {*notes, "step-000002", "best"}
    assert found["model.safetensors"] == whole["model.safetensors"]


@pytest.mark.parametrize("name", ["vocab.txt", "model.safetensors", "log.jsonl"])
def test_a_file_with_the_name_of_the_runs_own_is_not_written_over(finetune, tmp_path, monkeypatch, name):
    """
    One that was put into the folder of a run under way.
    """
    interrupted(finetune, monkeypatch)
    if name == "log.jsonl":
        shutil.rmtree(tmp_path / "run" / "step-000002")
    (tmp_path / "run" / name).write_text("mine\n")
    before = tree(tmp_path)
    with pytest.raises(
        (UsageError, CheckpointError), match=rf"not part of the new model: {name}; move|log\.jsonl, line"
    ):
        finetune(resume=True)
    assert tree(tmp_path) == before


@BOTH
def test_a_model_folder_may_go_while_it_is_trained(finetune, tmp_path, monkeypatch, framework):
    """
    What lies beside the weights was read before the first update.
    """
    model = shutil.copytree(cases.tiny(), tmp_path / "model")
    fit = common.fit
    monkeypatch.setattr(common, "fit", lambda *given, **more: (shutil.rmtree(model), fit(*given, **more))[1])
    finetune(framework, model=str(model))
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (cases.tiny() / name).read_bytes()
    assert tasks.evaluate(settings(framework, model=str(tmp_path / "run")), PATH / "squad-dev.json", limit=2)["total"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyper": replace(SHORT, learning_rate=1e-4)}, "learning_rate was 0.001, now 0.0001"),
        ({"head": "fresh"}, "head was pretrained, now fresh"),
        ({"framework": "torch"}, "framework was paddle, now torch"),
        ({"mode": "hf"}, "mode was paper, now hf"),
        ({"sizes": asdict(Sizes(150, 32, 64))}, "data was"),
    ],
    ids=["rate", "head", "framework", "mode", "windows"],
)
def test_a_resumed_run_is_the_same_run(finetune, monkeypatch, change, message):
    """
    Whatever else was asked for the first time is an error that says what differs.
    """
    with monkeypatch.context() as patch:
        patch.setattr(backends.opened("splinter", "paddle"), "save", _full)
        with pytest.raises(OSError, match="No space"):
            finetune()
    with pytest.raises(CheckpointError, match=message):
        finetune(resume=True, **change)


def test_a_run_by_kernels_is_another_run(finetune, monkeypatch):
    """
    They round otherwise, and dropout draws other numbers: it is not resumed without them.
    """
    with monkeypatch.context() as patch:
        patch.setattr(PaddleTrainer, "kernels", lambda self: "0123")
        patch.setattr(backends.opened("splinter", "paddle"), "save", _full)
        with pytest.raises(OSError, match="No space"):
            finetune()
    with pytest.raises(CheckpointError, match="kernels was 0123, now None"):
        finetune(resume=True)


@pytest.mark.parametrize("wanting", [True, False])
@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_kernels_are_recommended_where_they_can_be_built(finetune, monkeypatch, framework, wanting):
    """
    In one line, on a CPU, to whoever trains in Paddle.
    """
    monkeypatch.setattr(kernels, "wanting", lambda: wanting)
    said = []
    finetune(framework, said=said)
    assert ["splinter kernels" in line for line in said] == [False] + (wanting and framework == "paddle") * [True]


def test_the_record_tells_what_was_done(finetune, tmp_path):
    """
    training.json names data, recipe, head, loss and versions; the model keeps its mode.
    """
    record = finetune(head="fresh")
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == record
    assert (record["head"], record["mode"], record["updates"]) == ("fresh", "paper", 4)
    assert record["recipe"]["seed"] == 42
    assert record["environment"]["versions"]["paddlepaddle"]
    assert read_checkpoint(tmp_path / "run")[0].mode == "paper"


@pytest.mark.parametrize("mode", ["paper", "hf"])
def test_products_in_bfloat16_round_and_no_more(finetune, tmp_path, mode):
    """
    The first loss keeps two digits, the weights stay float32, the record tells; Paddle has it on a GPU only.
    """
    first = []
    for precision in ("float32", "bf16"):
        record = finetune("torch", hyper=replace(SHORT, max_steps=1), precision=precision, mode=mode)
        first.append(record["final_loss"])
        assert record["precision"] == precision
        assert load_file(tmp_path / "run" / "model.safetensors")["splinter_qass.start_classifier.weight"].dtype == "f4"
        shutil.rmtree(tmp_path / "run")
    assert first[0] != first[1] == pytest.approx(first[0], rel=2e-2)  # eps of bfloat16 is 8e-3
    with pytest.raises(UsageError, match="--precision bf16 needs a GPU in Paddle"):
        finetune(precision="bf16")


@pytest.mark.parametrize(
    ("has", "gpus", "device", "warned"),
    [
        (False, 0, "auto", True),
        (False, 1, "cpu", True),
        (False, 1, "auto", False),
        (True, 0, "auto", False),
    ],
)
def test_bfloat16_without_its_instructions_is_warned_of(monkeypatch, has, gpus, device, warned):
    """
    Where it makes an update ten times slower; not on a GPU, and not for float32.
    """
    monkeypatch.setattr(runtime, "computes_bfloat16", lambda: has)
    backend = SimpleNamespace(gpus=lambda: gpus)
    assert ("float32 is many times faster" in backends.told_precision(backend, device, "bf16")) is warned
    assert backends.told_precision(backend, device, "float32") == "float32"


def test_the_shipped_sample_goes_by_name(finetune, tmp_path, monkeypatch):
    """
    `sample` is what the project ships, unless a file is called so.
    """
    monkeypatch.chdir(tmp_path)
    record = finetune(file=Path("sample"), hyper=replace(SHORT, max_steps=1))
    assert record["examples"] == 47  # those of the few-shot file but for questions that are cut by default
    found = tasks.evaluate(settings(mode="paper"), Path("sample"))
    assert (found["total"], Path(found["file"]).name) == (120, "fewshot-dev.jsonl")
    Path("sample").write_text("no JSON", encoding="utf-8")
    with pytest.raises(data.DataError, match="sample"):
        tasks.evaluate(settings(mode="paper"), Path("sample"))


def test_a_lost_question_stops_the_training(finetune, tmp_path):
    """
    A question cut before its [MASK] is named with its line and the way out.
    """
    line = json.loads((PATH / "fewshot-train.jsonl").read_text(encoding="utf-8").splitlines()[1])
    line["qas"][0]["question"] = LONG
    (tmp_path / "long.jsonl").write_text(json.dumps(line))
    with pytest.raises(data.DataError, match=r"long\.jsonl, line 1, qas\[0\]: .* lost its \[QUESTION\] token: .*raise"):
        finetune(file=tmp_path / "long.jsonl")


def test_a_mask_of_the_context_is_not_the_question(tmp_path):
    """
    A row that lost its own token is refused even when its context holds another one.
    """
    asked = data.example("1", LONG, "Ann [MASK] it.", "paper", "here")
    answerer = tasks.open_answerer(settings(mode="paper"))
    with pytest.raises(data.DataError, match=r"here: question '1' lost its \[QUESTION\] token"):
        list(answerer.answers([asked]))


def lower_cased(path, **more):
    """The tiny checkpoint, called uncased."""
    folder = shutil.copytree(cases.tiny(), path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **more}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("mode", ["paper", "hf"])
def test_an_uncased_model_answers_with_words_of_the_context(mode, tmp_path):
    """
    Its pieces say "ingrid solheim"; the answer is the context's "Ingrid Solheim", without what follows in the word.
    """
    context = "It was built by Ingrid Solheim's firm (in 1874)."
    answerer = tasks.open_answerer(settings(model=str(lower_cased(tmp_path / "uncased")), mode=mode))
    for gold in ("Ingrid Solheim", "1874", "It", "Solheim's firm (in"):
        first, after = context.index(gold), context.index(gold) + len(gold)

        def logits(rows, first=first, after=after):
            """What a perfect model says: the highest logits at the gold pieces."""
            ids = rows.input_ids[0].tolist()
            begin, end = (ids.index(102) + 1 + len(answerer.tokenizer.encode([context[:n]])[0]) for n in (first, after))
            scores = np.zeros((2, *rows.input_ids.shape), np.float32)
            scores[0, 0, begin] = scores[1, 0, end - 1] = 9
            return scores[0], scores[1]

        answerer.logits = logits
        ((_, spans),) = answerer.answers([data.example("1", "Who?", context, mode, "here")])
        assert (spans[0].text, spans[0].start_char, spans[0].end_char) == (gold, first, after)


def test_held_out_questions_choose_the_epoch(train_file, tmp_path):
    """
    The best weights are saved; a run that is resumed with other held-out questions, or without, is another run; a
    question that cannot be answered is told before the training.
    """

    def run(dev, resume=False):
        hyper = replace(SHORT, epochs=2, max_steps=0)
        asked = {"train": train_file, "output": tmp_path / "run", "recipe": hyper, "resume": resume, "save_every": 2}
        return common.train(tasks.Finetuning(settings=settings(), dev=dev, **asked), lambda text: None)

    record = run(Path("sample"))
    assert record["best"]["scores"]["f1"] >= record["last"]["scores"]["f1"]
    assert record["best"]["scores"]["total"] == 120
    with pytest.raises(UsageError, match="dev_file was sample, now None"):
        run(None, resume=True)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(data.DataError, match=r"lost its \[QUESTION\] token"):
        run(PATH / "fewshot-dev.jsonl")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["paper", "hf"])
def test_the_best_answer_is_the_same_however_many_are_asked_for(mode):
    """
    What `predict --n-best 1` says is what `evaluate` scores, with the same probability, on all of the shipped sample.
    """
    path, counts = tasks.shipped(Path("sample"), "fewshot-dev.jsonl")
    examples = [one for one in data.read_examples(path, mode) if counts(one)]
    few, many = (tasks.open_answerer(settings(mode=mode), n_best=n) for n in (1, 20))
    for one, other in zip(few.answers(examples), many.answers(examples), strict=True):
        assert one[1] == other[1][:1]
    assert any(len(spans) > 1 for _, spans in many.answers(examples[:3]))


@pytest.mark.parametrize("mode", ["paper", "hf"])
def test_special_tokens_may_be_spelled_in_a_question(mode):
    """
    [SEP] is no end of the question, and a spelled [MASK] or [QUESTION] does not ask: the own token does, at the end.
    """
    answerer, seen = tasks.open_answerer(settings(mode=mode)), []
    answerer.logits = lambda rows: seen.append(rows) or (np.zeros(rows.input_ids.shape),) * 2
    token = {"paper": 103, "hf": 104}[mode]
    for spelled in ("[SEP]", "[CLS]", "[PAD]", "[MASK]", "[QUESTION]", "[UNK]"):
        asked = data.example("1", f"Does {spelled} ask?", f"Ann {spelled} asked.", mode, "here")
        assert len(list(answerer.answers([asked]))) == 1
        row = seen.pop().input_ids[0].tolist()
        context = row.index(102, row.index(119)) if spelled == "[SEP]" else row.index(102)
        asks = [place for place, number in enumerate(row[:context]) if number in {token, 104}]
        assert asks == [context - 2]


# -- opening ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (lambda v: [*v, "one", "more"], "has 2050 pieces, the model's embedding 2048 rows"),
        (lambda v: v[:1900], "has 1900 pieces, the model's embedding 2048 rows"),
        (
            lambda v: [*v[:101], v[102], v[101], *v[103:]],
            r"has the sep token on line 101 \(from 0\), sep_token_id .* 102",
        ),
    ],
    ids=["longer", "shorter", "moved"],
)
def test_a_vocabulary_must_fit_its_model(tmp_path, lines, message):
    """
    Another size or a special token elsewhere is another model's vocabulary.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(lines(pieces)) + "\n", encoding="utf-8")
    with pytest.raises(data.VocabularyError, match=rf"vocab\.txt {message}.*; take the vocab\.txt that came with"):
        tasks.open_answerer(settings(model=str(folder)))


def test_rows_that_pad_the_embedding_are_allowed(tmp_path):
    """
    Some checkpoints round their embedding up to a multiple of 64 or 128.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(pieces[:2000]) + "\n", encoding="utf-8")
    assert tasks.open_tokenizer(folder, read_checkpoint(folder)[0]).size == 2000


def test_windows_are_no_longer_than_the_positions():
    """
    385 pieces do not fit 384 positions.
    """
    with pytest.raises(UsageError, match="--max-length 385 is more than the 384 positions of the model"):
        tasks.open_answerer(settings(sizes={"max_length": 385}))


def test_a_model_is_used_with_the_windows_of_its_training(finetune, tmp_path):
    """
    Each size unless it is asked for; a pretrained model, or one of another program, has the defaults.
    """
    finetune(hyper=replace(SHORT, max_steps=1))
    trained = settings(model=str(tmp_path / "run"), sizes={})
    assert tasks.open_answerer(trained).sizes == Sizes(160, 32, 64)
    assert tasks.open_answerer(replace(trained, sizes={"max_length": 200})).sizes == Sizes(200, 32, 64)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    for task in ("pretrain", None):
        (tmp_path / "run" / "training.json").write_text(json.dumps({**record, "task": task}))
        assert tasks.open_answerer(trained).sizes == Sizes(384, 128, 64)
    (tmp_path / "run" / "training.json").write_text('{"task": "finetune", "sizes": [1]}')
    with pytest.raises(CheckpointError, match=r"training\.json: sizes is '\[1\]', expected a whole number"):
        tasks.open_answerer(trained)


@BOTH
def test_a_gpu_that_is_not_there_is_said_so(framework):
    """
    The number of GPUs is known before a model is moved.
    """
    with pytest.raises(UsageError, match=r"--device gpu:97: the framework finds \d+ GPUs? here; use --device cpu"):
        tasks.open_answerer(settings(framework, device="gpu:97"))


def test_a_framework_that_is_not_installed_is_named(monkeypatch):
    """
    The missing package and the pip command, instead of an ImportError.
    """

    def missing():
        raise ModuleNotFoundError("No module named 'paddle'", name="paddle")

    monkeypatch.setattr(backends.runtime, "import_paddle", missing)
    with pytest.raises(
        UsageError, match=r"--framework paddle needs paddle, which is not installed; in a clone.*pip install"
    ):
        backends.opened("splinter", "paddle")


def test_torch_does_not_open_the_authors_layout(tmp_path):
    """
    transformers would leave every weight random; convert is the way out.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    renamed = {
        n.replace("splinter.", "bert.").replace("splinter_qass", "cls.span_predictions"): a for n, a in tensors.items()
    }
    renamed = {n.replace("classifier.weight", "classifier"): np.ascontiguousarray(a) for n, a in renamed.items()}
    save_file(renamed, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"in the authors' layout, .*run splinter convert first"):
        tasks.open_answerer(settings("torch", model=str(folder)))


# -- answering --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked():
    """A few questions of the shipped SQuAD file, in mode paper."""
    return list(data.read_examples(PATH / "squad-dev.json", "paper"))[:7]


def texts(answerer, examples, **options):
    """id -> the best answer."""
    return {example.id: spans[0].text for example, spans in answerer.answers(examples, **options)}


def test_blocks_batches_and_frameworks_answer_alike(asked):
    """
    One by one or in blocks, in batches of any size, in Paddle or torch: the same answers in the same order.
    """
    answerer = tasks.open_answerer(settings(mode="paper"))
    found = texts(answerer, asked)
    assert list(found) == [example.id for example in asked]
    assert found == texts(answerer, asked, stream=True)
    answerer.settings = settings(batch_size=1)
    assert found == texts(answerer, asked)
    assert found == texts(tasks.open_answerer(settings("torch", mode="paper")), asked)


def test_a_stream_is_answered_as_it_comes(asked):
    """
    The first answer is there before the second question is read.
    """
    read = []

    def questions():
        for example in asked[:3]:
            read.append(example.id)
            yield example

    answers = tasks.open_answerer(settings(mode="paper")).answers(questions(), stream=True)
    assert [(example.id, len(read)) for example, _ in answers] == [(e.id, i) for i, e in enumerate(asked[:3], 1)]


def test_weights_that_are_no_numbers_do_not_answer(tmp_path, asked):
    """
    A diverged model is named, not scored, and not converted; with Paddle the tensor is named.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["splinter.embeddings.LayerNorm.bias"] = np.full(60, np.nan, "float32")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="model answers with NaN: its weights are broken"):
        texts(tasks.open_answerer(settings("torch", model=str(folder), mode="paper")), asked)
    named = pytest.raises(WeightError, match=r"model: tensor 'splinter\.embeddings\.LayerNorm\.bias' holds NaN")
    with named:
        tasks.open_answerer(settings(model=str(folder), mode="paper"))
    with named:
        tasks.convert(str(folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_scores_and_predictions_are_of_the_same_answers(tmp_path):
    """
    `evaluate` counts the questions it was limited to and writes their answers.
    """
    target = tmp_path / "predictions.json"
    scores = tasks.evaluate(settings(mode="paper"), PATH / "squad-dev.json", target, limit=5)
    assert (scores["total"], scores["mode"], scores["framework"]) == (5, "paper", "paddle")
    assert 0 <= scores["exact"] <= scores["f1"] <= 100
    assert len(json.loads(target.read_text(encoding="utf-8"))) == 5


def test_a_sample_is_always_the_same(tmp_path):
    """
    Questions from all over the file, in its order, none twice, the same ones in each call; all where too few.
    """
    examples = list(data.read_examples(PATH / "squad-dev.json", "paper"))
    some = list(tasks.drawn(examples, 7))
    assert some == list(tasks.drawn(examples, 7)) == [one for one in examples if one in some]
    assert len(some) == 7
    assert list(tasks.drawn(list(range(20)), 5)) == [1, 8, 10, 18, 19]
    assert some != examples[:7]
    assert list(tasks.drawn(examples, 10**6)) == examples
    assert tasks.evaluate(settings(mode="paper"), Path("sample"), sample=7)["total"] == 7


def test_predictions_go_where_they_can(tmp_path):
    """
    A target that is a folder, has none, or is the data itself is refused before any work.
    """
    questions = shutil.copy(PATH / "squad-dev.json", tmp_path / "dev.json")
    for target in (tmp_path, tmp_path / "no" / "p.json"):
        with pytest.raises(UsageError, match="cannot be written"):
            tasks.evaluate(settings(), questions, target)
    with pytest.raises(UsageError, match=r"dev\.json is the file of questions"):
        tasks.evaluate(settings(), questions, tmp_path / "dev.json")
    (tmp_path / "link").symlink_to(tmp_path / "not yet")
    for target in (Path("/dev/null"), Path("/dev/stdout"), tmp_path / "link"):
        folders.refuse_target(target, questions)


# -- converting -------------------------------------------------------------------------------------------


def test_convert_says_what_it_wrote_and_writes_over_nothing(tmp_path):
    """
    One line on tensors, mode and head; a second time, or into a file, is refused.
    """
    line = tasks.convert(str(cases.tiny()), tmp_path / "new", "paper")
    assert line == f"{tmp_path / 'new'}: 55 tensors, 225,524 numbers, mode paper, pretrained head"
    with pytest.raises(UsageError, match=r"holds model\.safetensors already"):
        tasks.convert(str(cases.tiny()), tmp_path / "new")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pytorch_model.bin").touch()
    with pytest.raises(UsageError, match=r"holds pytorch_model\.bin already"):
        tasks.convert(str(cases.tiny()), tmp_path / "old")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        tasks.convert(str(cases.tiny()), tmp_path / "new" / "vocab.txt")


def test_a_killed_conversion_is_refused_until_it_is_done_again(tmp_path, monkeypatch):
    """
    Broken off before each file gets its name, the folder cannot be read; the same command makes it whole.
    """
    tasks.convert(str(cases.tiny()), tmp_path / "whole")
    rename, out = os.replace, tmp_path / "out"
    for kept in range(4):
        left = iter(range(kept))

        def replace(source, target, left=left):
            if Path(target).parent == out and next(left, None) is None:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                tasks.convert(str(cases.tiny()), out)
        assert len(list(out.glob("*"))) == kept
        if kept:
            with pytest.raises(CheckpointError, match=r"holds neither model\.safetensors nor|is missing"):
                tasks.open_answerer(settings(model=str(out)))
            (out / ".model.safetensors.7.partial").write_text("half")
        tasks.convert(str(cases.tiny()), out)
        assert tree(out) == tree(tmp_path / "whole")
        shutil.rmtree(out)


def test_convert_leaves_the_files_of_the_user(tmp_path):
    """
    Notes, or a vocabulary that is not the one to be written: refused with its name, and with no option it has not.
    """
    out = tmp_path / "out"
    out.mkdir()
    for name, message in (
        ("notes.txt", r"holds notes\.txt; name a new or an empty folder$"),
        ("vocab.txt", "move it away"),
        ("special_tokens_map.json", "move it away"),
    ):
        (out / name).write_text("mine")
        with pytest.raises(UsageError, match=message):
            tasks.convert(str(cases.tiny()), out)
        assert tree(out) == {name: b"mine"}
        (out / name).unlink()


def test_two_conversions_do_not_write_into_one_folder(tmp_path):
    """
    Nor a conversion into the folder of a run: the second is refused before it reads anything.
    """
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(UsageError, match=r"another run is writing into .*out; wait"),
    ):
        tasks.convert("mistyped", tmp_path / "out")
    assert not list((tmp_path / "out").glob("model*"))


def test_the_lock_of_a_folder_is_never_held_twice(tmp_path):
    """
    Four threads that take it and let it go: never two inside, though each removes the file that others may have open.
    """
    inside, most, done = [], [], []

    def work():
        for _ in range(100):
            try:
                with folders.alone(tmp_path / "run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    done.append(1)
            except UsageError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(done) > 10


def test_half_the_size_is_read_back_by_all(tmp_path):
    """
    float16 is rounded once: Paddle, the twin and transformers read the same numbers; what would overflow is refused.
    """
    tasks.convert(str(cases.tiny()), tmp_path / "half", dtype="float16")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {array.dtype.name for array in stored.values()} == {"float16"}
    name = "splinter_qass.start_classifier.weight"
    whole = load_file(cases.tiny() / "model.safetensors")[name]
    assert np.array_equal(stored[name], whole.astype(np.float16))
    theirs = twin.load(tmp_path / "half", "hf").state_dict()[name]
    authors = twin.load(tmp_path / "half", "paper").cls["span_predictions"].start_classifier
    ours = SplinterForQuestionAnswering.from_pretrained(tmp_path / "half").cls.start_classifier.weight.numpy()
    for read in (theirs.numpy(), authors.detach().numpy().T, ours.T):
        assert read.dtype == np.float32
        assert np.array_equal(read, stored[name])
    large = SplinterForQuestionAnswering.from_pretrained(cases.tiny())
    weight = large.cls.start_classifier.weight
    weight.set_value(weight * (8.5e4 / weight.abs().max()))
    with pytest.raises(WeightError, match=r"cls\.start_classifier\.weight holds 8\d{4}\.?\d*, float16 ends at 65504"):
        large.save_pretrained(tmp_path / "large", dtype="float16")


def test_a_plain_head_is_written_and_read_by_both_frameworks(tmp_path):
    """
    A new head of two scores per token, in paper mode alone; both frameworks read it, and torch's copy once more.
    """
    line = tasks.convert(str(cases.tiny()), tmp_path / "plain", head="plain")
    assert line.endswith("39 tensors, 203,326 numbers, mode paper, plain head")
    theirs = twin.BACKEND.open_model(tmp_path / "plain", "paper", "pretrained", "cpu")
    twin.BACKEND.save(theirs, tmp_path / "again", companions(theirs.config, tmp_path / "plain"))
    ours = SplinterForQuestionAnswering.from_pretrained(tmp_path / "again")
    assert ours.config.span_head == "plain"
    words = ours.bert.embeddings.word.weight.numpy()
    assert np.array_equal(words[ours.config.question_token_id], words[ours.config.mask_token_id])
    ids = np.array([[101, 300, 104, 119, 102, 400, 401, 102]])
    row = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    there, here = twin.BACKEND.logits(theirs, row), train.BACKEND.logits(ours, row)
    np.testing.assert_allclose(here, there, atol=1e-6)
    with pytest.raises(CheckpointError, match="plain span head goes with --mode paper"):
        tasks.convert(str(cases.tiny()), tmp_path / "hf", "hf", head="plain")
    paddle, torch = (backends.opened("splinter.pretraining", framework).open_model for framework in ("paddle", "torch"))
    for opened in (paddle, torch, SplinterForPreTraining.from_pretrained):
        with pytest.raises(CheckpointError, match="cannot be pretrained; convert with --head fresh"):
            opened(tmp_path / "plain")
    with pytest.raises(ValueError, match="splinter-plain"):
        AutoModelForQuestionAnswering.from_pretrained(tmp_path / "plain")
    for head in ("matching", "fresh"):
        back = tasks.convert(str(tmp_path / "plain"), tmp_path / head, head=head)
        assert back.endswith(f"55 tensors, 225,524 numbers, mode paper, {head} head")
        paddle(tmp_path / head)


def test_each_head_is_aligned_on_its_own_checkpoints():
    """
    --checkpoint: the port of span selection takes no plain head, that of the plain head nothing but its own.
    """
    assert port.PORT.fetch(cases.tiny()) == pretraining.PORT.fetch(cases.tiny()) == cases.tiny()
    for one, folder in ((port.PORT, cases.plain()), (port.PLAIN, cases.tiny()), (port.PLAIN, cases.plain())):
        with pytest.raises(CheckpointError, match="plain"):
            one.fetch(folder)


def test_a_plain_head_scores_in_float32_under_autocast():
    """
    In bfloat16 its scores would lie on a grid of 1/256 of themselves, those of the other head do not.
    """
    model = twin.BACKEND.open_model(cases.plain(), "paper", "pretrained", "cpu")
    row = torch.arange(101, 165).reshape(1, -1)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        start, end = model.answer(row, torch.ones_like(row))
    for scores in (start, end):
        assert scores.dtype == torch.float32
        assert (scores != scores.bfloat16().float()).float().mean() > 0.9


def test_a_fresh_encoder_has_the_sizes_of_its_source_alone(tmp_path):
    """
    All matrices are drawn anew, by the seed; a pretrained head on top is refused.
    """
    with pytest.raises(UsageError, match="--encoder fresh does not fit a pretrained head; add --head fresh"):
        tasks.convert(str(cases.tiny()), tmp_path / "no", encoder="fresh")
    stored = [load_file(cases.tiny() / "model.safetensors")]
    for number, seed in enumerate((1, 1, 2)):
        line = tasks.convert(str(cases.tiny()), tmp_path / str(number), head="fresh", encoder="fresh", seed=seed)
        assert line.endswith("55 tensors, 225,524 numbers, mode hf, fresh head, fresh encoder")
        stored.append(load_file(tmp_path / str(number) / "model.safetensors"))
    words = [one["splinter.embeddings.word_embeddings.weight"] for one in stored]
    assert np.array_equal(words[1], words[2])
    for other in (words[0], words[3]):
        assert abs(np.corrcoef(words[1].ravel(), other.ravel())[0, 1]) < 0.02


def test_a_plain_bert_gets_a_question_token_by_name(tmp_path):
    """
    transformers looks for [QUESTION] by name: the unused piece of its line is called so, and no other file changes.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    named = lines[104]
    lines[104] = "[unused99]"
    (folder / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    tasks.convert(str(folder), tmp_path / "new")
    assert (tmp_path / "new" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()
    assert "SplinterTokenizer" in (tmp_path / "new" / "tokenizer_config.json").read_text(encoding="utf-8")
    assert AutoTokenizer.from_pretrained(tmp_path / "new").convert_tokens_to_ids("[QUESTION]") == 104
    assert named == "[QUESTION]"


@pytest.mark.parametrize("crlf", [False, True])
def test_what_is_converted_has_one_tokenizer(crlf, tmp_path):
    """
    A BERT that transformers saved, with a BertTokenizer of its own settings: AutoTokenizer gives our pieces.
    """
    rows = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**rows, intermediate_size=32)).save_pretrained(tmp_path / "bert")
    options = {"strip_accents": False, "tokenize_chinese_chars": False}
    theirs = BertTokenizer(str(cases.tiny() / "vocab.txt"), additional_special_tokens=[], **options)
    theirs.save_pretrained(tmp_path / "bert")
    vocabulary = (cases.tiny() / "vocab.txt").read_text(encoding="utf-8").replace("[QUESTION]", "[unused99]")
    ends = "\r\n" if crlf else "\n"
    (tmp_path / "bert" / "vocab.txt").write_bytes(vocabulary.replace("\n", ends).encode())
    tasks.convert(str(tmp_path / "bert"), tmp_path / "new", head="fresh")
    ours, auto = data.Tokenizer(tmp_path / "new", "hf"), AutoTokenizer.from_pretrained(tmp_path / "new")
    texts = ["Der Zug fährt schön nach München 東京", "Who [QUESTION] built it?"]
    assert ours.encode(texts) == auto(texts, add_special_tokens=False)["input_ids"]
    assert auto.convert_tokens_to_ids("[QUESTION]") == 104
    assert (tmp_path / "new" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()


def test_a_folder_without_settings_is_uncased(tmp_path):
    """
    As transformers takes it; what is converted from it says so.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "bare")
    (folder / "tokenizer_config.json").unlink()
    tasks.convert(str(folder), tmp_path / "new", mode="paper")
    said = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert said["do_lower_case"] is True
    assert (
        data.Tokenizer(tmp_path / "new", "paper").encode(["BUILT By"])
        == BertTokenizer(str(folder / "vocab.txt"))(["BUILT By"], add_special_tokens=False)["input_ids"]
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that even root cannot write into")
def test_a_folder_that_cannot_be_made_is_not_called_busy():
    """
    Whoever is told to wait would wait for ever.
    """
    with (
        pytest.raises(UsageError, match="/proc/none/run cannot be made; name another"),
        folders.alone(Path("/proc/none/run")),
    ):
        raise AssertionError("it was made")


def test_convert_wants_a_vocabulary(tmp_path):
    """
    A model that could not read text is not written.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    (folder / "vocab.txt").unlink()
    with pytest.raises(data.VocabularyError, match=r"has no vocab\.txt"):
        tasks.convert(str(folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_differences_are_looked_for_inside():
    """
    Only what was asked is compared, mappings key by key.
    """
    stored = {"recipe": {"seed": 42, "epochs": 10}, "windows": 3}
    assert differences(stored, {"recipe": {"seed": 7, "epochs": 10}}) == ["seed was 42, now 7"]
    assert differences(stored, {"windows": 3}) == []
    assert differences(stored, {"head": "fresh"}) == ["head was None, now fresh"]
