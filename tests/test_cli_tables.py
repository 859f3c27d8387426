"""`lora track`, and the commands of the workflow from runs to a figure, one after another."""

import json

import pytest
from helpers.synthetic import load, make_runs, table

from lora.__main__ import main

pytestmark = pytest.mark.usefixtures("logging_as_before")


def test_from_runs_to_tables_and_figures(tmp_path):
    tables = dict(table2=None, table6=table(["minilm"], ["sst2"], ["q", "qv"], [1, 8]))
    grid = load(seeds=[0, 1], overrides=dict(epochs=2), tables=tables)
    make_runs(grid, tmp_path / "runs")
    config = ["--config", json.dumps(grid.config.as_dict())]
    out = tmp_path / "tables"
    runs_dir = ["--runs-dir", str(tmp_path / "runs"), "--output-dir", str(out)]
    assert main(["collect", *config, *runs_dir]) == 0
    for name in ("table6", "selection", "differences", "claims"):
        words = [name, *config, "--runs-csv", str(out / "runs.csv"), "--output-dir", str(out)]
        assert main(["table", *words]) == 0
        assert all((out / f"{name}.{kind}").is_file() for kind in ("csv", "md", "tex", "html"))
    assert main(["provenance", *config, *runs_dir]) == 0
    figures = ["--tables-dir", str(out), "--output-dir", str(tmp_path / "figures")]
    assert main(["plot", "rank_curves", *figures]) == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"rank_curves.svg", "rank_curves.png", "rank_curves.txt"}


def test_existing_runs_are_written_for_tensorboard(tmp_path):
    """Made-up runs; `tests/training/test_tracking.py` compares the values."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    tables = dict(table2=None, table6=table(["minilm"], ["sst2"], ["q"], [1]))
    grid = load(seeds=[0, 1], overrides=dict(epochs=2), tables=tables)
    make_runs(grid, tmp_path / "runs")
    words = ["--runs-dir", str(tmp_path / "runs"), "--output-dir", str(tmp_path / "tracking")]
    assert main(["track", *words]) == 0
    folders = [path.parent for path in (tmp_path / "tracking").rglob("events.*")]
    (cell,) = grid.cells
    expected = [tmp_path / "tracking/tensorboard" / cell.path / f"seed{n}" for n in (0, 1)]
    assert sorted(folders) == expected
