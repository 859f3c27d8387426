"""Learning curves show the numbers of <table>_curves.csv."""

import pytest
from helpers.figures import draw_text, write_tables
from helpers.synthetic import load, make_runs, table
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer

from lora.figures.learning_curves import learning_curves
from lora.figures.rows import read_table

TABLE6 = table(["roberta-base"], ["mnli"], ("q", "qv"), (1, 8))


def test_lines_are_the_means_over_runs(folder):
    rows = read_table(folder, "table2", "_curves")
    figure = learning_curves(folder).figure
    panels = {ax.get_title().splitlines()[0]: ax for ax in figure.axes if ax.get_title()}
    assert set(panels) == {row["task_title"] for row in rows}
    for title, ax in panels.items():
        cell = [row for row in rows if row["task_title"] == title]
        (line,) = ax.lines
        assert list(line.get_xdata()) == [row["epoch"] for row in cell]
        assert list(line.get_ydata()) == [row["metric_mean"] for row in cell]
        assert line.get_marker() == "o"


def test_one_cell_per_panel_is_named_in_the_title(folder, tmp_path):
    text = draw_text("learning_curves", folder, tmp_path)
    assert "LoRA $W_q$, $W_v$ r=8, n = 1" in text and "evaluation loss" in text


def test_table6_has_a_panel_for_each_weight_type_and_a_line_for_each_rank(tmp_path):
    grid = load(seeds=[0, 1], tables=dict(table2=None, table6=TABLE6))
    make_runs(grid, tmp_path / "runs")
    figure = learning_curves(write_tables(grid, tmp_path)).figure
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title().splitlines()[-1] for ax in panels] == [
        "$W_q$, n = 2",
        "$W_q$, $W_v$, n = 2",
    ]
    for ax in panels:
        assert [line.get_label() for line in ax.lines] == ["r=1", "r=8"]
    colours = [[line.get_color() for line in ax.lines] for ax in panels]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [(8,), (1, 8)])
def test_two_epochs_or_fewer_are_points_with_bars_and_more_are_curves_with_a_band(
    epochs, ranks, tmp_path
):
    """For one cell in a panel and for several; bars and bands end at the lowest and highest run."""
    table6 = table(["roberta-base"], ["mnli"], ("qv",), ranks)
    grid = load(seeds=[0, 1], overrides=dict(epochs=epochs), tables=dict(table6=table6))
    make_runs(grid, tmp_path / "runs")
    tables = write_tables(grid, tmp_path)
    drawing = learning_curves(tables)
    rows = read_table(tables, "table6", "_curves")
    upper, lower = (ax for ax in drawing.figure.axes if ax.axison)
    caption = " ".join(drawing.figure.get_supxlabel().split())
    for ax, quantities in ((upper, 1), (lower, 2)):
        bands = [one for one in ax.collections if isinstance(one, PolyCollection)]
        points = [one for one in ax.containers if isinstance(one, ErrorbarContainer)]
        if epochs <= 2:
            assert not bands and len(points) == quantities * len(ranks)
            assert {one.lines[0].get_linestyle() for one in points} == {"None"}
            assert "bars: lowest to highest" in caption and "band" not in caption
        else:
            assert not points and len(bands) == quantities * len(ranks)
            assert all(line.get_linestyle() != "None" for line in ax.lines)
            assert "band: lowest to highest" in caption and "bars" not in caption
    if epochs <= 2:
        (bars,) = upper.containers[0].lines[2]
        ends = sorted(float(y) for segment in bars.get_segments() for y in segment[:, 1])
    else:
        band = next(one for one in upper.collections if isinstance(one, PolyCollection))
        ends = sorted({float(y) for y in band.get_paths()[0].vertices[:, 1]})
    of_first = [row for row in rows if row["rank"] == ranks[0]]
    expected = sorted(row[key] for row in of_first for key in ("metric_min", "metric_max"))
    assert ends == pytest.approx(expected)


def test_points_of_several_cells_are_side_by_side(tmp_path):
    grid = load(seeds=[0, 1], overrides=dict(epochs=2), tables=dict(table6=TABLE6))
    make_runs(grid, tmp_path / "runs")
    for ax in learning_curves(write_tables(grid, tmp_path)).figure.axes:
        if ax.get_title():
            first = [points.lines[0].get_xdata()[0] for points in ax.containers]
            assert len(first) == len(set(first)) == 2
            assert [round(x) for x in first] == [1, 1]
