"""Atomic writes, checksums, and text, CSV and JSON files from any system."""

import csv
import errno
import hashlib
import json
import os

import pytest
from helpers.fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st

from lora import files

VALUE = dict(epoch=3, rows=[0.1, None], name="é")
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@fuzz(100)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=4),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_rows_are_read_as_csv_wrote_them(tmp_path_factory, rows, end, mark):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    with open(path, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as handle:
        # QUOTE_ALL: otherwise Python 3.11 does not quote \r
        csv.writer(handle, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [row for _, row in files.read_rows(path)] == rows


def test_rows_have_the_number_of_their_first_line(tmp_path):
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
def test_a_file_that_is_not_csv_is_refused_with_the_line(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.csv, {message}"):
        files.read_rows(tmp_path / "a.csv")


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
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
def test_a_json_object_is_read_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "a.json"
    path.write_text(json.dumps(value), encoding="utf-8-sig")
    assert files.read_object(path, "write it again") == value


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"]
)
def test_a_text_that_is_not_json_is_refused_with_advice(text):
    with pytest.raises(ValueError, match="^here is not JSON .*; write it again$"):
        files.parse_object(text, "here", "write it again")


@pytest.mark.parametrize("text", ["[]", "null", '"a"', "1"])
def test_json_that_is_not_an_object_is_refused(text):
    with pytest.raises(ValueError, match="^here is not a JSON object; write it again$"):
        files.parse_object(text, "here", "write it again")


COLUMNS = {"name": (str, "text"), "epoch": (int, "a number"), "loss": (float, "a number")}


def test_csv_rows_have_the_types_of_their_columns(tmp_path):
    path = tmp_path / "a.csv"
    rows = [
        dict(name='a,\n"b', epoch=3, loss=0.1 + 0.2),
        dict(name="", epoch=-1, loss=float("inf")),
    ]
    files.write_csv(path, COLUMNS, rows)
    assert files.read_csv(path, COLUMNS) == rows
    files.write_csv(path, COLUMNS, [dict(name="x", epoch=None, loss=float("nan"))])
    (row,) = files.read_csv(path, COLUMNS)
    assert path.read_text() == "name,epoch,loss\nx,,\n"
    assert row["epoch"] != row["epoch"] and row["loss"] != row["loss"]  # NaN
    with pytest.raises(ValueError, match=r"columns \['epoch', 'loss'\] of a row are missing"):
        files.write_csv(path, COLUMNS, [dict(name="x")])


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,epoch\n", "the header is 'name,epoch'; expected 'name,epoch,loss'"),
        ("name,epoch,loss\na,1\n", "row 1: 2 cells; expected 3"),
        ("name,epoch,loss\na,1,2\nb,1.5,2\n", "row 2, column epoch: '1.5' is not of type int"),
        ("name,epoch,loss\na,1_0,2\n", "row 1, column epoch: '1_0' is not of type int"),
        ("name,epoch,loss\na,1, 2\n", "row 1, column loss: ' 2' is not of type float"),
        ("name,epoch,loss\na,１,2\n", "row 1, column epoch: '１' is not of type int"),
    ],
)
def test_a_csv_that_does_not_fit_its_columns_is_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        files.read_csv(tmp_path / "a.csv", COLUMNS)


@pytest.mark.parametrize(
    "number, advice",
    [
        (errno.ENOSPC, "Nothing was lost. Free some disk space and run the same command again."),
        (errno.EROFS, "Choose a folder that is not read-only and run the same command again."),
        (errno.EIO, "Nothing was lost. Fix this and run the same command again."),
    ],
)
def test_a_failed_write_keeps_the_earlier_file(tmp_path, monkeypatch, number, advice):
    path = tmp_path / "a.json"
    files.write_json(path, VALUE)

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError) as caught:
        files.write_json(path, {})
    assert f"{path} cannot be written ({os.strerror(number)}). " in str(caught.value)
    assert advice in str(caught.value)
    assert json.loads(path.read_text()) == VALUE and os.listdir(tmp_path) == ["a.json"]


def test_temporary_files_of_killed_processes_are_deleted(tmp_path):
    for name in (".a.json.12.tmp", "a.json", "b.tmp"):
        (tmp_path / name).touch()
    files.remove_temporary_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.tmp"]
    files.remove_temporary_files(tmp_path / "absent")


def test_every_changed_bit_breaks_the_checksum(tmp_path):
    """Each bit of the file in turn: what is still JSON has another checksum or the same values."""
    checked = files.with_checksum(VALUE)
    rest = json.dumps(VALUE, sort_keys=True).encode()
    assert checked == VALUE | dict(checksum=hashlib.sha256(rest).hexdigest())
    content, missed = json.dumps(checked, sort_keys=True).encode(), []
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            value = json.loads(changed)
        except ValueError:
            continue
        if not files.checksum_fails(value) and {key: value.get(key) for key in VALUE} != VALUE:
            missed.append(value)
    assert missed == []


@pytest.mark.parametrize("key", files.CHECKSUM_KEYS)
def test_checksums_of_this_and_of_earlier_versions_are_verified(key):
    checked = VALUE | {key: files.with_checksum(VALUE)["checksum"]}
    assert files.has_checksum(checked) and not files.has_checksum(VALUE)
    assert files.verify_checksum(checked, "x.json", "make it again") == checked
    message = "x.json was changed or damaged: its checksum does not fit; make it again"
    with pytest.raises(ValueError, match=message):
        files.verify_checksum(checked | dict(epoch=4), "x.json", "make it again")
    assert files.verify_checksum(VALUE, "x.json", "make it again") == VALUE
    assert files.with_checksum(checked) == VALUE | {"checksum": checked[key]}


def test_a_changed_file_differs_from_its_hash(tmp_path):
    path, expected = tmp_path / "a", hashlib.sha256(b"1").hexdigest()
    path.write_text("1")
    assert files.file_sha256(path) == expected
    assert not files.differs_from(path, expected)
    assert not files.differs_from(tmp_path / "absent", expected)
    path.write_text("2")
    assert files.differs_from(path, expected) and not files.differs_from(path, None)
