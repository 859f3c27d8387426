"""Atomic writes, checksums, and strict reading of UTF-8 text, CSV and JSON.

A file is written under a temporary name in the same folder, flushed to disk and renamed. After a
killed job or a full disk, either the old file or the new one is there, never a part of one.
Reading repairs nothing: it raises ValueError with the file and the line. A byte-order mark and
both kinds of line end are accepted.
"""

import codecs
import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lora.errors import shown

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
CHECKSUM_KEYS = ("checksum", "seal")  # the first is written; earlier versions wrote the second

# Values inside JSON objects and CSV rows have the types their readers check for.
JsonObject = dict[str, Any]
Row = dict[str, Any]
Columns = Mapping[str, tuple[type, str]]  # name: (str, int or float; description)

FIXES = {  # what to do about an error while writing; the key is its errno
    errno.ENOSPC: "Free some disk space",
    errno.EDQUOT: "Free some disk space: the quota is used up",
    errno.EROFS: "Choose a folder that is not read-only",
    errno.EACCES: "Make the folder writable",
    errno.EPERM: "Make the folder writable",
}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; after the block, flush that file and rename it to `path`.

    Raises:
        OSError: If the system refuses to write. The message names `path`, an earlier file at
            `path` is unchanged, and the temporary file is deleted.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        why = error.strerror or str(error)
        fix = FIXES.get(error.errno or 0, "Fix this")
        raise OSError(
            f"{path} cannot be written ({why}). Nothing was lost. {fix} and run the same command "
            "again."
        ) from error


