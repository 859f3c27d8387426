"""Pages in a browser and on paper: Table 2 of config/paper.yaml fits one landscape A4."""

import re
import shutil

import pytest
from helpers.synthetic import make_runs, make_table, paper_grid

from lora.tables import render

CHROMIUM = shutil.which("chromium")
WIDTH, HEIGHT = 1046, 718  # of a landscape A4 without its margins of 10 mm, in CSS pixels
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the pages of Tables 2, 5 and 6 of config/paper.yaml, two seeds."""
    folder = tmp_path_factory.mktemp("print")
    grid = paper_grid(tables=("table2", "table5", "table6"))
    make_runs(grid, folder / "runs", precision="bf16")
    made = [make_table(grid, folder, name) for name in grid.tables]
    found = {page.name: page for data in made for page in (data.page, data.details)}
    for name, page in found.items():
        (folder / f"{name}.html").write_text(render.to_html(page), encoding="utf-8")
    return folder, list(found)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_no_table_is_wider_than_the_paper(pages, browser):
    folder, names = pages
    page = browser.new_page(viewport=dict(width=WIDTH, height=HEIGHT))
    page.emulate_media(media="print")
    for name in names:
        page.goto((folder / f"{name}.html").as_uri())
        box = page.locator("table").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= WIDTH + 1, name
        if name == "table2":
            assert box["y"] + box["height"] <= HEIGHT
            pdf = page.pdf(prefer_css_page_size=True)
            assert re.search(rb"/MediaBox \[0 0 84[12]\S* 59[45]", pdf)  # landscape, in points
    page.close()


def test_letters_lead_to_their_notes_and_back(pages, browser):
    folder, _ = pages
    page = browser.new_page(viewport=dict(width=1300, height=500))
    page.goto((folder / "table2.html").as_uri())
    links = page.locator("table .marks a")
    notes = page.locator("dt a")
    assert links.count() > notes.count() > 10
    for link in (*links.all(), *notes.all()):
        assert page.locator(link.get_attribute("href")).count() == 1
    note = page.locator("#note-k")
    page.locator("#cell-k").click()
    assert page.url.endswith("#note-k") and note.evaluate("one => one.matches(':target')")
    note.locator("a").click()
    assert page.url.endswith("#cell-k")
    page.close()


def test_values_of_a_column_align(pages, browser):
    """Letters and spreads are right of the values: all decimals of a column are at one place."""
    folder, _ = pages
    page = browser.new_page(viewport=dict(width=1300, height=900))
    page.goto((folder / "table2.html").as_uri())
    ends = page.evaluate(
        """() => [...document.querySelectorAll("tbody tr")].map(row => {
            const text = row.children[5] && row.children[5].firstChild;
            if (!text || text.nodeType !== 3 || !/\\d$/.test(text.data)) return null;
            const range = document.createRange();
            range.selectNodeContents(text);
            return range.getBoundingClientRect().right;
        }).filter(one => one !== null)"""
    )
    assert len(ends) > 15 and max(ends) - min(ends) < 2
    page.close()
