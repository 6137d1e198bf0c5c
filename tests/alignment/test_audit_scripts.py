"""docs/audits/*.py: each fault of other people's code in some ten lines that anybody can run; they still show it."""

import re
import runpy

import pytest

from splinter.datasets import PROJECT

pytestmark = pytest.mark.audit
SCRIPTS = sorted((PROJECT / "docs" / "audits").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_still_shows_its_fault(script, capsys):
    """It ends well, having said what it saw; when a release mends the fault, the script and its row go."""
    if "paddlenlp" in script.read_text(encoding="utf-8"):
        pytest.importorskip("paddlenlp", reason="the extra 'paddlenlp' is not installed", exc_type=ImportError)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_script_has_its_row():
    """The tables name each script once, and none that is not there."""
    pages = [(PROJECT / "docs" / name).read_text(encoding="utf-8") for name in ("audits.md", "funnel.md")]
    named = re.findall(r"\]\(audits/(\w+)\.py\)", "".join(pages))
    assert sorted(named) == [script.stem for script in SCRIPTS]
