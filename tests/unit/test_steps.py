"""steps.py: what a step must not let pass, shown on the toy of docs/your-own-port.md."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch

from splinter.align import EXACT, Pair, Rule, Tolerance, WeightMap, independence, pairing, steps
from splinter.align.paddle_side import DRIVER as PADDLE
from splinter.align.torch_side import DRIVER as TORCH

NEAR = Tolerance(atol=0.0, rtol=1e-10, why="three small layers")
FAR = Tolerance(atol=0.0, rtol=10.0, why="so wide that nothing but what has a limit of its own can fail")


@pytest.fixture
def toy(monkeypatch):
    """The toy's description; its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "toy"))
    import port

    yield port.PORT
    for name in ("port", "theirs", "ours"):
        sys.modules.pop(name, None)


def found(port, step, tolerance=NEAR, dtype="float64"):
    """A step's alignment, judged."""
    pair = Pair(port, "plain", "tiny", port.checkpoints["tiny"](), dtype)
    return getattr(steps, step)(pair).judge(tolerance)


def ours_with(port, **functions):
    """The port with other functions on our side."""
    side = replace(port.ours("plain"), **functions)
    return replace(port, ours=lambda mode: side)


# -- dropout ----------------------------------------------------------------------------------------------


def test_dropout_elsewhere_is_seen(toy, monkeypatch):
    """
    At the same rate, before the activation instead of behind it: without dropout nothing else tells.
    """
    assert found(toy, "regularization", EXACT).passed
    ours = sys.modules["ours"]

    def forward(self, ids, mask):
        mask = mask.astype(self.embedding.weight.dtype).unsqueeze(-1)
        mean = (self.embedding(ids) * mask).sum(1) / mask.sum(1)
        return self.out(paddle.tanh(self.dropout(self.hidden(mean))))

    monkeypatch.setattr(ours.Bag, "forward", forward)
    assert found(toy, "forward").passed
    wrong = found(toy, "regularization", EXACT)
    assert not wrong.passed and wrong.first_divergence.name == "padded/dropout 0, dropout"


def test_another_rate_and_a_dropout_more_are_seen(toy, monkeypatch):
    """
    In the list of rates, in the order they run.
    """
    found(toy, "regularization", EXACT)
    ours, plain = sys.modules["ours"], sys.modules["ours"].Bag.forward
    once = ours_with(toy, build=lambda folder: ours.build(folder, rate=0.2))
    assert found(once, "regularization", EXACT).first_divergence.name == "padded/dropout rates"

    def twice(self, ids, mask):
        return self.dropout(plain(self, ids, mask))

    monkeypatch.setattr(ours.Bag, "forward", twice)
    assert found(toy, "regularization", EXACT).first_divergence.name == "padded/dropout rates"


def test_a_wrong_forward_pass_is_not_held_against_dropout(toy, monkeypatch):
    """
    One fault, one red step.
    """
    found(toy, "regularization", EXACT)
    ours = sys.modules["ours"]

    def forward(self, ids, mask):
        return self.out(self.dropout(paddle.tanh(self.hidden(self.embedding(ids).mean(1)))))

    monkeypatch.setattr(ours.Bag, "forward", forward)
    assert not found(toy, "forward").passed
    assert found(toy, "regularization", EXACT).passed


@pytest.mark.parametrize(
    ("driver", "framework", "forward"),
    [
        (TORCH, torch, lambda model, batch: {"out": torch.nn.functional.dropout(model(batch["x"]), 0.5)}),
        (PADDLE, paddle, lambda model, batch: {"out": paddle.nn.functional.dropout(model(batch["x"]), 0.5)}),
    ],
    ids=["torch", "paddle"],
)
def test_every_way_to_drop_out_is_noted(driver, framework, forward):
    """
    As a layer and as a function, with what it falls on; nothing is dropped, and afterwards all is as before.
    """
    model = framework.nn.Sequential(framework.nn.Dropout(0.25), framework.nn.ReLU())
    model.eval()
    given = np.array([[-1.0, 2.0]])
    (first, second) = driver.dropouts(model, forward, {"x": given}, "float64")
    assert (first[0], second[0]) == (0.25, 0.5)
    assert np.array_equal(first[1], given) and np.array_equal(second[1], [[0.0, 2.0]])
    assert not model.training
    assert set(np.unique(driver.dropout_of_ones(0.5, 1000))) == {0.0, 2.0}


# -- what owns weights and returns more than one tensor, or is the model itself ----------------------------


