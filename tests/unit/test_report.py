"""report.py: what turns green, what may not, and what happens to bad input."""

import copy
import errno
import html
import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splinter.align import explain, report
from splinter.align.badge import draw
from splinter.align.kill import Kill, Strike, table
from splinter.align.report import STEPS, ReportError, chart


def result(verdict="passed", system="splinter", mode="hf", step="forward", **fields):
    plain = {
        "checkpoint": "tiny",
        "dtype": "float32",
        "reason": "",
        "values": 8,
        "worst": None,
        "tolerance": None,
    }
    plain |= {"headroom": None, "seconds": 0.5, "reference": "transformers"}
    return {**plain, "system": system, "mode": mode, "step": step, "verdict": verdict, **fields}


def alignment(*results, **environment):
    return {"schema": 1, "environment": environment, "results": list(results)}


def tensor(name="encoder.0", error=1e-7, passed=True):
    sizes = {
        "max_abs": error,
        "max_rel": error,
        "allowed": 2e-5,
        "theirs_error": error / 2,
        "ours_error": error,
    }
    return {"name": name, "shape": [2, 3], "passed": passed, **sizes}


def saved(folder, content):
    path = folder / "alignment.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
    return path


PASS, FAIL, SKIP, GAP = (result(name) for name in ("passed", "failed", "skipped", "xfailed"))
OTHER_SKIP = result("skipped", system="funnel")


@pytest.mark.parametrize(
    "results, color, message",
    [
        ([PASS, PASS], "brightgreen", "passed 2"),
        ([PASS, FAIL, SKIP, GAP], "red", "failed 1, passed 1, xfailed 1, skipped 1"),
        ([PASS, GAP, GAP], "yellow", "passed 1, xfailed 2"),
        ([PASS, SKIP], "brightgreen", "passed 1, skipped 1"),
        ([PASS, OTHER_SKIP], "lightgrey", "passed 1, skipped 1"),
        ([PASS, result("skipped", mode="paper")], "lightgrey", "passed 1, skipped 1"),
        ([SKIP, OTHER_SKIP], "lightgrey", "skipped"),
        ([], "lightgrey", "not run"),
        ([result(step="loss")], "lightgrey", "not run"),
        ([result(values=0)], "red", "failed 1"),  # compared nothing
        ([result(tensors=[tensor(), tensor(passed=False)])], "red", "failed 1"),  # contradicts itself
    ],
)
def test_badge(results, color, message):
    """
    A badge is green only when every system and mode of its step is proven, and says what else there was.
    """
    expected = {"schemaVersion": 1, "label": "align: forward", "message": message, "color": color}
    assert report.badge(alignment(*results), "forward") == expected


def test_badge_of_no_step():
    """
    A misspelt step is an error, not a grey badge.
    """
    with pytest.raises(ValueError, match="foward"):
        report.badge(alignment(), "foward")


@pytest.mark.parametrize(
    "results, state",
    [
        ([result(step=step) for step in STEPS], "passed"),
        ([result(step=step) for step in STEPS[:-1]], "skipped"),
        ([result(step=step) for step in STEPS[:-1]] + [result("skipped", step="training")], "skipped"),
        ([result(step=step) for step in STEPS] + [GAP], "xfailed"),
        ([result(step=step) for step in STEPS] + [GAP, FAIL], "failed"),
        ([], "skipped"),
    ],
)
def test_headline(results, state):
    """
    The headline is as good as the worst badge.
    """
    assert f'<h1 class="{state}">' in report.render(alignment(*results))


def test_a_skip_is_never_green():
    """
    Nothing in a page of skips carries the class of a pass, outside the legend.
    """
    page = report.render(alignment(*(result("skipped", step=step, reason="no GPU") for step in STEPS)))
    body = page[page.index('<table class="matrix"') : page.index('<h2 id="words">')]
    assert "passed" not in body
    assert body.count('class="cell skipped"') == len(STEPS)


def cells(page):
    """What the cells of the matrix say, by anchor."""
    tags = "<span class=.unseen.>.*?</span>|<[^>]+>"
    found = re.findall(r'<td id="(cell-[^"]+)"[^>]*>(.*?)</td>', page, re.S)
    return {name: " ".join(re.sub(tags, " ", text).split()) for name, text in found}


