"""Shared by all figures: colours, panels, points, legends, captions, and writing the files.

Series differ by colour (Okabe and Ito's palette, safe for colour-blind readers, then brown and
grey), by marker and by dash. A failed or missing run is not drawn, and the caption counts it. A
figure without data says so.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.typing import LineStyleType, RcKeyType

from lora.columns import group_by
from lora.figures.rows import sort_by_method
from lora.files import Row
from lora.tables.collect import MINIMUM

Series = tuple[str, str, LineStyleType]  # colour, marker, dash
Settings = dict[RcKeyType, object]  # of matplotlib

BLACK, BLUE, ORANGE, GREEN, PURPLE, GREY = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#666666",
)
SERIES: tuple[Series, ...] = (
    (BLUE, "o", "-"),
    (ORANGE, "s", (0, (5, 2))),
    (GREEN, "^", (0, (1, 1.5))),
    (PURPLE, "D", (0, (5, 1.5, 1, 1.5))),
    ("#56B4E9", "v", (0, (8, 2))),
    ("#E69F00", "P", (0, (3, 1, 1, 1, 1, 1))),
    ("#7A5C3E", "X", (0, (2, 1))),
    (GREY, "<", (0, (6, 1, 2, 1))),
)
STYLE: Settings = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.hashsalt": "lora",
    "svg.fonttype": "path",
}
SERIES_KEYS = ("method", "weights", "rank", "protocol")  # what a series of `assign_series` shows


class PointOptions(TypedDict, total=False):
    """Keyword arguments of `Axes.errorbar` that differ between figures."""

    label: str | None
    alpha: float
    linestyle: LineStyleType
    linewidth: float
    markerfacecolor: str
    capsize: float
    elinewidth: float


def save(make: Callable[[], Figure], output_stem: Path, settings: Settings = STYLE) -> None:
    """Write the figure that `make` returns to `output_stem`.svg and .png (200 dpi).

    The same figure gives the same bytes: the user's own matplotlib settings are ignored, and no
    date is written.

    Args:
        make: Draws the figure. It is called with the settings in force.
        output_stem: Path without the suffix. Its folder is created.
        settings: Changes to matplotlib's default settings.
    """
    stem = Path(output_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    backend = matplotlib.rcParams["backend"]
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings, "backend": backend}):
        figure = make()
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=200, metadata={"Software": None})


def panels(
    rows: int,
    columns: int,
    height: float,
    width: float = 2.4,
    share_y: bool = False,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with room for a legend above and a caption below, and its axes by row.

    Args:
        rows: Number of rows of panels.
        columns: Number of columns of panels.
        height: Height of all rows together, in inches.
        width: Width of a column, in inches.
        share_y: Whether the panels of a row share their vertical axis.
        height_ratios: Relative heights of the rows; None for equal heights.
    """
    figure = Figure(figsize=(max(4.6, width * columns + 0.5), height + 0.55), layout="constrained")
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharey="row" if share_y else False,
        height_ratios=height_ratios,
    )
    return figure, [list(row) for row in axes]


def empty_figure(reason: str) -> Figure:
    """Return a figure that says why it shows no data."""
    figure = Figure(figsize=(4.5, 1.6))
    figure.text(0.5, 0.5, reason, ha="center", va="center", wrap=True, color=GREY)
    return figure


def hide(axes: Iterable[Axes]) -> None:
    """Hide the panels that have no data."""
    for ax in axes:
        ax.set_axis_off()


def add_legend(
    figure: Figure,
    axes: Iterable[Axes],
    columns: int = 4,
    extra: dict[str, Artist] | None = None,
) -> None:
    """Add one legend for all panels above them, each label once.

    Args:
        figure: The figure. It grows with the number of the legend's rows.
        axes: The panels with labelled data.
        columns: Most columns of the legend.
        extra: Further entries, drawn after those of the panels.
    """
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    # Points with error bars first.
    ordered = sorted(entries.items(), key=lambda item: not isinstance(item[1], ErrorbarContainer))
    entries = dict(ordered) | (extra or {})
    entry_width = 1.5 if max(map(len, entries)) < 24 else 2.2  # inches
    fitting = max(1, int(figure.get_figwidth() / entry_width))
    used_columns = min(columns, fitting, len(entries))
    legend_rows = -(-len(entries) // used_columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * max(0, legend_rows - 2))
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper center", ncols=used_columns
    )


