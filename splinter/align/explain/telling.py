"""What a recorded failure tells: one line for each, and how the error grew from layer to layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..record import clean, contradiction, verdict
from ..terminal import printable
from .diagnosis import REDUCED


def stored(record: Mapping[str, Any], others: list[Mapping[str, Any]]) -> str:
    """One line on a failed record of alignment.json: what was found at the time, else what the figures tell.

    Args:
        others: all records of the file; the same case in float64 tells meaning from rounding.
    """
    if found := record.get("explanation"):
        return str(found["sentence"])
    bad = next((tensor for tensor in record.get("tensors") or [] if tensor.get("passed") is False), None)
    where = f"{bad.get('name')}, " if bad else ""
    if problem := (bad or {}).get("problem"):
        return f"unknown: {where}{problem}"
    if record["verdict"] == "passed":
        return f"unknown: {where}{contradiction(record)}"
    if record["step"] in ("dev_data", "train_data", "metric"):
        return f"data: {where}where both must be equal"
    if record["dtype"] == "statistics":
        return f"semantic: {where}another law"
    if record["dtype"] == "exact":
        return f"semantic: {where}which nothing rounds"
    if record["dtype"] == "float64":
        return f"semantic: {where}in float64, where rounding is 1e-16"
    case = ("system", "mode", "step", "checkpoint")
    double = [r for r in others if r["dtype"] == "float64" and all(r[key] == record[key] for key in case)]
    if bad and (failed := [r for r in double if r["verdict"] == "failed"]):
        same = [one for r in failed for one in r.get("tensors") or [] if one.get("name") == bad.get("name")]
        if any(one.get("passed") is False for one in same):
            return f"semantic: {where}it fails in float64 as well"
        if not same:
            return f"unknown: {where}which float64 does not have; it fails at another place"
    size = clean(bad.get("max_rel")) if bad else None
    if not double or size is None:
        return f"unknown: {where}and no run in float64 to tell rounding from meaning"
    kind = "rounding" if size < REDUCED * float(np.finfo(np.float32).eps) else "reduced precision"
    return f"{kind}: {where}{size:.1e} relative, and it passes in float64"


SAID = 8
"""Failed tensors that `told` names beside the first."""


def _others(record: Mapping[str, Any]) -> str:
    """'also differ: b, c and 21 more', of the tensors that failed after the first; ''."""
    names = [str(one.get("name")) for one in record.get("tensors") or [] if one.get("passed") is False][1:]
    more = f" and {len(names) - SAID} more" if len(names) > SAID else ""
    return f"also differ: {', '.join(names[:SAID])}{more}" if names else ""


def told(document: Mapping[str, Any]) -> str:
    """Every failure and known gap of an alignment.json: where, which kind, and how the error grew.

    What the file's names hold for a terminal to act on is shown, not acted on.
    """
    lines = []
    for record in document["results"]:
        if verdict(record) not in ("failed", "xfailed"):
            continue
        case = f"{record['step']}/{record['system']} ({record['mode']}, {record['checkpoint']}, {record['dtype']})"
        lines += [f"{case}: {verdict(record)}", f"  {stored(record, document['results'])}"]
        lines += [f"  {line}" for line in (_others(record), *(f"note: {n}" for n in record.get("notes") or [])) if line]
        layers = (record.get("explanation") or {}).get("layers") or []
        if layers:
            lines.append(f"  {'layer':<48} {'propagated':>10} {'given':>10} {'alone':>10}")
        for layer in layers:
            # JSON has no infinity: shapes that do not fit leave no number
            sizes = [clean(layer[k]) for k in ("propagated", "given", "alone")]
            columns = ["-" if size is None else f"{size:.1e}" for size in sizes]
            lines.append(f"  {layer['name']:<48} {' '.join(column.rjust(10) for column in columns)}")
    return "\n".join(printable(line, keep="") for line in lines or ["nothing failed"]) + "\n"