def test_a_cell_is_all_cases_of_a_step():
    """
    The gravest verdict and the least headroom of what ran; what was skipped is a cell of its own beside it.
    """
    page = report.render(
        alignment(
            result(dtype="float32", headroom=2.34),
            result(dtype="float64", headroom=12345.0),
            result("skipped", checkpoint="base"),
            result("skipped", checkpoint="base", dtype="float64"),
            result(step="lr"),
            result("skipped", step="metric"),
            result("failed", step="loss", dtype="float32", headroom=0.02),
            result(step="loss", dtype="float64", headroom=3.0),
        )
    )
    assert cells(page) == {
        "cell-splinter-hf-forward": "ok 2.3× skip 2",
        "cell-splinter-hf-metric": "skip",
        "cell-splinter-hf-loss": "FAIL 50× over",
        "cell-splinter-hf-lr": "ok =",
    }
    assert page.count("<article") == 4


def test_skips_are_counted_apart():
    """
    The headline counts what ran, and beside it what did not; so do the terminal's lines.
    """
    document = alignment(*(result(step=step) for step in STEPS), SKIP, OTHER_SKIP, result("skipped", step="lr"))
    headline = report.headline(document)
    assert (headline.sentence, headline.skipped) == ("Incomplete: passed 11; not proven: forward", 3)
    assert '<span class="tag skipped">skipped 3</span>' in report.render(document)
    assert report.matrix(document).splitlines()[-1] == "Incomplete: passed 11; not proven: forward; skipped 3"


def test_without_the_real_files():
    """
    A data step that passed on the samples alone has a look of its own, in matrix, card and headline.
    """
    missing = result(step="dev_data", reason="without atis/dev: in no data folder")
    page = report.render(alignment(missing, result(step="train_data")))
    body = page[page.index('<table class="matrix"') : page.index('<h2 id="words">')]
    assert body.count('class="cell passed part"') == body.count('class="cell passed"') == 1
    assert "<strong>In part:</strong> without atis/dev: in no data folder" in body
    assert "1 without their real files" in page


def test_ports_that_differ_by_a_setting_are_folded():
    """
    `funnel-factorized` lies below `funnel`, open where it has failed; alone it is a row as any other.
    """
    folded, plain = result(system="funnel-factorized"), result(system="funnel")
    page = report.render(alignment(plain, folded))
    main, fold = page[page.index('<table class="matrix"') :].split('<details class="fold">')
    assert 'id="cell-funnel-hf-forward"' in main and 'id="cell-funnel-factorized-hf-forward"' in fold
    assert 'class="fold"' not in report.render(alignment(folded))
    assert '<details class="fold" open>' in report.render(alignment(plain, {**folded, "verdict": "failed"}))


def test_anchors_are_names():
    """
    Whatever a system is called, its anchors are unique, and plain enough to be typed.
    """
    names = ("Größe 1", "größe-1", "", "matrix", "<b>")
    page = report.render(alignment(*(result(system=name, mode="") for name in names)))
    found = re.findall(r'<article id="([^"]+)"', page)
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_.-]+", name) for name in found)


EXACTLY = {"atol": 0.0, "rtol": 0.0, "ratio": None, "why": "ids"}
OWN = "the step's own bound for this tensor; without one,"


