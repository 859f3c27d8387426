"""Where things stand on a table's page: its cells and what is published, arranged as the paper arranges them.

Ours and theirs never share a line: a published line stands right above the lines of ours that it is compared with, and each
line says which epoch and which statistic it shows. A figure of another model or another task stands in a section of its
own, never next to a difference. Table 2 is here, Tables 5 and 6 are in `shapes`. Nothing here chooses epochs or statistics.
"""

import math

from lora.tables import layout_ranks, notes
from lora.tables.labels import (
    GLUE,
    METHODS,
    METRICS,
    MODELS,
    NONE,
    OTHER_SETS,
    STATISTICS,
    Line,
    Page,
    Section,
    difference,
    method_name,
    number,
    origin,
    ours,
    parameters,
    published,
    published_name,
    spread,
)
from lora.tables.published import is_beside

TITLES = {  # table -> title, caption
    "table2": (
        "LoRA on the tasks of Table 2",
        "Evaluation set figures in per cent, laid out as Table 2 of Hu et al. (2021), beside the published figures.",
    ),
    "table5": (
        "LoRA by weight type under one budget of parameters",
        "Evaluation set figures in per cent, laid out as Table 5 of Hu et al. (2021): the more weight types are adapted, "
        "the smaller the rank of each. Spread is the largest minus the smallest figure of the line; each figure minus the "
        "mean of its line is the shape.",
    ),
    "table6": (
        "LoRA by rank and weight type",
        "Evaluation set figures in per cent, laid out as Table 6 of Hu et al. (2021): rank r across, the adapted weight "
        "types down. Spread over r is the largest minus the smallest figure of the line: the paper's claim is that it "
        "is small.",
    ),
}


def page(grid, table, cells: list[dict], facts: list[dict]) -> Page:
    """The page of one table: cells as records.TABLE_COLUMNS, facts as records.PUBLISHED_COLUMNS."""
    arrange = {"table2": _table2, "table5": layout_ranks.table5, "table6": layout_ranks.table6}
    columns, parts = arrange[table.name](grid, table, cells, facts)
    title, caption = TITLES[table.name]
    details_columns, details = _details(cells)
    return Page(
        name=table.name,
        title=title,
        caption=caption,
        partial=partial([cell for cell in cells if cell["metric"] not in ("average", *OTHER_SETS)]),
        columns=columns,
        sections=parts,
        footnotes=notes.footnotes(grid, table, cells, facts),
        details_texts=5,
        details_columns=details_columns,
        details=details,
    )


def partial(cells: list[dict]) -> str:
    """Why a table is not whole, or nothing; `cells` count each run once."""
    missing, expected = (
        sum(cell["n_missing"] for cell in cells),
        sum(cell["n_expected"] for cell in cells),
    )
    return f"{missing} of {expected} runs asked for are not there" if missing else ""


def _name(model: str) -> str:
    return MODELS.get(model, model)


def _order(grid, cells: list[dict]) -> dict[str, str]:
    """The columns of Table 2 with their titles: the paper's tasks in its order, then others, then the average."""
    present = {cell["column"]: cell["task_title"] for cell in cells}
    tasks = [*GLUE, *(name for name in grid.tasks if name not in GLUE)]
    wanted = [
        name
        for task in tasks
        for name in (task, *(f"{task}-{suffix}" for suffix in OTHER_SETS.values()))
    ]
    return {name: present[name] for name in (*wanted, "average") if name in present}


