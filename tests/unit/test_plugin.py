"""plugin.py: every case leaves one record that says what happened, in one process or in two.

The port under test is invented, and so is its framework: a model is a dict of arrays.
"""

import json
import sys
from xml.etree import ElementTree

import pytest

from splinter.align.report import badge  # and so here: pytester forgets what a run inside imports, jinja2 each time

pytest_plugins = "pytester"

# of no use inside, and loading them anew takes most of each run's time
QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest")

DRIVER = """
def settle():
    pass

def cast(model, dtype):
    return {name: array.astype(dtype) for name, array in model.items()}

def parameters(model):
    return model

def trace(model, forward, batch, dtype, paths):
    outputs = forward(model, {name: array.astype(dtype) for name, array in batch.items()})
    return {path: outputs["logits"].copy() for path in paths}, outputs
"""

SIDE = """
import numpy as np
from splinter.align import Side

WEIGHT = np.arange(6.0).reshape(3, 2)  # (out, in)

def theirs(mode):
    return Side("toys.driver", ("toys.theirs",), "toy", lambda folder: {"dense.weight": WEIGHT.copy()}, None,
                lambda model, batch: {"logits": batch["x"] @ model["dense.weight"].T}, None,
                data=lambda source: {"ids": np.array([1, 2])})

def ours(mode):
    return Side("toys.driver", ("toys.ours",), "port", lambda folder: {"linear.weight": WEIGHT.T.copy()}, None,
                lambda model, batch: {"logits": batch["x"] @ model["linear.weight"] + BUG}, None,
                data=lambda source: {"ids": np.array([1, 2])})

BUG = 0
"""

PORT = """
from pathlib import Path
import numpy as np
import pytest
from splinter.align import EXACT, Port, Rule, Tolerance, WeightMap, steps
from splinter.align.plugin import cases
from toys import theirs, ours

def fetch(name):
    raise ValueError(f"{name} is nowhere")

PORT = Port(
    name="toy", modes=("hf",), theirs=theirs.theirs, ours=ours.ours,
    weights=lambda mode: WeightMap([Rule("dense.weight", "linear.weight", transpose=True)]),
    batches=lambda folder, mode: {"batch": {"x": np.arange(4.0).reshape(2, 2)}},
    train_batches=None, loss_cases=None, readout=lambda outputs, batch: outputs, recipe=None, features=(),
    data_sources=lambda step, mode: ["toy"], metric_cases=None, zero_gradient="$^", steps=("forward", "dev_data"),
    checkpoints={"tiny": lambda: Path("tiny"), "base": lambda: Path("base")}, fetch=fetch,
)
BOTH = {dtype: Tolerance(atol=1e-6, rtol=0.0, why="invented") for dtype in ("float64", "float32")}
TOLERANCES = {"forward": {"toy": BOTH}, "dev_data": {"toy": EXACT}}
"""

FORWARD = """
@cases([PORT], TOLERANCES, "forward")
def test_forward(pair, tolerance, align):
    align(steps.forward(pair), tolerance)
"""

DEV_DATA = """
@cases([PORT], TOLERANCES, "dev_data")
def test_dev_data(pair, tolerance, align):
    align(steps.dev_data(pair), tolerance)
"""


@pytest.fixture
def toys(pytester):
    """Run tests of the invented port; gives pytest's result and the document it wrote."""

    def run(tests, *options, bug="0", apart=False):
        side = SIDE.replace("BUG = 0", f"BUG = {bug}")
        modules = {"toys/__init__": "", "toys/driver": DRIVER, "toys/theirs": side, "toys/ours": side + "# ours"}
        pytester.makepyfile(**modules, test_toy=PORT + tests)
        start = pytester.runpytest_subprocess if apart else pytester.runpytest
        result = start("--align-json=out.json", *QUIET, *options)
        return result, json.loads((pytester.path / "out.json").read_text())

    return run


def only(document):
    """The one record."""
    (record,) = document["results"]
    return record


# -- verdicts ---------------------------------------------------------------------------------------------


