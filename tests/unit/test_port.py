"""port.py: two sides of one system, their names translated, their sources hashed."""

import base64
import dataclasses
import hashlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from splinter import datasets
from splinter.align import EXACT, Pair, Rule, Side, WeightMap, steps
from splinter.align.driver import Driver
from splinter.align.port import MissingFunction, SelfComparison, edited
from splinter.ports import proofs


def side(sources, kind="port", load=lambda folder: {"b.weight": 0, "a.weight": 0}, framework="tests.driver"):
    """A side of dicts."""
    return Side(framework, sources, kind, load, None, lambda model, batch: batch, None)


def toy_pair(theirs=("json",), ours=("csv",), drop=None):
    """A pair whose model has the parameters b.weight and a.weight, in this order."""
    names = WeightMap(
        [Rule("*.dense", "b.weight"), Rule("one", "b.weight", transpose=True), Rule("two", "a.weight")], drop
    )
    sides = {"theirs": lambda mode: side(theirs, "toy"), "ours": lambda mode: side(ours)}
    port = SimpleNamespace(name="toy", weights=lambda mode: names, **sides)
    pair = Pair(port, "hf", "tiny", Path("tiny"), "float32")
    pair.our_names = ("b.weight", "a.weight")
    return pair


def test_translated_arrays_have_our_names_layout_and_order():
    """
    Gradients and moments of theirs line up with ours: renamed, transposed, in the order of our model.
    """
    matrix = np.arange(6).reshape(2, 3)
    translated = toy_pair().translate({"two": np.zeros(1), "one": matrix})
    assert list(translated) == ["b.weight", "a.weight"]
    assert np.array_equal(translated["b.weight"], matrix.T)


def test_a_name_without_a_rule_is_not_lost():
    """
    It keeps its own name, marked, and so fails as a name on one side only.
    """
    assert list(toy_pair().translate({"two": np.zeros(1), "pooler": np.zeros(1)})) == ["theirs:pooler", "a.weight"]


def test_a_dropped_tensor_has_no_place_but_for_its_gradient():
    """
    An unused pooler is no name on one side only; one that gets a gradient is used after all.
    """
    pair = toy_pair(drop={"pooler": "no output reads it"})
    assert list(pair.translate({"two": np.zeros(1), "pooler": np.zeros(1)})) == ["a.weight"]
    assert "theirs:pooler" in pair.translate({"pooler": np.ones(1)}, gradients=True)


@pytest.mark.parametrize(("theirs", "ours"), [((), ("csv",)), (("json",), ())])
def test_a_side_without_sources_is_refused(theirs, ours):
    """
    Nothing else tells whether the two are one.
    """
    with pytest.raises(SelfComparison, match=r"toy: the \w+ side names no sources; name its modules"):
        toy_pair(theirs, ours)


def test_a_source_of_the_port_must_be_there():
    """
    A misspelt one has nothing in common with anything.
    """
    with pytest.raises(ModuleNotFoundError, match="no_such_module, a source of the port side, is not installed"):
        toy_pair(ours=("no_such_module",))


def test_sides_of_one_forward_function_are_no_pair():
    """
    Under whatever name and sources.
    """
    one = side(("json",), "toy")
    sides = {"theirs": lambda mode: one, "ours": lambda mode: dataclasses.replace(one, sources=("csv",), kind="port")}
    with pytest.raises(SelfComparison, match="toy: both sides have one forward function"):
        Pair(SimpleNamespace(name="toy", **sides), "hf", "tiny", Path("tiny"), "float32")


@pytest.mark.parametrize(
    ("theirs", "ours"), [(("json",), ("json",)), (("json", "splinter"), ("csv", "splinter"))], ids=["one", "among two"]
)
def test_sides_of_the_same_source_are_no_pair(theirs, ours):
    """
    One module in common is enough: what is compared with itself always agrees.
    """
    with pytest.raises(SelfComparison, match="toy: both sides come from"):
        toy_pair(theirs, ours)


@pytest.mark.parametrize(("dtype", "refereed"), [("float32", True), ("float64", False)])
def test_the_referee_stands_beside_float32_only(dtype, refereed):
    """
    A float64 run is its own referee.
    """
    pair = toy_pair()
    pair.dtype = dtype
    assert pair.refereed is refereed


def test_an_alignment_carries_the_labels_of_its_pair():
    """
    System, mode, step, checkpoint, precision and kind of reference; a step may name another precision.
    """
    found = toy_pair().alignment("lr", "exact")
    labels = (found.system, found.mode, found.step, found.checkpoint, found.dtype, found.reference)
    assert labels == ("toy", "hf", "lr", "tiny", "exact", "toy")
    assert toy_pair().alignment("forward").dtype == "float32"


