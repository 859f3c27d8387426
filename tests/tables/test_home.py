"""First page of the report, read back from docutils: what was run, claims, sizes, a figure."""

import base64

import pytest
from docutils.core import publish_parts
from helpers.synthetic import load, make_runs, table

from lora.tables import claims, collect, home

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def made(tmp_path):
    """Return the grid and the path of its runs.csv."""
    tables = dict(table2=None, table6=table(["minilm"], ["sst2"], ["q", "qv"], [1, 8]))
    grid = load(seeds=[0, 1], mode="partial", overrides=dict(epochs=2), tables=tables)
    make_runs(grid, tmp_path / "runs", missing=[("sst2", "q", 1, 0)])
    collect.collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    return grid, tmp_path / "runs.csv"


def page(text):
    """Return the HTML that docutils makes of a page; a message of docutils fails the test."""
    body = publish_parts(text, writer="html", settings_overrides=dict(halt_level=2))
    return body["html_body"]


def test_the_page_says_what_was_run_and_which_claims_hold(made):
    grid, runs_csv = made
    html = page(home.text(grid, runs_csv, None))
    assert "LoRA of MiniLM on SST-2" in html
    assert "4 cells with n = 2 (seeds 0, 1)" in html
    assert "7 of 8 runs finished, 1 is missing." in html
    assert "Training examples: SST-2 3,000." in html and "<img" not in html
    rows, _ = claims.make(grid, runs_csv)
    assert html.count("<li>") == len(claims.sentences(rows)) == 2
    assert "W <sub>q</sub>" in html or "W<sub>q</sub>" in html


def test_the_figure_is_in_the_page(made, tmp_path):
    """Also one of a megabyte, for which docutils has a limit of the length of a line."""
    grid, runs_csv = made
    for size in (0, 10**6):
        content = PIXEL + b"\0" * size
        (tmp_path / "rank_curves.png").write_bytes(content)
        home.write(grid, runs_csv, tmp_path, tmp_path / home.NAME)
        html = page((tmp_path / home.NAME).read_text())
        source = html.partition('src="data:image/png;base64,')[2].partition('"')[0]
        assert base64.b64decode(source) == content


def test_special_characters_are_plain_text():
    name = "a*b_c`d|e\\f W_q"
    html = page(home.escaped(name))
    assert "a*b_c`d|e" in html and "<sub>q</sub>" in html
