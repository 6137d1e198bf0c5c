"""An earlier run beside this one: what is worse now, and what is no longer there."""

from __future__ import annotations

from ..record import CELLS, Document, Record, clean, verdict
from .words import number

FIELDS = ("system", "mode", "step", "checkpoint", "dtype")
"""What a result is of; the same in two files are comparable."""


def compared(alignment: Document, baseline: Document | None) -> tuple[list[str], list[str]]:
    """
    Of each result, in what it is worse than in the baseline, or ''; and the names of the results that are gone.
    """
    earlier = {_of(result): result for result in (baseline or {"results": []})["results"]}
    worsened = [worse(result, earlier.get(_of(result))) for result in alignment["results"]]
    gone = earlier.keys() - {_of(result) for result in alignment["results"]}
    return worsened, sorted(" ".join(key) for key in gone)


def _of(result: Record) -> tuple[str, ...]:
    return tuple(result[name] for name in FIELDS)


def worse(result: Record, earlier: Record | None, factor: float = 1.5) -> str:
    """In what a result is worse than an earlier one, or ''. Less than half as much again is rounding's own affair."""
    if earlier is None:
        return ""
    grave = list(CELLS)  # from the gravest
    now, then = verdict(result), verdict(earlier)
    if grave.index(now) < grave.index(then) or (now, then) == ("skipped", "passed"):
        return f"{now}, was {then}"
    row, before = result["tolerance"] or {}, earlier["tolerance"] or {}
    for name in ("atol", "rtol", "ratio"):
        if clean(row.get(name)) is not None and clean(before.get(name)) is not None and row[name] > before[name]:
            return f"{name} {number(row[name])}, was {number(before[name])}"
    if result["headroom"] and earlier["headroom"] is None and now == then == "passed":
        return f"headroom {number(result['headroom'])}, was equal in every bit"
    if result["headroom"] and earlier["headroom"] and result["headroom"] * factor < earlier["headroom"]:
        return f"headroom {number(result['headroom'])}, was {number(earlier['headroom'])}"
    if now == "passed" and result["values"] < earlier["values"]:
        return f"{number(result['values'])} numbers compared, were {number(earlier['values'])}"
    return ""
