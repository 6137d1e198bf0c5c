"""funnel/tasks.py and commands.py: fine-tune, score, predict, convert on the embedded checkpoint, both frameworks."""

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
from splinter.ports.common import UsageError, backend
from splinter.ports.common import tasks as common
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.text import VocabularyError
from splinter.ports.common.training import TrainingError
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.funnel import data, tasks
from splinter.ports.funnel.config import read_checkpoint
from splinter.ports.funnel.proof import cases
from splinter.ports.funnel.tasks import Settings
from splinter.sample import PATH

BOTH = pytest.mark.parametrize("framework", ["paddle", "torch"])
TASKS = pytest.mark.parametrize("task", ["qnli", "squad"])
SHORT = Recipe(max_steps=4, batch_size=4, learning_rate=1e-3, warmup=0.0, min_steps=0, epsilon=1e-6)
FILES = {"qnli": PATH / "qnli-train.tsv", "squad": PATH / "squad-train.json"}
WINDOWS = ["--max-length", "64", "--doc-stride", "16", "--max-query-length", "16"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(framework="paddle", **changes):
    """The embedded checkpoint with short rows."""
    sizes = {"max_length": 64, "doc_stride": 16, "max_query_length": 16}
    return Settings(**({"model": str(cases.tiny()), "framework": framework, "sizes": sizes} | changes))


@pytest.fixture
def finetune(tmp_path):
    """Fine-tune into tmp_path/run."""

    def run(task, framework="paddle", resume=False, head="auto", hyper=SHORT, said=None, **changes):
        say = (lambda text: None) if said is None else said.append
        run = {"train": FILES[task], "output": tmp_path / "run", "recipe": hyper, "resume": resume, "save_every": 2}
        return common.train(tasks.Finetuning(settings=settings(framework, **changes), head=head, **run), say)

    return run


# -- fine-tuning ------------------------------------------------------------------------------------------


@BOTH
@TASKS
def test_an_interrupted_run_ends_in_the_same_bits(finetune, tmp_path, monkeypatch, task, framework):
    """
    Stopped after the third update and resumed from the second, the weights are those of the whole run.
    """
    finetune(task, framework)
    whole = (tmp_path / "run" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")
    computing, left = backend.opened("funnel", framework), iter(range(3))
    build = computing.trainer

    def trainer(model, hyper):
        made = build(model, hyper)
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
            finetune(task, framework)
    assert (tmp_path / "run" / "step-000002").is_dir()
    record = finetune(task, framework, resume=True)
    assert record["updates"] == 4
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == whole


def test_the_record_tells_what_was_done(finetune, tmp_path):
    """
    Task, head, rows, recipe and versions.
    """
    said = []
    record = finetune("squad", head="fresh", said=said)
    assert said == [f"48 examples, {record['rows']} rows of 64, 4 updates; squad, fresh head, paddle"]
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == record
    assert (record["task_name"], record["head"], record["examples"], record["updates"]) == ("squad", "fresh", 48, 4)
    assert record["rows"] > record["examples"]
    with pytest.raises(UsageError, match="framework was paddle, now torch"):
        finetune("squad", "torch", resume=True)


def test_recipes_differ_by_task(tmp_path, capsys):
    """
    What is not said comes from the task's own recipe.
    """
    command = ["finetune", "--system", "funnel", "--model", str(cases.tiny()), *WINDOWS, "--max-steps", "1", "--quiet"]
    for task, rate, size in (("qnli", 2e-5, 32), ("squad", 3e-5, 7)):
        more = [] if task == "qnli" else ["--batch-size", "7"]
        where = tmp_path / task
        assert cli.main([*command, *more, "--train", str(FILES[task]), "--output", str(where)]) == 0
        kept = json.loads((where / "training.json").read_text())["recipe"]
        assert (kept["learning_rate"], kept["batch_size"], kept["epsilon"]) == (rate, size, 1e-6)


# -- using ------------------------------------------------------------------------------------------------


@TASKS
def test_a_model_is_used_with_the_sizes_of_its_training(finetune, tmp_path, task):
    """
    Unless others are asked for; a model without a record has the task's own.
    """
    finetune(task, hyper=replace(SHORT, max_steps=1))
    trained = settings(model=str(tmp_path / "run"), sizes={})
    assert tasks.open_worker(trained).sizes == tasks.Sizes(64, 16, 16)
    assert tasks.open_worker(replace(trained, sizes={"max_length": 32})).sizes == tasks.Sizes(32, 16, 16)
    assert tasks.open_worker(settings(sizes={}), task).sizes == tasks.SIZES[tasks.TASKS[task]]


@TASKS
def test_frameworks_and_batches_answer_alike(task):
    """
    In Paddle or torch, one by one or in blocks, in batches of any size.
    """
    found = []
    for changes in ({}, {"batch_size": 3}, {"framework": "torch"}, {"stream": True}):
        stream = changes.pop("stream", False)
        worker = tasks.open_worker(settings(**changes), task)
        if task == "qnli":
            pairs = list(data.read_pairs(PATH / "qnli-dev.tsv"))[:8]
            found.append(np.stack([shares for _, shares in worker.classes(pairs, stream)]))
        else:
            examples = list(data.read_examples(PATH / "squad2-dev.json"))[:5]
            answers = [one for _, one in worker.answers(examples, null=True, stream=stream)]
            found.append(np.array([[one.odds, one.best.score] for one in answers]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-4)


def test_cut_rows_give_the_logits_of_full_ones():
    """
    Rows are cut where more padding changes nothing; logits of padding are the lowest number.
    """
    worker = tasks.open_worker(settings(sizes={"max_length": 128}), "squad")
    examples = [data.Example(str(n), "Who?", "Ann did. " * n, []) for n in (1, 2, 9)]
    ((_, rows),) = data.answer_features(examples, worker.tokenizer, 128, 16, 16)
    start, _ = worker.logits(rows).values()
    full = worker.backend.logits(worker.model, {name: getattr(rows, name) for name in data.INPUTS})["start_logits"]
    real = rows.attention_mask == 1
    np.testing.assert_allclose(start[real], full[real], atol=2e-4)
    assert (start[~real] == np.finfo("float32").min).all()


def test_evaluate(tmp_path):
    """
    Scores in points, and what was said, by id.
    """
    found = tasks.evaluate(settings(), PATH / "qnli-dev.tsv", tmp_path / "said.json")
    said = json.loads((tmp_path / "said.json").read_text())
    right = sum(said[pair.id] == data.LABELS[pair.label] for pair in data.read_pairs(PATH / "qnli-dev.tsv"))
    assert (found["accuracy"], found["total"]) == (100 * right / 20, 20)
    found = tasks.evaluate(settings(), PATH / "squad2-dev.json", tmp_path / "said.json", limit=6)
    assert (found["total"], found["null_answers"], found["NoAns_total"]) == (6, True, 2)
    always = tasks.evaluate(settings(), PATH / "squad2-dev.json", limit=6, threshold=-1e9)
    assert (always["NoAns_exact"], always["HasAns_exact"]) == (100.0, 0.0)
    assert "NoAns_exact" not in tasks.evaluate(settings(), PATH / "squad-dev.json", limit=3)


def run(capsys, *arguments):
    """Exit code and the two streams of a command."""
    code = cli.main([*map(str, arguments)])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_predict_prints_lines_or_json(capsys, monkeypatch):
    """
    Classes with their probability, answers with their characters; typed, or piped line by line.
    """
    predict = ["predict", "--system", "funnel", "--model", cases.tiny(), *WINDOWS]
    code, out, _ = run(capsys, *predict, "--task", "qnli", "--question", "Who?", "--sentence", "Ann did.")
    assert (code, out.splitlines()[0]) == (0, "Who?")
    assert "entailment: Ann did." in out
    code, out, _ = run(capsys, *predict, "--task", "squad", "--question", "Who?", "--context", "Ann did.")
    assert code == 0 and "(characters " in out
    line = json.dumps({"question": "Who?", "context": "Ann did.", "id": 7})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.encode())))
    _, out, _ = run(capsys, *predict, "--task", "squad", "--input", "-", "--json", "--null-answers", "yes")
    answer = json.loads(out)
    assert (answer["id"], set(answer)) == ("7", {"id", "text", "null_odds", "answers"})


