"""compare.py: what passes, what fails by itself, what the finding says; known bugs of such suites have a test each."""

import json

import numpy as np
import pytest

from splinter.align import EXACT, Alignment, Tolerance

LOOSE = Tolerance(atol=1e9, rtol=1e9, why="lets any finite difference through")
TENTH = Tolerance(atol=0.1, rtol=0.0, why="invented")


def aligned(*tensors, tolerance=EXACT, **how):
    """Judge (name, theirs, ours) triples as one step."""
    alignment = Alignment("toy", "hf", "forward", "tiny", "float32")
    for name, theirs, ours in tensors:
        alignment.add(name, theirs, ours, **how)
    return alignment.judge(tolerance)


def compared(theirs, ours, tolerance=EXACT, **how):
    """Judge two arrays and return the finding."""
    return aligned(("x", theirs, ours), tolerance=tolerance, **how).comparisons[0]


def paired(theirs, ours, tolerance=EXACT, prefix=""):
    """Judge two dicts as one step."""
    alignment = Alignment("toy", "hf", "forward", "tiny", "float32")
    alignment.add_all(prefix, theirs, ours)
    return alignment.judge(tolerance)


# -- tolerance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"atol": -1e-9}, {"rtol": -1.0}, {"atol": np.nan}, {"rtol": np.inf}])
def test_a_tolerance_is_finite_and_not_negative(wrong):
    """
    A tolerance that lets everything or nothing through is refused.
    """
    with pytest.raises(ValueError, match="must be finite and not negative"):
        Tolerance(**{"atol": 0.0, "rtol": 0.0, "why": "invented", **wrong})


@pytest.mark.parametrize("ratio", [np.nan, np.inf, 0.0, -1.0])
def test_a_ratio_is_finite_and_positive(ratio):
    """
    An infinite ratio would judge nothing and could not be written to JSON.
    """
    with pytest.raises(ValueError, match="ratio"):
        Tolerance(atol=0.0, rtol=0.0, why="invented", ratio=ratio)


def test_a_tolerance_needs_a_reason():
    """
    No row without a word on where its number comes from.
    """
    with pytest.raises(ValueError, match="needs its reason"):
        Tolerance(atol=1.0, rtol=0.0, why="")


def test_a_tolerance_reads_as_in_test_ids():
    """
    Zero on both sides is called exact; else both numbers are shown.
    """
    assert str(EXACT) == "exact"
    assert str(Tolerance(atol=2e-5, rtol=0.0, why="invented")) == "atol=2e-05,rtol=0"


# -- what passes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [[1, 2, 3], [1.5, 2.5], [True, False], ["Paris", "London"]], ids=["int", "float", "bool", "string"]
)
def test_equal_arrays_pass_exactly(values):
    """
    Two arrays of equal numbers, truths or strings pass with no tolerance at all.
    """
    alignment = aligned(("x", np.array(values), np.array(values)))
    assert alignment.passed
    assert alignment.message().count("divergence") == 0


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [([1, 2, 3], [1, 2, 4]), ([True, False], [True, True]), (["Paris", "London"], ["Paris", "Londen"])],
    ids=["int", "bool", "string"],
)
def test_what_cannot_round_has_no_tolerance(theirs, ours):
    """
    One unequal integer, truth or string fails, however loose the row.
    """
    found = compared(np.array(theirs), np.array(ours), LOOSE)
    assert not found.passed
    assert (found.theirs_at, found.ours_at) == (theirs[-1], ours[-1])
    assert found.index == (len(theirs) - 1,)


def test_huge_integers_are_not_rounded():
    """
    2**53 + 1 has no float64 of its own, and still differs from 2**53.
    """
    assert compared(np.array([1, 2**53]), np.array([1, 2**53])).passed
    found = compared(np.array([1, 2**53]), np.array([1, 2**53 + 1]))
    assert not found.passed
    assert found.index == (1,)


def test_exact_overrules_the_tolerance():
    """
    A tensor added as exact fails on one bit, in a step that allows rounding.
    """
    assert compared(np.array([1.0, 2.0]), np.array([1.0, np.nextafter(2.0, 3)]), TENTH).passed
    assert not compared(np.array([1.0, 2.0]), np.array([1.0, np.nextafter(2.0, 3)]), TENTH, exact=True).passed


