"""Two runs or cells compared, against the table of differences."""

import pytest
from helpers.synthetic import epochs, load, make_runs, table, write_run

from lora.tables import collect, compare, differences, terminal


@pytest.fixture
def made(tmp_path):
    """Return the grid of trained runs."""
    tables = dict(table2=None, table6=table(["minilm"], ["sst2"], ["q", "qv"], [1, 8]))
    grid = load(seeds=[0, 1], overrides=dict(epochs=2), tables=tables)
    make_runs(grid, tmp_path / "runs")
    collect.collect(grid, tmp_path / "runs", tmp_path / "tables/runs.csv")
    return grid


def test_compare_two_cells_by_seed(made, tmp_path):
    """Means, difference and interval are those of table differences."""
    grid = made
    one, other = (cell for cell in grid.cells if cell.weights == "q")
    folders = [tmp_path / "runs" / cell.path for cell in (one, other)]
    text = terminal.to_text(compare.page(*folders))
    rows, _ = differences.make(grid, tmp_path / "tables/runs.csv")
    row = next(
        row
        for row in rows
        if row["epoch"] == "last" and row["differs_in"] == "rank" and row["weights"] == "q"
    )
    shown = f"{abs(row['difference']):.2f}"
    assert shown in text and "settings" not in text
    page = compare.page(*folders)
    assert [line.cells[0] for line in page.sections[1].lines] == ["rank"]
    assert len(page.sections[0].lines) == 2


def test_compare_two_runs_of_any_seed(made, tmp_path):
    grid = made
    folders = [tmp_path / "runs" / grid.cells[0].path / f"seed{seed}" for seed in (0, 1)]
    page = compare.page(*folders)
    assert page.sections[1].lines[0].cells == ("nothing",)
    assert page.sections[0].lines[0].cells[4] == "–"


def test_compare_refuses_what_it_cannot_compare(made, tmp_path):
    grid = made
    cell = tmp_path / "runs" / grid.cells[0].path
    with pytest.raises(ValueError, match="no finished run in"):
        compare.page(cell, tmp_path)
    lone = tmp_path / "lone"
    write_run(grid, grid.cells[0], 7, lone, epochs([0.5, 0.6]))
    with pytest.raises(ValueError, match="allowed: folders that share a seed"):
        compare.page(cell, lone / grid.cells[0].path)
