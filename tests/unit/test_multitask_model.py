"""The multi-task model: sizes, designs, masks, freezing, checkpoints; and the twin it is compared with."""

import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertModel

from splinter.align.files import WeightError
from splinter.align.torch_side import float64_softmax
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.common.training.fit import fit
from splinter.ports.multitask import config, train, twin
from splinter.ports.multitask.config import FILL, MODES, TASKS, MultitaskConfig, read_checkpoint
from splinter.ports.multitask.feed import MixedFeed
from splinter.ports.multitask.model import MultitaskBert, loss
from splinter.ports.multitask.proof import cases, ours, theirs


def batch():
    """An ordinary batch of all tasks."""
    return cases.batches(cases.tiny(), "version2")["joint"]


def sizes(given, prefix):
    """How many numbers a checkpoint holds under a prefix."""
    return sum(int(np.prod(shape)) for name, shape in config.shapes(given).items() if name.startswith(prefix))


def edited(tmp_path, change):
    """The embedded checkpoint with changed tensors."""
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")
    return folder


# -- sizes ------------------------------------------------------------------------------------------------


def test_the_counts_are_those_of_the_specification():
    """
    bert-base-uncased with its pooler, and the heads of version 2, number by number.
    """
    base = MultitaskConfig()
    assert sizes(base, "bert.") == 109_482_240
    assert sizes(base, "sentiment_classifier") == 3_845
    assert (sizes(base, "paraphrase_hidden"), sizes(base, "paraphrase_out")) == (1_180_416, 1_538)
    assert (sizes(base, "similarity_hidden"), sizes(base, "similarity_out")) == (590_592, 590_592)
    assert sizes(replace(base, design="version1"), "paraphrase_classifier") == 1_537
    assert sizes(replace(base, design="version1"), "similarity_classifier") == 1_537


@pytest.mark.parametrize("design", MODES)
def test_both_frameworks_have_the_tensors_of_the_table(design):
    """
    Names and shapes of the twin are the table's; ours are those of the weight map.
    """
    table = config.shapes(replace(cases.TINY, design=design))
    reference = theirs.load(cases.tiny(), design)
    assert {name: tuple(p.shape) for name, p in reference.named_parameters()} == table
    names = {name for name, _ in ours.load(cases.tiny(), design).named_parameters()}
    assert names == {link.ours for link in config.weight_map(design).links_from(table).values()}


def test_outputs_have_one_shape_each():
    """
    (B, 5), (B, 2) and (B,); version 1 says one number per pair.
    """
    outputs = cases.batches(cases.tiny(), "version2")["last"]
    tensors = {name: paddle.to_tensor(array) for name, array in outputs.items()}
    shapes = {task: output.shape for task, output in ours.load(cases.tiny(), "version2")(tensors).items()}
    assert shapes == {"sentiment": [3, 5], "paraphrase": [3, 2], "similarity": [3]}
    shapes = {task: output.shape for task, output in ours.load(cases.tiny(), "version1")(tensors).items()}
    assert shapes == {"sentiment": [3, 5], "paraphrase": [3], "similarity": [3]}


# -- what the formulas say --------------------------------------------------------------------------------


def test_without_an_activation_the_paraphrase_logit_cannot_compare():
    """
    It is additive in the two sentences then, whatever its width; with ReLU it is not.
    """
    encoded = [np.random.default_rng(i).normal(size=(2, 60)).astype("float32") for i in range(2)]
    (a, b), (c, d) = encoded

    def interaction(activation):
        model = MultitaskBert.from_pretrained(cases.tiny(), head_activation=activation)
        logits = train.BACKEND.outputs(model, "paraphrase", [np.stack([a, a, b, b]), np.stack([c, d, c, d])])
        return np.abs(logits[0] - logits[1] - logits[2] + logits[3]).max()

    assert interaction("none") < 1e-4
    assert interaction("relu") > 0.1


