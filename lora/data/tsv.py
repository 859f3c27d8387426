r"""Rows of a TSV file, with or without quoting.

GLUE's official files have no quoting: a quote is part of the text, often without a second one.
Spreadsheets, pandas and R put cells in quotes and write a quote inside them twice. A file counts as
quoted if it begins with a quote, or if each cell that has a quote is a correctly quoted cell and
one of them shows it by a doubled quote inside. Cells such as `"Fine."` can mean either, if no other
cell decides it: then the file is refused. GLUE's official files always have a quote that decides
it. A file that is read without quoting although a cell looks like one of pandas is logged.
"""

import logging
import re
from pathlib import Path

from lora import files
from lora.data.examples import read_lines
from lora.errors import shown

log = logging.getLogger(__name__)
QUOTED = re.compile(r'"((?:[^"]|"")*)"')
QUOTE_ALL = "put every cell in quotes, the header too (pandas: to_csv(..., sep='\\t', quoting=1))"

Rows = list[tuple[int, list[str]]]


def read_rows(path: Path) -> Rows:
    """Return the rows of a TSV file, each with the number of its first line, counted from 1.

    Raises:
        ValueError: If quotes can be read in two ways, a quoted file is not well-formed, or as in
            `lora.data.examples.read_lines`.
    """
    text = files.read_text(path)
    if text.startswith('"'):
        if "\t" not in text.partition("\n")[0] and '","' in text.partition("\n")[0]:
            raise ValueError(f"{path}, line 1: columns are separated by commas; expected tabs")
        return files.read_rows(path, delimiter="\t")
    rows = [(number, line.split("\t")) for number, line in enumerate(read_lines(path), start=1)]
    with_quotes = [(number, cell) for number, cells in rows for cell in cells if '"' in cell]
    unquoted = [line for line in with_quotes if not QUOTED.fullmatch(line[1])]
    if not with_quotes or unquoted:
        _warn_about_quotes(path, with_quotes, unquoted)
        return rows
    if any('""' in cell[1:-1] for _, cell in with_quotes):
        return [(number, [_unquoted(cell) for cell in cells]) for number, cells in rows]
    number, cell = with_quotes[0]
    raise ValueError(
        f"{path}, line {number}: the cell {shown(cell)} is in quotes, and no cell of the file "
        f"shows whether quotes belong to the text; allowed: {QUOTE_ALL}, with quotes of the text "
        "doubled"
    )


def _warn_about_quotes(
    path: Path, with_quotes: list[tuple[int, str]], unquoted: list[tuple[int, str]]
) -> None:
    r"""Log the first cell that looks quoted in a file that is read without quoting.

    That is a cell in quotes with doubled quotes inside, as pandas writes it, or a quote after a
    backslash.
    """
    for number, cell in with_quotes:
        if (QUOTED.fullmatch(cell) and '""' in cell[1:-1]) or '\\"' in cell:
            log.warning(
                "%s, line %d: the cell %s looks quoted, but all quotes are read as text, as line "
                "%d has %s. If the file is quoted, %s",
                path,
                number,
                shown(cell),
                unquoted[0][0],
                shown(unquoted[0][1]),
                QUOTE_ALL,
            )
            return


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell
