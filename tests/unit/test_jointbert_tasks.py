"""JointBERT's tasks.py and commands.py: fine-tune, score, tag, convert, in both frameworks; what cannot be is said."""

import io
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from splinter.align.files import SafetensorsFile, WeightError, save_safetensors
from splinter.cli import main as cli
from splinter.ports.common import UsageError
from splinter.ports.common import backend as backends
from splinter.ports.common import tasks as common
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.text import DataError, VocabularyError, WordPieces
from splinter.ports.jointbert import data, tasks
from splinter.ports.jointbert.config import RECIPE, companions, read_checkpoint
from splinter.ports.jointbert.proof import cases
from splinter.ports.jointbert.tasks import Settings

BOTH = pytest.mark.parametrize("framework", ["paddle", "torch"])
EITHER = pytest.mark.parametrize("crf", [False, True], ids=["softmax", "crf"])
SHORT = replace(RECIPE, epochs=2, batch_size=16, learning_rate=2e-3)  # 8 updates
TEST = cases.CORPUS / "test"


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """A model this small only waits for its second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The encoder of the embedded checkpoint, as a plain BERT with bare names."""
    folder = tmp_path_factory.mktemp("bert") / "bert"
    shutil.copytree(cases.tiny(), folder)
    stored = SafetensorsFile(folder / "model.safetensors")
    tensors = {name.removeprefix("bert."): stored[name].copy() for name in stored if name.startswith("bert.")}
    shapes = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    save_safetensors(folder / "model.safetensors", shapes, lambda: iter(tensors.items()))
    told = json.loads((folder / "config.json").read_text())
    for name in ("intents", "slots", "use_crf"):
        del told[name]
    (folder / "config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def finetune(bert, tmp_path):
    """Fine-tune into tmp_path/run."""

    def run(framework="paddle", hyper=SHORT, corpus=cases.CORPUS, crf=False, resume=False, said=None, **changes):
        say = (lambda text: None) if said is None else said.append
        settings = Settings(**{"model": str(bert), "framework": framework, "max_length": 30, **changes})
        run = {"train": corpus, "output": tmp_path / "run", "recipe": hyper, "resume": resume, "save_every": 2}
        return common.train(tasks.Finetuning(settings=settings, crf=crf, evaluate_every=3, **run), say)

    return run


def files(folder):
    """Name -> bytes of what belongs to the model."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name not in ("log.jsonl", "training.json")}


# -- fine-tuning ------------------------------------------------------------------------------------------


@EITHER
@BOTH
def test_an_interrupted_run_ends_in_the_same_bits(finetune, tmp_path, monkeypatch, framework, crf):
    """
    Stopped in the sixth update and resumed from the fourth: weights, best and last are those of the whole run.
    """
    whole = finetune(framework, crf=crf)
    kept = files(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    backend, steps = backends.opened("jointbert", framework), iter(range(5))
    plain = backend.trainer

    def stopping(model, hyper):
        trainer = plain(model, hyper)
        step = trainer.step

        def interrupted(batch, rate):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return step(batch, rate)

        trainer.step = interrupted
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(backend, "trainer", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune(framework, crf=crf)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best", "log.jsonl", "step-000004"]
    record = finetune(framework, crf=crf, resume=True)
    assert files(tmp_path / "run") == kept
    assert [record[name] for name in ("best", "last", "final_loss")] == [
        whole[n] for n in ("best", "last", "final_loss")
    ]


def test_the_record_tells_what_was_done(finetune, tmp_path):
    """
    training.json and log.jsonl: data, choice, dev scores in points, heads; a finished run is not repeated.
    """
    said = []
    record = finetune(said=said)
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == record
    assert said == ["60 sentences, 8 intents, 24 slots, 8 updates; no CRF, fresh heads, paddle"]
    assert (record["updates"], record["heads"], record["crf"], record["dev_sentences"]) == (8, "fresh", False, 20)
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    looks = [entry for line in log if "dev" in (entry := json.loads(line))]
    assert [entry["step"] for entry in looks] == [3, 6, 8]
    best = max(looks, key=lambda entry: entry["dev"]["sentence_acc"])
    assert record["best"] == {"updates": best["step"], "scores": best["dev"]}
    assert record["last"] == {"updates": 8, "scores": looks[-1]["dev"]}
    assert set(record["best"]["scores"]) == {
        *("intent_acc", "slot_precision", "slot_recall", "slot_f1", "sentence_acc", "loss")
    }
    assert max(entry["dev"]["intent_acc"] for entry in looks) > 1  # points, not shares
    assert finetune(resume=True, said=said) == record
    with pytest.raises(UsageError, match=r"finished, with other options \(crf was False, now True\)"):
        finetune(resume=True, crf=True)
    with pytest.raises(UsageError, match=r"holds model\.safetensors already"):
        finetune()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"framework": "torch"}, "framework was paddle, now torch"),
        ({"crf": True}, "use_crf was False, now True"),
        ({"hyper": replace(SHORT, learning_rate=1e-3)}, "learning_rate was 0.002, now 0.001"),
        ({"max_length": 20}, "data was"),
    ],
    ids=["framework", "crf", "rate", "length"],
)
def test_a_resumed_run_is_the_same_run(finetune, monkeypatch, change, message):
    """
    Whatever else was asked for the first time is an error that says what differs.
    """

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backends.opened("jointbert", "paddle"), "save", full)
        with pytest.raises(OSError, match="No space"):
            finetune()
    with pytest.raises(CheckpointError, match=message):
        finetune(resume=True, **change)


def test_what_an_earlier_run_thought_best_is_forgotten(finetune, tmp_path, monkeypatch):
    """
    Killed before its first checkpoint, a run leaves its best weights behind; what goes on from its beginning must not
    take them for its own, and a new run is refused there.
    """
    whole = finetune()
    kept = files(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    best = tmp_path / "run" / "best"
    best.mkdir(parents=True)
    (best / "trainer.json").write_text('{"updates": 99, "scores": {"sentence_acc": 100.0}}')
    shutil.copy(cases.tiny() / "model.safetensors", best / "99.safetensors")
    with pytest.raises(UsageError, match="holds best; name a new or an empty folder"):
        finetune()
    (tmp_path / "run" / "log.jsonl").write_text("")
    assert finetune(resume=True)["best"] == whole["best"]
    assert files(tmp_path / "run") == kept


def test_heads_go_on_where_they_mean_the_same(finetune, tmp_path):
    """
    A JointBERT of the same labels is trained on; other labels, or a CRF, start new heads.
    """
    said = []
    once = replace(SHORT, max_steps=1)
    finetune(model=str(cases.tiny()), crf=True, hyper=once, said=said)
    shutil.rmtree(tmp_path / "run")
    finetune(model=str(cases.tiny()), hyper=once, said=said)
    shutil.rmtree(tmp_path / "run")
    corpus = shutil.copytree(cases.CORPUS, tmp_path / "corpus")
    lines = (corpus / "slot_label.txt").read_text().splitlines()
    (corpus / "slot_label.txt").write_text("\n".join([*lines, "B-more"]) + "\n")
    finetune(model=str(cases.tiny()), crf=True, hyper=once, said=said, corpus=corpus)
    assert [text.split("; ")[1] for text in said] == [
        "CRF, pretrained heads, paddle",
        "no CRF, fresh heads, paddle",
        "CRF, fresh heads, paddle",
    ]
    assert read_checkpoint(tmp_path / "run")[0].slots[-1] == "B-more"


def test_labels_come_from_train_where_there_are_no_files(finetune, tmp_path):
    """
    The saved model holds the label sets; nothing else is needed to use it.
    """
    corpus = tmp_path / "corpus"
    for name in ("train", "dev"):
        shutil.copytree(cases.CORPUS / name, corpus / name)
    finetune(corpus=corpus, hyper=replace(SHORT, max_steps=1))
    stored = read_checkpoint(tmp_path / "run")[0]
    assert data.Labels(stored.intents, stored.slots) == data.read_labels(cases.CORPUS)
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(corpus / "dev")
    with pytest.raises(DataError, match="dev: no such folder; give a corpus folder with train/ and dev/"):
        finetune(corpus=corpus)
    with pytest.raises(DataError, match="train: no such folder; give a corpus folder with train/ and dev/"):
        finetune(corpus=corpus / "train")


def test_sentences_longer_than_the_positions_cannot_be(finetune):
    """
    Neither more than the model has, nor less than a word needs.
    """
    for length in (65, 2):
        with pytest.raises(UsageError, match=f"--max-length {length} is out of range; give 3 to 64"):
            finetune(max_length=length)


def test_cut_sentences_are_told_before_training(finetune):
    """
    How many sentences of train and dev have words beyond the end of their row: in the summary and in the record.
    """
    pieces, said, cut = WordPieces(cases.tiny(), python=True), [], {}
    for part in ("train", "dev"):
        before_last = [pieces.encode_words(one.words[:-1]) for one in data.read(cases.CORPUS / part)]
        cut[part] = sum(sum(map(len, words)) >= 9 - 2 for words in before_last)  # [CLS], [SEP]
    record = finetune(hyper=replace(SHORT, max_steps=1), max_length=9, said=said)
    assert said[0].endswith(f"; {cut['train']} sentences of train and {cut['dev']} of dev are cut at 9 pieces")
    assert record["cut"] == cut
    assert 0 < cut["dev"] < 20


# -- use --------------------------------------------------------------------------------------------------


def settings(framework="paddle", **changes):
    """The embedded checkpoint, which has a CRF."""
    return Settings(**{"model": str(cases.tiny()), "framework": framework, "max_length": 40, **changes})


def test_both_frameworks_and_all_batches_score_alike(tmp_path):
    """
    The same scores and the same prediction file, whoever computes.
    """
    found = {}
    for framework in ("paddle", "torch"):
        for size in (64, 7):
            target = tmp_path / f"{framework}{size}.txt"
            scores = tasks.evaluate(settings(framework, batch_size=size), TEST, target)
            found[framework, size] = (
                target.read_text(),
                [scores[n] for n in ("intent_acc", "slot_f1", "sentence_acc")],
            )
            assert (scores["sentences"], scores["unknown_intents"], scores["crf"]) == (20, 1, True)
    assert len({repr(value) for value in found.values()}) == 1
    lines = found["paddle", 7][0].splitlines()
    assert len(lines) == 20
    assert all(line.startswith("<") and "> -> " in line for line in lines)


def test_slots_beyond_the_row_are_missed(tmp_path, monkeypatch):
    """
    Right wherever there is room, half of the slots beyond it: precision 100, recall 50; the file has all words.
    """
    part = tmp_path / "part"
    part.mkdir()
    (part / "seq.in").write_text(("please " * 58 + "paris\nto paris\n") * 2)
    (part / "seq.out").write_text(("O " * 58 + "B-to.port\nO B-to.port\n") * 2)
    (part / "label").write_text("book_ferry\n" * 4)
    config = read_checkpoint(cases.tiny())[0]
    (intent, slot), intents = ("book_ferry", "B-to.port"), np.eye(len(config.intents))
    assert intent in config.intents and slot in config.slots

    def right(model, rows, size):
        return {"intent_logits": 9 * intents[rows["intent_labels"]], "slots": rows["slot_labels"], "loss": np.zeros(1)}

    monkeypatch.setattr(backends.opened("jointbert", "paddle"), "predictions", right)
    found = tasks.evaluate(settings(), part, tmp_path / "said.txt")
    assert (found["cut"], found["sentences"], found["intent_acc"], found["sentence_acc"]) == (2, 4, 100, 50)
    assert (found["slot_precision"], found["slot_recall"]) == (100, 50)
    assert found["slot_f1"] == pytest.approx(200 / 3)
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert lines[:2] == [f"<book_ferry> -> {'please ' * 58}paris", "<book_ferry> -> to [paris:B-to.port]"]


def test_a_model_is_used_with_the_length_of_its_training(finetune, tmp_path):
    """
    Unless another is asked for; a model without a record has 50. A record of nonsense is refused.
    """
    finetune(hyper=replace(SHORT, max_steps=1), max_length=9)
    model = settings(model=str(tmp_path / "run"), max_length=None)
    assert tasks.open_tagger(model).max_length == 9
    assert tasks.open_tagger(replace(model, max_length=20)).max_length == 20
    assert tasks.evaluate(model, TEST)["max_length"] == 9
    assert tasks.open_tagger(settings(max_length=None)).max_length == 50
    (tmp_path / "run" / "training.json").write_text('{"task": "finetune", "max_length": "9"}')
    with pytest.raises(CheckpointError, match=r"training\.json: max_length is '9', expected a whole number"):
        tasks.open_tagger(model)


def test_padding_is_decoded_on_request(tmp_path):
    """
    `decode_padding` gives monologg's paths, in both frameworks the same; with random transitions some differ.
    """
    model = shutil.copytree(cases.tiny(), tmp_path / "model")  # the embedded one asks for them itself
    values = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps(values | {"decode_padding": False}), "utf-8")
    rows = tasks.open_tagger(settings()).rows(data.read(TEST))
    found = {}
    for framework in ("paddle", "torch"):
        for padding in (False, True):
            tagger = tasks.open_tagger(replace(settings(framework), model=str(model)), padding)
            found[framework, padding] = tagger.backend.predictions(tagger.model, rows)["slots"]
    real = rows["attention_mask"] == 1
    for padding in (False, True):
        assert np.array_equal(found["paddle", padding], found["torch", padding])
    assert not found["paddle", False][~real].any()
    assert found["paddle", True][~real].any()


def test_predictions_go_where_they_can(tmp_path):
    """
    Neither over the data, nor into a folder.
    """
    part = shutil.copytree(TEST, tmp_path / "test")
    with pytest.raises(UsageError, match="name another one"):
        tasks.evaluate(settings(), part, part / "seq.out")
    with pytest.raises(UsageError, match="cannot be written"):
        tasks.evaluate(settings(), part, tmp_path)


def test_words_beyond_the_row_have_no_slot():
    """
    A sentence that does not fit keeps its words; the rest is tagged as if it ended there.
    """
    tagger = tasks.open_tagger(settings(max_length=6))
    (found,) = tasks.predict(tagger, [data.sentence("book a ferry to white rock", "here", "1")])
    assert len(found["words"]) == len(found["slots"]) == 6
    assert None in found["slots"]
    assert found["slots"][0] is not None


def test_weights_that_are_no_numbers_do_not_answer(tmp_path):
    """
    NaN in, an error out, of conversion as well; with Paddle it names the tensor.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    stored = SafetensorsFile(folder / "model.safetensors")
    tensors = {name: stored[name].copy() for name in stored}
    tensors["bert.pooler.dense.bias"][:] = np.nan
    shapes = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
    save_safetensors(folder / "model.safetensors", shapes, lambda: iter(tensors.items()))
    with pytest.raises(CheckpointError, match="answers with NaN"):
        tasks.evaluate(settings("torch", model=str(folder)), TEST)
    for call in (
        lambda: tasks.evaluate(settings(model=str(folder)), TEST),
        lambda: tasks.convert(folder, tmp_path / "x"),
    ):
        with pytest.raises(WeightError, match=r"tensor 'bert\.pooler\.dense\.bias' holds NaN"):
            call()
    assert not (tmp_path / "x").exists()


@BOTH
def test_a_model_folder_may_go_while_it_is_trained(finetune, bert, tmp_path, monkeypatch, framework):
    """
    What lies beside the weights was read before the first update.
    """
    model = shutil.copytree(bert, tmp_path / "model")
    fit = common.fit
    monkeypatch.setattr(common, "fit", lambda *given, **more: (shutil.rmtree(model), fit(*given, **more))[1])
    finetune(framework, model=str(model))
    assert (tmp_path / "run" / "vocab.txt").read_bytes() == (bert / "vocab.txt").read_bytes()
    assert tasks.evaluate(settings(framework, model=str(tmp_path / "run")), TEST)["sentences"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-300], r"has 1748 pieces, the model's embedding 2048 rows"),
        (lambda lines: ["x", "[PAD]", *lines[2:]], r"has the pad token on line 1"),
        (lambda lines: [line for line in lines if line != "[CLS]"], r"lacks \[CLS\]"),
    ],
    ids=["size", "padding", "special"],
)
def test_a_vocabulary_must_fit_its_model(tmp_path, change, message):
    """
    Said before a model loads.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        tasks.open_tagger(settings(model=str(folder)))


# -- converting -------------------------------------------------------------------------------------------


def test_there_and_back_the_bits_are_the_same(tmp_path):
    """
    Their tensors -> our model -> their tensors; either framework writes the same file.
    """
    said = tasks.convert(str(cases.tiny()), tmp_path / "ours")
    assert said.endswith("8 intents, 24 slots, with CRF")
    stored = (SafetensorsFile(folder / "model.safetensors") for folder in (cases.tiny(), tmp_path / "ours"))
    before, after = ({name: file[name] for name in file} for file in stored)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    side = backends.opened("jointbert", "torch")
    model = side.open_model(tmp_path / "ours", "pretrained")
    side.save(model, tmp_path / "torch", companions(model.config, tmp_path / "ours"))
    ours, theirs = files(tmp_path / "ours"), files(tmp_path / "torch")
    assert ours["config.json"] == theirs["config.json"]
    again = SafetensorsFile(tmp_path / "torch" / "model.safetensors")
    assert all(np.array_equal(before[name], again[name]) for name in before)


def test_a_checkpoint_of_the_torch_code_needs_its_labels(tmp_path, bert):
    """
    monologg's config.json names no labels: --labels does. A plain BERT has no heads to convert.
    """
    folder = shutil.copytree(cases.tiny(), tmp_path / "theirs")
    told = json.loads((folder / "config.json").read_text())
    told = {name: value for name, value in told.items() if name not in ("intents", "slots", "use_crf")}
    (folder / "config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match="--labels FOLDER"):
        tasks.convert(str(folder), tmp_path / "ours")
    with pytest.raises(DataError, match="holds neither"):
        tasks.convert(str(folder), tmp_path / "ours", labels=tmp_path)
    assert "with CRF" in tasks.convert(str(folder), tmp_path / "ours", labels=cases.CORPUS)
    assert read_checkpoint(tmp_path / "ours")[0].intents == read_checkpoint(cases.tiny())[0].intents
    with pytest.raises(CheckpointError, match="BERT without intent and slot heads"):
        tasks.convert(str(bert), tmp_path / "other")
    with pytest.raises(UsageError, match="holds"):
        tasks.convert(str(cases.tiny()), tmp_path / "ours")


# -- the command line -------------------------------------------------------------------------------------


def run(capsys, *arguments):
    """Exit code, standard output, standard error of a command."""
    command, *rest = arguments
    code = cli.main([command, "--system", "jointbert", *map(str, rest)])
    return code, *capsys.readouterr()


def test_a_whole_life_on_the_command_line(bert, tmp_path, capsys, monkeypatch):
    """
    finetune, evaluate, predict from words, from a file, from a pipe.
    """
    model = tmp_path / "model"
    code, out, _ = run(
        capsys, "finetune", "--model", bert, "--train", cases.CORPUS, "--output", model, "--crf", "--max-steps", "2"
    )
    assert code == 0
    assert "best: after 2 updates, dev intent_acc" in out
    code, out, _ = run(capsys, "evaluate", "--model", model, "--data", TEST)
    assert (code, json.loads(out)["sentences"]) == (0, 20)
    code, out, _ = run(capsys, "predict", "--model", model, "light the hall", "stop")
    assert (code, len(out.splitlines())) == (0, 2)
    assert out.startswith("<")
    code, out, _ = run(capsys, "predict", "--model", model, "light the hall", "--json")
    said = json.loads(out)
    assert (code, said["id"], said["words"], len(said["slots"])) == (0, "1", ["light", "the", "hall"], 3)
    assert 0 < said["probability"] <= 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"light the hall\n")))
    code, out, _ = run(capsys, "predict", "--model", model, "--input", "-", "--json")
    piped = json.loads(out)
    assert piped.pop("probability") == pytest.approx(said.pop("probability"), rel=1e-5)
    assert piped == said


def test_words_without_a_tag_are_told(capsys):
    """
    A sentence that is cut looks whole otherwise: what is beyond the cut reads as O.
    """
    _, out, _ = run(capsys, "predict", "--model", cases.tiny(), "--max-length", "6", "book a flight to boston please")
    assert "words have no tag: they are beyond --max-length 6" in out
    _, out, _ = run(capsys, "predict", "--model", cases.tiny(), "--max-length", "50", "book a flight")
    assert "no tag" not in out


def test_each_answer_names_its_line(tmp_path, capsys):
    """
    Blank lines have no answer, and count all the same.
    """
    file = tmp_path / "sentences.txt"
    file.write_text("book a flight\n\nplay jazz\n")
    _, out, _ = run(capsys, "predict", "--model", cases.tiny(), "--input", file, "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "3"]
    _, out, _ = run(capsys, "predict", "--model", cases.tiny(), "book a flight", "play jazz", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "2"]


def test_mistakes_end_in_one_line(tmp_path, capsys):
    """
    Exit code 2, one line, no traceback.
    """
    model = ("--model", cases.tiny())
    asked = {
        "give either sentences or --input": ("predict", *model),
        "give either sentences": ("predict", *model, "stop", "--input", "-"),
        "no such file; give a text file": ("predict", *model, "--input", tmp_path / "no.txt"),
        "the command line: no words": ("predict", *model, " "),
        "no such folder; give a folder with": ("evaluate", *model, "--data", tmp_path / "no"),
        "--max-length 65 is out of range": ("predict", *model, "stop", "--max-length", "65"),
        "corpus folder with train/ and dev/": (
            *("finetune", *model, "--train", tmp_path / "no", "--output", tmp_path / "run"),
        ),
    }
    for message, arguments in asked.items():
        code, out, said = run(capsys, *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in said
        assert len(said.splitlines()) == 1
