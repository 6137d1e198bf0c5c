"""The toy with a layer more: running statistics, a recurrent layer; right ports pass, wrong ones fail where they are."""

import shutil
import sys
from pathlib import Path

import pytest

from splinter.align import EXACT, Pair, Tolerance, steps
from splinter.align.steps import ROUNDED, STEPS

TOY = Path(__file__).parent / "toy"
SINGLE = Tolerance(atol=0.0, rtol=1e-4, why="Adam makes steps of the noise of small gradients: seen 2.6e-5 of a weight")
DOUBLE = Tolerance(atol=0.0, rtol=1e-9, why="a few small layers; Paddle keeps the norm's epsilon as float32: seen 3e-11")

EMBEDDING = "        self.hidden = nn.Linear(width, width)\n", "        self.hidden = linear(width, width)\n"
RULES, SIZES = "    return WeightMap(rules)\n", '    sizes |= {"out.weight": (2, 8), "out.bias": (2,)}\n'
ROWS = '"one row": {name: rows[:1]'


def edit(path, *changes):
    """Replace texts that stand in a file once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def with_norm(toy, momentum):
    """A BatchNorm over the mean of the words; torch counts its momentum from the other end."""
    mean = "torch.tanh(self.hidden(mean))", "torch.tanh(self.hidden(self.norm(mean)))"
    edit(toy / "theirs.py", (EMBEDDING[0], "        self.norm = nn.BatchNorm1d(width, momentum=0.1)\n" + EMBEDDING[0]), mean,
         ('load_model(model, folder / "model.safetensors")', 'load_model(model, folder / "model.safetensors", strict=False)'))  # fmt: skip
    edit(toy / "ours.py", (EMBEDDING[1], f"        self.norm = nn.BatchNorm1D(width, momentum={momentum})\n" + EMBEDDING[1]),
         tuple(one.replace("torch", "paddle") for one in mean))  # fmt: skip
    leaves = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
    rules = [f'Rule("norm.{their}", "norm.{our}")' for their, our in leaves.items()]
    sizes = ", ".join(f'"norm.{leaf}": (8,)' for leaf in leaves)
    edit(toy / "port.py", (RULES, f"    rules += [{', '.join(rules)}]\n" + RULES),
         (SIZES, SIZES + f"    sizes |= {{{sizes}}}\n"), (ROWS, ROWS.replace("one row", "two rows").replace(":1", ":2")),
         ("    save_safetensors(", '    arrays["norm.running_var"] = abs(arrays["norm.running_var"]) + 0.5\n    save_safetensors('))  # fmt: skip


def rewritten(toy, momentum):
    """torch against a rewrite in torch, whose map says nothing of running statistics."""
    with_norm(toy, 0.9)
    shutil.copy(toy / "theirs.py", toy / "ours.py")
    edit(toy / "ours.py", ('sources=("theirs",)', 'sources=("ours",)'), ('kind="original"', 'kind="rewrite"'),
         ("momentum=0.1", f"momentum={momentum}"))  # fmt: skip
    edit(toy / "port.py", ("transpose=True", "transpose=False"),
         (', Rule("norm.running_mean", "norm._mean"), Rule("norm.running_var", "norm._variance")', ""))  # fmt: skip


def with_lstm(toy):
    """A recurrent layer over the words."""
    mean = "(self.embedding(ids) * mask).sum(1)", "(self.lstm(self.embedding(ids))[0] * mask).sum(1)"
    edit(toy / "theirs.py", (EMBEDDING[0], "        self.lstm = nn.LSTM(width, width, batch_first=True)\n" + EMBEDDING[0]), mean)  # fmt: skip
    law = "paddle.ParamAttr(initializer=nn.initializer.Uniform(-(width**-0.5), width**-0.5))"
    laws = ", ".join(f"{kind}_{part}_attr={law}" for kind in ("weight", "bias") for part in ("ih", "hh"))
    edit(toy / "ours.py", (EMBEDDING[1], f"        self.lstm = nn.LSTM(width, width, {laws})\n" + EMBEDDING[1]), mean)
    names = {f"lstm.{kind}_{part}_l0": shape for kind, shape in (("weight", "(32, 8)"), ("bias", "(32,)"))
             for part in ("ih", "hh")}  # fmt: skip
    rules = ", ".join(f'Rule("{name}", "{name}")' for name in names)
    sizes = ", ".join(f'"{name}": {shape}' for name, shape in names.items())
    edit(toy / "port.py", (RULES, f"    rules += [{rules}]\n" + RULES), (SIZES, SIZES + f"    sizes |= {{{sizes}}}\n"))


@pytest.fixture
def verdicts(tmp_path, monkeypatch):
    """(change) -> (the steps of the changed toy that fail, alignment by step and dtype)."""
    toy = shutil.copytree(TOY, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(toy))
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 50)

    def run(change, *arguments):
        change(toy, *arguments)
        import port

        found = {}
        for step in STEPS:
            for dtype, row in (("float64", DOUBLE), ("float32", SINGLE)) if step in ROUNDED else (("exact", EXACT),):
                pair = Pair(port.PORT, "plain", "tiny", port.PORT.checkpoints["tiny"](), dtype)
                found[step, dtype] = getattr(steps, step)(pair).judge(row)
        return {step for (step, _), one in found.items() if not one.passed}, found

    yield run
    for name in ("port", "theirs", "ours"):
        sys.modules.pop(name, None)


def test_a_right_port_of_a_batch_norm_passes(verdicts):
    """
    Its running statistics are compared after passes in training mode, and are nowhere else: not in the optimizer, not
    among gradients. The frameworks' variances follow two laws, which is said.
    """
    failed, found = verdicts(with_norm, 0.9)
    assert not failed, "\n".join(one.message() for one in found.values() if not one.passed)
    names = [c.name for c in found["backward", "float64"].comparisons]
    assert [name for name in names if "_mean" in name or "_variance" in name] == [
        "after 3 passes in training mode/norm._mean", "after 3 passes in training mode/norm._variance",
    ]  # fmt: skip
    assert "padded in training mode/logits" in names
    (note,) = found["backward", "float64"].notes
    assert note.startswith("norm._variance is 0.75 times the reference's: of 4 numbers one framework's norm divides by 4")


@pytest.mark.parametrize(("change", "momentum", "tensor"), [(with_norm, 0.1, "_mean"), (rewritten, 0.2, "running_mean")])
def test_another_momentum_is_seen_after_passes_in_training_mode(verdicts, change, momentum, tensor):
    """
    Nowhere else: neither evaluation nor a gradient has it. With rules for the statistics, and without.
    """
    failed, found = verdicts(change, momentum)
    assert failed == {"backward"}, "\n".join(one.message() for one in found.values() if not one.passed)
    assert found["backward", "float64"].first_divergence.name == f"after 3 passes in training mode/norm.{tensor}"


def test_a_rewrite_in_the_same_framework_passes(verdicts):
    """
    One law of variance, no rule for the statistics, nothing to note.
    """
    failed, found = verdicts(rewritten, 0.1)
    assert not failed and not found["backward", "float64"].notes
    assert "after 3 passes in training mode/norm.running_var" in [c.name for c in found["backward", "float64"].comparisons]


def test_a_right_port_of_a_recurrent_layer_passes(verdicts):
    """
    Cast, traced, trained with gradients although nothing is dropped.
    """
    failed, found = verdicts(with_lstm)
    assert not failed, "\n".join(one.message() for one in found.values() if not one.passed)
    assert "padded/grad/lstm.weight_hh_l0" in [c.name for c in found["backward", "float64"].comparisons]
