"""Numbers and sentences of the report."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any

from ..record import Record, clean, verdict

STEPS_SAID = {
    "forward": "the output of every layer, and the logits",
    "dev_data": "whole evaluation files, every field",
    "metric": "scores; answers from the same logits",
    "loss": "loss and gradient of injected logits",
    "lr": "the learning rate of every update",
    "optimizer": "weights and moments, 1000 updates",
    "regularization": "which weights decay, where dropout falls",
    "backward": "every gradient; weights after updates",
    "train_data": "whole training files, labels and order",
    "init": "the laws of freshly drawn weights",
    "training": "a whole few-shot run: curve and answers",
}
"""Of each step, in one line, what is the same on both sides."""


def number(value: Any) -> str:
    """3.1e-06 -> '3.1e-6'; None -> '-'. Three significant digits; nan and infinity stay visible."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    text = f"{value:.3g}".replace("inf", "∞")
    return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), text)


def times(value: float) -> str:
    """A headroom in as few characters as tell its size: '2.3', '120', '5e5'."""
    if value < 1000:
        return number(float(f"{value:.2g}"))
    return re.sub(r"e\+0*", "e", f"{value:.0e}").replace("inf", "∞")


def day(value: Any) -> str:
    """'2026-11-29T21:00:00+00:00' -> '2026-11-29 21:00 UTC'; what is no such date as it is."""
    try:
        return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M %Z}".strip()
    except (TypeError, ValueError):
        return str(value)


def shape(value: Any) -> str:
    """[2, 384] -> '(2, 384)', [5] -> '(5)'; anything else as it is."""
    return f"({', '.join(map(str, value))})" if isinstance(value, (list, tuple)) else number(value)


def applied(result: Record) -> Any:
    """The limit that the worst tensor was held to; None where it is not recorded."""
    worst = result["worst"] or {}
    for tensor in result.get("tensors") or []:
        if tensor.get("name") == worst.get("tensor"):
            return tensor.get("allowed")
    return None


def exact(result: Record) -> bool:
    """Whether the row of the tolerance table asks for equality."""
    tolerance = result["tolerance"] or {}
    return tolerance.get("atol") == 0 and tolerance.get("rtol") == 0


def allowed(result: Record) -> str:
    """What the worst tensor was allowed, in words."""
    limit, tolerance = applied(result), result["tolerance"] or {}
    if limit is not None:
        return number(limit)
    atol, rtol = tolerance.get("atol"), tolerance.get("rtol")
    return f"{number(atol)} + {number(rtol)} x |theirs|" if rtol else number(atol)


def limit_sentence(result: Record) -> str:
    """The limit that was applied, where it comes from and its reason; '' where nothing was judged.

    A step may hold a tensor to a limit of its own (the critical value of a test, say), whatever its row says.
    """
    tolerance = result["tolerance"] or {}
    if not tolerance:
        return ""
    atol, rtol, ratio = (tolerance.get(name) for name in ("atol", "rtol", "ratio"))
    limit = clean(applied(result))
    row = " + ".join([number(atol)] * bool(atol) + [f"{number(rtol)} x the largest of theirs"] * bool(rtol))
    if exact(result):
        said = f"{number(limit)}, the step's own bound for this tensor; without one, equal" if limit else "equal"
    elif limit is None or _follows(limit, result):
        said = f"{number(limit)} = {row}" if limit is not None and (rtol or limit != atol) else row
    else:
        said = f"{number(limit)}, the step's own bound for this tensor; without one, {row}"
    if ratio is not None:
        said += f", and at most {number(ratio)}x the reference's own float64 error"
    why = str(tolerance.get("why") or "").rstrip(".")
    return f"Limit: {said}{'; ' + why if why else ''}."


def _follows(limit: float, result: Record) -> bool:
    """Whether the limit of the worst tensor is what its row gives: atol + rtol x the largest of theirs."""
    worst, tolerance = result["worst"] or {}, result["tolerance"] or {}
    atol, rtol = clean(tolerance.get("atol")) or 0.0, clean(tolerance.get("rtol")) or 0.0
    if not rtol:
        return limit == atol
    seen, relative = clean(worst.get("max_abs")), clean(worst.get("max_rel"))
    if not seen or not relative:
        return limit >= atol
    return math.isclose(limit, atol + rtol * seen / relative, rel_tol=1e-6)


def worst_sentence(result: Record) -> str:
    """'Max abs 3.1e-6 at (0, 17, 402) in encoder.3; 12 ULP; 0.9x ...; allowed 2e-5, headroom 6.4.'"""
    worst, tolerance = result["worst"], result["tolerance"] or {}
    if not worst:
        equal = exact(result) and verdict(result) == "passed"
        return f"All {number(result['values'])} values are equal." if equal else "No worst element recorded."
    largest = worst.get("max_abs")
    if largest == 0 and verdict(result) == "passed" and result["headroom"] is None:
        return f"All {number(result['values'])} values are equal."
    place = f" at {shape(worst['index'])}" if worst.get("index") else ""
    place += f" in {worst['tensor']}" if worst.get("tensor") else ""
    parts = ["equal in every value" if largest == 0 else f"max abs {number(largest)}{place}"]
    if worst.get("max_rel"):
        parts.append(f"max rel {number(worst['max_rel'])}")
    if worst.get("ulp"):
        parts.append(f"{number(worst['ulp'])} ULP")
    if worst.get("referee_ratio") is not None:
        parts.append(f"{number(worst['referee_ratio'])}x the reference's own float64 error")
    if tolerance:
        room = f", headroom {number(result['headroom'])}" if result["headroom"] is not None else ""
        parts.append(f"allowed {allowed(result)}{room}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def divergence(result: Record) -> str:
    """A sentence on the first tensor that failed, in execution order; '' if none did."""
    tensors = result.get("tensors") or []
    for place, tensor in enumerate(tensors, start=1):
        if tensor.get("passed") is False:
            name, size = tensor.get("name"), shape(tensor.get("shape"))
            seen = f"max abs {number(tensor.get('max_abs'))}, allowed {number(tensor.get('allowed'))}"
            found = tensor.get("problem") or seen
            return f"First divergence: {name} {size}, tensor {place} of {len(tensors)}; {found}."
    return ""


def flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested JSON -> [(dotted path, text)] in order; a list of plain values stays one row."""
    if isinstance(value, dict) and value:
        return [row for key, item in value.items() for row in flatten(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return [row for place, item in enumerate(value) for row in flatten(item, f"{path}[{place}]")]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)))]
    return [(path, value if isinstance(value, str) else json.dumps(value))]
