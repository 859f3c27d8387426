"""Every task of config/tasks.csv has a reader."""

import dataclasses

import pytest

from lora.data import demo, formats, glue
from lora.data.examples import RawSplit
from lora.experiment import registry

TASKS = registry.read_tasks()


def test_every_task_has_a_reader():
    assert {task.format for task in TASKS.values()} <= set(formats.READERS)


def test_the_format_chooses_the_reader(tmp_path, monkeypatch):
    def read(task, folder):
        texts = {"a": [f"{task.name} {folder}", "x"], "b": ["y", "z"]}
        split = RawSplit("here", texts, labels=[0, 1], rows=[1, 2])
        return {"train": split, "validation": split}

    monkeypatch.setitem(formats.READERS, "glue", read)
    assert formats.read(TASKS["rte"], str(tmp_path))["train"].first == [f"rte {tmp_path}", "x"]
    assert formats.READERS["vader"] is demo.read is not glue.read


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="task rte: format is 'xml'; allowed: glue, vader"):
        formats.read(dataclasses.replace(TASKS["rte"], format="xml"), tmp_path)
