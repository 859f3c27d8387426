"""CSV tables of config/: sources of their rows, and errors of wrong rows."""

import pytest

from lora.errors import ConfigError
from lora.experiment import csv_tables, registry


def test_every_csv_row_has_a_source():
    for name in csv_tables.COLUMNS:
        for row in csv_tables.read_rows(name):
            assert row["source"], (name, row)


def test_a_malformed_csv_table_is_refused_with_its_line(tmp_path):
    (tmp_path / "tasks.csv").write_text(
        ",".join(csv_tables.COLUMNS["tasks.csv"]) + "\nsst2,SST-2\n"
    )
    with pytest.raises(ConfigError, match="line 2 has 2 cells; expected 11"):
        csv_tables.read_rows("tasks.csv", tmp_path)
    (tmp_path / "sources.csv").write_text("name,kind\n")
    with pytest.raises(ConfigError, match="the header is 'name,kind'"):
        csv_tables.read_rows("sources.csv", tmp_path)


def test_a_table_of_an_earlier_version_has_tasks_without_label_names(tmp_path):
    """Kind: tasks.csv that a user edited before the column label_names was added."""
    columns = [name for name in csv_tables.COLUMNS["tasks.csv"] if name != "label_names"]
    path = tmp_path / "tasks.csv"
    path.write_text(f"{','.join(columns)}\nmine,Mine,d,glue,text,3,accuracy,dev,,me\n")
    task = registry.read_tasks(tmp_path)["mine"]
    assert (task.num_labels, task.metric, task.label_names) == (3, "accuracy", ())
    path.write_text(f"{','.join(columns)}\nmine,Mine,d,glue,text,3,a b c,accuracy,dev,,me\n")
    with pytest.raises(ConfigError, match="line 2 has 11 cells; expected 10"):
        csv_tables.read_rows("tasks.csv", tmp_path)
