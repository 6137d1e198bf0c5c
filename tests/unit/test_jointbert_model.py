"""JointBERT's model: the CRF against every path and against pytorch-crf, loading and its refusals, dropout after a look
at dev."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest
import torch
import torchcrf

from splinter.align.files import SafetensorsFile, WeightError, save_safetensors
from splinter.ports.common.checkpoint import CheckpointError
from splinter.ports.jointbert import config, model, train, twin
from splinter.ports.jointbert.config import JointConfig, read_checkpoint
from splinter.ports.jointbert.proof import cases, ours, theirs


def crf_of(tags, transitions=1.0, seed=0):
    """Ours and pytorch-crf's with the same float64 parameters, and these."""
    rng = np.random.default_rng(seed)
    sizes = {"start_transitions": (tags,), "end_transitions": (tags,), "transitions": (tags, tags)}
    values = {name: transitions * rng.standard_normal(size) for name, size in sizes.items()}
    ours, theirs = model.CRF(tags).to(dtype="float64"), torchcrf.CRF(tags, batch_first=True).double()
    for name, value in values.items():
        getattr(ours, name).set_value(value)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    return ours, theirs, values


def path_score(values, emissions, path):
    """One path by the definition, term by term."""
    score = values["start_transitions"][path[0]] + values["end_transitions"][path[-1]]
    score += sum(emissions[t, tag] for t, tag in enumerate(path))
    return score + sum(values["transitions"][a, b] for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("real", [4, 3, 1], ids=["whole", "one step padded", "one step left"])
def test_crf_against_every_path(real):
    """
    S = 3, L = 4: likelihood of all 81 paths, their sum, and the best one, to 1e-12; padding never matters.
    """
    ours, _, values = crf_of(3)
    emissions = np.random.default_rng(1).standard_normal((1, 4, 3))
    mask = paddle.to_tensor([[t < real for t in range(4)]])
    paths = list(itertools.product(range(3), repeat=real))
    scores = np.array([path_score(values, emissions[0], path) for path in paths])
    wanted = scores - np.log(np.exp(scores).sum())
    given = paddle.to_tensor(np.array([[*path, *[2] * (4 - real)] for path in paths]))
    many = [paddle.to_tensor(emissions).expand([len(paths), -1, -1]), given, mask.expand([len(paths), -1])]
    found = ours.log_likelihood(*many).numpy()
    assert np.abs(found - wanted).max() < 1e-12
    assert abs(np.exp(found).sum() - 1) < 1e-12
    best = ours.decode(paddle.to_tensor(emissions), mask).numpy()[0]
    assert tuple(best) == (*paths[int(scores.argmax())], *[0] * (4 - real))


@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4], ids=["moderate", "beyond products", "forbidden transitions"])
def test_crf_against_pytorch_crf(spread):
    """
    Likelihood, every gradient and the path, for transitions of any size: products of matrices or the plain form.
    """
    ours, theirs, values = crf_of(7, spread, seed=3)
    moderate = (values["transitions"].max(axis=0) - values["transitions"]).max() <= model.MODERATE
    assert moderate == (spread == 1.0)
    rng = np.random.default_rng(2)
    emissions, tags = 5 * rng.standard_normal((6, 9, 7)), rng.integers(0, 7, size=(6, 9))
    mask = np.arange(9) < np.array([9, 8, 5, 2, 1, 9])[:, None]
    e, t = paddle.to_tensor(emissions, stop_gradient=False), torch.tensor(emissions, requires_grad=True)
    likelihood = ours.log_likelihood(e, paddle.to_tensor(tags), paddle.to_tensor(mask))
    wanted = theirs(t, torch.from_numpy(tags), torch.from_numpy(mask), reduction="none")
    scale = float(wanted.detach().abs().max())
    assert np.abs(likelihood.numpy() - wanted.detach().numpy()).max() < 1e-13 * scale
    likelihood.mean().backward()
    wanted.mean().backward()
    pairs = [(e.grad, t.grad), *((getattr(ours, n).grad, getattr(theirs, n).grad) for n in values)]
    for mine, other in pairs:
        assert np.abs(mine.numpy() - other.numpy()).max() < 1e-12 * max(1.0, scale / 100)
    for all_steps in (False, True):
        here = torch.ones(6, 9, dtype=torch.bool) if all_steps else torch.from_numpy(mask)
        path = ours.decode(paddle.to_tensor(emissions), paddle.to_tensor(here.numpy())).numpy()
        assert np.array_equal(path, twin.paths(theirs, torch.from_numpy(emissions), here).numpy())


