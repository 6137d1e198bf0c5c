"""steps.py on what foreign ports are like: other shapes, running statistics, dropout inside, fields that are not there.

Each model here is a few lines, and a stand-in for what was met in a library.
"""

from dataclasses import replace

import numpy as np
import paddle
import pytest
import torch

from splinter.align import (
    EXACT,
    Pair,
    Port,
    Rule,
    Side,
    Tolerance,
    WeightMap,
    defaults,
    dropout_calls,
    evaluation,
    pairing,
    steps,
)
from splinter.align.collection import checklist
from splinter.align.paddle_side import DRIVER as PADDLE
from splinter.align.port import MissingField, MissingFunction
from splinter.align.running import add_statistics
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
    left = steps.forward(shaped(lambda x: x + 1, lambda x: x - 1, skip=r"^dense$")).judge(NEAR)
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


# -- dropout ----------------------------------------------------------------------------------------------


def dropping(their_rate, our_rate, chosen=("regularization",), kind=paddle.nn.Dropout, **fields):
    """A dropout behind a Linear, loaded at rate 0, where Paddle makes no call if it is asked not to."""

    def theirs(rate=their_rate):
        return torch_model(
            lambda self, x: self.second(self.dense(x)).sum(-1),
            dense=torch.nn.Linear(6, 6),
            second=torch.nn.Dropout(rate),
        )

    def forward(self, x):
        x = self.dense(x)
        return (self.second(x) if self.second.p else x).sum(-1)

    def ours(rate=our_rate):
        return paddle_model(forward, dense=paddle.nn.Linear(6, 6), second=kind(rate))

    pair = made(lambda: theirs(0.0), lambda: ours(0.0), LINEAR, chosen=chosen, **fields)
    them = replace(pair.theirs, build=lambda folder: theirs())
    us = replace(pair.ours, build=lambda folder: ours())
    return Pair(replace(pair.port, theirs=lambda mode: them, ours=lambda mode: us), "", "loaded", None, "float64")


def test_dropout_alone_asks_no_optimizer():
    """
    Rates of a built model on the weights of the loaded one, whose own rate is 0.
    """
    found = steps.dropout(dropping(0.25, 0.25)).judge(EXACT)
    assert found.passed and found.step == "regularization" and not found.notes, found.message()
    assert "rows/dropout 0, second" in [c.name for c in found.comparisons]


@pytest.mark.parametrize(("ours", "said"), [(0.1, "rate 0.25 against 0.1"), (0.0, "rate 0.25 against 0")])
def test_another_rate_of_dropout_names_its_layer(ours, said):
    """
    A rate of 0 is no dropout, and no call that is missing in a count.
    """
    found = steps.dropout(dropping(0.25, ours)).judge(EXACT)
    assert found.problems == [f"rows: second, {said}"]


class Always(paddle.nn.Dropout):
    """Drops out in evaluation too."""

    def forward(self, x):
        return paddle.nn.functional.dropout(x, self.p, training=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (lambda rate: paddle.nn.Dropout(rate, axis=0), "dropout 0, second of ones/axes along which all falls together"),
        (lambda rate: paddle.nn.Dropout(rate, mode="downscale_in_infer"), "dropout in evaluation mode"),
        (Always, "dropout in evaluation mode"),
    ],
)
def test_a_dropout_of_another_law_is_seen(kind, name):
    """
    Whole rows, other factors, evaluation too: rates and inputs are the same, so the calls themselves are tried.
    """
    found = steps.dropout(dropping(0.25, 0.25, kind=kind)).judge(EXACT)
    assert found.first_divergence.name == f"rows/{name}"


def test_the_law_of_a_call_is_judged_by_number_share_and_draw(monkeypatch):
    """
    Twice the number, half of the units kept, the same ones each time.
    """

    def failed(change):
        plain = PADDLE.left_of_ones
        with monkeypatch.context() as patch:
            patch.setattr(PADDLE, "left_of_ones", lambda *asked: change(plain(*asked)))
            found = steps.dropout(dropping(0.25, 0.25)).judge(EXACT)
        return [one.name.rpartition("/")[2] for one in found.comparisons if not one.passed]

    half = np.indices((128, 128)).sum(0) % 2
    assert failed(lambda left: left) == []
    assert failed(lambda left: 2 * left) == ["numbers"]
    assert failed(lambda left: left * half) == ["share kept"]
    assert failed(lambda left: np.where(half, 4 / 3, 0.0)) == ["draws anew, and by the seed", "share kept"]


