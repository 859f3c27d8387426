"""Draw the metric against the number of trained parameters, with the paper's methods."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora.columns import group_by
from lora.figures import labels, style
from lora.figures.rows import (
    CELL,
    LEFT_OUT,
    finished,
    read_table,
    same_cell,
    sort_by_method,
    varies,
    varying,
)
from lora.figures.style import BLACK, SERIES_KEYS, add_points
from lora.files import Row
from lora.tables.labels import METHODS, origin

MARKERS = dict(zip(METHODS, "x1*+23", strict=True))  # of published values


def parameters(folder: Path) -> Figure:
    """Draw the median of the best epoch against the number of trained parameters.

    There is a panel for each model and task with two cells or more, or with a published value. A
    cell of more than one table is drawn once.

    Args:
        folder: Folder of the tables.
    """
    cells, runs = _cells_and_runs(folder)
    if not cells:
        return style.empty_figure("Trained parameters: no finished run to show")
    published = [
        value
        for value in read_table(folder, "table2", "_published")
        if value["relation"] in ("same", "context")
        and value["trainable"]
        and origin(value) == "paper"
    ]
    with_published = {(value["ours_model"], value["task"]) for value in published}
    panels = group_by(sort_by_method(cells), "model", "task", "task_title", "metric")
    panels = {
        key: rows for key, rows in panels.items() if len(rows) > 1 or key[:2] in with_published
    }
    if not panels:
        return style.empty_figure("Trained parameters: one cell per task, and no published value")
    columns = min(4, len(panels))
    panel_rows = -(-len(panels) // columns)
    figure, axes = style.panels(panel_rows, columns, 2.4 * panel_rows, width=1.9)
    flat_axes = [ax for axes_row in axes for ax in axes_row]
    dots = [
        (cell, run) for cell in cells for run in runs if same_cell(run, cell)
    ]  # NaN: not finished, not drawn
    # A series is a method, not a size: without the rank, and the weights of LoRA only.
    lines = [
        cell | {"rank": 0, "weights": cell["weights"] if cell["method"] == "lora" else ""}
        for cell in cells
    ]
    for ax, (model, task, title, metric) in zip(flat_axes, panels, strict=False):
        _draw_ours(ax, model, task, lines)
        for draw, is_constant in ((style.add_dots, False), (style.add_constant, True)):
            draw(
                ax,
                [
                    (cell["trainable"], run["best_value"])
                    for cell, run in dots
                    if (cell["model"], cell["task"]) == (model, task)
                    and (run["best_constant"] == 1) == is_constant
                ],
            )
        for value in published:
            if (value["ours_model"], value["task"], value["metric"]) == (model, task, metric):
                _draw_published(ax, value)
        ax.set_xscale("log")
        ax.set_title(f"{title}\n{labels.model_name(model)}", fontsize=8)
        ax.set_ylabel(labels.metric_with_unit(metric), fontsize=7)
        ax.set_xlabel("trained parameters")
        ax.yaxis.set_major_locator(style.tick_locator())
        ax.margins(x=0.12, y=0.12)
    style.hide(flat_axes[len(panels) :])
    style.add_legend(figure, flat_axes[: len(panels)])
    text = (
        "Median over runs of each run's best epoch; bars: lowest to highest; dots: runs. "
        "Parameters: logarithmic, without the classification head."
    )
    style.add_caption(figure, text, runs)
    return figure


def _cells_and_runs(folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the finished cells and the requested runs of all tables, each once."""
    cells: dict[tuple[object, ...], Row] = {}
    runs: dict[tuple[object, ...], Row] = {}
    for table in ("table2", "table5", "table6"):
        rows = [row for row in read_table(folder, table) if row["metric"] not in LEFT_OUT]
        cells |= {tuple(row[key] for key in CELL): row for row in finished(rows)}
        runs |= {
            tuple(run[key] for key in (*CELL, "seed")): run
            for run in read_table(folder, table, "_best")
        }
    return list(cells.values()), list(runs.values())


def _draw_ours(ax: Axes, model: str, task: str, cells: list[Row]) -> None:
    """Draw a line for each series of one model and task; `cells` are those of all panels."""
    series = style.assign_series(cells)
    of_task = [cell for cell in cells if (cell["model"], cell["task"]) == (model, task)]
    style.add_majority(ax, of_task)
    for key, line in group_by(sort_by_method(of_task), *SERIES_KEYS).items():
        line = sorted(varying(line, "best_median"), key=lambda cell: cell["trainable"])
        add_points(
            ax,
            [cell["trainable"] for cell in line],
            [cell["best_median"] for cell in line],
            series[key],
            y_error=style.range_errors(line),
            label=_series_label(line[0], cells) if line else None,
        )


def _draw_published(ax: Axes, value: Row) -> None:
    ax.plot(
        [float(value["trainable"].removesuffix("M")) * 1e6],
        [float(value["value"])],
        linestyle="",
        color=BLACK,
        zorder=3,
        marker=MARKERS[value["method"]],
        label=f"paper, {labels.method_symbol(value['method'])}",
    )


def _series_label(cell: Row, cells: list[Row]) -> str:
    """Return the method and weight types, with the protocol if these have several."""
    name = labels.method_symbol(cell["method"])
    if cell["method"] == "lora":
        name += f" {labels.weight_types(cell['weights'])}"
    same_method = [
        other
        for other in cells
        if (other["method"], other["weights"]) == (cell["method"], cell["weights"])
    ]
    return f"{name}, {cell['protocol']}" if varies(same_method, "protocol") else name