def test_the_limit_itself_is_allowed():
    """
    |ours - theirs| may reach atol + rtol * max|theirs|, here 0.5 + 0.25 * 4, and no more.
    """
    tolerance = Tolerance(atol=0.5, rtol=0.25, why="invented")
    found = compared(np.array([4.0, 0.0]), np.array([4.0, 1.5]), tolerance)
    assert found.passed
    assert found.allowed == 1.5
    assert not compared(np.array([4.0, 0.0]), np.array([4.0, 1.501]), tolerance).passed


def test_rtol_is_relative_to_the_reference():
    """
    A port that explodes does not widen its own limit.
    """
    tolerance = Tolerance(atol=0.0, rtol=0.5, why="invented")
    assert not compared(np.array([1.0, 2.0]), np.array([1.0, 4.0]), tolerance).passed
    assert compared(np.array([1.0, 4.0]), np.array([1.0, 2.0]), tolerance).passed


# -- the largest element decides --------------------------------------------------------------------------


def test_one_wrong_value_in_two_million_fails():
    """
    The mean difference is 5e-7 and invisible; the largest is 1.
    """
    theirs = np.arange(2_000_000, dtype="float32").reshape(1000, 2000)
    ours = theirs.copy()
    ours[700, 3] += 1
    found = compared(theirs, ours, TENTH)
    assert not found.passed
    assert (found.index, found.max_abs) == ((700, 3), 1.0)


def test_differences_of_opposite_sign_do_not_cancel():
    """
    The signed sum of these differences is 0.
    """
    assert not compared(np.array([1.0, 2.0]), np.array([2.0, 1.0]), TENTH).passed
    assert not compared(np.array([3.0, 2.0]), np.array([2.0, 3.0]), TENTH).passed


# -- what fails by itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_fails(bad):
    """
    NaN and infinity fail on either side, and on both at once, and the place is named.
    """
    good, broken = np.array([1.0, 2.0]), np.array([1.0, bad])
    for theirs, ours in ((good, broken), (broken, good), (broken, broken.copy())):
        found = compared(theirs, ours, LOOSE)
        assert not found.passed
        assert f"holds {bad} at (1,)" in found.sentence()


def test_an_array_is_not_compared_with_itself():
    """
    The same object, a view, and an overlapping slice prove nothing, and fail.
    """
    array = np.arange(6.0)
    for ours in (array, array[:], array.reshape(2, 3), array.view()):
        assert "compared with itself" in compared(array, ours, LOOSE).sentence()
    assert "compared with itself" in compared(array[:4], array[2:], LOOSE).sentence()
    assert compared(array, array.copy(), EXACT).passed


@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (3, 2), (2, 3), (1,), ()])
def test_nothing_is_broadcast(shape):
    """
    (6,) against (6, 1) would compare 36 pairs, most of them the wrong ones.
    """
    found = compared(np.ones(6), np.ones(shape), LOOSE)
    assert not found.passed
    assert found.problem == f"shapes differ, theirs (6,), ours {shape}"


def test_nothing_is_transposed():
    """
    A forgotten transpose fails by its shape.
    """
    weight = np.arange(6.0).reshape(2, 3)
    assert "shapes differ, theirs (2, 3), ours (3, 2)" in compared(weight, weight.T.copy(), LOOSE).sentence()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("int64", "float32"), ("float32", "float64"), ("float16", "float32"), ("int64", "bool"), ("int32", "uint32")],
)
def test_dtypes_must_agree(theirs, ours):
    """
    Equal numbers of another kind, or of another precision, are a finding of their own.
    """
    found = compared(np.array([0, 1], theirs), np.array([0, 1], ours), LOOSE)
    assert not found.passed
    assert found.problem == f"dtypes differ, theirs {theirs}, ours {ours}"


def test_the_width_of_an_integer_does_not_matter():
    """
    int32 and int64 hold the same ids; frameworks differ in their default.
    """
    assert compared(np.array([0, 1], "int32"), np.array([0, 1], "int64")).passed


@pytest.mark.parametrize("tensors", [[], [("x", np.zeros((0, 3)), np.zeros((0, 3)))]], ids=["nothing", "empty arrays"])
def test_a_step_without_numbers_fails(tensors):
    """
    No tensors, or tensors without elements, are no proof.
    """
    alignment = aligned(*tensors)
    assert not alignment.passed
    assert "nothing was compared" in alignment.message()


def test_an_empty_tensor_beside_a_full_one_is_fine():
    """
    A batch without question masks has an empty column, and the step still compares something.
    """
    full = np.arange(3)
    assert aligned(("empty", np.zeros(0), np.zeros(0)), ("full", full, full.copy())).passed


