"""Text, CSV and JSON come back as they were written, from any system, or are refused with file and line."""

import csv
import json

import pytest
from helpers.spoiling import fuzz
from hypothesis import given
from hypothesis import strategies as st

from lora import files

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@fuzz(100)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=4),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_rows_are_those_that_csv_wrote(tmp_path_factory, rows, end, mark):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    with open(path, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as handle:
        csv.writer(handle, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(
            rows
        )  # else Python 3.11 leaves \r bare
    assert [row for _, row in files.read_rows(path)] == rows


def test_rows_say_the_line_they_begin_in(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n"two\nlines",c\nd,e\n')
    assert files.read_rows(tmp_path / "a.csv") == [
        (1, ["a", "b"]),
        (2, ["two\nlines", "c"]),
        (4, ["d", "e"]),
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a,b\nc,\xe9\n", "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"a,b\r\nc,d\r\n\0", "line 3: a NUL byte; allowed: text"),
        (b'a,b\nc,"d\ne,f\n', "line 2 is not CSV .*; allowed: cells in quotes"),
        (b'a,b\nc,"d"e\n', "line 2 is not CSV"),
        (b"a,b\n" + b"x" * 200_000 + b",d\n", "line 2 is not CSV .*field larger"),
    ],
)
def test_what_is_no_csv_is_told_by_its_line(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.csv, {message}"):
        files.read_rows(tmp_path / "a.csv")


def test_what_is_no_file_is_told(tmp_path):
    for path, message in (
        (tmp_path, "is a folder; give a file"),
        (tmp_path / "no", "there is no file .*no"),
    ):
        with pytest.raises(ValueError, match=message):
            files.read_text(path)


@fuzz(100)
@given(
    st.dictionaries(
        st.text(max_size=3),
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), CELLS),
    )
)
def test_an_object_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "a.json"
    path.write_text(json.dumps(value), encoding="utf-8-sig")
    assert files.read_object(path, "write it again") == value


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"]
)
def test_what_is_no_json_is_told_with_what_to_do(text):
    with pytest.raises(ValueError, match="^here is not JSON .*; write it again$"):
        files.parse_object(text, "here", "write it again")


@pytest.mark.parametrize("text", ["[]", "null", '"a"', "1"])
def test_json_that_is_no_object_is_told(text):
    with pytest.raises(ValueError, match="^here is not a JSON object; write it again$"):
        files.parse_object(text, "here", "write it again")
