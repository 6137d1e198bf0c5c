"""The last full run of the eleven steps, kept in `results/steps.json`, and what is drawn from it.

From the record come the badges (`docs/badges/STEP.svg`), the picture of the report (`docs/report.svg`) and README's
table of evidence.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from splinter.align import badge, report
from splinter.align.record import verdict
from splinter.align.steps import STEPS

from . import findings
from .experiments import EXPERIMENTS, RESULTS
from .tables import ks_distance, worst, zeros

RECORD = RESULTS / "steps.json"
COMMAND = 'pytest tests/alignment/test_steps.py -n 2 -m "not base" --align-json=report/steps.json'
KEPT = ("system", "mode", "step", "checkpoint", "dtype", "reason", "values", "headroom", "seconds")
MAIN = ("splinter", "jointbert", "funnel", "multitask")
"""The systems in the order of README; other ports differ from one of them by a setting or an objective."""

SAME = {
    "forward": "the output of every layer that owns weights, and the logits, for hostile batches too",
    "dev_data": "whole evaluation files, every field of every window",
    "metric": "scores of hostile predictions; answers decoded from the same logits",
    "loss": "loss and gradient of injected logits: clamped, ignored, beyond 64",
    "lr": "the rate of every update, from warm-up to beyond the end",
    "optimizer": "weights and both moments over 1000 updates from injected gradients",
    "regularization": "the set of decayed weights, the decay, the rates and places of dropout",
    "backward": "every gradient, and the weights after 1, 2 and 20 updates",
    "train_data": "whole training files, labels and order included",
    "init": "the laws of newly built models, by Kolmogorov-Smirnov over 20 seeds",
    "training": "a whole small training: curve, answers, scores",
}
"""Step -> what is equal on both sides."""


def kept(path: Path) -> dict[str, Any]:
    """What is kept of a run: of each case its verdict, how many numbers were compared, and the worst error.

    Raises:
        ReportError: no such file, or not one of ours.
        ValueError: the run was interrupted, or has no case of some step.
    """
    document, zero = report.read(path), zeros()
    missing = [step for step in STEPS if not any(one["step"] == step for one in document["results"])]
    if document.get("interrupted") or missing:
        why = "was interrupted" if document.get("interrupted") else f"has no case of {', '.join(missing)}"
        raise ValueError(f"{path} is no full run: it {why}; {COMMAND}")
    results = [
        {**{key: _short(one[key]) for key in KEPT}, "verdict": verdict(one), "error": _error(one, zero)}
        for one in document["results"]
    ]
    environment = {key: document["environment"].get(key) for key in ("date", "python", "machine", "cpus", "versions")}
    return {"schema": 1, "command": COMMAND, "environment": environment, "results": results}


def _error(result: dict, zero: dict) -> list | None:
    """See `tables.worst`."""
    found = worst(result, zero[result["system"]])
    return [_short(one) for one in found] if found else None


def _short(value: Any) -> Any:
    """A float in three digits, all else as it is."""
    return float(f"{value:.2e}") if isinstance(value, float) else value


def dumped(record: dict[str, Any]) -> str:
    """The record as JSON with a line per case, so that two runs can be told apart line by line."""
    head = {key: value for key, value in record.items() if key != "results"}
    lines = ",\n".join(f"  {json.dumps(one)}" for one in record["results"])
    return f'{json.dumps(head, indent=1)[:-2]},\n "results": [\n{lines}\n ]\n}}\n'


def badges(record: dict[str, Any]) -> dict[str, dict]:
    """Step -> the badge of the recorded run, labelled with the step alone."""
    return {step: {**report.badge(record, step), "label": step} for step in STEPS}


def badge_files(record: dict[str, Any]) -> dict[str, str]:
    """File name -> SVG, one for each step."""
    return {f"{step}.svg": badge.draw(one) for step, one in badges(record).items()}


def badge_row(record: dict[str, Any]) -> str:
    """The row of badges in README, each in words as well."""
    return " ".join(f"![{step}: {one['message']}](docs/badges/{step}.svg)" for step, one in badges(record).items())


def evidence_table(record: dict[str, Any], kills: dict[str, Any], results: Path = RESULTS) -> str:
    """README's table: a row per step with the worst error of all systems, and the bugs that the step noticed.

    Args:
        record: see `kept`.
        kills: see `tables.kill_record`.
        results: folder of the recorded experiments.
    """
    rows = [
        "| step | what is the same on both sides | cases | largest error, float64 | float32 | planted bugs noticed |",
        "|---|---|---|---|---|---|",
    ]
    for step in STEPS:
        mine = [one for one in record["results"] if one["step"] == step and one["verdict"] != "skipped"]
        passed = sum(one["verdict"] == "passed" for one in mine)
        planted = [one for one in kills["kills"] if one["expected"] == step]
        noticed = sum(step in one["red"] for one in planted)
        wide, narrow = (
            _largest([one for one in mine if (one["dtype"] == "float32") == rounded]) for rounded in (False, True)
        )
        cells = [step, SAME[step], f"{passed} of {len(mine)}", wide, narrow, f"{noticed} of {len(planted)}"]
        rows.append(f"| {' | '.join(cells)} |")
    values = sum(one["values"] for one in record["results"])
    without = sum(one["reason"].startswith("without") for one in record["results"])
    data = f"{without} cases did without their real files." if without else "The data steps read all their real files."
    return "\n".join([*rows, "", f"{values:,} numbers were compared in this run. {data} {trainings(results)}"])


def _largest(results: list[dict]) -> str:
    """Relative to the largest element of its tensor; `equal` where no bit differs, '' where nothing is of the kind."""
    if not results:
        return ""
    if results[0]["step"] == "init":
        return ks_distance(results)
    errors = [one["error"] for one in results if one["error"]]
    return f"{max(errors)[0]:.1e}" if errors else "equal"


def trainings(results: Path) -> str:
    """What the recorded whole trainings say of the two frameworks, counted by verdict."""
    words = [findings.verdict(one) for name in EXPERIMENTS for one in findings.compared(name, results).values()]
    return (
        f"{len(words)} scores of whole trainings on real data are recorded in both frameworks. With several seeds, "
        f"{words.count('no difference seen')} show no difference, {words.count('inconclusive')} are inconclusive and "
        f"{words.count('different')} are different; {words.count('one run each')} have one run in each framework."
    )


# -- the picture of the report ----------------------------------------------------------------------------

WORDS = {"passed": "ok", "failed": "FAIL", "xfailed": "xfail", "skipped": "skip"}
STYLE = """
text { font: 11px Verdana, DejaVu Sans, sans-serif; fill: #1f2328 } .small { font-size: 9px; fill: #59636e }
.page { fill: #fff; stroke: #d1d9e0 } .passed { fill: #dafbe1 } .failed { fill: #ffcecb } .xfailed { fill: #fff8c5 }
.skipped { fill: #eaeef2 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .small { fill: #9198a1 } .page { fill: #0d1117; stroke:
#3d444d } .passed { fill: #12361f } .failed { fill: #5d1519 } .xfailed { fill: #3d2e00 } .skipped { fill: #262c36 } }
"""
LABEL, ROW, TOP = 150, 34, 66  # pixels


def picture(record: dict[str, Any]) -> str:
    """The matrix of the report as SVG: a row per system and mode, a column per step, verdict and room in each cell."""
    results = record["results"]
    headline = f"{sum(r['verdict'] == 'passed' for r in results)} of {len(results)} cases passed"
    widths = [max(50, 7 * len(step) + 8) for step in STEPS]
    places = [LABEL + sum(widths[:number]) for number in range(len(STEPS))]
    rows = [(name, mode) for name in MAIN for mode in sorted({r["mode"] for r in results if r["system"] == name})]
    width, height = LABEL + sum(widths) + 10, TOP + ROW * len(rows) + 46
    drawn = [
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        _text(12, 24, headline, "style='font-weight: bold'"),
    ]
    drawn += [_text(x + 4, TOP - 12, step) for x, step in zip(places, STEPS, strict=True)]
    for number, (name, mode) in enumerate(rows):
        y = TOP + ROW * number
        drawn.append(_text(12, y + 20, f"{name} {mode}"))
        for x, wide, step in zip(places, widths, STEPS, strict=True):
            cell = [r for r in results if (r["system"], r["mode"], r["step"]) == (name, mode, step)]
            if cell:
                found = next(word for word in ("failed", "xfailed", "passed", "skipped") if word in _verdicts(cell))
                drawn.append(f'<rect class="{found}" x="{x}" y="{y}" width="{wide - 3}" height="{ROW - 3}" rx="3"/>')
                drawn += [_text(x + 5, y + 13, WORDS[found]), _text(x + 5, y + 26, _room(cell), "class='small'")]
    others = [r for r in results if r["system"] not in MAIN]
    names = ", ".join(sorted({r["system"] for r in others}))
    passed = sum(r["verdict"] == "passed" for r in others)
    legend = "12x: the largest error is a twelfth of its limit.   =: equal in every bit."
    drawn.append(_text(12, height - 26, legend, "class='small'"))
    if others:
        told = f"Not shown are ports that differ by a setting: {passed} of {len(others)} passed ({names})."
        drawn.append(_text(12, height - 12, told, "class='small'"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img"><title>{escape(headline)}</title><style>{STYLE}</style>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _verdicts(results: list[dict]) -> set[str]:
    return {one["verdict"] for one in results}


def _room(results: list[dict]) -> str:
    """How many times the largest error fits into its limit, in the worst case of a cell."""
    rooms = [one["headroom"] for one in results if one["headroom"]]
    if not rooms:
        return "=" if any(one["verdict"] == "passed" for one in results) else ""
    least = min(rooms)
    return f"{least:.1f}x" if least < 10 else f"{least:.0f}x" if least < 1e4 else f"{report.number(least)}x"


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}" {more}>{escape(words)}</text>'
