"""Messages with several problems, and values in messages."""

import signal

import pytest

from lora.errors import MAX_LISTED, ConfigError, Interrupted, shown


def test_long_values_are_cut():
    assert shown("ab") == "'ab'" and shown("a" * 500, 10) == "'aaaaaaaaa... (502 characters)"


def test_values_that_python_cannot_write_are_named_by_type():
    endless: list[object] = []
    for _ in range(100_000):
        endless = [endless]
    assert shown(10**5000) == "a int too large to show"
    assert shown(endless) == "a list too large to show"


@pytest.mark.parametrize("count", [1, MAX_LISTED, MAX_LISTED + 7])
def test_a_message_lists_the_first_problems_and_counts_the_others(count):
    error = ConfigError("Title:", [f"problem {index}" for index in range(count)])
    title, *lines = str(error).splitlines()
    assert title == "Title:" and len(error.problems) == count
    assert lines[:MAX_LISTED] == [f"  - {problem}" for problem in error.problems[:MAX_LISTED]]
    assert lines[MAX_LISTED:] == (["  - and 7 more"] if count > MAX_LISTED else [])


def test_an_interruption_names_its_signal():
    error = Interrupted(signal.SIGTERM)
    assert error.number == 15 and str(error).startswith("stopped by SIGTERM; everything")
