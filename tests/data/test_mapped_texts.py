"""Columns of text in a mapped file, compared with lists."""

import numpy as np
import pytest

from lora.data import mapped_texts
from lora.data.mapped_texts import TextWriter


@pytest.mark.parametrize("rows", [0, 1, 7, 25])
def test_columns_are_those_that_were_added(monkeypatch, rows):
    monkeypatch.setattr(mapped_texts, "CHUNK", 7)
    texts = [(f"row {at} 😀", "שלום" * (at % 4) + "\n\0") for at in range(rows)]
    writer = TextWriter(2)
    for row in texts:
        writer.add(row)
    columns = writer.finish()
    for column, expected in zip(columns, map(list, zip(*texts, strict=True)), strict=False):
        assert list(column) == expected and len(column) == rows
        assert [column[at] for at in range(rows)] == expected
        assert column[3:20] == expected[3:20]
        chosen = np.array([at for at in (5, 2, 5) if at < rows], dtype=int)
        assert list(column.select(chosen).select(np.arange(len(chosen)))) == [
            expected[at] for at in chosen
        ]


def test_rows_with_very_long_texts_are_written_early(monkeypatch):
    monkeypatch.setattr(mapped_texts, "LONGEST_CHUNK", 100)
    writer = TextWriter(1)
    writer.add(("x" * 100,))
    assert writer._rows == []
