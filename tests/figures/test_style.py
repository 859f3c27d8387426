"""Series, legends, captions and files that all figures share."""

import math

from matplotlib.figure import Figure

from lora.figures import layout, style
from lora.figures.rows import read_table


def test_series_differ_and_rows_of_one_method_share_a_colour(methods):
    series = style.assign_series(read_table(methods, "table2"))
    assert len(set(series.values())) == len(series) == 10
    assert len({(one.marker, one.filled) for one in series.values()}) == len(series)
    colours = {}
    for (method, *_), (colour, *_) in series.items():
        colours.setdefault(method, set()).add(colour)
    assert all(len(found) == 1 for found in colours.values())
    assert len(set().union(*colours.values())) == 6


def test_a_label_is_once_in_the_legend_and_points_with_error_bars_are_first():
    figure, axes = layout.panels(1, 2, 2.0)
    for ax in axes[0]:
        ax.plot([1, 2], [1, 2], label="line")
        style.add_points(ax, [1, 2], [1, 2], style.SERIES[0], y_error=[0.1, 0.2], label="points")
    layout.add_legend(figure, axes[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["points", "line"]


def test_the_caption_counts_the_runs_that_are_not_drawn():
    statuses = ("ok", "missing", "non_finite", "missing", "undefined")
    figure = Figure()
    unknown = dict(best_constant=math.nan, last_constant=math.nan)
    layout.add_caption(figure, "Text.", [dict(status=status) | unknown for status in statuses])
    absent = "2 missing, 1 failed, 1 with an undefined metric"
    assert f"Not shown, of 5 runs: {absent}." in " ".join(figure.get_supxlabel().split())


def test_bars_stay_in_the_range_of_the_metric():
    """A std of 3 around 99 and around 1 is cut at 100 and at 0; a NaN stays NaN (no bar)."""
    lower, upper = style.bounded_errors([99.0, 1.0, 50.0], [3.0, 3.0, 3.0], "accuracy")
    assert (list(lower), list(upper)) == ([3, 1, 3], [1, 3, 3])
    lower, _ = style.bounded_errors([-99.0], [3.0], "matthews")
    assert list(lower) == [1]
    assert all(part[0] != part[0] for part in style.bounded_errors([50.0], [float("nan")], "f1"))


def test_a_line_at_the_majority_class_where_it_is_known():
    ax = Figure().subplots()
    style.add_majority(ax, [{"majority": float("nan")}])
    assert len(ax.lines) == 0
    style.add_majority(ax, [{"majority": 50.9}, {"majority": float("nan")}])
    assert [line.get_label() for line in ax.lines] == ["majority class"]


def test_panels_of_one_key_share_the_smallest_limits_that_show_all():
    axes = Figure().subplots(1, 3)
    for ax, values in zip(axes, ([1, 2], [5, 9], [100, 200]), strict=True):
        ax.plot([0, 1], values)
    alone = axes[2].get_ylim()
    style.share_axis(zip(["rte", "rte", "stsb"], axes, strict=True))
    assert axes[0].get_ylim() == axes[1].get_ylim() and axes[2].get_ylim() == alone
    low, high = axes[0].get_ylim()
    assert 0 < low < 1 and 9 < high < 10
