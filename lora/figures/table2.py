"""Draw Table 2: every run, our median and the published values, a panel for each model and task."""

from pathlib import Path

from matplotlib.axes import Axes

from lora.columns import group_by
from lora.figures import alt_text, labels, layout, style
from lora.figures.drawing import Drawing, empty_drawing
from lora.figures.rows import (
    CELL,
    LEFT_OUT,
    finished,
    is_constant_run,
    read_table,
    same_cell,
    sort_by_method,
    varies,
    varying,
)
from lora.figures.style import GREY, SERIES, Series, add_points
from lora.files import Row
from lora.tables.labels import origin

RUN = Series(GREY, ".", "")
OFFSET = 0.17  # between the marks of one cell, where cells are 1 apart


def table2(folder: Path) -> Drawing:
    """Draw the best epoch of each run, their median and range, and the published values.

    Each model has rows of up to four panels, one for each task. In a panel the methods are listed
    from top to bottom, and the metric is the horizontal axis, the same for the same task.

    Args:
        folder: Folder of the tables.
    """
    cells = [row for row in read_table(folder, "table2") if row["metric"] not in LEFT_OUT]
    runs = read_table(folder, "table2", "_best")
    published = [
        value for value in read_table(folder, "table2", "_published") if value["relation"] == "same"
    ]
    if not finished(cells):
        return empty_drawing("Table 2: no finished run to show")
    columns = min(4, len(group_by(cells, "task")))
    panel_rows: list[list[list[Row]]] = []  # for each row of panels: the cells of each panel
    for of_model in group_by(cells, "model").values():
        tasks = list(group_by(of_model, "task").values())
        panel_rows += [tasks[start : start + columns] for start in range(0, len(tasks), columns)]
    with_protocol = varies(cells, "protocol")
    height = 0.3 if with_protocol else 0.25  # of a cell, in inches
    heights = [max(1.3, height * len(tasks[0]) + 0.85) for tasks in panel_rows]
    figure, axes = layout.panels(len(panel_rows), columns, sum(heights), heights)
    used: list[tuple[object, Axes]] = []  # what the horizontal axis shows, and the panel
    for axes_row, tasks in zip(axes, panel_rows, strict=True):
        for ax, of_task in zip(axes_row, tasks, strict=False):
            _draw_panel(ax, sort_by_method(of_task), runs, published, columns)
            ax.tick_params(axis="y", labelleft=ax is axes_row[0], length=0)
            used.append(((of_task[0]["task"], of_task[0]["metric"]), ax))
        names = [
            labels.cell_name(cell) + (f"\n{cell['protocol']}" if with_protocol else "")
            for cell in sort_by_method(tasks[0])
        ]
        axes_row[0].set_yticks(range(len(names)), names)
        layout.hide(axes_row[len(tasks) :])
    style.share_axis(used, "x")
    text = "Best epoch of each run, chosen on the evaluation set that is reported."
    if any(_fits(value, cell) for value in published for cell in cells):
        text += f" {style.CUT}"
    if any(cell["n"] < cell["n_expected"] for cell in cells):
        text += " n: finished runs."
    layout.add_caption(figure, text, runs)
    layout.add_legend(figure, [ax for _, ax in used])
    return Drawing(figure, "Metric by method, task and model", _alt_text(cells, runs, published))


def _alt_text(cells: list[Row], runs: list[Row], published: list[Row]) -> str:
    done = finished(cells)
    counts = alt_text.counts(cells, runs)
    beside = sum(any(_fits(value, cell) for value in published) for cell in done)
    panels = group_by(varying(cells, "best_median"), "task", "model").values()
    values = alt_text.ranges(
        {
            alt_text.panel_name(panel[0]): [
                (cell["best_median"], labels.cell_name(cell)) for cell in panel
            ]
            for panel in panels
        }
    )
    return (
        f"Runs, median and range of the best epoch of {len(done)} cells ({counts}), of which "
        f"{beside} are beside published values. Medians: {values}."
    )


def _draw_panel(
    ax: Axes, cells: list[Row], runs: list[Row], published: list[Row], columns: int
) -> None:
    """Draw the cells of one model and task, the first at the top, in one of `columns` panels."""
    style.add_majority(ax, cells, vertical=True)
    for y, cell in enumerate(cells):
        of_cell = [run for run in runs if run["status"] == "ok" and same_cell(run, cell)]
        constant = [run for run in of_cell if is_constant_run(run, "best_value")]
        values = [run["best_value"] for run in of_cell if not is_constant_run(run, "best_value")]
        add_points(ax, values, [y] * len(values), RUN, alpha=0.8, label="one run")
        style.add_constant(ax, [(run["best_value"], y) for run in constant])
        median = varying([cell], "best_median")
        add_points(
            ax,
            [one["best_median"] for one in median],
            [y + OFFSET] * len(median),
            SERIES[0],
            x_error=style.range_errors(median),
            label="ours, median and range",
            linestyle="",
            capsize=2.5,
        )
        _draw_published(ax, y + 2 * OFFSET, [value for value in published if _fits(value, cell)])
        if cell["n"] < cell["n_expected"]:
            ax.text(
                1,
                y - 0.06,
                f"n={cell['n']} of {cell['n_expected']}",
                transform=ax.get_yaxis_transform(),
                ha="right",
                va="bottom",
                color=GREY,
            )
    ax.set_ylim(len(cells) - 0.3, -0.45)
    ax.set_yticks(range(len(cells)))
    first = cells[0]
    layout.set_title(ax, f"{first['task_title']}\n{labels.model_name(first['model'])}", columns)
    ax.set_xlabel(labels.metric_with_unit(first["metric"]))
    ax.xaxis.set_major_locator(style.tick_locator())
    ax.margins(x=0.12)


def _draw_published(ax: Axes, y: float, values: list[Row]) -> None:
    """Draw the published values of one cell, the first at height `y`."""
    for index, value in enumerate(values):
        source = origin(value)
        add_points(
            ax,
            [float(value["value"])],
            [y + OFFSET * index],
            SERIES[1 if source == "paper" else 2]._replace(filled=False),
            x_error=style.bounded_errors(
                [float(value["value"])], [value["spread"]], value["metric"]
            ),
            label=f"{source} ± its spread",
            linestyle="",
            capsize=2.5,
        )


def _fits(value: Row, cell: Row) -> bool:
    """Return whether a published value is compared with this cell."""
    keys = [key for key in (*CELL, "metric") if key not in ("model", "protocol")]
    same = all(value[key] == cell[key] for key in keys)
    ours = (value["ours_model"], value["ours_protocol"])
    return same and ours == (cell["model"], cell["protocol"])
