"""driver.py: what a framework does to a model on its way through the engine, the same in both."""

import numpy as np
import paddle
import pytest
import torch

from splinter.align.driver import Driver
from splinter.align.paddle_side import DRIVER as PADDLE
from splinter.align.torch_side import DRIVER as TORCH

BOTH = pytest.mark.parametrize(("driver", "nn"), [(TORCH, torch.nn), (PADDLE, paddle.nn)], ids=["torch", "paddle"])
RECURRENT = [
    *((TORCH, kind) for kind in (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)),
    *((PADDLE, kind) for kind in (paddle.nn.LSTM, paddle.nn.GRU, paddle.nn.SimpleRNN)),
]


class Table(torch.nn.Module):
    """Buffers of every kind, a weight, a frozen one, and one under two names."""

    def __init__(self):
        super().__init__()
        self.register_buffer("ids", torch.arange(3))
        self.register_buffer("mask", torch.tensor([True]))
        self.register_buffer("turn", torch.complex(torch.ones(1), torch.ones(1)))
        self.register_buffer("table", torch.ones(2))
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.tied = self.weight
        self.frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)


class PaddleTable(paddle.nn.Layer):
    """The same."""

    def __init__(self):
        super().__init__()
        self.register_buffer("ids", paddle.arange(3))
        self.register_buffer("mask", paddle.to_tensor([True]))
        self.register_buffer("turn", paddle.complex(paddle.ones([1]), paddle.ones([1])))
        self.register_buffer("table", paddle.ones([2]))
        self.weight = self.create_parameter([2])
        self.tied = self.weight
        self.frozen = self.create_parameter([2])
        self.frozen.stop_gradient = True


TABLES = pytest.mark.parametrize(("driver", "build"), [(TORCH, Table), (PADDLE, PaddleTable)], ids=["torch", "paddle"])


# -- kinds of number --------------------------------------------------------------------------------------


@TABLES
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_cast_moves_floats_alone(driver, build, dtype):
    """
    Position ids, masks and complex rotary tables stay what they are: an embedding takes no floats.
    """
    model = driver.cast(build(), dtype)
    kinds = {name: str(tensor.dtype).split(".")[-1] for name, tensor in model.named_buffers()}
    assert kinds == {"ids": "int64", "mask": "bool", "turn": "complex64", "table": dtype}
    assert {str(tensor.dtype).split(".")[-1] for tensor in driver.parameters(model).values()} == {dtype}


@pytest.mark.parametrize("driver", [TORCH, PADDLE])
@pytest.mark.parametrize(("dtype", "third"), [("bfloat16", 0.333984375), ("float16", 0.333251953125)])
def test_short_numbers_come_out_as_float32(driver, dtype, third):
    """
    numpy has no bfloat16; what was rounded on the way in stays rounded.
    """
    tensor = driver.from_numpy({"x": np.array([1 / 3])}, dtype)["x"]
    array = driver.to_numpy(tensor)
    assert str(tensor.dtype).endswith(dtype) and array.dtype == np.float32 and array.tolist() == [third]


@pytest.mark.parametrize("driver", [TORCH, PADDLE])
def test_what_is_no_array_is_handed_on(driver):
    """
    A flag, a count, a word and nothing pass as they are; arrays in a list are tensors, integers keep their kind.
    """
    batch = {"none": None, "flag": True, "count": 3, "scale": 0.5, "kind": "mean", "shape": [2, 3]}
    assert driver.from_numpy(batch, "float64") == batch
    given = driver.from_numpy({"states": [np.ones(2, "float32"), np.arange(2)]}, "float64")["states"]
    assert [driver.to_numpy(one).dtype for one in given] == [np.float64, np.int64]


# -- what a model is made of ------------------------------------------------------------------------------


@TABLES
def test_parameters_and_buffers_of_a_model(driver, build):
    """
    A tied one once, a frozen one too; of buffers those that can be off by a little.
    """
    model = build()
    assert sorted(driver.parameters(model)) == ["frozen", "weight"]
    assert list(driver.buffers(model)) == ["table"]


@BOTH
def test_running_statistics_are_no_parameters(driver, nn):
    """
    Paddle counts them among the parameters, torch does not: no optimizer, state or gradient has them in either.
    """
    norm = nn.BatchNorm1d(2) if driver is TORCH else nn.BatchNorm1D(2)
    assert list(driver.parameters(norm)) == list(driver.state(norm)) == ["weight", "bias"]
    names = ["running_mean", "running_var"] if driver is TORCH else ["_mean", "_variance"]
    assert list(driver.buffers(norm)) == names


