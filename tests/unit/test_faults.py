"""Faults planted into a toy: each changes what it says and nothing else, and the user's model stays as it is."""

import copy
from pathlib import Path

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")
torch = pytest.importorskip("torch")

from splinter.align import Side  # noqa: E402
from splinter.align.compare import EXACT, Alignment, Tolerance  # noqa: E402
from splinter.align.proving import faults, killing  # noqa: E402
from splinter.align.proving.faults import Fault  # noqa: E402

FOLDER = Path(".")
rng = np.random.default_rng(0)
IDS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS > 0).astype("int64"), "token_type_ids": (IDS > 3).astype("int64")}
WIDTH = 4

PASSES = {"outputs", "in training", "gradients"}


def toy(nn, functional, base, lists):
    """A transformer of two blocks with everything that a fault may be planted in, the same in both frameworks."""

    class Attention(base):
        def __init__(self):
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
            self.scaling = WIDTH**-0.5
            self.dropout_rate = 0.1

        def forward(self, x, mask):
            scores = self.q_proj(x) @ self.k_proj(x).transpose(*SWAP[nn]) * self.scaling + mask  # (B, T, T)
            weights = functional.dropout(functional.softmax(scores, -1), self.dropout_rate, training=self.training)
            return weights @ self.v_proj(x)

    class Block(base):
        def __init__(self):
            super().__init__()
            self.attention = Attention()
            self.norm = nn.LayerNorm(WIDTH)
            self.inner, self.outer = nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH)
            self.act_fn = functional.gelu
            self.dropout = nn.Dropout(0.1)

        def forward(self, x, mask):
            x = self.norm(x + self.attention(x, mask))
            return x + self.dropout(self.outer(self.act_fn(self.inner(x))))

    class Toy(base):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, WIDTH, padding_idx=0)
            self.position_embeddings = nn.Embedding(5, WIDTH)
            self.types = nn.Embedding(2, WIDTH)
            self.blocks = lists([Block(), Block()])
            self.relu = nn.ReLU()
            self.bn = nn.BatchNorm1D(WIDTH) if nn is paddle.nn else nn.BatchNorm1d(WIDTH)
            self.weight = self.words.weight

        def forward(self, input_ids, attention_mask, token_type_ids):
            positions = self.position_embeddings(ARANGE[nn](input_ids.shape[1]))
            x = self.words(input_ids) + positions + self.types(token_type_ids)  # (B, T, D)
            mask = (attention_mask[:, None].to(x.dtype) - 1) * 1e4  # (B, 1, T)
            for block in self.blocks:
                x = block(x, mask)
            return self.relu(self.bn(x.mean(1))) @ self.weight.T  # (B, V)

    return Toy


SWAP = {torch.nn: (1, 2), paddle.nn: ([0, 2, 1],)}
ARANGE = {torch.nn: torch.arange, paddle.nn: paddle.arange}
TOYS = {
    "torch": toy(torch.nn, torch.nn.functional, torch.nn.Module, torch.nn.ModuleList),
    "paddle": toy(paddle.nn, paddle.nn.functional, paddle.nn.Layer, paddle.nn.LayerList),
}


def loaded(framework):
    """A toy with weights that are no initialiser's, without zeros and ones."""
    model = TOYS[framework]()
    driver = Side(framework, ("toy",), "port", None, None, None, None).driver
    trained = [one for one in driver.parameters(model).values() if not getattr(one, "stop_gradient", False)]
    for number, parameter in enumerate(trained):
        array = np.random.default_rng(number).normal(0.1, 0.5, tuple(parameter.shape))
        driver.fill(parameter, array.astype("float32"))
    return model.eval() or model


@pytest.fixture(params=["torch", "paddle"])
def side(request):
    """The toy as one side of a port."""
    return Side(
        request.param,
        ("toy",),
        "port",
        load=lambda folder: loaded(request.param),
        build=lambda folder: TOYS[request.param](),
        forward=lambda model, batch: {"logits": model(**batch)},
        loss=lambda model, outputs, batch: (outputs["logits"] ** 2).sum(),
    )


@pytest.fixture
def effects(side):
    return killing.Effects(side, FOLDER, [BATCH])


@pytest.fixture
def found(side):
    return faults.plantable(side.driver, side.load(FOLDER))


CHANGES = {
    "epsilon": PASSES,
    "gelu": PASSES,
    "activation": PASSES,
    "scale": PASSES,
    "mask": PASSES,
    "segments": PASSES,
    "bias": PASSES,
    "affine": PASSES,
    "swap": PASSES,
    "transpose": PASSES,
    "residual": PASSES,
    "positions": PASSES,
    "gradient": {"gradients"},
    "frozen": {"gradients"},
    "tie": {"gradients", "initial law"},  # one name more
    "statistics": {"in training", "buffers"},
    "dropout": {"in training"},
    "padding": {"outputs", "in training", "gradients", "initial law"},
    "init": {"initial law"},
}
"""What a fault of each kind may change."""


def test_each_kind_is_found(found):
    assert {fault.kind for fault in found} == set(CHANGES)
    assert len({str(fault) for fault in found}) == len(found) < 50


def test_a_fault_changes_what_it_says_and_nothing_else(found, effects, side):
    for fault in found:
        changed = {name for name, size in effects(fault).items() if size > killing.ROUNDING}
        allowed = CHANGES[fault.kind] | ({"buffers"} if "outputs" in CHANGES[fault.kind] else set())
        if "evaluation too" in fault.name:
            allowed = PASSES | {"buffers"}
        if fault.kind == "dropout":
            allowed = allowed | {"buffers"}  # of the norm behind it
        assert changed, fault
        assert changed <= allowed, (str(fault), changed)