class TorchModel(torch.nn.Module):
    """An LSTM and a parameter of the model's own."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.lstm = torch.nn.LSTM(2, 3, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0] * self.scale


class PaddleModel(paddle.nn.Layer):
    """The same."""

    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1])
        self.lstm = paddle.nn.LSTM(2, 3)

    def forward(self, x):
        return self.lstm(x)[0] * self.scale


@pytest.mark.parametrize(("driver", "build"), [(TORCH, TorchModel), (PADDLE, PaddleModel)])
def test_every_tensor_of_a_layer_is_traced(driver, build):
    """
    Output, hidden state and cell of an LSTM; the whole model, which owns a parameter.
    """
    modules = WeightMap([Rule("scale", "scale"), Rule("lstm.bias", "lstm.bias")]).modules(["scale", "lstm.bias"])
    assert modules == {"": "", "lstm": "lstm"}
    batch = {"x": np.ones((4, 5, 2))}

    def forward(model, tensors):
        return {"out": model(tensors["x"])}

    seen, _ = driver.trace(build(), forward, batch, "float32", list(modules))
    shapes = {name: array.shape for name, array in seen.items()}
    assert shapes == {"lstm#0.0": (4, 5, 3), "lstm#0.1": (1, 4, 3), "lstm#0.2": (1, 4, 3), "": (4, 5, 3)}
    assert list(pairing.renamed(seen, {"lstm": "cell", "": "top"})) == ["cell#0.0", "cell#0.1", "cell#0.2", "top"]


# -- nothing to compare -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "change", "problem"),
    [
        ("lr", {"features": ()}, "the port names no features"),
        ("backward", {"train_batches": lambda folder, mode: []}, "the port has no train_batches"),
        ("backward", {"batches": lambda folder, mode: {}}, "the port has no batches"),
        ("dev_data", {"data_sources": lambda step, mode: ["dev", "none"]}, "none/holds no value on either side"),
    ],
)
def test_a_step_without_its_input_is_red(toy, step, change, problem):
    """
    However much else of it agrees.
    """
    found(toy, "lr")  # the modules of both sides are there now
    empty = {"ids": np.zeros((0, 3), np.int64)}
    for side in ("theirs", "ours"):
        plain = getattr(toy, side)("plain")
        given = replace(plain, data=lambda source, plain=plain: dict(empty) if source == "none" else plain.data(source))
        toy = replace(toy, **{side: lambda mode, given=given: given})
    wrong = found(replace(toy, **change), step)
    assert not wrong.passed and any(problem in one for one in wrong.problems)


# -- updates ----------------------------------------------------------------------------------------------


def test_an_optimizer_that_stands_still_is_seen_through_any_tolerance(toy):
    """
    The way of each tensor has a limit of its own: at base size float32 allows more than some updates move.
    """
    assert found(toy, "backward", FAR, "float32").passed
    optimizer = toy.ours("plain").optimizer

    class Still(optimizer):
        def step(self, rate):
            return super().step(0.0)

    class Faster(optimizer):
        def step(self, rate):
            return super().step(1.02 * rate)

    for one in (Still, Faster):
        wrong = found(ours_with(toy, optimizer=one), "backward", FAR, "float32")
        assert wrong.first_divergence.name.startswith("way of ")


def test_a_zero_gradient_must_be_zero(toy):
    """
    A pattern that fits too much would excuse whatever it fits; an empty one fits nothing.
    """
    assert found(replace(toy, zero_gradient=""), "backward").passed
    wrong = found(replace(toy, zero_gradient="hidden"), "backward")
    assert any("of the global norm in the reference is no zero; correct zero_gradient" in one for one in wrong.problems)


# -- initialization ---------------------------------------------------------------------------------------


def test_what_is_fixed_in_both_need_not_be_drawn(toy):
    """
    Sinusoids, say: the same numbers for every seed, on both sides.
    """

    def fixed(side, write):
        def build(folder):
            model = side.build(folder)
            table = np.sin(np.arange(np.prod(model.embedding.weight.shape))).astype("float32")
            write(model.embedding.weight, table.reshape(model.embedding.weight.shape))
            return model

        return replace(side, build=build)

    theirs = fixed(toy.theirs("plain"), lambda weight, table: weight.data.copy_(torch.tensor(table)))
    ours = fixed(toy.ours("plain"), lambda weight, table: weight.set_value(table))
    assert found(replace(toy, theirs=lambda mode: theirs, ours=lambda mode: ours), "init", EXACT).passed
    one_sided = found(replace(toy, ours=lambda mode: ours), "init", EXACT)
    assert one_sided.first_divergence.name == "embedding.weight fixed entries"


def test_every_correlation_that_is_compared_can_fail(toy):
    """
    A correlation is 1 at most: of rows of 24 numbers, one among thousands is never beyond its bound.
    """

    def compared(columns):
        rng = np.random.default_rng(0)
        theirs, ours = ({"table": list(rng.normal(size=(2, 300, columns)))} for _ in range(2))
        alignment = Pair(toy, "plain", "tiny", None, "float64").alignment("init", "statistics")
        independence.add_whole(alignment, theirs, ours)
        return {one.name: one.bound for one in alignment.comparisons if one.name.startswith("correlation")}

    short, long = compared(12), compared(40)
    assert "correlation of rows of table" in long and "correlation of rows of table" not in short
    assert all(bound < 1 for bound in (*short.values(), *long.values()))
