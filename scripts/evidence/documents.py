"""Which table stands in which file, between `<!-- NAME -->` and `<!-- /NAME -->`, and what is drawn beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from splinter.align.record import read

from . import calibration, proof, rounds, tables, zoo
from .experiments import RESULTS

PROJECT = RESULTS.parent
README, DOCS = PROJECT / "README.md", PROJECT / "docs"
KILLS = RESULTS / "kill.json"
CARD = PROJECT / "splinter" / "mini-qa" / "README.md"
PLACES = {
    "badges": README,
    "evidence": README,
    "kill": DOCS / "evidence.md",
    "mutants": DOCS / "evidence.md",
    "align": DOCS / "evidence.md",
    "bench": DOCS / "speed.md",
    "trainings": DOCS / "trainings.md",
    "few-shot": DOCS / "trainings.md",
    "zoo": DOCS / "zoo.md",
    "zoo-pairs": DOCS / "zoo.md",
    "zoo-cannot": DOCS / "zoo.md",
    "reliability": CARD,
    "thresholds": CARD,
    "other-texts": CARD,
    "own-text": CARD,
}
"""Table -> the file that it stands in."""


def recorded() -> dict[str, str]:
    """The tables that are made of `results/` alone."""
    steps, kills, pairs = (json.loads(path.read_text(encoding="utf-8")) for path in (proof.RECORD, KILLS, zoo.RECORD))
    return {
        "badges": proof.badge_row(steps),
        "evidence": proof.evidence_table(steps, kills),
        "kill": tables.kill_table(kills),
        "mutants": rounds.table(read(rounds.RECORD)),
        "trainings": tables.trainings_table(RESULTS),
        "few-shot": tables.few_shot_table(RESULTS),
        "zoo": zoo.summary(pairs),
        "zoo-pairs": zoo.pairs(pairs),
        "zoo-cannot": zoo.cannot(pairs),
        **calibration.tables(calibration.recorded()),
    }


def drawn() -> dict[Path, str]:
    """The drawings that are made of `results/` alone: the badges and the picture of the report."""
    steps = json.loads(proof.RECORD.read_text(encoding="utf-8"))
    badges = {DOCS / "badges" / name: svg for name, svg in proof.badge_files(steps).items()}
    return {**badges, DOCS / "report.svg": proof.picture(steps)}


def written(made: dict[str, str]) -> dict[Path, str]:
    """The files that hold these tables, with them put in.

    Raises:
        ValueError: a file has no place for its table.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in {PLACES[name] for name in made}}
    for name, table in made.items():
        texts[PLACES[name]] = insert(texts[PLACES[name]], name, table, PLACES[name].name)
    return texts


def insert(text: str, name: str, table: str, file: str = "README.md") -> str:
    """Replace what stands between the two markers.

    Raises:
        ValueError: there are no such markers.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{file} has no place for {name}: add <!-- {name} --> and <!-- /{name} -->")
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text)
