"""The Paddle trainer: compiled equals eager, the same seed gives the same weights, another seed others."""

import numpy as np
import paddle
import pytest
import torch

from splinter import runtime
from splinter.align import paddle_side, torch_side
from splinter.ports.common.paddle import train as train_paddle
from splinter.ports.common.torch import train as train_torch
from splinter.ports.common.training.feed import Table, trim
from splinter.ports.common.training.fit import fit
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.splinter import train, twin
from splinter.ports.splinter.model import SplinterForQuestionAnswering
from splinter.ports.splinter.proof import cases, ours

FOLDER = cases.tiny()


def opened(compiled: bool):
    runtime.tune()
    return train.BACKEND.open_model(FOLDER, "paper", "pretrained", repeated=compiled)


@pytest.mark.parametrize("name", ["padded", "odd", "single"])
def test_compiled_forward_is_bit_equal_to_eager(name):
    """The static graph changes no bit of the logits, whatever the batch's shape."""
    inputs = cases.model_inputs(cases.batches(FOLDER, "paper")[name])
    eager, compiled = (train.BACKEND.logits(opened(c), inputs) for c in (False, True))
    assert np.abs(eager[0]).max() > 1
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_compiled_gradients_equal_eager_to_rounding():
    """The same loss, and every parameter's gradient up to the order of a few additions."""
    batch = paddle_side.from_numpy(cases.batches(FOLDER, "paper")["padded"], "float32")
    found = []
    for compiled in (False, True):
        model = SplinterForQuestionAnswering.from_pretrained(FOLDER, mode="paper", **ours.NO_DROPOUT)
        if compiled:
            model.compile()
        model.train()
        loss = train.loss(model, train.forward(model, batch), batch)
        loss.backward()
        found.append((loss.item(), {n: p.grad.numpy() for n, p in model.named_parameters()}))
    (eager_loss, eager), (compiled_loss, compiled) = found
    assert eager_loss == compiled_loss
    norm = max(np.abs(gradient).max() for gradient in eager.values())
    for name, gradient in eager.items():
        np.testing.assert_allclose(gradient, compiled[name], rtol=1e-5, atol=1e-6 * norm, err_msg=name)


def weights_after(compiled: bool, seed: int) -> np.ndarray:
    """One matrix after five updates with dropout on."""
    hyper = Recipe(seed=seed, min_steps=0, max_steps=5, epochs=3, learning_rate=1e-3)
    columns = cases.model_inputs(ours.columns(cases.TRAINING, "paper"), labels=True)
    model = opened(compiled)
    fit(train.BACKEND.trainer(model, hyper), Table(columns, hyper, prepare=trim), hyper)
    return paddle_side.state(model)["bert.encoder.1.inner.weight"]


