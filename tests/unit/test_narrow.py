"""float32 inside a float64 run: found where it is, judged as float32 from there on, and never before."""

import numpy as np
import paddle
import pytest
import torch
from invented import pair_of, seeded

from splinter.align import Tolerance, steps
from splinter.align.driver import run_of, unrounded, widened
from splinter.align.judging import judged
from splinter.align.narrow import narrowed
from splinter.align.paddle_side import DRIVER as PADDLE
from splinter.align.torch_side import DRIVER as TORCH

DOUBLE = Tolerance(atol=0.0, rtol=1e-12, why="invented: three layers of float64")
SINGLE = Tolerance(atol=0.0, rtol=1e-5, why="invented: three layers of float32")


class Norm(torch.nn.Module):
    """x / rms(x), as Llama and T5 have it: the mean in float32."""

    def __init__(self, pinned=True, error=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))
        self.pinned, self.error = pinned, error

    def forward(self, x):
        mean = (x.float() if self.pinned else x).pow(2).mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(mean + 1e-6) * (1 + self.error)


class Model(torch.nn.Module):
    """Linear, norm, Linear; an error may be planted before the norm or behind it."""

    def __init__(self, pinned=True, before=0.0, behind=0.0):
        super().__init__()
        self.first, self.norm, self.last = torch.nn.Linear(8, 8), Norm(pinned), torch.nn.Linear(8, 8)
        self.before, self.behind = before, behind
        if before:
            self.first.register_forward_hook(lambda layer, given, made: made * (1 + before))
        if behind:
            self.last.register_forward_hook(lambda layer, given, made: made * (1 + behind))

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def pinned_against(**ours):
    """A pair of a model that pins float32 and of one that does not."""
    return pair_of(
        seeded(Model), seeded(lambda: Model(False, **ours)), loss=lambda model, outputs, batch: sum_of(outputs)
    )


def sum_of(outputs):
    return outputs["out"].square().sum()


def verdict(pair, step="forward"):
    """The record of a step, judged with both rows at hand, without an explanation."""
    return judged(getattr(steps, step)(pair), DOUBLE, pair, SINGLE)[0]


def test_a_pinned_norm_is_no_fault():
    """
    It costs 1e-8, a thousand times the row of float64; from the norm on the row of float32 holds, as the record says.
    """
    pair = pinned_against()
    plain = steps.forward(pair).judge(DOUBLE)
    assert [one.name for one in plain.comparisons if not one.passed] == ["batch/norm", "batch/last", "batch/out"]
    assert max(one.max_rel for one in plain.comparisons) < 1e-6
    found = verdict(pair)
    assert found["verdict"] == "passed"
    assert found["notes"][0] == "float32 inside, in theirs: norm (Norm): mul with float32 numbers"
    assert "judged by its row, atol=0,rtol=1e-05" in found["notes"][1]
    assert found["tensors"][0]["allowed"] < 1e-9 < found["tensors"][1]["allowed"]


@pytest.mark.parametrize(
    ("fault", "failed"),
    [({"before": 1e-9}, ["batch/first"]), ({"behind": 1e-3}, ["batch/last", "batch/out"])],
    ids=["1e-9 before it", "1e-3 behind it"],
)
def test_a_fault_beside_a_pinned_norm_is_caught(fault, failed):
    """
    Before it float64 is worth all its digits; behind it no less than float32.
    """
    found = verdict(pinned_against(**fault))
    assert found["verdict"] == "failed"
    assert [tensor["name"] for tensor in found["tensors"] if not tensor["passed"]] == failed


def test_a_gradient_has_seen_the_whole_pass():
    """
    Even that of the first layer is rounded by a norm that comes behind it.
    """
    pair = pinned_against()
    found = narrowed(pair, "backward", SINGLE)
    assert not found.untouched("batch/grad/first.weight") and not found.untouched("batch/loss")
    alignment = pair.alignment("backward")
    theirs, ours = (
        s.driver.gradients(pair.model(s), s.forward, s.loss, pair.port.batches(0, 0)["batch"], "float64")
        for s in (pair.theirs, pair.ours)
    )
    alignment.add_all("batch/grad/", theirs[1], ours[1])
    assert not alignment.judge(DOUBLE).passed
    assert alignment.judge(DOUBLE, found).passed


def test_without_float32_nothing_is_looser():
    """
    A difference of 1e-9 between two models of float64 throughout stays a failure, without a note.
    """
    plain = seeded(lambda: Model(pinned=False))
    pair = pair_of(plain, seeded(lambda: Model(pinned=False, behind=1e-9)))
    found = verdict(pair)
    assert found["verdict"] == "failed"
    assert "notes" not in found