def test_an_outside_framework_is_aligned(toys):
    """
    A port that brings its own driver passes the forward step in both precisions, layer by layer.
    """
    result, document = toys(FORWARD, "-k", "tiny")
    result.assert_outcomes(passed=2)
    assert [(r["system"], r["step"], r["dtype"], r["verdict"]) for r in document["results"]] == [
        ("toy", "forward", "float32", "passed"),
        ("toy", "forward", "float64", "passed"),
    ]
    names = [tensor["name"] for tensor in document["results"][0]["tensors"]]
    assert names == ["batch/linear", "batch/logits"]
    assert document["results"][0]["reference"] == "toy"


def test_the_document_says_what_it_is(toys):
    """
    Schema 1, the machine, the versions, and the hash of the reference that was used.
    """
    _, document = toys(DEV_DATA)
    assert document["schema"] == 1
    assert {"date", "python", "machine", "versions"} <= document["environment"].keys()
    assert len(document["environment"]["reference_sha256"]["toy/hf"]) == 64


def test_a_divergence_fails_with_the_whole_message(toys):
    """
    The test fails with the first tensor that differs, and so says the record.
    """
    result, document = toys(FORWARD, "-k", "tiny and float32", bug="0.5")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*first divergence batch/linear (2, 3); max abs 0.5 at *"])
    assert only(document)["verdict"] == "failed"
    assert "first divergence batch/linear (2, 3); max abs 0.5" in only(document)["reason"]


@pytest.mark.parametrize("processes", ["0", "2"])
def test_junit_xml_tells_what_pytest_users_expect(toys, pytester, processes):
    """
    A case per test, the message of a divergence as its failure, a skip with its reason; no record of ours swells it.
    """
    toys(FORWARD, "-n", processes, "--junitxml=junit.xml", bug="0.5")
    (suite,) = ElementTree.parse(pytester.path / "junit.xml").getroot()
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert (suite.get("failures"), suite.get("errors"), len(cases)) == ("2", "0", int(suite.get("tests")))
    failures = [failure.text for case in cases.values() for failure in case.iter("failure")]
    assert len(failures) == 2 and all("first divergence batch/linear (2, 3); max abs 0.5" in text for text in failures)
    skips = [skip.get("message") for case in cases.values() for skip in case.iter("skipped")]
    assert skips and all("checkpoint" in message for message in skips)
    assert not list(suite.iter("property"))


@pytest.mark.parametrize("bug", ["np.nan", "1e308 * 10"])
def test_a_divergence_beyond_numbers_is_written_too(toys, bug):
    """
    NaN and infinity on one side fail, and the file is still JSON with all its results.
    """
    result, document = toys(FORWARD + DEV_DATA, "-k", "tiny", bug=bug)
    result.assert_outcomes(failed=2, passed=1)
    assert sorted(r["verdict"] for r in document["results"]) == ["failed", "failed", "passed"]


@pytest.mark.parametrize(
    "tests",
    [
        DEV_DATA.replace("    align", "    pytest.skip('no data here')\n    align"),
        "@pytest.mark.skip(reason='no data here')" + DEV_DATA,
        "@pytest.mark.skipif(True, reason='no data here')" + DEV_DATA,
        "@pytest.fixture\ndef gpu():\n    pytest.skip('no data here')\n" + DEV_DATA.replace("(pair", "(gpu, pair"),
    ],
    ids=["inside", "mark", "condition", "fixture"],
)
def test_a_skip_is_recorded_as_a_skip(toys, tests):
    """
    However a step is skipped, its record is there, grey, with the reason, and compared nothing.
    """
    result, document = toys(tests)
    result.assert_outcomes(skipped=1)
    record = only(document)
    assert (record["verdict"], record["reason"], record["values"]) == ("skipped", "no data here", 0)
    assert record["tolerance"] is None


def test_a_test_that_judges_nothing_is_not_green(toys):
    """
    pytest calls it passed; the record does not.
    """
    result, document = toys(DEV_DATA.replace("align(steps.dev_data(pair), tolerance)", "steps.dev_data(pair)"))
    result.assert_outcomes(passed=1)
    assert only(document)["verdict"] == "skipped"


@pytest.mark.parametrize(
    "tests",
    [
        DEV_DATA.replace("    align", "    {}['x']\n    align"),
        DEV_DATA + "    {}['x']",
        "PORT.checkpoints['tiny'] = lambda: {}['x']\n" + DEV_DATA,
    ],
    ids=["before", "after it passed", "while the pair is made"],
)
def test_a_crash_is_recorded_as_a_failure(toys, tests):
    """
    An exception anywhere is a failure with its name, even after a comparison that passed.
    """
    _, document = toys(tests)
    assert (only(document)["verdict"], only(document)["reason"]) == ("failed", "KeyError: 'x'")


