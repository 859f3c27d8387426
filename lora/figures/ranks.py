"""Draw the metric against the rank: Table 6 as curves, and trained against frozen heads.

The paper's curves (GPT-3) are flat. The course's are steep, and its code froze the classification
head at its random initial values. `head_ablation` shows both settings in one panel. It includes the
published curves, in a faint colour, only for MNLI.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from lora.columns import group_by
from lora.figures import labels, style
from lora.figures.rows import finished, read_table, same_cell, varies, varying, weights_order
from lora.figures.style import BLACK, GREY, SERIES, Series, add_points
from lora.files import Row
from lora.tables.labels import SYMBOLS, origin


def rank_curves(folder: Path) -> Figure:
    """Draw the median and range of the best epochs against the rank, a line for each weight type.

    There is a panel for each model, task, method and protocol. The published curves have their own
    panels.

    Args:
        folder: Folder of the tables.
    """
    cells, runs, published = (
        read_table(folder, "table6", kind) for kind in ("", "_best", "_published")
    )
    if not finished(cells):
        return style.empty_figure("Rank curves: no finished run of table 6 to show")
    our_panels = group_by(cells, "model", "task", "method", "protocol")
    published_panels = group_by(published, "model", "task", "source")
    count = len(our_panels) + len(published_panels)
    columns = min(4, count)
    panel_rows = -(-count // columns)
    figure, axes = style.panels(panel_rows, columns, 2.6 * panel_rows, width=2.35)
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
        title += f"ours{under}, {labels.run_counts(panel)}"
        ax.set_title(title, fontsize=8)
        ax.set_ylabel(labels.metric_with_unit(panel[0]["metric"]))
        style.set_rank_axis(ax, ranks)
    for ax, ((model, task, _), panel) in zip(
        flat_axes[len(our_panels) :], published_panels.items(), strict=False
    ):
        for (weights,), line in group_by(panel, "weights").items():
            _draw_published_weights(ax, line, SERIES[order.index(weights) % len(SERIES)])
        source = "course, one seed" if origin(panel[0]) == "course" else "paper, shape only"
        title = f"{labels.model_name(model)}, {task.upper()}\n{source}"
        ax.set_title(title, fontsize=8, color=GREY)
        ax.set_facecolor("#f6f6f6")
        style.set_rank_axis(ax, ranks)
    style.hide(flat_axes[count:])
    style.add_legend(figure, flat_axes[:count], columns=6)
    text = "Median over runs of each run's best epoch; bars: lowest to highest; dots: runs. "
    text += "Vertical scales differ."
    style.add_caption(figure, text, runs)
    return figure


def _draw_weights(
    ax: Axes, method: str, cells: list[Row], runs: list[Row], order: list[str]
) -> None:
    """Draw the cells of one weight type, and a dot for each of their runs.

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
    style.add_constant(
        ax,
        [(run["rank"] * shift, run["best_value"]) for run in of_cells if run["best_constant"] == 1],
    )
    dots = [run for run in of_cells if run["best_constant"] != 1]
    ax.plot(
        [run["rank"] * shift for run in dots],
        [run["best_value"] for run in dots],  # NaN: not finished, not drawn
        linestyle="",
        marker=".",
        markersize=3,
        color=series[0],
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
        series,
        y_error=[by_rank[rank]["spread"] for rank in ranks],
        markerfacecolor="white",
        linewidth=1,
        elinewidth=0.7,
    )


