"""Import of the course's result folders: run folders, and tables made of them."""

import json
import math
import statistics

import pytest
from helpers.course_results import accuracies, read, write_results
from helpers.synthetic import load, table

from lora import files, paths
from lora.columns import METRICS_COLUMNS, PROVENANCE_COLUMNS
from lora.errors import ConfigError
from lora.experiment import csv_tables, hparam_rows, registry
from lora.experiment.cell import Cell
from lora.run_record import RunRecord
from lora.tables import collect, import_course, provenance
from lora.tables.cells import make, write

MNLI = [
    f"r{rank}_{modules}"
    for rank in (1, 4, 64)
    for modules in ("query", "query_value", "query_value_key_dense")
]
SEEDS = (42, 43, 44, 45, 46)
RAN = {
    "sst2": ("alpha", "8"),
    "qqp": ("examples_per_step", "4"),
    "mnli": ("alpha", "1r"),
}  # where the runs differ from the course's report

# tn292/cs5782_final_project: the epochs of results/mnli/<run> at a7f5106 and 5ca114d, and the
# values in Table 3 of its report.
PRINTED = {
    ("q", 1): (("r1_query", [0.6898624554253693, 0.7183902190524707, 0.7273560876209882]), "72.74"),
    ("qv", 64): (
        ("r64_query_value", [0.8496179317371371, 0.8651044319918492, 0.8728476821192053]),
        "87.28",
    ),
    ("qkvo", 1): (
        ("r1_query_value_key_dense", [0.8300560366785532, 0.8419765664798777, 0.8550178298522669]),
        "85.50",
    ),
}


@pytest.fixture
def results(tmp_path):
    """Small versions of the course's runs: three tasks with five seeds, MNLI with one."""
    folder = tmp_path / "results"
    for task, alpha in (("mrpc", 16), ("sst2", 8), ("qqp", 16)):
        for index, seed in enumerate(SEEDS):
            write_results(folder / task / f"{task}_r8_a{alpha}_s{seed}", accuracies(index))
    for index, name in enumerate(MNLI):
        write_results(folder / "mnli" / name, accuracies(index), steps=24544)
    (folder / "sst2" / ".DS_Store").write_bytes(b"\0")
    (folder / "table1.png").write_bytes(b"\0")
    return folder


@pytest.fixture
def as_run(monkeypatch):
    """A protocol of the course's actual runs: the reported one, changed by RAN."""
    read_facts = csv_tables.read_rows
    reported = [
        row | dict(protocol="as-run")
        for row in read_facts("hparams.csv")
        if row["protocol"] == "course"
    ]
    kept = [
        row
        for row in reported
        if (row["task"], row["name"]) not in {(task, name) for task, (name, _) in RAN.items()}
    ]
    changed = [
        kept[0] | dict(task=task, name=name, value=value) for task, (name, value) in RAN.items()
    ]

    def with_protocol(name, *folder):
        return read_facts(name, *folder) + (kept + changed if name == "hparams.csv" else [])

    monkeypatch.setattr(hparam_rows, "read_rows", with_protocol)
    return "as-run"


def test_every_result_folder_of_the_course_becomes_a_run_folder(results, tmp_path, as_run):
    """The folder name gives the cell, the rows are equal, and unknown values are empty."""
    written = read(results, tmp_path / "out", protocol=as_run)
    assert len(written) == len(set(written)) == 3 * len(SEEDS) + len(MNLI)
    folder = tmp_path / "out/runs" / as_run / "roberta-base/mnli/lora/qkvo/r64/seed42"
    assert folder in written
    rows = files.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
    assert [(row["epoch"], row["step"], row["accuracy"]) for row in rows] == [
        (number, 24544 * number, value)
        for number, value in enumerate(accuracies(len(MNLI) - 1), start=1)
    ]
    assert (
        rows[0]["f1"] == rows[0]["accuracy"] - 0.01
        and rows[0]["precision"] == rows[0]["accuracy"] - 0.02
    )
    assert all(
        math.isnan(row[name])
        for row in rows
        for name in ("train_loss", "learning_rate", "accuracy_mismatched")
    )
    record = json.loads((folder / "run.json").read_text())
    assert set(record) == set(RunRecord.model_fields)
    assert record["best"] == dict(epoch=2, metric="accuracy", value=accuracies(len(MNLI) - 1)[1])
    assert (
        record["data"]["source"]
        == "imported from mnli/r64_query_value_key_dense/training_results.csv"
    )
    assert (
        record["device"] == "unknown"
        and record["digest"] == ""
        and set(record["versions"].values()) == {""}
    )
    sst2 = json.loads(
        (
            tmp_path / "out/runs" / as_run / "roberta-base/sst2/lora/qv/r8/seed44/run.json"
        ).read_text()
    )
    assert (
        sst2["settings"]["hparams"]["alpha"] == 8 and sst2["parameters"]["trainable"] == 294_912
    )  # the paper's 0.3M


