"""docs/your-own-port.md, really done: a fifth system as an outsider adds it, in a folder beside no package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from splinter.align.steps import ROUNDED, STEPS

TOY = Path(__file__).parent / "toy"


@pytest.fixture
def toy(tmp_path):
    """The toy's folder, copied out of the project."""
    return shutil.copytree(TOY, tmp_path / "toy", ignore=shutil.ignore_patterns("__pycache__"))


def proof(folder, *options):
    """Run the toy's tests as its author would: (exit code, output, alignment.json)."""
    command = [sys.executable, "-m", "pytest", "-q", "--align-json=a.json", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    record = folder / "a.json"
    return done.returncode, done.stdout, json.loads(record.read_text()) if record.is_file() else None


def test_a_fifth_system_is_proven_from_outside(toy):
    """
    The engine, used as an installed plugin, runs eleven steps over the toy; the project itself is not touched.
    """
    code, output, record = proof(toy)
    assert code == 0, output
    assert {r["step"] for r in record["results"]} == set(STEPS)
    assert {r["verdict"] for r in record["results"]} == {"passed"}
    assert len(record["results"]) == len(STEPS) + len(ROUNDED)
    assert "toy plain" in output
    assert record["environment"]["reference_sha256"].keys() == {"toy/plain"}


@pytest.mark.parametrize(
    ("file", "right", "wrong", "step"),
    [
        ("port.py", "transpose=True", 'transpose=layer == "out"', "forward"),
        ("ours.py", "initializer=nn.initializer.Normal()", "initializer=nn.initializer.Uniform(-1, 1)", "init"),
        ("ours.py", "losses.sum() / counted.sum()", "losses.sum() / 4", "loss"),
    ],
)
def test_the_engine_catches_the_outsiders_mistake(toy, file, right, wrong, step):
    """
    A square matrix without its transpose, another initial law, a mean over the wrong count: the step turns red.
    """
    text = (toy / file).read_text()
    assert right in text
    (toy / file).write_text(text.replace(right, wrong))
    code, output, record = proof(toy, "-k", step)
    assert code == 1
    assert {r["verdict"] for r in record["results"]} == {"failed"}, output


@pytest.mark.parametrize(
    ("files", "right", "wrong", "step", "words"),
    [
        (
            ("theirs.py", "ours.py"),
            "    optimizer=AdamW,",
            "    optimizer=lambda named, r, names: type('Still', (AdamW,), {'step': lambda self, rate: "
            "AdamW.step(self, 0.0)})(named, r, names),",
            "optimizer",
            "decay 0.0, clip 0.0: no weight of the original side moves; is max_norm 0 no clipping?",
        ),
        (("theirs.py",), '"warmup": 0, ', "", "lr", "hyperparameters() of the original side lacks warmup, which lr"),
        (("port.py",), "features=(12,)", "features=(4,)", "backward", "gives 5 rates for 10 train_batches; take more"),
        (("port.py",), 'rules = [Rule("embedding.weight", "embedding.weight")]', "rules = []", "regularization",
         "0 rules for our tensor 'embedding.weight', needs one"),
        (("ours.py",), 'name.endswith("weight")', 'name == "out.weight"', "regularization",
         "shapes differ, theirs (3,), ours (1,); only theirs has embedding.weight, hidden.weight"),
    ],
)  # fmt: skip
def test_an_outsiders_slip_is_named(toy, files, right, wrong, step, words):
    """
    Two optimizers that stand still, a default that one side lacks, too few rates, a rule or a decayed name forgotten.
    """
    for file in files:
        edit(toy / file, (right, wrong))
    code, output, _ = proof(toy, "-k", step)
    assert code == 1
    assert words in " ".join(output.split()), output


def edit(path, *changes):
    """Replace texts that stand in a file once."""
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def reverse(toy):
    """Paddle is the reference, torch the port."""
    edit(
        toy / "port.py",
        ("    import theirs\n\n    return theirs.SIDE", "    import ours as theirs\n\n    return theirs.SIDE"),
        ("def ours(mode):\n    import ours\n", "def ours(mode):\n    import theirs as ours\n"),
    )


def rewrite(toy):
    """torch against a rewrite in torch: the mean as one product, the loss by hand."""
    text = (toy / "theirs.py").read_text(encoding="utf-8")
    (toy / "rewrite.py").write_text(text, encoding="utf-8")
    edit(
        toy / "rewrite.py",
        ('sources=("theirs",)', 'sources=("rewrite",)'),
        ('kind="original"', 'kind="rewrite"'),
        ("(self.embedding(ids) * mask).sum(1)", 'torch.einsum("btd,bto->bd", self.embedding(ids), mask)'),
        (
            'nn.functional.cross_entropy(outputs["logits"], batch["labels"])',
            '(outputs["logits"].logsumexp(1) - outputs["logits"].gather(1, batch["labels"][:, None])[:, 0]).mean()',
        ),
    )
    edit(
        toy / "port.py",
        ("    import ours\n\n    return ours.SIDE", "    import rewrite\n\n    return rewrite.SIDE"),
        ("transpose=True", "transpose=False"),
    )


@pytest.mark.parametrize("direction", [reverse, rewrite])
def test_any_two_frameworks_can_be_compared(toy, direction):
    """
    Paddle's original and its port to torch, or two versions inside torch: the same steps, the same mistakes found.
    """
    direction(toy)
    code, output, record = proof(toy)
    assert code == 0, output
    assert {r["verdict"] for r in record["results"]} == {"passed"}
    port = toy / ("rewrite.py" if direction is rewrite else "theirs.py")
    edit(port, ("torch.tanh(self.hidden(mean))", "torch.sigmoid(self.hidden(mean))"))
    code, output, _ = proof(toy, "-k", "forward")
    assert code == 1
    assert "activation: what out (Linear against Linear) is given differs" in output
    assert "theirs is tanh of hidden, ours is sigmoid of hidden" in output


def test_an_outsiders_bugs_make_a_kill_matrix(toy):
    """
    Both bugs are killed by the step about them, and nothing else runs.
    """
    code, output, record = proof(toy, "--kill-matrix")
    assert code == 0, output
    assert {kill["bug"]: kill["verdict"] for kill in record["kills"]} == {
        "relu for tanh": "first",
        "half the loss": "first",
    }
    assert record["results"] == []
    assert "2 of 2 killed, 2 by the step that is about them" in output


def test_the_page_shows_the_toy_as_it_is():
    """
    Every code block of the page that names a file of the toy stands in that file.
    """
    page = (Path(__file__).parents[2] / "docs" / "your-own-port.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in page.split("```python\n# ")[1:]]
    assert len(blocks) > 3
    for block in blocks:
        name, _, code = block.partition("\n")
        file = TOY / name.split(":")[0]
        for piece in code.strip().split("\n...\n"):
            assert piece in file.read_text(encoding="utf-8"), (
                f"{name} in docs/your-own-port.md is not what the file says"
            )
