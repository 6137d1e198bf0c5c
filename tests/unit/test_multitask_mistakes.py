"""The mistakes that the first author of this model lists, one test each: made again, its test fails."""

import dataclasses

import numpy as np
import paddle
import pytest

from splinter.align import paddle_side
from splinter.ports.common.paddle.train import AdamW
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.multitask import config, data, tasks
from splinter.ports.multitask.config import TASKS
from splinter.ports.multitask.feed import MixedFeed
from splinter.ports.multitask.proof import cases, ours
from splinter.ports.multitask.train import BACKEND, loss
from splinter.sample import PATH

SAMPLE = PATH / "multitask"
COLUMNS = {
    "sentiment": {"sentiment/input_ids", "sentiment/attention_mask", "sentiment/labels"},
    "paraphrase": {f"paraphrase/{n}" for n in ("a_input_ids", "a_attention_mask", "b_input_ids", "b_attention_mask")}
    | {"paraphrase/labels"},
    "similarity": {f"similarity/{n}" for n in ("a_input_ids", "a_attention_mask", "b_input_ids", "b_attention_mask")}
    | {"similarity/labels"},
}


@pytest.fixture(scope="module")
def pieces():
    """The shipped vocabulary, lower-cased."""
    return data.WordPieces(PATH / "vocab.txt", lower_case=True, python=True)


@pytest.fixture(scope="module")
def sets(pieces):
    """The shipped training data."""
    return {task: data.load([data.find(SAMPLE, task, "train")], task, pieces) for task in TASKS}


@pytest.fixture
def model():
    """The embedded checkpoint, version 2, dropout off."""
    return ours.load(cases.tiny(), "version2")


def gradients(model, batch):
    """Name -> norm of the gradient, of those parameters that got one."""
    _, found = paddle_side.DRIVER.gradients(model, ours.forward, loss, batch, "float64")
    return {name: float(np.abs(array).sum()) for name, array in found.items()}


def joint():
    """An ordinary batch of all tasks."""
    return cases.batches(cases.tiny(), "version2")["joint"]


def test_the_sides_of_a_pair_stand_beside_each_other(model):
    """Wrong axis in concat: the pair is (B, 2D), and swapping the sentences swaps its halves."""
    seen = []
    model.paraphrase_hidden.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    a, b = (paddle.to_tensor(np.random.default_rng(i).normal(size=(3, 60)).astype("float32")) for i in (1, 2))
    model.paraphrase(a, b)
    model.paraphrase(b, a)
    assert seen[0].shape == (3, 120)
    np.testing.assert_array_equal(seen[0][:, :60], a.numpy())
    np.testing.assert_array_equal(seen[0][:, 60:], seen[1][:, :60])
    np.testing.assert_array_equal(seen[0][:, :60], seen[1][:, 60:])


def test_the_keys_of_a_batch_are_these(sets):
    """Wrong dict keys: every column has its task's name, and no other is there."""
    for task in TASKS:
        assert set(sets[task].batch(np.arange(3))) == COLUMNS[task]


def test_similarity_labels_are_real_numbers(sets):
    """MSE with integer labels: float32 from file to batch, and 2.6 stays 2.6."""
    labels = sets["similarity"].batch(np.arange(60))["similarity/labels"]
    assert labels.dtype == np.float32
    assert np.float32(2.6) in labels
    assert (labels != np.round(labels)).any()


