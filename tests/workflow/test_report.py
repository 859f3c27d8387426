"""The report in a browser: opened from a file, without a network, every page of it."""

import shutil

import pytest
from helpers.models import ROOT
from helpers.workflow import snakemake

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return the report of the tracked demo runs."""
    results = tmp_path_factory.mktemp("report")
    shutil.copytree(ROOT / "results/reference/runs", results / "runs")
    config = ["--configfile", ROOT / "config/demo.yaml"]
    config += ["--config", "mode=existing", f"results={results}"]
    snakemake(*config)
    snakemake(*config, "--report", results / "report.html")
    return results / "report.html"


@pytest.fixture(scope="module")
def page(report):
    """Return the report's page in Chromium, and what its console and network reported."""
    if CHROMIUM is None:
        pytest.skip("needs the program chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=dict(width=1300, height=900))
        page.problems = []
        page.on(
            "console",
            lambda one: page.problems.append(one.text) if one.type == "error" else None,
        )
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("requestfailed", lambda request: page.problems.append(request.url[:200]))
        page.goto(report.as_uri())
        page.wait_for_selector("text=Configuration")
        yield page
        browser.close()


def test_first_page(page):
    """What was run, the claims, and a picture that is shown."""
    text = page.inner_text("body")
    assert "LoRA of MiniLM on Movie polarity" in text and "36 of 36 runs finished" in text
    assert "Contradicted: a small rank is enough" in text
    assert page.evaluate("document.querySelector('.prose img').naturalWidth") > 300
    assert page.problems == []


@pytest.mark.parametrize(
    "category, titles",
    [
        ("Configuration", ["Merged config"]),
        ("Provenance", ["Provenance of every run"]),
        (
            "Tables",
            [
                "Claims of the paper, checked against these runs",
                "Differences between cells, paired by seed",
                "Best epoch compared with last epoch",
                "LoRA on the tasks of Table 2",
                "LoRA on the tasks of Table 2: all statistics",
                "LoRA by rank and weight type",
                "LoRA by rank and weight type: all statistics",
            ],
        ),
    ],
)
def test_every_table_opens_as_a_page(page, category, titles):
    """In the report itself; none is a download."""
    shown = []
    for entry in entries(page, category):
        entry.click()
        page.wait_for_selector("iframe")
        page.wait_for_timeout(300)
        frame = page.query_selector("iframe").content_frame()
        shown.append(frame.inner_text("h1"))
    assert shown == titles and page.problems == []


def test_every_figure_is_shown(page):
    sources = set()
    for entry in entries(page, "Figures"):
        entry.click()
        page.wait_for_timeout(300)
        picture = page.query_selector(".grow > .p-3 > img")
        assert picture.evaluate("one => one.naturalWidth") > 100
        sources.add(picture.get_attribute("src"))
    assert len(sources) >= 4 and page.problems == []


def entries(page, category):
    """Open a category from the first page; return the links of its results."""
    page.reload()
    page.click(f"nav >> text={category}")
    page.wait_for_selector("nav tbody")
    assert page.locator("nav a[download]").count() == 0
    return page.locator("nav tbody a[iconname=eye]").all()
