"""Labels and lines: what every task format needs."""

import dataclasses
import math

import pytest

from lora.data.examples import Examples, from_columns, parse_label, read_lines
from lora.experiment import registry

TASKS = registry.read_tasks()


@pytest.mark.parametrize(
    "task, label, value",
    [
        ("sst2", "1", 1.0),
        ("sst2", " 0 ", 0.0),
        ("sst2", 1, 1.0),
        ("mnli", "2", 2.0),
        ("stsb", "4.75", 4.75),
        ("stsb", -3, -3.0),
    ],
)
def test_a_label_is_a_number(task, label, value):
    assert parse_label(TASKS[task], label, "here") == value


@pytest.mark.parametrize(
    "task, label",
    [
        *(("sst2", label) for label in ("2", "-1", "0.5", "nan", "", "1_0", "yes", None, [1], 2)),
        *(("stsb", label) for label in ("inf", "nan", "x", None, math.inf)),
    ],
)
def test_a_label_that_is_not_allowed_is_refused(task, label):
    with pytest.raises(ValueError, match=r"^line 7: label .*; allowed: "):
        parse_label(TASKS[task], label, "line 7")


def test_names_and_limits():
    names = {"no": 0, "yes": 1}
    assert parse_label(TASKS["sst2"], "yes", "here", names) == 1.0
    for label in ("maybe", 1, None):
        with pytest.raises(ValueError, match="allowed: no, yes"):
            parse_label(TASKS["sst2"], label, "here", names)
    assert parse_label(TASKS["stsb"], "5", "here", limits=(0.0, 5.0)) == 5.0
    with pytest.raises(ValueError, match="allowed: a number from 0 to 5"):
        parse_label(TASKS["stsb"], "5.1", "here", limits=(0.0, 5.0))


def test_only_line_feeds_end_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\u2028b\x0c\r\n\r\nc".encode())
    assert read_lines(path) == ["a\u2028b\x0c", "", "c"]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="a.txt is empty; expected at least one line"):
        read_lines(path)


def test_columns_become_examples():
    assert from_columns([["a"], ["b"]], [1.0], "here") == Examples(["a"], ["b"], [1.0])
    assert from_columns([["a"]], [1.0], "here").second is None
    with pytest.raises(ValueError, match="here holds no example"):
        from_columns([[]], [], "here")
    with pytest.raises(dataclasses.FrozenInstanceError):
        from_columns([["a"]], [1.0], "here").second = []
