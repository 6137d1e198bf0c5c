"""alignment.json read and checked: what `--align-json` wrote, before anybody believes it.

The file may come from anywhere: what is read here has the fields, the types and the depth that the report and `explain`
count on, or is refused with its line.
"""

from __future__ import annotations

import errno
import json
import re
import reprlib
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from .kill import VERDICTS
from .rounds import VERDICTS as JUDGED
from .steps import STEPS

Record = Mapping[str, Any]
"""One result, as alignment.json has it; `check` says of which fields."""
Document = dict[str, Any]
"""The whole of alignment.json."""
Where = tuple[str | int, ...]
"""The keys that lead to a place in it."""

SCHEMA = 1
DEPTH = 100
"""How deeply lists and objects may be nested; what the suite writes has 8 levels."""
DIGITS = 18
"""Integers up to so many digits stay integers: what Python counts beyond is no float, and no number of anything."""
# verdict -> its word in a matrix cell; from the gravest to the mildest, so that a mixed cell shows the first it holds
CELLS = {"failed": "FAIL", "xfailed": "xfail", "passed": "ok", "skipped": "skip"}
FIELDS: dict[str, Any] = {
    "system": str,
    "mode": str,
    "step": str,
    "checkpoint": str,
    "dtype": str,
    "verdict": str,
    "reason": str,
    "values": int,
    "worst": (dict, type(None)),
    "tolerance": (dict, type(None)),
    "headroom": (int, float, type(None)),
    "seconds": (int, float),
    "reference": str,
}
OPTIONAL = {"tensors": list, "curves": dict}
NUMBER = (int, float, type(None))
EVIDENCE: dict[str, dict[str, Any]] = {
    "kills": {"bug": str, "system": str, "expected": str, "verdict": str, "red": list, "strikes": list},
    "floors": {"what": str, "step": str, "system": str, "dtype": str, "smallest": (int, float)},
    "mutants": {"seed": int, "killed": int, "survivors": list},
}
"""What a run with --kill-matrix leaves beside the results, and rounds of mutants (rounds.py)."""
SURVIVOR: dict[str, Any] = {
    **dict.fromkeys(("file", "function", "operator", "before", "after", "verdict", "reason"), str),
    "line": int,
}
STRIKE: dict[str, Any] = {"step": str, "red": bool, "tensor": str, "margin": NUMBER, "crash": str}
LAYER: dict[str, Any] = {"name": str, "propagated": NUMBER, "given": NUMBER, "alone": NUMBER}


class ReportError(ValueError):
    """The input is no schema-1 alignment; the message says where, `where` holds the keys that lead there."""

    def __init__(self, message: str, where: Where = ()):
        super().__init__(message)
        self.where = where


def verdict(result: Record) -> str:
    """The verdict as shown: the recorded one, unless the record contradicts it."""
    known = result["verdict"] in CELLS
    return result["verdict"] if known and not contradiction(result) else "failed"


def contradiction(result: Record) -> str:
    """Why a recorded pass cannot stand, or ''. An empty comparison proves nothing."""
    if result["verdict"] != "passed":
        return ""
    if result.get("values") == 0:
        return "recorded as passed, but no number was compared"
    failed = [tensor.get("name") for tensor in result.get("tensors") or [] if tensor.get("passed") is False]
    return f"recorded as passed, but {failed[0]} failed" if failed else ""


