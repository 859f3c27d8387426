"""Series, legends, captions and files that all figures share."""

import matplotlib
from matplotlib.figure import Figure

from lora.figures import style
from lora.figures.rows import read_table


def test_series_differ_and_rows_of_one_method_share_a_colour(methods):
    series = style.assign_series(read_table(methods, "table2"))
    assert len(set(series.values())) == len(series) == 10
    colours = {}
    for (method, *_), (colour, *_) in series.items():
        colours.setdefault(method, set()).add(colour)
    assert all(len(found) == 1 for found in colours.values())
    assert len(set().union(*colours.values())) == 6


def test_a_label_is_once_in_the_legend_and_points_with_error_bars_are_first():
    figure, axes = style.panels(1, 2, 2.0)
    for ax in axes[0]:
        ax.plot([1, 2], [1, 2], label="line")
        style.add_points(ax, [1, 2], [1, 2], style.SERIES[0], y_error=[0.1, 0.2], label="points")
    style.add_legend(figure, axes[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["points", "line"]


def test_the_caption_counts_the_runs_that_are_not_drawn():
    statuses = ("ok", "missing", "non_finite", "missing", "undefined")
    figure = Figure()
    style.add_caption(figure, "Text.", [dict(status=status) for status in statuses])
    absent = "2 missing, 1 failed, 1 with an undefined metric"
    assert f"Not shown, of 5 runs: {absent}." in " ".join(figure.get_supxlabel().split())


def test_files_do_not_depend_on_the_settings_of_the_user(tmp_path):
    style.save(lambda: style.empty_figure("empty"), tmp_path / "new folder" / "default")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        style.save(lambda: style.empty_figure("empty"), tmp_path / "new folder" / "changed")
    for suffix in (".svg", ".png"):
        first, second = (
            tmp_path / "new folder" / f"{name}{suffix}" for name in ("default", "changed")
        )
        assert first.read_bytes() == second.read_bytes()
