"""Tables from existing runs, without training."""

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.models import ROOT
from helpers.workflow import run_files, snakemake, trained, write_config

REFERENCE = ROOT / "results/reference"


def copy_of(folder: Path, target: Path) -> Path:
    """Copy the runs alone, with timestamps in reverse order, as git or rsync may leave them."""
    shutil.copytree(folder / "results/runs", target / "results/runs")
    for age, path in enumerate(sorted((target / "results/runs").rglob("*"))):
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    return target


def test_tables_from_existing_runs_without_torch_or_training(trained_grid, tmp_path):
    folder, config, _ = trained_grid
    copy = copy_of(folder, tmp_path / "copy")
    (tmp_path / "no").mkdir()
    for name in ("torch", "transformers", "datasets"):
        (tmp_path / "no" / f"{name}.py").write_text("raise ImportError('not here')")
    path = write_config(copy, config, mode="existing", seeds=[0, 1])
    output = snakemake(
        "--configfile", path, "--directory", copy, env={"PYTHONPATH": str(tmp_path / "no")}
    )
    assert trained(output) == 0 and "rule fetch" not in output
    assert (copy / "results/tables/table2.html").exists()


def test_existing_mode_names_a_missing_run(trained_grid, tmp_path):
    folder, config, _ = trained_grid
    copy = copy_of(folder, tmp_path / "copy")
    gone = copy / "results/runs/course/tiny/stsb/lora/qv/r2/seed1"
    shutil.rmtree(gone)
    code, output = snakemake(
        "--configfile",
        write_config(copy, config, mode="existing", seeds=[0, 1]),
        "--directory",
        copy,
        check=False,
    )
    assert code != 0 and "missing in results/runs: course/tiny/stsb/lora/qv/r2/seed1." in output
    assert len(run_files(copy)) >= 5
    snakemake(
        "--configfile",
        write_config(copy, config, mode="partial", seeds=[0, 1]),
        "--directory",
        copy,
    )
    assert "PARTIAL" in (copy / "results/tables/table2.md").read_text().upper()


def test_a_run_with_other_settings_is_refused_by_the_tables(trained_grid, tmp_path):
    folder, config, _ = trained_grid
    copy = copy_of(folder, tmp_path / "copy")
    record = copy / "results/runs/course/tiny/sst2/lora/qv/r2/seed0/run.json"
    facts = json.loads(record.read_text())
    facts["settings"]["hparams"]["learning_rate"] = 0.5
    record.write_text(json.dumps(facts))
    path = write_config(copy, config, mode="existing", seeds=[0, 1])
    code, output = snakemake("--configfile", path, "--directory", copy, check=False)
    assert code != 0 and "learning_rate" in output and "seed0" in output


@pytest.mark.skipif(not (REFERENCE / "runs").is_dir(), reason="no reference runs here")
def test_reference_tables_are_made_in_seconds(tmp_path):
    shutil.copytree(REFERENCE / "runs", tmp_path / "results/reference/runs")
    existing = ["--configfile", ROOT / "config/demo.yaml", "--directory", tmp_path]
    existing += ["--config", "mode=existing", "results=results/reference"]
    output = snakemake(*existing)
    assert trained(output) == 0
    assert "No subspace figures: a compared run has no adapter/." in output
    cells = (tmp_path / "results/reference/tables/table2.csv").read_text().splitlines()
    assert len(cells) == 1 + 4
    snakemake(*existing, "--report", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1_000_000
