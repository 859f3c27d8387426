"""Draw the metric against the rank with a trained and with a frozen classification head.

The paper's curves (GPT-3) are flat. The course's are steep, and its code froze the classification
head at its random initial values. A panel shows each setting. It includes the published curves, in
a faint colour, only for MNLI.
"""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import finished, read_table, same_cell, varies, varying
from lora.figures.style import BLACK, GREY, SERIES, Series, add_points
from lora.files import Row
from lora.tables.labels import SYMBOLS, origin


def head_ablation(folder: Path) -> Drawing:
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
        return empty_drawing("Head trained or frozen: no finished run of table 6 to show")
    if not varies(cells, "protocol"):
        return empty_drawing(
            "Head trained or frozen: table 6 has one protocol, so there is no comparison"
        )
    tasks = group_by(cells, "model", "task")
    order = list(dict.fromkeys(cell["weights"] for cell in cells))
    protocols = list(dict.fromkeys(cell["protocol"] for cell in cells))
    ranks = sorted({cell["rank"] for cell in cells})
    figure, axes = layout.panels(len(tasks), len(order), 2.2 * len(tasks))
    used: list[tuple[object, Axes]] = []  # what the vertical axis shows, and the panel
    for axes_row, ((model, task), of_task) in zip(axes, tasks.items(), strict=True):
        for ax, weights in zip(axes_row, order, strict=True):
            panel = [cell for cell in of_task if cell["weights"] == weights]
            of_panel = [run for run in runs if any(same_cell(run, cell) for cell in panel)]
            style.add_runs(ax, [(run["rank"], run) for run in of_panel], "last_value")
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
            layout.set_title(ax, f"{title}, {of_task[0]['task_title']}", len(order))
            style.set_rank_axis(ax, ranks)
            used.append(((task, of_task[0]["metric"]), ax))
        axes_row[0].set_ylabel(labels.metric_with_unit(of_task[0]["metric"]))
    style.share_axis(used)
    text = (
        "Mean ± std over runs of each run's last epoch; dots: runs; crosses: median of the best "
        f"epochs. {style.CUT}"
    )
    if any(task == "mnli" for _, task in tasks):
        text += (
            " Grey: published, by the course (one seed) and by the paper (GPT-3: compare the "
            "shape only)."
        )
    layout.add_caption(figure, text, runs)
    cross = Line2D([], [], linestyle="", marker="x", color=BLACK)
    layout.add_legend(figure, [ax for _, ax in used], 3, {"best epoch, median": cross})
    return Drawing(figure, "Metric by LoRA rank and head", _alt_text(cells, runs))


def _alt_text(cells: list[Row], runs: list[Row]) -> str:
    lines = group_by(varying(cells, "last_mean"), "task", "model", "protocol").values()
    values = alt_text.ranges(
        {
            f"{line[0]['protocol']} (head {_heads(line)}), {alt_text.panel_name(line[0])}": [
                (cell["last_mean"], f"{labels.weight_types(cell['weights'])} r={cell['rank']}")
                for cell in line
                if not math.isnan(cell["last_mean"])
            ]
            for line in lines
        }
    )
    return (
        f"Line charts of the metric by LoRA rank, a line for each protocol and a panel for each "
        f"set of weight types ({alt_text.counts(cells, runs)}). Mean of the last epochs: {values}."
    )


def _heads(cells: list[Row]) -> str:
    return " or ".join(sorted({cell["head"] for cell in cells}))


def _draw_protocol(ax: Axes, cells: list[Row], series: Series) -> None:
    """Draw the cells of one weight type and protocol."""
    line = sorted(varying(cells, "last_mean"), key=lambda cell: cell["rank"])
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
        label=f"{line[0]['protocol']}: head {_heads(line)}" if line else None,
    )
    best = varying(cells, "best_median")
    ax.plot(
        [1.13 * cell["rank"] for cell in best],  # to the right of the points
        [cell["best_median"] for cell in best],
        linestyle="",
        marker="x",
        markersize=3.5,
        color=series.colour,
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
