"""CSV and JSON files: the same value back, and wrong files refused with file, row and column."""

import math

import pytest

from lora import files

COLUMNS = {"n": (int, ""), "x": (float, ""), "s": (str, "")}


def test_values_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "a.csv"
    rows = [dict(n=1, x=0.1 + 0.2, s="a,b"), dict(n=2, x=math.nan, s="")]
    files.write_csv(path, COLUMNS, rows)
    back = files.read_csv(path, COLUMNS)
    assert back[0] == rows[0] and math.isnan(back[1]["x"]) and back[1]["s"] == ""


@pytest.mark.parametrize(
    "text, message",
    [
        ("n,x\n", "header is 'n,x'; expected 'n,x,s'"),
        ("", "header is ''"),
        ("n,x,s\n1,2\n", "row 1: 2 cells; expected 3"),
        ("n,x,s\n1,2,a\n1.5,2,a\n", "row 2, column n: '1.5' is not of type int"),
        ("n,x,s\n1,two,a\n", "column x: 'two' is not of type float"),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        files.read_csv(path, COLUMNS)


def test_rows_with_other_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="too many or too few"):
        files.write_csv(tmp_path / "a.csv", COLUMNS, [dict(n=1, x=2.0)])
    assert not (tmp_path / "a.csv").exists()


def test_json_refuses_nan_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ValueError):
        files.write_json(path, {"x": math.nan})
    assert path.read_text() == '{\n  "x": 1\n}\n' and list(tmp_path.iterdir()) == [path]