@pytest.mark.parametrize(
    ("tolerance", "limit", "seen", "said"),
    [
        ({}, 0.0, 0.0, "equal; ids."),
        ({}, 0.008, 0.002, f"0.008, {OWN} equal; ids."),
        ({"atol": 2e-5}, 2e-5, 1e-6, "2e-5; ids."),
        ({"atol": 2e-5}, 0.3, 0.1, f"0.3, {OWN} 2e-5; ids."),
        ({"rtol": 1e-5}, 2e-5, 1e-6, "2e-5 = 1e-5 x the largest of theirs; ids."),
        ({"rtol": 1e-5}, 0.4, 1e-6, f"0.4, {OWN} 1e-5 x the largest of theirs; ids."),
        ({"atol": 1e-6, "rtol": 1e-5}, 2.1e-5, 1e-6, "2.1e-5 = 1e-6 + 1e-5 x the largest of theirs; ids."),
        ({"atol": 2e-5, "ratio": 9.0}, 2e-5, 1e-6, "2e-5, and at most 9x the reference's own float64 error; ids."),
    ],
)
def test_a_card_says_which_limit_was_applied(tolerance, limit, seen, said):
    """
    Where a step judges by a bound of its own, that bound is the limit, not the row of the table.
    """
    largest = 2.0
    worst = {"tensor": "a", "index": [], "max_abs": seen, "max_rel": seen / largest, "ulp": None}
    tensors = [{**tensor("a", seen), "allowed": limit}]
    found = result(worst=worst, tolerance={**EXACTLY, **tolerance}, tensors=tensors, headroom=4.0)
    assert f">Limit: {said}<" in html.unescape(report.render(alignment(found)))


def test_a_value_is_missing_only_where_it_was_nan():
    """
    A tensor that the referee does not judge lacks nothing, an error beyond all pages is a number; None in a curve was
    NaN.
    """
    unjudged = {**tensor("a"), "theirs_error": None, "ours_error": None}
    huge = {**tensor("b"), "theirs_error": 1.7e308, "ours_error": 1.7e308}
    page = report.render(alignment(result(tensors=[tensor("c"), unjudged, tensor("d"), huge])))
    assert "without a finite value" not in page
    assert page.count("1 beyond 1e300 and not drawn") == 2
    page = report.render(alignment(result(curves={"loss": {"theirs": [1.0, 2.0], "ours": [1.0, None]}})))
    assert page.count("ours, 1 without a finite value") == page.count("without a finite value") == 1
    nan = {**tensor("a", passed=False), "problem": "ours holds nan at (0, 1)"}
    page = report.render(alignment(result("failed", tensors=[tensor("b"), nan])))
    assert "1 with NaN or infinity" in page
    assert "First divergence: a (2, 3), tensor 2 of 2; ours holds nan at (0, 1)." in page


def test_everything_is_escaped():
    """
    Text from the file stays text wherever it lands.
    """
    evil = '<script>alert("x")</script>'
    strings = {
        "system": evil,
        "mode": evil,
        "checkpoint": evil,
        "dtype": evil,
        "reason": evil,
        "reference": evil,
    }
    worst = {
        "tensor": evil,
        "index": [evil],
        "max_abs": evil,
        "max_rel": evil,
        "ulp": evil,
        "referee_ratio": evil,
    }
    tolerance = {"atol": evil, "rtol": evil, "ratio": evil, "why": evil}
    curves = {evil: {"theirs": [1.0, 2.0], "ours": [1.0, None]}}
    tensors = [tensor(evil, passed=False)]
    nasty = result("failed", worst=worst, tolerance=tolerance, tensors=tensors, curves=curves) | strings
    page = report.render(alignment(nasty, **{evil: evil, "date": evil}))
    assert page.count("<script") == 1  # the page's own, which its policy names by its hash
    assert "&lt;script&gt;" in page


def test_worst_sentence():
    """
    The worst element is told in one sentence: size, place, ULP, ratio, allowance, headroom.
    """
    worst = {"tensor": "encoder.3", "index": [0, 17], "max_abs": 3.1e-6, "max_rel": None, "ulp": 5211}
    tolerance = {"atol": 2e-5, "rtol": 0.0, "ratio": None, "why": "12 layers"}
    page = report.render(alignment(result(worst=worst | {"referee_ratio": 0.9}, tolerance=tolerance, headroom=6.4)))
    assert "Max abs 3.1e-6 at (0, 17) in encoder.3; 5,211 ULP; 0.9x the reference" in page
    assert "own float64 error; allowed 2e-5, headroom 6.4." in page


def test_first_divergence():
    """
    The first failed tensor in execution order is named, not the worst one.
    """
    tensors = [tensor("a"), tensor("b", 1e-3, passed=False), tensor("c", 9.0, passed=False)]
    page = report.render(alignment(result("failed", tensors=tensors)))
    assert "First divergence: b (2, 3), tensor 2 of 3; max abs 0.001, allowed 2e-5." in page