def head_ablation(folder: Path) -> Figure:
    """Draw the mean ± std of the last epochs against the rank, a line for each protocol.

    There is a panel for each weight type, and a row of panels for each model and task. Crosses are
    the medians of the best epochs. On MNLI, the published curves are drawn in grey.

    Args:
        folder: Folder of the tables.
    """
    cells, runs, published = (
        read_table(folder, "table6", kind) for kind in ("", "_best", "_published")
    )
    cells = [cell for cell in cells if cell["method"] == "lora"]
    runs = [run for run in runs if run["method"] == "lora"]
    if not finished(cells):
        return style.empty_figure("Head trained or frozen: no finished run of table 6 to show")
    if not varies(cells, "protocol"):
        return style.empty_figure(
            "Head trained or frozen: table 6 has one protocol, so there is no comparison"
        )
    tasks = group_by(cells, "model", "task")
    order = list(dict.fromkeys(cell["weights"] for cell in cells))
    protocols = list(dict.fromkeys(cell["protocol"] for cell in cells))
    ranks = sorted({cell["rank"] for cell in cells})
    figure, axes = style.panels(len(tasks), len(order), 2.7 * len(tasks), width=2.45, share_y=True)
    for axes_row, ((model, task), of_task) in zip(axes, tasks.items(), strict=True):
        for ax, weights in zip(axes_row, order, strict=True):
            panel = [cell for cell in of_task if cell["weights"] == weights]
            of_panel = [run for run in runs if any(same_cell(run, cell) for cell in panel)]
            points = {
                constant: [
                    (run["rank"], run["last_value"])
                    for run in of_panel
                    if (run["last_constant"] == 1) == constant
                ]
                for constant in (False, True)
            }
            style.add_dots(ax, points[False])
            style.add_constant(ax, points[True])
            for (protocol,), line in group_by(panel, "protocol").items():
                _draw_protocol(ax, line, SERIES[protocols.index(protocol) % len(SERIES)])
            style.add_majority(ax, panel)
            if task == "mnli":
                fitting = [
                    value
                    for value in published
                    if value["weights"] == weights
                    and value["metric"] == panel[0]["metric"]
                    and value["relation"] != "unverified"
                ]
                _draw_published(ax, fitting)
            title = f"{labels.weight_types(weights)}\n{labels.model_name(model)}"
            ax.set_title(f"{title}, {panel[0]['task_title']}", fontsize=8)
            style.set_rank_axis(ax, ranks)
        axes_row[0].set_ylabel(labels.metric_with_unit(of_task[0]["metric"]))
    cross = Line2D([], [], linestyle="", marker="x", color=BLACK)
    style.add_legend(
        figure,
        [ax for axes_row in axes for ax in axes_row],
        columns=3,
        extra={"best epoch, median": cross},
    )
    text = "Mean ± std over runs of each run's last epoch; dots: runs; crosses: median of the best "
    text += "epochs."
    text += f" {style.CUT}"
    if any(task == "mnli" for _, task in tasks):
        text += (
            " Grey: published, by the course (one seed) and by the paper (GPT-3: compare the "
            "shape only)."
        )
    style.add_caption(figure, text, runs)
    return figure


def _draw_protocol(ax: Axes, cells: list[Row], series: Series) -> None:
    """Draw the cells of one weight type and protocol."""
    line = sorted(varying(cells, "last_mean"), key=lambda cell: cell["rank"])
    heads = " or ".join(sorted({cell["head"] for cell in line}))
    ranks = [cell["rank"] for cell in line]
    add_points(
        ax,
        ranks,
        [cell["last_mean"] for cell in line],
        series,
        y_error=style.bounded_errors(
            [cell["last_mean"] for cell in line],
            [cell["last_std"] for cell in line],
            cells[0]["metric"],
        ),
        label=f"{line[0]['protocol']}: head {heads}" if line else None,
    )
    best = varying(cells, "best_median")
    ax.plot(
        [1.13 * cell["rank"] for cell in best],  # to the right of the points
        [cell["best_median"] for cell in best],
        linestyle="",
        marker="x",
        markersize=3.5,
        color=series[0],
    )


def _draw_published(ax: Axes, values: list[Row]) -> None:
    """Draw the published curves of one weight type on MNLI, in grey."""
    for (_, model, method), line in group_by(values, "source", "model", "method").items():
        by_rank = {value["rank"]: float(value["value"]) for value in line}
        ranks = sorted(by_rank)
        dash: LineStyleType = ":"
        source = f"paper, {labels.model_name(model)}, shape only"
        if origin(line[0]) == "course":
            source, dash = "course", "--"
        ax.plot(
            ranks,
            [by_rank[rank] for rank in ranks],
            marker="o",
            linestyle=dash,
            label=source if method == "lora" else f"{source} ({SYMBOLS[method]})",
            color=GREY,
            linewidth=0.9,
            markersize=2.5,
            alpha=0.75,
        )