def test_files_of_questions_are_predicted(capsys, tmp_path):
    """
    SQuAD without answers, and MRQA lines: ids as in the file; `evaluate` says in one line what to do.
    """
    predict = ["predict", "--system", "funnel", "--model", cases.tiny(), *WINDOWS, "--task", "squad", "--json"]
    path = tmp_path / "file.json"
    qas = [{"id": 260 + number, "question": "Who?"} for number in range(2)]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ann did.", "qas": qas}]}]}))
    (tmp_path / "file.jsonl").write_text(json.dumps({"context": "Ann did.", "context_tokens": [], "qas": qas}))
    for file in (path, tmp_path / "file.jsonl"):
        code, out, _ = run(capsys, *predict, "--input", file)
        assert (code, [json.loads(line)["id"] for line in out.splitlines()]) == (0, ["260", "261"])
    code, _, err = run(capsys, "evaluate", *predict[1:5], "--data", path)
    told = "its questions have no answers, which training and scoring need; predict --input answers them"
    assert (code, err) == (2, f"splinter evaluate: {path}: {told}\n")


def test_pairs_are_not_taken_from_a_file_of_contexts(capsys, tmp_path):
    """
    QNLI asks about sentences.
    """
    (tmp_path / "file.jsonl").write_text('{"question": "Who?", "context": "Ann did."}\n')
    asked = ["--task", "qnli", "--input", tmp_path / "file.jsonl"]
    code, _, err = run(capsys, "predict", "--system", "funnel", "--model", cases.tiny(), *WINDOWS, *asked)
    assert code == 2 and "line 1: key 'sentence' is missing (found ['context', 'question']); add it" in err


