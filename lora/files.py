"""Atomic writes, checksums, and strict reading of UTF-8 text, CSV and JSON.

A file is written under a temporary name in the same folder, flushed to disk and renamed, so that a killed job or a full disk
leaves the old file or the new one. Reading refuses NUL bytes, bytes that are not UTF-8, open quotes and JSON of another
shape, with file and line; a byte-order mark and either line ending are accepted. Nothing is repaired.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from lora.errors import shown

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
CHECKSUM_KEY = "seal"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name to write `path` under; once that is written it is flushed and renamed. Raises OSError that names
    `path` where the system refuses; then what was there before is untouched and nothing is left behind."""
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
        advice = "what was saved before is kept: mend this, then the same command goes on"
        raise OSError(f"{path} cannot be written ({why}); {advice}") from error


def remove_temporary_files(folder: Path) -> None:
    """Take away what killed processes left half written in a folder that nobody else writes to now."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def with_checksum(value: dict) -> dict:
    """A JSON object with its seal."""
    return value | {CHECKSUM_KEY: _checksum(value)}


def checksum_fails(value: dict) -> bool:
    """Whether a JSON object is not what it was when it was sealed; one without a seal has none to break."""
    return CHECKSUM_KEY in value and value[CHECKSUM_KEY] != _checksum(value)


def verify_checksum(value: dict, path: Path, advice: str) -> dict:
    """A JSON object that was read from `path`; raises ValueError that ends with `advice` where its seal is broken."""
    if checksum_fails(value):
        raise ValueError(f"{path} is not as it was written: its seal does not fit; {advice}")
    return value


def differs_from(path: Path, sha256: str | None) -> bool:
    """Whether a file is there with another sha256 than was noted; where none was noted, nobody can tell."""
    if sha256 is None or not Path(path).is_file():
        return False
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() != sha256


def _checksum(value: dict) -> str:
    rest = {key: value[key] for key in value if key != CHECKSUM_KEY}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing; raises OSError that names it."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value) -> None:
    """JSON with sorted keys, one whole file or nothing. NaN is refused (ValueError): JSON has none."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def format_value(value) -> str:
    """A CSV cell: floats so that reading gives the same bits, NaN and None as an empty cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def write_csv(path: Path, columns: dict, rows: list[dict]) -> None:
    """Rows under `columns`; a row with another set of keys raises ValueError."""
    write_text(path, csv_text(path, columns, rows))


def csv_text(path: Path, columns: dict, rows: list[dict]) -> str:
    """What `write_csv` writes to `path`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(
                f"{path}: a row has columns {sorted(set(row) ^ set(columns))} too many or too few"
            )
        writer.writerow(format_value(row[name]) for name in columns)
    return text.getvalue()


def read_text(path: Path) -> str:
    """All of a UTF-8 file, without its byte-order mark; raises ValueError that names file and line."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"{path} is a folder; give a file"
            if path.is_dir()
            else f"there is no file {path}; make it first"
        )
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        raise ValueError(
            f"{path}, line {_line_of(content, content.index(0))}: a NUL byte; allowed: text"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = content[error.start], _line_of(content, error.start)
        raise ValueError(
            f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from None


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file with the number of the line each begins in, from 1; raises ValueError."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows, began = [], 1
    try:
        for row in reader:
            rows.append((began, row))
            began = reader.line_num + 1
    except csv.Error as error:  # a quote that nothing closes, or a cell beyond csv's limit
        allowed = "allowed: cells in quotes where they hold commas, quotes inside them twice"
        raise ValueError(f"{path}, line {began} is not CSV ({error}); {allowed}") from None
    return rows


def read_object(path: Path, advice: str) -> dict:
    """The JSON object in a file; raises ValueError that ends with `advice`, what to do about it."""
    return parse_object(read_text(path), str(path), advice)


def parse_object(text: str, where: str, advice: str) -> dict:
    """The JSON object that a text is; raises ValueError that names `where` it is from and ends with `advice`."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}); {advice}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a JSON object; {advice}")
    return value


def parse_json(text: str):
    """The value that a JSON text is; raises ValueError also for NaN, infinities and nesting that Python cannot follow."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str):
    raise ValueError(f"{constant} is no number in JSON")


def read_csv(path: Path, columns: dict) -> list[dict]:
    """Rows as typed dicts; raises ValueError naming file, row and column for anything that is not as `columns` says."""
    (_, header), *lines = read_rows(path) or [(1, [])]
    if header != list(columns):
        raise ValueError(
            f"{path}: the header is {shown(','.join(header), 1000)}; expected {','.join(columns)!r}"
        )
    rows = []
    for number, (_, line) in enumerate(lines, start=1):
        if len(line) != len(columns):
            raise ValueError(f"{path}, row {number}: {len(line)} cells; expected {len(columns)}")
        rows.append({name: _parse(path, number, name, columns[name][0], text)
                     for name, text in zip(columns, line, strict=True)})  # fmt: skip
    return rows


def _parse(path: Path, row: int, name: str, kind: type, text: str):
    if text == "" and kind is not str:
        return math.nan
    try:
        if kind is not str and not NUMBER.fullmatch(text) and text not in ("inf", "-inf"):
            raise ValueError(
                "Python reads more as a number than CSVs here hold: 1_0, other scripts' digits, white space"
            )
        return kind(text)
    except ValueError:
        raise ValueError(
            f"{path}, row {row}, column {name}: {shown(text)} is not of type {kind.__name__}"
        ) from None
