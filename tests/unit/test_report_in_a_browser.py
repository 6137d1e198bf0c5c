"""The report as it is read: in a real browser, wide and narrow, light and dark, by mouse and by keyboard.

Needs the extra `browser` (playwright, which drives) and a Chromium on the machine; skipped without either.
"""

import json
import os
import shutil
from itertools import product

import pytest
from test_report import KILLS, alignment, result, tensor

from splinter.align import report
from splinter.align.report import STEPS

playwright = pytest.importorskip("playwright.sync_api", reason="the extra 'browser' is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; set CHROMIUM to one")
SIZES = {"desk": (1280, 800), "phone": (390, 844)}
MODES = {
    "splinter": ("hf", "paper"),
    "jointbert": ("softmax", "crf"),
    "funnel": ("classification", "answering"),
    "funnel-factorized": ("classification", "answering"),
    "multitask": ("version1", "version2"),
}


SHARED = {system: ["the meaning of a seed", "AdamW, written by us in both frameworks " * 3] for system in MODES}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A report with everything in it: four systems in two modes each, a port that differs by a setting, skips, a
    failure with its explanation, data without its files, curves, errors, kills, floors."""
    folder = tmp_path_factory.mktemp("report")
    results = []
    for (system, mode), step in product([(name, mode) for name in MODES for mode in MODES[name]], STEPS):
        tensors = [tensor(f"bert.encoder.{n}.attention.output", 10.0 ** (n - 9)) for n in range(6)]
        curves = {"loss": {"theirs": [3.0, 2.0, 1.5], "ours": [3.0, 2.0, 1.5]}} if step == "training" else {}
        of = {"system": system, "mode": mode, "step": step}
        results.append(result(**of, headroom=12.0, tensors=tensors, curves=curves))
        results.append(result(**of, headroom=5e5, dtype="float64"))
        results.append(result("skipped", **of, checkpoint="base", reason="run with --checkpoint base"))
        if step == "dev_data":
            results[-3]["reason"] = "without atis/dev: in no data folder"
    failed = [*results[0]["tensors"][:3], tensor("bert.encoder.3.attention.norm", 1e-2, passed=False)]
    explained = {"sentence": "semantic: bert.encoder.3.attention.norm itself", "layers": []}
    results[0] |= {"verdict": "failed", "tensors": failed, "reason": "first divergence", "explanation": explained}
    floors = [{"what": "epsilon", "step": "forward", "system": "splinter", "dtype": "float64", "smallest": 1e-11}]
    source = folder / "alignment.json"
    source.write_text(json.dumps(alignment(*results, date="today", shared=SHARED)), encoding="utf-8")
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


def test_what_both_sides_share_is_a_list_on_the_page(page):
    """
    One item for all systems that say so, where the link at the top leads.
    """
    page.get_by_role("link", name="Not proven").click()
    items = page.locator("section[aria-labelledby=shared] li")
    assert items.count() == 2 and items.first.is_visible()
    assert items.first.inner_text() == f"the meaning of a seed ({', '.join(MODES)})"


def test_back_returns_to_the_cell(page):
    """
    From a card far down the link leads to the very cell; the browser's own way back does, too.
    """
    cell = page.locator("#cell-multitask-version2-training")
    for link in ("link", "browser"):
        cell.locator("a").first.click()
        playwright.expect(page.locator("article#multitask-version2-training")).to_be_in_viewport()
        playwright.expect(cell).not_to_be_in_viewport()
        if link == "link":
            page.locator("article:target a.back").click()
            assert page.evaluate("document.querySelector(':target').id") == "cell-multitask-version2-training"
        else:
            page.go_back()
        playwright.expect(cell).to_be_in_viewport()


def test_the_filter_leaves_what_was_asked_for(page):
    """
    By system, step and verdict, in the matrix and in the cards; a link to what is hidden shows all again.
    """
    rows, cards = page.locator("table.matrix tbody tr:visible"), page.locator("article:visible")
    plain = sum(len(modes) for system, modes in MODES.items() if system != "funnel-factorized")
    everything = sum(map(len, MODES.values())) * len(STEPS)
    assert (rows.count(), cards.count()) == (plain, everything)
    page.select_option("select[name=system]", "funnel")
    assert cards.count() == 4 * len(STEPS)  # with the port that differs by a setting
    assert rows.count() == 2
    page.select_option("select[name=step]", "training")
    assert cards.count() == 4
    assert page.locator("table.matrix td[data-column=forward]:visible").count() == 0
    page.select_option("select[name=system]", "")
    page.select_option("select[name=step]", "")
    page.select_option("select[name=verdict]", "failed")
    assert [card.get_attribute("id") for card in cards.all()] == ["splinter-hf-forward"]
    assert page.locator("form output").inner_text() == f"1 of {everything} cells"
    page.select_option("select[name=verdict]", "in-part")
    assert cards.count() == sum(map(len, MODES.values()))
    page.evaluate("location.hash = 'jointbert-crf-lr'")
    playwright.expect(page.locator("article#jointbert-crf-lr")).to_be_in_viewport()
    assert cards.count() == everything


def test_the_matrix_fits_on_one_screen(page):
    """
    At 1280 x 800 all of it is seen without scrolling, below the legend, and its head stays while the page scrolls. A
    phone scrolls down, not sideways.
    """
    table, width = page.locator("table.matrix").first, page.viewport_size["width"]
    box = table.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    if width == 1280:
        assert page.locator("#legend").bounding_box()["y"] >= 0
        assert box["y"] + box["height"] <= 800
        page.evaluate("scrollTo(0, 400)")
        assert table.locator("thead th").first.bounding_box()["y"] == 0


def test_nothing_overlaps(page):
    """
    Neither links nor words of the top, the matrix and the first cards lie upon one another; a card's heading stays.
    """
    clashes = page.evaluate(
        """() => {
        const parts = [...document.querySelectorAll(
            "h1, h2, .top .tag, nav a, .signs li, .steps li, form label, button, .matrix th a, .cell, .fold > summary, "
            + "section.system:first-of-type :is(h3, .tag, h4, .back, h5, p, summary)")];
        const seen = parts.filter((part) => part.checkVisibility());  // what is folded has a box, too
        const boxes = seen.map((part) => [part, part.getBoundingClientRect()]);
        const found = [];
        for (const [one, a] of boxes) for (const [other, b] of boxes) {
            if (one === other || one.contains(other) || other.contains(one)) continue;
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (wide > 1 && high > 1) found.push([one.textContent, other.textContent]);
        }
        return found; }"""
    )
    assert clashes == []
    page.evaluate("document.querySelector('#splinter-hf-lr').scrollIntoView()")
    heading = page.locator("h3#splinter-hf").bounding_box()
    assert heading["y"] == 0
    assert page.locator("article#splinter-hf-lr").bounding_box()["y"] >= heading["height"]


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
