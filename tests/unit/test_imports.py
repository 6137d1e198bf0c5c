"""Who may import whom: scripts -> cli -> ports -> align -> numpy; product before proof; one framework per file, told by
its name."""

import ast
import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import splinter
from splinter import ports
from splinter.ports import proofs

ROOT = Path(splinter.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
FAMILY = {"torch": "torch", "torchcrf": "torch", "transformers": "torch", "paddle": "paddle", "paddlenlp": "paddle"}
NAMES = {
    "torch": ("twin.py", "theirs.py", "reference_*.py", "torch_side.py", "common/torch/*.py"),
    "paddle": ("model.py", "encoder.py", "train.py", "ours.py", "paddle_side.py", "common/paddle/*.py"),
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


def of_the_proof(dotted):
    """Whether a module, or a name in it, belongs to the proof of a system."""
    return bool({"proof", "proofs"} & {*dotted.split(".")})


def families(name):
    """The frameworks that a file may import, by its name."""
    common = "/".join(Path(name).parts[-3:])
    known = {
        f for f, patterns in NAMES.items() if any(fnmatch(n, p) for p in patterns for n in (Path(name).name, common))
    }
    return {"torch"} if "common/torch/" in name else known  # its train.py has the name of Paddle's


def wrong(name, text=None):
    """What a file imports that it may not, as sentences."""
    found, parts = imported(name, text), Path(name).parts
    faults = []
    if others := frameworks(found) - families(name) - EXCEPTIONS.get(name, set()):
        faults.append(f"imports {', '.join(sorted(others))}, which its name does not say")
    if parts[0] == "align":
        faults += [f"the engine imports {one}" for one in inside(found, "splinter.ports")]
    if parts[0] == "ports" and parts[1] in (*ports.SYSTEMS, "common"):
        others = [system for system in ports.SYSTEMS if system != parts[1]]
        faults += [f"{parts[1]} imports {one}" for other in others for one in inside(found, f"splinter.ports.{other}")]
    if parts[0] in ("ports", "align"):
        faults += [f"what the command line is made of imports {one}" for one in inside(found, "splinter.cli")]
    if fnmatch(name, "ports/*/proof/theirs.py") or name == "ports/common/proof/loop.py":
        rooms = [f"splinter.ports.common.training.{room}" for room in ("fit", "feed", "trainer", "state")]
        faults += [f"the reference trains by {one}, as ours does" for room in rooms for one in inside(found, room)]
    if not of_the_proof(name.removesuffix(".py").replace("/", ".")):
        faults += [f"the product imports {one}, which is of the proof" for one in sorted(filter(of_the_proof, found))]
    return faults


def test_the_reader_of_imports_sees_them_all():
    """
    Plain, relative, renamed and inside a function: this test of tests would let nothing slip.
    """
    text = "import torch.nn as nn\nfrom . import cases\nfrom ..recipe import fit\ndef f():\n    from paddle import nn\n"
    found = imported("ports/toy/data.py", text)
    assert found == {"torch.nn", "splinter.ports.toy.cases", "splinter.ports.recipe.fit", "paddle.nn"}
    assert frameworks(found) == {"torch", "paddle"}
    assert len(FILES) > 20


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_imports_what_its_place_allows(name):
    """
    One framework at most, and the one of its name; the engine no port; ports and common rooms no other port; the
    product no proof.
    """
    assert wrong(name) == []
    assert len(families(name)) <= 1


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        (
            "ports/jointbert/tasks.py",
            "from .proof import cases",
            "the product imports splinter.ports.jointbert.proof.cases",
        ),
        ("ports/splinter/train.py", "def f():\n    from .proof.cases import tiny", "the product imports"),
        ("ports/splinter/pretraining/tasks.py", "from .proof import cases", "the product imports"),
        ("ports/common/tasks.py", "from splinter.ports.common.proof import files", "the product imports"),
        ("cli/main.py", "from splinter.ports import proofs", "the product imports splinter.ports.proofs"),
        (
            "ports/funnel/proof/theirs.py",
            "from splinter.ports.common.training.fit import fit",
            "the reference trains by splinter.ports.common.training.fit.fit",
        ),
        (
            "ports/splinter/pretraining/proof/theirs.py",
            "def f():\n    from splinter.ports.common.training import feed",
            "the reference trains by splinter.ports.common.training.feed",
        ),
        ("ports/jointbert/twin.py", "import paddle", "imports paddle"),
        ("ports/funnel/proof/ours.py", "import torch", "imports torch"),
        ("ports/multitask/tasks.py", "import transformers", "imports torch"),
        ("ports/common/torch/train.py", "import paddle", "imports paddle"),
        ("ports/common/text.py", "from splinter.ports.funnel import data", "common imports splinter.ports.funnel.data"),
        ("ports/funnel/data.py", "from ..jointbert import data", "funnel imports splinter.ports.jointbert.data"),
        ("align/steps.py", "from splinter.ports.common import text", "the engine imports splinter.ports.common.text"),
        ("align/stored.py", "from splinter import cli", "what the command line is made of imports splinter.cli"),
        ("ports/funnel/commands.py", "from splinter.cli import parser", "what the command line is made of imports"),
    ],
)
def test_a_planted_import_is_told(name, line, fault):
    """
    Each rule turns red where it is broken.
    """
    text = FILES[name].read_text(encoding="utf-8")
    assert wrong(name, text) == []
    assert [one for one in wrong(name, f"{text}\n{line}\n") if one.startswith(fault)]


