"""Match published values to our cells, and compute the differences.

A published value is compared with a cell of the same model, task, method, weights, rank and metric,
by its own statistic and selection. The paper's † rows have another protocol, so only runs under
that protocol (or one based on it) are compared with them. Other protocols are compared with each
other, and the page names them. Prior work that the paper copied has no known statistic: it is
compared with our median over best epochs, as in the paper's table.
"""

import math
from collections.abc import Mapping

from lora.columns import PUBLISHED_COLUMNS
from lora.experiment.grid import Grid, Table
from lora.files import Row
from lora.tables.labels import GLUE, OTHER_SETS

OURS = {  # statistic and selection of a published value -> our column of the same kind
    ("median", "best"): "best_median",
    ("mean", "best"): "best_mean",
    ("single", "best"): "best_median",  # one seed is a draw from the distribution of this median
    ("median", "last"): "last_median",
    ("mean", "last"): "last_mean",
    ("unknown", "unknown"): "best_median",  # the paper's own (Appendix D.1)
}
SAME = ("model", "task", "method", "weights", "rank", "metric")
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
        same = [
            cell
            for cell in cells
            if all(value[key] == cell[key] for key in SAME)
            and _comparable(grid, value["protocol"], cell["protocol"], separate)
        ]
        rows += [_compared_row(value, cell) for cell in same]
        relation = "" if same else _relation(table, value)
        if relation:
            blank = {"ours_protocol": "", "ours": math.nan, "difference": math.nan}
            rows += [
                value | blank | {"relation": relation, "column": name}
                for name in _columns(grid, table, value)
            ]
    return rows


def _compared_row(value: Row, cell: Row) -> Row:
    """Return the row of a published value that is compared with this cell."""
    key = OURS.get((value["statistic"], value["selection"]))
    ours = cell[key] if key else math.nan
    return value | {
        "relation": "same",
        "column": cell["column"],
        "ours_protocol": cell["protocol"],
        "ours": ours,
        "difference": round(ours - float(value["value"]), 6),
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
        "note": value["note"],
        **{f"published_{key}": value[key] for key in WORDS},
    }


def is_compared(value: Row, row: Row) -> bool:
    """Return whether a published value is compared with a cell of this row, of any task."""
    keys = ("model", "method", "weights", "rank")
    same = value["relation"] == "same" and value["ours_protocol"] == row["protocol"]
    return same and all(value[key] == row[key] for key in keys)


def _comparable(grid: Grid, theirs: str, ours: str, separate: set[str]) -> bool:
    """Return whether two protocols may be compared. `theirs` is empty for the main protocol."""
    base = grid.base_protocol(ours)
    return base == theirs if theirs else base not in separate


def _relation(table: Table, value: Row) -> str:
    """Return `context` or `reference` for a value that no cell matches; empty to omit it."""
    if table.name != "table2":
        requested = {(cell.weights, cell.rank) for cell in table.cells}
        if (value["weights"], value["rank"]) not in requested:
            return ""
        if value["model"] in table.models and value["task"] in table.tasks:
            return "context"
        is_gpt3 = (value["model"], value["task"]) == ("gpt3-175b", "mnli")
        return "reference" if is_gpt3 else ""
    if value["model"] in table.models and value["task"] in (*table.tasks, "average"):
        return "context"
    is_lora = (value["model"], value["method"]) == ("roberta-base", "lora")
    if is_lora and value["source"].startswith("arXiv") and value["task"] != "average":
        return "reference"
    return ""


def _columns(grid: Grid, table: Table, value: Row) -> list[str]:
    """Return the columns of a published value: those of its task, or of demo tasks like it."""
    if table.name != "table2":
        return [column(table.name, value)]
    if value["task"] == "average":
        return ["average"] if set(GLUE) <= set(table.tasks) else []
    if value["model"] in table.models:
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
