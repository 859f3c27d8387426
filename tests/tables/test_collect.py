"""Claims about collect: what it refuses, all problems told at once, and what provenance says each run stood on."""

import functools
import json

import pytest
from helpers.synthetic import epochs, load, make_runs, table, write_run

from lora import files
from lora.columns import PROVENANCE_COLUMNS
from lora.errors import ConfigError
from lora.experiment import grid
from lora.tables import cells


def small(seeds=(0, 1, 2)) -> grid.Grid:
    return load(
        seeds=list(seeds), tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None)
    )


def test_all_mismatches_are_told_at_once(tmp_path):
    asked = small()
    other = load(seeds=[0, 1, 2], tables=asked.config["tables"], overrides=dict(learning_rate=1e-3))
    cell = asked.cells[0]
    write_run(other, cell, 0, tmp_path / "runs", epochs([0.9] * 3))
    write_run(asked, cell, 1, tmp_path / "runs", epochs([0.9] * 3), results_version=99)
    write_run(asked, cell, 2, tmp_path / "runs", epochs([0.9] * 2))
    with pytest.raises(ConfigError) as caught:
        cells.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    first, second, third = caught.value.problems
    assert "seed0: hparams.learning_rate was trained as 0.001, asked for is 0.0005" in first
    assert "seed1: results_version was trained as 99" in second
    assert "seed2: metrics.csv has 2 epochs, asked for is 3" in third
    assert "retrain" in str(caught.value) and "the config they were trained with" in str(
        caught.value
    )
    assert not (tmp_path / "runs.csv").exists()


def test_another_precision_than_the_one_asked_for_is_told(tmp_path):
    """With auto any is accepted; a run.json without the key is fp32."""
    asked = small()
    write_run(asked, asked.cells[0], 1, tmp_path / "runs", epochs([0.9] * 3))
    without_key(
        write_run(asked, asked.cells[0], 2, tmp_path / "runs", epochs([0.9] * 3)) / "run.json",
        "precision",
    )
    cells.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    write_run(asked, asked.cells[0], 0, tmp_path / "runs", epochs([0.9] * 3), precision="bf16")
    for precision, other, wrong in (("fp32", "bf16", (0,)), ("bf16", "fp32", (1, 2))):
        explicit = load(seeds=[0, 1, 2], tables=asked.config["tables"], precision=precision)
        with pytest.raises(ConfigError) as caught:
            cells.collect(explicit, tmp_path / "runs", tmp_path / "runs.csv")
        name = f"{asked.cells[0].path}/seed"
        told = f"precision was trained as {other!r}, asked for is {precision!r}"
        assert caught.value.problems == [f"{name}{seed}: {told}" for seed in wrong]


def test_runs_that_stood_on_different_things_are_not_averaged(tmp_path):
    """One seed of a cell on another precision, start or library; one rank of a table on other data or another model's bytes.
    A build of the same torch is the same torch."""
    asked = load(
        seeds=[0, 1, 2],
        tables=dict(table2=None, table6=table(["roberta-base"], ["mnli"], ranks=(1, 8))),
    )
    one, eight = asked.cells
    versions = dict(python="3.11.7", torch="2.13.0+cpu", transformers="5.23.0", lora="1.0")

    def told(cell, seed, **changes):
        for each in asked.cells:
            for number in asked.seeds:
                with_versions = dict(versions=versions) | (
                    changes if (each, number) == (cell, seed) else {}
                )
                write_run(
                    asked, each, number, tmp_path / "runs", epochs([0.9] * 3), **with_versions
                )
        try:
            cells.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
        except ConfigError as caught:
            return caught.problems
        return []

    assert told(one, 0, versions=versions | dict(torch="2.13.0+cu130", python="3.12.1")) == []
    (problem,) = told(eight, 1, precision="bf16")
    others = f"2 runs ({eight.path}/seed0 first)"
    assert problem == f"{eight.path}: precision is bf16 in {eight.path}/seed1, fp32 in {others}"
    (problem,) = told(one, 2, versions=versions | dict(torch="2.14.0"))
    assert (
        problem.startswith(f"{one.path}: versions.torch is 2.13.0 in 2 runs")
        and f"2.14.0 in {one.path}/seed2" in problem
    )
    (problem,) = told(one, 2, start=dict(source="a folder", sha256="ab" * 32))
    assert problem.startswith(
        f"{one.path}: start.sha256 is abababababab in {one.path}/seed2, nothing in 2 runs"
    )
    (problem,) = told(
        one, 0, data=dict(tokens_sha256="cd" * 32, source="x", train_examples=9, eval_examples=9)
    )
    others = f"abababababab in 5 runs ({one.path}/seed1 first)"
    assert (
        problem
        == f"roberta-base/mnli/t128: data.tokens_sha256 is {others}, cdcdcdcdcdcd in {one.path}/seed0"
    )
    (problem,) = told(eight, 0, base=dict(base_sha256="ef" * 32, source="y", family="roberta"))
    assert problem.startswith("roberta-base: base.base_sha256 is ") and "efefefefefef in" in problem