def test_one_number_repeated_proves_nothing():
    """
    All ones on both sides is what two dead models agree on; a second number anywhere is enough.
    """
    constant = aligned(("a", np.ones(5), np.ones(5)), ("b", np.ones((2, 2)), np.ones((2, 2))))
    assert not constant.passed
    assert "proves nothing" in constant.message()
    late = np.append(np.zeros(5000), 1.0)
    assert aligned(("a", late, late.copy())).passed


def test_a_step_is_not_green_before_it_is_judged():
    """
    Forgetting to judge does not pass, with or without tensors.
    """
    alignment = Alignment("toy", "hf", "forward", "tiny", "float32")
    assert not alignment.passed
    alignment.add("x", np.array([1, 2]), np.array([1, 2]))
    assert not alignment.passed


@pytest.mark.parametrize(("lonely", "theirs", "ours"), [("theirs", "xy", "x"), ("ours", "x", "xy")])
def test_a_name_on_one_side_fails(lonely, theirs, ours):
    """
    What one side lacks is reported by name, although all the rest agrees.
    """
    arrays = {"x": np.arange(3), "y": np.arange(4)}
    alignment = paired({n: arrays[n] for n in theirs}, {n: arrays[n].copy() for n in ours}, prefix="batch/")
    assert not alignment.passed
    assert f"batch/only {lonely} has y" in alignment.message()
    assert alignment.first_divergence is None


def test_an_empty_intersection_of_names_fails():
    """
    Two dicts that share no key have nothing to disagree about, and fail.
    """
    alignment = paired({"a": np.arange(3)}, {"b": np.arange(3)})
    assert not alignment.passed
    assert alignment.values == 0


def test_two_empty_dicts_fail_beside_a_full_comparison():
    """
    A trace that caught no module on either side does not hide behind outputs that agree.
    """
    alignment = Alignment("toy", "hf", "forward", "tiny", "float32")
    alignment.add("logits", np.arange(3), np.arange(3))
    alignment.add_all("trace/", {}, {})
    assert not alignment.judge(EXACT).passed
    assert "trace/nothing on either side" in alignment.message()


# -- scale and bound --------------------------------------------------------------------------------------


def test_scale_replaces_the_largest_element():
    """
    A gradient that is zero by algebra rounds like the global norm: 1e-9 beside a norm of 10 is 1e-10.
    """
    tolerance = Tolerance(atol=0.0, rtol=1e-6, why="invented")
    theirs, ours = np.array([1e-9, 0.0]), np.array([0.0, 1e-9])
    assert not compared(theirs, ours, tolerance).passed
    found = compared(theirs, ours, tolerance, scale=10.0)
    assert found.passed
    assert found.allowed == pytest.approx(1e-5)
    assert found.max_rel == pytest.approx(1e-10)


def test_bound_is_absolute_and_overrules_the_row():
    """
    A test statistic has its own critical value: the row's tolerance neither helps nor hinders.
    """
    assert compared(0.0, 0.5, EXACT, bound=0.5).passed
    assert not compared(0.0, 0.6, LOOSE, bound=0.5).passed
    assert compared(0.0, 0.5, EXACT, bound=0.5).ulp is None


def test_a_statistic_need_not_vary():
    """
    One statistic against its bound is a whole step.
    """
    assert aligned(("law", 0.0, 0.5), bound=0.6).passed


# -- the float64 referee ----------------------------------------------------------------------------------


def test_the_ratio_is_our_error_over_theirs():
    """
    Truth 1, theirs off by 0.25, ours by 0.75: three times, which a ratio of 3 allows and one of 2 does not.
    """
    theirs, ours, truth = np.array([1.25, 2.0]), np.array([1.75, 2.0]), np.array([1.0, 2.0])
    for ratio, passed in ((3.0, True), (2.0, False)):
        found = compared(theirs, ours, Tolerance(atol=9.0, rtol=0.0, why="invented", ratio=ratio), referee=truth)
        assert found.passed is passed
        assert (found.theirs_error, found.ours_error, found.referee_ratio) == (0.25, 0.75, 3.0)


def test_a_good_ratio_does_not_excuse_a_large_difference():
    """
    Both errors are equal, but on opposite sides and beyond the tolerance.
    """
    tolerance = Tolerance(atol=0.1, rtol=0.0, why="invented", ratio=10.0)
    assert not compared(np.array([1.5, 2.0]), np.array([0.5, 2.0]), tolerance, referee=np.array([1.0, 2.0])).passed


