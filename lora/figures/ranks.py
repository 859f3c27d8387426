"""Draw the metric against the rank: Table 6 as curves, beside the published curves."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import (
    finished,
    is_constant_run,
    read_table,
    same_cell,
    varies,
    varying,
    weights_order,
)
from lora.figures.style import GREY, SERIES, Series, add_points
from lora.files import Row
from lora.tables.labels import origin

OWN_RANGE = "own range"  # of a vertical axis
Groups = dict[tuple[Any, ...], list[Row]]  # rows of each panel


def rank_curves(folder: Path) -> Drawing:
    """Draw the median and range of the best epochs against the rank, a line for each weight type.

    There is a panel for each model, task, method and protocol. The published curves have their own
    panels. Panels of one task have the same vertical axis, but for published models that have no
    run: they have their own, and its label says so.

    Args:
        folder: Folder of the tables.
    """
    cells, runs, published = (
        read_table(folder, "table6", kind) for kind in ("", "_best", "_published")
    )
    if not finished(cells):
        return empty_drawing("Rank curves: no finished run of table 6 to show")
    our_panels = group_by(cells, "model", "task", "method", "protocol")
    published_panels = group_by(published, "model", "task", "source")
    count = len(our_panels) + len(published_panels)
    columns = min(3, count) if count != 4 else 2
    panel_rows = -(-count // columns)
    figure, axes = layout.panels(panel_rows, columns, 2.2 * panel_rows)
    flat_axes = [ax for axes_row in axes for ax in axes_row]
    ranks, order = sorted({cell["rank"] for cell in cells} - {0}), weights_order(cells)
    for ax, ((model, _, method, protocol), panel) in zip(
        flat_axes, our_panels.items(), strict=False
    ):
        style.add_majority(ax, panel)
        for line in group_by(panel, "weights").values():
            _draw_weights(ax, method, line, runs, order)
        under = f", {protocol}" if varies(cells, "protocol") else ""
        title = f"{labels.model_name(model)}, {panel[0]['task_title']}\n"
        layout.set_title(ax, f"{title}ours{under}, {labels.run_counts(panel)}", columns)
        style.set_rank_axis(ax, ranks)
    tasks = {cell["task"] for cell in cells}
    for ax, ((model, task, _), panel) in zip(
        flat_axes[len(our_panels) :], published_panels.items(), strict=False
    ):
        for (weights,), line in group_by(panel, "weights").items():
            _draw_published_weights(ax, line, SERIES[order.index(weights) % len(SERIES)])
        of_task = f", {task.upper()}" if task in tasks else ""
        title = f"{labels.model_name(model)}{of_task}\n{_kind(panel[0])}"
        layout.set_title(ax, title, columns, colour=GREY)
        ax.set_facecolor("#f6f6f6")
        style.set_rank_axis(ax, ranks)
    layout.hide(flat_axes[count:])
    panels = [*our_panels.values(), *published_panels.values()]
    used = flat_axes[:count]
    for ax in used:
        ax.margins(y=0.1)
    keys = [_axis_key(panel[0]) for panel in panels]
    style.share_axis(zip(keys, used, strict=True))
    layout.label_metrics(
        axes,
        [
            labels.metric_with_unit(panel[0]["metric"]) + (f", {OWN_RANGE}" if model else "")
            for panel, (_, _, model) in zip(panels, keys, strict=True)
        ],
    )
    layout.add_caption(figure, _caption(our_panels, published_panels), runs)
    layout.label_lines(figure, used, columns=6)
    return Drawing(figure, "Metric by LoRA rank", _alt_text(cells, runs, published_panels))


def _axis_key(row: Row) -> tuple[str, str, str]:
    """Return task, metric, and the model if it is a published one that has no run here."""
    is_other = row.get("relation") == "reference"
    return row["task"], row["metric"], row["model"] if is_other else ""


def _kind(value: Row) -> str:
    """Return what a published panel shows."""
    return "course, one seed" if origin(value) == "course" else "paper, shape only"


def _caption(ours: Groups, published: Groups) -> str:
    text = "Median over runs of each run's best epoch; bars: lowest to highest; dots: runs."
    if published:
        sources = dict.fromkeys(
            f"{labels.model_name(model)} on {task.upper()} ({_kind(panel[0])})"
            for (model, task, _), panel in published.items()
        )
        text += f" Grey panels: published, {', '.join(sources)}."
    if len({panel[0]["task"] for panel in (*ours.values(), *published.values())}) > 1:
        text += " Vertical axes differ between tasks."
    return text


def _alt_text(cells: list[Row], runs: list[Row], published: Groups) -> str:
    drawn = varying(cells, "best_median")
    lines = group_by(drawn, "task", "model", "method", "protocol").values()
    several = varies(cells, "protocol")
    values = alt_text.ranges(
        {
            alt_text.panel_name(line[0]) + (f", {line[0]['protocol']}" if several else ""): [
                (cell["best_median"], labels.cell_name(cell)) for cell in line
            ]
            for line in lines
        }
    )
    text = (
        "Line charts of the metric by LoRA rank, a line for each set of weight types "
        f"({alt_text.counts(cells, runs)}). Median of the best epochs: {values}."
    )
    if published:
        text += f" Grey panels with published values: {len(published)}."
    return text


def _draw_weights(
    ax: Axes, method: str, cells: list[Row], runs: list[Row], order: list[str]
) -> None:
    """Draw the cells of one weight type, and a dot for each of their runs; a star if constant.

    Args:
        ax: The panel.
        method: Method of the cells.
        cells: One cell for each rank.
        runs: Runs of all cells.
        order: All weight types of the figure, which decides the series.
    """
    weights = cells[0]["weights"]
    index = order.index(weights)
    series = SERIES[index % len(SERIES)]
    # A small shift, so that the error bars of different weight types do not hide each other.
    shift = 1 + 0.05 * (index - (len(order) - 1) / 2)
    line = sorted(varying(cells, "best_median"), key=lambda cell: cell["rank"])
    label = labels.weight_types(weights)
    if method != "lora":
        label = f"{labels.method_symbol(method)} {weights}"
    add_points(
        ax,
        [cell["rank"] * shift for cell in line],
        [cell["best_median"] for cell in line],
        series,
        y_error=style.range_errors(line),
        label=label,
    )
    of_cells = [run for run in runs if any(same_cell(run, cell) for cell in finished(cells))]
    constant = [run for run in of_cells if is_constant_run(run, "best_value")]
    style.add_constant(ax, [(run["rank"] * shift, run["best_value"]) for run in constant])
    dots = [run for run in of_cells if not is_constant_run(run, "best_value")]
    ax.plot(
        [run["rank"] * shift for run in dots],
        [run["best_value"] for run in dots],  # NaN: not finished, not drawn
        linestyle="",
        marker=".",
        markersize=3,
        color=series.colour,
        alpha=0.45,
    )


def _draw_published_weights(ax: Axes, values: list[Row], series: Series) -> None:
    """Draw the published values of one weight type."""
    # A value that is compared with two protocols has two rows.
    by_rank = {value["rank"]: value for value in values}
    ranks = sorted(by_rank)
    add_points(
        ax,
        ranks,
        [float(by_rank[rank]["value"]) for rank in ranks],
        series._replace(filled=False),
        y_error=[by_rank[rank]["spread"] for rank in ranks],
        label=labels.weight_types(values[0]["weights"]),
        linewidth=1,
        elinewidth=0.7,
    )