def without_key(path, *place) -> None:
    """Take a key out of a run.json."""
    record = json.loads(path.read_text(encoding="utf-8"))
    *parents, last = place
    functools.reduce(dict.get, parents, record).pop(last)
    files.write_json(path, record)


def test_metrics_without_a_record_and_statuses_that_disagree_are_refused(tmp_path):
    asked = small()
    cell = asked.cells[0]
    (write_run(asked, cell, 0, tmp_path / "runs", epochs([0.9] * 3)) / "run.json").unlink()
    write_run(asked, cell, 1, tmp_path / "runs", epochs([0.9] * 3), status="non_finite")
    broken = epochs([0.9] * 3)
    broken[1]["epoch"] = 7
    write_run(asked, cell, 2, tmp_path / "runs", broken)
    with pytest.raises(ConfigError) as caught:
        cells.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    assert all(
        word in problem
        for word, problem in zip(("run.json", "status", "7"), caught.value.problems, strict=True)
    )
    assert len(caught.value.problems) == 3


def test_a_run_of_another_method_or_protocol_in_a_cells_folder_is_refused(tmp_path):
    """The folder says one thing and run.json another: both are told, and nothing is collected."""
    asked = small([0, 1])
    cell = asked.cells[0]
    for seed, change in ((0, dict(method="bitfit")), (1, dict(protocol="paper"))):
        write_run(
            asked,
            cell,
            seed,
            tmp_path / "runs",
            epochs([0.9] * 3),
            settings=asked.settings(cell, seed) | change,
        )
    with pytest.raises(ConfigError) as caught:
        cells.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    first, second = caught.value.problems
    assert "method was trained as 'bitfit', asked for is 'lora'" in first
    assert "protocol was trained as 'paper', asked for is 'course'" in second
    assert not (tmp_path / "runs.csv").exists()


def test_provenance_names_what_each_run_stood_on(tmp_path):
    asked = small([0, 1])
    write_run(
        asked,
        asked.cells[0],
        0,
        tmp_path / "runs",
        epochs([0.9] * 3),
        digest="0123456789abcdef" * 4,
    )
    cells.write_provenance(asked, asked.config, tmp_path / "runs", tmp_path)
    there, missing = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert (there["digest"], there["torch"], there["pack"]) == ("0123456789ab", "2.13.0", 2)
    assert missing["status"] == "missing" and missing["digest"] == ""
    assert (there["start_source"], there["start_sha256"]) == ("", "")
    page = (tmp_path / "provenance.html").read_text(encoding="utf-8")
    assert "protocol: course" in page and "0123456789ab" in page


def test_provenance_shows_what_a_run_started_from(tmp_path):
    asked = load(
        seeds=[0],
        protocol="paper",
        tables=dict(table2=table(["roberta-base"], ["rte"]), table6=None),
    )
    start = asked.start_of(asked.cells[0])
    make_runs(asked, tmp_path / "runs")
    cells.write_provenance(asked, asked.config, tmp_path / "runs", tmp_path)
    rte, mnli = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert (rte["start_source"], rte["start_sha256"]) == (f"{start.path}/seed0", "ef" * 6)
    assert (mnli["task"], mnli["start_source"]) == ("mnli", "")


def test_provenance_shows_the_precision(tmp_path):
    asked = small([0, 1])
    write_run(asked, asked.cells[0], 0, tmp_path / "runs", epochs([0.9] * 3), precision="bf16")
    without_key(
        write_run(asked, asked.cells[0], 1, tmp_path / "runs", epochs([0.9] * 3)) / "run.json",
        "precision",
    )
    cells.write_provenance(asked, asked.config, tmp_path / "runs", tmp_path)
    rows = files.read_csv(tmp_path / "provenance.csv", PROVENANCE_COLUMNS)
    assert [row["precision"] for row in rows] == ["bf16", "fp32"]


def test_a_record_of_another_format_is_named_with_what_it_lacks(tmp_path):
    asked = small()
    folders = [
        write_run(asked, asked.cells[0], seed, tmp_path / "runs", epochs([0.9] * 3))
        for seed in asked.seeds
    ]
    without_key(folders[0] / "run.json", "speed", "pack")
    without_key(folders[0] / "run.json", "commit")
    without_key(folders[2] / "run.json", "base")
    with pytest.raises(ConfigError) as caught:
        cells.write_provenance(asked, asked.config, tmp_path / "runs", tmp_path)
    first, second = caught.value.problems
    assert first == f"{folders[0] / 'run.json'} has no commit, speed.pack"
    assert second == f"{folders[2] / 'run.json'} has no base.source, base.base_sha256"
    for text, message in (("{", "is not JSON"), ("[]", "is not a JSON object")):
        (folders[1] / "run.json").write_text(text)
        for function in (cells.collect, cells.write_provenance):
            arguments = (asked, asked.config)[: 1 + (function is cells.write_provenance)]
            with pytest.raises(ValueError, match=f"seed1/run.json {message}.*retrain"):
                function(*arguments, tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "provenance.csv").exists()
