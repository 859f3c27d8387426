"""The checksum of what tables are made of changes with every input, and with nothing else."""

import os
import shutil

from helpers.models import ROOT
from helpers.synthetic import epochs, load, table, write_run

import lora
from lora.experiment import table_inputs

TABLES = dict(table2=table(["roberta-base"], ["mrpc"]), table6=None)


def test_every_input_changes_the_checksum(tmp_path, monkeypatch):
    """Runs, their bytes, the config, the facts and the code; not the mode, nor timestamps."""
    grid = load(seeds=[0, 1], tables=TABLES, overrides=dict(epochs=2))
    (cell,) = grid.cells
    runs, facts = tmp_path / "runs", tmp_path / "config"
    shutil.copytree(ROOT / "config", facts)

    def checksum(grid=grid):
        return table_inputs.checksum(grid, runs, facts)

    seen = [checksum()]
    for seed in (0, 1):
        write_run(grid, cell, seed, runs, epochs([0.9] * 2))
        seen.append(checksum())
    write_run(grid, cell, 1, runs, epochs([0.8] * 2))
    seen.append(checksum())
    record = runs / cell.path / "seed1/run.json"
    record.write_text(record.read_text() + " ")
    seen.append(checksum())
    with open(facts / "published.csv", "a") as handle:
        handle.write("\n")
    seen.append(checksum())
    seen.append(checksum(load(seeds=[0, 1], tables=TABLES, overrides=dict(epochs=3))))
    monkeypatch.setattr(lora, "__version__", "another")
    seen.append(checksum())
    package = tmp_path / "lora"
    shutil.copytree(ROOT / "lora", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(lora, "__file__", str(package / "__init__.py"))
    assert checksum() == seen[-1]
    for name in ("tables/render.py", "tables/templates/page.html.j2", "tables/templates/style.css"):
        with open(package / name, "a") as handle:
            handle.write("\n")
        seen.append(checksum())
    assert len(set(seen)) == len(seen)

    os.utime(record, (1, 1))
    again = load(seeds=[0, 1], tables=TABLES, overrides=dict(epochs=2), mode="partial")
    assert checksum() == checksum(again) == seen[-1]


def test_missing_runs_and_the_record(tmp_path):
    grid = load(seeds=[0, 1], tables=TABLES, overrides=dict(epochs=2))
    (cell,) = grid.cells
    write_run(grid, cell, 0, tmp_path, epochs([0.9] * 2))
    assert table_inputs.missing_runs(grid, tmp_path) == [f"{cell.path}/seed1"]
    assert table_inputs.read(tmp_path) == ""
    table_inputs.write(tmp_path, "abc")
    assert table_inputs.read(tmp_path) == "abc"
    (tmp_path / table_inputs.NAME).write_text("{")
    assert table_inputs.read(tmp_path) == ""
