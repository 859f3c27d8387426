"""Columns of the CSVs."""

import csv

import pytest
from helpers.models import ROOT

from lora import columns

TABLES = {name: table for name, table in vars(columns).items() if name.endswith("_COLUMNS")}
TYPED = {name: table for name, table in TABLES.items() if name != "CELL_COLUMNS"}


@pytest.mark.parametrize("name", TYPED)
def test_every_column_has_a_type_and_a_meaning(name):
    for column, (kind, meaning) in TYPED[name].items():
        assert kind in (str, int, float) and meaning.strip(), column


def test_a_cell_is_named_alike_everywhere():
    for name in ("RUN", "TABLE", "BEST", "CURVES", "SELECTION", "PROVENANCE"):
        assert set(columns.CELL_COLUMNS) <= set(TABLES[f"{name}_COLUMNS"]), name


def test_published_values_have_the_columns_of_their_source():
    with open(ROOT / "config/published.csv", encoding="utf-8", newline="") as handle:
        header = next(csv.reader(handle))
    added = {
        "relation",
        "column",
        "ours_model",
        "ours_protocol",
        "ours",
        "difference",
        "difference_margin",
        "margin_from",
    }
    assert set(columns.PUBLISHED_COLUMNS) - added == set(header)


def test_runs_csv_has_the_columns_of_metrics_csv_after_its_own():
    assert list(columns.RUNS_COLUMNS) == [*columns.RUN_COLUMNS, *columns.METRICS_COLUMNS]


def test_groups_keep_the_order_of_their_first_row():
    rows = [dict(a=2, b="x", i=0), dict(a=1, b="x", i=1), dict(a=2, b="x", i=2)]
    groups = columns.group_by(rows, "a", "b")
    assert list(groups) == [(2, "x"), (1, "x")]
    assert [row["i"] for row in groups[2, "x"]] == [0, 2]
