"""steps.py on what foreign ports are like: other shapes, running statistics, dropout inside, fields that are not there.

Each model here is a few lines, and a stand-in for what was met in a library.
"""

import numpy as np
import paddle
import pytest
import torch

from splinter.align import Pair, Port, Rule, Side, Tolerance, WeightMap, steps
from splinter.align.paddle_side import DRIVER as PADDLE
from splinter.align.port import MissingField, MissingFunction
from splinter.align.torch_side import DRIVER as TORCH

NEAR = Tolerance(atol=0.0, rtol=1e-7, why="a few layers; Paddle's epsilons are float32")
ROWS = np.random.default_rng(0).normal(size=(4, 6))
LINEAR = [Rule("dense.weight", "dense.weight", transpose=True), Rule("dense.bias", "dense.bias")]


def torch_model(forward, **layers):
    """A torch module of these layers."""
    model = type("Model", (torch.nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(model, name, layer)
    return model


def paddle_model(forward, **layers):
    """A Paddle layer of these layers."""
    model = type("Model", (paddle.nn.Layer,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(model, name, layer)
    return model


def their_forward(model, batch):
    return {"out": model(batch["x"])}


def our_forward(model, batch):
    return {"out": model(batch["x"])}


def loss(model, outputs, batch):
    return (outputs["out"] ** 2).sum()


def copied(rules, theirs, ours):
    """Fill ours from theirs by the rules; parameters and buffers."""
    arrays = {name: TORCH.to_numpy(one) for name, one in {**TORCH.parameters(theirs), **TORCH.buffers(theirs)}.items()}
    tensors = {**PADDLE.parameters(ours), **PADDLE.buffers(ours)}
    for rule in rules:
        array = arrays[rule.theirs]
        PADDLE.fill(tensors[rule.ours], array.T if rule.transpose else array)
    return ours


def made(theirs, ours, rules, batches=None, chosen=("forward",), built=False, sides=({}, {}), **fields):
    """A pair of two builders of models; ours gets the weights of theirs."""

    def load():
        torch.manual_seed(0)
        return theirs()

    def build(model, number):
        return {"build": lambda folder: model()} if built else {}

    them = Side("torch", ("torch",), "theirs", lambda folder: load(), forward=their_forward, loss=loss,
                **build(theirs, 0), **sides[0])  # fmt: skip
    us = Side("paddle", ("paddle",), "ours", lambda folder: copied(rules, load(), ours()), forward=our_forward,
              loss=loss, **build(ours, 1), **sides[1])  # fmt: skip
    port = Port(name="foreign", theirs=lambda mode: them, ours=lambda mode: us, weights=lambda mode: WeightMap(rules),
                batches=lambda folder, mode: batches or {"rows": {"x": ROWS}}, steps=chosen, **fields)  # fmt: skip
    return Pair(port, "", "loaded", None, "float64")


def dense(inputs=6, outputs=6):
    return torch.nn.Linear(inputs, outputs), paddle.nn.Linear(inputs, outputs)


# -- forward: layers of another shape ---------------------------------------------------------------------


def shaped(change, after=lambda x: x, **fields):
    """A Linear whose output our side hands on in another shape, and brings back for the output."""

    class Changed(paddle.nn.Linear):
        def forward(self, x):
            return change(super().forward(x))

    theirs = lambda: torch_model(lambda self, x: self.dense(x).sum(-1), dense=torch.nn.Linear(6, 6))  # noqa: E731
    ours = lambda: paddle_model(lambda self, x: after(self.dense(x)).sum(-1), dense=Changed(6, 6))  # noqa: E731
    return made(theirs, ours, LINEAR, **fields)


def flat(x):
    return (x[0] if isinstance(x, tuple) else x["a"] if isinstance(x, dict) else x).reshape([-1, 6])


@pytest.mark.parametrize(
    "change",
    [lambda x: x.reshape([2, 2, 6]), lambda x: x.unsqueeze(0), lambda x: (x, None), lambda x: {"a": x}],
    ids=["split", "squeezed", "tuple", "dict"],
)
def test_another_shape_of_a_layer_is_compared_all_the_same(change):
    """
    The same numbers, as strictly as in the same shape: a fault in them is still the first divergence.
    """
    right = steps.forward(shaped(change, flat)).judge(NEAR)
    assert right.passed and not right.notes and "rows/dense" in [c.name for c in right.comparisons], right.message()
    wrong = steps.forward(shaped(lambda x: change(x + 1e-3), flat)).judge(NEAR)
    assert wrong.first_divergence.name == "rows/dense"


@pytest.mark.parametrize(
    ("change", "after", "note"),
    [
        (lambda x: x.reshape([2, 12]).T, lambda x: x.T.reshape([4, 6]), "not comparable by itself: (4, 6)"),
        (lambda x: (None, x.shape), None, "hands on a tensor in theirs alone"),
    ],
    ids=["order", "none"],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_and_does_not_fail(change, after, note):
    """
    Time first, or no tensor at all; the outputs hold whether it matters, and they are strict.
    """

    class Changed(paddle.nn.Linear):
        def forward(self, x):
            self.kept = super().forward(x)
            return change(self.kept)

    theirs = lambda: torch_model(lambda self, x: self.dense(x).sum(-1), dense=torch.nn.Linear(6, 6))  # noqa: E731

    def run(extra):
        def forward(self, x):
            found = self.dense(x)
            return (after(found) if after else self.dense.kept).sum(-1) + extra

        return steps.forward(made(theirs, lambda: paddle_model(forward, dense=Changed(6, 6)), LINEAR)).judge(NEAR)

    right = run(0.0)
    assert right.passed and len(right.notes) == 1 and note in right.notes[0], right.notes
    assert right.record(NEAR, "passed")["notes"] == right.notes
    wrong = run(1e-3)
    assert wrong.first_divergence.name == "rows/out" and "note: dense" in wrong.message()


def test_a_layer_that_runs_once_more_is_said():
    """
    For a cache that is filled anew, say.
    """
    theirs = lambda: torch_model(lambda self, x: self.dense(x), dense=torch.nn.Linear(6, 6))  # noqa: E731
    ours = lambda: paddle_model(lambda self, x: (self.dense(x), self.dense(x))[1], dense=paddle.nn.Linear(6, 6))  # noqa: E731
    found = steps.forward(made(theirs, ours, LINEAR)).judge(NEAR)
    assert found.passed and found.notes == [
        "dense runs 1 times in theirs and 2 in ours: the runs that both have were compared"
    ]


def test_a_layer_can_be_skipped():
    """
    By a pattern of our names.
    """
    wrong = shaped(lambda x: x + 1, lambda x: x - 1)
    assert steps.forward(wrong).judge(NEAR).first_divergence.name == "rows/dense"
    left = steps.forward(shaped(lambda x: x + 1, lambda x: x - 1, skip=(r"^dense$",))).judge(NEAR)
    assert left.passed and [c.name for c in left.comparisons] == ["rows/out"]


# -- fields ----------------------------------------------------------------------------------------------


def test_a_port_of_one_step_needs_no_more():
    """
    Either mode of the model, no folder, no optimizer; the steps that were not chosen say what they lack.
    """
    pair = shaped(lambda x: x)
    assert steps.forward(pair).judge(NEAR).passed
    with pytest.raises(MissingFunction, match=r"^optimizer: this side describes no 'hyperparameters', which"):
        steps.optimizer(pair)
    with pytest.raises(MissingField, match=r"^foreign: step 'backward' needs train_batches; add to its Port, or leave"):
        steps.backward(pair)


def test_a_chosen_step_without_its_fields_is_refused():
    """
    When the port is made, by field and step.
    """
    with pytest.raises(MissingField, match=r"^foreign: step 'forward' needs weights and batches; add"):
        Port(name="foreign", theirs=None, ours=None, steps=("forward",))
    with pytest.raises(MissingField, match=r"^foreign: there is no step 'fowrard'; there are forward, dev_data"):
        Port(name="foreign", theirs=None, ours=None, steps=("fowrard",))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numbers_of_16_bits_are_judged_by_the_reference_s_own_error(dtype):
    """
    A right port is as far from float64 as the reference is; a wrong one is not, though it is within the tolerance.
    """
    wide = Tolerance(atol=0.0, rtol=1.0, why="so wide that the ratio alone judges", ratio=4.0)

    def side(name, scale):
        def load(folder):
            torch.manual_seed(0)
            return torch_model(lambda self, x: scale * self.dense(x), dense=torch.nn.Linear(6, 6))

        forward = their_forward if name == "torch" else our_forward
        return lambda mode: Side("torch", (name,), name, load, forward=forward)

    rules = [Rule(f"dense.{leaf}", f"dense.{leaf}") for leaf in ("weight", "bias")]
    shared = {"weights": lambda mode: WeightMap(rules), "batches": lambda folder, mode: {"rows": {"x": ROWS}}}
    for scale, passed in ((1.0, True), (1.1, False)):  # Paddle has no such product on a CPU, so torch against torch
        port = Port(name="short", theirs=side("torch", 1.0), ours=side("torch.nn", scale), steps=("forward",), **shared)
        found = steps.forward(Pair(port, "", "loaded", None, dtype)).judge(wide)
        assert found.passed is passed and found.dtype == dtype, found.message()
        assert found.comparisons[0].theirs_error > 1e-4
