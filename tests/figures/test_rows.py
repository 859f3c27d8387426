"""Rows of the tables' CSV files are read, selected, grouped and sorted."""

from lora.figures import rows
from lora.tables.labels import METHODS


def test_a_table_that_was_not_requested_has_no_rows(folder, tmp_path):
    assert rows.read_table(tmp_path, "table2") == rows.read_table(folder, "table5", "_best") == []
    assert {row["task"] for row in rows.read_table(folder, "table2", "_best")} == {"sst2", "mrpc"}


def test_every_run_belongs_to_one_cell(folder):
    cells = [row for row in rows.read_table(folder, "table6") if row["metric"] == "accuracy"]
    for run in rows.read_table(folder, "table6", "_best"):
        assert sum(rows.same_cell(run, cell) for cell in cells) == 1
    without_runs = {(cell["weights"], cell["rank"]) for cell in cells} - {
        (cell["weights"], cell["rank"]) for cell in rows.finished(cells)
    }
    assert without_runs == {("q", 1)}


def test_rows_are_sorted_by_method_and_keep_their_order_otherwise():
    table = [dict(method=method, i=i) for i in (1, 0) for method in reversed(METHODS)]
    found = [(row["method"], row["i"]) for row in rows.sort_by_method(table)]
    assert found == [(method, i) for method in METHODS for i in (1, 0)]
    assert rows.varies(table, "i") and not rows.varies(table[:1], "i")


def test_short_weight_types_come_first():
    table = [dict(weights=weights) for weights in ("qkvo", "qv", "v", "qk", "q")]
    assert rows.weights_order(table) == ["q", "v", "qk", "qv", "qkvo"]
