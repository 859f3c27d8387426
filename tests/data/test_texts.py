"""Texts of a file for predictions, in every format, and files that are refused."""

import gzip
import json

import pandas as pd
import pytest

from lora.data import texts
from lora.data.texts import Texts
from lora.errors import ConfigError

FIRST = ["plain", "a, b", 'say "hi"', "NA", "שלום 🙂", "1.50", ""]
SECOND = ["one", "two\nlines", "", "null", "é", "2024-01-01", "x"]
IDS = ["a", "b", "c", "7", "007", "f", "g"]


def write(path, frame):
    """Write a frame as pandas does, in the format of the ending."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif ".jsonl" in path.name:
        lines = "".join(f"{json.dumps(row)}\n" for row in frame.to_dict("records")).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    else:
        frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",", index=False)
    return path


@pytest.mark.parametrize(
    "name", ["x.csv", "x.tsv", "x.csv.gz", "x.jsonl", "x.jsonl.gz", "x.parquet"]
)
def test_texts_are_those_that_were_written(name, tmp_path):
    """Every cell is text: no number, date or missing value is made of it."""
    path = write(tmp_path / name, pd.DataFrame({"id": IDS, "one": FIRST, "two": SECOND}))
    assert texts.read(path, ["one", "two"]) == Texts(IDS, FIRST, SECOND)
    assert texts.read(path, ["two"], "id") == Texts(IDS, SECOND)
    assert texts.read(path, ["id"]).ids == ["1", "2", "3", "4", "5", "6", "7"]


def test_a_text_file_has_a_text_in_each_line(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("id, not a header\n\n'quoted'\tb\n")
    expected = Texts(["1", "2", "3"], ["id, not a header", "", "'quoted'\tb"])
    assert texts.read(path, ["sentence"]) == expected


def test_a_semicolon_separates_cells_where_the_header_fits(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id;one\n7;"a; b"\n8;c, d\n')
    assert texts.read(path, ["one"]) == Texts(["7", "8"], ["a; b", "c, d"])


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("x.csv", "id,one\n1,a\n", ["two"], "no column"),
        ("x.csv", "id,one\n", ["one"], "no text; expected at least one row"),
        ("x.csv", "", ["one"], "is empty"),
        ("x.csv", "id,one\n1,a\n2,b,c\n", ["one"], "line 3: 3 cells; expected 2"),
        ("x.csv", 'one\n"a\n', ["one"], "is not CSV"),
        ("x.jsonl", '{"one": "a"}\n{"one"\n', ["one"], "line 2: it is not JSON"),
        ("x.jsonl", '{"one": "a"}\n{"one": 3}\n{"one": null}\n', ["one"], "line 2, column one: 3"),
        ("x.jsonl", '{"one": "a", "id": null}\n', ["one"], "line 1: no id"),
        ("x.csv", "id,one\n,a\n", ["one"], "line 2: no id"),
        ("x.csv", b"one\n\xff\xfe\n", ["one"], "is not UTF-8"),
        ("x.parquet", "no parquet", ["one"], "not a parquet file"),
        ("x.xlsx", "", ["one"], "not a table; allowed: a file that ends in .csv, .tsv"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(name, content, columns, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, ConfigError), match=message):
        texts.read(path, columns)


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(ValueError, match="is not a file"):
            texts.read(path, ["one"])


def test_a_message_lists_ten_rows(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"one": 1}\n' * 12)
    with pytest.raises(ConfigError) as caught:
        texts.read(path, ["one"])
    assert len(caught.value.problems) == 11 and caught.value.problems[-1] == "and 2 more"
