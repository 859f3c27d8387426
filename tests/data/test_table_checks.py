"""Checks of the data of tasks of a config before any job."""

import pytest
from helpers.configs import changed
from helpers.own_tasks import write_csv

from lora.data import table_checks
from lora.errors import ConfigError
from lora.experiment import grid


def checked(tmp_path, **tasks):
    config = changed(tasks=tasks, results=str(tmp_path / "out"))
    table_checks.check(grid.load(config), tasks)


def test_the_data_of_every_task_are_checked_and_those_of_the_hub_are_not(tmp_path):
    good, bad = write_csv(tmp_path / "good.csv"), write_csv(tmp_path / "bad.csv", ["a,x", "b,x"])
    hub = dict(hub="owner/data", revision="a" * 40, text="text")
    checked(tmp_path, good=dict(path=str(good), text="text"), hub=hub)
    with pytest.raises(ConfigError) as caught:
        checked(
            tmp_path,
            bad=dict(path=str(bad), text="text"),
            column=dict(path=str(good), text="Text"),
            missing=dict(path=str(tmp_path / "gone"), text="text"),
            around=dict(path=str(tmp_path), text="text"),
            hub=hub,
        )
    found = sorted(problem.partition(": ")[0] for problem in caught.value.problems)
    assert found == ["tasks.around.path", "tasks.bad", "tasks.column", "tasks.missing"]


def test_of_large_files_only_the_header_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table_checks, "SMALL", 10)
    path = write_csv(tmp_path / "large.csv", ["a,x", "b,x"])
    checked(tmp_path, large=dict(path=str(path), text="text"))
    with pytest.raises(ConfigError, match="there is no column 'words'"):
        checked(tmp_path, large=dict(path=str(path), text="words"))