def test_comparing_features_agree_with_the_reference(tmp_path):
    """
    [u, v, |u - v|, u * v] for the paraphrase head: logits and every gradient equal in float64.
    """
    config = replace(cases.TINY, pair_features="compare")
    folder = cases.write_random(tmp_path / "compare", config, 0, None, std=0.15)
    batch = cases.batches(folder, "version2")["joint"]
    found = []
    for side in (theirs.side("version2"), ours.side("version2")):
        model = side.driver.cast(side.load(folder), "float64")
        found.append(side.driver.gradients(model, side.forward, side.loss, batch, "float64"))
    (loss, gradients), (our_loss, our_gradients) = found
    assert our_loss == pytest.approx(loss, rel=1e-12)
    assert gradients["paraphrase_hidden.weight"].shape == (60, 240)
    np.testing.assert_allclose(
        our_gradients["paraphrase_hidden.weight"].T, gradients["paraphrase_hidden.weight"], atol=1e-12
    )
    np.testing.assert_allclose(our_gradients["bert.pooler.weight"].T, gradients["bert.pooler.dense.weight"], atol=1e-11)


def test_similarity_is_symmetric_and_paraphrase_is_not():
    """
    One tower for both sides; a concatenation has an order.
    """
    model = ours.load(cases.tiny(), "version2")
    a, b = (np.random.default_rng(i).normal(size=(3, 60)).astype("float32") for i in (5, 6))
    outputs = train.BACKEND.outputs
    assert np.array_equal(outputs(model, "similarity", [a, b]), outputs(model, "similarity", [b, a]))
    assert not np.allclose(outputs(model, "paraphrase", [a, b]), outputs(model, "paraphrase", [b, a]))


