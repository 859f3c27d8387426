"""Trainings give the rows, adapters and digests that they gave before the move into rooms."""

import csv
import io
import json

import pytest
from helpers.models import ROOT
from helpers.reference_runs import processor, train_all

REFERENCE = json.loads((ROOT / "tests/references/runs.json").read_text())


def columns_of(text: str) -> dict[str, list[float]]:
    """The numbers of a metrics.csv by column; an empty cell is NaN."""
    rows = list(csv.DictReader(io.StringIO(text)))
    numbers = [name for name in rows[0] if name != "status"]
    return {name: [float(row[name] or "nan") for row in rows] for name in numbers}


@pytest.mark.usefixtures("logging_as_before")
def test_a_dozen_trainings_give_what_they_gave_before(tmp_path):
    """Rows to rounding on any machine; all of it to the byte on the same processor."""
    runs = train_all(tmp_path)
    expected = REFERENCE["runs"]
    assert runs.keys() == expected.keys()
    for name, run in runs.items():
        values, wanted = columns_of(run["metrics"]), columns_of(expected[name]["metrics"])
        for column in ("epoch", "step", "learning_rate"):
            assert values[column] == pytest.approx(wanted[column]), (name, column)
        for column in ("train_loss", "eval_loss"):
            assert values[column] == pytest.approx(wanted[column], rel=0.02), (name, column)
    if REFERENCE["processor"] == processor():
        assert runs == expected
