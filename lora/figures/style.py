"""Style of all figures: fonts, colours, series, points, error bars and axes.

Series differ by colour (Okabe and Ito's palette, safe for colour-blind readers, then brown and
grey), by marker and by dash. All text of a figure has one size, FONT_SIZE; titles are bold.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.typing import LineStyleType, RcKeyType

from lora.columns import group_by
from lora.figures.rows import is_constant_run, sort_by_method
from lora.files import Row
from lora.tables.collect import MINIMUM

Settings = dict[RcKeyType, object]  # of matplotlib


class Series(NamedTuple):
    """What tells the lines of a figure apart. A marker that is not filled is white inside."""

    colour: str
    marker: str
    dash: LineStyleType
    filled: bool = True


BLACK, BLUE, ORANGE, GREEN, PURPLE, GREY = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#666666",
)
SERIES: tuple[Series, ...] = (
    Series(BLUE, "o", "-"),
    Series(ORANGE, "s", (0, (5, 2))),
    Series(GREEN, "^", (0, (1, 1.5))),
    Series(PURPLE, "D", (0, (5, 1.5, 1, 1.5))),
    Series("#56B4E9", "v", (0, (8, 2))),
    Series("#E69F00", "P", (0, (3, 1, 1, 1, 1, 1))),
    Series("#7A5C3E", "X", (0, (2, 1))),
    Series(GREY, "<", (0, (6, 1, 2, 1))),
)
# Shapes that are told apart in grey print; each is used filled, then white inside.
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
FONT_SIZE = 7  # pt, of all text; figures are as wide as one or two columns of a page
# In an SVG, text is text: a machine without the first font uses the next one.
FONTS = ("DejaVu Sans", "Verdana", "Arial", "Helvetica")
STYLE: Settings = {
    "font.family": "sans-serif",
    "font.sans-serif": list(FONTS),
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "legend.fontsize": FONT_SIZE,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.hashsalt": "lora",
    "svg.fonttype": "none",
}
SERIES_KEYS = ("method", "weights", "rank", "protocol")  # what a series of `assign_series` shows


class PointOptions(TypedDict, total=False):
    """Keyword arguments of `Axes.errorbar` that differ between figures."""

    label: str | None
    alpha: float
    linestyle: LineStyleType
    linewidth: float
    markersize: float
    capsize: float
    elinewidth: float


Errors = Sequence[float] | tuple[Sequence[float], Sequence[float]]  # both sides, or lower and upper
CUT = "Bars of a standard deviation end where the metric ends."
STAR = (6, 2, 0)  # marker: six lines from the middle
CONSTANT = "one run, constant predictions"  # label of the stars of `add_constant`


def add_points(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    series: Series,
    x_error: Errors | None = None,
    y_error: Errors | None = None,
    **options: Unpack[PointOptions],
) -> None:
    """Draw points with error bars. A point whose error is NaN has no bar."""
    defaults: PointOptions = {"linestyle": series.dash, "capsize": 2, "elinewidth": 0.9}
    merged: PointOptions = {**defaults, **options}
    ax.errorbar(
        x,
        y,
        yerr=y_error,
        xerr=x_error,
        color=series.colour,
        marker=series.marker,
        markerfacecolor=series.colour if series.filled else "white",
        **merged,
    )


def range_errors(cells: Sequence[Row]) -> Errors:
    """Return error bars from the lowest to the highest run around the median of the best epochs."""
    lower = [max(cell["best_median"] - cell["best_min"], 0.0) for cell in cells]
    return lower, [max(cell["best_max"] - cell["best_median"], 0.0) for cell in cells]


def bounded_errors(centers: Sequence[float], spreads: Sequence[float], metric: str) -> Errors:
    """Return error bars of a spread in per cent, cut where the metric ends (see CUT)."""
    lowest = 100 * MINIMUM[metric]
    pairs = list(zip(centers, spreads, strict=True))
    lower = [max(min(spread, center - lowest), 0.0) for center, spread in pairs]
    return lower, [max(min(spread, 100 - center), 0.0) for center, spread in pairs]


def add_runs(ax: Axes, runs: Sequence[tuple[float, Row]], value: str) -> None:
    """Draw a small dot for each run behind its cell's statistics; a star if it is constant.

    Args:
        ax: The panel.
        runs: Horizontal position and row of each run, with the columns BEST_COLUMNS. A run that
            did not finish has NaN as value, and is not drawn.
        value: Column that is drawn, `best_value` or `last_value`.
    """
    dots = [(x, run[value]) for x, run in runs if not is_constant_run(run, value)]
    x, y = [x for x, _ in dots], [y for _, y in dots]
    ax.plot(x, y, linestyle="", marker=".", markersize=3, color=GREY, alpha=0.6, zorder=1)
    add_constant(ax, [(x, run[value]) for x, run in runs if is_constant_run(run, value)])


def add_constant(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw a star of lines for each run with constant predictions at (x, y).

    No series has this marker, so it is told apart in grey print.
    """
    ax.plot(
        [x for x, _ in points],
        [y for _, y in points],
        linestyle="",
        marker=STAR,
        markersize=5,
        markeredgewidth=0.7,
        color=BLACK,
        label=CONSTANT if points else None,
        zorder=4,
    )


