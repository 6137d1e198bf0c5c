"""Who may import whom: tests, scripts -> ports -> align -> numpy, and one framework per file, told by its name."""

import ast
import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import splinter
from splinter import ports

ROOT = Path(splinter.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
FAMILY = {"torch": "torch", "torchcrf": "torch", "transformers": "torch", "paddle": "paddle", "paddlenlp": "paddle"}
NAMES = {
    "torch": ("reference*.py", "*torch*.py"),
    "paddle": ("model.py", "encoder.py", "train.py", "train_paddle.py", "*paddle*.py"),
}
EXCEPTIONS = {"runtime.py": {"paddle"}}  # its only purpose: import paddle, tuned and without noise


def imported(name, text=None):
    """Absolute dotted names that a file imports, at its top or inside a function."""
    found = set()
    package = ["splinter", *Path(name).parent.parts]
    for node in ast.walk(ast.parse(text if text is not None else FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def frameworks(names):
    """The families among imported names."""
    return {FAMILY[name.split(".")[0]] for name in names if name.split(".")[0] in FAMILY}


def inside(names, package):
    """Imported names that lie in a package, or are it."""
    return sorted(name for name in names if f"{name}.".startswith(f"{package}."))


def test_the_reader_of_imports_sees_them_all():
    """
    Plain, relative, renamed and inside a function: this test of tests would let nothing slip.
    """
    text = "import torch.nn as nn\nfrom . import cases\nfrom ..recipe import fit\ndef f():\n    from paddle import nn\n"
    found = imported("ports/toy/data.py", text)
    assert found == {"torch.nn", "splinter.ports.toy.cases", "splinter.ports.common.training.recipe.fit", "paddle.nn"}
    assert frameworks(found) == {"torch", "paddle"}
    assert len(FILES) > 20


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_imports_one_framework_and_its_name_says_which(name):
    """
    reference*.py and *torch*.py may use torch; model.py, encoder.py, train.py and *paddle*.py paddle; others neither.
    """
    allowed = {family for family, patterns in NAMES.items() if any(fnmatch(Path(name).name, p) for p in patterns)}
    assert frameworks(imported(name)) <= allowed | EXCEPTIONS.get(name, set())
    assert len(allowed) <= 1


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("align/")))
def test_the_engine_imports_no_port(name):
    """
    align works on anyone's port.
    """
    assert inside(imported(name), "splinter.ports") == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("ports/")))
def test_ports_do_not_import_each_other(name):
    """
    What they have in common lies beside their folders, and imports none of them.
    """
    own = Path(name).parts[1]
    others = [system for system in ports.SYSTEMS if system != own]
    assert [found for other in others for found in inside(imported(name), f"splinter.ports.{other}")] == []


def test_the_package_itself_imports_nothing():
    """
    `import splinter` is the version and nothing else.
    """
    assert imported("__init__.py") <= {"__future__.annotations"}


@pytest.mark.parametrize(
    "code",
    [
        "import splinter.align",
        "import splinter.align.plugin, splinter.align.report",
        "from splinter.ports import proofs; [(p.weights(m), p.modes) for p in proofs.load_all() for m in p.modes]",
        "import splinter.ports.common.training.recipe, splinter.ports.common.checkpoint, splinter.datasets, splinter.runtime",
    ],
    ids=["engine", "plugin", "ports", "common"],
)
def test_reading_costs_nothing(code):
    """
    The engine, every port's description and the common rooms load no framework.
    """
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(set(sys.modules) & {set(FAMILY)})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