@pytest.mark.parametrize(
    "value, text",
    [(3.1e-6, "3.1e-6"), (1e-10, "1e-10"), (2e10, "2e10"), (0.0, "0"), (5211.0, "5,211"), (None, "-")]
    + [(float("nan"), "nan"), (float("inf"), "∞"), (12, "12")],
)
def test_number(value, text):
    """
    Numbers are short, and nan and infinity are not hidden.
    """
    assert report.number(value) == text


def test_plot_places_known_values():
    """
    On a log axis a factor of ten is one step up the page, 0 lies at the bottom, nan opens a gap.
    """
    drawing = chart.plot({"ours": [1e-8, 1e-7, 1e-6, 0.0, float("nan")]}, log=True)
    heights = [float(spot.split()[1]) for spot in re.findall(r"[ML]([\d.]+ [\d.]+)", drawing.lines[0].path)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert heights[3] == chart.HEIGHT - chart.BOTTOM
    assert drawing.lines[0].gaps == 1
    assert drawing.y[0] == (f"{heights[3]:.1f}", "0")


def test_plot_of_nothing():
    """
    Without a positive finite error there is no plot; a constant or single value still has an axis.
    """
    assert chart.plot({"ours": [None, float("nan"), 0.0]}, log=True) is None
    assert chart.plot({}, log=True) is None
    assert len(chart.plot({"ours": [5.0]}, log=False).y) >= 2
    assert len(chart.plot({"ours": [1e-6]}, log=True).y) >= 2


def test_thinning_keeps_the_peak():
    """
    One spike in 100,000 values survives the thinning.
    """
    points = chart.thin([0.0] * 70_000 + [1.0] + [0.0] * 29_999)
    assert (70_000, 1.0) in points
    assert len(points) <= 1200


def test_every_failed_tensor_and_every_note_is_shown():
    """
    However many failed; of those that passed up to a hundred in all.
    """
    tensors = [tensor(f"layer.{place}", passed=place >= 150) for place in range(300)]
    page = report.render(alignment(result("failed", tensors=tensors, notes=["float32 inside, in theirs: <norm>"])))
    assert page.count('<tr class="bad">') == 150
    assert "150 more have a smaller relative difference" in page
    assert "float32 inside, in theirs: &lt;norm&gt;" in page


@pytest.mark.parametrize("odd", [None, [], "a seed", {"toy": None}, {"toy": "a seed"}, {}])
def test_what_both_sides_share(odd):
    """
    A phrase once, with the systems that say so, before the details; a record without any has no such section.
    """
    told = {"toy": ["a <seed>", "AdamW"], "other": ["a <seed>"]}
    page = report.render(alignment(PASS, shared=told))
    assert "<li>a &lt;seed&gt; <span" in page and "(toy, other)" in page and "(toy)" in page
    assert page.index('id="matrix"') < page.index('id="shared"') < page.index('id="details"')
    assert "shared.toy" not in page  # not in the table of versions once more
    assert 'id="shared"' not in report.render(alignment(PASS, shared=odd))


def test_big_page():
    """
    Of 3,000 tensors the hundred widest are shown, 100,000 training steps are thinned: a page below 5 MB, nothing from
    outside.
    """
    tensors = [tensor(f"encoder.{place}.attention.output", 1e-9 * (place + 1)) for place in range(3000)]
    curves = {"loss": {"theirs": [1.0 / (i + 1) for i in range(100_000)], "ours": [0.5] * 100_000}}
    page = report.render(alignment(result(tensors=tensors, curves=curves), source="https://example.org/x"))
    assert page.count("<tr><td>") == 100
    assert "2900 more have a smaller relative difference" in page
    assert "encoder.2999.attention.output" in page
    assert len(page.encode()) < 5e6
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|url\(|@import""", page)


def test_links_lead_somewhere():
    """
    Every link on the page has its target, and every id is unique.
    """
    page = report.render(alignment(*(result(step=step) for step in STEPS), FAIL, SKIP))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


@pytest.mark.parametrize("verdict, word", report.CELLS.items())
def test_matrix(verdict, word):
    """
    The text matrix says one word a step, '-' where nothing ran, and fits in 100 columns even with long names.
    """
    full = [result(verdict, step=step) for step in STEPS]
    text = report.matrix(alignment(*full, result(verdict, system="a-system-with-a-long-name " * 9)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[1].split() == ["splinter", "hf"] + [word] * 11
    assert lines[3].split() == [word] + ["-"] * 10


def test_matrix_shows_the_gravest():
    """
    One failure among passes and skips is what the cell shows.
    """
    assert "FAIL" in report.matrix(alignment(PASS, SKIP, GAP, FAIL)).splitlines()[1]
    assert "ok" not in report.matrix(alignment(PASS, GAP)).splitlines()[1]


def test_write(tmp_path):
    """
    One page, eleven badges, no temporary file; a second run replaces the first.
    """
    source, badges = saved(tmp_path, alignment(PASS)), tmp_path / "out" / "badges"
    assert report.write(source, tmp_path / "out", badges) == tmp_path / "out" / "index.html"
    report.write(saved(tmp_path, alignment(FAIL)), tmp_path / "out", badges)
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {"index.html"} | {f"badges/{step}.{kind}" for step in STEPS for kind in ("json", "svg")}
    assert json.loads((badges / "forward.json").read_text())["color"] == "red"


def test_write_cleans_up_when_interrupted(tmp_path, monkeypatch):
    """
    If the rename fails the old page stands and nothing lies beside it.
    """
    source = saved(tmp_path, alignment(PASS))
    page = report.write(source, tmp_path / "out")
    before = page.read_bytes()

    def broken(*paths):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        report.write(saved(tmp_path, alignment(FAIL)), tmp_path / "out")
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    assert page.read_bytes() == before


LATER = alignment(PASS, {**PASS, "step": "foward"}, date="x")


@pytest.mark.parametrize(
    "content, line, words",
    [
        ('{"schema": 1,\n "results": [}', 2, "not JSON"),
        ("", 1, "not JSON"),
        ("[]", 1, "top level"),
        ('{\n\n"environment": {"schema": 1},\n"schema": 2, "results": []}', 4, "schema is 2"),
        ('\n{"environment": {}}', 2, "schema is None"),
        (
            LATER,
            json.dumps(LATER, indent=1).splitlines().index('   "step": "foward",') + 1,
            "'foward', not one of",
        ),
        (alignment({"system": "splinter"}), 5, "lacks 'mode'"),
        (alignment({**PASS, "tensors": [1]}), 19, "tensors must be a list of objects"),
        (alignment({**PASS, "notes": [1]}), 19, "notes must be a list of sentences"),
        (
            alignment({**PASS, "explanation": {"sentence": "x", "layers": [{"name": "a"}]}}),
            22,
            "results[0].explanation.layers[0] lacks 'propagated'",
        ),
    ],
)
def test_bad_input(tmp_path, capsys, content, line, words):
    """
    Broken input names the file, the line and the fault; nothing is written, and the command exits with 2.
    """
    source = saved(tmp_path, content)
    with pytest.raises(ReportError) as caught:
        report.write(source, tmp_path / "out", tmp_path / "badges")
    assert str(caught.value).startswith(f"{source}, line {line}: ")
    assert words in str(caught.value)
    assert report.main([str(source), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"report: {caught.value}\n"
    assert sorted(tmp_path.iterdir()) == [source]


def test_main(tmp_path, capsys):
    """
    The command prints the matrix and where the page is; a missing file is one clear line.
    """
    source, out, badges = saved(tmp_path, alignment(PASS)), tmp_path / "out", tmp_path / "badges"
    assert report.main([str(source), "--out", str(out), "--badges", str(badges)]) == 0
    assert "splinter hf" in capsys.readouterr().out
    assert len(list(badges.glob("*.json"))) == len(list(badges.glob("*.svg"))) == 11
    assert report.main([str(tmp_path / "missing.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- an earlier run ---------------------------------------------------------------------------------------


def test_what_is_worse_is_marked():
    """
    A graver verdict, less than two thirds of the headroom, fewer numbers, in the order of the steps; what is new or
    better is not.
    """
    then = alignment(
        result(step="forward", headroom=10.0),
        result(step="loss", headroom=10.0),
        result(step="lr"),
        result(step="metric", values=9),
        result("failed", step="init"),
        result(step="backward", headroom=4.0),
    )
    now = alignment(
        result(step="forward", headroom=5.0),
        result(step="loss", headroom=9.0),
        result("skipped", step="lr"),
        result(step="metric", values=8),
        result(step="init"),
        result("failed", step="backward"),
        result(step="training"),
    )
    page = report.render(now, then)
    listed = page[page.index('id="worse"') : page.index('id="details"')]
    assert re.findall(r">(\w+)/splinter[^<]*</a>: ([^<]*)<", listed) == [
        ("forward", "headroom 5, was 10"),
        ("metric", "8 numbers compared, were 9"),
        ("lr", "skipped, was passed"),
        ("backward", "failed, was passed"),
    ]
    assert "Worse than before" not in report.render(now)
    assert "<p>Nothing.</p>" in report.render(now, now)


@pytest.mark.parametrize("width", [100, 80, 60])
def test_the_matrix_fits_the_terminal(width):
    """
    Where the names of the steps do not fit, numbers stand for them, with a key.
    """
    text = report.matrix(alignment(*(result(step=step, system="a" * 70) for step in STEPS)), width)
    assert max(map(len, text.splitlines())) <= max(width, 81)
    assert ("10 init" in text) == (width < 100)


# -- planted bugs -----------------------------------------------------------------------------------------


def struck(bug, expected, *strikes, **more):
    """A record of the kill matrix; strikes are (step, margin), red."""
    found = [Strike("forward", False), *(Strike(step, True, "a", margin) for step, margin in strikes)]
    return json.loads(json.dumps(Kill(bug, "splinter", "hf", "float64", expected, "mutant", (), tuple(found)).record()))


KILLS = [
    struck("a", "loss", ("loss", 20.0), ("backward", 5.0)),
    struck("b", "loss", ("loss", 3.0)),
    struck("c", "backward", ("loss", 2.0), ("backward", 4.0)),
    struck("d", "loss", ("training", 2.0)),
    struck("e", "loss", ("metric", None)),
    struck("f", "loss"),
    struck("g", "training", ("training", 2.0)),
]


def test_verdicts_on_planted_bugs():
    """
    Killed first, after another step, by the training alone, elsewhere, or not at all.
    """
    assert [kill["verdict"] for kill in KILLS] == [
        "first", "first", "late", "training", "elsewhere", "survived", "first",
    ]  # fmt: skip
    loss, backward, training = table(KILLS)
    assert loss == {"step": "loss", "planted": 5, "killed": 2, "first": 2, "margin": 3.0, "narrowest": "b"}
    assert (backward["killed"], backward["first"], training["first"]) == (1, 0, 1)


def test_a_survivor_is_seen_in_terminal_page_and_badge():
    """
    Who survived stands by name, and the badge of its step is green no more.
    """
    text = report.kill_table(
        KILLS, [{"what": "x", "step": "loss", "system": "s", "dtype": "float64", "smallest": 1e-9}]
    )
    assert "6 of 7 killed, 3 by the step that is about them" in text
    assert "survived: splinter: f" in text
    assert max(map(len, text.splitlines())) <= 100
    document = {**alignment(*(result(step=step) for step in STEPS)), "kills": KILLS, "floors": []}
    made = report.badge(document, "loss")
    assert (made["message"], made["color"]) == ("passed 1, kills 2/5", "yellow")
    assert report.badge(document, "training")["color"] == "brightgreen"
    page = report.render(document)
    assert "6 of 7 planted bugs were killed" in page
    assert page.count('class="expected"') == len(KILLS)


def test_kills_come_from_a_file_of_their_own(tmp_path):
    """
    A report takes them along; one that is no kill matrix is refused with its place.
    """
    saved(tmp_path, alignment(PASS))
    (tmp_path / "kill.json").write_text(json.dumps({**alignment(), "kills": KILLS, "floors": []}), encoding="utf-8")
    page = report.write(tmp_path / "alignment.json", tmp_path / "out", tmp_path / "badges", tmp_path / "kill.json")
    assert 'id="kills"' in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "badges" / "loss.json").read_text())["message"] == "not run, kills 2/5"
    ElementTree.parse(tmp_path / "badges" / "loss.svg")
    struck = {**KILLS[0], "strikes": [{**KILLS[0]["strikes"][0], "margin": "3"}]}
    for broken, words in [
        ({"bug": 3}, r"kills\[0\]\.bug is of the wrong type: 3"),
        (3, r"kills\[0\] must be an object"),
        ({**KILLS[0], "expected": "foward"}, r"kills\[0\]\.expected is 'foward', not one of forward"),
        ({**KILLS[0], "strikes": [{}]}, r"kills\[0\]\.strikes\[0\] lacks 'step'"),
        (struck, r"kills\[0\]\.strikes\[0\]\.margin is of the wrong type: '3'"),
    ]:
        (tmp_path / "kill.json").write_text(json.dumps({**alignment(), "kills": [broken]}), encoding="utf-8")
        with pytest.raises(ReportError, match=words):
            report.write(tmp_path / "alignment.json", tmp_path / "out", None, tmp_path / "kill.json")


def test_a_drawn_badge_is_escaped():
    """
    Whatever stands in it, it is an SVG that says the same.
    """
    drawn = draw({"label": "align: <b>", "message": '"&', "color": "red"})
    assert ElementTree.fromstring(drawn).get("aria-label") == 'align: <b>: "&'


# -- JSON from anywhere -----------------------------------------------------------------------------------

LAYERS = [{"name": "a", "propagated": 1e-3, "given": None, "alone": 2e-3}]
WORST = {"tensor": "encoder.0", "index": [0, 1], "max_abs": 1e-6, "max_rel": 1e-6, "ulp": 3, "referee_ratio": 0.9}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5, "ratio": 2.0, "why": "x"}
SURVIVOR = {
    **dict.fromkeys(("file", "function", "operator", "before", "after", "reason"), "x"),
    **{"line": 3, "verdict": "miss"},
}
EVERYTHING = {
    **alignment(
        result(
            "failed",
            tensors=[tensor(), tensor(passed=False)],
            worst=WORST,
            tolerance=TOLERANCE,
            headroom=3.0,
            curves={"loss": {"theirs": [1.0, 2.0, 0.5], "ours": [1.0, 2.0, 0.5]}},
            explanation={"sentence": "semantic: x", "layers": LAYERS},
        ),
        result("failed", step="loss", tensors=[tensor(passed=False)]),
        result("passed", step="loss", dtype="float64", headroom=1.0),
        date="2026",
        versions={"torch": "2"},
    ),
    "kills": KILLS[:2],
    "floors": [{"what": "x", "step": "loss", "system": "s", "dtype": "float64", "smallest": 1e-9}],
    "mutants": [{"seed": 1, "killed": 9, "survivors": [SURVIVOR]}],
}
HUGE = "1" + "0" * 400
HOSTILE = [
    *("null", "true", "0", "-1", "5e-324", "1.7e308", "-1.7e308", "1e400", "NaN", "-Infinity", HUGE, "1" + "0" * 5000),
    *("[]", "{}", "[1]", "[{}]", '""', r'"\ud800"', r'"\u001b[31m\u009b1m\u202e\n"', '"' + "y" * 5000 + '"'),
    *("[" * 98 + "]" * 98, "[" * 200 + "]" * 200, "[" * 5000 + "]" * 5000, '{"a":' * 99 + "1" + "}" * 99),
    *("[5e-324, 1.7e308, -1.7e308, null]", f"[5e-324, {HUGE}, 5e-324]", "[0.1, 0.10000000000000002]"),
    '{"theirs": [1e308, -1e308], "ours": [5e-324, 1e400]}',
]


def places(value, path=()):
    """The path of everything in a document but itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def replaced(path, text):
    """EVERYTHING with the text put in one place, as JSON."""
    document = copy.deepcopy(EVERYTHING)
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = "@"
    return json.dumps(document, indent=1).replace('"@"', text)


def shown(folder, text):
    """Read it and show it in every way there is, or tell the error."""
    try:
        document = report.read(saved(folder, text))
    except ReportError as error:
        return str(error), ""
    page = report.render(document, document)
    terminal = explain.told(document) + report.matrix(document) + report.kill_table(KILLS, document["floors"] or [])
    return terminal, page


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(places(EVERYTHING))), st.sampled_from(HOSTILE))
def test_hostile_json_is_shown_or_refused(tmp_path, path, text):
    """
    Anything in any place: one short line, or a page with coordinates that are numbers; no control reaches a terminal.
    """
    terminal, page = shown(tmp_path, replaced(path, text))
    assert page or (terminal.count("\n") == 0 and len(terminal) < 600)
    assert not {"\x1b", "\x9b", "\u202e"} & set(terminal)
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', page)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (("results", 0, "explanation", "layers", 0, "alone"), HUGE, "  a  "),
        (("results", 0, "curves", "loss", "ours"), "[5e-324, 1.7e308, -1.7e308]", "semantic: x"),
        (("results", 0, "curves", "loss", "ours"), "[5e-324, 5e-324]", "semantic: x"),
        (("results", 0, "headroom"), HUGE, "semantic: x"),
        (("results", 0, "seconds"), HUGE, "semantic: x"),
        (("results", 1, "tensors", 0, "max_rel"), '"wide"', "unknown: encoder.0, and no run in float64"),
        (("results", 1, "tensors", 0, "name"), "[[]]", "[[]]"),
        (("results", 0, "system"), r'"a\ud800\u001b"', r"a\ud800\x1b"),
        (("results", 0, "values"), HUGE, "line 14: results[0].values is of the wrong type: inf"),
        (("environment", "versions"), "[" * 200 + "]" * 200, "line 1: lists and objects are nested more than 100 deep"),
        (("environment", "versions"), "[" * 5000 + "]" * 5000, "JSON that cannot be read: maximum recursion depth"),
        (("schema",), "true", "line 2: schema is True, this report reads schema 1"),
        (("results", 0, "step"), '"' + "y" * 5000 + '"', "results[0].step is 'yyyyyyyyyyyy...yyyyyyyyyyyyy', not one"),
    ],
)
def test_what_becomes_of_hostile_json(tmp_path, path, text, said):
    """
    The number is shown, or the line says which one cannot be meant.
    """
    terminal, page = shown(tmp_path, replaced(path, text))
    assert said in terminal + page


