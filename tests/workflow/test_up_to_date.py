"""What Snakemake makes again: checksums decide, not timestamps, settings or Snakemake's records."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.workflow import run_files, snakemake, trained, write_config

from lora import files, run_record
from lora.columns import METRICS_COLUMNS

DONE = "Nothing to be done"
TABLE = "results/tables/table2.html"  # the only target, to save time
RUN = "results/runs/course/tiny/stsb/lora/qv/r2/seed1"
# Settings that decide no number. `pack` and `table6` change which runs are one job.
WITHOUT_EFFECT = [
    dict(device="auto"),
    dict(device="cuda"),
    dict(threads=2),
    dict(micro_batch=3),
    dict(checkpoint_every_s=7),
    dict(precision="auto"),
    dict(plan_device="T4"),
    dict(max_runtime=60),
    dict(tracking=dict(tensorboard=True)),
    dict(container="/images/lora.sif"),
    dict(pack=[]),
    dict(pack=["task", "seed"], tables=dict(table6=None)),
]


@pytest.fixture
def grid(trained_grid, tmp_path):
    """A copy of the small grid with Snakemake's records: its folder and its config."""
    folder, config, _ = trained_grid
    copy = shutil.copytree(folder, tmp_path / "grid", symlinks=True)
    run(copy, config)
    return copy, config


def run(folder: Path, config: dict, *options: str, **changes) -> str:
    tables = config["tables"] | changes.pop("tables", {})
    path = write_config(folder, config, tables=tables, **changes)
    return snakemake(TABLE, "--configfile", path, "--directory", folder, *options)


@pytest.mark.slow
def test_no_setting_without_effect_on_numbers_trains_a_finished_run(grid):
    """The kind: every key of the config but those in a run's digest; the rules' commands and
    environments; newer inputs. Another precision than that of the runs decides numbers.
    """
    folder, config = grid
    for change in WITHOUT_EFFECT:
        assert trained(run(folder, config, "-n", **change)) == 0, change
    used = json.loads((folder / RUN / "run.json").read_text())["precision"]
    other = "fp32" if used == "bf16" else "bf16"
    assert trained(run(folder, config, "-n", precision=other)) == 3
    assert trained(run(folder, config, "-n", "--rerun-triggers", "mtime")) == 0


def test_a_finished_grid_stays_whole_without_its_gpu(grid):
    folder, config = grid
    before = run_files(folder)
    run(folder, config, device="cuda")
    assert run_files(folder) == before


def test_a_missing_gpu_is_an_error_before_any_output_is_touched(grid):
    folder, config = grid
    before = run_files(folder)
    path = write_config(folder, config, device="cuda", seeds=[0, 1, 7])
    code, output = snakemake(TABLE, "--configfile", path, "--directory", folder, check=False)
    assert code != 0 and "device is cuda, but torch" in output and "sees no GPU" in output
    assert trained(output) == 0 and run_files(folder) == before
    assert "sees no GPU" in snakemake(TABLE, "-n", "--configfile", path, "--directory", folder)


@pytest.mark.skipif(bool(importlib.util.find_spec("mlflow")), reason="mlflow is installed")
def test_a_missing_tracker_is_an_error_before_any_output_is_touched(grid):
    """Only if something is to be trained."""
    folder, config = grid
    before = run_files(folder)
    run(folder, config, tracking=dict(mlflow=True))
    path = write_config(folder, config, tracking=dict(mlflow=True), seeds=[0, 1, 7])
    code, output = snakemake(TABLE, "--configfile", path, "--directory", folder, check=False)
    assert code != 0 and "tracking with mlflow needs mlflow" in output
    assert trained(output) == 0 and run_files(folder) == before


def test_a_training_job_writes_event_files_of_all_its_runs(grid):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    folder, config = grid
    path = write_config(folder, config, tracking=dict(tensorboard=True), seeds=[0, 1, 7])
    target = "results/runs/course/tiny/stsb/lora/qv/r2/seed7/metrics.csv"
    snakemake(target, "--configfile", path, "--directory", folder)
    cell = folder / "results/tracking/tensorboard/course/tiny/stsb/lora/qv/r2"
    assert sorted(found.parent.name for found in cell.rglob("events.*")) == [
        "seed0",
        "seed1",
        "seed7",
    ]


