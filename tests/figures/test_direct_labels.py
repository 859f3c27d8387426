"""Labels at lines are in their panel and cover nothing; without room there are none."""

import matplotlib
import numpy as np
import pytest
from helpers.figures import drawn_texts
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from lora.figures import direct_labels, layout, results, style

X = np.arange(1, 6)


@pytest.fixture(autouse=True)
def in_style():
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style.STYLE}):
        yield


def draw(lines, size=(3.3, 2.2)):
    """Return a figure with a panel of labelled lines with error bars."""
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    for index, (label, y) in enumerate(lines.items()):
        series = style.SERIES[index]
        style.add_points(ax, X, y, series, y_error=np.full(5, 0.2), label=label)
    return figure, ax


def annotations(ax):
    return [text for text in ax.texts if isinstance(text, Annotation)]


LINES = {
    "apart": {"one": X, "two": X + 5, "three": X + 9},
    "same end": {"one": X, "two": 10 - X, "three": np.full(5, 5)},
    "close": {"one": X, "two": X + 0.5, "three": X + 1},
    "crossing": {"one": X, "two": 6 - X},
}


@pytest.mark.parametrize("kind", LINES)
def test_labels_are_in_the_panel_and_cover_no_mark_and_no_text(kind):
    figure, ax = draw(LINES[kind])
    assert direct_labels.place(figure, [ax])
    labels = annotations(ax)
    assert sorted(label.get_text() for label in labels) == sorted(LINES[kind])
    boxes = dict(drawn_texts(figure))
    panel = ax.get_window_extent()
    for label in labels:
        box = boxes[label.get_text()]
        assert panel.x0 <= box.x0 and box.x1 <= panel.x1 + 1
        assert panel.y0 <= box.y0 and box.y1 <= panel.y1
        for line in ax.lines:
            points = line.get_transform().transform(line.get_xydata())
            dense = [
                start + part * (end - start)
                for start, end in zip(points[:-1], points[1:], strict=True)
                for part in np.linspace(0, 1, 50)
                if line.get_linestyle() != "None"
            ]
            for x, y in [*points, *dense]:
                assert not (box.x0 < x < box.x1 and box.y0 < y < box.y1)
        for other, other_box in boxes.items():
            assert other == label.get_text() or not box.overlaps(other_box)


def test_without_room_nothing_changes_and_there_is_a_legend():
    many = {f"a line with a rather long label {index}": X + 0.01 * index for index in range(8)}
    figure, ax = draw(many, size=(1.7, 1.2))
    before = ax.get_xlim()
    assert not direct_labels.place(figure, [ax])
    assert ax.get_xlim() == before and not annotations(ax)
    layout.label_lines(figure, [ax])
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 8


def test_one_panel_without_room_gives_a_legend_for_all():
    figure = Figure(figsize=(7, 2.2), layout="constrained")
    axes = figure.subplots(1, 2)
    axes[0].plot(X, X, label="one")
    for index in range(30):
        axes[1].plot(X, X + index / 30, label=f"line {index} of many lines")
    assert not direct_labels.place(figure, axes)
    assert not any(annotations(ax) for ax in axes)


def test_the_demos_rank_curves_have_labels_and_no_legend(folder):
    figure = results.FIGURES["rank_curves"](folder).figure
    assert not figure.legends
    panels = [ax for ax in figure.axes if ax.axison]
    assert all(len(annotations(ax)) == 2 for ax in panels)
