"""One test of a step: its pair, its verdict, and what becomes of both in its record."""

from __future__ import annotations

from typing import Any

import pytest

from .collection import Case
from .compare import EXACT, Alignment, Narrowed, Tolerance
from .explain import Explanation, cause
from .narrow import narrowed
from .port import Pair, edited


def unjudged(
    system: str, mode: str, step: str, checkpoint: str, dtype: str, verdict: str = "skipped", reason: str = ""
) -> dict[str, Any]:
    """The record of a case that nothing was compared for."""
    record = Alignment(system, mode, step, checkpoint, dtype).record(EXACT, verdict, reason)
    return {**record, "tolerance": None}


def made(case: Case, asked: list[str]) -> Pair:
    """
    Both sides of a case; skips with the reason when its checkpoint is not to be had.

    Args:
        asked: checkpoints that --checkpoint names.
    """
    port, checkpoint = case.port, case.checkpoint
    if checkpoint in port.checkpoints:
        if checkpoint != next(iter(port.checkpoints)) and checkpoint not in asked:
            pytest.skip(f"checkpoint {checkpoint!r} takes minutes: run with --checkpoint {checkpoint}")
        folder = port.checkpoints[checkpoint]()
    else:
        try:
            folder = port.fetch(checkpoint)
        except ValueError as error:
            pytest.skip(f"checkpoint {checkpoint!r} is not to be had: {error}")
    pair = Pair(port, case.mode, checkpoint, folder, case.dtype)
    if changed := [source for source in pair.theirs.sources if edited(source)]:
        pytest.fail(f"the reference was edited: {', '.join(changed)} is not as installed; reinstall its package")
    return pair


def judged(
    alignment: Alignment, tolerance: Tolerance, pair: Pair | None, float32: Tolerance | None = None
) -> tuple[dict[str, Any], str]:
    """
    The record of an alignment and why it failed, or ''.

    Args:
        pair: where a failure is to be explained; None: it is not.
        float32: the step's row in float32, for a float64 run with float32 inside; None: it is not looked for.
    """
    alignment.judge(tolerance)
    if not alignment.passed and pair is not None and float32 is not None:
        alignment.judge(tolerance, _narrowed(alignment, pair, float32))
    message = "" if alignment.passed else alignment.message()
    record = alignment.record(tolerance, "passed" if alignment.passed else "failed", message)
    if pair is not None and (found := _explained(alignment, pair, tolerance, float32)):
        message += f"\n  {found.sentence}"
        record |= {"reason": message, "explanation": found.record()}
    return record, message


def _narrowed(alignment: Alignment, pair: Pair, float32: Tolerance) -> Narrowed | None:
    """Where float32 is inside a failed float64 run; whatever goes wrong in looking, the failure itself is told."""
    try:
        return narrowed(pair, alignment.step, float32)
    except Exception as error:
        alignment.notes.append(f"looking for float32 inside ended in {type(error).__name__}: {error}")
        return None


def _explained(alignment: Alignment, pair: Pair, tolerance: Tolerance, float32: Tolerance | None) -> Explanation | None:
    """The explanation of a failed step; whatever goes wrong in it, the failure itself is told."""
    try:
        return cause(alignment, pair, tolerance, float32)
    except Exception as error:
        return Explanation("unknown", "", f"unknown: looking for the cause ended in {type(error).__name__}: {error}")


def after(record: dict[str, Any], report: pytest.TestReport, call: pytest.CallInfo[None]) -> dict[str, Any]:
    """The record of a test after what pytest says of it: a skip, a crash, a known gap, or as it was."""
    if hasattr(report, "wasxfail"):
        return {**record, "verdict": "xfailed" if report.skipped else "failed", "reason": report.wasxfail}
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return {**record, "verdict": "skipped", "reason": reason.removeprefix("Skipped: ")}
    if report.failed and record["verdict"] != "failed":
        # without an exception: a strict xfail that passes
        reason = call.excinfo.exconly() if call.excinfo else str(report.longrepr)
        return {**record, "verdict": "failed", "reason": reason}
    return record
