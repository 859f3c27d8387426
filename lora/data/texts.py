"""Texts without labels, for predictions: read from a CSV, TSV, JSONL, parquet or text file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora.data.checks import check_columns
from lora.errors import ConfigError, shown
from lora.files import read_text

if TYPE_CHECKING:
    from pandas import DataFrame

ID = "id"
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
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
        path: The file. Its ending says what it is; .gz may follow that of a text file. A .txt file
            has a text in each line and no header.
        columns: The text column, or the two columns of a pair.
        id_column: Column of the ids. Without it, the column `id` if there is one, else the number
            of each row, from 1.

    Raises:
        ValueError: If there is no such file, it is damaged, or of another kind.
        ConfigError: If columns are missing, or a row has no text or no id. It lists every problem.
    """
    frame = _read(Path(path), columns)
    if id_column is None and ID in frame.columns and ID not in columns:
        id_column = ID
    needed = [*columns, *([id_column] if id_column else [])]
    problems = check_columns(needed, [str(name) for name in frame.columns], str(path))
    if problems:
        raise ConfigError(f"{path}: the columns cannot be read:", problems)
    if not len(frame):
        raise ValueError(f"{path} has no text; expected at least one row after the header")
    wrong = [
        (row, f"row {row + 1}, column {name}: {shown(value)}; expected text")
        for name in columns
        for row, value in enumerate(frame[name])
        if not isinstance(value, str)
    ]
    if id_column:
        ids = [str(value) for value in frame[id_column]]
        missing = frame[id_column].isna()
        wrong += [
            (row, f"row {row + 1}: no {id_column}") for row in missing.to_numpy().nonzero()[0]
        ]
    else:
        ids = [str(row) for row in range(1, len(frame) + 1)]
    if wrong:
        lines = [problem for _, problem in sorted(wrong)]
        more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        raise ConfigError(f"{path}: some rows cannot be used:", lines[:LISTED] + more)
    texts = [list(frame[name]) for name in columns]
    return Texts(ids, texts[0], texts[1] if len(texts) == 2 else None)


def _read(path: Path, columns: Sequence[str]) -> "DataFrame":
    """Return the columns of a file; cells of text files are text, empty cells too."""
    import pandas as pd

    ending = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a file with texts ({', '.join(ENDINGS)})")
    if ending not in ENDINGS:
        raise ValueError(f"{path}: the ending is {shown(ending)}; allowed: {', '.join(ENDINGS)}")
    try:
        if ending == ".txt":
            lines = read_text(path).removesuffix("\n").split("\n")
            return pd.DataFrame({columns[0]: lines})
        if ending == ".parquet":
            return pd.read_parquet(path)
        if ending == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        separator = "\t" if ending == ".tsv" else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, LookupError) as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} cannot be read ({why}); save it again as UTF-8") from None