def test_the_pooling_is_a_switch():
    """
    `cls` is the last state, `pooled` its dense layer and tanh; the twin agrees on both.
    """
    ids, mask = batch()["sentiment/input_ids"], batch()["sentiment/attention_mask"]
    found = {}
    for pooling in ("pooled", "cls"):
        model = MultitaskBert.from_pretrained(cases.tiny(), pooling=pooling)
        found[pooling] = train.BACKEND.encode(model, ids, mask)
        reference = twin.build(cases.tiny(), "pretrained", pooling=pooling)
        np.testing.assert_allclose(found[pooling], twin.BACKEND.encode(reference, ids, mask), atol=2e-5)
    by_hand = np.tanh(found["cls"] @ model.bert.pooler.weight.numpy() + model.bert.pooler.bias.numpy())
    np.testing.assert_allclose(found["pooled"], by_hand, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fill_of_minbert_gives_the_bits_of_transformers_own(dtype):
    """
    exp(-10000) is 0 as exp(finfo.min) is: every sentence holds a token, so the two masks cannot differ.
    """
    reference = theirs.load(cases.tiny(), "version2").to(dtype)
    ids, mask = (torch.from_numpy(batch()[f"sentiment/{n}"]) for n in ("input_ids", "attention_mask"))
    assert (mask == 0).any()
    assert FILL == -10000
    with torch.no_grad(), float64_softmax():
        filled = reference.encode(ids, mask)
        # a float mask: an integer one would take torch's default dtype, and overflow in a float64 model
        plain = BertModel.forward(reference.bert, input_ids=ids, attention_mask=mask.to(dtype)).pooler_output
    assert torch.equal(filled, plain)


def test_padding_changes_nothing():
    """
    A sentence alone, and the same sentence in a padded batch.
    """
    model = ours.load(cases.tiny(), "version2")
    ids, mask = batch()["sentiment/input_ids"], batch()["sentiment/attention_mask"]
    together = train.BACKEND.encode(model, ids, mask)
    for row, length in enumerate(mask.sum(axis=1)):
        alone = train.BACKEND.encode(model, ids[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_scores_and_labels_of_another_shape_are_refused():
    """
    (B,) against (B, 1) would broadcast to (B, B): finite, and wrong.
    """
    outputs = {"similarity": paddle.zeros([4])}
    with pytest.raises(ValueError, match="differ in shape"):
        loss(outputs, {"similarity/labels": paddle.zeros([4, 1]), "batch_size": paddle.to_tensor(4)})


def test_a_smaller_batch_weighs_less():
    """
    Sum over the nominal batch size: 3 rows of 8 count three eighths of their mean.
    """
    labels = {"sentiment/labels": paddle.to_tensor([0, 1, 2])}
    outputs = {"sentiment": paddle.zeros([3, 5])}
    small = loss(outputs, {**labels, "batch_size": paddle.to_tensor(8)}).item()
    full = loss(outputs, {**labels, "batch_size": paddle.to_tensor(3)}).item()
    assert full == pytest.approx(np.log(5), rel=1e-6)
    assert small == pytest.approx(full * 3 / 8, rel=1e-6)


# -- the encoder in both phases ---------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["finetune", "pretrain"])
def test_static_and_dynamic_graph_train_alike(frozen):
    """
    The same bits of every gradient, dropout off; evaluation in between changes nothing.
    """
    found = []
    for compiled in (False, True):
        model = ours.load(cases.tiny(), "version2", frozen=frozen)
        if compiled:
            model.compile()
        train.BACKEND.encode(model, batch()["sentiment/input_ids"], batch()["sentiment/attention_mask"])
        model.train()
        tensors = {name: paddle.to_tensor(array) for name, array in batch().items()}
        train.loss(model, ours.forward(model, tensors), tensors).backward()
        found.append({n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == (10 if frozen else 49)
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_what_a_batch_does_not_use_stays_as_it_is():
    """
    One task per update: in both frameworks the other heads rest, momentum or not, and the losses stay equal.
    """
    columns = {task: ours.columns(f"sample/{task}-train", "version2") for task in TASKS}
    sets = {task: cases.dataset(task, found) for task, found in columns.items()}
    hyper = replace(config.RECIPE, learning_rate=1e-3, epochs=1)
    feed = MixedFeed(sets, hyper, steps=12, sampling="proportional")
    assert min(feed.seen(12).values()) > 1
    losses, after = [], []
    for side, backend in ((ours.side("version2"), train.BACKEND), (theirs.side("version2"), twin.BACKEND)):
        model = side.driver.cast(side.load(cases.tiny()), "float64")
        losses.append([entry["loss"] for entry in fit(backend.trainer(model, hyper), feed, hyper)])
        after.append(side.driver.state(model))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-11)
    for link in config.weight_map().links_from(after[1]).values():
        wanted = after[1][link.theirs].T if link.transpose else after[1][link.theirs]
        if not link.ours.endswith("key.bias"):  # zero by algebra: Adam makes steps of its noise
            np.testing.assert_allclose(after[0][link.ours], wanted, atol=1e-10)


def test_dropout_of_bert_stays_on_while_it_is_frozen():
    """
    As in the course's skeleton: frozen means without gradient, not evaluation mode.
    """
    model = ours.load(cases.tiny(), "version2", dropout=True, frozen=True)
    model.train()
    ids, mask = (paddle.to_tensor(batch()[f"sentiment/{n}"]) for n in ("input_ids", "attention_mask"))
    assert not np.array_equal(model.encode(ids, mask).numpy(), model.encode(ids, mask).numpy())


# -- checkpoints ------------------------------------------------------------------------------------------


def bare(tensors):
    """As BertModel is stored: no prefix, no heads."""
    return {n.removeprefix("bert."): a for n, a in tensors.items() if n.startswith("bert.")}


@pytest.mark.parametrize("backend", [train.BACKEND, twin.BACKEND], ids=["paddle", "torch"])
def test_a_plain_bert_gets_new_heads_and_keeps_its_encoder(tmp_path, backend):
    """
    Names without prefix, as in bert-base-uncased; evaluation refuses a model without its heads.
    """
    folder = edited(tmp_path, bare)
    model = backend.open_model(folder, "auto")
    assert model.head == "fresh"
    ids, mask = batch()["sentiment/input_ids"], batch()["sentiment/attention_mask"]
    whole = backend.open_model(cases.tiny(), "pretrained")
    assert whole.head == "pretrained"
    np.testing.assert_array_equal(backend.encode(model, ids, mask), backend.encode(whole, ids, mask))
    with pytest.raises(CheckpointError, match=r"holds no head 'sentiment_classifier'; fine-tune it first"):
        backend.open_model(folder, "pretrained")


def test_heads_that_are_there_are_kept(tmp_path):
    """
    A checkpoint with a head for sentiment alone: that one is taken, the others are new.
    """
    folder = edited(tmp_path, lambda t: {n: a for n, a in t.items() if n.startswith(("bert.", "sentiment"))})
    model = train.BACKEND.open_model(folder, "auto")
    assert model.head == "partly fresh"
    kept = load_file(cases.tiny() / "model.safetensors")["sentiment_classifier.weight"]
    np.testing.assert_array_equal(model.sentiment_classifier.weight.numpy(), kept.T)


def test_new_heads_may_tell_other_classes():
    """
    Five classes do not become two by themselves; with new heads they do.
    """
    with pytest.raises(
        CheckpointError, match=r"has a head for 5 sentiment classes, but 2 are asked for; take new heads"
    ):
        read_checkpoint(cases.tiny(), sentiment_classes=2)
    model = train.BACKEND.open_model(cases.tiny(), "fresh", sentiment_classes=2)
    assert model.sentiment_classifier.weight.shape == [60, 2]


@pytest.mark.parametrize("design", MODES)
def test_a_saved_model_is_the_same_bits(tmp_path, design):
    """
    Written by either framework, read by the other, tensor by tensor.
    """
    for name, backend, room in (("paddle", train.BACKEND, ours), ("torch", twin.BACKEND, theirs)):
        model = room.load(cases.tiny(), design)
        backend.save(model, tmp_path / name, config.companions(model.config, cases.tiny()))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("paddle", "torch"))
    original = load_file(cases.tiny() / "model.safetensors")
    assert first.keys() == second.keys() == config.shapes(replace(cases.TINY, design=design)).keys()
    assert all(np.array_equal(first[n], original[n]) and np.array_equal(second[n], original[n]) for n in first)
    for name in ("paddle", "torch"):
        assert read_checkpoint(tmp_path / name)[0] == replace(cases.TINY, design=design, **ours.NO_DROPOUT)
        assert (tmp_path / name / "vocab.txt").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {n: a for n, a in t.items() if n != "bert.pooler.dense.bias"}, "missing: bert.pooler.dense.bias"),
        (lambda t: t | {"bert.extra.weight": np.zeros(3, "float32")}, r"surplus: bert\.extra\.weight"),
        (
            lambda t: t | {"paraphrase_out.weight": np.zeros((3, 60), "float32")},
            r"tensor 'paraphrase_out\.weight' has shape \(3, 60\), the configuration asks for \(2, 60\)",
        ),
        (lambda t: {n: a for n, a in t.items() if "layer.1." not in n}, "num_hidden_layers is 2, the tensors have 1"),
    ],
    ids=["missing", "surplus", "shape", "layers"],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, change, message):
    """
    Nothing stays random in silence: the tensor is named.
    """
    with pytest.raises(WeightError, match=message):
        read_checkpoint(edited(tmp_path, change))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"design": "version3"}, "design 'version3' is not known; use one of version1, version2"),
        ({"pooling": "mean"}, "pooling 'mean' is not known; use one of pooled, cls"),
        ({"head_activation": "gelu"}, "head_activation 'gelu' is not known; use one of relu, none"),
        ({"sentiment_classes": 1}, "sentiment_classes is 1, expected 2 or more"),
        ({"head_dropout_prob": 1.5}, "head_dropout_prob is 1.5, expected a number from 0 to 1"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(values, message):
    """
    The field, its value, and what would do.
    """
    with pytest.raises(CheckpointError, match=message):
        replace(cases.TINY, **values)


def test_the_tasks_are_three():
    """
    Everything that goes by task knows the same three.
    """
    assert TASKS == ("sentiment", "paraphrase", "similarity")
