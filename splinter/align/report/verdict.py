"""What a run proves: the badge of each step, and the headline of the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..kill import table as killed_by_step
from ..record import Document, Record, verdict
from ..steps import STEPS

ORDER = ("failed", "passed", "xfailed", "skipped")


def badge(alignment: Document, step: str) -> dict[str, Any]:
    """
    The shields.io endpoint object of one step.

    red: any failed. yellow: any expected failure, or a planted bug that survived. brightgreen: every system and mode
    that has this step passed it at least once. lightgrey: all else, since a skip is no proof, and a run that was
    interrupted none of what it did not come to.

    Raises:
        ValueError: `step` is none of STEPS.
    """
    if step not in STEPS:
        raise ValueError(f"no step {step!r}; the steps are {', '.join(STEPS)}")
    results = [result for result in alignment["results"] if result["step"] == step]
    verdicts = Counter(verdict(result) for result in results)
    systems = {(result["system"], result["mode"]) for result in results}
    proven = {(result["system"], result["mode"]) for result in results if verdict(result) == "passed"}
    if verdicts["failed"]:
        color = "red"
    elif verdicts["xfailed"]:
        color = "yellow"
    else:
        whole = results and proven == systems and not alignment.get("interrupted")
        color = "brightgreen" if whole else "lightgrey"
    message = "skipped" if set(verdicts) == {"skipped"} else counted(verdicts) or "not run"
    message += ", interrupted" if alignment.get("interrupted") else ""
    for row in killed_by_step(alignment.get("kills") or []):
        if row["step"] == step:
            message += f", kills {row['killed']}/{row['planted']}"
            color = "yellow" if color == "brightgreen" and row["killed"] < row["planted"] else color
    return {"schemaVersion": 1, "label": f"align: {step}", "message": message, "color": color}


def counted(verdicts: Mapping[str, int]) -> str:
    """Verdict -> how many, as 'passed 4, skipped 2'; '' for none."""
    return ", ".join(f"{name} {verdicts[name]}" for name in ORDER if verdicts.get(name))


def in_part(result: Record) -> bool:
    """Whether a case passed on less than it asks for: on the shipped samples, without the real files."""
    return verdict(result) == "passed" and bool(result["reason"])


@dataclass(frozen=True)
class Headline:
    """What a whole file says.

    Args:
        state: passed, failed, xfailed or skipped; as good as the worst badge.
        sentence: the state and the counts of what ran.
        skipped: how many cases did not run.
        in_part: how many passed without their real files.
    """

    state: str
    sentence: str
    skipped: int
    in_part: int

    def __str__(self) -> str:
        apart = (f"; {self.in_part} of them without their real files" if self.in_part else "") + (
            f"; skipped {self.skipped}" if self.skipped else ""
        )
        return self.sentence + apart


def headline(alignment: Document) -> Headline:
    """The headline of a file; what was skipped is counted apart."""
    colors = {step: badge(alignment, step)["color"] for step in STEPS}
    verdicts = Counter(verdict(result) for result in alignment["results"])
    skipped = verdicts.pop("skipped", 0)
    state, sentence = _said(colors, verdicts, bool(skipped))
    return Headline(state, sentence, skipped, sum(in_part(result) for result in alignment["results"]))


def _said(colors: Mapping[str, str], verdicts: Mapping[str, int], skips: bool) -> tuple[str, str]:
    """(state, sentence) of the badges' colours and of the counts of what ran."""
    counts = counted(verdicts) or ("nothing ran" if skips else "no results")
    unproven = [step for step in STEPS if colors[step] == "lightgrey"]
    if "red" in colors.values():
        return "failed", f"Not aligned: {counts}"
    if len(unproven) == len(STEPS):
        return "skipped", f"Nothing proven: {counts}"
    if unproven:
        counts += f"; not proven: {', '.join(unproven)}"
    if "yellow" in colors.values():
        what = "known gaps" if verdicts.get("xfailed") else "planted bugs that the step about them did not notice"
        return "xfailed", f"{'Incomplete, with' if unproven else 'Aligned up to'} {what}: {counts}"
    return ("skipped", f"Incomplete: {counts}") if unproven else ("passed", f"Aligned: {counts}")
