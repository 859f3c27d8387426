"""What a rank costs and gives: means of the last epochs by trained parameters."""

import matplotlib
import pytest
from helpers.figures import write_tables
from helpers.synthetic import load, make_runs, table
from matplotlib.container import ErrorbarContainer

from lora.figures import labels, style
from lora.figures.rank_cost import rank_cost
from lora.figures.rows import finished, read_table


def lines_of(ax):
    """Return the points of each labelled line, and the lengths of its bars."""
    found = {}
    for points in ax.containers:
        if isinstance(points, ErrorbarContainer):
            (bars,) = points.lines[2]
            ends = [segment[:, 1] for segment in bars.get_segments() if len(segment)]
            found[points.get_label()] = (points.lines[0].get_xydata().tolist(), ends)
    return found


def test_lines_are_the_means_of_the_last_epochs_with_a_std(methods):
    """Against table6.csv; a run of all weight types and ranks is a dot."""
    cells = finished(read_table(methods, "table6"))
    runs = read_table(methods, "table6", "_best")
    (ax,) = [ax for ax in rank_cost(methods).figure.axes if ax.axison]
    found = lines_of(ax)
    for weights in {cell["weights"] for cell in cells}:
        line = sorted(
            (cell for cell in cells if cell["weights"] == weights), key=lambda cell: cell["rank"]
        )
        points, bars = found[labels.weight_types(weights)]
        assert points == [[cell["trainable"], cell["last_mean"]] for cell in line]
        for cell, (low, high) in zip(line, bars, strict=True):
            assert high - low == pytest.approx(2 * cell["last_std"])
    (dots,) = [line for line in ax.lines if line.get_marker() == "."]
    assert sorted(dots.get_ydata()) == sorted(run["last_value"] for run in runs)


def test_title_and_caption_say_n_the_statistic_and_the_ranks(methods, folder):
    drawing = rank_cost(methods)
    (ax,) = [ax for ax in drawing.figure.axes if ax.axison]
    assert ax.get_title().endswith("n = 2")
    caption = " ".join(drawing.figure.get_supxlabel().split())
    assert "Mean over runs of each run's last epoch; bars: one standard deviation" in caption
    assert "from left to right: r = 1, 2, 4, 8, 64" in caption
    caption = " ".join(rank_cost(folder).figure.get_supxlabel().split())
    assert "Not shown, of 8 runs: 2 failed." in caption


def test_ranks_of_any_table_are_drawn_and_single_ranks_are_not(tmp_path):
    """In table 2 too; a weight type with one rank has no line."""
    grid = load(
        seeds=[0, 1],
        tables=dict(
            table2=table(["roberta-base"], ["rte"], ("qv",), (4, 16)),
            table5=table(["roberta-base"], ["rte"], ("q",), (8,)),
        ),
    )
    make_runs(grid, tmp_path / "runs")
    (ax,) = [ax for ax in rank_cost(write_tables(grid, tmp_path)).figure.axes if ax.axison]
    assert set(lines_of(ax)) == {labels.weight_types("qv")}


def test_without_two_ranks_the_figure_says_so(tmp_path):
    grid = load(seeds=[0], tables=dict(table5=table(["roberta-base"], ["rte"], ("q",), (8,))))
    make_runs(grid, tmp_path / "runs")
    drawing = rank_cost(write_tables(grid, tmp_path))
    assert "no weight type has runs of two ranks" in drawing.alt and not drawing.figure.axes


def test_ticks_are_numbers_of_parameters(methods):
    with matplotlib.rc_context(style.STYLE):
        figure = rank_cost(methods).figure
        figure.draw_without_rendering()
    (ax,) = [ax for ax in figure.axes if ax.axison]
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert {"100k", "1M"} <= set(ticks) and not any("$" in tick for tick in ticks)