def test_both_forms_of_the_crf_agree(monkeypatch):
    """
    At moderate transitions the plain form gives the same numbers as the products, in float32 as well.
    """
    paddle.seed(0)  # not what another test has left: the bound is less than two roundings
    crf = model.CRF(30)
    emissions = paddle.randn([4, 12, 30]) * 50
    mask = paddle.to_tensor(np.arange(12) < np.array([12, 3, 7, 1])[:, None])
    fast = crf._log_partition(emissions, mask).numpy()
    monkeypatch.setattr(model, "MODERATE", -1.0)
    np.testing.assert_allclose(fast, crf._log_partition(emissions, mask).numpy(), rtol=2e-7)


@pytest.mark.parametrize("rubbish", [np.inf, -np.inf, np.nan])
def test_what_stands_at_a_masked_step_cannot_reach_the_loss(rubbish):
    """
    Infinity times 0 is nan; `where` is not.
    """
    ours, _, _ = crf_of(4)
    emissions = np.random.default_rng(5).standard_normal((2, 5, 4))
    mask = paddle.to_tensor(np.arange(5) < np.array([5, 3])[:, None])
    tags = paddle.zeros([2, 5], dtype="int64")
    clean = ours.log_likelihood(paddle.to_tensor(emissions), tags, mask).numpy()
    emissions[1, 3:] = rubbish
    dirty = paddle.to_tensor(emissions, stop_gradient=False)
    found = ours.log_likelihood(dirty, tags, mask)
    found.sum().backward()
    assert np.array_equal(found.numpy(), clean)
    assert np.isfinite(dirty.grad.numpy()).all()
    assert np.isfinite(ours.transitions.grad.numpy()).all()


# -- loading ----------------------------------------------------------------------------------------------


def changed(tmp_path, drop=(), **values):
    """A copy of the embedded checkpoint without some tensors and with other values in config.json."""
    folder = shutil.copytree(cases.tiny(), tmp_path / "model")
    stored = SafetensorsFile(folder / "model.safetensors")
    kept = {name: stored[name].copy() for name in stored if not name.startswith(tuple(drop) or ("\0",))}
    shapes = {name: (array.shape, array.dtype.name) for name, array in kept.items()}
    save_safetensors(folder / "model.safetensors", shapes, lambda: iter(kept.items()))
    told = json.loads((folder / "config.json").read_text())
    told = {name: value for name, value in {**told, **values}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


HEADS = ("intent_classifier", "slot_classifier", "crf")


def test_a_plain_bert_gets_fresh_heads(tmp_path):
    """
    The encoder is kept, the heads follow torch's law for Linear; without labels there is nothing to build.
    """
    folder = changed(tmp_path, HEADS, intents=None, slots=None, use_crf=None)
    stored, _, found = read_checkpoint(folder)
    assert (found, stored.intents, stored.mode) == (False, (), "softmax")
    with pytest.raises(CheckpointError, match="is a BERT without intent and slot heads; splinter finetune"):
        model.JointBert.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="is a BERT without intent and slot heads; splinter finetune"):
        twin.BACKEND.open_model(folder, "pretrained")
    with pytest.raises(CheckpointError, match="names no labels"):
        model.JointBert.from_pretrained(folder, heads="fresh")
    made = model.JointBert.from_pretrained(
        folder, heads="fresh", intents=("UNK", "a"), slots=("PAD", "UNK", "O"), use_crf=True
    )
    assert list(made.crf.transitions.shape) == [3, 3]
    assert 0 < float(made.slot_classifier.linear.bias.abs().max()) <= 1 / 8
    whole = model.JointBert.from_pretrained(cases.tiny())
    assert np.array_equal(made.bert.pooler.weight.numpy(), whole.bert.pooler.weight.numpy())


def test_number_of_parameters():
    """
    bert-base-uncased with the heads of ATIS: 109 592 976 numbers; the CRF adds S * S + 2 S.
    """
    base = cases.base_config()
    assert (len(base.intents), len(base.slots)) == (22, 122)

    def count(made):
        return sum(int(np.prod(shape)) for shape in config.shapes(made).values())

    assert count(replace(base, use_crf=False)) == 109_592_976
    assert count(base) - count(replace(base, use_crf=False)) == 122 * 122 + 2 * 122


