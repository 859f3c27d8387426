"""Draw the learning curves: metric and losses of each cell by epoch."""

from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lora.columns import group_by
from lora.figures import labels, style
from lora.figures.rows import CELL, LEFT_OUT, read_table, same_cell, sort_by_method, varies
from lora.figures.style import BLACK, SERIES, SERIES_KEYS, Series
from lora.files import Row

MAX_MARKERS = 20  # a line with more epochs has no markers


def learning_curves(folder: Path) -> Figure:
    """Draw the mean over runs of each cell by epoch, with a band from the lowest to the highest.

    Each panel shows the metric and, below it, the losses. Table 2 has a panel for each model and
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
        return style.empty_figure("Learning curves: no finished run to show")
    by_rank = table == "table6"
    # What differs between panels; the rest differs between lines of a panel.
    panel_keys = ("method", "weights", "protocol") if by_rank else ()
    panels = group_by(rows, "model", "task_title", "metric", *panel_keys)
    one_cell = all(len(group_by(panel, *CELL)) == 1 for panel in panels.values())
    columns = len(group_by(rows, "weights")) if by_rank and not one_cell else len(panels)
    columns = min(4, columns)
    blocks = -(-len(panels) // columns)
    figure, axes = style.panels(2 * blocks, columns, 3.7 * blocks, width=1.9)
    pairs = [
        pair
        for block in range(blocks)
        for pair in zip(axes[2 * block], axes[2 * block + 1], strict=True)
    ]
    # In all panels, the same rank has the same series: the keys of the panel are made equal.
    series = style.assign_series([row | dict.fromkeys(panel_keys, "lora") for row in rows])
    for (upper, lower), panel in zip(pairs, panels.values(), strict=False):
        for line in group_by(sort_by_method(panel), *CELL).values():
            first = line[0] | dict.fromkeys(panel_keys, "lora")
            label = f"r={first['rank']}" if by_rank else _line_label(first, rows)
            if one_cell:
                _draw_only_cell(upper, lower, line)
            else:
                _draw_cell(upper, lower, line, series[tuple(first[k] for k in SERIES_KEYS)], label)
        style.add_majority(upper, [cell for cell in cells if same_cell(cell, panel[0])])
        _label_panel(upper, lower, panel, _panel_label(panel, rows, by_rank, one_cell))
    used = [ax for pair in pairs[: len(panels)] for ax in pair]
    style.hide(ax for pair in pairs[len(panels) :] for ax in pair)
    loss_lines: dict[str, Artist] = {
        "training loss": Line2D([], [], color=BLACK, linestyle=":", marker=""),
        "evaluation loss": Line2D([], [], color=BLACK, linestyle="-", marker="."),
    }
    style.add_legend(figure, used, extra={} if one_cell else loss_lines)
    text = (
        "Mean over runs; band: lowest to highest run. Training loss is the epoch's mean, with "
        "dropout."
    )
    style.add_caption(figure, text, runs)
    return figure


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


def _label_panel(upper: Axes, lower: Axes, panel: list[Row], title: str) -> None:
    upper.set_title(title, fontsize=7)
    upper.set_ylabel(labels.metric_with_unit(panel[0]["metric"]), fontsize=7)
    lower.set_xlabel("epoch")
    lower.set_ylabel("loss")
    for ax in (upper, lower):
        ax.xaxis.set_major_locator(style.tick_locator(integer=True))
        ax.yaxis.set_major_locator(style.tick_locator())


def _draw_cell(upper: Axes, lower: Axes, line: list[Row], series: Series, label: str) -> None:
    """Draw one of several cells: the series shows the cell, the dash of a loss shows which loss."""
    _draw_band(upper, line, "metric", series, label)
    _draw_band(lower, line, "train_loss", (series[0], "", ":"))
    _draw_band(lower, line, "eval_loss", series)


def _draw_only_cell(upper: Axes, lower: Axes, line: list[Row]) -> None:
    """Draw the only cell of a panel: the series shows the metric or the loss."""
    _draw_band(upper, line, "metric", SERIES[0], "metric")
    _draw_band(lower, line, "train_loss", SERIES[1], "training loss")
    _draw_band(lower, line, "eval_loss", SERIES[2], "evaluation loss")


def _draw_band(
    ax: Axes, line: list[Row], quantity: str, series: Series, label: str | None = None
) -> None:
    """Draw the mean of a quantity over runs by epoch, with a band from minimum to maximum."""
    colour, marker, dash = series
    epochs = [row["epoch"] for row in line]
    mean, low, high = (
        [row[f"{quantity}_{statistic}"] for row in line] for statistic in ("mean", "min", "max")
    )
    ax.fill_between(epochs, low, high, color=colour, alpha=0.13, linewidth=0)
    (drawn,) = ax.plot(epochs, mean, color=colour, linestyle=dash, label=label)
    if len(epochs) <= MAX_MARKERS:
        drawn.set_marker(marker)
        drawn.set_markersize(3)


def _line_label(row: Row, rows: list[Row]) -> str:
    """Return the label of a cell, with its protocol if the figure has several."""
    protocol = f", {row['protocol']}" if varies(rows, "protocol") else ""
    return labels.cell_name(row) + protocol