def test_a_new_seed_of_a_pack_trains_alone_without_checkpoints(grid):
    """Finished seeds keep every byte, run.json too: nothing of them is made again."""
    folder, config = grid
    shutil.rmtree(folder / "results/state")
    runs = folder / "results/runs"
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    assert len(before) == 6 * 6
    path = write_config(folder, config, seeds=[0, 1, 7])
    target = "results/runs/course/tiny/stsb/lora/qv/r2/seed7/metrics.csv"
    snakemake(target, "--configfile", path, "--directory", folder)
    log = (folder / "results/logs/train/course/tiny/stsb/lora/qv/r2/train.log").read_text()
    assert log.count("its outputs are whole") == 2 and log.count("training 1 runs") == 1
    assert {path: path.read_bytes() for path in before} == before


def test_a_changed_hyperparameter_trains_exactly_its_runs(grid):
    """Also where Snakemake has no record of them, as in a copy."""
    folder, config = grid
    shutil.rmtree(folder / ".snakemake")
    changes = dict(overrides=config["overrides"] | dict(learning_rate=1e-3))
    assert trained(run(folder, config, "-n", **changes)) == 3
    assert trained(run(folder, config, "-n")) == 0


def change_metric(folder: Path) -> None:
    """Replace a run by one with another accuracy and old timestamps."""
    rows = files.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
    for row in rows:
        row["pearson"] = 0.123
    record = run_record.parse(json.loads((folder / "run.json").read_text()), "")
    run_record.write_run(folder, record, rows, "adapter/adapter_model.safetensors")
    for path in (folder / "run.json", folder / "metrics.csv"):
        os.utime(path, (1_000_000, 1_000_000))


@pytest.mark.parametrize("mode", ["existing", pytest.param("train", marks=pytest.mark.slow)])
def test_tables_are_made_again_when_what_they_are_made_of_has_changed(grid, mode):
    """The kind: another byte in a run, another set of runs, another config, no record of the
    inputs. Timestamps and Snakemake's records do not matter.
    """
    folder, config = grid
    if mode == "existing":
        shutil.rmtree(folder / ".snakemake")
    assert DONE in run(folder, config, mode=mode)
    change_metric(folder / RUN)
    output = run(folder, config, mode=mode)
    assert "rule collect" in output and trained(output) == 0
    assert "0.123" in (folder / "results/tables/runs.csv").read_text()
    assert "12.3" in (folder / "results/tables/table2.csv").read_text()
    assert DONE in run(folder, config, mode=mode)
    assert "rule table:" in run(folder, config, mode=mode, seeds=[0])
    assert "rule table:" in run(folder, config, mode=mode)
    (folder / "results/tables/inputs.json").unlink()
    assert "rule table:" in run(folder, config, mode=mode)


def test_provenance_is_made_again_after_the_tables_alone_were(grid):
    """run.json changes nothing of runs.csv here; its timestamp is old."""
    folder, config = grid
    snakemake("--configfile", write_config(folder, config, mode="existing"), "--directory", folder)
    path = folder / RUN / "run.json"
    record = json.loads(path.read_text()) | dict(device="Another CPU")
    path.write_text(json.dumps(files.with_checksum(record)))
    os.utime(path, (1_000_000, 1_000_000))
    assert "rule collect" in run(folder, config, mode="existing")  # its target is a table
    config_file = write_config(folder, config, mode="existing")
    target = "results/tables/provenance.html"
    snakemake(target, "--configfile", config_file, "--directory", folder)
    assert "Another CPU" in (folder / "results/tables/provenance.csv").read_text()
    again = snakemake(target, "--configfile", config_file, "--directory", folder)
    assert DONE in again


def test_existing_mode_counts_missing_runs_in_one_line_and_keeps_the_tables(grid):
    folder, config = grid
    table = (folder / "results/tables/table2.md").read_bytes()
    for seed in (0, 1):
        shutil.rmtree(folder / f"results/runs/course/tiny/sst2/lora/qv/r2/seed{seed}")
    (folder / RUN / "run.json").unlink()
    (folder / RUN / "metrics.csv").unlink()
    shutil.rmtree(folder / "results/runs/course/tiny/sst2/lora/qv/r1/seed0")
    path = write_config(folder, config, mode="existing")
    code, output = snakemake(TABLE, "--configfile", path, "--directory", folder, check=False)
    (line,) = [line for line in output.splitlines() if "runs are missing" in line]
    assert line.startswith("4 of 6 runs are missing in results/runs: course/tiny/sst2")
    assert line.count("seed") == 3 and "and 1 more" in line and "mode: partial" in line
    assert code != 0 and "metrics.csv" not in output
    assert (folder / "results/tables/table2.md").read_bytes() == table
    run(folder, config, mode="partial")
    assert "PARTIAL" in (folder / "results/tables/table2.md").read_text().upper()
