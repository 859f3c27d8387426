"""Best and last epochs, and statistics over runs, against numpy and worked examples."""

import math
import statistics as standard

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic import epochs, load, table, write_run

from lora.errors import ConfigError
from lora.tables import statistics
from lora.tables.collect import collect

VALUES = [91.1, 93.4, 90.2, 95.7, 91.8]


def test_statistics_are_those_of_numpy_and_the_standard_library():
    found = statistics.summarize(pd.Series(VALUES))
    assert found["median"] == standard.median(VALUES)
    assert found["mean"] == pytest.approx(np.mean(VALUES), abs=1e-6)
    assert found["std"] == pytest.approx(standard.stdev(VALUES), abs=1e-6)  # n-1
    assert (found["min"], found["max"]) == (90.2, 95.7)


def test_an_undefined_value_makes_every_statistic_undefined():
    found = statistics.summarize(pd.Series([*VALUES, math.nan]))
    assert all(math.isnan(value) for value in found.values())


def test_runs_are_read_by_cell_with_their_best_and_last_epoch(tmp_path):
    """Seed 0: the earliest of equals is best. Seed 1: undefined in every epoch. Seed 2: missing."""
    grid = load(seeds=[0, 1, 2], tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None))
    (cell,) = grid.cells
    write_run(grid, cell, 0, tmp_path / "runs", epochs([0.90, 0.92, 0.92]))
    write_run(grid, cell, 1, tmp_path / "runs", epochs([math.nan] * 3))
    collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    (runs,) = statistics.read(grid, tmp_path / "runs.csv", grid.cells).values()
    assert [run.line["status"] for run in runs] == ["ok", "undefined", "missing"]
    keys = ("best_epoch", "best_value", "last_epoch", "last_value")
    assert [runs[0].line[key] for key in keys] == [2, 92, 3, 92]
    assert all(math.isnan(run.line[key]) for run in runs[1:] for key in keys)
    assert statistics.counts(runs) == dict(n=1, n_expected=3, n_failed=1, n_missing=1)


def test_a_run_that_is_not_in_runs_csv_is_named(tmp_path):
    tables = dict(table2=table(["roberta-base"], ["sst2"]), table6=None)
    collect(load(seeds=[0], tables=tables), tmp_path / "runs", tmp_path / "runs.csv")
    grid = load(seeds=[0, 9], tables=tables)
    with pytest.raises(ConfigError, match="seed9 is not in it"):
        statistics.read(grid, tmp_path / "runs.csv", grid.cells)
