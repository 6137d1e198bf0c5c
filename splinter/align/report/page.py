"""The HTML page: what the template reads, and the page made from it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ..kill import table as killed_by_step
from ..kill import tally
from ..record import CELLS, Document, ReportError, check
from ..rounds import counted
from ..steps import STEPS
from .baseline import compared
from .card import rows
from .verdict import headline
from .words import STEPS_SAID, day, flatten, number, shape

RESERVED = (*("main", "filter", "matrix", "failures", "worse", "shared", "details", "kills", "mutants", "environment"),
            *("legend", "words"), *(f"step-{step}" for step in STEPS))  # fmt: skip
"""Anchors of the page itself."""


def render(alignment: Document, baseline: Document | None = None) -> str:
    """
    The whole HTML page, without any external resource.

    Args:
        baseline: an earlier alignment; what is worse than there is marked.

    Raises:
        ReportError: `alignment` or `baseline` is not schema 1, or jinja2 is missing.
    """
    try:
        import jinja2  # here: the matrix of the terminal does without
    except ImportError:
        raise ReportError("the page needs jinja2; in a clone: pip install -e '.[align]'") from None
    check(alignment)
    if baseline is not None:
        check(baseline)
    engine = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters.update(number=number, shape=shape)
    script = resources.files(__package__).joinpath("filter.js").read_text(encoding="utf-8")
    return engine.get_template("page.html.jinja").render(
        **_content(alignment, baseline), script=script, script_hash=_hash(script)
    )


def _content(alignment: Document, baseline: Document | None) -> dict[str, Any]:
    """What the template reads."""
    results, environment = alignment["results"], alignment["environment"]
    worsened, gone = compared(alignment, baseline)
    found = rows(results, worsened, anchors(RESERVED))
    cards = [card for row in found for card in row.cards.values()]
    kills = alignment.get("kills") or []
    dates = (environment.get(key) for key in ("date", "created", "timestamp", "time"))
    return {
        "headline": headline(alignment),
        "date": day(next(filter(None, dates), "")),
        "steps": STEPS_SAID,
        "words": CELLS,
        "rows": found,
        "families": list(dict.fromkeys(row.family for row in found)),
        "plain": [row for row in found if not row.folded],
        "folded": [row for row in found if row.folded],
        "cards": cards,
        "failures": [(card, case) for card in cards for case in card.cases if case.verdict == "failed"],
        "worsened": [(card, case) for card in cards for case in card.cases if case.worse],
        "gone": gone,
        "compared": baseline is not None,
        "environment": flatten({k: v for k, v in environment.items() if k != "shared"}),
        "shared": shared(environment.get("shared")),
        "kills": killed(kills, [row.system for row in found]) if kills else None,
        "floors": alignment.get("floors") or [],
        "rounds": [(one, counted(one)) for one in alignment.get("mutants") or []],
        "seconds": sum(result["seconds"] for result in results),
        "values": sum(result["values"] for result in results),
    }


def shared(systems: Any) -> dict[str, list[str]]:
    """What the two sides of a port have in common -> the systems that say so; {} of what is no such record."""
    found: dict[str, list[str]] = {}
    for system, phrases in systems.items() if isinstance(systems, dict) else ():
        for phrase in phrases if isinstance(phrases, list) else ():
            found.setdefault(str(phrase), []).append(system)
    return found


def _hash(script: str) -> str:
    """How the page's own policy names the one script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def anchors(reserved: Sequence[str]) -> Callable[[str], str]:
    """A function that makes a name an id that is unique on the page, and tells what it is of."""
    taken = set(reserved)

    def anchor(name: str) -> str:
        plain = re.sub(r"[^a-z0-9_.]+", "-", name.lower())[:80].strip("-") or "unnamed"
        number, made = 1, plain
        while made in taken:
            number += 1
            made = f"{plain}-{number}"
        taken.add(made)
        return made

    return anchor


@dataclass(frozen=True)
class Killed:
    """The kill matrix as the page shows it.

    Args:
        steps: a row per step.
        systems: system -> its bugs, each with `strikes` by step.
    """

    sentence: str
    steps: list[dict[str, Any]]
    systems: dict[str, list[dict[str, Any]]]


def killed(kills: Sequence[Mapping[str, Any]], order: Sequence[str]) -> Killed:
    """The records of planted bugs, their systems in this order, those of no other record last."""
    counts, own = tally(kills), {kill["system"]: None for kill in kills}
    systems: dict[str, list[dict[str, Any]]] = {name: [] for name in dict.fromkeys((*order, *own)) if name in own}
    for kill in kills:
        strikes = {strike["step"]: strike for strike in kill["strikes"]}
        systems[kill["system"]].append({**kill, "strikes": strikes})
    sentence = (
        f"{len(kills) - counts['survived']} of {len(kills)} planted bugs were killed, "
        f"{counts['first']} of them by the step that is about them and by none before it."
    )
    return Killed(sentence, killed_by_step(kills), systems)