CHANNELS = {
    "units": (ROWS, torch.nn.Dropout, paddle.nn.Dropout),
    "1-D": (ROWS.reshape(2, 3, 4), torch.nn.Dropout1d, lambda rate: paddle.nn.Dropout(rate, axis=[0, 1])),
    "2-D": (ROWS.reshape(2, 3, 2, 2), torch.nn.Dropout2d, paddle.nn.Dropout2D),
    "3-D": (ROWS.reshape(1, 3, 2, 2, 2), torch.nn.Dropout3d, paddle.nn.Dropout3D),
}


def falling(kind, their_rate, our_rate):
    """A dropout of units or of whole channels in both."""
    rows, theirs, ours = CHANNELS[kind]
    return made(
        lambda: torch_model(lambda self, x: self.drop(x), drop=theirs(their_rate)),
        lambda: paddle_model(lambda self, x: self.drop(x), drop=ours(our_rate)),
        [],
        {"rows": {"x": rows}},
    )


def other_seeds(monkeypatch, offset):
    """Both frameworks seeded elsewhere."""
    for driver in (TORCH, PADDLE):
        monkeypatch.setattr(driver, "seed", lambda number, d=driver: type(d).seed(d, number + offset))


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("rate", [0.05, 0.6, 0.9])
def test_dropouts_of_one_law_agree_at_every_rate_and_seed(kind, rate, monkeypatch):
    """
    The framework's float32 is 1.5e-7 off at 0.6, and of 49 channels none may fall at 0.05: neither is another law.
    """
    for offset in range(0, 100, 5):
        other_seeds(monkeypatch, offset)
        found = steps.dropout(falling(kind, rate, rate)).judge(EXACT)
        assert found.passed, found.message()


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize(("rate", "wrong"), [(0.05, 0.07), (0.6, 0.62), (0.9, 0.9001)])
def test_a_call_at_another_rate_than_it_states_is_seen(kind, rate, wrong, monkeypatch):
    """
    What is left of ones tells, for units and for channels.
    """
    plain, other = PADDLE.left_of_ones, falling(kind, wrong, wrong)
    model = other.model(other.ours)
    (dropped, *_) = PADDLE.dropouts(model, our_forward, other.port.batches(None, "")["rows"], "float64")
    monkeypatch.setattr(PADDLE, "left_of_ones", lambda _, shape, dtype: plain(dropped, shape, dtype))
    found = steps.dropout(falling(kind, rate, rate)).judge(EXACT)
    assert any(one.name.endswith("of ones/numbers") and not one.passed for one in found.comparisons)


def used(out, moments=("asked",), call=None):
    """A side's answers: without dropout, and at some moments; what a plain call gives, left out: the same."""
    call = {"out of a call": out.copy() if call is None else call}
    answers = {moment: {"out": out.copy()} for moment in moments}
    return {"uses": lambda folder: {"without dropout": {"out": out.copy(), **call}, **answers}}


def told(ours, theirs=None):
    """What comes of the uses of two sides."""
    pair = made(
        lambda: torch_model(lambda self, x: x),
        lambda: paddle_model(lambda self, x: x),
        [],
        sides=(theirs or used(ROWS), ours),
    )
    alignment = pair.alignment("regularization")
    evaluation.add_uses(alignment, pair)
    return alignment.judge(EXACT)