def test_a_crash_inside_a_side_is_recorded_as_a_failure(toys):
    """
    A port that raises does not lose its record.
    """
    _, document = toys(FORWARD, "-k", "tiny and float32", bug="[1, 2, 3, 4, 5]")
    assert only(document)["verdict"] == "failed"
    assert only(document)["reason"].startswith("ValueError: operands could not be broadcast")


def test_a_known_gap_is_recorded_as_one(toys):
    """
    A strict xfail that fails is neither green nor red; the reason stands in the record.
    """
    xfail = "@pytest.mark.xfail(strict=True, reason='gelu differs')"
    result, document = toys(xfail + FORWARD, "-k", "tiny and float32", bug="0.5")
    result.assert_outcomes(xfailed=1)
    assert (only(document)["verdict"], only(document)["reason"]) == ("xfailed", "gelu differs")
    assert only(document)["worst"]["max_abs"] == 0.5


def test_a_known_gap_that_closes_announces_itself(toys):
    """
    A strict xfail that passes is a failure, in pytest and in the record.
    """
    xfail = "@pytest.mark.xfail(strict=True, reason='gelu differs')"
    result, document = toys(xfail + FORWARD, "-k", "tiny and float32")
    result.assert_outcomes(failed=1)
    assert only(document)["verdict"] == "failed"
    assert "XPASS(strict)" in only(document)["reason"]


def test_a_port_is_not_compared_with_itself(toys):
    """
    Two sides made from the same source file are no pair.
    """
    tests = "from dataclasses import replace\nPORT = replace(PORT, ours=PORT.theirs)\n" + DEV_DATA
    _, document = toys(tests)
    assert only(document)["verdict"] == "failed"
    assert "toy: both sides come from toys.theirs" in only(document)["reason"]


