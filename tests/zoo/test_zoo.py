"""Every port of the zoo under `prove`: aligned, or wrong in just the checks and places that are known.

    tox -e zoo            # paddlenlp against transformers 4, paddle.vision against torchvision
    tox -e zoo-formers    # PaddleFormers against transformers 5

A finding that a release mends turns its test red, as one that comes does.
"""

import importlib.util
import re
import runpy
from importlib.metadata import version
from pathlib import Path

import foreign_formers
import foreign_text
import foreign_vision
import pytest

from splinter.align import prove

PAIRS = [*foreign_text.PAIRS, *foreign_vision.PAIRS, *foreign_formers.PAIRS]
PACKAGES = {
    "paddlenlp": ("paddlenlp", "transformers"),
    "torchvision": ("paddlepaddle", "torchvision"),
    "paddleformers": ("paddleformers", "transformers"),
}
"""Library of a pair -> the packages of port and original."""
FAULTS = Path(__file__).with_name("faults")


def there(library):
    """Skips where a library is not installed."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def record(pair, **more):
    """What docs/zoo.md says of a pair."""
    return {"name": pair.name, "versions": [f"{name} {version(name)}" for name in PACKAGES[pair.library]], **more}


def findings(pair, proof):
    """What failed: which check, what is said of it first, and what is known of it."""
    failed = {}
    for check in proof.checks:
        if not check.passed and check.name not in failed:
            known = pair.findings.get(check.name)
            more = {"cause": known.cause, "source": known.source, "script": known.script} if known else {}
            failed[check.name] = {"dtype": check.dtype, "said": check.message.splitlines()[1].strip(), **more}
    return failed


def cases(pairs):
    """Of a test, by name; those that take minutes are marked."""
    return [pytest.param(pair, id=pair.name, marks=[pytest.mark.slow] if pair.slow else []) for pair in pairs]


@pytest.mark.parametrize("pair", cases(one for one in PAIRS if not one.cannot))
def test_pair(pair, keep):
    """
    Each check passes, or fails where it is known to.
    """
    there(pair.library)
    proof = prove(pair.theirs, pair.ours, pair.batch, name=pair.name, **pair.options)
    failed = findings(pair, proof)
    checks = [f"{check.name} {check.dtype}".strip() for check in proof.checks]
    keep(record(pair, weights=proof.weights, checks=checks, failed=failed, seconds=round(proof.seconds, 1)))
    assert set(failed) == set(pair.findings), str(proof)
    for check, finding in pair.findings.items():
        said = "\n".join(one.message for one in proof.checks if one.name == check)
        assert finding.first in said, said
    if failed:
        pytest.xfail("; ".join(f"{check}: {finding.cause}" for check, finding in pair.findings.items()))


@pytest.mark.parametrize("pair", cases(one for one in PAIRS if one.cannot))
def test_still_cannot_be_run(pair, keep):
    """
    What the library offers under this name raises what it raised.
    """
    there(pair.library)
    with pytest.raises(Exception, match=re.escape(pair.cannot)) as caught:
        prove(pair.theirs, pair.ours, pair.batch, name=pair.name, **pair.options)
    keep(record(pair, cannot=str(caught.value).splitlines()[0]))


@pytest.mark.parametrize("script", sorted(FAULTS.glob("*.py")), ids=lambda path: path.stem)
def test_script_still_shows_its_fault(script, capsys):
    """
    It ends well, having said what it saw; when a release mends the fault, the script and its finding go.
    """
    for library in re.findall(r"paddlenlp|paddleformers|torchvision", script.read_text(encoding="utf-8")):
        there(library)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_script_belongs_to_a_finding():
    """
    And each finding's is there.
    """
    named = {finding.script for pair in PAIRS for finding in pair.findings.values()}
    assert named - {""} == {path.stem for path in FAULTS.glob("*.py")}
