"""Why a step fails: each kind of fault planted in a small model, and named with its layer."""

import numpy as np
import pytest
import torch
from invented import pair_of, seeded
from torch import nn

from splinter.align import Tolerance, steps
from splinter.align.explain.causes import cause
from splinter.align.judging import judged

DOUBLE = Tolerance(atol=0.0, rtol=1e-11, why="invented: one block of float64")
SINGLE = Tolerance(atol=0.0, rtol=5e-7, why="invented: near to float32's rounding, so that float64 is asked")
RNG = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
BATCH = {"input_ids": np.where(MASK, RNG.integers(1, 20, MASK.shape), 0), "attention_mask": MASK}
EMPTY = {**BATCH, "attention_mask": MASK * [[1], [0], [1]]}
LOWEST = {"": -1e9, "infinity": -torch.inf}


class Block(nn.Module):
    """A Transformer of one layer, with one fault or none."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.embed = nn.Embedding(20, 16, padding_idx=0)
        self.norm = nn.LayerNorm(16, eps=1e-12 if fault == "epsilon" else 1e-5)
        self.query, self.key, self.value, self.output = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down, self.last = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)
        if fault == "bias":
            self.down.forward = lambda x: nn.functional.linear(x, self.down.weight)

    def attention(self, x, mask):
        q, k, v = self.query(x), self.key(x), self.value(x)
        if self.fault == "query and key":
            q, k = k, q
        heads = 2 if self.fault == "heads" else 4
        q, k, v = (one.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for one in (q, k, v))
        scores = q @ k.transpose(-1, -2) / (1 if self.fault == "scale of scores" else (16 / heads) ** 0.5)
        kept = mask[:, None, None, :]
        if self.fault == "mask as 0 and 1":
            scores = scores + kept
        elif self.fault != "mask":
            scores = scores.masked_fill(kept == 0, LOWEST.get(self.fault, LOWEST[""]))
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) * (1 if self.fault == "scale" else 4)
        attended = self.output(self.attention(self.norm(x), attention_mask))
        x = attended if self.fault == "residual" else x + attended
        x = x * -1 if self.fault == "sign" else x
        x = x + 0.5 if self.fault == "constant" else x
        x = x.reshape(*x.shape[:2], 2, 8).flip(2).reshape(x.shape) if self.fault == "halves" else x
        x = self.down(nn.functional.gelu(self.up(x), approximate="tanh" if self.fault == "gelu" else "none"))
        mean = x if self.fault == "leak" else x * attention_mask[..., None]
        out = self.last(torch.tanh(x) * mean.cumsum(1).flip(1).cumsum(1))
        return out[..., :4] if self.fault == "shape" else out.transpose(1, 2) if self.fault == "axes" else out


def wrong_weights(change):
    """A function that builds the seeded block and changes its weights."""

    def build():
        model = seeded(Block)()
        with torch.no_grad():
            model.embed.weight[0] = 0
            change(model)
        return model

    return build


def right():
    """The block, its padding row zero as it should be."""
    return wrong_weights(lambda model: None)()


def with_fault(fault):
    """The block with a fault in its code."""

    def build():
        model = right()
        broken = Block(fault)
        broken.load_state_dict(model.state_dict())
        return broken

    return build


def explained(ours, batch=BATCH, dtype="float64"):
    """The explanation of a failed forward step."""
    pair = pair_of(right, ours, batch, dtype)
    tolerance = DOUBLE if dtype == "float64" else SINGLE
    alignment = steps.forward(pair).judge(tolerance)
    assert not alignment.passed
    return cause(alignment, pair, tolerance, SINGLE)


FAULTS = [
    ("scale", "scale", "norm", "ours = 0.25 x theirs, everywhere: the root of 16, the length of axis 2, is missing"),
    ("epsilon", "epsilon", "norm", "norm (LayerNorm against LayerNorm) itself differs"),
    ("epsilon", "epsilon", "norm", "as with epsilon 1e-12, where theirs has 1e-05"),
    (
        "query and key",
        "attention",
        "output",
        "(key, query, value) are query, key, value, in theirs (query, key, value)",
    ),
    ("heads", "attention", "output", "2 heads, theirs 4"),
    ("scale of scores", "attention", "output", "scores not scaled, theirs scores over the root of a head's width"),
    ("mask", "attention", "output", "padded positions take part, in theirs they are left out"),
    ("mask as 0 and 1", "attention", "output", "the mask is added as 0 and 1, in theirs they are left out"),
    ("sign", "sign", "up", "ours = -theirs, everywhere"),
    ("constant", "offset", "up", "ours = theirs + 0.5, everywhere"),
    ("halves", "layout", "up", "along axis 2: in blocks of 8, ours 0 1 are theirs 1 0"),
    ("gelu", "activation", "down", "theirs is gelu of up, ours is gelu in its tanh approximation of up"),
    ("bias", "offset", "down", "ours leaves its bias out"),
    ("leak", "mask", "last", "padded positions move all others in ours alone"),
    ("shape", "shape", "out", "theirs has shape (3, 6, 5), ours (3, 6, 4)"),
    ("axes", "layout", "out", "ours is theirs with its axes in the order (0, 2, 1)"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "place", "words"), FAULTS, ids=[f"{one[0]}: {one[3][:20]}" for one in FAULTS]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_in_the_code_is_named(fault, kind, place, words, dtype):
    """
    Its kind, its layer, and what was measured, whichever precision failed.
    """
    found = explained(with_fault(fault), dtype=dtype)
    assert (found.kind, found.place) == (kind, place), found.sentence
    assert words in found.sentence
    assert "inf" not in found.sentence and "\n" not in found.sentence


def test_a_residual_that_is_not_added_is_named():
    """
    The layer whose input or output is missing.
    """
    found = explained(with_fault("residual"))
    assert (found.kind, found.place) == ("residual", "up"), found.sentence
    assert "ours lacks" in found.sentence or "of embed" in found.sentence


def test_numbers_of_16_bits_are_explained_as_well():
    """
    What they round away float64 shows.
    """
    pair = pair_of(right, with_fault("gelu"), BATCH, "bfloat16")
    tight = Tolerance(atol=0.0, rtol=1e-6, why="invented: far below rounding, so that float64 is asked")
    found = cause(steps.forward(pair).judge(tight), pair, tight)
    assert (found.kind, found.place) == ("activation", "down"), found.sentence


def roll(model):
    """Heads of four in another order."""
    model.value.weight.copy_(model.value.weight.roll(4, 0))


def transpose(model):
    """A square matrix copied as it lies."""
    model.output.weight.copy_(model.output.weight.T.clone())


def exchange(model):
    """Query and key in each other's place."""
    model.query.weight.copy_(model.key.weight)


