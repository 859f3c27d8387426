"""Arrange the second page of a table: every statistic of every cell, a line for each cell."""

import math
from collections.abc import Iterable

from lora.columns import group_by
from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables import layout, notes
from lora.tables.labels import (
    NONE,
    OTHER_SETS,
    Line,
    Page,
    Section,
    difference,
    method_name,
    model_name,
    number,
    parameters,
    runs_text,
    spread,
)

SUFFIX = "_details"  # of the name of the page and its files
COLUMNS = (
    "Cell",
    "# trainable",
    "n",
    "Best: median",
    "mean",
    "std",
    "min",
    "max",
    "constant",
    "Last: mean",
    "median",
    "std",
    "constant",
    "Majority",
    "Published",
    "Difference",
)
STATISTICS = (
    "best_median",
    "best_mean",
    "best_std",
    "best_min",
    "best_max",
    "best_constant",
    "last_mean",
    "last_median",
    "last_std",
    "last_constant",
    "majority",
)


def page(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> Page:
    """Return the second page of a table; the arguments are those of `layout.page`."""
    title, _ = layout.TITLES[table.name]
    by = ("model", "row") if table.name == "table2" else ("model", "task", "protocol")
    groups = group_by(cells, *by).values()
    return Page(
        name=f"{table.name}{SUFFIX}",
        title=f"{title}: all statistics",
        caption="Evaluation set, per cent.",
        partial=layout.partial(
            [cell for cell in cells if cell["metric"] not in ("average", *OTHER_SETS)]
        ),
        columns=COLUMNS,
        sections=tuple(_section(table, group) for group in groups),
        notes=notes.of_details(grid, table, cells, values),
    )


def _section(table: Table, cells: list[Row]) -> Section:
    """Return the lines of one method, or in Tables 5 and 6 of one task."""
    first = cells[0]
    of_table2 = table.name == "table2"
    name = method_name(first) if of_table2 else first["task_title"]
    title = f"{model_name(first['model'])}, {name}, protocol {first['protocol']}"
    labels = (cell["task_title"] if of_table2 else method_name(cell) for cell in cells)
    lines = (_line(label, cell) for label, cell in zip(labels, cells, strict=True))
    return Section(title, tuple(lines))


def _line(label: str, cell: Row) -> Line:
    """Return the line of a cell."""
    published = NONE
    if cell["published_source"]:
        published = f"{number(cell['published'])}{spread(cell['published_spread'])}"
    return Line(
        "ours",
        (
            label,
            parameters(cell["trainable"]),
            runs_text(cell),
            *_statistics(cell),
            published,
            difference(cell["difference"], 2, cell["difference_margin"]),
        ),
    )


def _statistics(cell: Row) -> Iterable[str]:
    """Yield values in per cent, and numbers of runs with constant predictions."""
    for key in STATISTICS:
        value = cell[key]
        is_count = key.endswith("_constant") and not math.isnan(value)
        yield str(int(value)) if is_count else number(value, 2)