def test_answers_in_use_are_held_against_the_reference():
    """
    And against our own without dropout where a plain call differs: the forward step is about that. Where the call does
    not, it is about nothing: what asks in the product's way is at fault, and no other step would tell.
    """
    assert told(used(ROWS + 1e-9)).passed

    def ours(plain, call, asked):
        return {
            "uses": lambda folder: {"without dropout": {"out": plain, "out of a call": call}, "asked": {"out": asked}}
        }

    wrong = told(ours(ROWS.copy(), ROWS.copy(), ROWS * 1.001))
    assert wrong.first_divergence.name == "asked/out"
    other = told(used(2 * ROWS))
    assert other.passed and len(other.notes) == 1
    noisy = told(ours(2 * ROWS, 2 * ROWS, ROWS.copy()))
    assert not noisy.passed
    asking = told(used(2 * ROWS, call=ROWS.copy()))
    assert asking.problems == ["out: ours answers otherwise without dropout, and no plain call of the model does"]


def test_an_answer_without_dropout_of_one_side_alone_is_told():
    """
    It is a name that the other lacks, and no error.
    """
    ours = {"uses": lambda folder: {"without dropout": {"other": ROWS}, "asked": {"out": ROWS.copy()}}}
    assert told(ours).problems == [
        "without dropout/only theirs has out, out of a call",
        "without dropout/only ours has other",
    ]


def test_what_masks_a_score_hides_no_difference():
    """
    The lowest number of float64 would make any difference one of rounding.
    """
    masked = np.where(ROWS < 0, np.finfo("float64").min, ROWS)
    plain = {"out": masked, "out of a call": masked.copy()}
    ours = {"without dropout": plain, "asked": {"out": np.where(ROWS < 0, masked, ROWS + 0.01)}}
    found = told({"uses": lambda folder: ours}, used(masked))
    assert not found.problems and found.first_divergence.name == "asked/out"


def test_a_moment_of_one_side_alone_is_told():
    """
    As every name that only one side has.
    """
    assert told(used(ROWS, ("asked", "saved"))).problems == ["only ours has saved"]


def test_a_port_without_dropout_on_either_side_passes():
    """
    That both drop nothing is a finding.
    """
    assert steps.dropout(dropping(0.0, 0.0)).judge(EXACT).passed


def attending(our_rate, inside=lambda x, rate: x):
    """Attention by the frameworks' own function in theirs, by hand in ours; (B, T, H, D) there, (B, H, T, D) here."""

    def their_forward(self, x):
        q = self.dense(x).reshape(4, 1, 3, 2)
        rate = 0.2 if self.training else 0.0
        return torch.nn.functional.scaled_dot_product_attention(q, q, q, None, rate).reshape(4, 6).sum(-1)

    def our_forward(self, x):
        q = self.dense(x).reshape([4, 1, 3, 2])
        weights = paddle.nn.functional.softmax(q @ q.transpose([0, 1, 3, 2]) / 2**0.5, axis=-1)
        if our_rate:
            weights = paddle.nn.functional.dropout(weights, our_rate, training=self.training)
        return inside((weights @ q).reshape([4, 6]).sum(-1), 0.2 if self.training else 0.0)

    return made(
        lambda: torch_model(their_forward, dense=torch.nn.Linear(6, 6)),
        lambda: paddle_model(our_forward, dense=paddle.nn.Linear(6, 6)),
        LINEAR,
    )


def test_dropout_inside_of_attention_is_seen():
    """
    Its rate is; what it falls on is not, and that is said. Without it on our side the step fails.
    """
    found = steps.dropout(attending(0.2)).judge(EXACT)
    assert found.passed, found.message()
    assert found.notes == ["dropout 0: inside of another function in one of both, so what it falls on was not compared"]
    wrong = steps.dropout(attending(0.0)).judge(EXACT)
    assert wrong.problems == ["rows: the model itself, rate 0.2 against 0"]


def test_what_draws_without_being_seen_is_said():
    """
    A layer left out by chance, a kernel that drops inside: the pass is not the same twice.
    """
    odd = attending(0.2, lambda x, rate: x * (paddle.rand([4]) > rate).astype(x.dtype) if rate else x)
    assert "the ours side draws numbers in training mode beside the dropouts that were seen" in steps.dropout(odd).notes