def test_a_system_is_named_wherever_it_must_be():
    """
    Its folder, the signs of its checkpoints, and its proof.
    """
    assert set(ports.SIGNS) == set(ports.SYSTEMS) == {folder.partition(".")[0] for folder in proofs.PORTS}
    for system in ports.SYSTEMS:
        assert {f"ports/{system}/{room}.py" for room in ("tasks", "commands", "train", "twin", "proof/port")} <= set(
            FILES
        )


def test_the_package_itself_imports_nothing():
    """
    `from splinter import answer` is a function whose model and framework come when it is called.
    """
    assert imported("__init__.py") == {"__future__.annotations", "splinter.ports.splinter.asking"}
    loaded = modules_after("from splinter import answer; help(answer)")
    assert [name for name in loaded if name.startswith("splinter.")] == []
    assert loaded & {*FAMILY, "numpy", "tokenizers"} == set()


def modules_after(code):
    """The names of all modules that are loaded after some code."""
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import splinter.align",
        "import splinter.align.plugin, splinter.align.report",
        "from splinter.ports import proofs; [(p.weights(m), p.modes) for p in proofs.load_all() for m in p.modes]",
        "import splinter.ports.common.tasks, splinter.ports.common.checkpoint, splinter.datasets, splinter.runtime",
        "from splinter.cli import parser; parser.parser()",
    ],
    ids=["engine", "plugin", "ports", "common", "command line"],
)
def test_reading_costs_nothing(code):
    """
    The engine, every port's description, the common rooms and the help load no framework.
    """
    assert modules_after(code) & {*FAMILY} == set()


@pytest.mark.parametrize("system", ports.SYSTEMS)
@pytest.mark.parametrize("framework", ["paddle", "torch"])
def test_a_task_loads_no_proof(system, framework):
    """
    Whoever fine-tunes or asks a model has nothing of the proof in memory.
    """
    loaded = modules_after(
        f"import splinter.ports.{system}.tasks, splinter.ports.{system}.commands\n"
        f"from splinter.ports.common import backend; backend.opened('{system}', '{framework}')"
    )
    assert f"splinter.ports.{system}.{'train' if framework == 'paddle' else 'twin'}" in loaded
    assert [name for name in loaded if name.startswith("splinter.") and of_the_proof(name)] == []
