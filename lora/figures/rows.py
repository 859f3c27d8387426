"""Rows of the tables' CSV files: reading, selecting and sorting them."""

from collections.abc import Iterable
from pathlib import Path

from lora import columns, files
from lora.files import Row
from lora.tables import constant
from lora.tables.labels import METHODS, OTHER_SETS

CELL = columns.CELL_COLUMNS
COLUMNS = {  # end of the name of a table's CSV file -> its columns
    "": columns.TABLE_COLUMNS,
    "_published": columns.PUBLISHED_COLUMNS,
    "_best": columns.BEST_COLUMNS,
    "_curves": columns.CURVES_COLUMNS,
}
LEFT_OUT = ("average", *OTHER_SETS)  # metrics of table 2 that no figure draws


def read_table(folder: Path, table: str, kind: str = "") -> list[Row]:
    """Return the rows of one of a table's CSV files; none if the table was not requested.

    Args:
        folder: Folder of the tables.
        table: For example `table2`.
        kind: End of the file's name, a key of COLUMNS.
    """
    path = folder / f"{table}{kind}.csv"
    return files.read_csv(path, COLUMNS[kind]) if path.is_file() else []


def read_all_tables(folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the finished cells and the requested runs of all tables, each once.

    Args:
        folder: Folder of the tables.
    """
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


def finished(rows: Iterable[Row]) -> list[Row]:
    """Return the cells with at least one finished run."""
    return [row for row in rows if row["n"] > 0]


def varying(rows: Iterable[Row], center: str) -> list[Row]:
    """Return the finished cells of which not every run predicts one class only.

    Args:
        rows: Cells.
        center: Column of the statistic that is drawn, such as `best_median`.
    """
    return [row for row in finished(rows) if not constant.is_constant(row, center)]


def is_constant_run(run: Row, value: str) -> bool:
    """Return whether a run predicts one class only at an epoch.

    Args:
        run: A row with the columns BEST_COLUMNS.
        value: Column of a value at that epoch, `best_value` or `last_value`.
    """
    return bool(run[f"{value.partition('_')[0]}_constant"] == 1)


def count_constant(runs: Iterable[Row]) -> int:
    """Return the number of runs that predict one class only at their best or last epoch."""
    return sum(1 in (run["best_constant"], run["last_constant"]) for run in runs)


def same_cell(row: Row, other: Row) -> bool:
    """Return whether two rows belong to the same cell."""
    return all(row[key] == other[key] for key in CELL)


def varies(rows: Iterable[Row], key: str) -> bool:
    """Return whether a column has more than one value."""
    return len({row[key] for row in rows}) > 1


def weights_order(rows: Iterable[Row]) -> list[str]:
    """Return the weight types in the order that gives each the same colour in every panel."""
    return sorted({row["weights"] for row in rows}, key=lambda weights: (len(weights), weights))


def sort_by_method(rows: Iterable[Row]) -> list[Row]:
    """Return rows in the paper's order of methods; rows of one method keep their order."""
    return sorted(rows, key=lambda row: list(METHODS).index(row["method"]))
