"""Draw the metric against the number of trained parameters, with the paper's methods."""

import math
from collections.abc import Collection
from pathlib import Path

from matplotlib.axes import Axes

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import (
    read_all_tables,
    read_table,
    same_cell,
    sort_by_method,
    varies,
    varying,
)
from lora.figures.style import BLACK, SERIES_KEYS, add_points
from lora.files import Row
from lora.tables.labels import METHODS, origin

SAME = 1.06  # numbers of parameters with a smaller ratio are drawn side by side
STEP = 0.02  # between two of them, as a fraction of the axis
MARKERS = dict(zip(METHODS, "x1*+23", strict=True))  # of published values


def parameters(folder: Path) -> Drawing:
    """Draw the median of the best epoch against the number of trained parameters.

    There is a panel for each model and task with two cells or more, or with a published value. A
    cell of more than one table is drawn once.

    Args:
        folder: Folder of the tables.
    """
    cells, runs = read_all_tables(folder)
    cells = [
        cell for panel in group_by(cells, "model", "task").values() for cell in _side_by_side(panel)
    ]
    if not cells:
        return empty_drawing("Trained parameters: no finished run to show")
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
        return empty_drawing("Trained parameters: one cell per task, and no published value")
    columns = min(4, len(panels))
    panel_rows = -(-len(panels) // columns)
    figure, axes = layout.panels(panel_rows, columns, 2.0 * panel_rows)
    flat_axes = [ax for axes_row in axes for ax in axes_row]
    dots = [(cell, run) for cell in cells for run in runs if same_cell(run, cell)]
    # A series is a method, not a size: without the rank, and the weights of LoRA only.
    lines = [
        cell | {"rank": 0, "weights": cell["weights"] if cell["method"] == "lora" else ""}
        for cell in cells
    ]
    for ax, (model, task, title, metric) in zip(flat_axes, panels, strict=False):
        _draw_ours(ax, model, task, lines)
        of_panel = [
            (cell["x"], run) for cell, run in dots if (cell["model"], cell["task"]) == (model, task)
        ]
        style.add_runs(ax, of_panel, "best_value")
        for value in published:
            if (value["ours_model"], value["task"], value["metric"]) == (model, task, metric):
                _draw_published(ax, value)
        style.set_parameter_axis(ax)
        layout.set_title(ax, f"{title}\n{labels.model_name(model)}", columns)
        ax.yaxis.set_major_locator(style.tick_locator())
        ax.margins(y=0.12)
    layout.hide(flat_axes[len(panels) :])
    used = flat_axes[: len(panels)]
    style.share_axis(
        ((task, metric), ax) for (_, task, _, metric), ax in zip(panels, used, strict=True)
    )
    layout.label_metrics(axes, [labels.metric_with_unit(metric) for *_, metric in panels])
    text = (
        "Median over runs of each run's best epoch; bars: lowest to highest; dots: runs. "
        "Parameters: logarithmic, without the classification head."
    )
    if any(cell["x"] != cell["trainable"] for cell in cells):
        text += " Cells with about the same number of parameters are side by side."
    layout.add_caption(figure, text, runs)
    layout.label_lines(figure, used)
    return Drawing(figure, "Metric by trained parameters", _alt_text(panels.values(), runs))


def _alt_text(panels: Collection[list[Row]], runs: list[Row]) -> str:
    values = alt_text.ranges(
        {
            alt_text.panel_name(panel[0]): [
                (
                    cell["best_median"],
                    f"{labels.cell_name(cell)}, {cell['trainable']:,} parameters",
                )
                for cell in varying(panel, "best_median")
            ]
            for panel in panels
        }
    )
    counts = alt_text.counts((cell for panel in panels for cell in panel), runs)
    return (
        f"Metric against the number of trained parameters, a point for each cell ({counts}). "
        f"Median of the best epochs: {values}."
    )


def _side_by_side(cells: list[Row]) -> list[Row]:
    """Return the cells of a panel with their position `x`, so that no point hides another.

    It is the number of trained parameters. Cells whose numbers are within SAME are moved apart.
    """
    ordered = sorted(cells, key=lambda cell: cell["trainable"])
    decades = max(1.0, math.log10(ordered[-1]["trainable"] / ordered[0]["trainable"]))
    groups: list[list[Row]] = []
    for cell in ordered:
        if groups and cell["trainable"] <= SAME * groups[-1][-1]["trainable"]:
            groups[-1].append(cell)
        else:
            groups.append([cell])
    return [
        cell | {"x": cell["trainable"] * 10 ** (STEP * decades * (index - (len(group) - 1) / 2))}
        for group in groups
        for index, cell in enumerate(group)
    ]


def _draw_ours(ax: Axes, model: str, task: str, cells: list[Row]) -> None:
    """Draw a line for each series of one model and task; `cells` are those of all panels."""
    series = style.assign_series(cells)
    of_task = [cell for cell in cells if (cell["model"], cell["task"]) == (model, task)]
    style.add_majority(ax, of_task)
    for key, line in group_by(sort_by_method(of_task), *SERIES_KEYS).items():
        line = sorted(varying(line, "best_median"), key=lambda cell: cell["trainable"])
        add_points(
            ax,
            [cell["x"] for cell in line],
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