# -- cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerances", "tests"),
    [
        ("del TOLERANCES['forward']['toy']", FORWARD),
        ("del TOLERANCES['forward']", FORWARD),
        ("TOLERANCES['forward']['toy'] = EXACT", FORWARD),
        ("del BOTH['float32']", FORWARD),
        ("TOLERANCES['dev_data'] = {'other': EXACT}", DEV_DATA),
    ],
    ids=["no row", "no step", "one precision for two", "a precision is missing", "another port's row"],
)
def test_a_missing_row_stops_the_collection(toys, pytester, tolerances, tests):
    """
    The run stops, names the row to add, and leaves no older results to be taken for its own.
    """
    (pytester.path / "out.json").write_text('{"results": ["stale"]}')
    result, document = toys(f"{tolerances}\n{tests}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    step = "forward" if tests is FORWARD else "dev_data"
    result.stdout.fnmatch_lines([f"*no tolerance for step '{step}' of 'toy': add TOLERANCES[[]'{step}'[]][[]'toy'[]]*"])
    assert document["results"] == []


def test_a_step_that_a_port_has_not_needs_no_row(toys):
    """
    A port without a step is left out of it.
    """
    tests = (
        "import dataclasses\nPORT = dataclasses.replace(PORT, steps=('dev_data',))\ndel TOLERANCES['forward']['toy']\n"
    )
    result, document = toys(tests + FORWARD + DEV_DATA)
    result.assert_outcomes(passed=1, skipped=1)
    assert [r["step"] for r in document["results"] if r["system"] == "toy"] == ["dev_data"]


@pytest.mark.parametrize("processes", [(), ("-n1",)], ids=["one process", "xdist"])
def test_a_run_that_was_interrupted_says_so(toys, processes):
    """
    Ctrl-C in the middle: what did not run proves nothing, even where nobody knows any more what it was.
    """
    stop = "def test_stop():\n    raise KeyboardInterrupt\n"
    _, document = toys(DEV_DATA + stop + FORWARD, *processes, apart=True)
    assert document["interrupted"] is True
    assert badge(document, "dev_data")["color"] == "lightgrey"
    _, document = toys(DEV_DATA, *processes)
    assert "interrupted" not in document and badge(document, "dev_data")["color"] == "brightgreen"


def test_ids_read_as_a_sentence(toys):
    """
    System, mode, checkpoint, precision and tolerance stand in the id.
    """
    result, _ = toys(FORWARD + DEV_DATA, "-v")
    result.stdout.fnmatch_lines_random(
        ["*test_forward[[]toy-hf-tiny-float32-atol=1e-06,rtol=0[]]*", "*test_dev_data[[]toy-hf-tiny-exact-exact[]]*"]
    )


def test_other_checkpoints_wait_to_be_asked(toys):
    """
    The first checkpoint always runs; `base` is grey until --checkpoint base; data steps never look at weights.
    """
    _, document = toys(FORWARD + DEV_DATA)
    verdicts = [(r["checkpoint"], r["step"], r["verdict"]) for r in document["results"]]
    assert set(verdicts) == {
        ("base", "forward", "skipped"),
        ("tiny", "forward", "passed"),
        ("tiny", "dev_data", "passed"),
    }
    _, document = toys(FORWARD + DEV_DATA, "--checkpoint", "base")
    verdicts = [(r["checkpoint"], r["step"], r["verdict"]) for r in document["results"]]
    assert ("base", "forward", "passed") in verdicts
    assert ("base", "dev_data", "passed") not in verdicts


def test_a_checkpoint_that_is_not_to_be_had_is_skipped(toys):
    """
    A name that the user gave and nobody knows is grey with the reason.
    """
    _, document = toys(FORWARD, "--checkpoint", "no/such", "-k", "float32")
    record = next(r for r in document["results"] if r["checkpoint"] == "no/such")
    assert record["verdict"] == "skipped"
    assert record["reason"] == "checkpoint 'no/such' is not to be had: no/such is nowhere"


# -- one file ---------------------------------------------------------------------------------------------


def test_two_processes_write_what_one_writes(toys):
    """
    Passed, failed, skipped and crashed: the same records in the same order in one file, and the same hashes.
    """
    tests = FORWARD + DEV_DATA + FORWARD.replace("test_forward", "test_again") + "    {}['x']\n"
    _, one = toys(tests, "-p", "no:xdist")
    result, two = toys(tests, "-n", "2")
    result.stdout.fnmatch_lines(["*2 workers*"])
    for document in (one, two):
        for record in document["results"]:
            del record["seconds"]
    key = json.dumps
    assert len(one["results"]) == 9
    assert sorted(two["results"], key=key) == sorted(one["results"], key=key)
    assert [r["step"] for r in two["results"]] == [r["step"] for r in one["results"]]
    assert two["environment"]["reference_sha256"] == one["environment"]["reference_sha256"]
    outer = {"torch", "paddle"}  # other unit tests may have loaded them into this process
    assert two["environment"].keys() == one["environment"].keys() - outer


@pytest.mark.parametrize("processes", ["0", "2"])
def test_systems_stand_in_the_order_of_the_collection(toys, processes):
    """
    As the project names its ports and their modes, in one process or in two; steps in the order of the checklist.
    """
    tests = """
import dataclasses
PORTS = [dataclasses.replace(PORT, name="z", modes=("b", "a")), PORT]
TOLERANCES = {step: dict.fromkeys(("z", "toy"), row["toy"]) for step, row in TOLERANCES.items()}
"""
    steps = (DEV_DATA + FORWARD).replace("[PORT]", "PORTS")
    _, document = toys(tests + steps, "-n", processes, "-k", "tiny and not float32")
    found = [(r["system"], r["mode"], r["step"]) for r in document["results"]]
    assert found == [(*of, step) for of in (("z", "b"), ("z", "a"), ("toy", "hf")) for step in ("forward", "dev_data")]


def test_without_the_option_nothing_is_written(toys, pytester):
    """
    A plain test run leaves no file and shows no matrix.
    """
    result, _ = toys(DEV_DATA)
    result.stdout.fnmatch_lines(["*written to out.json*"])
    (pytester.path / "out.json").unlink()
    result = pytester.runpytest(*QUIET)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*written to*")
    assert not (pytester.path / "out.json").exists()


def test_the_folder_of_the_file_is_made(toys, pytester):
    """
    `--align-json report/today/out.json` needs no mkdir.
    """
    toys(DEV_DATA)
    pytester.runpytest("--align-json=report/today/out.json", *QUIET)
    assert json.loads((pytester.path / "report/today/out.json").read_text())["schema"] == 1


# -- planted bugs -----------------------------------------------------------------------------------------

KILLED = """
from splinter.align import Pair
from splinter.align.kill import Kill, strike

class Text(str):
    __array_priority__ = 1.0
    def __radd__(self, other):
        raise ZeroDivisionError("by zero")

@pytest.mark.kill
@pytest.mark.parametrize("bug", [0, 1e-3, Text("crash")], ids=str)
def test_bug(bug, kill, floor, monkeypatch):
    monkeypatch.setattr(ours, "BUG", bug)
    pair = Pair(PORT, "hf", "tiny", Path("tiny"), "float64")
    struck = strike("forward", pair, BOTH["float64"])
    kill(Kill(str(bug), "toy", "hf", "float64", "forward", "here", ("BUG",), (struck,), crashes=bug == "crash"))
    floor(what="x", step="forward", system="toy", dtype="float64", smallest=1e-3)

def test_other():
    raise AssertionError("left out")
"""


def test_the_kill_matrix_is_a_run_of_its_own(toys):
    """
    With the option only the tests that plant bugs run, and what they found is in the file; without it, none does.
    """
    result, document = toys(KILLED, "--kill-matrix")
    result.assert_outcomes(passed=3, deselected=1)
    kills = {kill["bug"]: (kill["verdict"], kill["strikes"][0]) for kill in document["kills"]}
    assert {bug: verdict for bug, (verdict, _) in kills.items()} == {
        "0": "survived",
        "0.001": "first",
        "crash": "first",
    }
    assert (kills["0.001"][1]["tensor"], kills["crash"][1]["crash"]) == ("batch/linear", "ZeroDivisionError: by zero")
    assert kills["0.001"][1]["margin"] == pytest.approx(1e-3 / 1e-6, rel=1e-6)
    assert len(document["floors"]) == 3
    result.stdout.fnmatch_lines(["*2 of 3 killed, 2 by the step*", "survived: toy: 0"])
    result, document = toys(KILLED)
    result.assert_outcomes(failed=1, deselected=3)
    assert "kills" not in document


# -- A project without a port -----------------------------------------------------------------------------


def test_pytest_starts_without_the_engine(pytester):
    """
    In a project that has no port the plugin loads its own hooks and the recorder, and nothing that they do not have.
    """
    pytester.makeconftest(
        """
        import json, sys

        def pytest_sessionfinish(session):
            open("loaded.json", "w").write(json.dumps(sorted(sys.modules)))
        """
    )
    pytester.makepyfile("def test_nothing():\n    assert True\n")
    pytester.runpytest_subprocess(*QUIET).assert_outcomes(passed=1)
    loaded = set(json.loads((pytester.path / "loaded.json").read_text()))
    pytester.runpytest_subprocess(*QUIET, "-p", "no:splinter-align").assert_outcomes(passed=1)
    without = set(json.loads((pytester.path / "loaded.json").read_text()))
    added = {name for name in loaded - without if name.partition(".")[0] not in sys.stdlib_module_names}
    assert added == {"splinter", "splinter.align", "splinter.align.plugin", "splinter.align.recorder"}


# -- cases that leave no record ---------------------------------------------------------------------------


CRASHING = """
import os

@cases([PORT], TOLERANCES, "forward")
def test_forward(pair, tolerance, align):
    if pair.dtype == "float32":
        os._exit(1)
    align(steps.forward(pair), tolerance)
"""


def test_a_process_that_dies_is_not_green(toys):
    """
    Under pytest-xdist the run goes on without it; what it was about is recorded as failed.
    """
    result, document = toys(CRASHING, "-n", "2", "-k", "tiny")
    verdicts = {r["dtype"]: (r["verdict"], r["reason"]) for r in document["results"]}
    assert verdicts["float64"][0] == "passed"
    assert verdicts["float32"] == ("failed", "it broke off without a result: its process ended")
    result.stdout.fnmatch_lines(["*Not aligned: failed 1, passed 1*"])


def test_what_a_stopped_run_did_not_reach_is_no_proof(toys):
    """
    With -x the first failure ends the run; the other case is recorded as skipped.
    """
    _, document = toys(FORWARD, "-x", "-k", "tiny", bug="1.0")
    assert sorted((r["verdict"], "before it" in r["reason"]) for r in document["results"]) == [
        ("failed", False),
        ("skipped", True),
    ]
