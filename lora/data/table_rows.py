"""Rows of CSV, TSV, JSONL and parquet files and of saved data sets, read one after another.

The standard library's `csv` and `json` read text files line by line, because their row numbers
are those of an editor, also where a cell has line ends. pyarrow and `datasets` read the others.
"""

import contextlib
import csv
import difflib
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lora.data import arrow, table_files
from lora.errors import shown
from lora.experiment.task import TableOptions, Task

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SEPARATORS = (",", ";", "\t", "|")
LONGEST_CELL = 2**31 - 1
BATCH = 1000


class Row(NamedTuple):
    """One row: its line (text files) or row number from 1, its texts and its label as read."""

    number: int
    texts: tuple[object, ...]
    label: object


def unit_of(path: Path | None) -> str:
    """Return what `Row.number` counts in a file; None is a saved data set."""
    return "line" if path and table_files.kind_of(path) != ".parquet" else "row"


def read(task: Task, path: Path, report: Callable[[str], None]) -> Iterator[Row]:
    """Yield the rows of one file.

    Args:
        task: Names the columns.
        path: The file.
        report: Called with each problem of a single row, which is then left out.

    Raises:
        ValueError: If the file cannot be read, or lacks a column.
    """
    kind = table_files.kind_of(path).removesuffix(".gz")
    if kind == ".parquet":
        return _parquet_rows(task, path)
    if kind in (".csv", ".tsv"):
        return _csv_rows(task, path, kind, report)
    return _json_rows(task, path, report)


def columns_of(task: Task, path: Path) -> list[str]:
    """Return the names of a file's columns; of a JSONL file the keys of its first object.

    Args:
        task: Its columns decide which separator a CSV file has.
        path: The file.

    Raises:
        ValueError: If the file cannot be read.
    """
    kind = table_files.kind_of(path).removesuffix(".gz")
    if kind == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    if kind in (".csv", ".tsv"):
        return _cells(next(_lines(path), ""), _separator(task, path, kind))
    for line in _lines(path):
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(row := json.loads(line), dict):
                return list(row)
    return []


def read_saved(task: Task, folder: Path, split: str) -> Iterator[Row]:
    """Yield the rows of a saved data set, with the names of its classes where it has them."""
    from datasets import ClassLabel

    saved = arrow.load_saved(folder)
    saved = saved if hasattr(saved, "features") else saved[split]
    where = f"{folder}, split {split}"
    check_columns(task, saved.column_names, where)
    kind = saved.features[_label(task)]
    names = kind.names if isinstance(kind, ClassLabel) else None
    columns = [*task.text_columns, _label(task)]
    number = 0
    for batch in saved.select_columns(columns).iter(BATCH):
        for *texts, label in zip(*(batch[name] for name in columns), strict=True):
            number += 1
            yield Row(number, tuple(texts), _named(label, names))


def check_columns(task: Task, found: Sequence[str], where: str) -> None:
    """Raise ValueError if a column of the task is missing, or there twice."""
    for key, name in (*(("text", name) for name in task.text_columns), ("label", _label(task))):
        if found.count(name) == 1:
            continue
        if found.count(name) > 1:
            raise ValueError(f"{where}: column {shown(name)} is there more than once; rename one")
        close = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"{where}: there is no column {shown(name)} ({key} of task {task.name}); the columns "
            f"are {shown(list(found), 400)}{hint}"
        )


def _label(task: Task) -> str:
    return (task.table or TableOptions()).label


def _named(label: object, names: Sequence[str] | None) -> object:
    """Return the name of a class number of `datasets`; -1 is a missing label there."""
    if names is None or type(label) is not int:
        return label
    return names[label] if 0 <= label < len(names) else None


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, which may be compressed, with their ends."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    number = 0
    try:
        with opened(path, "rb") as handle:
            for number, raw in enumerate(handle, start=1):
                if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise ValueError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
                if b"\0" in raw:
                    raise ValueError(f"{path}, line {number}: a NUL byte; allowed: text")
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the "
            "file as UTF-8"
        ) from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(
            f"{path}, after line {number}: it is not a whole gzip file ({error}); copy it again"
        ) from None


def _csv_rows(task: Task, path: Path, kind: str, report: Callable[[str], None]) -> Iterator[Row]:
    separator = _separator(task, path, kind)
    before = csv.field_size_limit(LONGEST_CELL)
    number = 1
    try:
        reader = csv.reader(_lines(path), delimiter=separator, strict=True)
        header = next(reader, [])
        check_columns(task, header, f"{path}, line 1")
        *texts, label = (header.index(name) for name in (*task.text_columns, _label(task)))
        number = reader.line_num + 1
        for cells in reader:
            if len(cells) == len(header):
                yield Row(number, tuple(cells[at] for at in texts), cells[label])
            elif cells:
                row = separator.join(cells)
                report(
                    f"{path}, line {number}: {len(cells)} cells; expected {len(header)}. Put a "
                    f"cell in quotes that holds {shown(separator)}. The line is {shown(row, 200)}"
                )
            number = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {number}: it is not CSV ({error}); allowed: cells in quotes where they "
            f"hold {shown(separator)} or line ends, quotes inside them twice"
        ) from None
    finally:
        csv.field_size_limit(before)


def _separator(task: Task, path: Path, kind: str) -> str:
    """Return the separator: the config's, a tab for TSV, or the one that fits the header."""
    given = (task.table or TableOptions()).separator
    if given or kind == ".tsv":
        return given or "\t"
    header = next(_lines(path), "")
    if not header.strip():
        raise ValueError(f"{path} is empty; expected a header with the names of the columns")
    wanted = {*task.text_columns, _label(task)}
    columns = {one: _cells(header, one) for one in SEPARATORS}
    # The first of those with the most of the task's columns, then with the most columns.
    return max(SEPARATORS, key=lambda one: (len(wanted & {*columns[one]}), len(columns[one])))


def _cells(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
        return []


def _json_rows(task: Task, path: Path, report: Callable[[str], None]) -> Iterator[Row]:
    checked = False
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            report(f"{path}, line {number}: it is not JSON ({str(error)[:200]}); one object a line")
            continue
        if not isinstance(row, dict):
            report(f"{path}, line {number}: got {shown(row)}; expected a JSON object")
            continue
        if not checked:
            check_columns(task, list(row), f"{path}, line {number}")
            checked = True
        yield Row(number, tuple(row.get(name) for name in task.text_columns), row.get(_label(task)))


def _parquet_rows(task: Task, path: Path) -> Iterator[Row]:
    from datasets import ClassLabel, Features

    file = _parquet(path)
    features = Features.from_arrow_schema(file.schema_arrow)
    check_columns(task, file.schema_arrow.names, str(path))
    kind = features[_label(task)]
    names = kind.names if isinstance(kind, ClassLabel) else None
    columns, number = [*task.text_columns, _label(task)], 0
    for batch in file.iter_batches(BATCH, columns=columns):
        lists = (batch.column(name).to_pylist() for name in columns)
        for *texts, label in zip(*lists, strict=True):
            number += 1
            yield Row(number, tuple(texts), _named(label, names))


def _parquet(path: Path) -> "ParquetFile":
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        file = pq.ParquetFile(path)
        Features.from_arrow_schema(file.schema_arrow)
    except arrow.DAMAGED as error:
        raise ValueError(f"{path}: it is not a parquet file ({error}); write it again") from None
    return file