@pytest.mark.parametrize("compiled", [False, True])
def test_same_seed_same_weights(compiled):
    """Dropout and order of batches follow the seed, to the bit."""
    first, again, other = (weights_after(compiled, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-5


def test_decay_reaches_matrices_only():
    """By structured name: no bias, no LayerNorm weight."""
    names = [n for n, _ in opened(False).named_parameters()]
    decayed = set(train.decayed(names))
    assert "bert.encoder.0.inner.weight" in decayed
    assert not any("norm" in name or name.endswith("bias") for name in decayed)
    assert len(decayed) == sum(name.endswith("weight") and "norm" not in name for name in names)


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_adamw_ends_where_the_course_says(framework):
    """1000 updates of a linear regression: the golden weights that CS 224N ships with minBERT's optimizer test."""
    trained = {"paddle": train_paddle, "torch": train_torch}[framework].AdamW
    driver = {"paddle": paddle_side.DRIVER, "torch": torch_side.DRIVER}[framework]
    start = [[-0.00432252, 0.30971584, -0.47518533], [-0.42489460, -0.22236897, 0.15482073]]
    named = driver.free_parameters({"w": np.array(start, "float32")}, "float64")
    hyper = Recipe(epsilon=1e-6, weight_decay=1e-4, max_norm=0.0)
    optimizer = trained(named, hyper, ["w"])
    rng = np.random.default_rng(0)
    for _ in range(1000):
        x = rng.uniform(size=3)
        error = driver.to_numpy(named["w"]) @ x - np.array([x[0] + x[1], -x[2]])
        driver.set_gradients(named, {"w": 2 * np.outer(error, x)}, "float64")
        optimizer.step(1e-3)
    golden = [[0.55482787, 0.86665666, 0.07291982], [-0.44724506, -0.2951228, -0.2717272]]
    # the course's own tolerance; its figures are float32
    np.testing.assert_allclose(driver.to_numpy(named["w"]), golden, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_weight_counts_its_own_updates(framework):
    """Two tasks in turn: each weight goes as if the other's updates had not been, in a resumed run too; one that is
    never used stands still, though it decays."""
    library = {"paddle": paddle, "torch": torch}[framework]
    made = {"paddle": train_paddle.PaddleTrainer, "torch": train_torch.TorchTrainer}[framework]
    one = {"x": np.ones((1, 2), "float32"), "task": np.array(0)}
    other = {"x": np.full((1, 2), 2, "float32"), "task": np.array(1)}

    def trainer():
        library.seed(0) if framework == "paddle" else library.manual_seed(0)
        layers = library.nn.LayerList if framework == "paddle" else library.nn.ModuleList
        model = layers([library.nn.Linear(2, 2) for _ in range(3)])
        names = [name for name, _ in model.named_parameters()]
        recipe = Recipe(weight_decay=0.1)
        return made(model, lambda m, b: (m[int(b["task"])](b["x"]) ** 2).sum(), recipe, names)

    def after(batches, begun=None, updates=0):
        running = trainer()
        if begun is not None:
            running.load(begun, updates)
        for batch in batches:
            running.step(batch, 1e-2)
        return running.state()

    fresh, alone = trainer().state(), after([one] * 3)
    whole = after([one, other, one, other, other, one])
    resumed = after([other, other, one], after([one, other, one]), 3)
    for name, array in fresh.items():
        np.testing.assert_array_equal(resumed[name], whole[name])
        task = {"0": alone, "1": after([other] * 3), "2": fresh}[name[0]]
        np.testing.assert_array_equal(whole[name], task[name])
        assert np.array_equal(whole[name], array) == (name[0] == "2")
    assert whole["updates/0.weight"] == whole["updates/1.weight"] == 3 and "updates/2.weight" not in whole


@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_micro_batches_make_the_same_updates(framework):
    """Three updates of 7 windows, all at once and 3, 3 and 1 at a time, by length; float64, without dropout."""
    computing = {"paddle": train.BACKEND, "torch": twin.BACKEND}[framework]
    load, driver = {"paddle": (ours.load, paddle_side), "torch": (twin.load, torch_side)}[framework]
    found = []
    for rows in (0, 3):
        hyper = Recipe(seed=1, min_steps=0, max_steps=3, batch_size=7, learning_rate=1e-3, warmup=0.0, micro_batch=rows)
        columns = cases.model_inputs(ours.columns(cases.TRAINING, "paper"), labels=True)
        trainer = computing.trainer(driver.cast(load(FOLDER, "paper"), "float64"), hyper)
        log = fit(trainer, Table(columns, hyper, prepare=trim), hyper)
        found.append(([entry[name] for entry in log for name in ("loss", "norm")], driver.state(trainer.model)))
    (curve, weights), (parted, parted_weights) = found
    # sums of 7 instead of three sums of at most 3: some units in the last place, which Adam's division enlarges
    np.testing.assert_allclose(parted, curve, rtol=1e-10)
    for name, array in weights.items():
        np.testing.assert_allclose(parted_weights[name], array, rtol=0, atol=1e-9, err_msg=name)


def test_micro_batches_of_another_loss_are_refused():
    """A mean over something other than rows has no share of a part."""
    hyper = Recipe(micro_batch=3)
    with pytest.raises(ValueError, match="sum over rows"):
        train_torch.TorchTrainer(torch.nn.Linear(1, 1), None, hyper)