@pytest.mark.parametrize("count", [1, 0])
def test_a_reference_that_takes_no_batch_is_no_comparison(count):
    """
    One row is left out, of two batches; where there is no other, nothing was compared, and no error may hide that.
    """

    def found(add, batches):
        pair = made(
            lambda: torch_model(lambda self, x: self.norm(x), norm=torch.nn.BatchNorm1d(6)),
            lambda: paddle_model(lambda self, x: self.norm(x), norm=paddle.nn.BatchNorm1D(6)),
            [Rule(f"norm.{leaf}", f"norm.{leaf}") for leaf in ("weight", "bias")],
            batches,
        )
        alignment = pair.alignment("regularization", "exact")
        add(alignment, pair)
        return alignment

    batches = {"one row": {"x": ROWS[:1]}} | ({"rows": {"x": ROWS}} if count else {})
    for add in (
        dropout_calls.add_dropouts,
        lambda alignment, pair: add_statistics(alignment, pair, pairing.runs(pair)),
    ):
        problems = [one for one in found(add, batches).problems if one.startswith("the reference takes no batch")]
        assert len(problems) == (1 - count)


# -- optimizer and decay ----------------------------------------------------------------------------------

DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0, "max_norm": 0.0}


class Decaying:
    """w -= rate (gradient + decay w), in the framework's own numbers; it shows no moments."""

    def __init__(self, driver, off, named, recipe, decayed):
        self.driver, self.named, self.decayed = driver, named, set(decayed)
        self.decay = recipe.weight_decay * (1 + off)

    def step(self, rate):
        for name, parameter in self.named.items():
            if parameter.grad is None:
                continue
            weight, gradient = self.driver.to_numpy(parameter), self.driver.to_numpy(parameter.grad)
            decay = self.decay if name in self.decayed else 0.0
            self.driver.fill(parameter, weight - rate * (gradient + decay * weight))
            parameter.grad = None
        return 1.0


def learning(off=0.0, **fields):
    """A Linear with that optimizer, ours with a decay that is a little off."""
    sides = [
        {
            "optimizer": lambda named, recipe, decayed, d=driver, o=wrong: Decaying(d, o, named, recipe, decayed),
            "decayed": lambda names: [name for name in names if name.endswith("weight")],
            "hyperparameters": lambda: DEFAULTS,
        }
        for driver, wrong in ((TORCH, 0.0), (PADDLE, off))
    ]
    return made(
        lambda: torch_model(lambda self, x: self.dense(x), dense=torch.nn.Linear(6, 6)),
        lambda: paddle_model(lambda self, x: self.dense(x), dense=paddle.nn.Linear(6, 6)),
        LINEAR, built=True, sides=sides, train_batches=lambda folder, mode: [{"x": ROWS}] * 3, **fields,
    )  # fmt: skip


def test_regularization_obeys_its_row():
    """
    Stock AdamW of Paddle is 2.2e-11 off, for it keeps the decay as float32; rounding alone passes the strictest row.
    """
    assert steps.regularization(learning()).judge(EXACT).passed
    off = steps.regularization(learning(2.2e-8))
    assert off.judge(EXACT).first_divergence.name == "factor of dense.weight"
    assert steps.regularization(learning(2.2e-8)).judge(defaults.tolerance("regularization", "exact")).passed


def test_an_optimizer_without_moments_is_compared_by_its_weights(monkeypatch):
    """
    Any object with step(rate); what was not seen is said.
    """
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 20)
    found = steps.optimizer(learning()).judge(NEAR)
    assert found.passed and [note.partition(" shows")[0] for note in found.notes] == [
        "the optimizer of the theirs side", "the optimizer of the ours side",
    ]  # fmt: skip
    assert not steps.optimizer(learning(0.1)).judge(NEAR).passed


class Stock:
    """AdamW as the framework ships it; no clipping of its own."""

    def __init__(self, driver, named, recipe, decayed):
        self.driver, self.named, self.limit = driver, named, recipe.max_norm
        groups = [
            {"params": [p for n, p in named.items() if (n in decayed) == decays], "weight_decay": decay}
            for decays, decay in ((True, recipe.weight_decay), (False, 0.0))
        ]
        if driver is TORCH:
            self.optimizer = torch.optim.AdamW(groups, lr=1e-3)
        else:
            self.optimizer = paddle.optimizer.AdamW(1e-3, parameters=groups)

    def step(self, rate):
        present = [p for p in self.named.values() if p.grad is not None]
        norm = sum(float((p.grad**2).sum()) for p in present) ** 0.5
        if self.limit and norm > self.limit:
            for p in present:
                p.grad = p.grad * (self.limit / norm)
        if self.driver is TORCH:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        else:
            self.optimizer.set_lr(rate)
        self.optimizer.step()
        return norm