@pytest.mark.parametrize(
    ("drop", "values", "error", "message"),
    [
        (HEADS, {}, CheckpointError, "names labels, but holds no heads"),
        ((), {"intents": None, "slots": None}, CheckpointError, "does not say which labels .* --labels FOLDER"),
        (("crf",), {}, WeightError, "missing: crf.start_transitions"),
        (("slot_classifier.linear.bias",), {}, WeightError, "missing: slot_classifier.linear.bias"),
        (("bert.pooler",), {}, CheckpointError, "no pooler"),
        ((), {"intents": ["UNK", "a"]}, WeightError, r"'intent_classifier.linear.weight' has shape \(8, 60\)"),
        ((), {"intents": "UNK"}, CheckpointError, r"intents is 'UNK', expected tuple\[str, ...\]"),
        ((), {"intents": ["UNK", 3]}, CheckpointError, r"expected tuple\[str, ...\]"),
        ((), {"intents": ["a", "b"]}, CheckpointError, "intents: 'UNK' is missing"),
        ((), {"slots": ["O", "UNK"]}, CheckpointError, "slots: the first label is 'O', expected 'PAD'"),
        ((), {"slots": ["PAD", "UNK", "O", "O"]}, CheckpointError, "slots: 'O' stands there twice"),
        ((), {"slots": ["PAD", "UNK", ""]}, CheckpointError, "label 2 .from 0. is ''"),
        ((), {"dropout_rate": 2.0}, CheckpointError, "dropout_rate is 2.0"),
        ((), {"num_hidden_layers": 3}, WeightError, "num_hidden_layers is 3, the tensors have 2"),
    ],
)
def test_a_checkpoint_that_cannot_be_is_refused(tmp_path, drop, values, error, message):
    """
    Named by file, tensor or key, before a model is built.
    """
    with pytest.raises(error, match=message):
        read_checkpoint(changed(tmp_path, drop, **values))


def test_a_crf_that_is_not_there_is_missed(tmp_path):
    """
    A softmax checkpoint asked for its CRF: an error in both frameworks, never random transitions.
    """
    folder = changed(tmp_path, ("crf",), use_crf=False)
    with pytest.raises(WeightError, match=r"missing: crf\."):
        model.JointBert.from_pretrained(folder, use_crf=True)
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'crf\."):
        theirs.load(folder, "crf")


def test_a_batch_of_one_keeps_its_axis():
    """
    Labels are (B,), and one row gives the loss of that row.
    """
    net = ours.load(cases.tiny(), "crf")
    batch = {name: paddle.to_tensor(array) for name, array in cases.batches(cases.tiny(), "crf")["single"].items()}
    out = ours.forward(net, batch)
    assert list(out["intent_logits"].shape) == [1, 8]
    assert train.loss(net, out, batch).shape == []


def test_dropout_is_on_again_after_a_look_at_dev():
    """
    Predicting sets the model to evaluation; the next update must train with dropout all the same.
    """
    net = model.JointBert.from_pretrained(cases.tiny(), dropout_rate=0.5)
    columns = ours.columns.__wrapped__("sample/dev", "softmax")
    rows = cases.model_inputs(columns)
    trainer = train.BACKEND.trainer(net, cases.recipe())
    first = train.BACKEND.predictions(net, rows)
    assert not net.training
    assert np.array_equal(first["slots"], train.BACKEND.predictions(net, rows)["slots"])
    trainer.seed(1)
    a, _ = trainer.step(rows, 0.0)
    trainer.seed(2)
    b, _ = trainer.step(rows, 0.0)
    assert net.training
    assert a != b


def test_compiled_gives_the_same_bits():
    """
    The static graph changes nothing, at any size of batch.
    """
    plain, fast = (model.JointBert.from_pretrained(cases.tiny()) for _ in range(2))
    fast.compile()
    for batch in cases.batches(cases.tiny(), "crf").values():
        given = [paddle.to_tensor(batch[name]) for name in cases.INPUTS]
        for mine, other in zip(plain(*given), fast(*given), strict=True):
            assert np.array_equal(mine.numpy(), other.numpy())


def test_labels_may_be_few():
    """
    One label of a kind leaves nothing to choose.
    """
    with pytest.raises(CheckpointError, match="one label alone"):
        JointConfig(intents=("UNK",), slots=("PAD", "UNK"))
    with pytest.raises(CheckpointError, match="only one of intents and slots"):
        JointConfig(intents=("UNK", "a"))


def test_injected_logits_are_as_wide_as_the_checkpoint_has_labels(tmp_path):
    """
    A CRF holds weights for its own labels alone: logits of another width end in an error, as at base size once.
    """
    fewer = replace(cases.tiny_config(), slots=cases.tiny_config().slots[:7], intents=cases.tiny_config().intents[:3])
    folder = cases.write_random(tmp_path / "fewer", fewer, 0, None)
    for outputs, batch in cases.loss_cases(folder, "crf").values():
        assert (outputs["intent_logits"].shape[-1], outputs["slot_logits"].shape[-1]) == (3, 7)
        assert batch["slot_labels"].max() < 7 and batch["intent_labels"].max() < 3