@pytest.mark.parametrize("weights, rank", [("qv", 8), ("q", 1), ("qkvo", 64)])
def test_recorded_parameter_counts_are_those_of_the_model(weights, rank):
    """Against RoBERTa-base in transformers, on the meta device, with our LoRA."""
    import torch
    import transformers

    from lora.model import methods

    with torch.device("meta"):
        config = transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1
        )
        base = transformers.RobertaModel(config, add_pooling_layer=False)
    assert sum(value.numel() for value in base.parameters()) == import_course.FROZEN
    cell = Cell(import_course.MODEL, "mrpc", "lora", weights, rank, "course")
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {})
    rows = [dict.fromkeys(METRICS_COLUMNS, 0.5) | dict(epoch=1)]
    folder = paths.ROOT
    run = import_course.ImportedRun(folder / "mrpc/x" / import_course.FILE, cell, 42, hparams, rows)
    counted = import_course._record(run, registry.read_tasks()["mrpc"], folder).parameters
    member = methods.AdapterSpec(42, weights, rank, 2, hparams)
    assert counted.trainable == methods.trainable_parameters(base, member, head=False)
    assert counted.trainable + counted.head == methods.trainable_parameters(base, member)


def test_imported_runs_give_table2_and_provenance(tmp_path):
    """Median and spread equal the standard library's; unknown provenance is empty."""
    series = [accuracies(index) for index in (3, 0, 4, 1, 2)]
    for seed, values in zip(SEEDS, series, strict=True):
        write_results(tmp_path / "results/mrpc" / f"mrpc_r8_a16_s{seed}", values)
    read(tmp_path / "results", tmp_path / "out", protocol="course")
    grid = load(
        seeds=list(SEEDS), tables=dict(table2=table(["roberta-base"], ["mrpc"]), table6=None)
    )
    collect.collect(grid, tmp_path / "out/runs", tmp_path / "runs.csv")
    made = make(grid, tmp_path / "runs.csv", "table2")
    best = [100 * values[1] for values in series]
    assert made.cells[0]["n"] == 5
    assert made.cells[0]["best_median"] == pytest.approx(statistics.median(best), abs=1e-5)
    assert made.cells[0]["best_std"] == pytest.approx(statistics.stdev(best), abs=1e-5)
    write(grid, tmp_path / "runs.csv", "table2", tmp_path / "tables")
    rows = provenance.provenance(grid, tmp_path / "out/runs")
    assert {(row["device"], row["torch"], row["commit"], row["digest"]) for row in rows} == {
        ("unknown", "", "", "")
    }
    provenance.write_provenance(
        grid, grid.config.as_dict(), tmp_path / "out/runs", tmp_path / "tables"
    )
    again = files.read_csv(tmp_path / "tables/provenance.csv", PROVENANCE_COLUMNS)
    assert all(math.isnan(row["train_examples"]) and math.isnan(row["wall_s"]) for row in again)


def test_imported_runs_give_table6(tmp_path):
    for index, name in enumerate(MNLI):
        write_results(tmp_path / "results/mnli" / name, accuracies(index), steps=24544)
    read(tmp_path / "results", tmp_path / "out", protocol="course", default_seed=7)
    wanted = table(["roberta-base"], ["mnli"], ["q", "qv", "qkvo"], [1, 4, 64])
    grid = load(seeds=[7], tables=dict(table2=None, table6=wanted))
    collect.collect(grid, tmp_path / "out/runs", tmp_path / "runs.csv")
    made = make(grid, tmp_path / "runs.csv", "table6")
    found = {(cell["weights"], cell["rank"]): cell["best_median"] for cell in made.cells}
    for index, (rank, weights) in enumerate(
        (rank, weights) for rank in (1, 4, 64) for weights in ("q", "qv", "qkvo")
    ):
        assert found[weights, rank] == pytest.approx(100 * accuracies(index)[1], abs=1e-5)


def test_the_courses_printed_values_are_reproduced(tmp_path):
    for (name, values), _ in PRINTED.values():
        write_results(tmp_path / "results/mnli" / name, values, steps=24544)
    read(tmp_path / "results", tmp_path / "out", protocol="course")
    wanted = table(["roberta-base"], ["mnli"], ["q", "qv", "qkvo"], [1, 64])
    grid = load(seeds=[42], mode="partial", tables=dict(table2=None, table6=wanted))
    collect.collect(grid, tmp_path / "out/runs", tmp_path / "runs.csv")
    cells = make(grid, tmp_path / "runs.csv", "table6").cells
    found = {
        (cell["weights"], cell["rank"]): f"{cell['best_median']:.2f}" for cell in cells if cell["n"]
    }
    assert found == {key: printed for key, (_, printed) in PRINTED.items()}


@pytest.mark.parametrize(
    "modules, weights",
    [
        ("value", "v"),
        ("value_query", "qv"),
        ("output_key_value_query", "qkvo"),
        ("query_value_key_dense", "qkvo"),
    ],
)
def test_modules_may_be_in_any_order(tmp_path, modules, weights):
    write_results(tmp_path / "results/mnli" / f"r4_{modules}", accuracies(0))
    (folder,) = read(tmp_path / "results", tmp_path / "out", protocol="course")
    assert folder.parts[-3:] == (weights, "r4", "seed42")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_before_anything_is_written(results, tmp_path, seed):
    """The other runs, which have a seed in their name, are not written either."""
    with pytest.raises(ConfigError, match=f"seed is {seed}; allowed: a whole number"):
        read(results, tmp_path / "out", default_seed=seed)
    assert not (tmp_path / "out").exists()
