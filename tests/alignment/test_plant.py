"""scripts/plant.py, and the failure that README shows: what the step says, but for some digits."""

import re

import plant
import planted

from splinter.datasets import PROJECT

NAME = "encoder LayerNorm epsilon 1e-5 for 1e-12"


def words(text):
    """A text without its numbers."""
    return re.sub(r"\d[\d.,e+-]*", "#", text).split()


def test_readme_shows_what_the_step_says():
    """The first tensor that differs, its shape, the kind of the fault and its reason."""
    bug = next(bug for bug in planted.every() if (bug.system, bug.name) == ("splinter", NAME))
    planted.forget()
    said = plant.told(bug)
    planted.forget()
    shown = re.search(r"\n(forward/splinter .*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert words(said) == words(shown[1])
    assert "first divergence padded/bert.encoder.0.attention.norm (4, 48, 60)" in said
    assert "first divergence padded/bert.encoder.0.attention.norm (4, 48, 60)" in shown[1]


def test_a_name_that_no_bug_has(capsys, monkeypatch):
    """One line with the way out, exit code 2."""
    monkeypatch.setattr("sys.argv", ["plant.py", "nothing of the kind"])
    assert plant.main() == 2
    assert "no bug is called 'nothing of the kind'" in capsys.readouterr().err