def test_the_frameworks_own_optimizers_agree_on_gradients_that_are_missing(monkeypatch):
    """
    Both AdamWs pass over a parameter without a gradient and count its updates by itself, in a state made when it is
    first needed (torch) or at once (Paddle): users of either must see no false alarm, and an optimizer that takes none
    for zeros must be seen.
    """
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 100)

    class Zeros(Stock):
        def step(self, rate):
            for parameter in self.named.values():
                parameter.grad = paddle.zeros_like(parameter) if parameter.grad is None else parameter.grad
            return super().step(rate)

    def found(ours):
        sides = [
            {"optimizer": lambda n, r, d, k=driver, c=cls: c(k, n, r, d), "hyperparameters": lambda: DEFAULTS}
            for driver, cls in ((TORCH, Stock), (PADDLE, ours))
        ]
        pair = made(lambda: torch_model(their_forward, dense=torch.nn.Linear(6, 6)), None, LINEAR, sides=sides)
        return steps.optimizer(pair).judge(defaults.tolerance("optimizer", "float64"))

    right, wrong = found(Stock), found(Zeros)
    assert right.passed, right.message()
    assert not any("without any gradient" in note for note in right.notes)
    assert {c.name.rpartition("/")[2] for c in wrong.comparisons if not c.passed} >= {"first_task.weight", "scale"}
    assert "decay 0.01, clip 1.0: a weight without any gradient is moved by the ours side" in wrong.notes


# -- backward ---------------------------------------------------------------------------------------------


def test_a_gradient_that_is_zero_by_algebra_is_found():
    """
    A bias in front of a softmax, which only sees differences: what is left is noise, and no two sides have the same.
    """

    def run(pattern):
        pair = made(
            lambda: torch_model(lambda self, x: torch.softmax(self.dense(x).sum(-1), -1), dense=torch.nn.Linear(6, 6)),
            lambda: paddle_model(
                lambda self, x: paddle.nn.functional.softmax(self.dense(x).sum(-1)), dense=paddle.nn.Linear(6, 6)
            ),
            LINEAR,
            chosen=("backward",),
            train_batches=lambda folder, mode: [{"x": ROWS}] * 2,
            sides=[{"optimizer": lambda n, r, d, k=driver: Decaying(k, 0.0, n, r, d), "decayed": lambda names: []}
                   for driver in (TORCH, PADDLE)],
            zero_gradient=pattern,
        )  # fmt: skip
        return steps.backward(pair).judge(NEAR)

    assert run(None).passed, run(None).message()
    assert run("bias$").passed
    assert run("").first_divergence.name == "rows/grad/dense.bias"


def test_a_batch_that_is_not_required_is_noted_where_it_differs():
    """
    A row that is all padding, say: the mean of nothing is NaN in one and 0 in the other.
    """

    def their_forward(self, x):
        return self.dense(x).sum(-1) / x.sum(-1)

    def our_forward(self, x):
        return self.dense(x).sum(-1) / (x.sum(-1) + (x.sum(-1) == 0).astype(x.dtype))

    def run(**batches):
        pair = made(
            lambda: torch_model(their_forward, dense=torch.nn.Linear(6, 6)),
            lambda: paddle_model(our_forward, dense=paddle.nn.Linear(6, 6)),
            LINEAR,
            optional_batches=lambda folder, mode: batches,
        )
        return steps.forward(pair).judge(NEAR)

    found = run(padding={"x": np.concatenate([ROWS[:1], np.zeros((1, 6))])}, fine={"x": ROWS[:2]})
    assert found.passed and len(found.notes) == 1
    assert found.notes[0].startswith("not required, and different: padding/out (2,): theirs holds")
    assert not any(c.name.startswith("padding") for c in found.comparisons)