def test_a_frozen_parameter_of_that_name_that_learns_is_one():
    """
    A layer of somebody's own whose `_mean` has a gradient.
    """

    class Shift(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self._mean = self.create_parameter([2])

    assert list(PADDLE.parameters(Shift())) == ["_mean"] and not PADDLE.buffers(Shift())


# -- recurrent layers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("driver", "kind"), RECURRENT, ids=lambda one: getattr(one, "__name__", ""))
def test_recurrent_layers_are_cast_and_have_a_gradient(driver, kind):
    """
    Paddle's keep their weights in one block, and no gradient in evaluation mode; their dropout does not fall.
    """
    model = driver.cast(kind(2, 3, num_layers=2, dropout=0.9), "float64")
    batch = {"x": np.ones((4, 5, 2))}

    def forward(model, tensors):
        return {"out": model(tensors["x"])[0]}

    def loss(model, outputs, tensors):
        return outputs["out"].sum()

    found = [driver.gradients(model, forward, loss, batch, "float64") for _ in range(2)]
    assert found[0][1].keys() == driver.parameters(model).keys()
    assert all(array.dtype == np.float64 and array.any() for array in found[0][1].values())
    assert found[0][0] == found[1][0]
    assert model.dropout == 0.9 and not model.training
    (dropped,) = driver.dropouts(model, forward, batch, "float64")
    assert (dropped.rate, dropped.given, dropped.path) == (0.9, None, "")


# -- a model, held still ----------------------------------------------------------------------------------


@BOTH
def test_a_users_model_is_left_as_it_was(driver, nn):
    """
    One layer frozen in evaluation mode, a gradient that waits for its update, a hook of the user's own.
    """
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    seen = []
    driver.hook(model[0], lambda layer, given, output: seen.append(1))
    x = driver.from_numpy({"x": np.ones((1, 2))}, "float32")["x"]
    model(x).sum().backward()
    before = {name: driver.to_numpy(parameter.grad) for name, parameter in driver.parameters(model).items()}
    with driver.preserved(model):
        assert all(parameter.grad is None for parameter in model.parameters())
        model.train()
        driver.hook(model[0], lambda layer, given, output: seen.append("ours"))
        (3 * model(x)).sum().backward()
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    after = {name: driver.to_numpy(parameter.grad) for name, parameter in driver.parameters(model).items()}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    del seen[:]
    model(x)
    assert seen == [1]


@BOTH
def test_dropout_of_every_shape_is_held(driver, nn):
    """
    Of numbers, channels and attention: seen with rate and layer, and the pass is that of evaluation mode.
    """
    functional = driver.functional

    class Block(nn.Module if driver is TORCH else nn.Layer):
        def __init__(self):
            super().__init__()
            self.channels = nn.Dropout2d(0.2) if driver is TORCH else nn.Dropout2D(0.2)
            self.off = nn.Dropout(0.0)

        def forward(self, x):
            rate = {"dropout_p": 0.4 if self.training else 0.0}
            x = functional.scaled_dot_product_attention(x, x, x, None, **rate)
            return functional.alpha_dropout(self.off(self.channels(x)), 0.3, training=self.training)

    class Model(nn.Module if driver is TORCH else nn.Layer):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return self.block(x)

    def forward(model, tensors):
        return {"out": model(tensors["x"])}

    model, batch = Model(), {"x": np.random.default_rng(0).normal(size=(2, 3, 4, 8)).astype("float32")}
    found = driver.dropouts(model, forward, batch, "float32")
    assert [one.rate for one in found] == [0.4, 0.2, 0.0, 0.3]
    assert [one.path for one in found] == ["block", "block.channels", "block.off", "block"]
    assert found[0].given is None and found[1].given.shape == (2, 3, 4, 8)
    _, quiet = driver.trace(model, forward, batch, "float32", ())
    model.train()
    with driver.without_dropout(model), driver.no_gradients():
        held = driver.to_numpy(model(driver.from_numpy(batch, "float32")["x"]))
    assert np.allclose(held, quiet["out"], atol=1e-6)
    assert not np.allclose(held, driver.to_numpy(model(driver.from_numpy(batch, "float32")["x"])))


# -- traces -----------------------------------------------------------------------------------------------


@BOTH
def test_whatever_a_layer_returns_is_traced(driver, nn):
    """
    A tuple with nothing in it, a dict, an object of a library; an output of the model that is None is none.
    """

    class Odd(nn.Module if driver is TORCH else nn.Layer):
        def __init__(self, shape):
            super().__init__()
            self.shape = shape

        def forward(self, x):
            return {"tuple": (x, None, [x]), "dict": {"a": x, "b": None}, "none": None}[self.shape]

    model = nn.Sequential()
    for shape in ("tuple", "dict", "none"):
        getattr(model, "add_module" if driver is TORCH else "add_sublayer")(shape, Odd(shape))

    def forward(model, tensors):
        for layer in model.children():
            layer(tensors["x"])
        return {"out": tensors["x"], "cache": None}

    seen, outputs = driver.trace(model, forward, {"x": np.ones(2)}, "float32", ["tuple", "dict", "none"])
    assert list(seen) == ["tuple#0.0", "tuple#0.1", "dict#0.0"] and list(outputs) == ["out"]


# -- a driver from outside --------------------------------------------------------------------------------


def test_a_function_that_a_driver_lacks_is_named():
    """
    Instead of a bare NotImplementedError from somewhere.
    """
    outside = type("Jax", (Driver,), {"functional": TORCH.functional})()
    with pytest.raises(NotImplementedError, match=r"the driver Jax does not write to_numpy\(\): A copy on the CPU"):
        outside.to_numpy(None)
