"""scripts/evidence: the tables, badges and drawings that stand in README and docs are those of the records."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evidence import documents, proof

import splinter
from splinter.align.report import badge
from splinter.align.steps import STEPS

PLACES = {**documents.written(documents.recorded()), **documents.drawn()}


@pytest.fixture
def recorded():
    """The recorded run of the eleven steps."""
    return json.loads(proof.RECORD.read_text(encoding="utf-8"))


def run(*changes, **more):
    """An alignment.json with one case of each step; `changes` are laid over the first cases."""
    tensor = {"name": "states/logits", "max_rel": 2e-6, "max_abs": 1e-6, "allowed": 1e-5, "passed": True}
    case = {
        **{"system": "splinter", "mode": "hf", "checkpoint": "tiny", "dtype": "float32", "verdict": "passed"},
        **{"reason": "", "values": 10, "worst": None, "tolerance": None, "headroom": 5.0, "seconds": 1.0},
        **{"reference": "", "tensors": [tensor]},
    }
    results = [{**case, "step": step} for step in STEPS]
    for result, change in zip(results, changes, strict=False):
        result |= change
    return {"schema": 1, "environment": {"python": "3.11"}, "results": results, **more}


def saved(folder, document):
    """Its file."""
    path = folder / "alignment.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(PLACES), ids=lambda path: path.relative_to(documents.PROJECT).as_posix())
def test_documents_are_up_to_date(path):
    """
    What `python scripts/figures.py` would write is what stands there.
    """
    assert path.read_text(encoding="utf-8") == PLACES[path], "run: python scripts/figures.py"


def test_the_package_knows_nothing_of_it():
    """
    What needs a clone is not in the wheel: no file of the package imports it, or has its name.
    """
    files = sorted(Path(splinter.__file__).parent.rglob("*.py"))
    wanted = re.compile(r"^\s*(from|import) (evidence|scripts)\b", re.MULTILINE)
    assert len(files) > 20
    assert [path for path in files if wanted.search(path.read_text(encoding="utf-8"))] == []
    assert not {"experiments.py", "tables.py", "plots.py"} & {path.name for path in files}


PAGES = [*documents.PROJECT.glob("*.md"), *documents.DOCS.glob("*.md")]


def anchors(page):
    """The places in a page that a link may name, as GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(documents.PROJECT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page):
    """
    Files and headings; pages of the web are not asked for.
    """
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in link:
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not heading or heading in anchors(target), link


def test_there_is_a_badge_for_each_step_and_no_other():
    """
    Eleven files, eleven images in README, in the order of the steps.
    """
    assert {path.stem for path in (documents.DOCS / "badges").iterdir()} == set(STEPS)
    readme = documents.README.read_text(encoding="utf-8")
    places = [readme.index(f"](docs/badges/{step}.svg)") for step in STEPS]
    assert places == sorted(places)


@pytest.mark.parametrize("step", STEPS)
def test_a_badge_says_what_the_recorded_run_said(step, recorded):
    """
    Its words and its colour are those of the recorded cases of its step.
    """
    drawn = ElementTree.parse(documents.DOCS / "badges" / f"{step}.svg").getroot()
    said = badge(recorded, step)
    mine = [one["verdict"] for one in recorded["results"] if one["step"] == step]
    assert drawn.get("aria-label") == f"{step}: {said['message']}"
    assert f"passed {mine.count('passed')}" in said["message"]
    assert (said["color"] == "brightgreen") == (set(mine) == {"passed"})
    assert (drawn.find(".//*[@fill='#2da44e']") is not None) == (said["color"] == "brightgreen")


def test_a_record_keeps_the_worst_error_of_each_case(tmp_path):
    """
    And its verdict, its room and how much was compared; a tensor that is held to nothing does not count.
    """
    free = {"name": "noise", "max_rel": 1.0, "max_abs": 1.0, "allowed": None, "passed": True}
    document = run()
    document["results"][0]["tensors"].append(free)
    record = proof.kept(saved(tmp_path, document))
    assert json.loads(proof.dumped(record)) == json.loads(json.dumps(record))
    first = record["results"][0]
    assert (first["error"], first["verdict"], first["values"]) == ([2e-6, 1e-6, "logits"], "passed", 10)
    assert "tensors" not in first


@pytest.mark.parametrize(
    ("document", "why"),
    [(run(interrupted=True), "was interrupted"), ({**run(), "results": run()["results"][1:]}, "no case of forward")],
)
def test_half_a_run_is_not_recorded(document, why, tmp_path):
    """
    Badges drawn from it would say less than they seem to.
    """
    with pytest.raises(ValueError, match=why):
        proof.kept(saved(tmp_path, document))


def test_a_failure_is_seen_in_badge_table_and_picture(tmp_path):
    """
    A recorded failure is red everywhere, and a skip is no pass.
    """
    record = proof.kept(saved(tmp_path, run({"verdict": "failed"}, {"verdict": "skipped", "reason": "no data"})))
    badges = proof.badges(record)
    assert [badges[step]["color"] for step in STEPS[:3]] == ["red", "lightgrey", "brightgreen"]
    table = proof.evidence_table(record, {"kills": [{"expected": "forward", "red": ["loss"]}]})
    assert "| 0 of 1 |  | 2.0e-06 | 0 of 1 |" in table and "| 0 of 0 |" in table
    drawn = ElementTree.fromstring(proof.picture(record))
    classes = [one.get("class") for one in drawn.iter() if one.get("class") in proof.WORDS]
    assert classes == ["failed", "skipped", *["passed"] * 9]
