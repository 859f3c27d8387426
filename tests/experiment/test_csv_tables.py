"""CSV tables of config/: sources of their rows, and errors of wrong rows."""

import pytest

from lora.errors import ConfigError
from lora.experiment import csv_tables


def test_every_csv_row_has_a_source():
    for name in csv_tables.COLUMNS:
        for row in csv_tables.read_rows(name):
            assert row["source"], (name, row)


def test_a_malformed_csv_table_is_refused_with_its_line(tmp_path):
    (tmp_path / "tasks.csv").write_text(
        ",".join(csv_tables.COLUMNS["tasks.csv"]) + "\nsst2,SST-2\n"
    )
    with pytest.raises(ConfigError, match="line 2 has 2 cells; expected 10"):
        csv_tables.read_rows("tasks.csv", tmp_path)
    (tmp_path / "sources.csv").write_text("name,kind\n")
    with pytest.raises(ConfigError, match="the header is 'name,kind'"):
        csv_tables.read_rows("sources.csv", tmp_path)
