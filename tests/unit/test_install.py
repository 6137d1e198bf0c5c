"""What an installation brings: the engine without a framework, the product by an extra, the proof in a clone."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import splinter
from splinter.datasets import PROJECT
from splinter.ports.common import tasks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

PACKAGE = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FRAMEWORKS = {"paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "torch", "transformers"}
PYTEST = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments", "exceptiongroup", "tomli")
BASE = ("splinter", "numpy", "safetensors", "jinja2", "markupsafe", *PYTEST)
ALONE = """
import sys

class Others:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, *allowed}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

allowed = %r
sys.meta_path.insert(0, Others())
for name in ("tokenizers", "torch"):  # importlib.util.find_spec says None of them, as where they are not installed
    sys.modules[name] = None
"""


def required(extra=None):
    """Names of the packages that the base, or an extra with those it names, asks for."""
    asked = PACKAGE["dependencies"] if extra is None else PACKAGE["optional-dependencies"][extra]
    names = set()
    for requirement in asked:
        name, extras = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?.*", requirement).groups()
        names |= set().union(*map(required, extras.split(","))) if name == PACKAGE["name"] else {name}
    return names


def alone(code, *arguments, allowed=BASE):
    """Run code where nothing but the standard library and some packages can be imported."""
    command = [sys.executable, "-c", ALONE % (allowed,) + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)


COMMAND_LINE = "from splinter.__main__ import main\nsys.exit(main())"


def test_the_base_and_the_product_name_no_framework():
    """
    Who proves a port, or brings paddlepaddle-gpu or a nightly, gets no other; the extra paddle pins what was tested.
    """
    assert required() == {"numpy", "safetensors", "jinja2", "pytest"}
    assert required("product") == {"tokenizers", "huggingface_hub", "filelock", "tqdm"}
    assert required("paddle") == required("product") | {"paddlepaddle"}
    assert required("suite") & FRAMEWORKS == {"paddlepaddle", "torch"}
    assert required("align") == required("suite") | {"transformers"}
    assert required("lint") & FRAMEWORKS == set()


def test_only_the_audited_library_ends_before_python_3_13():
    """
    Everything of the extra paddlenlp is left out from there on, nothing else is.
    """
    assert PACKAGE["requires-python"] == ">=3.10"
    for extra, asked in PACKAGE["optional-dependencies"].items():
        ends = ["python_version < '3.13'" in requirement for requirement in asked]
        assert set(ends) == {extra == "paddlenlp"}, extra


def test_the_engine_needs_the_base_alone():
    """
    Library, plugin and reports; the library does without pytest too.
    """
    done = alone("import splinter.align.plugin, splinter.align.report, splinter.align.stored, splinter.align.explain")
    assert (done.returncode, done.stderr) == (0, "")
    done = alone("import splinter.align, splinter.datasets", allowed=("splinter", "numpy"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "No module named 'pytest'" in alone("import pytest", allowed=("splinter", "numpy")).stderr


def test_a_port_is_judged_with_the_base_alone(tmp_path):
    """
    Helps are printed, and the arrays of two runs are compared.
    """
    for name in ("theirs", "ours"):
        np.save(tmp_path / f"{name}.npy", np.arange(3.0))
    done = alone(COMMAND_LINE, "judge", tmp_path / "theirs.npy", tmp_path / "ours.npy")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ((), ("predict",), ("finetune",), ("align",)):
        done = alone(COMMAND_LINE, *command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage: splinter" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("predict", "--model", "splinter-mini-qa", "--question", "Who?", "--context", "Ann."),
            "splinter: predict needs tokenizers, which is not installed; in a clone of the project: "
            "pip install -e '.[paddle]'\n",
        ),
        (
            ("align",),
            "splinter align: the proof needs torch, which is not installed; in a clone of the project: "
            "pip install -e '.[align]'\n",
        ),
    ],
    ids=["predict", "align"],
)
def test_what_is_not_installed_is_named_with_its_extra(arguments, message):
    """
    In a line, and exit code 2.
    """
    done = alone(COMMAND_LINE, *arguments)
    assert (done.returncode, done.stderr) == (2, message)


def test_records_name_the_version_of_this_project():
    """
    The distribution has another name than the package, and `splinter` is another project's.
    """
    assert tasks.environment()["versions"]["splinter"] == splinter.__version__


@pytest.mark.slow
def test_an_installed_package_answers_outside_the_clone(tmp_path):
    """
    `pip install .[paddle]` into a fresh environment: no file that only a clone needs, an answer, the proof's way out.
    """
    source = tmp_path / "source"
    shutil.copytree(PROJECT / "splinter", source / "splinter", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(PROJECT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{source}[paddle]"], check=True)

    def run(*command):
        return subprocess.run([python, "-m", *command], capture_output=True, text=True, cwd=tmp_path)

    told = json.loads(run("pip", "inspect").stdout)["installed"]
    installed = {one["metadata"]["name"] for one in told}
    assert "splinter-paddle" in installed
    assert installed & FRAMEWORKS == {"paddlepaddle"}
    where = Path(run("pip", "show", "--files", "splinter-paddle").stdout.split("Location: ")[1].split("\n")[0])
    assert not any((where / name).exists() for name in ("tests", "scripts", "results", "docs", "conftest.py"))
    asked = ("--question", "Who built it?", "--context", "It was built by Ingrid Solheim in 1874.")
    done = run("splinter", "predict", "--model", "splinter-mini-qa", *asked)
    assert "Ingrid Solheim" in done.stdout.split("\n")[1], done.stderr
    done = run("splinter", "align")
    assert (done.returncode, "needs torch" in done.stderr) == (2, True)
