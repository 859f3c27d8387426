"""Arrange a table on its page as the paper does.

Ours and published values never share a line: a published line is right above our lines that it is
compared with, and each line names its epoch and statistic. Values of another model or task are in a
section without differences. Table 2 is here, Tables 5 and 6 are in `layout_ranks`.
"""

import math

from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables import layout_ranks, majority, notes
from lora.tables.labels import (
    GLUE,
    MARGIN,
    METHODS,
    METRICS,
    NONE,
    OTHER_SETS,
    STATISTICS,
    Line,
    Page,
    Section,
    difference,
    method_name,
    model_name,
    number,
    origin,
    ours,
    parameters,
    published,
    published_name,
    spread,
)
from lora.tables.published import is_compared, other_metric

TITLES = {  # table -> title, caption
    "table2": (
        "LoRA on the tasks of Table 2",
        "Evaluation set, per cent. Layout as in Table 2 of Hu et al. (2021), with the published "
        "values.",
    ),
    "table5": (
        "LoRA by weight type at equal numbers of parameters",
        "Evaluation set, per cent. Layout as in Table 5 of Hu et al. (2021): the more weight types "
        "are adapted, the smaller their rank. Spread is the highest minus the lowest value of the "
        "line. Compare the shape: each value minus the mean of its line.",
    ),
    "table6": (
        "LoRA by rank and weight type",
        "Evaluation set, per cent. Layout as in Table 6 of Hu et al. (2021): one column per rank "
        "r, one row per choice of weight types. Spread over r is the highest minus the lowest "
        "value of the line; the paper finds it to be small.",
    ),
}
UNCOMPARED_TITLES = {  # relation of a published value -> title of its section
    "context": "no runs to compare it with",
    "unverified": "our model or data are not known to be the same, see the notes",
}
DETAILS_TEXTS = (
    "Model",
    "Method",
    "Protocol",
    "Task",
    "Metric",
)
DETAILS_NUMBERS = (
    "# trainable",
    "n",
    "failed",
    "missing",
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
    "Difference ± margin",
)
DETAILS_STATISTICS = (
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
)