@TASKS
def test_convert_keeps_every_bit(tmp_path, task):
    """
    There and back again; the other task's head stays behind.
    """
    line = tasks.convert(str(cases.tiny()), tmp_path / "one", task)
    assert "pretrained head" in line
    tasks.convert(str(tmp_path / "one"), tmp_path / "two")
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    before = load_file(cases.tiny() / "model.safetensors")
    assert all(
        np.array_equal(before[name], array) for name, array in load_file(tmp_path / "one/model.safetensors").items()
    )
    worker = tasks.open_worker(settings(model=str(tmp_path / "one")))
    assert worker.mode == tasks.TASKS[task]


# -- what cannot be done ----------------------------------------------------------------------------------


def broken(tmp_path, change=lambda tensors: tensors, vocabulary=None, **config):
    """The embedded checkpoint, changed."""
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    if vocabulary is not None:
        (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    return str(folder)


@BOTH
def test_broken_weights_are_said(tmp_path, finetune, framework):
    """
    NaN ends an evaluation, a training and a conversion in one line; with Paddle it names the tensor.
    """
    model = broken(tmp_path, lambda t: t | {"funnel.embeddings.layer_norm.bias": np.full(32, np.nan, "float32")})
    named = (WeightError, r"tensor 'funnel\.embeddings\.layer_norm\.bias' holds NaN")
    torch = framework == "torch"
    error, message = (CheckpointError, "answers with NaN: its weights are broken") if torch else named
    with pytest.raises(error, match=message):
        tasks.evaluate(settings(framework, model=model), PATH / "qnli-dev.tsv")
    error, message = (TrainingError, "update 1 of 4: the loss is nan") if torch else named
    with pytest.raises(error, match=message):
        finetune("qnli", framework, model=model)
    with pytest.raises(named[0], match=named[1]):
        tasks.convert(model, tmp_path / "new", "qnli")
    assert not (tmp_path / "new").exists()


@BOTH
@TASKS
def test_a_model_folder_may_go_while_it_is_trained(finetune, tmp_path, monkeypatch, task, framework):
    """
    What lies beside the weights was read before the first update.
    """
    model = shutil.copytree(cases.tiny(), tmp_path / "model")
    fit = common.fit
    monkeypatch.setattr(common, "fit", lambda *given, **more: (shutil.rmtree(model), fit(*given, **more))[1])
    finetune(task, framework, model=str(model))
    assert (tmp_path / "run" / "vocab.txt").read_bytes() == (cases.tiny() / "vocab.txt").read_bytes()
    assert tasks.open_worker(settings(framework, model=str(tmp_path / "run")), task).tokenizer.size


def test_a_vocabulary_must_fit(tmp_path):
    """
    BERT's names, or too many pieces.
    """
    model = broken(tmp_path, vocabulary=(PATH / "vocab.txt").read_text(encoding="utf-8"))
    with pytest.raises(VocabularyError, match="lacks <pad>"):
        tasks.open_worker(settings(model=model), "qnli")
    lines = (cases.tiny() / "vocab.txt").read_text(encoding="utf-8") + "surplus\n"
    (tmp_path / "model" / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(VocabularyError, match="has 2049 pieces, the model's embedding 2048 rows"):
        tasks.open_worker(settings(model=model), "qnli")


def three(tensors):
    """A head of three classes."""
    rng = np.random.default_rng(0)
    shapes = {"classifier.linear_out.weight": (3, 32), "classifier.linear_out.bias": (3,)}
    return tensors | {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}


@BOTH
def test_a_head_of_three_classes(tmp_path, finetune, framework):
    """
    QNLI has two: refused, or replaced where a fresh head is asked for.
    """
    model = broken(tmp_path, three, id2label={str(n): str(n) for n in range(3)})
    with pytest.raises(UsageError, match="has a head of 3 classes, QNLI has 2; use --head fresh"):
        tasks.open_worker(settings(framework, model=model), "qnli")
    assert finetune("qnli", framework, head="fresh", model=model)["updates"] == 4
    assert tasks.open_worker(settings(framework, model=str(tmp_path / "run"))).mode == "classification"


def exchanged(tensors):
    """The two rows of the head the other way round."""
    return tensors | {name: array[::-1].copy() for name, array in tensors.items() if "linear_out" in name}


NAMED = {"id2label": {"1": "entailment", "0": "not_entailment"}}


@BOTH
@pytest.mark.parametrize(
    "names",
    [NAMED, {"id2label": None, "label2id": {"NOT_ENTAILMENT": 0, "entailment": 1}}, {**NAMED, "label2id": {"x": 0}}],
    ids=["id2label", "label2id", "both"],
)
def test_classes_are_known_by_their_names(tmp_path, framework, names):
    """
    A head whose rows are exchanged, and named so, gives the same probabilities.
    """
    pairs = list(data.read_pairs(PATH / "qnli-dev.tsv"))[:5]
    model = broken(tmp_path, exchanged, **names)
    ours, theirs = (
        [shares.tolist() for _, shares in tasks.open_worker(settings(framework, model=folder), "qnli").classes(pairs)]
        for folder in (str(cases.tiny()), model)
    )
    assert np.allclose(ours, theirs, atol=1e-6)
    assert abs(np.subtract(*np.array(ours).T)).min() > 1e-3  # else the order would not show


@BOTH
def test_training_goes_on_with_a_head_of_another_order(tmp_path, finetune, framework):
    """
    The same losses from exchanged rows; what is written names the classes in the order of its rows.
    """
    losses = []
    for folder in (str(cases.tiny()), broken(tmp_path, exchanged, **NAMED)):
        losses.append(finetune("qnli", framework, model=folder)["final_loss"])
        kept = json.loads((tmp_path / "run" / "config.json").read_text())
        shutil.rmtree(tmp_path / "run")
        names = data.LABELS if folder == str(cases.tiny()) else data.LABELS[::-1]
        assert kept["id2label"] == dict(zip("01", names, strict=True))
        assert kept["label2id"] == {name: number for number, name in enumerate(names)}
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@BOTH
def test_a_span_head_names_no_classes(tmp_path, finetune, framework):
    """
    Names of a class head that stayed behind do not go with it.
    """
    finetune("squad", framework, model=broken(tmp_path, **NAMED))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (
            {"0": "positive", "1": "negative"},
            UsageError,
            "id2label names the classes positive and negative, QNLI's are",
        ),
        ({"0": "LABEL_1", "1": "LABEL_0"}, UsageError, "names the classes LABEL_1 and LABEL_0"),
        ({"0": "entailment", "1": "entailment"}, UsageError, "names the classes entailment and entailment"),
        (
            {"1": "entailment", "2": "not_entailment"},
            CheckpointError,
            "id2label numbers its classes 1, 2; expected 0 to 1",
        ),
    ],
)
def test_classes_of_another_task_are_refused(tmp_path, names, error, message):
    """
    Two classes that are not QNLI's would be taken for it.
    """
    with pytest.raises(error, match=message):
        tasks.open_worker(settings(model=broken(tmp_path, id2label=names)), "qnli")


