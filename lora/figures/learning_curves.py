"""Draw the learning curves: metric and losses of each cell by epoch.

A cell of three epochs or more is a curve with a band. Fewer epochs are points with bars.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import CELL, LEFT_OUT, read_table, same_cell, sort_by_method, varies
from lora.figures.style import BLACK, SERIES, SERIES_KEYS, Series
from lora.files import Row

FEW_EPOCHS = 2  # so many epochs or fewer are drawn as points: they are no curve
MARKERS = 10  # most markers of a curve, about
TRAINING, EVALUATION = "training loss", "evaluation loss"


def learning_curves(folder: Path) -> Drawing:
    """Draw the mean over runs of each cell by epoch, and the range from the lowest to the highest.

    Each panel shows the metric and, below it, the losses. Panels of one task have the same vertical
    axes. Table 2 has a panel for each model and
    task and a line for each cell. If table 2 was not requested, table 5 is drawn in the same way,
    or table 6 with a panel for each weight type and protocol too, and a line for each rank.

    Args:
        folder: Folder of the tables.
    """
    requested = [name for name in ("table2", "table5", "table6") if read_table(folder, name)]
    table = requested[0] if requested else "table2"
    rows, runs = read_table(folder, table, "_curves"), read_table(folder, table, "_best")
    cells = [row for row in read_table(folder, table) if row["metric"] not in LEFT_OUT]
    if not rows:
        return empty_drawing("Learning curves: no finished run to show")
    by_rank = table == "table6"
    # What differs between panels; the rest differs between lines of a panel.
    panel_keys = ("method", "weights", "protocol") if by_rank else ()
    panels = group_by(rows, "model", "task_title", "metric", *panel_keys)
    one_cell = all(len(group_by(panel, *CELL)) == 1 for panel in panels.values())
    columns = len(group_by(rows, "weights")) if by_rank and not one_cell else len(panels)
    columns = min(4, columns)
    blocks = -(-len(panels) // columns)
    figure, axes = layout.panels(2 * blocks, columns, 3.2 * blocks)
    pairs = [
        pair
        for block in range(blocks)
        for pair in zip(axes[2 * block], axes[2 * block + 1], strict=True)
    ]
    # In all panels, the same rank has the same series: the keys of the panel are made equal.
    series = style.assign_series([row | dict.fromkeys(panel_keys, "lora") for row in rows])
    for (upper, lower), panel in zip(pairs, panels.values(), strict=False):
        lines = list(group_by(sort_by_method(panel), *CELL).values())
        for line, shift in zip(lines, _shifts(len(lines)), strict=True):
            first = line[0] | dict.fromkeys(panel_keys, "lora")
            label = f"r={first['rank']}" if by_rank else _line_label(first, rows)
            if one_cell:
                _draw_only_cell(upper, lower, line)
            else:
                one = series[tuple(first[key] for key in SERIES_KEYS)]
                _draw_cell(upper, lower, line, one, label, shift)
        style.add_majority(upper, [cell for cell in cells if same_cell(cell, panel[0])])
        title = _panel_label(panel, rows, by_rank, one_cell)
        layout.set_title(upper, title, columns)
        _set_axes(upper, lower, panel)
    used = pairs[: len(panels)]
    layout.hide(ax for pair in pairs[len(panels) :] for ax in pair)
    tasks = [(panel[0]["task_title"], panel[0]["metric"]) for panel in panels.values()]
    style.share_axis((key, upper) for key, (upper, _) in zip(tasks, used, strict=True))
    style.share_axis((key, lower) for key, (_, lower) in zip(tasks, used, strict=True))
    names = [labels.metric_with_unit(metric) for _, metric in tasks]
    layout.label_metrics(axes[::2], names)
    layout.label_metrics(axes[1::2], ["loss"] * len(names))
    few = {_has_few_epochs(line) for line in group_by(rows, *CELL).values()}
    layout.add_caption(figure, _caption(few), runs, has_stars=False)
    uppers, lowers = [upper for upper, _ in used], [lower for _, lower in used]
    if one_cell:  # the vertical axis names the metric
        known = any(not math.isnan(cell["majority"]) for cell in cells)
        layout.label_lines(figure, [*uppers, *lowers] if known else lowers)
    else:
        layout.label_lines(figure, uppers, extra=_loss_handles(few))
    return Drawing(figure, "Metric and losses by epoch", _alt_text(rows, runs))


def _has_few_epochs(line: list[Row]) -> bool:
    return len({row["epoch"] for row in line}) <= FEW_EPOCHS


def _shifts(count: int) -> list[float]:
    """Return what is added to the epochs of each of `count` lines, where they are points."""
    step = min(0.1, 0.6 / count)
    return [step * (index - (count - 1) / 2) for index in range(count)]


def _loss_handles(few: set[bool]) -> dict[str, Artist]:
    """Return the legend's entries of the two losses, for points, for curves, or for both."""
    handles: dict[str, Artist] = {}
    for points in sorted(few):
        training, evaluation = (
            (Line2D([], [], color=BLACK, linestyle="", marker="o", markerfacecolor=face))
            for face in ("white", BLACK)
        )
        if not points:
            training = Line2D([], [], color=BLACK, linestyle=":", marker="")
            evaluation = Line2D([], [], color=BLACK, linestyle="-", marker=".")
        of_points = " (points)" if points and len(few) > 1 else ""
        handles |= {TRAINING + of_points: training, EVALUATION + of_points: evaluation}
    return handles


