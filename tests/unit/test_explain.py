"""explain: kinds of differences on invented arrays, and what is told of a stored run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from splinter.align import explain
from splinter.align.explain.products import gauge, judge_product, proven, rounded

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 5, 64)).astype("float32"), RNG.normal(size=(64, 64)).astype("float32")
EXACT = (A.astype("float64") @ B.astype("float64")).astype("float32")


@pytest.mark.parametrize(
    ("ours", "kind", "why"),
    [
        (EXACT, "equal", "bit-equal"),
        (np.nextafter(EXACT, np.float32(np.inf)), "rounding", "at most 16"),
        (A @ B.T, "layout", "transposed"),
        ((rounded(A, 10) @ rounded(B, 10)).astype("float32"), "reduced precision", "TF32"),
        ((rounded(A, 7) @ rounded(B, 7)).astype("float32"), "reduced precision", "bfloat16"),
        (EXACT + np.float32(1), "semantic", "more than 16"),
    ],
    ids=["equal", "one ULP", "transposed", "TF32", "bfloat16", "a bias"],
)
def test_products(ours, kind, why):
    """
    Equal, an ULP off, transposed, of truncated factors, or something else.
    """
    found = judge_product(A, B, EXACT, ours)
    assert found[0] == kind
    assert why in found[1]


def test_rounding_to_a_fraction_by_hand():
    """
    1 + 2^-10 has ten bits of fraction, 1 + 2^-11 lies between two such numbers; signs, zero and size do not matter.
    """
    numbers = np.array([1 + 2**-10, 1 + 2**-11 + 2**-12, -3.0, 0.0, 1e-30])
    assert rounded(numbers, 10)[:4].tolist() == [1 + 2**-10, 1 + 2**-10, -3.0, 0.0]
    assert abs(rounded(numbers, 10)[4] / 1e-30 - 1) <= 2**-11


def test_the_gauge_by_hand():
    """
    An error of 6 eps on a product whose terms add up to 3 in absolute value is 2 eps |A||B|, whatever cancels.
    """
    a, b = np.array([[1.0, 2.0]], "float32"), np.array([[1.0], [-1.0]], "float32")
    eps = float(np.finfo("float32").eps)
    assert gauge(a, b, np.array([[-1.0 + 6 * eps]], "float32")) == pytest.approx(2)


def test_predictions_that_cannot_change():
    """
    A gap of 2 survives an error of 0.9 and not one of 1.1; a tie proves nothing; a single position cannot change.
    """
    theirs = np.array([[1.0, 3.0, 0.0], [1.0, 3.0, 0.0], [3.0, 3.0, 0.0]])
    ours = theirs + np.array([[0.9], [1.1], [0.0]])
    assert proven(theirs, ours).tolist() == [True, False, False]
    assert proven(theirs[:, :1], ours[:, :1]).tolist() == [True] * 3


def record(step="forward", dtype="float32", verdict="failed", rel=1e-4, **more):
    """One entry of alignment.json, as far as `stored` reads it."""
    tensor = {"name": "layer", "passed": False, "allowed": 1e-6, "max_rel": rel}
    case = {"system": "toy", "mode": "hf", "checkpoint": "tiny", "step": step, "dtype": dtype, "verdict": verdict}
    return {**case, "tensors": [tensor], **more}


BAD, GOOD = {"name": "moment", "passed": False}, {"name": "norm", "passed": True}
"""Tensors of a float64 run that fails, but not where float32 does."""


def test_a_stored_record_is_explained_by_its_figures():
    """
    What was found at the time comes first; else the precision and the size of the error tell the kind. What
    float64 says counts for the very tensor alone.
    """
    passed = record(dtype="float64", verdict="passed")
    failed = record(dtype="float64")
    cases = [
        (record(explanation={"sentence": "layout: x"}), [], "layout: x"),
        (record(step="dev_data", dtype="exact"), [], "data: layer, where both must be equal"),
        (record(step="regularization", dtype="exact"), [], "semantic: layer, which nothing rounds"),
        (record(dtype="statistics"), [], "semantic: layer, another law"),
        (failed, [], "semantic: layer, in float64"),
        (record(), [failed], "semantic: layer, it fails in float64 as well"),
        (record(), [passed], "reduced precision: layer, 1.0e-04 relative"),
        (record(rel=1e-6), [passed], "rounding: layer, 1.0e-06 relative"),
        (record(), [], "unknown: layer, and no run in float64"),
        (record(), [{**failed, "tensors": [BAD, {**GOOD, "name": "layer"}]}], "reduced precision: layer, 1.0e-04"),
        (record(), [{**failed, "tensors": [BAD]}], "unknown: layer, which float64 does not have"),
    ]
    for one, others, sentence in cases:
        assert explain.stored(one, [one, *others]).startswith(sentence)


def test_what_is_told_of_a_file():
    """
    Failures and known gaps, each with its layers; a file without any says so.
    """
    layers = [{"name": "a", "propagated": 1e-3, "given": None, "alone": 2e-3}]
    layers.append({"name": "b", "propagated": None, "given": None, "alone": None})  # shapes that do not fit
    bad = record(explanation={"sentence": "semantic: x", "layers": layers})
    text = explain.told({"results": [bad, record(verdict="passed", tensors=[]), record(verdict="xfailed")]})
    assert text.count("forward/toy (hf, tiny, float32)") == 2
    assert "semantic: x" in text
    assert "1.0e-03          -    2.0e-03" in text
    assert explain.told({"results": []}) == "nothing failed\n"


def test_all_that_differs_and_all_notes_are_told():
    """
    The first tensor has its sentence, eight more their names.
    """
    tensors = [{"name": f"layer.{n}", "passed": False, "max_rel": 1e-4} for n in range(12)]
    text = explain.told({"results": [record(tensors=tensors, notes=["float32 inside, in ours: norm"])]})
    assert "  also differ: layer.1, layer.2, layer.3, layer.4, layer.5, layer.6, layer.7, layer.8 and 3 more\n" in text
    assert "  note: float32 inside, in ours: norm\n" in text


def test_a_pass_that_contradicts_itself_is_told():
    """
    What the report shows as failed, explain does not leave out.
    """
    text = explain.told({"results": [record(verdict="passed")]})
    assert "failed\n  unknown: layer, recorded as passed, but layer failed" in text


def test_names_of_layers_do_not_act_on_the_terminal():
    """
    Controls in a file's names and sentences are shown, each in its line.
    """
    layer = {"name": "a\x9b1m\n", "propagated": float("inf"), "given": None, "alone": 2e-3}
    text = explain.told({"results": [record(explanation={"sentence": "x\x1b]0;y\x07\u202e", "layers": [layer]})]})
    assert r"x\x1b]0;y\x07\u202e" in text and r"a\x9b1m\n" in text
    assert text.count("\n") == 4


def test_explain_needs_no_jinja2(tmp_path):
    """
    The page needs it; what reads a record and prints lines does without, and without torch and paddle.
    """
    path = tmp_path / "alignment.json"
    path.write_text(json.dumps({"schema": 1, "environment": {}, "results": []}), encoding="utf-8")
    code = "import sys; sys.modules |= dict.fromkeys(['jinja2', 'torch', 'paddle']); from splinter.cli import main; "
    command = [sys.executable, "-c", code + "sys.exit(main.main(sys.argv[1:]))", "explain", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "nothing failed\n"), done.stderr
    code = "import sys; sys.modules['jinja2'] = None; from splinter.align import report; sys.exit(report.main())"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "report: the page needs jinja2; in a clone: pip install -e '.[align]'\n",
    )
