"""weights.py: rules that cut, join, reshape and permute; each with its way back."""

import numpy as np
import pytest

from splinter.align import Rule, WeightMap
from splinter.align.files import WeightError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(6, 4))


def stored(shape):
    return RNG.normal(size=shape)


CASES = {
    "cut and turned": ([Rule("a", f"o.{k}", part=(k, 3), transpose=True) for k in range(3)], {"a": A},
                       {f"o.{k}": A[2 * k : 2 * k + 2].T for k in range(3)}),
    "cut along axis 1": ([Rule("a", f"o.{k}", part=(k, 2), axis=1) for k in range(2)], {"a": A},
                         {"o.0": A[:, :2], "o.1": A[:, 2:]}),
    "cut by shares": ([Rule("a", f"o.{k}", part=(k, 3), shares=(4, 1, 1)) for k in range(3)], {"a": A},
                      {"o.0": A[:4], "o.1": A[4:5], "o.2": A[5:]}),
    "cut from a stack": ([Rule("a", f"o.{k}", part=(k, 2), stack=True) for k in range(2)], {"a": A[:2]},
                         {"o.0": A[0], "o.1": A[1]}),
    "joined and turned": ([Rule(("g", "u"), "o", transpose=True)], {"g": A[:3], "u": A[3:]}, {"o": A.T}),
    "joined by shares": ([Rule(("q", "k"), "o", shares=(2, 1))], {"q": A[:4], "k": A[4:]}, {"o": A}),
    "stacked and turned": ([Rule(("e.0", "e.1"), "o", stack=True, transpose=True)], {"e.0": A, "e.1": 2 * A},
                           {"o": np.stack([A.T, 2 * A.T])}),
    "reshaped": ([Rule("g", "o", reshape=(-1,))], {"g": A[:, :1]}, {"o": A[:, 0]}),
    "permuted": ([Rule("c", "o", permute=(2, 0, 1))], {"c": A.reshape(2, 3, 4)},
                 {"o": A.reshape(2, 3, 4).transpose(2, 0, 1)}),
    "joined, reshaped, permuted, turned, in this order":
        ([Rule(("g", "u"), "o", reshape=(2, 3, 4), permute=(1, 0, 2), transpose=True)], {"g": A[:3], "u": A[3:]},
         {"o": A.reshape(2, 3, 4).transpose(1, 0, 2).swapaxes(1, 2)}),
    "of each layer": ([Rule(("l.*.g", "l.*.u"), "o.*")], {"l.7.g": A[:3], "l.7.u": A[3:]}, {"o.7": A}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_rule_converts_and_reverts(case):
    """
    Ours are what the rule says, theirs come back to the last bit, gradients of theirs go the same way.
    """
    rules, theirs, ours = CASES[case]
    names, shapes = WeightMap(rules), {name: array.shape for name, array in ours.items()}
    converted = dict(names.convert(theirs, shapes))
    assert converted.keys() == ours.keys()
    assert all(np.array_equal(converted[name], ours[name]) for name in ours)
    back = dict(names.revert(ours, {name: array.shape for name, array in theirs.items()}))
    assert back.keys() == theirs.keys()
    assert all(np.array_equal(back[name], theirs[name]) for name in theirs)
    translated = names.translate(theirs, gradients=True)
    assert translated.keys() == ours.keys()
    assert all(np.array_equal(translated[name], ours[name]) for name in ours)


@pytest.mark.parametrize("case", CASES)
def test_a_map_prints_the_source_of_itself(case):
    """
    Rules, drops, kept tensors and modules, read back as Python, are an equal map.
    """
    names = WeightMap(CASES[case][0], {"x.*": 'a "pooler"'}, {"t": "a table"}, {"m.*": "n.*", "p": None})
    assert eval(repr(names), {"WeightMap": WeightMap, "Rule": Rule}) == names
    assert names != WeightMap(CASES[case][0])


THIRDS = [Rule("a", f"o.{k}", part=(k, 3)) for k in range(3)]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (THIRDS[:2], "1 used in part: a"),
        ([*THIRDS, Rule("a", "o.3", part=(0, 3))], "1 used twice: a"),
        ([*THIRDS, Rule("a", "o.3")], "1 used twice: a"),
        ([*THIRDS[:2], Rule("a", "o.2", part=(2, 3), axis=1)], "1 used in part: a"),
        ([Rule(("a", "b"), "o.0")], "1 missing: b"),
    ],
    ids=["a part forgotten", "a part twice", "whole and in parts", "along two axes", "one of two missing"],
)
def test_parts_are_used_exactly_once(rules, words):
    """
    All of a tensor goes somewhere, and nothing of it to two places.
    """
    with pytest.raises(WeightError, match=words):
        WeightMap(rules).plan(["a"], [rule.ours for rule in rules])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"part": (3, 3)}, "counted from 0 to 2"),
        ({"theirs": ("a", "b"), "part": (0, 2)}, "cuts and joins at once"),
        ({"part": (0, 3), "shares": (2, 1)}, "2 shares for 3 parts"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_when_written(more, words):
    """
    A part beyond the last one, a part of two tensors, shares of other parts.
    """
    with pytest.raises(WeightError, match=words):
        Rule(**{"theirs": "a", "ours": "o", **more})


@pytest.mark.parametrize(
    "rule",
    [Rule("a", "o", part=(0, 4)), Rule("a", "o", reshape=(5, 5)), Rule("a", "o", part=(0, 2), stack=True)],
    ids=["no fourth", "other size", "no stack of two"],
)
def test_a_shape_that_does_not_divide_so_is_named(rule):
    """
    The rule and the shape stand in the error.
    """
    many = (
        [Rule("a", f"o{k}", part=(k, rule.part[1]), stack=rule.stack) for k in range(rule.part[1])]
        if rule.part
        else [rule]
    )
    with pytest.raises(WeightError, match=r"Rule\(.*\(6, 4\)"):
        dict(WeightMap(many).convert({"a": A}, {one.ours: (1,) for one in many}))


def test_a_reshape_needs_their_shapes_on_the_way_back():
    """
    They are not in the rule; without them it says so.
    """
    with pytest.raises(WeightError, match="the way back needs the shapes of theirs"):
        dict(WeightMap([Rule("g", "o", reshape=(-1,))]).revert({"o": A[:, 0]}))


def test_what_has_no_counterpart_is_kept_with_a_reason():
    """
    A table of ours that the model fills itself is no missing tensor; one that nothing is said of is.
    """
    names = WeightMap([Rule("a", "o")], keep={"table.*": "the model fills it itself"})
    assert [link.ours for link in names.plan(["a"], ["o", "table.3"])] == ["o"]
    assert names.reason_kept("table.3") == "the model fills it itself"
    with pytest.raises(WeightError, match="0 rules for our tensor 'other'"):
        names.plan(["a"], ["o", "other"])


def test_an_expert_without_gradient_is_zero_among_the_others():
    """
    Of theirs, those that no token was sent to have none; ours is one tensor. Of weights nothing is made up.
    """
    names = WeightMap([Rule(("e.0", "e.1"), "o", stack=True)])
    assert np.array_equal(names.translate({"e.1": A}, gradients=True)["o"], np.stack([0 * A, A]))
    assert names.translate({"e.1": A}).keys() == {"theirs:e.1"}


def test_modules_are_told_before_they_are_derived():
    """
    Equal last names pair modules, but for parts; what is told goes first, None takes a pair away.
    """
    rules = [Rule(f"{n}.*.weight", f"{n}.*.weight") for n in "abc"]
    rules += [Rule("p.weight", f"q{k}.weight", part=(k, 2)) for k in range(2)]
    names = WeightMap(rules, modules={"b.*": None, "c.*": "other.*", "whole": "all"})
    ours = ["a.0.weight", "b.0.weight", "c.0.weight", "q0.weight", "q1.weight"]
    assert names.modules(ours) == {"a.0": "a.0", "c.0": "other.0", "whole": "all"}


def test_our_names_of_what_decays():
    """
    A matrix that decays does so as its parts; what no rule takes stays visible.
    """
    names = WeightMap(THIRDS, drop={"gone": "unused"})
    assert names.names_from(["a", "gone", "new"]) == ["o.0", "o.1", "o.2", "theirs:new"]
