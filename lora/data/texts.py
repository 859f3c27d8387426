"""Texts without labels, for predictions: read from a table, or from a text file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora.data import table_files, table_rows
from lora.data.checks import check_columns
from lora.errors import ConfigError, shown
from lora.experiment.task import TABLE, TableOptions, Task
from lora.files import read_text

ID = "id"
LINES = ".txt"  # a file with a text in each line and no header
LISTED = 10  # wrong rows that a message lists


@dataclass(frozen=True)
class Texts:
    """Texts of a file, in its order.

    Attributes:
        ids: Id of each text.
        first: First text of each example.
        second: Second text of each example; None for one text.
    """

    ids: list[str]
    first: list[str]
    second: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read(path: Path, columns: Sequence[str], id_column: str | None = None) -> Texts:
    """Read the texts of a file.

    Args:
        path: A table as a task of the config reads it, see `table_files.KINDS`; or a .txt file.
        columns: The text column, or the two columns of a pair.
        id_column: Column of the ids. Without it, the column `id` if there is one, else the number
            of each row, from 1.

    Raises:
        ValueError: If there is no such file, it is damaged, or of another kind.
        ConfigError: If columns are missing, or a row has no text or no id. It lists every problem.
    """
    path = Path(path)
    kinds = ", ".join((*table_files.KINDS, LINES))
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a file with texts ({kinds})")
    if path.suffix.lower() == LINES:
        lines = read_text(path).removesuffix("\n").split("\n")
        return Texts(_numbers(len(lines)), [line.removesuffix("\r") for line in lines])
    if not table_files.kind_of(path):
        raise ValueError(f"{path} is not a table; allowed: a file that ends in {kinds}")
    found = table_rows.columns_of(_task(columns, id_column or ID), path)
    if id_column is None and ID in found and ID not in columns:
        id_column = ID
    needed = list(dict.fromkeys([*columns, *([id_column] if id_column else [])]))
    if problems := check_columns(needed, found, str(path)):
        raise ConfigError(f"{path}: the columns cannot be read:", problems)
    return _read_table(path, columns, id_column)


def _task(columns: Sequence[str], other: str) -> Task:
    """Return a task with these columns; `other` is in place of its label."""
    options = TableOptions(label=other)
    return Task(TABLE, TABLE, TABLE, TABLE, tuple(columns), 0, "accuracy", (ID,), "", (), options)


def _read_table(path: Path, columns: Sequence[str], id_column: str | None) -> Texts:
    problems: list[str] = []
    rows = list(table_rows.read(_task(columns, id_column or columns[0]), path, problems.append))
    unit = table_rows.unit_of(path)
    for row in rows:
        where = f"{path}, {unit} {row.number}"
        problems += [
            f"{where}, column {name}: {shown(text)}; expected text"
            for name, text in zip(columns, row.texts, strict=True)
            if not isinstance(text, str)
        ]
        if id_column and (row.label in (None, "") or row.label != row.label):  # NaN
            problems.append(f"{where}: no {id_column}; give each row one")
    if problems:
        more = [f"and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
        raise ConfigError(f"{path}: some rows cannot be used:", problems[:LISTED] + more)
    if not rows:
        raise ValueError(f"{path} has no text; expected at least one row after the header")
    ids = [str(row.label) for row in rows] if id_column else _numbers(len(rows))
    first, *second = ([str(row.texts[at]) for row in rows] for at in range(len(columns)))
    return Texts(ids, first, *second)


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]
