"""The toy with a layer more, running statistics or recurrent; right ports pass, wrong ones fail where they are."""

import shutil
import sys
from pathlib import Path

import pytest

from splinter.align import EXACT, Pair, Tolerance, steps
from splinter.align.steps import ROUNDED, STEPS

TOY = Path(__file__).parent / "toy"
DOUBLE = Tolerance(atol=0.0, rtol=1e-8, why="Paddle keeps the norm's epsilon as float32: seen 5.3e-10 in the training")
SINGLE = Tolerance(atol=0.0, rtol=1e-4, why="Adam makes steps of the noise of small gradients: seen 2.9e-5 of a weight")

THEIR_HIDDEN, OUR_HIDDEN = (
    "        self.hidden = nn.Linear(width, width)\n",
    "        self.hidden = linear(width, width)\n",
)
HIDDEN = "hidden(mean)"
SAVED = "    save_safetensors("


def edit(path, *changes):
    """Replace texts that stand in a file once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def insert(path, anchor, line):
    """Put a line before one that stands in a file once."""
    edit(path, (anchor, f"{line}\n{anchor}"))


def describe(port, rules, sizes):
    """More rules of the weight map, and as many more tensors in the checkpoint."""
    insert(port, "    return WeightMap(rules)\n", "".join(f"    rules.append({rule})\n" for rule in rules).rstrip())
    insert(port, "    rng = np.random.default_rng(0)\n", f"    sizes |= {sizes!r}")


def with_norm(toy, momentum):
    """A BatchNorm over the mean of the words; torch counts its momentum from the other end."""
    insert(toy / "theirs.py", THEIR_HIDDEN, "        self.norm = nn.BatchNorm1d(width, momentum=0.1)")
    insert(toy / "ours.py", OUR_HIDDEN, f"        self.norm = nn.BatchNorm1D(width, momentum={momentum})")
    for file in ("theirs.py", "ours.py"):
        edit(toy / file, (HIDDEN, "hidden(self.norm(mean))"))
    edit(toy / "theirs.py", ('"model.safetensors")', '"model.safetensors", strict=False)'))  # it counts batches too
    leaves = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
    rules = [f'Rule("norm.{their}", "norm.{our}")' for their, our in leaves.items()]
    describe(toy / "port.py", rules, {f"norm.{leaf}": (8,) for leaf in leaves})
    insert(toy / "port.py", SAVED, '    arrays["norm.running_var"] = abs(arrays["norm.running_var"]) + 0.5')
    edit(toy / "port.py", ('"one row": {name: rows[:1]', '"two rows": {name: rows[:2]'))  # one has no variance


def rewritten(toy, momentum):
    """torch against a rewrite in torch, whose map says nothing of running statistics."""
    with_norm(toy, 0.9)
    text = (toy / "theirs.py").read_text(encoding="utf-8")
    (toy / "ours.py").write_text(text.replace("momentum=0.1", f"momentum={momentum}"), encoding="utf-8")
    edit(toy / "ours.py", ('sources=("theirs",)', 'sources=("ours",)'), ('kind="original"', 'kind="rewrite"'))
    edit(toy / "port.py", ("transpose=True", "transpose=False"),
         *((f'    rules.append(Rule("norm.{their}", "norm.{our}"))\n', "")
           for their, our in (("running_mean", "_mean"), ("running_var", "_variance"))))  # fmt: skip


def with_lstm(toy):
    """A recurrent layer over the words."""
    law = "paddle.ParamAttr(initializer=nn.initializer.Uniform(-(width**-0.5), width**-0.5))"
    names = [f"{kind}_{part}" for kind in ("weight", "bias") for part in ("ih", "hh")]
    laws = ", ".join(f"{name}_attr={law}" for name in names)
    insert(toy / "theirs.py", THEIR_HIDDEN, "        self.lstm = nn.LSTM(width, width, batch_first=True)")
    insert(toy / "ours.py", OUR_HIDDEN, f"        self.lstm = nn.LSTM(width, width, {laws})")
    for file in ("theirs.py", "ours.py"):
        edit(toy / file, ("(self.embedding(ids) * mask)", "(self.lstm(self.embedding(ids))[0] * mask)"))
    sizes = {f"lstm.{name}_l0": (32, 8) if name.startswith("weight") else (32,) for name in names}
    describe(toy / "port.py", [f'Rule("{name}", "{name}")' for name in sizes], sizes)


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
    assert note.startswith("running variances are 0.75 times the reference's, for of 4 numbers one framework's norm")


@pytest.mark.parametrize(
    ("change", "momentum", "tensor"), [(with_norm, 0.1, "_mean"), (rewritten, 0.2, "running_mean")]
)
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
    assert "after 3 passes in training mode/norm.running_var" in [
        c.name for c in found["backward", "float64"].comparisons
    ]


def test_a_right_port_of_a_recurrent_layer_passes(verdicts):
    """
    Cast, traced, trained with gradients although nothing is dropped.
    """
    failed, found = verdicts(with_lstm)
    assert not failed, "\n".join(one.message() for one in found.values() if not one.passed)
    assert "padded/grad/lstm.weight_hh_l0" in [c.name for c in found["backward", "float64"].comparisons]