def clean(value: Any) -> int | float | None:
    """A finite number as it is, all else (None, nan, infinity, text) as None."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if plain and abs(value) <= sys.float_info.max else None


def check(alignment: Any) -> None:
    """Raise ReportError, with the keys that lead to the place, unless `alignment` is schema 1."""
    expect(isinstance(alignment, dict), "the top level must be an object", ())
    expect(not deeper(alignment, DEPTH), f"lists and objects are nested more than {DEPTH} deep", ())
    found = alignment.get("schema")
    same = isinstance(found, int) and not isinstance(found, bool) and found == SCHEMA
    expect(same, f"schema is {shown(found)}, this report reads schema {SCHEMA}", ("schema",))
    expect(isinstance(alignment.get("environment"), dict), "environment must be an object", ("environment",))
    expect(isinstance(alignment.get("results"), list), "results must be a list", ("results",))
    interrupted = alignment.get("interrupted")
    expect(isinstance(interrupted, (bool, type(None))), "interrupted must be true or false", ("interrupted",))
    for place, result in enumerate(alignment["results"]):
        where = ("results", place)
        expect(isinstance(result, dict), f"results[{place}] must be an object", where)
        expect_fields(result, FIELDS, f"results[{place}]", where)
        for name, kind in OPTIONAL.items():
            given = result.get(name)
            wrong = f"results[{place}].{name} must be a {kind.__name__} of objects"
            items = given.values() if isinstance(given, dict) else given or ()
            plain = isinstance(given, (kind, type(None))) and all(isinstance(item, dict) for item in items)
            expect(plain, wrong, (*where, name))
        notes = result.get("notes") or []
        plain = isinstance(notes, list) and all(isinstance(note, str) for note in notes)
        expect(plain, f"results[{place}].notes must be a list of sentences", (*where, "notes"))
        for name, pair in (result.get("curves") or {}).items():
            wrong = f"results[{place}].curves.{name} must hold lists"
            expect(all(isinstance(values, list) for values in pair.values()), wrong, (*where, "curves", name))
        told = result.get("explanation")
        plain = told is None or (isinstance(told, dict) and isinstance(told.get("sentence"), str))
        expect(plain, f"results[{place}].explanation must be an object with a sentence", (*where, "explanation"))
        expect_rows(told or {}, "layers", LAYER, f"results[{place}].explanation", (*where, "explanation"))
        expect_one_of(result, "step", STEPS, f"results[{place}]", where)
        expect_one_of(result, "verdict", CELLS, f"results[{place}]", where)
    for key, fields in EVIDENCE.items():
        expect_rows(alignment, key, fields, "", ())
        for place, row in enumerate(alignment.get(key) or [] if key != "mutants" else []):
            expect_one_of(row, "expected" if key == "kills" else "step", STEPS, f"{key}[{place}]", (key, place))
    for place, kill in enumerate(alignment.get("kills") or []):
        label, where = f"kills[{place}]", ("kills", place)
        expect_one_of(kill, "verdict", VERDICTS, label, where)
        expect(all(step in STEPS for step in kill["red"]), f"{label}.red holds what is no step", (*where, "red"))
        expect_rows(kill, "strikes", STRIKE, label, where)
        for nth, strike in enumerate(kill["strikes"]):
            expect_one_of(strike, "step", STEPS, f"{label}.strikes[{nth}]", (*where, "strikes", nth))
    for place, one in enumerate(alignment.get("mutants") or []):
        label, where = f"mutants[{place}]", ("mutants", place)
        expect(one["killed"] >= 0, f"{label}.killed is {shown(one['killed'])}", (*where, "killed"))
        expect_rows(one, "survivors", SURVIVOR, label, where)
        for nth, survivor in enumerate(one["survivors"]):
            expect_one_of(survivor, "verdict", JUDGED, f"{label}.survivors[{nth}]", (*where, "survivors", nth))


def expect_rows(parent: Mapping[str, Any], key: str, fields: Mapping[str, Any], label: str, where: Where) -> None:
    """A list of objects with these fields, or nothing at all."""
    rows, label, where = parent.get(key), f"{label}.{key}" if label else key, (*where, key)
    expect(isinstance(rows, (list, type(None))), f"{label} must be a list", where)
    for place, row in enumerate(rows or []):
        expect(isinstance(row, dict), f"{label}[{place}] must be an object", (*where, place))
        expect_fields(row, fields, f"{label}[{place}]", (*where, place))


def expect_fields(row: Mapping[str, Any], fields: Mapping[str, Any], label: str, where: Where) -> None:
    """Every field is there, and of its type; True is no number."""
    for name, kind in fields.items():
        expect(name in row, f"{label} lacks {name!r}", where)
        if not isinstance(row[name], kind) or (kind is not bool and isinstance(row[name], bool)):
            raise ReportError(f"{label}.{name} is of the wrong type: {shown(row[name])}", (*where, name))


def expect_one_of(row: Mapping[str, Any], name: str, choices: Collection[str], label: str, where: Where) -> None:
    """A field that has one of a few values."""
    if row[name] not in choices:
        raise ReportError(f"{label}.{name} is {shown(row[name])}, not one of {', '.join(choices)}", (*where, name))


def shown(value: Any) -> str:
    """A value of the file in a message: short, whatever it is."""
    return reprlib.repr(value)


def deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep; without recursion, which they could exhaust."""
    level = [value]
    for _ in range(limit):
        level = [child for one in level if isinstance(one, (dict, list)) for child in children(one)]
    return any(isinstance(one, (dict, list)) for one in level)


def children(one: dict | list) -> Iterable[Any]:
    """What lies directly in a list or an object."""
    return one.values() if isinstance(one, dict) else one


def expect(condition: bool, message: str, where: Where) -> None:
    """Raise ReportError unless it is so."""
    if not condition:
        raise ReportError(message, where)


def read(path: str | Path) -> Document:
    """
    alignment.json as a checked dict.

    Raises:
        ReportError: no regular file, not JSON, or not schema 1; the message names the file and the line.
    """
    path = Path(path)
    try:
        text = contents(path)
        alignment = json.loads(text, parse_int=whole)
        check(alignment)
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except ReportError as error:
        raise ReportError(f"{path}, line {line_of(text, error.where)}: {error}", error.where) from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ReportError(f"{path}, line {line}: not UTF-8") from error
    except (RecursionError, ValueError) as error:
        raise ReportError(f"{path}: JSON that cannot be read: {error}") from None
    return alignment


def contents(path: Path) -> str:
    """The text of a file; a FIFO would wait, a device never end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.read_text(encoding="utf-8-sig")


def whole(digits: str) -> int | float:
    """An integer of JSON; one that is too large to be meant, as a float (infinity included)."""
    return int(digits) if len(digits) <= DIGITS else float(digits)


def line_of(text: str, where: Where) -> int:
    """The line, from 1, where the value behind the keys `where` starts; of its container if it is missing.

    Of equal keys the last one counts, as it does in `json.loads`.
    """
    blank = re.compile(r"[^\s,:]|\Z")

    def skip(start):
        found = blank.search(text, start)
        return found.start() if found else len(text)

    decode = json.JSONDecoder(parse_int=whole).raw_decode
    position = skip(0)
    for wanted in where:
        if text[position] not in "[{":
            break
        inside, place, found = skip(position + 1), 0, None
        while text[inside] not in "]}":
            name = place
            if text[position] == "{":
                name, inside = decode(text, inside)
                inside = skip(inside)
            if name == wanted:
                found = inside
            inside = skip(decode(text, inside)[1])
            place += 1
        if found is None:
            break
        position = found
    return text.count("\n", 0, position) + 1