def test_a_dotted_framework_is_a_driver_of_its_own():
    """
    `torch` and `paddle` are ours; a dotted name is the module of an outside port.
    """
    assert side((), framework="collections.abc").driver.__name__ == "collections.abc"
    with pytest.raises(ModuleNotFoundError, match=r"splinter\.align\.jax_side"):
        assert side((), framework="jax").driver


def test_a_module_with_a_driver_hands_it_on(monkeypatch):
    """
    As torch_side.py and paddle_side.py do; a module of functions speaks for itself.
    """
    outside = ModuleType("outside.driver")
    monkeypatch.setitem(sys.modules, "outside.driver", outside)
    assert side((), framework="outside.driver").driver is outside
    outside.DRIVER = type("Outside", (Driver,), {"functional": SimpleNamespace(dropout=lambda x, p, training: x)})()
    assert side((), framework="outside.driver").driver is outside.DRIVER


def test_the_hash_is_that_of_the_source_files():
    """
    In their order, byte by byte: an edited reference shows.
    """
    import splinter
    from splinter import datasets

    content = Path(splinter.__file__).read_bytes() + Path(datasets.__file__).read_bytes()
    assert side(("splinter", "splinter.datasets")).source_hash() == hashlib.sha256(content).hexdigest()


def test_a_source_that_is_not_installed_is_named():
    """
    Nothing is hashed in its place.
    """
    with pytest.raises(ModuleNotFoundError, match="no_such_module, a source of the port side, is not installed"):
        side(("no_such_module",)).source_hash()


@pytest.mark.parametrize("name", ["optimizer", "decayed", "hyperparameters", "rates", "data", "metric", "train"])
def test_a_function_that_a_side_leaves_out_says_so(name):
    """
    A step that needs it fails with its name, and not with a word about None.
    """
    with pytest.raises(MissingFunction, match=f"describes no '{name}', which the step needs"):
        getattr(side(()), name)()


def test_a_data_step_names_what_it_did_without():
    """
    Real files that are not to be had stand in the record of a step that passed.
    """
    pair = toy_pair()
    read = {"data": lambda source: {"ids": np.arange(3)}}
    pair.theirs, pair.ours = (dataclasses.replace(one, **read) for one in (pair.theirs, pair.ours))
    pair.port.data_sources = lambda step, mode: ["sample"]
    pair.port.missing = lambda step, mode: ["dev-v1.1.json"]
    alignment = steps.dev_data(pair).judge(EXACT)
    assert alignment.passed
    assert alignment.record(EXACT, "passed")["reason"] == "without dev-v1.1.json: in no data folder"


def test_the_metric_step_names_what_it_did_without():
    """
    As the data steps do: what it decodes is a file as well.
    """
    pair = toy_pair()
    scores = {"metric": lambda case, columns: {"score": np.arange(3.0)}}
    pair.theirs, pair.ours = (dataclasses.replace(one, **scores) for one in (pair.theirs, pair.ours))
    pair.port.metric_cases = lambda mode: {"predictions": None}
    pair.port.missing = lambda step, mode: [f"{step} without dev-v1.1.json"]
    alignment = steps.metric(pair).judge(EXACT)
    assert alignment.passed and alignment.missing == ("metric without dev-v1.1.json",)


@pytest.mark.parametrize(
    "port", [port for port in proofs.load_all() if "metric" in port.steps], ids=lambda one: one.name
)
def test_a_metric_case_is_there_or_missing(port, monkeypatch, tmp_path):
    """
    Every case that needs a real file is run where a data folder has it, and named where none does.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SPLINTER_DATA", raising=False)
    for mode in port.modes:
        without = {source for source in port.metric_cases(mode).values() if source}
        missing = set(port.missing("metric", mode))
        with monkeypatch.context() as patch:
            patch.setattr(datasets, "find", lambda name: tmp_path / name)
            assert {source for source in port.metric_cases(mode).values() if source} == without | missing
        assert not without & missing


def test_an_edited_reference_is_noticed(tmp_path, monkeypatch):
    """
    A module that differs from what its wheel brought, by a blank, whatever the package is called; modules without a
    wheel are nobody's to judge.
    """
    content = b"X = 1\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    (tmp_path / "brought").mkdir()
    (tmp_path / "brought" / "__init__.py").write_bytes(content)
    (tmp_path / "other_name-1.0.dist-info").mkdir()
    (tmp_path / "other_name-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-name\nVersion: 1.0\n"
    )
    (tmp_path / "other_name-1.0.dist-info" / "RECORD").write_text(f"brought/__init__.py,sha256={digest},6\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not edited("brought")
    edited.cache_clear()
    (tmp_path / "brought" / "__init__.py").write_bytes(content + b" ")
    assert edited("brought")
    assert not edited("transformers.models.splinter.modeling_splinter")
    assert not edited("splinter.datasets") and not edited("no_such_module")
