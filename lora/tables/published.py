"""Match published values to our cells, and compute the differences.

A published value is compared with a cell of the same model, task, method, weights, rank and metric,
by its own statistic and selection, where `sources` finds that model and data are the registered
ones. The paper's † rows have another protocol, so only runs under
that protocol (or one based on it) are compared with them. Other protocols are compared with each
other, and the page names them. Prior work that the paper copied has no known statistic: it is
compared with our median over best epochs, as in the paper's table. A printed Avg of values of other
metrics than ours is not compared.
"""

import math
from collections.abc import Mapping

from lora.columns import PUBLISHED_COLUMNS
from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables import constant, uncertainty
from lora.tables.labels import GLUE, OTHER_SETS
from lora.tables.sources import registered_name

OURS = {  # statistic and selection of a published value -> our column of the same kind
    ("median", "best"): "best_median",
    ("mean", "best"): "best_mean",
    ("single", "best"): "best_median",  # one seed is a draw from the distribution of this median
    ("median", "last"): "last_median",
    ("mean", "last"): "last_mean",
    ("unknown", "unknown"): "best_median",  # the paper's own (Appendix D.1)
}
SAME = ("task", "method", "weights", "rank", "metric")
UNCOMPARED: Row = {"ours_protocol": "", "ours": math.nan, "difference": math.nan}
UNCOMPARED |= uncertainty.UNKNOWN
WORDS = ("spread_kind", "statistic", "selection", "source")


def match(grid: Grid, table: Table, cells: list[Row]) -> list[Row]:
    """Return the published values that a table shows, with the columns PUBLISHED_COLUMNS.

    A value that is compared with several cells, of different protocols, has a row for each.

    Args:
        grid: The grid, with all published values.
        table: The table.
        cells: Rows of the table with the columns TABLE_COLUMNS, without published values.
    """
    separate = {value["protocol"] for value in grid.published} - {""}
    rows: list[Row] = []
    for text_row in grid.published:
        if text_row["table"] != table.name or text_row["metric"] == "spearman":
            continue
        value = _typed(text_row)
        of_value: list[Row] = []
        for model in table.models:
            if registered_name(grid, model) == value["model"]:
                ours = [cell for cell in cells if cell["model"] == model]
                of_value += _of_model(grid, table, value, model, ours, separate)
        if not of_value and _is_reference(table, value):
            blank = UNCOMPARED | {"ours_model": "", "relation": "reference"}
            of_value = [value | blank | {"column": name} for name in _columns(grid, table, value)]
        rows += of_value
    return rows


def _of_model(
    grid: Grid, table: Table, value: Row, model: str, cells: list[Row], separate: set[str]
) -> list[Row]:
    """Return the rows of a published value for one of our models.

    Args:
        grid: The grid.
        table: The table.
        value: The published value.
        model: Our model; it is, or is claimed to be, the value's.
        cells: The cells of that model.
        separate: Published protocols that are compared with themselves only.
    """
    same = [
        cell
        for cell in cells
        if all(value[key] == cell[key] for key in SAME)
        and not other_metric(grid, value)
        and _comparable(grid, value["protocol"], cell["protocol"], separate)
    ]
    verified = [cell for cell in same if not cell["source_problem"]]
    if verified:
        return [_compared_row(value, cell) for cell in verified]
    if not same and not _is_context(table, value):
        return []
    of_task = same or [cell for cell in cells if cell["task"] == value["task"]]
    is_verified = not same and any(not cell["source_problem"] for cell in of_task)
    blank = UNCOMPARED | {"relation": "context" if is_verified else "unverified"}
    return [
        value | blank | {"ours_model": model, "column": name}
        for name in _columns(grid, table, value, model)
    ]


def _compared_row(value: Row, cell: Row) -> Row:
    """Return the row of a published value that is compared with this cell."""
    key = OURS.get((value["statistic"], value["selection"]))
    ours = constant.without_constant(cell, key) if key else math.nan
    margin = uncertainty.UNKNOWN if math.isnan(ours) else uncertainty.of_difference(value, cell)
    return value | {
        "relation": "same",
        "column": cell["column"],
        "ours_model": cell["model"],
        "ours_protocol": cell["protocol"],
        "ours": ours,
        "difference": round(ours - float(value["value"]), 6),
        **margin,
    }