def test_of_equal_keys_the_last_one_counts(tmp_path):
    """
    As json takes it: the line is that of the value which was looked at.
    """
    text = '{"schema": 1, "environment": {}, "results": 3,\n"results": [\n{}]}'
    assert shown(tmp_path, text)[0].endswith("line 3: results[0] lacks 'system'")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_no_record(tmp_path):
    """
    Nothing waits for what is no regular file.
    """
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ReportError, match=r"pipe\.json: cannot be read: it is no regular file"):
        report.read(tmp_path / "pipe.json")


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
@pytest.mark.parametrize("command", [["splinter.align.report"], ["splinter", "explain"]], ids=["report", "explain"])
def test_an_ascii_terminal(tmp_path, setting, command):
    """
    Names of any script, and halves of a pair, end in no traceback.
    """
    path = saved(tmp_path, alignment(result("failed", system="größe 東京 \ud800")))
    done = subprocess.run(
        [sys.executable, "-m", *command, str(path)], cwd=tmp_path, env={**os.environ, **setting}, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\ud800" in done.stdout


def test_an_error_is_short_and_shows_controls(tmp_path, capsys):
    """
    A name of a thousand characters and an escape: the end of the line, which tells what is wrong, is kept.
    """
    path = saved(tmp_path, alignment({**PASS, "curves": {"\x1b" + "y" * 1000: {"theirs": 3}}}))
    assert report.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert len(error) < 320 and error.endswith("must hold lists\n")
    assert "\x1b" not in error
