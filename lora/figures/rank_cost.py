"""Draw what a rank costs and gives: the metric against the trained parameters, a line over ranks.

The metric is the mean of the last epochs: it is not chosen on the evaluation set that is reported,
as the best epoch is.
"""

import math
from collections.abc import Collection
from pathlib import Path

from matplotlib.axes import Axes

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import read_all_tables, same_cell, varies, varying, weights_order
from lora.figures.style import SERIES, Series, add_points
from lora.files import Row

PANEL = ("model", "task", "metric", "protocol")


def rank_cost(folder: Path) -> Drawing:
    """Draw the mean ± std of the last epochs of LoRA cells against their trained parameters.

    There is a panel for each model, task and protocol, and a line for each weight type with two
    ranks or more. A cell of more than one table is drawn once.

    Args:
        folder: Folder of the tables.
    """
    cells, runs = read_all_tables(folder)
    if not cells:
        return empty_drawing("Cost of a rank: no finished run to show")
    cells = _cells_with_ranks(cells)
    if not cells:
        return empty_drawing("Cost of a rank: no weight type has runs of two ranks")
    panels = list(group_by(cells, *PANEL).values())
    columns = min(4, len(panels))
    panel_rows = -(-len(panels) // columns)
    figure, axes = layout.panels(panel_rows, columns, 2.2 * panel_rows)
    used = [ax for axes_row in axes for ax in axes_row][: len(panels)]
    layout.hide(ax for axes_row in axes for ax in axes_row if ax not in used)
    order = weights_order(cells)
    for ax, panel in zip(used, panels, strict=True):
        style.add_majority(ax, panel)
        of_panel = [run for run in runs if any(same_cell(run, cell) for cell in panel)]
        style.add_runs(ax, [(_cost(run, panel), run) for run in of_panel], "last_value")
        for (weights,), line in group_by(panel, "weights").items():
            _draw_line(ax, line, SERIES[order.index(weights) % len(SERIES)])
        protocol = f", {panel[0]['protocol']}" if varies(cells, "protocol") else ""
        title = f"{panel[0]['task_title']}\n{labels.model_name(panel[0]['model'])}{protocol}\n"
        layout.set_title(ax, title + labels.run_counts(panel), columns)
        style.set_parameter_axis(ax)
        ax.yaxis.set_major_locator(style.tick_locator())
        ax.margins(y=0.18)
    keys = [(panel[0]["task"], panel[0]["metric"]) for panel in panels]
    style.share_axis(zip(keys, used, strict=True))
    layout.label_metrics(axes, [labels.metric_with_unit(metric) for _, metric in keys])
    shown = [run for run in runs if any(same_cell(run, cell) for cell in cells)]
    layout.add_caption(figure, _caption(cells), shown)
    layout.label_lines(figure, used)
    return Drawing(figure, "What a LoRA rank costs and gives", _alt_text(panels, shown))


def _cells_with_ranks(cells: list[Row]) -> list[Row]:
    """Return LoRA cells with a defined mean whose panel and weight type have two ranks or more."""
    defined = [
        cell for cell in cells if cell["method"] == "lora" and not math.isnan(cell["last_mean"])
    ]
    lines = group_by(defined, *PANEL, "weights").values()
    return [cell for line in lines if varies(line, "rank") for cell in line]


def _cost(run: Row, cells: list[Row]) -> int:
    """Return the trained parameters of a run's cell."""
    return next(int(cell["trainable"]) for cell in cells if same_cell(run, cell))


def _draw_line(ax: Axes, cells: list[Row], series: Series) -> None:
    """Draw the ranks of one weight type."""
    line = sorted(varying(cells, "last_mean"), key=lambda cell: cell["rank"])
    means = [cell["last_mean"] for cell in line]
    spreads = [cell["last_std"] for cell in line]
    add_points(
        ax,
        [cell["trainable"] for cell in line],
        means,
        series,
        y_error=style.bounded_errors(means, spreads, cells[0]["metric"]),
        label=labels.weight_types(cells[0]["weights"]),
    )


def _ranks(line: list[Row]) -> str:
    return ", ".join(str(rank) for rank in sorted(cell["rank"] for cell in line))


def _caption(cells: list[Row]) -> str:
    """Return the caption. It names the ranks of each line if they differ."""
    lines = group_by(varying(cells, "last_mean"), *PANEL, "weights").values()
    ranks = dict.fromkeys(_ranks(line) for line in lines)
    points = "the LoRA ranks in ascending order, " + " or ".join(ranks)
    if len(ranks) == 1:
        points = f"r = {next(iter(ranks))}"
    of_lines = f"Points of a line from left to right: {points}. " if ranks else ""
    return (
        "Mean over runs of each run's last epoch; bars: one standard deviation to each side, cut "
        f"where the metric ends; dots: runs. {of_lines}Parameters: logarithmic, without "
        "the classification head."
    )


def _alt_text(panels: Collection[list[Row]], runs: list[Row]) -> str:
    parts = []
    for panel in panels:
        for line in group_by(varying(panel, "last_mean"), "weights").values():
            points = [
                f"{cell['last_mean']:.1f} with {cell['trainable']:,} parameters (r={cell['rank']})"
                for cell in sorted(line, key=lambda cell: cell["rank"])
            ]
            name = labels.plain(labels.weight_types(line[0]["weights"]))
            where = f"{alt_text.panel_name(line[0])}, {line[0]['protocol']}, {name}"
            ends = [points[0], points[-1]] if len(points) > 1 else points
            parts.append(f"{where}: {' to '.join(ends)}")
    counts = alt_text.counts((cell for panel in panels for cell in panel), runs)
    return (
        "Metric against the number of trained parameters, a line over the LoRA ranks for each set "
        f"of weight types ({counts}). Mean of the last epochs: {alt_text.shorten(parts)}."
    )