def test_an_exact_reference_does_not_demand_the_impossible():
    """
    Where the reference has no error at all, ours is measured in roundings of the largest element: 3 of them.
    """
    theirs = np.array([1.0, 4.0], "float32")
    ours = np.array([1.0, 4.0 * (1 + 3 * 2.0**-23)], "float32")
    found = compared(theirs, ours, TENTH, referee=theirs.astype("float64"))
    assert found.theirs_error == 0
    assert found.referee_ratio == 3.0


def test_without_a_ratio_the_referee_only_reports():
    """
    The ratio is shown and not judged; nor is it where the step gave a scale, noise over noise says nothing.
    """
    theirs, ours, truth = np.array([1.0, 2.0]), np.array([1.05, 2.0]), np.array([1.0, 2.0])
    assert compared(theirs, ours, TENTH, referee=truth).passed
    strict = Tolerance(atol=0.1, rtol=0.0, why="invented", ratio=1.0)
    assert not compared(theirs, ours, strict, referee=truth).passed
    assert compared(theirs, ours, strict, referee=truth, scale=2.0).passed


def test_an_all_zero_reference_has_no_ratio():
    """
    No error and no size to round: atol alone judges, and no ratio of 0 pretends to perfection.
    """
    strict = Tolerance(atol=0.1, rtol=0.0, why="invented", ratio=1.0)
    found = compared(np.zeros(2), np.array([0.0, 0.05]), strict, referee=np.zeros(2))
    assert found.passed
    assert found.referee_ratio is None


@pytest.mark.parametrize(
    ("referee", "problem"),
    [([1.0], "the referee has shape (1,)"), ([1.0, np.nan], "the referee holds NaN or infinity")],
)
def test_a_referee_that_cannot_judge_fails(referee, problem):
    """
    A referee of another shape is not broadcast, and one with NaN lets nothing pass.
    """
    found = compared(np.array([1.0, 2.0]), np.array([1.0, 2.0]), LOOSE, referee=np.array(referee))
    assert not found.passed
    assert found.problem == problem


# -- ULP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "ulp"),
    [(1.0, 1 + 2.0**-23, 1), (1.0, 1 + 5 * 2.0**-23, 5), (4.0, 4 + 2.0**-20, 2), (0.0, 1.0, 2**23), (2.0, 2.0, 0)],
)
def test_ulp_counts_roundings(theirs, ours, ulp):
    """
    In float32 the numbers from 1 to 2 lie 2**-23 apart, those from 4 to 8 four times as far; never denormals.
    """
    assert compared(np.float32(theirs), np.float32(ours), LOOSE).ulp == ulp


def test_ulp_at_the_end_of_the_range():
    """
    The largest float32 has no next one; the count stays finite.
    """
    largest = np.finfo("float32").max
    found = compared(np.array([0, largest], "float32"), np.array([0, -largest], "float32"))
    assert not found.passed
    assert 0 < found.ulp < 2**26


# -- what is said -----------------------------------------------------------------------------------------


def test_the_first_divergence_is_the_first_in_order():
    """
    Not the largest: an error grows on its way, and the place where it starts is the bug.
    """
    good = np.arange(3.0)
    alignment = aligned(("embeddings", good, good.copy()), ("layer.0", good, good + 1), ("layer.1", good, good + 100))
    assert alignment.first_divergence.name == "layer.0"
    assert alignment.worst.name == "layer.0"
    assert "2 of 3 tensors differ" in alignment.message()


def test_a_message_names_eight_and_counts_the_rest():
    """
    Every one is in the record; notes end the message.
    """
    alignment = aligned(*((f"layer.{n}", np.arange(3.0), np.arange(3.0) + (n > 0)) for n in range(11)))
    alignment.notes.append("seen in passing")
    lines = alignment.message().splitlines()[1:]
    assert lines[0].startswith("  first divergence layer.1 (3,); max abs 1 at (0,), theirs 0.0, ours 1.0")
    assert lines[1:8] == [f"  then layer.{n}: max abs 1, allowed 0" for n in range(2, 9)]
    assert lines[8:] == ["  and 2 more", "  10 of 11 tensors differ", "  note: seen in passing"]
    record = alignment.record(EXACT, "failed")
    assert [one["name"] for one in record["tensors"] if not one["passed"]] == [f"layer.{n}" for n in range(1, 11)]
    assert record["notes"] == ["seen in passing"]


def test_dicts_keep_the_order_of_the_reference():
    """
    Execution order is that of theirs, whatever order ours comes in.
    """
    good = np.arange(3.0)
    alignment = paired({"b": good, "a": good}, {"a": good + 1, "b": good + 1})
    assert alignment.first_divergence.name == "b"