def page(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> Page:
    """Return the page of a table.

    Args:
        grid: The grid of the table.
        table: The table.
        cells: Its rows, with the columns TABLE_COLUMNS.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    arrange = {"table2": _table2, "table5": layout_ranks.table5, "table6": layout_ranks.table6}
    columns, sections = arrange[table.name](grid, table, cells, values)
    title, caption = TITLES[table.name]
    if not values:
        caption = caption.replace(", with the published values", "")
    return Page(
        name=table.name,
        title=title,
        caption=caption,
        partial=partial([cell for cell in cells if cell["metric"] not in ("average", *OTHER_SETS)]),
        columns=columns,
        sections=sections,
        footnotes=notes.footnotes(grid, table, cells, values),
        details_texts=len(DETAILS_TEXTS),
        details_columns=DETAILS_TEXTS + DETAILS_NUMBERS,
        details=tuple(_details(cell) for cell in cells),
    )


def partial(cells: list[Row]) -> str:
    """Return why a table is incomplete, empty if it is complete. Each run is in one of `cells`."""
    missing = sum(cell["n_missing"] for cell in cells)
    expected = sum(cell["n_expected"] for cell in cells)
    return f"{missing} of {expected} runs are missing" if missing else ""


def _columns(grid: Grid, cells: list[Row]) -> dict[str, str]:
    """Return the columns of Table 2 and their titles: the paper's tasks, others, the average."""
    present = {cell["column"]: cell["task_title"] for cell in cells}
    tasks = [*GLUE, *(name for name in grid.tasks if name not in GLUE)]
    suffixes = ("", *(f"-{suffix}" for suffix in OTHER_SETS.values()))
    ordered = [f"{task}{suffix}" for task in tasks for suffix in suffixes]
    return {name: present[name] for name in (*ordered, "average") if name in present}


def _table2(
    grid: Grid, table: Table, cells: list[Row], values: list[Row]
) -> tuple[tuple[str, ...], tuple[Section, ...]]:
    """Return the columns and sections of Table 2."""
    titles = _columns(grid, cells)
    sections = []
    for model in table.models:
        theirs = [
            value
            for value in values
            if value["ours_model"] == model and value["relation"] != "reference"
        ]
        rows: dict[str, dict[str, Row]] = {}
        for cell in cells:
            if cell["model"] == model:
                rows.setdefault(cell["row"], {})[cell["column"]] = cell
        for row in sorted(rows.values(), key=_method_index):
            sections.append(_row_section(grid, row, theirs, titles, len(table.protocols) > 1))
        for relation, about in UNCOMPARED_TITLES.items():
            of_relation = [value for value in theirs if value["relation"] == relation]
            lines = _published_lines(grid, of_relation, titles)
            if lines:
                sections.append(Section(f"{model_name(model)}, published only: {about}", lines))
    known = majority.by_column(cells, "column")
    if not all(map(math.isnan, known.values())):
        texts = (number(known.get(name, math.nan)) for name in titles)
        line = Line("reference", (majority.LABEL, NONE, *texts))
        sections.append(Section("Always the most frequent label of the evaluation set", (line,)))
    reference = {value["column"]: value for value in values if value["relation"] == "reference"}
    if reference:
        sections.append(_reference_section(grid, reference, titles))
    return ("Method", "# trainable", *titles.values()), tuple(sections)


def _method_index(row: dict[str, Row]) -> int:
    """Return the position of a row's method in the paper's Table 2."""
    return list(METHODS).index(next(iter(row.values()))["method"])


def _reference_section(grid: Grid, reference: dict[str, Row], titles: dict[str, str]) -> Section:
    """Return the values of RoBERTa-base on the GLUE tasks that the demo tasks resemble."""
    texts = [
        f"{published(reference[name])} ({_of_reference(grid, name, reference[name])})"
        if name in reference
        else NONE
        for name in titles
    ]
    first = next(iter(reference.values()))
    label = f"{model_name(first['model'])} ({published_name(first)}), paper"
    line = Line("reference", (label, first["trainable"], *texts))
    return Section("For orientation only: another model on other tasks (GLUE)", (line,))


def _of_reference(grid: Grid, column: str, value: Row) -> str:
    """Return the task of a reference value, with its metric if the column has another one."""
    title = grid.tasks[value["task"]].title
    metric = str(value["metric"])
    same = column not in grid.tasks or grid.tasks[column].metric == metric
    return title if same else f"{title}, {METRICS.get(metric, metric).removesuffix(' × 100')}"


def _row_section(
    grid: Grid, row: dict[str, Row], values: list[Row], titles: dict[str, str], with_protocol: bool
) -> Section:
    """Return a row of ours by column: published values, our values, differences."""
    first = next(iter(row.values()))
    same = [value for value in values if is_compared(value, first)]
    lines = list(_published_lines(grid, same, titles))
    trainable = (cell["trainable"] for cell in row.values() if cell["n"])
    count = parameters(next(trainable, first["trainable"]))
    for label, center, around in STATISTICS:
        texts = (ours(row[name], center, around) if name in row else NONE for name in titles)
        lines.append(Line("ours", (label, count, *texts)))
    for source in ("paper", "course"):
        theirs = {value["column"]: value for value in same if origin(value) == source}
        if theirs:
            texts = (
                difference(theirs[name]["difference"], 1, theirs[name]["difference_margin"])
                if name in theirs
                else NONE
                for name in titles
            )
            lines.append(Line("difference", (f"best epoch, minus {source} {MARGIN}", "", *texts)))
    protocol = f", protocol {first['protocol']}" if with_protocol else ""
    title = f"{model_name(first['model'])}: {method_name(first)}{protocol}"
    return Section(title, tuple(lines))


def _published_lines(grid: Grid, values: list[Row], titles: dict[str, str]) -> tuple[Line, ...]:
    """Return a line for each published row, with its source and the paper's name of the method."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for value in values:
        name = f"{origin(value)}: {published_name(value)}"
        text = published(value, other_metric(grid, value))
        rows.setdefault((name, value["trainable"]), {})[value["column"]] = text
    return tuple(
        Line("published", (name, trainable, *(row.get(column, NONE) for column in titles)))
        for (name, trainable), row in rows.items()
        if set(row) & (set(titles) - {"average"})
    )


def _details(cell: Row) -> tuple[str, ...]:
    """Return the row of a cell in the second table: all of its statistics."""
    key: str = cell["metric"]
    metric = "accuracy" if key in OTHER_SETS else METRICS.get(key, key).removesuffix(" × 100")
    value = f"{number(cell['published'])}{spread(cell['published_spread'])}"
    return (
        model_name(cell["model"]),
        method_name(cell),
        cell["protocol"],
        cell["task_title"],
        metric,
        parameters(cell["trainable"]),
        f"{cell['n']} of {cell['n_expected']}",
        str(cell["n_failed"]),
        str(cell["n_missing"]),
        *(_detail(cell, key) for key in DETAILS_STATISTICS),
        number(cell["majority"], 2),
        value if cell["published_source"] else NONE,
        difference(cell["difference"], 2, cell["difference_margin"]),
    )


def _detail(cell: Row, key: str) -> str:
    """Return a statistic of the second table: a value in per cent, or a number of runs."""
    return number(cell[key], 0 if key.endswith("_constant") else 2)
