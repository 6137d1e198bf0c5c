"""The standing check by mutants: what is forked, drawn, loaded, kept and counted. It needs no framework."""

import ast
import importlib
import itertools
import json
import os
import sys
import time
from textwrap import dedent

import pytest
from evidence import forks, mutants, rounds

from splinter.align.report import ReportError, render
from splinter.align.rounds import counted, wilson

CASE, SLOW = (mutants.Case("jointbert", "jointbert", "softmax", step, "exact") for step in ("lr", "metric"))
FILE = "splinter/ports/common/training/schedule.py"


def ran(*bodies):
    """What forks of these functions say, and how each ends."""
    waiting = ((place, lambda body=body: forks.fork(body, limit=20.0)) for place, body in enumerate(bodies))
    return {place: (fork.said, ended) for place, fork, ended in forks.tended(iter(waiting))}


# -- forks ------------------------------------------------------------------------------------------------


def test_a_fork_tells_what_it_does():
    assert ran(lambda say: say({"end": 1}), lambda say: say({"end": 2})) == {
        0: ([{"end": 1}], ""),
        1: ([{"end": 2}], ""),
    }


def test_a_fork_that_ends_otherwise_is_told_apart():
    """One that raises, one that is killed, one that takes longer than it said; none of them ends this process."""

    def raises(say):
        raise ValueError

    def killed(say):
        os.kill(os.getpid(), 9)

    def waits(say):
        say({"start": "a", "limit": 0.2})
        time.sleep(60)

    began = time.monotonic()
    assert ran(raises, killed, waits) == {
        0: ([], "ended with 1"),
        1: ([], "ended with -9"),
        2: ([{"start": "a", "limit": 0.2}], "timeout"),
    }
    assert time.monotonic() - began < 30


def test_what_a_fork_leaves_running_holds_nothing_up():
    """A process of its own that keeps the pipe open is ended with it."""

    def leaves(say):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)

    began = time.monotonic()
    assert ran(leaves) == {0: ([], "")}
    assert time.monotonic() - began < 30


# -- what is drawn ----------------------------------------------------------------------------------------


@pytest.fixture
def ground(monkeypatch):
    """One file, of which one case executes the upper half and a slower one all."""
    monkeypatch.setattr(mutants, "files", lambda: [FILE])
    half = range(1, 61)
    baseline = mutants.Baseline("digest", {SLOW: 2.0, CASE: 1.0}, {})
    baseline.lines = {CASE: {FILE: frozenset(half)}, SLOW: {FILE: frozenset(range(1, 70))}}
    return mutants.Ground(baseline)


def test_files_are_those_of_the_port():
    """Model, data, recipe and the loop; no proof, no twin, no torch."""
    found = mutants.files()
    assert {FILE, "splinter/ports/funnel/model.py", "splinter/ports/splinter/pretraining/spans.py"} <= set(found)
    assert not [path for path in found if "proof" in path or "twin" in path or "torch" in path]


def test_only_what_a_case_executes_is_drawn(ground):
    """What no case executes is counted apart."""
    drawn = list(itertools.islice(ground.drawn(0), 30))
    assert all(one.mutation.line <= 70 for one in drawn)
    assert sum(ground.sites(ground.outside).values()) > 0
    assert len({(one.mutation.path, ast.dump(one.mutation.replacement)) for one in drawn}) == 30


def test_a_seed_gives_the_same_mutants_and_a_larger_count_adds_to_them(ground):
    first, more = ([ground.described(one) for one in itertools.islice(ground.drawn(3), n)] for n in (5, 10))
    assert more[:5] == first
    assert [ground.described(one) for one in itertools.islice(ground.drawn(4), 5)] != first


def test_a_recorded_mutant_is_found_again(ground):
    """By what it changes, wherever its line has moved; not after that has changed."""
    mutant = next(ground.drawn(5))
    record = {**ground.described(mutant), "line": 1}
    assert ground.described(ground.again(record)) == ground.described(mutant)
    assert ground.again({**record, "before": "x = 1"}) is None


def test_cases_are_those_of_the_line_and_the_fastest_comes_first(ground):
    assert ground.baseline.cases(FILE, 10, 10) == [CASE, SLOW]
    assert ground.baseline.cases(FILE, 60, 62) == [CASE, SLOW]
    assert ground.baseline.cases(FILE, 65, 65) == [SLOW]


def test_a_module_is_loaded_from_the_changed_tree(tmp_path, monkeypatch):
    """The file itself stays as it is, whatever was compiled of it before."""
    path = tmp_path / "sample_of_mutants.py"
    path.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module(path.stem).x == 1
    del sys.modules[path.stem]
    monkeypatch.setattr(sys, "meta_path", [mutants.Finder(path.stem, path, ast.parse("x = 2\n")), *sys.meta_path])
    assert importlib.import_module(path.stem).x == 2
    del sys.modules[path.stem]
    assert path.read_text() == "x = 1\n"


def test_cases_are_run_until_one_is_red(ground, monkeypatch):
    """A change that ends the process is red as well."""
    said: list = []
    monkeypatch.setattr(mutants, "red", {CASE: "", SLOW: "first divergence x"}.get)
    mutants.run([CASE, SLOW, CASE], ground.baseline, said.append)
    assert [one for one in said if "end" in one] == [
        {"end": CASE, "red": ""},
        {"end": SLOW, "red": "first divergence x"},
    ]

    def leaves(case):
        raise SystemExit(2)

    monkeypatch.setattr(mutants, "red", leaves)
    said.clear()
    mutants.run([CASE, SLOW], ground.baseline, said.append)
    assert said[-1] == {"end": CASE, "red": "SystemExit: 2"}
    assert said[0]["limit"] == mutants.SLOWER * 1.0 + mutants.GRACE