def test_an_output_left_in_float32_is_float32_inside():
    """
    In a float64 run its width differs from that of the other side: that is no fault of a port, a value is.
    """

    class Left(Model):
        def forward(self, x):
            return super().forward(x).float()

    found = verdict(pair_of(seeded(lambda: Model(False)), seeded(lambda: Left(False))))
    assert found["verdict"] == "passed", found["reason"]
    assert found["notes"][0] == "float32 inside, in ours: the model (Left): out is left in float32"
    off = verdict(pair_of(seeded(lambda: Model(False)), seeded(lambda: Left(False, behind=1e-3))))
    assert [tensor["name"] for tensor in off["tensors"] if not tensor["passed"]] == ["batch/last", "batch/out"]


class Masked(torch.nn.Module):
    """A mask in float32, a position rounded to a bucket, a factor of 1/8: nothing is lost."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)

    def forward(self, x):
        mask = (1 - torch.ones(5)).float() * torch.finfo(torch.float32).min
        bucket = torch.log(torch.arange(1.0, 6.0)).long()
        return self.first(x) + mask[:, None] + bucket[:, None] * torch.tensor(0.125)


class Table(torch.nn.Module):
    """Frequencies computed when the model is built, which a cast widens afterwards."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
        self.register_buffer("table", 1 / 10000 ** (torch.arange(8) / 8), persistent=False)

    def forward(self, x):
        return self.first(x) * self.table


def found_by(driver, model):
    """What `narrow` says of a model."""
    x = np.ones((2, 5, 8)) / 3
    return driver.narrow(driver.cast(model, "float64"), lambda m, batch: {"out": m(batch["x"])}, {"x": x})


def test_what_float32_holds_exactly_is_no_harm():
    """
    0, -inf and what stands for it, whole numbers, 1/8.
    """
    assert found_by(TORCH, Masked()) == ({}, {"first#0"})


def test_a_table_of_float32_is_met_by_its_layer():
    """
    Its numbers are float32's, whatever its dtype says; running statistics, which a checkpoint holds, are not meant.
    """
    assert found_by(TORCH, torch.nn.Sequential(Table())) == ({"0": "a table computed in float32"}, set())
    norm = torch.nn.BatchNorm1d(5)
    norm.running_mean += 0.1
    assert found_by(TORCH, torch.nn.Sequential(norm)) == ({}, {"0#0"})


class PaddleNorm(paddle.nn.Layer):
    """As paddlenlp's Llama has it, and a softmax as its Bloom."""

    def __init__(self):
        super().__init__()
        self.first = paddle.nn.Linear(8, 8)

    def forward(self, x):
        x = self.first(x)
        mean = x.astype("float32").square().mean(-1, keepdim=True) if self.how == "norm" else 1
        if self.how == "softmax":
            return paddle.nn.functional.softmax(x, axis=-1, dtype="float32").astype(x.dtype)
        return x * paddle.rsqrt(mean + 1e-6) if self.how == "norm" else x * 0.1


@pytest.mark.parametrize(
    ("how", "what"), [("norm", "mul with float32 numbers"), ("softmax", "a cast of float32 back"), ("plain", "")]
)
def test_paddle_is_watched_as_well(how, what):
    """
    Its functions and its operators; afterwards they are what they were.
    """
    model = paddle.nn.Sequential(PaddleNorm())
    model[0].how = how
    plain = paddle._C_ops.cast, paddle.Tensor.__mul__
    assert found_by(PADDLE, model)[0] == ({"0": what} if what else {})
    assert (paddle._C_ops.cast, paddle.Tensor.__mul__) == plain


def test_numbers_that_float32_has_rounded_by_hand():
    """
    0.1 is no float32; 1/8, 5001, -inf and float32's lowest are. 0.1 as float32, widened, is told from 0.1.
    """
    assert unrounded(np.array([0.125, 5001, -np.inf, np.finfo("float32").min], "float32"))
    assert not unrounded(np.array([0.1], "float32"))
    assert widened(np.float64([np.float32(0.1)]))
    assert not widened(np.array([0.1])) and not widened(np.array([0.125]))


def test_a_run_is_named_by_layer_and_count():
    """
    A tensor of several that one run gives is of that run.
    """
    assert [run_of(key) for key in ("norm", "norm#2", "lstm#0.1")] == ["norm#0", "norm#2", "lstm#0"]