def remembering():
    """A pair of which ours makes a table when it runs, one number for each row, as paddlenlp's RWModel its sines."""

    def remembers(self, x):
        self.register_buffer("table", paddle.ones([len(x), 1]), persistable=False)
        return self.dense(x) * self.table.astype(x.dtype)

    theirs = lambda: torch_model(lambda self, x: self.dense(x), dense=torch.nn.Linear(6, 6))  # noqa: E731
    return made(theirs, lambda: paddle_model(remembers, dense=paddle.nn.Linear(6, 6)), LINEAR)


def test_a_table_that_is_made_when_the_model_runs_is_left_alone():
    pair = remembering()
    model = pair.model(pair.ours)
    for rows in (1, 4):
        with PADDLE.unmoved(model):
            model(paddle.to_tensor(ROWS[:rows]))
        assert PADDLE.buffers(model)["table"].shape == [rows, 1]


def test_a_table_that_is_made_when_the_model_runs_is_no_statistic():
    pair = remembering()
    alignment = pair.alignment("backward")
    add_statistics(alignment, pair, pairing.runs(pair))
    assert [one.name for one in alignment.comparisons] == ["rows in training mode/out"]


# -- the padding row --------------------------------------------------------------------------------------


def embedding(padded):
    """An Embedding whose row 0 is padding in theirs, and in ours if it is told so."""
    ids = {"x": np.array([[0, 1, 2], [3, 0, 0]])}

    def ours():
        # Paddle keeps the row's gradient at zero and draws it all the same, so it is set here
        layer = paddle.nn.Embedding(5, 6, padding_idx=0 if padded else None, weight_attr=NORMAL)
        if padded:
            with paddle.no_grad():
                layer.weight[0] = 0.0
        return paddle_model(lambda self, x: self.table(x) + 1, table=layer)

    return made(
        lambda: torch_model(lambda self, x: self.table(x) + 1, table=torch.nn.Embedding(5, 6, padding_idx=0)),
        ours, [Rule("table.weight", "table.weight")], {"rows": ids}, built=True,
        train_batches=lambda folder, mode: [ids] * 2,
        sides=[{"optimizer": lambda n, r, d, k=driver: Decaying(k, 0.0, n, r, d), "decayed": lambda names: []}
               for driver in (TORCH, PADDLE)],
    )  # fmt: skip


NORMAL = paddle.ParamAttr(initializer=paddle.nn.initializer.Normal())


def test_the_padding_row_of_an_embedding_is_named():
    """
    Where it is drawn and not zero, and where it learns: said first, in one sentence, and once.
    """
    assert steps.init(embedding(padded=True)).judge(EXACT).passed
    drawn = steps.init(embedding(padded=False)).judge(EXACT)
    assert drawn.problems == [
        "table.weight: row 0, the padding row of an embedding, is drawn by ours and zero in theirs"
    ]
    assert steps.backward(embedding(padded=True)).judge(NEAR).passed
    learns = steps.backward(embedding(padded=False)).judge(NEAR)
    assert learns.problems == [
        "gradient of table.weight: row 0 alone is zero in theirs and not in ours, as of an embedding with a padding row"
    ]


# -- tolerances -------------------------------------------------------------------------------------------


def test_every_step_has_a_default_row():
    """
    In every dtype that it is run in, and a reason in each.
    """
    for step in steps.STEPS:
        for dtype in ("float64", "float32"):
            assert defaults.tolerance(step, dtype).why
    assert defaults.tolerance("forward", "bfloat16").ratio == 4
    with pytest.raises(LookupError, match="no default tolerance for step 'backward' in float16; there are float64"):
        defaults.tolerance("backward", "float16")


def test_a_checklist_without_a_table_takes_the_defaults():
    """
    `checklist([PORT])` is a whole suite.
    """
    (test,) = checklist([shaped(lambda x: x).port]).items()
    assert test[0] == "test_forward"
    (mark,) = test[1].pytestmark
    assert mark.kwargs["rows"]["foreign"] == defaults.TABLE["forward"]