def _caption(few: set[bool]) -> str:
    spread = {True: "bars", False: "band"}
    marks = " or ".join(spread[one] for one in sorted(few))
    text = f"Mean over runs; {marks}: lowest to highest run. Training loss is the epoch's mean, "
    text += "with dropout."
    return text + (" Two epochs or fewer are points, not a curve." if True in few else "")


def _alt_text(rows: list[Row], runs: list[Row]) -> str:
    groups: dict[str, list[tuple[float, str]]] = {}
    for line in group_by(rows, *CELL).values():
        last = max(line, key=lambda row: row["epoch"])
        if not math.isnan(last["metric_mean"]):
            label = f"{labels.cell_name(last)}, epoch {last['epoch']}"
            groups.setdefault(alt_text.panel_name(last), []).append((last["metric_mean"], label))
    counts = alt_text.counts(rows, runs)
    return (
        f"Metric, training loss and evaluation loss by epoch: mean and range over runs ({counts}). "
        f"Mean metric in the last epoch: {alt_text.ranges(groups)}."
    )


def _panel_label(panel: list[Row], rows: list[Row], by_rank: bool, one_cell: bool) -> str:
    """Return the title of a panel: task, model, and what its cells have in common.

    Args:
        panel: Rows of the panel.
        rows: Rows of all panels.
        by_rank: Whether each line of the panel is a rank.
        one_cell: Whether each panel has one cell.
    """
    first = panel[0]
    model, common = labels.model_name(first["model"]), ""
    if one_cell:
        common = f"{_line_label(first, rows)}, "
    elif by_rank:
        if varies(rows, "protocol"):
            model += f", {first['protocol']}"
        is_lora = first["method"] == "lora"
        name = labels.adapted_parts(first) if is_lora else labels.method_symbol(first["method"])
        common = f"{name}, "
    return f"{first['task_title']}\n{model}\n{common}{labels.run_counts(panel)}"


def _set_axes(upper: Axes, lower: Axes, panel: list[Row]) -> None:
    lower.set_xlabel("epoch")
    epochs = [row["epoch"] for row in panel]
    for ax in (upper, lower):
        ax.xaxis.set_major_locator(style.tick_locator(integer=True))
        ax.yaxis.set_major_locator(style.tick_locator())
        ax.margins(y=0.12)
        if max(epochs) <= FEW_EPOCHS:
            ax.set_xlim(0.5, max(epochs) + 0.5)


def _draw_cell(
    upper: Axes, lower: Axes, line: list[Row], series: Series, label: str, shift: float
) -> None:
    """Draw one of several cells: the series shows the cell.

    The training loss has white points, or a dotted curve without markers.
    """
    points = _has_few_epochs(line)
    training = series._replace(filled=False)
    if not points:
        training = series._replace(marker="", dash=":")
    _draw_means(upper, line, "metric", series, label, shift)
    _draw_means(lower, line, "train_loss", training, shift=shift)
    _draw_means(lower, line, "eval_loss", series, shift=shift)


def _draw_only_cell(upper: Axes, lower: Axes, line: list[Row]) -> None:
    """Draw the only cell of a panel: the series shows the metric or the loss."""
    _draw_means(upper, line, "metric", SERIES[0])
    _draw_means(lower, line, "train_loss", SERIES[1], TRAINING, -0.04)
    _draw_means(lower, line, "eval_loss", SERIES[2], EVALUATION, 0.04)


def _draw_means(
    ax: Axes,
    line: list[Row],
    quantity: str,
    series: Series,
    label: str | None = None,
    shift: float = 0.0,
) -> None:
    """Draw the mean over runs by epoch, and its range: a band, or bars for FEW_EPOCHS.

    Args:
        ax: The panel.
        line: Rows of one cell.
        quantity: Start of the names of the columns.
        series: Colour, marker and dash.
        label: Label of the line.
        shift: Added to the epochs of points, so that points of several lines are side by side.
    """
    epochs: Sequence[float] = [row["epoch"] for row in line]
    mean, low, high = (
        [row[f"{quantity}_{statistic}"] for row in line] for statistic in ("mean", "min", "max")
    )
    if _has_few_epochs(line):
        below = [max(middle - least, 0.0) for middle, least in zip(mean, low, strict=True)]
        above = [max(most - middle, 0.0) for middle, most in zip(mean, high, strict=True)]
        style.add_points(
            ax,
            [epoch + shift for epoch in epochs],
            mean,
            series,
            y_error=(below, above),
            linestyle="",
            label=label,
        )
        return
    ax.fill_between(epochs, low, high, color=series.colour, alpha=0.13, linewidth=0)
    ax.plot(
        epochs,
        mean,
        color=series.colour,
        linestyle=series.dash,
        marker=series.marker,
        markevery=-(-len(epochs) // MARKERS),
        markersize=3,
        markerfacecolor=series.colour if series.filled else "white",
        label=label,
    )


def _line_label(row: Row, rows: list[Row]) -> str:
    """Return the label of a cell, with its protocol if the figure has several."""
    protocol = f", {row['protocol']}" if varies(rows, "protocol") else ""
    return labels.cell_name(row) + protocol