def test_a_failure_speaks_in_full():
    """
    Step, system, tensor, shape, place, both values, ULP, ratio and what was allowed are in one message.
    """
    theirs = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    ours = theirs + np.array([[0, 0], [0, 1]], "float32")
    alignment = Alignment("toy", "paper", "forward", "tiny", "float32")
    alignment.add("encoder.3.output", theirs, ours, referee=theirs.astype("float64") + 0.25)
    assert alignment.judge(TENTH).message() == (
        "forward/toy (paper, tiny, float32):\n"
        "  first divergence encoder.3.output (2, 2); max abs 1 at (1, 1), theirs 4.0, ours 5.0, 2,097,152 ULP, "
        "3x the reference's own float64 error; allowed 0.1\n"
        "  1 of 1 tensors differ"
    )


def test_unequal_strings_are_shown_plainly():
    """
    The two texts stand in the message as a person would write them.
    """
    alignment = aligned(("answer", np.array(["Rome", "Paris"]), np.array(["Rome", "London"])))
    assert "at (1,), theirs 'Paris', ours 'London'" in alignment.message()


def test_headroom_is_allowed_over_seen():
    """
    0.1 allowed and 0.025 seen is 4; the tightest tensor counts, the ratio has a headroom too, equality has none.
    """
    small, large = np.array([0.0, 0.0125]), np.array([0.0, 0.025])
    tensors = ("a", np.zeros(2), small), ("b", np.zeros(2), large), ("c", large, large.copy())
    alignment = aligned(*tensors, tolerance=TENTH)
    assert alignment.headroom == pytest.approx(4)
    assert alignment.worst.name == "b"
    assert aligned(tensors[2], tolerance=TENTH).headroom is None
    ratio = Tolerance(atol=9.0, rtol=0.0, why="invented", ratio=6.0)
    judged = compared(np.array([1.25, 2.0]), np.array([1.75, 2.0]), ratio, referee=np.array([1.0, 2.0]))
    assert judged.headroom == pytest.approx(2)  # 6 over 3, tighter than 9 over 0.5


# -- the record -------------------------------------------------------------------------------------------


def test_the_record_has_every_key():
    """
    What report.py reads is there, with the numbers of the worst tensor.
    """
    theirs, ours = np.array([1.0, 2.0], "float32"), np.array([1.0, 2.25], "float32")
    tolerance = Tolerance(atol=0.5, rtol=0.0, why="invented", ratio=2.0)
    alignment = aligned(("x", theirs, ours), tolerance=tolerance, referee=np.array([1.0, 2.5]))
    alignment.seconds = 1.23456
    record = alignment.record(tolerance, "passed", "no reason")
    labels = [record[name] for name in ("system", "mode", "step", "checkpoint", "dtype", "verdict", "reason")]
    assert labels == ["toy", "hf", "forward", "tiny", "float32", "passed", "no reason"]
    worst = {"tensor": "x", "index": [1], "max_abs": 0.25, "max_rel": 0.125, "ulp": 2.0**20, "referee_ratio": 0.5}
    assert record["worst"] == worst
    assert record["tolerance"] == {"atol": 0.5, "rtol": 0.0, "ratio": 2.0, "why": "invented"}
    assert (record["values"], record["headroom"], record["seconds"]) == (2, 2.0, 1.235)
    assert record["tensors"][0]["passed"] is True


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ([1.0, 2.0], [1.0, 2.5]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([1.0, -1.7e308], [1.0, 1.7e308]),  # their difference overflows
        ([0.0, 5e-324], [0.0, 1.0]),  # their quotient overflows
        (["a", "b"], ["a", "c"]),
        ([True, False], [True, True]),
        ([], []),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_the_record_is_strict_json(theirs, ours):
    """
    One infinity would lose the results of the whole run: JSON has none.
    """
    alignment = aligned(("x", np.array(theirs), np.array(ours)))
    alignment.curves["loss"] = {"theirs": [1.0, 0.5], "ours": [1.0, float("nan")]}
    record = alignment.record(EXACT, "failed", alignment.message())
    assert not alignment.passed
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["curves"]["loss"]["ours"] == [1.0, None]


def test_a_record_without_numbers_has_no_worst():
    """
    A skipped step writes a record before anything was compared.
    """
    record = Alignment("toy", "hf", "forward", "tiny", "float32").record(EXACT, "skipped")
    assert (record["worst"], record["values"], record["headroom"]) == (None, 0, None)