def fill(model):
    """The padding row drawn, where theirs has zeros."""
    model.embed.weight[0] = 0.3


def halve(model):
    """A scale that theirs has in the weight."""
    model.up.weight.mul_(0.5)


@pytest.mark.parametrize(
    ("change", "kind", "place", "words"),
    [
        (roll, "layout", "value", "of value.weight the same numbers in another order, along axis 0: in blocks of 4"),
        (transpose, "layout", "output", "output.weight lies transposed"),
        (exchange, "weight", "query", "query.weight is the reference's key.weight"),
        (fill, "padding row", "embed", "of embed.weight only row 0 differs: zeros in theirs, not in ours"),
        (halve, "scale", "up", "of up.weight ours = 0.5 x theirs, everywhere"),
    ],
)
def test_a_wrong_weight_is_named(change, kind, place, words):
    """
    The layer, and what its weight is instead.
    """
    found = explained(wrong_weights(change))
    assert (found.kind, found.place) == (kind, place), found.sentence
    assert words in found.sentence


def test_nan_is_followed_to_where_it_first_appears():
    """
    The layer that is given it, the row, and that the row was all padding.
    """
    found = explained(with_fault("infinity"), EMPTY)
    assert (found.kind, found.place) == ("nan", "output"), found.sentence
    assert "NaN first appears in what output (Linear against Linear) is given, in ours alone, row 1" in found.sentence
    assert "which attention_mask marks as padding throughout" in found.sentence


# -- gradients --------------------------------------------------------------------------------------------


class Chain(nn.Module):
    """Three layers; a fault in the way back alone."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.embed = nn.Embedding(20, 8, padding_idx=0 if fault == "padding row" else None)
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, input_ids):
        x = torch.tanh(self.first(self.embed(input_ids)))
        if self.fault == "cut":
            x = x.detach()
        if self.fault == "doubled":
            x = 2 * x - x.detach()
        return self.last(x)


def square(model, outputs, batch):
    """A loss."""
    return outputs["out"].square().sum()


@pytest.mark.parametrize(
    ("fault", "kind", "place", "words"),
    [
        (
            "cut",
            "cut",
            "first.bias",
            "first.bias (Linear against Linear) is the first that differs, though the loss agrees",
        ),
        ("cut", "cut", "first.bias", "ours has none; 3 of 5 gradients differ"),
        ("doubled", "scale", "first.bias", "ours = 2 x theirs, everywhere; so are 2 others; 3 of 5 gradients differ"),
        ("padding row", "padding row", "embed.weight", "only row 0 differs: zeros in ours, not in theirs"),
    ],
)
def test_a_gradient_is_followed_on_its_way_back(fault, kind, place, words):
    """
    The last layer comes first; what it is of theirs is said.
    """
    ids = {"input_ids": BATCH["input_ids"]}
    pair = pair_of(seeded(Chain), seeded(lambda: Chain(fault)), ids, loss=square)
    record, message = judged(steps.backward(pair), DOUBLE, pair, SINGLE)
    found = record["explanation"]
    assert (found["kind"], found["place"]) == (kind, place), found["sentence"]
    assert words in found["sentence"] and found["sentence"] in message


# -- initial laws -----------------------------------------------------------------------------------------


def drawn(change=lambda model: None):
    """A function that builds a model as its initialiser leaves it."""

    def build():
        model = nn.Module()
        model.embed, model.last = nn.Embedding(100, 50), nn.Linear(50, 50)
        with torch.no_grad():
            model.embed.weight[0] = 0
            model.last.bias.zero_()
            change(model)
        return model

    return build


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (
            lambda model: model.embed.weight[0].normal_(),
            "padding row",
            "its row 0 is zeros in theirs, and drawn in ours",
        ),
        (lambda model: model.last.weight.mul_(0.5), "scale", "its deviation is 0.5 times theirs"),
        (lambda model: model.last.weight.normal_(std=0.0816), "semantic", "but numbers reach 1.7"),
        (lambda model: model.last.bias.fill_(0.1), "constant", "it is 0 throughout in theirs, 0.1 in the other"),
    ],
    ids=["padding row", "half the deviation", "normal for uniform", "another constant"],
)
def test_an_initial_law_is_told(change, kind, words):
    """
    A row of zeros, the deviation, how far the numbers reach, a constant.
    """
    pair = pair_of(drawn(), drawn(change))
    record, _ = judged(steps.init(pair), DOUBLE, pair)
    assert record["explanation"]["kind"] == kind, record["explanation"]["sentence"]
    assert words in record["explanation"]["sentence"]