def add_majority(ax: Axes, cells: Iterable[Row], vertical: bool = False) -> None:
    """Draw a line at the majority class of the cells of a panel; none if it is not known."""
    values = {cell["majority"] for cell in cells if not math.isnan(cell["majority"])}
    if len(values) == 1:
        draw = ax.axvline if vertical else ax.axhline
        draw(values.pop(), color=GREY, linestyle=":", linewidth=1, label="majority class", zorder=0)


def tick_locator(integer: bool = False) -> MaxNLocator:
    """Return a locator of about four round ticks, at whole numbers only if `integer`."""
    return MaxNLocator(
        4, steps=[1, 2, 2.5, 5, 10], integer=integer, min_n_ticks=1 if integer else 2
    )


def share_axis(panels: Iterable[tuple[Hashable, Axes]], axis: Literal["x", "y"] = "y") -> None:
    """Give the panels of one key the same limits, which show all of them with a small margin.

    Args:
        panels: What the axis of a panel shows, such as task and metric, and the panel.
        axis: The axis whose limits are shared.
    """
    by_key: dict[Hashable, list[Axes]] = {}
    for key, ax in panels:
        by_key.setdefault(key, []).append(ax)
    for group in by_key.values():
        limits = [ax.get_ylim() if axis == "y" else ax.get_xlim() for ax in group]
        lower, upper = min(limit[0] for limit in limits), max(limit[1] for limit in limits)
        margin = 0.03 * (upper - lower) if len(group) > 1 else 0.0
        for ax in group:
            set_limits = ax.set_ylim if axis == "y" else ax.set_xlim
            set_limits(lower - margin, upper + margin)


def set_parameter_axis(ax: Axes) -> None:
    """Make the horizontal axis the trained parameters, on a log scale of a decade or more."""
    ax.set_xscale("log")
    ax.margins(x=0.12)
    left, right = ax.get_xlim()
    if right / left < 10:
        middle = math.sqrt(left * right)
        left, right = middle / math.sqrt(10), middle * math.sqrt(10)
        ax.set_xlim(left, right)
    steps = (1.0,) if right / left > 100 else (1.0, 3.0) if right / left > 10 else (1.0, 2.0, 5.0)
    ax.xaxis.set_major_locator(LogLocator(10, subs=steps))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("trained parameters")


def set_rank_axis(ax: Axes, ranks: Sequence[int]) -> None:
    """Make the horizontal axis the LoRA rank, on a log scale; `ranks` are in ascending order."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(ranks, [str(rank) for rank in ranks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(ranks[0] / 1.5, ranks[-1] * 1.5)
    ax.yaxis.set_major_locator(tick_locator())
    ax.set_xlabel("rank r (log scale)")


def assign_series(rows: Iterable[Row]) -> dict[tuple[Any, ...], Series]:
    """Return the colour, marker and dash of each series, by its values of SERIES_KEYS.

    The colour follows the first of method, weights, protocol and rank that varies. Each series has
    its own marker, up to twice as many as SHAPES. Series of the same colour differ by dash too.
    """
    by_weights = sorted(rows, key=lambda row: (len(row["weights"]), row["weights"]))
    lines = list(group_by(sort_by_method(by_weights), *SERIES_KEYS))
    varying = [index for index in (0, 1, 3, 2) if len({line[index] for line in lines}) > 1]
    coloured = varying[0] if varying else 0  # index into SERIES_KEYS
    values = list(dict.fromkeys(line[coloured] for line in lines))
    series: dict[tuple[Any, ...], Series] = {}
    for index, line in enumerate(lines):
        value_index = values.index(line[coloured])
        same_colour = sum(other[coloured] == line[coloured] for other in series)
        series[line] = Series(
            SERIES[value_index % len(SERIES)].colour,
            SHAPES[index % len(SHAPES)],
            SERIES[(value_index + 3 * same_colour) % len(SERIES)].dash,
            index // len(SHAPES) % 2 == 0,
        )
    return series
