"""Provenance of runs: what run.json records, and what is missing from it."""

import functools
import json

import pytest
from helpers.synthetic import epochs, load, make_runs, table, write_run
from helpers.tables import small

from lora import files
from lora.columns import PROVENANCE_COLUMNS
from lora.errors import ConfigError
from lora.tables.collect import collect
from lora.tables.provenance import write_provenance


def without_key(path, *keys) -> None:
    """Remove a key from a run.json."""
    record = json.loads(path.read_text(encoding="utf-8"))
    *parents, last = keys
    functools.reduce(dict.get, parents, record).pop(last)
    files.write_json(path, record)


def test_provenance_has_what_run_json_records(tmp_path):
    grid = small([0, 1])
    write_run(
        grid,
        grid.cells[0],
        0,
        tmp_path / "runs",
        epochs([0.9] * 3),
        digest="0123456789abcdef" * 4,
    )
    write_provenance(grid, grid.config.as_dict(), tmp_path / "runs", tmp_path)
    there, missing = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert (there["digest"], there["torch"], there["pack"]) == ("0123456789ab", "2.13.0", 2)
    assert missing["status"] == "missing" and missing["digest"] == ""
    assert (there["start_source"], there["start_sha256"]) == ("", "")
    page = (tmp_path / "provenance.html").read_text(encoding="utf-8")
    assert "0123456789ab" in page
    config = (tmp_path / "config.html").read_text(encoding="utf-8")
    assert "protocol: course" in config and "protocol: course" not in page


def test_provenance_shows_what_a_run_started_from(tmp_path):
    grid = load(
        seeds=[0],
        protocol="paper",
        tables=dict(table2=table(["roberta-base"], ["rte"]), table6=None),
    )
    start = grid.start_of(grid.cells[0])
    make_runs(grid, tmp_path / "runs")
    write_provenance(grid, grid.config.as_dict(), tmp_path / "runs", tmp_path)
    rte, mnli = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert (rte["start_source"], rte["start_sha256"]) == (f"{start.path}/seed0", "ef" * 6)
    assert (mnli["task"], mnli["start_source"]) == ("mnli", "")


def test_provenance_shows_the_precision(tmp_path):
    grid = small([0, 1])
    write_run(grid, grid.cells[0], 0, tmp_path / "runs", epochs([0.9] * 3), precision="bf16")
    without_key(
        write_run(grid, grid.cells[0], 1, tmp_path / "runs", epochs([0.9] * 3)) / "run.json",
        "precision",
    )
    write_provenance(grid, grid.config.as_dict(), tmp_path / "runs", tmp_path)
    rows = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert [row["precision"] for row in rows] == ["bf16", "fp32"]


def test_missing_keys_of_run_json_are_named(tmp_path):
    grid = small()
    folders = [
        write_run(grid, grid.cells[0], seed, tmp_path / "runs", epochs([0.9] * 3))
        for seed in grid.seeds
    ]
    without_key(folders[0] / "run.json", "speed", "pack")
    without_key(folders[0] / "run.json", "commit")
    without_key(folders[2] / "run.json", "base")
    with pytest.raises(ConfigError) as caught:
        write_provenance(grid, grid.config.as_dict(), tmp_path / "runs", tmp_path)
    first, second = caught.value.problems
    assert first == f"{folders[0] / 'run.json'} has no commit, speed.pack"
    assert second == f"{folders[2] / 'run.json'} has no base.source, base.base_sha256"
    for text, message in (("{", "is not JSON"), ("[]", "is not a JSON object")):
        (folders[1] / "run.json").write_text(text)
        for function in (collect, write_provenance):
            arguments = (grid, grid.config.as_dict())[: 1 + (function is write_provenance)]
            with pytest.raises(ValueError, match=f"seed1/run.json {message}.*delete these runs"):
                function(*arguments, tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "provenance.csv").exists()