def test_a_converted_model_keeps_the_names_of_its_classes(tmp_path):
    """
    Whatever they are: a conversion does not judge.
    """
    tasks.convert(broken(tmp_path, id2label={"0": "positive", "1": "negative"}), tmp_path / "out", "qnli")
    assert read_checkpoint(tmp_path / "out")[0].labels == ("positive", "negative")


def test_the_task_must_be_clear(tmp_path):
    """
    By the file's name or the checkpoint's head, else by --task.
    """
    with pytest.raises(UsageError, match=r"has the heads of both tasks; say --task qnli or squad"):
        tasks.open_worker(settings())
    assert tasks.task_of_file(PATH / "fewshot-dev.jsonl", None) == "squad"
    with pytest.raises(UsageError, match=r"neither \.tsv \(QNLI\) nor \.json \(SQuAD\); say which with --task"):
        tasks.evaluate(settings(), PATH / "vocab.txt")
    with pytest.raises(UsageError, match="heads of both tasks; say which to keep"):
        tasks.convert(str(cases.tiny()), tmp_path / "out")


LINES = {
    "short rows": (["--question", "q", "--sentence", "s", "--max-length", "4"], "--max-length 4 is too short"),
    "a sentence for squad": (["--question", "q", "--sentence", "s", "--task", "squad"], "give --sentence for qnli"),
    "nothing to look in": (["--question", "q"], "--question needs --sentence TEXT, --context TEXT"),
    "empty sentence": (["--question", "q", "--sentence", " ", "--task", "qnli"], "the sentence is empty"),
    "no file": (["--input", "/nowhere.jsonl"], "/nowhere.jsonl: no such file; give a file of JSON lines"),
    "no such gpu": (
        ["--question", "q", "--sentence", "s", "--task", "qnli", "--device", "gpu:97"],
        "--device gpu:97: the framework finds",
    ),
}


