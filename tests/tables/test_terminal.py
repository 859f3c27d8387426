"""Tables as text for a terminal: nothing is lost, and nothing is wider than the terminal."""

import re

import pytest
from helpers.synthetic import load, make_runs, paper_grid

from lora.tables import cells, claims, collect, differences, selection, terminal
from lora.tables.labels import Line, Page, Section


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of wide and narrow tables: the paper's Table 2, Tables 5 and 6, and the summaries."""
    found = []
    for grid, names in (
        (paper_grid(), ["table2"]),
        (load(seeds=[0, 1], overrides=dict(epochs=2)), ["table2", "table6"]),
    ):
        folder = tmp_path_factory.mktemp("runs")
        make_runs(grid, folder)
        collect.collect(grid, folder, folder / "runs.csv")
        found += [cells.make(grid, folder / "runs.csv", name).page for name in names]
        for summary in (selection, differences, claims):
            found.append(summary.make(grid, folder / "runs.csv")[1])
    return found


@pytest.mark.parametrize("width", [80, 120])
def test_every_value_is_there_and_no_line_is_too_wide(pages, width):
    for page in pages:
        text = terminal.to_text(page, width, notes=True)
        assert all(len(line) <= width for line in text.splitlines())
        assert text.isascii() or not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
        words = " ".join(text.split())
        for section in page.sections:
            for line in section.lines:
                for cell in line.cells[1:]:
                    assert terminal.plain(cell) in words
                for word in terminal.plain(line.cells[0]).split():
                    assert word in words
        for note in page.footnotes:
            assert terminal.plain(note) in words


def test_at_most_seven_columns_side_by_side(pages):
    wide = terminal.to_text(pages[0], 500)
    rules = [line for line in wide.splitlines() if re.fullmatch("-{30,}", line)]
    assert len(rules) == -(-(len(pages[0].columns) - 1) // 6)


def test_marks_are_plain_text():
    assert terminal.plain("W_q,W_v and Adpt^D") == "Wq,Wv and AdptD"


def test_a_partial_table_says_so(tmp_path):
    grid = load(seeds=[0, 1], mode="partial", overrides=dict(epochs=2))
    cell = grid.table_cells[0]
    make_runs(grid, tmp_path, missing=[(cell.task, cell.weights, cell.rank, 0)])
    collect.collect(grid, tmp_path, tmp_path / "runs.csv")
    text = terminal.to_text(selection.make(grid, tmp_path / "runs.csv")[1])
    assert text.startswith("PARTIAL: Best epoch") and "Partial: 1 of" in text


@pytest.mark.parametrize(
    "name, height, width",
    [("Mean of best epochs", 2, 11), ("Mean of best epochs", 9, 6), ("Done", 2, 4), ("", 2, 0)],
)
def test_a_heading_has_as_many_lines_as_asked(name, height, width):
    assert terminal._heading_width(name, height) == width


def test_names_are_whole_in_a_table_that_is_cut_into_blocks(pages):
    """The first column is narrowed only if all columns then fit side by side."""
    text = terminal.to_text(pages[0], 80)
    assert re.search("^full fine-tuning ", text, re.M)


@pytest.mark.parametrize("value, lines", [("47.2", 1), ("47.2 [46.0, 48.0]", 2)])
def test_a_long_name_is_on_one_line_where_the_first_value_leaves_room(value, lines):
    """The ranges make the first column narrow; a short value leaves room to its left."""
    wide = "59.8 [59.0, 62.0]"
    rows = tuple(Line("ours", (name, *[wide] * 3, "8.8")) for name in ("Wq", "Wq,Wk,Wv,Wo"))
    rows += (Line("reference", ("Product sentiment", *[value] * 3)),)
    columns = ("Weight type", "r = 1", "r = 8", "r = 64", "Spread over r")
    page = Page("table6", "Title", "", "", columns, (Section("Task", rows),))
    text = terminal.to_text(page, 80).splitlines()
    found = [line for line in text if "Product" in line or "sentiment" in line]
    assert len(found) == lines and found[-1].count(value) == 3
    assert found[-1].endswith(value)
    assert len(found[-1]) == next(line for line in text if wide in line).rindex("]") + 1
    assert all(len(line) <= 80 for line in text)