# -- what is kept -----------------------------------------------------------------------------------------


def test_results_for_other_sources_are_moved_aside(tmp_path):
    """The line that a kill has cut is left out."""
    path = tmp_path / "1.jsonl"
    assert mutants.resumed(path, "abc") == []
    path.write_text('{"digest": "abc", "red": ""}\n{"digest": "abc", "r')
    assert mutants.resumed(path, "abc") == [{"digest": "abc", "red": ""}]
    assert mutants.resumed(path, "def") == []
    assert [one.name for one in tmp_path.iterdir()] == ["1.abc.jsonl"]


def result(line, red=""):
    """Of one mutant."""
    there = {"file": FILE, "line": line, "function": "f", "operator": "number", "before": f"x = {line}", "after": "y"}
    return {**there, "red": red, "said": "", "ran": 3, "cases": 3, "seconds": 60.0}


def survivor(verdict):
    """As the record has it."""
    return {**result(1), "verdict": verdict, "reason": "why"}


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "mutants.json"
    path.write_text(json.dumps({"schema": 1, "environment": {}, "results": [], "mutants": []}))
    return path


def test_a_round_is_kept_and_verdicts_stay(record):
    """A round with the same seed takes its place; a line that has moved is still the same mutant."""
    made = rounds.kept(1, [result(1, "lr"), result(2), result(3)], record)
    assert (made["mutants"][0]["killed"], made["mutants"][0]["seconds"]) == (1, 180)
    assert [one["verdict"] for one in made["mutants"][0]["survivors"]] == ["unread", "unread"]
    made["mutants"][0]["survivors"][0] |= {"verdict": "equivalent", "reason": "why"}
    record.write_text(rounds.dumped(made))
    again = rounds.kept(1, [{**result(2), "line": 8}, result(3, "lr")], record)
    assert len(again["mutants"]) == 1
    assert [(one["line"], one["verdict"]) for one in again["mutants"][0]["survivors"]] == [(8, "equivalent")]
    record.write_text(rounds.dumped(again))
    table = rounds.table(rounds.kept(2, [result(3)], record))
    assert "| 1 | 2 | 1 | 1 | 0 | 0 | 0 | 100.0 % |" in table
    assert f"- {FILE.removeprefix('splinter/ports/')}:3, number: `x = 3` became `y`. **unread**" in table


def test_equivalent_and_outside_ones_do_not_count():
    """Nor does a survivor vanish that nobody has read."""
    verdicts = ["equivalent", "outside", "outside", "miss", "unread"]
    found = counted({"killed": 8, "survivors": [survivor(one) for one in verdicts]})
    assert (found.drawn, found.killed, found.share) == (13, 8, 0.8)
    assert str(found).startswith(
        "8 of 13 killed; of the 10 that are left without 1 equivalent and 2 outside ones, 80.0 %"
    )


def test_the_interval_is_that_of_wilson():
    """Against scipy."""
    stats = pytest.importorskip("scipy.stats")
    for some, total in [(0, 10), (5, 10), (95, 100), (100, 100)]:
        expected = stats.binomtest(some, total).proportion_ci(method="wilson")
        assert wilson(some, total) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_report_shows_rounds_and_refuses_what_is_none():
    document = {"schema": 1, "environment": {}, "results": [], "mutants": []}
    assert 'id="mutants"' not in render(document)
    page = render({**document, "mutants": [{"seed": 7, "killed": 3, "survivors": [survivor("miss")]}]})
    assert "Seed 7: 3 of 4 killed" in page
    assert f"{FILE}:1" in page
    with pytest.raises(ReportError, match=r"survivors\[0\]\.verdict is 'well'"):
        render({**document, "mutants": [{"seed": 7, "killed": 3, "survivors": [survivor("well")]}]})
    with pytest.raises(ReportError, match=r"mutants\[0\]\.killed is -1"):
        render({**document, "mutants": [{"seed": 7, "killed": -1, "survivors": []}]})


# -- lines that no step executes ----------------------------------------------------------------------------


def test_every_unexecuted_function_needs_a_reason(tmp_path):
    """A reason that nothing needs any more is told, too."""
    path = tmp_path / "uncovered.json"
    path.write_text(json.dumps({"a.py": {"f": "input error", "gone": "input error"}, "b.py": {"*": "command line"}}))
    found = {"a.py": {"f": [1], "g": [2], "": [3]}, "b.py": {"h": [1]}}
    assert mutants.reasons(found, path) == (["a.py: g", "a.py: (no function)"], ["a.py: gone"])


def test_what_leads_to_an_error_alone_needs_no_reason():
    source = """
        def f(x):
            if x:
                y = 1
                raise ValueError(y)
            try:
                x()
            except OSError as e:
                raise ValueError from e
            return x
    """
    assert mutants.lines_of_errors(ast.parse(dedent(source))) == {4, 5, 8, 9}


def test_reasons_are_for_functions_that_there_are():
    """Each file and function of the committed list is in the sources, and each reason says something."""
    for file, functions in json.loads(mutants.REASONS.read_text(encoding="utf-8")).items():
        tree = ast.parse((mutants.PROJECT / file).read_text(encoding="utf-8"))
        there = {"*", "", *mutants.names_of_functions(tree).values()}
        assert functions.keys() <= there, file
        assert all(len(reason) > 5 for reason in functions.values())
