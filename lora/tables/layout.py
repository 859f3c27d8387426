"""Arrange a table on its page as the paper does.

Table 2 has three values a cell: ours, the published one and the difference, so that it fits a
landscape A4. All statistics are on a second page, see `layout_details`. Ours and published values
never share a line. Values of another model or task are in a section without differences. Tables 5
and 6 are in `layout_ranks`.
"""

import math

from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables import (
    constant,
    layout_ranks,
    majority,
    margins,
    notes,
    protocol_notes,
    published_notes,
)
from lora.tables.labels import (
    GLUE,
    METHODS,
    METRICS,
    NONE,
    OTHER_SETS,
    STATISTICS,
    Line,
    Page,
    Section,
    Subject,
    Subjects,
    center_text,
    difference,
    model_name,
    number,
    origin,
    ours,
    parameters,
    published,
    published_name,
    remarks,
    short_name,
)
from lora.tables.published import is_compared, other_metric

TITLES = {  # table -> title, caption
    "table2": (
        "LoRA on the tasks of Table 2",
        "Evaluation set, per cent. Layout as in Table 2 of Hu et al. (2021): our value, the "
        "published value, and ours minus published.",
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
CENTER = "best_median"  # our value in Table 2


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
    names = ("", "trainable", *_columns(grid, cells)) if table.name == "table2" else ()
    return Page(
        name=table.name,
        title=title,
        caption=caption,
        partial=partial([cell for cell in cells if cell["metric"] not in ("average", *OTHER_SETS)]),
        columns=columns,
        sections=sections,
        notes=notes.footnotes(grid, table, cells, values),
        columns_about=tuple((("column", name),) for name in names),
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
        lines = [
            line
            for row in sorted(rows.values(), key=_method_index)
            for line in _row_lines(grid, row, theirs, titles, len(table.protocols) > 1)
        ]
        sections.append(Section(model_name(model), tuple(lines)))
        for relation, about in UNCOMPARED_TITLES.items():
            of_relation = [value for value in theirs if value["relation"] == relation]
            lines = _published_lines(grid, of_relation, titles)
            if lines:
                title = f"{model_name(model)}, published only: {about}"
                sections.append(Section(title, tuple(lines)))
    known = majority.by_column(cells, "column")
    if not all(map(math.isnan, known.values())):
        texts = (number(known.get(name, math.nan)) for name in titles)
        line = Line("reference", (majority.LABEL, NONE, *texts), ((majority.SUBJECT,),))
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
    about = [
        published_notes.of_value(grid, reference[name]) if name in reference else ()
        for name in titles
    ]
    head = published_notes.of_row(first)
    line = Line("reference", (label, first["trainable"], *texts), (head, (), *about))
    return Section("For orientation only: another model on other tasks (GLUE)", (line,))


def _of_reference(grid: Grid, column: str, value: Row) -> str:
    """Return the task of a reference value, with its metric if the column has another one."""
    title = grid.tasks[value["task"]].title
    metric = str(value["metric"])
    same = column not in grid.tasks or grid.tasks[column].metric == metric
    return title if same else f"{title}, {METRICS.get(metric, metric).removesuffix(' × 100')}"


def _row_lines(
    grid: Grid, row: dict[str, Row], values: list[Row], titles: dict[str, str], with_protocol: bool
) -> list[Line]:
    """Return a row of ours by column: our values, published values, differences.

    Without published values there is a line with the last epoch.
    """
    first = next(iter(row.values()))
    same = [value for value in values if is_compared(value, first)]
    trainable = (cell["trainable"] for cell in row.values() if cell["n"])
    count = parameters(next(trainable, first["trainable"]))
    other_protocol = with_protocol and first["protocol"] != grid.config.protocol
    name = short_name(first) + (f", {first['protocol']}" if other_protocol else "")
    texts = (center_text(row[name], CENTER) if name in row else NONE for name in titles)
    about = [_of_cell(row[name], CENTER) if name in row else () for name in titles]
    head = (("protocol", first["protocol"]), ("method", first["method"]))
    lines = [Line("ours", (name, count, *texts), (head, (), *about))]
    if not same:
        label, center, around = STATISTICS[1]
        texts = (ours(row[name], center, around) if name in row else NONE for name in titles)
        return [*lines, Line("ours", (label, "", *texts))]
    lines += _published_lines(grid, same, titles)
    sources = [name for name in ("paper", "course") if name in map(origin, same)]
    for source in sources:
        theirs = {value["column"]: value for value in same if origin(value) == source}
        texts = (difference(theirs[n]["difference"]) if n in theirs else NONE for n in titles)
        about = [
            (margins.BEYOND,) if name in theirs and margins.is_beyond(theirs[name]) else ()
            for name in titles
        ]
        label = "difference" if len(sources) == 1 else f"difference to the {source}"
        lines.append(Line("difference", (label, "", *texts), ((), (), *about)))
    return lines


def _of_cell(cell: Row, center: str) -> Subjects:
    """Return the subjects of notes on a value of ours."""
    found: list[Subject] = [("remark", text) for text in remarks(cell, center)]
    if constant.is_constant(cell, center):
        found.append(("constant",))
    if cell["source_problem"]:
        found.append(("source problem", cell["source_problem"]))
    return (*found, protocol_notes.start_of(cell))


def _published_lines(grid: Grid, values: list[Row], titles: dict[str, str]) -> list[Line]:
    """Return a line for each published row, with its source and the paper's name of the method."""
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for value in values:
        name = f"{origin(value)}: {published_name(value)}"
        rows.setdefault((name, value["trainable"]), {})[value["column"]] = value
    lines = []
    for (name, trainable), row in rows.items():
        if not set(row) & (set(titles) - {"average"}):
            continue
        shown = [row.get(column) for column in titles]
        texts = (published(v, other_metric(grid, v)) if v else NONE for v in shown)
        about = [published_notes.of_value(grid, value) if value else () for value in shown]
        head = published_notes.of_row(next(iter(row.values())))
        lines.append(Line("published", (name, trainable, *texts), (head, (), *about)))
    return lines
