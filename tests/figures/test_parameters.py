"""The figure of trained parameters shows the numbers of the tables, each cell once."""

import pytest
from helpers.figures import draw_text, write_tables
from helpers.synthetic import load, make_runs, table
from matplotlib.container import ErrorbarContainer

from lora.figures.parameters import parameters
from lora.figures.rows import finished, read_table


def points_of(ax):
    """Return the points of our cells, (x, y)."""
    return [
        tuple(point)
        for points in ax.containers
        if isinstance(points, ErrorbarContainer)
        for point in points.lines[0].get_xydata().tolist()
    ]


def test_one_cell_without_a_published_value_is_not_drawn(tmp_path):
    grid = load(
        config="demo.yaml", tables=dict(table2=table(["minilm"], ["movie-polarity"]), table6=None)
    )
    make_runs(grid, tmp_path / "runs")
    text = draw_text("parameters", write_tables(grid, tmp_path), tmp_path)
    assert "one cell per task, and no published value" in text


def test_points_are_the_medians_by_trained_parameters(methods):
    """CoLA on RoBERTa-base, of table 2 only: a point for each cell.

    Cells with about the same number of parameters are side by side.
    """
    cells = [
        row
        for row in finished(read_table(methods, "table2"))
        if (row["model"], row["task"]) == ("roberta-base", "cola")
    ]
    drawing = parameters(methods)
    (ax,) = [ax for ax in drawing.figure.axes if ax.get_title() == "CoLA\nRoBERTa-base"]
    drawn = points_of(ax)
    expected = [(row["trainable"], row["best_median"]) for row in cells]
    key = lambda point: (point[1], point[0])  # noqa: E731
    for (x, y), (trainable, median) in zip(
        sorted(drawn, key=key), sorted(expected, key=key), strict=True
    ):
        assert y == median and x == pytest.approx(trainable, rel=0.1)
    assert len({x for x, _ in drawn}) == len(drawn)
    assert "side by side" in " ".join(drawing.figure.get_supxlabel().split())
    published = [line for line in ax.lines if str(line.get_label()).startswith("paper, ")]
    assert len(published) >= 5 and ax.get_xscale() == "log"


def test_series_are_told_apart_without_colour(methods):
    """Each has its own marker or fill; published values have markers of another kind."""
    drawing = parameters(methods)
    markers = {}
    for ax in drawing.figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            line = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
            if label != "majority class":
                hollow = line.get_markerfacecolor() == "white"
                assert markers.setdefault(label, (line.get_marker(), hollow)) == (
                    line.get_marker(),
                    hollow,
                )
    assert len(markers) > 12 and len(set(markers.values())) == len(markers)


def test_a_cell_of_two_tables_is_drawn_once(tmp_path):
    weights, ranks = ("q", "qv"), (1, 8)
    grid = load(
        seeds=[0],
        tables=dict(
            table2=table(["roberta-base"], ["mnli"], ("qv",), (8,)),
            table6=table(["roberta-base"], ["mnli"], weights, ranks),
        ),
    )
    make_runs(grid, tmp_path / "runs")
    tables = write_tables(grid, tmp_path)
    cells = {
        tuple(row[key] for key in ("weights", "rank", "protocol"))
        for name in ("table2", "table6")
        for row in read_table(tables, name)
    }
    (ax,) = parameters(tables).figure.axes
    lines = [points.lines[0] for points in ax.containers if isinstance(points, ErrorbarContainer)]
    assert sum(len(line.get_xdata()) for line in lines) == len(cells)
