"""Checks of `collect`: runs that do not fit the config are refused, all problems at once."""

import functools
import json

import pytest
from helpers.synthetic import epochs, load, table, write_run
from helpers.tables import small

from lora import files
from lora.errors import ConfigError
from lora.tables.collect import collect


def test_all_mismatches_are_listed_at_once(tmp_path):
    grid = small()
    other = load(seeds=[0, 1, 2], tables=grid.config.tables, overrides=dict(learning_rate=1e-3))
    cell = grid.cells[0]
    write_run(other, cell, 0, tmp_path / "runs", epochs([0.9] * 3))
    write_run(grid, cell, 1, tmp_path / "runs", epochs([0.9] * 3), results_version=99)
    write_run(grid, cell, 2, tmp_path / "runs", epochs([0.9] * 2))
    with pytest.raises(ConfigError) as caught:
        collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    first, second, third = caught.value.problems
    assert "seed0: hparams.learning_rate is 0.001 in run.json, but 0.0005 in the config" in first
    assert "seed1: results_version is 99 in run.json" in second
    assert "seed2: metrics.csv has 2 epochs; expected 3" in third
    assert "delete these runs to train them again" in str(
        caught.value
    ) and "change the config" in str(caught.value)
    assert not (tmp_path / "runs.csv").exists()


def test_another_precision_than_the_configs_is_refused(tmp_path):
    """With auto any is accepted; a run.json without the key is fp32."""
    grid = small()
    write_run(grid, grid.cells[0], 1, tmp_path / "runs", epochs([0.9] * 3))
    without_key(
        write_run(grid, grid.cells[0], 2, tmp_path / "runs", epochs([0.9] * 3)) / "run.json",
        "precision",
    )
    collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    write_run(grid, grid.cells[0], 0, tmp_path / "runs", epochs([0.9] * 3), precision="bf16")
    for precision, other, wrong in (("fp32", "bf16", (0,)), ("bf16", "fp32", (1, 2))):
        explicit = load(seeds=[0, 1, 2], tables=grid.config.tables, precision=precision)
        with pytest.raises(ConfigError) as caught:
            collect(explicit, tmp_path / "runs", tmp_path / "runs.csv")
        name = f"{grid.cells[0].path}/seed"
        found = f"precision is {other!r} in run.json, but {precision!r} in the config"
        assert caught.value.problems == [f"{name}{seed}: {found}" for seed in wrong]


def test_runs_with_other_data_model_or_versions_are_not_averaged(tmp_path):
    """One seed of a cell has another precision, start or library; one rank other data or another
    model. Builds of one torch version are equal."""
    grid = load(
        seeds=[0, 1, 2],
        tables=dict(table2=None, table6=table(["roberta-base"], ["mnli"], ranks=(1, 8))),
    )
    one, eight = grid.cells
    versions = dict(python="3.11.7", torch="2.13.0+cpu", transformers="5.23.0", lora="1.0")

    def found(cell, seed, **changes):
        for each in grid.cells:
            for number in grid.seeds:
                with_versions = dict(versions=versions) | (
                    changes if (each, number) == (cell, seed) else {}
                )
                write_run(grid, each, number, tmp_path / "runs", epochs([0.9] * 3), **with_versions)
        try:
            collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
        except ConfigError as caught:
            return caught.problems
        return []

    assert found(one, 0, versions=versions | dict(torch="2.13.0+cu130", python="3.12.1")) == []
    (problem,) = found(eight, 1, precision="bf16")
    others = f"2 runs ({eight.path}/seed0 first)"
    assert problem == f"{eight.path}: precision is bf16 in {eight.path}/seed1, fp32 in {others}"
    (problem,) = found(one, 2, versions=versions | dict(torch="2.14.0"))
    assert (
        problem.startswith(f"{one.path}: versions.torch is 2.13.0 in 2 runs")
        and f"2.14.0 in {one.path}/seed2" in problem
    )
    (problem,) = found(one, 2, start=dict(source="a folder", sha256="ab" * 32))
    assert problem.startswith(
        f"{one.path}: start.sha256 is abababababab in {one.path}/seed2, nothing in 2 runs"
    )
    (problem,) = found(
        one, 0, data=dict(tokens_sha256="cd" * 32, source="x", train_examples=9, eval_examples=9)
    )
    others = f"abababababab in 5 runs ({one.path}/seed1 first)"
    assert (
        problem == f"roberta-base/mnli/t128: data.tokens_sha256 is {others}, "
        f"cdcdcdcdcdcd in {one.path}/seed0"
    )
    (problem,) = found(eight, 0, base=dict(base_sha256="ef" * 32, source="y", family="roberta"))
    assert problem.startswith("roberta-base: base.base_sha256 is ") and "efefefefefef in" in problem


def without_key(path, *keys) -> None:
    """Remove a key from a run.json."""
    record = json.loads(path.read_text(encoding="utf-8"))
    *parents, last = keys
    functools.reduce(dict.get, parents, record).pop(last)
    files.write_json(path, record)


def test_metrics_without_a_record_and_statuses_that_disagree_are_refused(tmp_path):
    grid = small()
    cell = grid.cells[0]
    (write_run(grid, cell, 0, tmp_path / "runs", epochs([0.9] * 3)) / "run.json").unlink()
    write_run(grid, cell, 1, tmp_path / "runs", epochs([0.9] * 3), status="non_finite")
    broken = epochs([0.9] * 3)
    broken[1]["epoch"] = 7
    write_run(grid, cell, 2, tmp_path / "runs", broken)
    with pytest.raises(ConfigError) as caught:
        collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    assert all(
        word in problem
        for word, problem in zip(("run.json", "status", "7"), caught.value.problems, strict=True)
    )
    assert len(caught.value.problems) == 3


def test_a_run_of_another_method_or_protocol_in_a_cells_folder_is_refused(tmp_path):
    """Path and run.json differ: both are named, and nothing is collected."""
    grid = small([0, 1])
    cell = grid.cells[0]
    for seed, change in ((0, dict(method="bitfit")), (1, dict(protocol="paper"))):
        write_run(
            grid,
            cell,
            seed,
            tmp_path / "runs",
            epochs([0.9] * 3),
            settings=grid.settings(cell, seed) | change,
        )
    with pytest.raises(ConfigError) as caught:
        collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    first, second = caught.value.problems
    assert "method is 'bitfit' in run.json, but 'lora' in the config" in first
    assert "protocol is 'paper' in run.json, but 'course' in the config" in second
    assert not (tmp_path / "runs.csv").exists()
