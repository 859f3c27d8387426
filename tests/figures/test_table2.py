"""The figure of Table 2 shows the numbers of table2.csv."""

import shutil

import pytest
from helpers.figures import draw_text
from matplotlib.container import ErrorbarContainer

from lora import files
from lora.columns import TABLE_COLUMNS
from lora.figures.rows import read_table
from lora.figures.table2 import table2


def test_labels_have_units_and_counts(folder, tmp_path):
    text = draw_text("table2", folder, tmp_path)
    assert "accuracy (%)" in text and "n=1 of 2" in text
    assert "paper ± its spread" in text and "course ± its spread" in text


def test_points_are_the_runs_and_their_median(folder, tmp_path):
    """With medians that differ from every other statistic."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    rows = [row | {"best_median": row["best_median"] - 1} for row in read_table(folder, "table2")]
    files.write_csv(tmp_path / "table2.csv", TABLE_COLUMNS, rows)
    cells = {row["task_title"]: row for row in rows}
    runs = read_table(tmp_path, "table2", "_best")
    figure = table2(tmp_path).figure
    assert len(cells) == len(figure.axes) == 2
    for ax in figure.axes:
        cell = cells[ax.get_title().splitlines()[0]]
        drawn = {
            points.get_label(): list(points.lines[0].get_xdata())
            for points in ax.containers
            if isinstance(points, ErrorbarContainer)
        }
        best = [
            run["best_value"]
            for run in runs
            if run["task"] == cell["task"] and run["status"] == "ok"
        ]
        assert drawn["one run"] == best and len(best) == cell["n"]
        assert drawn["ours, median and range"] == [cell["best_median"]]
        assert drawn["paper ± its spread"] == [pytest.approx(cell["published"])]