@pytest.mark.parametrize(("options", "message"), LINES.values(), ids=LINES)
def test_wrong_input_ends_in_one_line(capsys, options, message):
    """
    On standard error, with exit code 2.
    """
    rows = [] if "--max-length" in options else WINDOWS
    task = [] if "--task" in options or "--input" in options else ["--task", "qnli"]
    code, out, err = run(capsys, "predict", "--system", "funnel", "--model", cases.tiny(), *rows, *task, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_wrong_data_ends_in_one_line(capsys, tmp_path):
    """
    Missing files, files of another kind, and a target that cannot be written.
    """
    evaluate = ["evaluate", "--system", "funnel", "--model", cases.tiny(), *WINDOWS, "--data"]
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("a\tb\n")
    for more, message in (
        ([tmp_path / "none.tsv"], "no such file"),
        ([wrong], "line 1: the heading is"),
        ([PATH / "qnli-dev.tsv", "--task", "squad"], "neither JSON nor the columns of a table"),
        ([PATH / "qnli-dev.tsv", "--predictions", tmp_path], "cannot be written"),
    ):
        code, _, err = run(capsys, *evaluate, *more)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err


def test_a_new_model_is_written_whole_or_not_at_all(tmp_path):
    """
    Sizes that cannot be leave no folder, and the vocabulary's own folder is never written to.
    """
    (tmp_path / "voc").mkdir()
    vocabulary = shutil.copy(PATH / "vocab.txt", tmp_path / "voc" / "vocab.txt")
    before = vocabulary.read_bytes()
    with pytest.raises(CheckpointError, match="d_model 3 is odd"):
        tasks.from_scratch(vocabulary, tmp_path / "new", "small", {"d_model": 3}, 1)
    for wrong in ("4,4,4", 4, [4, "4"], [4.5]):
        with pytest.raises(CheckpointError, match=r"block_sizes is .*, expected a number per block, such as \[4,4,4\]"):
            tasks.from_scratch(vocabulary, tmp_path / "new", "small", {"block_sizes": wrong}, 1)
    with pytest.raises(CheckpointError, match=r"block_sizes \[1, 1\] and block_repeats \[1, 1, 1\] .*; give both"):
        tasks.from_scratch(vocabulary, tmp_path / "new", "small", {"block_sizes": [1, 1]}, 1)
    with pytest.raises(CheckpointError, match="hidden_dropout is 2"):
        tasks.from_scratch(vocabulary, tmp_path / "new", "small", {"hidden_dropout": 2}, 1)
    with pytest.raises(UsageError, match=r"not part of the new model: vocab\.txt; move it away"):
        tasks.from_scratch(vocabulary, tmp_path / "voc", "small", {}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]
    assert vocabulary.read_bytes() == before


@pytest.mark.parametrize("task", [None, "qnli", "squad"])
def test_a_new_model_follows_its_seed(tmp_path, task):
    """
    Other sizes by --set; the same seed gives the same weights, another seed others; transformers' names.
    """
    sizes = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1, 1], "num_labels": 3}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        line = tasks.from_scratch(PATH / "vocab.txt", tmp_path / name, "small", sizes, seed, task)
        assert f"seed {seed}" in line
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == again != other
    config, tensors, _ = read_checkpoint(tmp_path / "a")
    assert (config.block_sizes, config.num_labels, config.vocab_size) == ((1, 1, 1), 3, 2048)
    assert any(name.startswith(("classifier", "qa_outputs")) for name in tensors) == (task is not None)
