"""Faults planted into a toy: each changes what it says and nothing else, and the user's model stays as it is."""

import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")
torch = pytest.importorskip("torch")

from splinter.align import Side  # noqa: E402
from splinter.align.compare import Alignment, Tolerance  # noqa: E402
from splinter.align.proving import faults, killing  # noqa: E402
from splinter.align.proving.planting import Fault, planted  # noqa: E402

FOLDER = Path(".")
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
            mean = x.mean(1)
            return (mean + self.relu(self.bn(mean))) @ self.weight.T  # (B, V)

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
    "training": {"in training"},
    "dropout": {"in training"},
    "padding": {"outputs", "in training", "gradients", "initial law"},
    "init": {"initial law"},
}
"""What a fault of each kind may change."""


def test_each_kind_is_found(found):
    assert {fault.kind for fault in found} == set(CHANGES)
    assert len({str(fault) for fault in found}) == len(found) < 60


def test_a_fault_changes_what_it_says_and_nothing_else(found, effects):
    for fault in found:
        allowed = CHANGES[fault.kind] if "evaluation too" not in fault.name else PASSES
        if "in training" in allowed:
            allowed = allowed | {"buffers"}  # the running statistics of what comes behind
        changed = {name for name, size in effects(fault).items() if size > killing.ROUNDING}
        assert changed, fault
        assert changed <= allowed, (str(fault), changed)


def seen_in(model):
    """What a user would see: numbers, attributes, functions, classes of all layers."""
    named = (
        model.named_modules if hasattr(model, "named_modules") else partial(model.named_sublayers, include_self=True)
    )
    return {path: (type(layer), {k: str(v) for k, v in vars(layer).items()}) for path, layer in named()}


def test_only_the_planted_instance_changes(found, side):
    for fault in found:
        user = side.load(FOLDER)
        before = seen_in(user)
        other = copy.deepcopy(user)
        fault.plant(other)
        assert seen_in(user) == before, fault
        layers = side.driver.layers(other)
        assert all(type(layer) is before[path][0] for path, layer in layers.items() if path in before), fault


def test_a_fault_goes_along_with_a_copy(found, side):
    """A copy runs with its own weights and the fault, not with those of the model it was copied from."""
    fault = next(one for one in found if one.name == "queries times 1.001")
    model = side.load(FOLDER)
    fault.plant(model)
    twin = copy.deepcopy(model)
    for parameter in side.driver.parameters(model).values():
        side.driver.fill(parameter, 0 * side.driver.to_numpy(parameter))

    def outputs(model):
        return side.driver.trace(model, side.forward, BATCH, "float32", ())[1]["logits"]

    assert np.abs(outputs(model)).max() == 0
    assert 1e-6 < np.abs(outputs(twin) - outputs(side.load(FOLDER))).max() < 1e-2


def test_names_and_numbers_of_faults_are_the_same_every_time(found, side):
    assert [str(fault) for fault in found] == [str(one) for one in faults.plantable(side.driver, side.load(FOLDER))]


def test_a_hundred_blocks_have_no_more_faults_than_two(found, side):
    model = side.load(FOLDER)
    for _ in range(98):
        model.blocks.append(copy.deepcopy(model.blocks[1]))
    deep = faults.plantable(side.driver, model)
    assert len(deep) == len(found)
    assert any(fault.place.startswith("blocks.99") for fault in deep)


def test_a_stage_is_kept(side):
    marks = []
    fault = Fault("marked", "", "init", ("init",), marks.append, "built")
    changed = planted(side, fault)
    assert changed.load(FOLDER) and not marks
    assert changed.build(FOLDER) is marks[0]


class Held:
    """Alignments as a proof has them, by fault."""

    def __init__(self, **by_name):
        self.by_name = by_name

    def __call__(self, fault):
        for step, size in self.by_name[fault.name]:
            alignment = Alignment("toy", "", step, "given", "float64")
            alignment.add("layer", np.array([0.0, 1.0]), np.array([0.0, 1.0 + size]))
            alignment.judge(Tolerance(1e-3, 0.0, "a toy's"))
            yield step, alignment


def fault_called(name, expected=("forward",)):
    return Fault(name, "layer", "bias", expected, lambda model: None)


def test_verdicts():
    prove_again = Held(
        seen=[("forward", 0.1), ("backward", 0.1)],
        unseen=[("forward", 0.0), ("backward", 0.0)],
        nothing=[("forward", 0.0)],
        elsewhere=[("forward", 0.0)],
        broken=[],
    )

    def effects(fault):
        if fault.name == "broken":
            raise TypeError("no such argument\nand more")
        return {"outputs": 0.0 if fault.name == "nothing" else 0.5, "gradients": 0.0}

    named = [fault_called(n) for n in ("seen", "unseen", "nothing", "broken")] + [fault_called("elsewhere", ("init",))]
    outcomes = killing.kill_all(prove_again, named, effects)
    assert [one.verdict for one in outcomes] == ["caught", "survived", "without effect", "not planted", "not looked at"]
    assert [one.because for one in outcomes] == [
        "layer", "outputs change by 0.5", "", "TypeError: no such argument", "init did not run"]  # fmt: skip
    assert outcomes[0].red == ("forward",) and outcomes[0].strikes[-1].margin == pytest.approx(100)
    assert "| seen | layer | forward | layer |" in killing.table(outcomes)
    assert killing.sentence(outcomes) == (
        "5 faults planted: 1 caught, 1 survived, 1 not looked at, 1 without effect, 1 not planted."
    )


def test_what_was_red_before_tells_nothing():
    before = list(Held(none=[("forward", 0.1)])(fault_called("none")))
    (outcome,) = killing.kill_all(
        Held(unseen=[("forward", 0.2)]), [fault_called("unseen")], lambda fault: {"outputs": 1.0}, before
    )
    assert outcome.verdict == "hidden" and outcome.because == "forward red without it too"


def test_a_proof_notices_every_fault_of_a_pair_that_differs_in_nothing_else():
    """The toy in torch and in Paddle; laws apart, which are each framework's own."""
    outcomes = killing.kills(
        lambda: TOYS["torch"](),
        lambda: TOYS["paddle"](),
        BATCH,
        steps=("weights", "forward", "backward", "dropout"),
        dtypes=("float64",),
        updates=2,
        hostile=False,
    )
    about_laws = [one for one in outcomes if one.fault.expected_steps == ("init",)]
    assert {one.verdict for one in about_laws} == {"not looked at"}
    verdicts = {str(one.fault): one.verdict for one in outcomes if one not in about_laws}
    assert set(verdicts.values()) <= {"caught", "without effect"}, verdicts
    assert list(verdicts.values()).count("caught") > 30


def test_the_command_prints_a_table_and_fails_on_a_blind_spot(monkeypatch, capsys):
    """A norm's epsilon is about `forward`; where that is told to allow anything, it survives."""
    monkeypatch.setattr(faults, "KINDS", (faults.epsilons,))
    options = {"steps": ("forward",), "dtypes": ("float64",), "hostile": False}
    pair = (lambda: TOYS["torch"](), lambda: TOYS["paddle"](), BATCH)
    assert killing.kill(*pair, options) == 0
    assert "| epsilon 1e-05 -> 1e-12 | bn | forward float64 | batch/bn |" in capsys.readouterr().out
    assert killing.kill(*pair, {**options, "tolerance": Tolerance(1.0, 1.0, "a toy's")}) == 1
    assert "**survived**" in capsys.readouterr().out