@pytest.mark.parametrize("design", ["version1", "version2"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_something_to_learn_with_a_frozen_encoder(task, design):
    """No trainable parameter: in the phase pretrain each task alone moves its own head, and nothing of BERT."""
    model = ours.load(cases.tiny(), design, frozen=True)
    found = gradients(paddle_side.cast(model, "float64"), cases.batches(cases.tiny(), design)[f"{task} alone"])
    assert [name for name, norm in found.items() if norm > 0]
    assert all(name.startswith(f"{task}_") for name in found)


def test_training_and_dev_data_have_labels_and_test_data_none(sets, pieces, tmp_path):
    """Wrong class of data set: labels are in every batch of train and dev; a file without them is said to lack them."""
    for task in TASKS:
        dev = data.load([data.find(SAMPLE, task, "dev")], task, pieces)
        for some in (dev, sets[task]):
            assert len(some.batch(np.arange(4))[f"{task}/labels"]) == 4
    file = tmp_path / "ids-sst-test-student.csv"
    file.write_text("\tid\tsentence\n0\tx1\tA day.\n", encoding="utf-8")
    with pytest.raises(data.DataError, match=r"line 1: column 'sentiment' is missing"):
        data.load([file], "sentiment", pieces)
    assert data.load([file], "sentiment", pieces, labels=False).labels is None


def test_gradients_are_there_between_backward_and_update(model, monkeypatch):
    """Reading gradients at the wrong time: there before the update, gone after it."""
    before = []
    plain = AdamW.step

    def step(self, rate):
        before.append(sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in self.named.values()))
        return plain(self, rate)

    monkeypatch.setattr(AdamW, "step", step)
    trainer = BACKEND.trainer(model, Recipe())
    trainer.step(joint(), 1e-3)
    assert before[0] > 40
    assert all(p.grad is None or float(p.grad.abs().sum()) == 0 for p in model.parameters())


@pytest.mark.parametrize("compiled", [False, True], ids=["dynamic", "static"])
def test_the_gradient_reaches_the_first_layer_of_bert(model, compiled):
    """A graph broken by a new tensor: fine-tuning moves the embeddings and layer 0, as the static graph does."""
    if compiled:
        model.compile()
    model.train()
    tensors = paddle_side.from_numpy(joint(), "float32")
    loss(model, ours.forward(model, tensors), tensors).backward()
    for layer in (model.bert.encoder[0].attention.query, model.bert.embeddings.word):
        assert float(layer.weight.grad.abs().sum()) > 0


def test_the_loss_is_logged_from_the_first_update(sets, model):
    """Logging every 1000 steps hid the failure: one entry per update."""
    feed = MixedFeed(sets, Recipe(batch_size=8, epochs=1, min_steps=0), steps=3)
    log = fit(BACKEND.trainer(model, feed.recipe), feed, feed.recipe)
    assert [entry["step"] for entry in log] == [1, 2, 3]
    assert all(entry["loss"] > 0 for entry in log)


def test_a_model_that_says_one_class_to_all_is_seen(sets):
    """One class for all: the report shows how often each is predicted, beside an accuracy that looks decent."""
    chosen = {"paraphrase": sets["paraphrase"]}
    found = tasks.report(chosen, {"paraphrase": np.zeros(60, np.int64)}, 5)
    assert found["predicted"]["paraphrase"] == {"0": 60, "1": 0}
    assert found["paraphrase"] > 0.5


def test_the_heads_have_dropout_of_their_own():
    """BERT's dropout object used again: other objects with another rate."""
    model = ours.load(cases.tiny(), "version2", dropout=True, fresh=True)
    own = [model.sentiment_dropout, model.paraphrase_dropout]
    theirs = [layer for layer in model.bert.sublayers() if isinstance(layer, paddle.nn.Dropout)]
    assert not {id(layer) for layer in own} & {id(layer) for layer in theirs}
    assert {layer.p for layer in own} == {cases.TINY.head_dropout_prob}
    assert {layer.p for layer in theirs} == {cases.TINY.hidden_dropout_prob, cases.TINY.attention_probs_dropout_prob}


def test_each_sentence_is_a_sequence_of_its_own(sets):
    """ "[CLS] s1 [SEP] s2 [SEP] [CLS]": every row starts with 101 and holds one 102, at its end."""
    for task in TASKS:
        for name, ids in sets[task].batch(np.arange(60)).items():
            if name.endswith("input_ids"):
                lengths = (ids != 0).sum(axis=1)
                assert (ids[:, 0] == 101).all()
                assert ((ids == 101).sum(axis=1) == 1).all()
                assert ((ids == 102).sum(axis=1) == 1).all()
                assert (ids[np.arange(len(ids)), lengths - 1] == 102).all()


def test_a_small_set_is_learnt_by_heart(pieces):
    """Too few samples in debugging: 64 pairs, all of them right after 30 passes."""
    files = [data.find(SAMPLE, "paraphrase", split) for split in ("train", "dev")]
    pairs = data.load(files, "paraphrase", pieces).first(64)
    feed = MixedFeed({"paraphrase": pairs}, dataclasses.replace(config.RECIPE, epochs=30, learning_rate=1e-3), steps=8)
    model = ours.load(cases.tiny(), "version2")
    fit(BACKEND.trainer(model, feed.recipe), feed, feed.recipe)
    assert tasks.Runner(BACKEND, model, "tiny", 64).scores({"paraphrase": pairs})["paraphrase"] > 0.95


def test_the_score_has_the_size_of_one_number():
    """1/sqrt(n) forgotten: of vectors with unit variance the score has a standard deviation near 1."""
    model = ours.load(cases.tiny(), "version2")
    for layer in (model.similarity_hidden, model.similarity_out):
        layer.weight.set_value(np.eye(60, dtype="float32"))
        layer.bias.set_value(np.zeros(60, dtype="float32"))
    model.activation = lambda x: x
    a, b = (np.random.default_rng(i).normal(size=(2000, 60)).astype("float32") for i in (3, 4))
    assert BACKEND.outputs(model, "similarity", [a, b]).std() == pytest.approx(1.0, abs=0.1)


def test_nothing_of_bert_moves_while_it_is_frozen(sets):
    """The phase pretrain: after updates with decay every encoder tensor has its old bits, every head new ones."""
    model = ours.load(cases.tiny(), "version2", dropout=True, frozen=True)
    before = paddle_side.state(model)
    feed = MixedFeed(sets, dataclasses.replace(cases.recipe("pretrain"), weight_decay=0.1, max_steps=3), steps=8)
    fit(BACKEND.trainer(model, feed.recipe), feed, feed.recipe)
    moved = {name for name, array in paddle_side.state(model).items() if not np.array_equal(array, before[name])}
    assert moved == {name for name in before if not name.startswith("bert.")}