def remove_temporary_files(folder: Path) -> None:
    """Delete the temporary files of killed processes. No other process may write to `folder`."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def with_checksum(value: JsonObject) -> JsonObject:
    """Return a copy of a JSON object with its checksum; an earlier checksum is replaced."""
    return _without_checksum(value) | {CHECKSUM_KEYS[0]: _checksum(value)}


def has_checksum(value: JsonObject) -> bool:
    """Return whether a JSON object holds a checksum, from this version or an earlier one."""
    return any(key in value for key in CHECKSUM_KEYS)


def checksum_fails(value: JsonObject) -> bool:
    """Return whether a JSON object differs from its checksum. Without one it cannot fail."""
    expected = _checksum(value)
    return any(value[key] != expected for key in CHECKSUM_KEYS if key in value)


def verify_checksum(value: JsonObject, path: Path, advice: str) -> JsonObject:
    """Return `value`, read from `path`, if its checksum fits.

    Raises:
        ValueError: If the checksum does not fit. The message ends with `advice`.
    """
    if checksum_fails(value):
        raise ValueError(f"{path} was changed or damaged: its checksum does not fit; {advice}")
    return value


def _checksum(value: JsonObject) -> str:
    rest = json.dumps(_without_checksum(value), sort_keys=True)
    return hashlib.sha256(rest.encode()).hexdigest()


def _without_checksum(value: JsonObject) -> JsonObject:
    return {key: value[key] for key in value if key not in CHECKSUM_KEYS}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def differs_from(path: Path, sha256: str | None) -> bool:
    """Return whether the file at `path` exists with another hash. False if `sha256` is None."""
    if sha256 is None or not Path(path).is_file():
        return False
    return file_sha256(path) != sha256


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8. Line ends are kept. Raises OSError."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically, with sorted keys. Raises OSError, and ValueError for NaN."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def format_value(value: object) -> str:
    """Return a value as a CSV cell.

    A float is written so that reading gives the same bits; NaN and None are an empty cell.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write a CSV file atomically. Raises OSError, and ValueError as `csv_text` does."""
    write_text(path, csv_text(path, columns, rows))


def csv_text(path: Path, columns: Iterable[str], rows: Iterable[Row]) -> str:
    """Return the content that `write_csv` writes to `path`.

    Raises:
        ValueError: If the keys of a row are not exactly `columns`.
    """
    names = list(columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        if set(row) != set(names):
            wrong = sorted(set(row) ^ set(names))
            raise ValueError(f"{path}: columns {wrong} of a row are missing or unknown")
        writer.writerow(format_value(row[name]) for name in names)
    return text.getvalue()


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, without its byte-order mark.

    Raises:
        ValueError: If there is no such file, or it holds a NUL byte or bytes that are not UTF-8.
            The same for UTF-16 and for a byte-order mark where a later line begins, which joined
            files have. The message names the file and the line.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file")
    if not path.is_file():
        raise ValueError(f"there is no file {path}; check its name and folder")
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
    if content.startswith(codecs.BOM_UTF8) or b"\n" + codecs.BOM_UTF8 in content:
        line = _line_of(content, content.index(codecs.BOM_UTF8))
        raise ValueError(
            f"{path}, line {line}: a byte-order mark inside the file; allowed: one at its start. "
            "Save the parts as UTF-8 without it, then join them"
        )
    if b"\0" in content:
        line = _line_of(content, content.index(0))
        raise ValueError(f"{path}, line {line}: a NUL byte; allowed: text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = content[error.start], _line_of(content, error.start)
        raise ValueError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def read_rows(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file, each with the number of its first line, counted from 1.

    Args:
        path: The file.
        delimiter: Character between cells: a comma, or a tab.

    Raises:
        ValueError: If the file is not CSV, or as in `read_text`.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows, first_line = [], 1
    try:
        for row in reader:
            rows.append((first_line, row))
            first_line = reader.line_num + 1
    except csv.Error as error:  # an unclosed quote, or a cell beyond csv's limit
        kind, separators = ("CSV", "commas") if delimiter == "," else ("quoted TSV", "tabs")
        raise ValueError(
            f"{path}, line {first_line} is not {kind} ({error}); allowed: cells in quotes where "
            f"they hold {separators}, quotes inside them twice"
        ) from None
    return rows


def read_csv(path: Path, columns: Columns) -> list[Row]:
    """Return the rows of a CSV file, with cells of the types in `columns`.

    An empty cell is NaN in a column of numbers and "" in a column of text.

    Raises:
        ValueError: If the header or a cell does not fit `columns`. The message names the file,
            the row (counted from 1 after the header) and the column.
    """
    (_, header), *lines = read_rows(path) or [(1, [])]
    if header != list(columns):
        got = shown(",".join(header), 1000)
        raise ValueError(f"{path}: the header is {got}; expected {','.join(columns)!r}")
    rows = []
    for number, (_, cells) in enumerate(lines, start=1):
        if len(cells) != len(columns):
            raise ValueError(f"{path}, row {number}: {len(cells)} cells; expected {len(columns)}")
        row = {}
        for (name, (kind, _)), text in zip(columns.items(), cells, strict=True):
            try:
                row[name] = _parse_cell(kind, text)
            except ValueError:
                raise ValueError(
                    f"{path}, row {number}, column {name}: {shown(text)} is not of type "
                    f"{kind.__name__}"
                ) from None
        rows.append(row)
    return rows


def _parse_cell(kind: type, text: str) -> str | int | float:
    """Return a cell as `kind`: str, int or float.

    Python's own parsers accept more than a CSV file here may hold: 1_0, white space, and digits
    of other scripts.
    """
    if kind is str:
        return text
    if text == "":
        return math.nan
    if not NUMBER.fullmatch(text) and text not in ("inf", "-inf"):
        raise ValueError(text)
    return int(text) if kind is int else float(text)


def read_object(path: Path, advice: str) -> JsonObject:
    """Return the JSON object in a file. Raises ValueError that ends with `advice`."""
    return parse_object(read_text(path), str(path), advice)


def parse_object(text: str, where: str, advice: str) -> JsonObject:
    """Return the JSON object in a text.

    Args:
        text: The JSON text.
        where: Its origin, for messages.
        advice: What the user should do about a text that is not a JSON object.

    Raises:
        ValueError: If the text is not a JSON object. The message ends with `advice`.
    """
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}); {advice}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a JSON object; {advice}")
    return value


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: If the text is not JSON, holds NaN or an infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")