def _table2(grid, table, cells: list[dict], facts: list[dict]):
    order = _order(grid, cells)
    parts = []
    for model in table.models:
        theirs = [
            fact for fact in facts if fact["model"] == model and fact["relation"] != "reference"
        ]
        rows = {}
        for cell in cells:
            if cell["model"] == model:
                rows.setdefault(cell["row"], {})[cell["column"]] = cell
        by_method = sorted(
            rows.values(), key=lambda row: list(METHODS).index(next(iter(row.values()))["method"])
        )
        parts += [_row_section(row, theirs, order, len(table.protocols) > 1) for row in by_method]
        lines = _published_lines([fact for fact in theirs if fact["relation"] == "context"], order)
        if lines:
            parts.append(
                Section(
                    f"{_name(model)}, published only: nothing of ours is of the same method and size",
                    lines,
                )
            )
    reference = {fact["column"]: fact for fact in facts if fact["relation"] == "reference"}
    if reference:
        texts = [
            f"{published(reference[name])} ({grid.tasks[reference[name]['task']].title})"
            if name in reference
            else NONE
            for name in order
        ]
        first = next(iter(reference.values()))
        line = Line(
            "reference",
            (
                f"{_name(first['model'])} ({published_name(first)}), paper",
                first["trainable"],
                *texts,
            ),
        )
        parts.append(
            Section(
                "For orientation only: another model on other tasks (GLUE), never to be compared",
                (line,),
            )
        )
    return ("Method", "# trainable", *order.values()), tuple(parts)


def _row_section(row: dict[str, dict], facts: list[dict], order: dict, protocols: bool) -> Section:
    """A row of ours: what is published of the same, our figures, and the differences."""
    some = next(iter(row.values()))
    same = [fact for fact in facts if is_beside(fact, some)]
    lines = list(_published_lines(same, order))
    count = parameters(
        next((cell["trainable"] for cell in row.values() if cell["n"]), some["trainable"])
    )
    for words, centre, around in STATISTICS:
        texts = (ours(row[name], centre, around) if name in row else NONE for name in order)
        lines.append(Line("ours", (words, count, *texts)))
    for source in ("paper", "course"):
        line = {fact["column"]: fact["difference"] for fact in same if origin(fact) == source}
        if line:
            texts = (difference(line.get(name, math.nan)) for name in order)
            lines.append(Line("difference", (f"best epoch, minus {source}", "", *texts)))
    under = f", protocol {some['protocol']}" if protocols else ""
    return Section(f"{_name(some['model'])}: {method_name(some)}{under}", tuple(lines))


def _published_lines(facts: list[dict], order: dict) -> tuple[Line, ...]:
    """A line for each published row, named by its origin and as the paper names the method."""
    rows = {}
    for fact in facts:
        name = f"{origin(fact)}: {published_name(fact)}"
        rows.setdefault((name, fact["trainable"]), {})[fact["column"]] = published(fact)
    return tuple(
        Line("published", (name, trainable, *(line.get(column, NONE) for column in order)))
        for (name, trainable), line in rows.items()
        if set(line) & (set(order) - {"average"})
    )


def _details(cells: list[dict]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """All statistics of every cell, for the second table."""
    columns = (
        "Model",
        "Method",
        "Protocol",
        "Task",
        "Metric",
        "# trainable",
        "n",
        "failed",
        "missing",
    )
    columns += (
        "Best: median",
        "mean",
        "std",
        "min",
        "max",
        "Last: mean",
        "median",
        "std",
        "Published",
        "Difference",
    )
    statistics = (
        "best_median",
        "best_mean",
        "best_std",
        "best_min",
        "best_max",
        "last_mean",
        "last_median",
        "last_std",
    )
    rows = []
    for cell in cells:
        metric = (
            "accuracy"
            if cell["metric"] in OTHER_SETS
            else METRICS.get(cell["metric"], cell["metric"])
        )
        facts = (
            f"{number(cell['published'])}{spread(cell['published_spread'])}"
            if cell["published_source"]
            else NONE
        )
        rows.append(
            (
                _name(cell["model"]),
                method_name(cell),
                cell["protocol"],
                cell["task_title"],
                metric.removesuffix(" × 100"),
                parameters(cell["trainable"]),
                f"{cell['n']} of {cell['n_expected']}",
                str(cell["n_failed"]),
                str(cell["n_missing"]),
                *(number(cell[key], 2) for key in statistics),
                facts,
                difference(cell["difference"], 2),
            )
        )
    return columns, tuple(rows)
