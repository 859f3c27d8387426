"""Arrange Tables 5 and 6: the shape of the metric over weight types and over ranks.

The paper has both tables for GPT-3 175B only, so its level is never compared, only its shape. In
Table 6 the shape is the spread over r, in Table 5 each value minus the mean of its line. Both need
several values and say so if some are missing. Each protocol and method has its own sections.
"""

import math
from collections.abc import Iterable

from lora.columns import group_by
from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables import constant, majority, published_notes
from lora.tables.labels import (
    MARGIN,
    METHODS,
    NONE,
    STATISTICS,
    Line,
    Section,
    Subjects,
    adapted,
    difference,
    model_name,
    number,
    origin,
    ours,
    published,
    weight_types,
)

GPT3_TITLE = "GPT-3 175B, MNLI, paper: compare the shape, not the level"
MAJORITY_TITLE = "Majority class of the evaluation set, always predicted"
Layout = tuple[tuple[str, ...], tuple[Section, ...]]  # columns and sections


def table6(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> Layout:
    """Return the columns and sections of Table 6: a column per rank, a line per weight types.

    Args:
        grid: The grid of the table.
        table: The table.
        cells: Its rows, with the columns TABLE_COLUMNS.
        values: Its published values, with the columns PUBLISHED_COLUMNS.
    """
    ranks = sorted({cell["rank"] for cell in cells})
    weights = list(dict.fromkeys(cell["weights"] for cell in cells))
    values = sorted(values, key=lambda value: weights.index(value["weights"]))
    sections: list[Section] = []
    groups = group_by(cells, "model", "task", "method", "protocol")
    for (model, task, method, protocol), group in groups.items():
        name = f"{model_name(model)}, {grid.tasks[task].title}{_which(table, method, protocol)}"
        for label, center, around in STATISTICS:
            lines = _our_lines(method, group, ranks, center, around)
            sections.append(Section(f"{name}, ours: {label}", lines, _about(method, protocol)))
        theirs = [
            value
            for value in values
            if value["relation"] == "same"
            and value["ours_protocol"] == protocol
            and (value["ours_model"], value["task"], value["method"]) == (model, task, method)
        ]
        if theirs:
            source = origin(theirs[0])
            about = ": one seed, best epoch" if source == "course" else ""
            lines = _published_lines(grid, "published", theirs, ranks)
            title = f"{name}, {source}{about}"
            sections.append(Section(title, lines, (("origin", source),)))
            title = f"{name}: ours, best epoch, minus {source} {MARGIN}"
            sections.append(Section(title, _difference_lines(theirs, ranks)))
    for title, number_text in _majority(cells):
        texts6 = (title, *(number_text for _ in ranks), "")
        lines = (Line("reference", texts6),)
        sections.append(Section(MAJORITY_TITLE, lines, (majority.SUBJECT,)))
    reference = [value for value in values if value["relation"] == "reference"]
    if reference:
        lines = _published_lines(grid, "reference", reference, ranks)
        sections.append(Section(GPT3_TITLE, lines))
    headings = (f"r = {rank}" if rank else "no r" for rank in ranks)
    return ("Weight type", *headings, "Spread over r"), tuple(sections)


def _majority(cells: list[Row]) -> list[tuple[str, str]]:
    """Return task and value of the majority class, for each task that has one."""
    known = majority.by_column(cells, "task_title")
    return [(title, number(value)) for title, value in known.items() if not math.isnan(value)]


def _which(table: Table, method: str, protocol: str) -> str:
    """Return method and protocol for a title, where the table has several."""
    several_methods = len({block.method for block in table.blocks}) > 1
    words = []
    if several_methods or method != "lora":
        words.append(METHODS[method])
    if len(table.protocols) > 1:
        words.append(f"protocol {protocol}")
    return "".join(f", {word}" for word in words)


def _spread(values: list[float], axis: str, digits: int = 1) -> str:
    """Return the highest minus the lowest value, and of how many if some are missing."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return NONE
    fewer = f" ({len(known)} of {len(values)} {axis})" if len(known) < len(values) else ""
    return number(max(known) - min(known), digits) + fewer


def _our_lines(
    method: str, cells: list[Row], ranks: list[int], center: str, around: tuple[str, ...]
) -> tuple[Line, ...]:
    """Return our values, a line per weight types."""
    lines = []
    for (weights,), group in group_by(cells, "weights").items():
        by_rank = {cell["rank"]: cell for cell in group}
        texts = (ours(by_rank[rank], center, around) if rank in by_rank else NONE for rank in ranks)
        values = [constant.without_constant(cell, center) for cell in group]
        lines.append(Line("ours", (adapted(method, weights), *texts, _spread(values, "ranks"))))
    return tuple(lines)


def _about(method: str, protocol: str) -> Subjects:
    """Return the subjects of notes on a section of ours."""
    return (("protocol", protocol), ("method", method))


def _published_lines(
    grid: Grid, kind: str, values: list[Row], ranks: list[int]
) -> tuple[Line, ...]:
    """Return published values, a line per weight types, with as many digits as printed."""
    lines = []
    for (weights,), group in group_by(values, "weights").items():
        by_rank = {value["rank"]: value for value in group}
        numbers = [float(by_rank[rank]["value"]) if rank in by_rank else math.nan for rank in ranks]
        texts = (published(by_rank[rank]) if rank in by_rank else NONE for rank in ranks)
        digits = max(len(value["value"].partition(".")[2]) for value in group)
        spread = _spread(numbers, "ranks", digits)
        about = [
            published_notes.of_value(grid, by_rank[rank]) if rank in by_rank else ()
            for rank in ranks
        ]
        head = published_notes.of_row(group[0])
        lines.append(Line(kind, (weight_types(weights), *texts, spread), (head, *about)))
    return tuple(lines)


def _difference_lines(values: list[Row], ranks: list[int]) -> tuple[Line, ...]:
    """Return ours minus published, a line per weight types."""
    lines = []
    for (weights,), group in group_by(values, "weights").items():
        by_rank = {value["rank"]: value for value in group}
        texts = (
            difference(by_rank[rank]["difference"], 1, by_rank[rank]["difference_margin"])
            if rank in by_rank
            else NONE
            for rank in ranks
        )
        lines.append(Line("difference", (weight_types(weights), *texts, "")))
    return tuple(lines)


def table5(grid: Grid, table: Table, cells: list[Row], values: list[Row]) -> Layout:
    """Return the columns and sections of Table 5: a column per weight types, with its rank.

    Args and return value are those of `table6`.
    """
    letters = list(table.weights)
    reference = {v["weights"]: v for v in values if v["relation"] == "reference"}
    sections = []
    budgets = [cell | {"budget": cell["rank"] * len(cell["weights"])} for cell in cells]
    groups = group_by(budgets, "model", "protocol", "budget")
    for (model, protocol, budget), group in groups.items():
        ranks = {cell["weights"]: cell["rank"] for cell in group}
        lines = _axis_lines(group, letters, ranks)
        for (task,), of_task in group_by(group, "task").items():
            lines += _budget_lines(grid.tasks[task].title, of_task, letters)
        name = f"{model_name(model)}{_which(table, 'lora', protocol)}"
        title = f"{name}, ours: as many parameters as rank {budget} on one weight type"
        sections.append(Section(title, tuple(lines), _about("lora", protocol)))
        of_ranks = {key: v for key, v in reference.items() if v["rank"] == ranks[key]}
        if of_ranks:
            sections.append(_gpt3_section(grid, of_ranks, letters))
    for title, number_text in _majority(cells):
        line = Line("reference", (title, *(number_text for _ in letters), ""))
        sections.append(Section(MAJORITY_TITLE, (line,), (majority.SUBJECT,)))
    return ("Weight type", *map(weight_types, letters), "Spread"), tuple(sections)


def _axis_lines(cells: list[Row], letters: list[str], ranks: dict[str, int]) -> list[Line]:
    """Return the rank and the number of parameters of each column."""
    counts = [
        next((c["trainable"] for c in cells if c["weights"] == weights and c["n"]), math.nan)
        for weights in letters
    ]
    texts = (NONE if math.isnan(count) else f"{count:,}" for count in counts)
    return [
        Line("axis", ("rank r of each", *(str(ranks[weights]) for weights in letters), "")),
        Line("axis", ("# trainable", *texts, "")),
    ]


def _budget_lines(title: str, cells: list[Row], letters: list[str]) -> Iterable[Line]:
    """Yield our values of one task and, below them, their shape."""
    by_weights = {cell["weights"]: cell for cell in cells}
    line = [by_weights[weights] for weights in letters]
    for label, center, around in STATISTICS:
        values = [constant.without_constant(cell, center) for cell in line]
        texts = (ours(cell, center, around) for cell in line)
        yield Line("ours", (f"{title}, {label}", *texts, _spread(values, "weight types")))
        yield _shape_line("difference", values)


def _gpt3_section(grid: Grid, reference: dict[str, Row], letters: list[str]) -> Section:
    """Return the paper's values of GPT-3, by weight types, and their shape."""
    line = [reference.get(weights) for weights in letters]
    values = [float(value["value"]) if value else math.nan for value in line]
    texts = (published(value) if value else NONE for value in line)
    about = [published_notes.of_value(grid, value) if value else () for value in line]
    head = published_notes.of_row(next(iter(reference.values())))
    texts_and_spread = (*texts, _spread(values, "weight types"))
    level = Line("reference", ("MNLI", *texts_and_spread), (head, *about))
    return Section(f"{GPT3_TITLE} (same ranks)", (level, _shape_line("reference", values)))


def _shape_line(kind: str, values: list[float]) -> Line:
    """Return each value minus the mean of its line; dashes if a value is missing."""
    mean = sum(values) / len(values)
    texts = (difference(value - mean) for value in values)
    return Line(kind, ("minus mean of the line", *texts, ""))