def with_published(row: Row, published: list[Row]) -> Row:
    """Return a row of <table>.csv with the first published value that is compared with it."""
    matching = (
        value
        for value in published
        if is_compared(value, row)
        and value["metric"] == row["metric"]
        and value["task"] == row["task"]
    )
    value = next(matching, None)
    if value is None:
        return row | {"note": ""} | {f"published_{key}": "" for key in WORDS}
    return row | {
        "published": float(value["value"]),
        "published_spread": value["spread"],
        "difference": value["difference"],
        "difference_margin": value["difference_margin"],
        "note": value["note"],
        **{f"published_{key}": value[key] for key in WORDS},
    }


def is_compared(value: Row, row: Row) -> bool:
    """Return whether a published value is compared with a cell of this row, of any task."""
    ours = (value["ours_model"], value["ours_protocol"])
    same = value["relation"] == "same" and ours == (row["model"], row["protocol"])
    return same and all(value[key] == row[key] for key in ("method", "weights", "rank"))


def _comparable(grid: Grid, theirs: str, ours: str, separate: set[str]) -> bool:
    """Return whether two protocols may be compared. `theirs` is empty for the main protocol."""
    base = grid.base_protocol(ours)
    return base == theirs if theirs else base not in separate


def other_metric(grid: Grid, value: Row) -> str:
    """Return the metric of a published value if its task has another one here; otherwise empty.

    For a printed Avg it is the metrics of its values that differ from ours.
    """
    if value["task"] not in grid.tasks:  # an average
        keys = ("table", "model", "method", "trainable", "protocol", "source")
        of_row = [
            row
            for row in grid.published
            if row["task"] in GLUE and all(row[key] == value[key] for key in keys)
        ]
        metrics = [other_metric(grid, row) for row in of_row if row["metric"] not in OTHER_SETS]
        return " and ".join(dict.fromkeys(filter(None, metrics)))
    metric = "accuracy" if value["metric"] in OTHER_SETS else value["metric"]
    return "" if metric == grid.tasks[value["task"]].metric else str(metric)


def _is_requested(table: Table, value: Row) -> bool:
    """Return whether Table 5 or 6 has the weights and rank of a value."""
    return (value["weights"], value["rank"]) in {(cell.weights, cell.rank) for cell in table.cells}


def _is_context(table: Table, value: Row) -> bool:
    """Return whether a value that no cell matches is shown with our cells of its task."""
    if table.name == "table2":
        return value["task"] in (*table.tasks, "average")
    return value["task"] in table.tasks and _is_requested(table, value)


def _is_reference(table: Table, value: Row) -> bool:
    """Return whether a value of another model is shown."""
    if table.name != "table2":
        is_gpt3 = (value["model"], value["task"]) == ("gpt3-175b", "mnli")
        return is_gpt3 and _is_requested(table, value)
    is_lora = (value["model"], value["method"]) == ("roberta-base", "lora")
    return is_lora and value["source"].startswith("arXiv") and value["task"] != "average"


def _columns(grid: Grid, table: Table, value: Row, model: str = "") -> list[str]:
    """Return the columns of a published value: those of its task, or of demo tasks like it."""
    if table.name != "table2":
        return [column(table.name, value)]
    if value["task"] == "average":
        return ["average"] if set(GLUE) <= set(table.tasks) else []
    if model:
        return [column(table.name, value)] if value["task"] in table.tasks else []
    return [task for task in table.tasks if grid.tasks[task].mirrors == value["task"]]


def column(table: str, row: Row) -> str:
    """Return the column of a table that a cell or a published value belongs to."""
    if table == "table5":
        return f"{row['weights']} r{row['rank']}"
    if table == "table6":
        return f"r{row['rank']}"
    suffix = OTHER_SETS.get(row["metric"])
    return f"{row['task']}-{suffix}" if suffix else str(row["task"])


def _typed(text_row: Mapping[str, str]) -> Row:
    """Return a row of config/published.csv with numbers as numbers; an empty one is NaN."""
    kinds = {name: PUBLISHED_COLUMNS[name][0] for name in text_row}
    return {
        name: text if kinds[name] is str else kinds[name](text) if text else math.nan
        for name, text in text_row.items()
    }
