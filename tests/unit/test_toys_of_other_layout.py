"""Toys whose original keeps its weights in another form: packed attention, a norm of a weight of another shape."""

import shutil
from pathlib import Path

import pytest
from test_add_a_system import edit, proof

from splinter.align.steps import STEPS

TOYS = Path(__file__).parent / "toys"


@pytest.fixture
def toy(tmp_path):
    """The folder of a toy, copied out of the project."""
    return lambda name: shutil.copytree(TOYS / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize("name", ["mha", "wn"])
def test_a_port_of_another_layout_is_proven(toy, name):
    """
    in_proj_weight feeds q, k and v; weight_g of (2, 1) feeds one of (2,): all steps are green, gradients too.
    """
    code, output, record = proof(toy(name))
    assert code == 0, output
    assert {r["step"] for r in record["results"]} == set(STEPS)
    assert {r["verdict"] for r in record["results"]} == {"passed"}


@pytest.mark.parametrize(
    ("name", "file", "right", "wrong", "step", "words"),
    [
        ("mha", "port.py", 'enumerate("qkv")', 'enumerate("kqv")', "forward", "first divergence padded/hidden"),
        ("mha", "port.py", 'enumerate("qkv")', 'enumerate("qk")', "forward", "0 rules for our tensor"),
        ("mha", "ours.py", "words + self.attention(words, words, words)",
         "words + self.attention(words, words.detach(), words)", "backward", "grad/embedding.weight"),
        ("wn", "port.py", ", reshape=(-1,)", "", "forward", "has shape (2, 1) in our layout"),
        ("wn", "ours.py", "dim=1", "dim=0", "forward", "out.weight_g"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_layout_turns_its_step_red(toy, name, file, right, wrong, step, words):
    """
    Two parts exchanged, one forgotten, a gradient cut off the keys, a shape left alone, a norm of another axis.
    """
    folder = toy(name)
    edit(folder / file, (right, wrong))
    code, output, record = proof(folder, "-k", step)
    assert code == 1
    assert {r["verdict"] for r in record["results"]} == {"failed"}, output
    assert words in " ".join(output.split()), output
