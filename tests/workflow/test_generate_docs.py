"""Generated parts of the documents: complete, and only between their marks."""

import re
import runpy

import pytest
import yaml
from helpers.models import ROOT

import lora
from lora import columns
from lora.experiment.config import json_schema
from lora.experiment.hparams import HPARAM_NAMES
from lora.run_record import RunRecord

DOCS = runpy.run_path(str(ROOT / "workflow/scripts/generate_docs.py"))


def names(table: str) -> list[str]:
    """The names in the first column of Markdown tables."""
    return re.findall(r"^\| `([\w.]+)`", table, re.M)


def test_a_block_is_replaced_and_the_text_around_it_kept():
    text = "a\n<!-- generated:x -->\nold\n<!-- end -->\nb\n<!-- generated:y -->\n<!-- end -->\n"
    made = DOCS["replace_block"](text, "x", "new")
    assert made == text.replace("\nold\n", "\n\nnew\n\n")
    assert DOCS["replace_block"](made, "x", "new") == made


@pytest.mark.parametrize(
    "text", ["", "<!-- generated:x -->\n", "<!-- generated:y -->\n<!-- end -->"]
)
def test_a_missing_block_is_an_error(text):
    with pytest.raises(ValueError, match="generated:x"):
        DOCS["replace_block"](text, "x", "new")


def test_the_version_is_copied_to_its_line():
    """Nothing else on the line is changed, nor other lines; no such line is an error."""
    for path, line in DOCS["VERSIONS"].items():
        text = (ROOT / path).read_text()
        assert DOCS["replace_version"](text, line) == text  # `make docs` was run
        older = text.replace(lora.__version__, "0.0.9.dev1", 1)
        assert older != text and DOCS["replace_version"](older, line) == text
        with pytest.raises(ValueError, match="found 0"):
            DOCS["replace_version"]("version 1", line)


def test_every_config_key_is_listed_with_its_default():
    text = DOCS["config_keys"]()
    schema = json_schema()
    inner = [key for part in schema["$defs"].values() for key in part["properties"]]
    assert set(names(text)) >= {*schema["properties"], *inner} - {"table2", "table5", "table6"}
    assert "| `[42, 43, 44, 45, 46]` |" in text and "None" not in text


def test_every_hyperparameter_is_listed():
    assert names(DOCS["hyperparameters"]()) == list(HPARAM_NAMES)


def test_every_csv_of_the_package_is_listed():
    """A new group of columns in lora/columns.py must appear in CSVS."""
    listed = [table for _, _, table in DOCS["CSVS"]]
    groups = [table for name, table in vars(columns).items() if name.endswith("_COLUMNS")]
    groups = [table for table in groups if isinstance(table, dict)]
    assert [table for table in groups if table not in listed] == [columns.RUNS_COLUMNS]


def test_every_column_is_listed_in_its_file():
    sections = DOCS["csv_columns"]().split("### ")[2:]
    for section, (title, _, table) in zip(sections, DOCS["CSVS"], strict=True):
        assert section.startswith(title)
        assert [name for name in table if f"`{name}`" not in section] == []


def test_every_key_of_run_json_is_listed():
    listed = names(DOCS["run_json"]())
    assert [key for key in RunRecord.model_fields if key not in listed] == []
    assert "speed.peak_host_bytes" in listed and "start.sha256" in listed


def test_pipes_and_angle_brackets_do_not_break_a_table():
    made = DOCS["markdown_table"](["a", "b"], [["x|y", "<table>"]])
    assert made.splitlines()[2] == "| x\\|y | &lt;table> |"


def test_the_schema_for_editors_is_the_schema_of_the_code():
    text = (ROOT / DOCS["SCHEMA"]).read_text()
    assert yaml.safe_load(text) == json_schema()
