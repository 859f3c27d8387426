"""Labels of cells, metrics and numbers of runs."""

import pytest

from lora.figures import labels
from lora.figures.rows import CELL, read_table


def test_cells_of_one_model_have_different_names(methods):
    rows = {
        tuple(row[key] for key in CELL if key != "task"): row
        for row in read_table(methods, "table2")
    }
    found = [(row["model"], labels.cell_name(row), row["protocol"]) for row in rows.values()]
    assert len(found) == len(set(found)) == 5 + 7
    assert ("roberta-base", "Adpt$^D$ 48, layers 9+", "paper") in found


@pytest.mark.parametrize(
    "metric, label",
    [
        ("accuracy", "accuracy (%)"),
        ("f1", "F1 (%)"),
        ("matthews", "Matthews correlation × 100"),
        ("pearson", "Pearson correlation × 100"),
    ],
)
def test_metrics_have_a_unit(metric, label):
    assert labels.metric_with_unit(metric) == label


def test_the_number_of_runs_is_a_range_where_it_differs():
    assert labels.run_counts([dict(n=3), dict(n=3)]) == "n = 3"
    assert labels.run_counts([dict(n=3), dict(n=0)]) == "n = 0 to 3"
