"""Best minus last epoch, against differences computed by hand."""

import math

import numpy as np
import pytest
from helpers.synthetic import epochs, load, make_runs, paper_grid, table, write_run

from lora import files
from lora.columns import CELL_COLUMNS, SELECTION_COLUMNS
from lora.tables import selection
from lora.tables.cells import write
from lora.tables.collect import collect


def made(grid, folder):
    collect(grid, folder / "runs", folder / "runs.csv")
    return selection.make(grid, folder / "runs.csv")


def one_cell(seeds=(0, 1, 2), tasks=("sst2",)):
    return load(seeds=list(seeds), tables=dict(table2=table(["roberta-base"], tasks), table6=None))


def test_difference_is_computed_within_each_run(tmp_path):
    """Best 90, 92 and 95, last 88, 92 and 91: differences 2, 0 and 4, mean 2, std 2."""
    grid = one_cell()
    for seed, values in zip(
        grid.seeds, ([0.80, 0.90, 0.88], [0.90, 0.91, 0.92], [0.95, 0.94, 0.91]), strict=True
    ):
        write_run(grid, grid.cells[0], seed, tmp_path / "runs", epochs(values))
    (_, row), page = made(grid, tmp_path)
    assert (row["difference_mean"], row["difference_std"], row["n"]) == (2, 2, 3)
    assert row["best_mean"] == pytest.approx(np.mean([90, 92, 95]), abs=1e-6)
    assert row["last_mean"] == pytest.approx(np.mean([88, 92, 91]), abs=1e-6)
    assert (row["best_epoch_mean"], row["last_epoch"]) == (2, 3)
    assert page.sections[1].lines[0].cells == (
        "SST-2",
        "92.33",
        "90.33",
        "2.00±2.00",
        "3",
        "2.0",
        "3.0",
    )


def test_spread_of_the_difference_is_computed_from_run_differences(tmp_path):
    """Runs differ, but all lose exactly one: the difference has no spread, best and last have."""
    grid = one_cell()
    for seed, value in zip(grid.seeds, (0.70, 0.80, 0.90), strict=True):
        write_run(grid, grid.cells[0], seed, tmp_path / "runs", epochs([0.5, value, value - 0.01]))
    (_, row), _ = made(grid, tmp_path)
    assert (row["difference_mean"], row["difference_std"]) == pytest.approx((1, 0))


def test_failed_and_missing_runs_are_excluded_and_one_run_has_no_spread(tmp_path):
    grid = one_cell()
    write_run(grid, grid.cells[0], 0, tmp_path / "runs", epochs([0.80, 0.90, 0.87]))
    write_run(grid, grid.cells[0], 1, tmp_path / "runs", epochs([0.99, 0.99], failed=True))
    (_, row), page = made(grid, tmp_path)
    assert [row[key] for key in ("n", "n_expected", "n_failed", "n_missing")] == [1, 3, 1, 1]
    assert row["difference_mean"] == 3 and math.isnan(row["difference_std"])
    assert (
        page.sections[1].lines[0].cells[3:5] == ("3.00", "1")
        and "n=1 of 3, 1 failed." in page.footnotes
        and "1 of 3 runs" in page.partial
    )


def test_an_average_counts_each_cell_once_and_gives_their_number(tmp_path):
    """SST-2 loses 1 in three runs, MRPC 4 in one; QQP has no run. By cells 2.5, by runs 1.75."""
    grid = one_cell(tasks=("sst2", "mrpc", "qqp"))
    sst2, mrpc, _ = grid.cells
    for seed in grid.seeds:
        write_run(grid, sst2, seed, tmp_path / "runs", epochs([0.5, 0.9, 0.89]))
    write_run(grid, mrpc, 0, tmp_path / "runs", epochs([0.9, 0.8, 0.86]))
    (average, *cells), page = made(grid, tmp_path)
    assert average["difference_mean"] == pytest.approx(2.5) and len(cells) == 3
    assert (average["cells"], average["n"], average["n_expected"]) == (2, 4, 9) and math.isnan(
        average["difference_std"]
    )
    assert page.sections[0].lines[0].cells[0] == average["task_title"] == "mean of 2 of 3 cells"


def test_every_cell_of_every_table_has_one_line(tmp_path):
    grid = paper_grid(seeds=(0, 1), epochs=4, tables=("table2", "table5", "table6"))
    make_runs(grid, tmp_path / "runs")
    rows, page = made(grid, tmp_path)
    cells = [tuple(row[key] for key in CELL_COLUMNS) for row in rows if row["task"] != "average"]
    wanted = [tuple(getattr(cell, key) for key in CELL_COLUMNS) for cell in grid.table_cells]
    assert len(cells) == len(set(cells)) and set(cells) == set(wanted)
    assert all(row["difference_mean"] >= 0 for row in rows)
    assert rows[0]["cells"] == len(wanted) and rows[0]["n"] == 2 * len(wanted)
    lines = [line for section in page.sections for line in section.lines]
    assert (
        len(lines) == len(rows)
        and len({len(line.cells) for line in lines} | {len(page.columns)}) == 1
    )


def test_selection_is_written_like_the_other_tables(tmp_path):
    grid = load(config="demo.yaml")
    make_runs(grid, tmp_path / "runs")
    collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    write(grid, tmp_path / "runs.csv", "selection", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"selection.{end}" for end in ("csv", "html", "md", "tex")
    ]
    rows = files.read_csv(tmp_path / "out/selection.csv", SELECTION_COLUMNS)
    assert len([row for row in rows if row["task"] != "average"]) == len(grid.table_cells)
    page = (tmp_path / "out/selection.md").read_text(encoding="utf-8")
    assert "The difference is never negative." in " ".join(page.split())
