"""Text, CSV and JSON as files hold them: read whole, or refused by file and line.

Facts, results and other people's folders are text that a person, an editor or a full disk may have changed. What comes out
here is text for certain; what it means is checked by whoever asked. A byte-order mark and either line end are no trouble,
as spreadsheets write them; NUL bytes, bytes that are not UTF-8, an open quote and JSON of another shape are refused, each
with file, line and what is allowed. Nothing is repaired. The cost is that a file is read into memory whole.
"""

import csv
import io
import json
from pathlib import Path


def read_text(path: Path) -> str:
    """All of a UTF-8 file, without its byte-order mark; raises ValueError that names file and line."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is a folder; give a file" if path.is_dir() else f"there is no file {path}; make it first")
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        raise ValueError(f"{path}, line {_line_of(content, content.index(0))}: a NUL byte; allowed: text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, line = content[error.start], _line_of(content, error.start)
        raise ValueError(f"{path}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from None


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
