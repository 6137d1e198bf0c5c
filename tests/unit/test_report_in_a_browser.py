"""The report as it is read: in a real browser, wide and narrow, light and dark, by mouse and by keyboard.

Needs the extra `browser` (playwright, which drives) and a Chromium on the machine; skipped without either.
"""

import json
import os
import shutil

import pytest
from test_report import KILLS, alignment, result, tensor

from splinter.align import report
from splinter.align.report import STEPS

playwright = pytest.importorskip("playwright.sync_api", reason="the extra 'browser' is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; set CHROMIUM to one")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A report with everything in it: four systems, a failure with its explanation, curves, errors, kills, floors."""
    folder = tmp_path_factory.mktemp("report")
    results = []
    for system in ("splinter", "jointbert", "funnel", "multitask"):
        for step in STEPS:
            tensors = [tensor(f"bert.encoder.{n}.attention.output", 10.0 ** (n - 9)) for n in range(6)]
            curves = {"loss": {"theirs": [3.0, 2.0, 1.5], "ours": [3.0, 2.0, 1.5]}} if step == "training" else {}
            results.append(result(system=system, step=step, headroom=12.0, tensors=tensors, curves=curves))
    failed = [*results[0]["tensors"][:3], tensor("bert.encoder.3.attention.norm", 1e-2, passed=False)]
    explained = {"sentence": "semantic: bert.encoder.3.attention.norm itself", "layers": []}
    results[0] |= {"verdict": "failed", "tensors": failed, "reason": "first divergence", "explanation": explained}
    floors = [{"what": "epsilon", "step": "forward", "system": "splinter", "dtype": "float64", "smallest": 1e-11}]
    source = folder / "alignment.json"
    source.write_text(json.dumps(alignment(*results, date="today")), encoding="utf-8")
    (folder / "kill.json").write_text(json.dumps({**alignment(), "kills": KILLS, "floors": floors}), encoding="utf-8")
    return report.write(source, folder / "out", None, folder / "kill.json")


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all."""
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def page(request, browser, page_file):
    """The report, open; whatever it would fetch or complain about is an error."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
    opened = context.new_page()
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or complaints.append(asked.url))
    opened.goto(page_file.as_uri())
    yield opened
    if folder := os.environ.get("SCREENSHOTS"):
        opened.screenshot(path=f"{folder}/{size}-{scheme}.png", full_page=True)
    context.close()
    assert complaints == []


def test_the_matrix_leads_to_the_details(page):
    """
    The failed cell says so; a click on it shows its article, with the explanation and the tensors.
    """
    cell = page.locator("table.matrix a.cell.failed").first
    assert "FAIL" in cell.inner_text()
    cell.click()
    article = page.locator("article:target")
    playwright.expect(article).to_be_in_viewport()
    assert "semantic: bert.encoder.3.attention.norm itself" in article.inner_text()
    summary = article.locator("summary")
    summary.focus()
    page.keyboard.press("Enter")
    bad = article.locator("tr.bad")
    playwright.expect(bad).to_be_visible()
    assert "bert.encoder.3.attention.norm" in bad.inner_text()


def test_the_kill_matrix_opens(page):
    """
    By keyboard: the summary of a system shows its bugs, each with a framed cell for the step that is about it.
    """
    summary = page.locator("section[aria-labelledby=kills] summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("section[aria-labelledby=kills] td.expected").count() == len(KILLS)
    playwright.expect(page.locator("section[aria-labelledby=kills] td.expected").first).to_be_visible()


def test_nothing_sticks_out(page):
    """
    The page itself never scrolls sideways; wide tables scroll in their own box. Text stands out from what is behind it.
    """
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert contrast(*colors) > 7


def contrast(one, other):
    """Contrast of two CSS colours, 1 to 21, as WCAG 2 has it."""

    def luminance(color):
        parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
