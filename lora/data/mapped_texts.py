"""Columns of text on disk: written row by row, then mapped, so that memory stays bounded.

The columns are an Arrow file without a name in the folder for temporary files (TMPDIR). The system
deletes it when nothing maps it any more.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from lora.data import scratch

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

CHUNK = 10_000  # rows in memory while writing or iterating
LONGEST_CHUNK = 1 << 26  # characters, for rows with very long texts


class MappedTexts(Sequence[str]):
    """One column of text in a mapped file, or some of its rows."""

    def __init__(self, column: "pa.ChunkedArray", rows: "np.ndarray"):
        """Take the rows with the indices `rows`, [n] int64, of a column of strings."""
        self._column, self._rows = column, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self._column.take(self._rows[index]).to_pylist()
        return self._column[int(self._rows[index])].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def select(self, indices: "np.ndarray") -> "MappedTexts":
        """Return the rows at these indices of the column, in that order."""
        return MappedTexts(self._column, self._rows[indices])


class TextWriter:
    """Writes rows of one or two texts, and maps them when they are complete."""

    def __init__(self, columns: int):
        import pyarrow as pa

        self._schema = pa.schema([(str(index), pa.large_string()) for index in range(columns)])
        with scratch.explain_errors():
            self._file = tempfile.NamedTemporaryFile(suffix=".arrow")  # noqa: SIM115
            self._writer = pa.ipc.new_file(self._file.name, self._schema)
        self._rows: list[tuple[str, ...]] = []
        self._written = self._characters = 0

    def __del__(self) -> None:
        """Delete the file of columns that are never mapped, as after an error."""
        self._file.close()

    def add(self, texts: tuple[str, ...]) -> None:
        """Add a row."""
        self._rows.append(texts)
        self._characters += sum(map(len, texts))
        if len(self._rows) >= CHUNK or self._characters >= LONGEST_CHUNK:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        columns = [pa.array(column, pa.large_string()) for column in zip(*self._rows, strict=True)]
        with scratch.explain_errors():
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._written += len(self._rows)
        self._rows, self._characters = [], 0

    def finish(self) -> list[MappedTexts]:
        """Return the columns with every row that was added."""
        import numpy as np
        import pyarrow as pa

        self._flush()
        with scratch.explain_errors():
            self._writer.close()
        with pa.memory_map(self._file.name) as source:
            table = pa.ipc.open_file(source).read_all()
        self._file.close()  # deletes the name; the mapping keeps the content
        every = np.arange(self._written)
        return [MappedTexts(column, every) for column in table.columns]