def add_caption(figure: Figure, text: str, runs: list[Row]) -> None:
    """Add a caption below the panels, with the number of runs that are not drawn.

    Args:
        figure: The figure.
        text: The caption. Its lines are wrapped to the figure's width.
        runs: Rows with the columns BEST_COLUMNS, one for each requested run.
    """
    absent = [
        f"{sum(run['status'] == status for run in runs)} {word}"
        for status, word in (
            ("missing", "missing"),
            ("non_finite", "failed"),
            ("undefined", "with an undefined metric"),
        )
        if any(run["status"] == status for run in runs)
    ]
    constant = sum(1 in (run["best_constant"], run["last_constant"]) for run in runs)
    if constant:
        text += (
            f"\nConstant: {constant} of {len(runs)} runs predict one class only at their best or "
            "last epoch; a cell of such runs alone has no mark of its own."
        )
    if absent:
        text += f"\nNot shown, of {len(runs)} runs: {', '.join(absent)}."
    characters = int(17 * figure.get_figwidth())
    wrapped = "\n".join(textwrap.fill(line, characters) for line in text.splitlines())
    figure.supxlabel(wrapped, fontsize=7, color=GREY, ha="center")


Errors = Sequence[float] | tuple[Sequence[float], Sequence[float]]  # both sides, or lower and upper
CUT = "Bars of a standard deviation end where the metric ends."


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
    colour, marker, dash = series
    defaults: PointOptions = {"linestyle": dash, "capsize": 2, "elinewidth": 0.9}
    merged: PointOptions = {**defaults, **options}
    ax.errorbar(x, y, yerr=y_error, xerr=x_error, color=colour, marker=marker, **merged)


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


def add_dots(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw a small dot for each run at (x, y), behind the statistics of its cell."""
    x, y = [x for x, _ in points], [y for _, y in points]
    ax.plot(x, y, linestyle="", marker=".", markersize=3, color=GREY, alpha=0.6, zorder=1)


def add_constant(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw a hollow square for each run with constant predictions at (x, y)."""
    ax.plot(
        [x for x, _ in points],
        [y for _, y in points],
        linestyle="",
        marker="s",
        markersize=3.5,
        markerfacecolor="white",
        markeredgewidth=0.7,
        color=BLACK,
        label="one run, constant predictions" if points else None,
        zorder=4,
    )


def add_majority(ax: Axes, cells: Iterable[Row], vertical: bool = False) -> None:
    """Draw a line at the majority class of the cells of a panel; none if it is not known."""
    values = {cell["majority"] for cell in cells if not math.isnan(cell["majority"])}
    if len(values) == 1:
        draw = ax.axvline if vertical else ax.axhline
        draw(values.pop(), color=GREY, linestyle=":", linewidth=1, label="majority class", zorder=0)


def tick_locator(integer: bool = False) -> MaxNLocator:
    """Return a locator of about five round ticks, at whole numbers only if `integer`."""
    return MaxNLocator(
        5, steps=[1, 2, 2.5, 5, 10], integer=integer, min_n_ticks=1 if integer else 2
    )


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

    The colour follows the first of method, weights, protocol and rank that varies. Series of the
    same colour differ by marker and dash.
    """
    by_weights = sorted(rows, key=lambda row: (len(row["weights"]), row["weights"]))
    lines = list(group_by(sort_by_method(by_weights), *SERIES_KEYS))
    varying = [index for index in (0, 1, 3, 2) if len({line[index] for line in lines}) > 1]
    coloured = varying[0] if varying else 0  # index into SERIES_KEYS
    values = list(dict.fromkeys(line[coloured] for line in lines))
    series: dict[tuple[Any, ...], Series] = {}
    for line in lines:
        value_index = values.index(line[coloured])
        same_colour = sum(other[coloured] == line[coloured] for other in series)
        _, marker, dash = SERIES[(value_index + 3 * same_colour) % len(SERIES)]
        series[line] = (SERIES[value_index % len(SERIES)][0], marker, dash)
    return series
