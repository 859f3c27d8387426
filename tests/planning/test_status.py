"""State of a grid: what is done, failed, running or missing, and the time left."""

import json
import time
from pathlib import Path

import pytest
from helpers.synthetic import epochs, load, table, write_run

from lora import paths
from lora.experiment import job_progress
from lora.experiment.job_progress import JobProgress
from lora.planning import plan, status
from lora.tables import terminal


def grid_in(folder, **changes):
    tables = dict(table2=None, table6=table(["roberta-base"], ["sst2"], ["q"], [1, 2, 4]))
    return load(seeds=[0, 1], results=str(folder), tables=tables, **changes)


def log_dir(grid, cell, seed=0):
    pattern = paths.train_log_dir(paths.logs_dir(grid.config.results), grid.packing.axes)
    return Path(pattern.format(**vars(cell), seed=seed))


def write_progress(folder, done=50, age_s=0.0):
    folder.mkdir(parents=True, exist_ok=True)
    found = JobProgress("sst2 q r2", "epoch 1/2", done, 100, 10.0, time.time() - age_s)
    job_progress.write(folder / job_progress.NAME, found)


def test_each_state(tmp_path):
    """Done, ended as non-finite, running, and missing with and without an error in the log."""
    grid = grid_in(tmp_path, overrides=dict(epochs=2))
    first, second, third = grid.cells
    runs = tmp_path / "runs"
    best = dict(epoch=2, metric="accuracy", value=0.9)
    write_run(grid, first, 0, runs, epochs([0.8, 0.9]), best=best)
    write_run(grid, first, 1, runs, epochs([0.8, 0.7], failed=True))
    write_progress(log_dir(grid, second))
    log = log_dir(grid, third) / paths.TRAIN_LOG
    log.parent.mkdir(parents=True)
    log.write_text("x lora train: error: first\ny lora train: error: no space left\n")
    planned = plan.Plan(grid)
    found = status.read(planned)
    assert [one.states for one in found.cells] == [
        {0: "done", 1: "failed"},
        {0: "running", 1: "running"},
        {0: "missing", 1: "missing"},
    ]
    assert [one.error for one in found.cells] == ["", "", "no space left"]
    assert found.cells[0].values == (0.9,)
    assert status.summary(found).splitlines()[0] == (
        "6 runs: 1 done, 1 failed, 2 running, 2 missing."
    )
    text = terminal.to_text(status.page(planned, found))
    assert "LoRA r=1 on Wq" in text and "90.0" in text
    whole = json.loads(json.dumps(status.as_json(found)))
    assert whole["done"] == 1 and whole["cells"][2]["error"] == "no space left"


def test_time_left_is_that_of_the_running_job_and_the_jobs_to_come(tmp_path):
    grid = grid_in(tmp_path)
    planned = plan.Plan(grid)
    empty = status.read(planned)
    assert empty.speed == "forecast"
    works = planned.works(planned.devices[0])
    assert empty.left_s > 0 and len(works) == 3
    write_progress(log_dir(grid, grid.cells[0]))
    one_runs = status.read(planned)
    (running,) = one_runs.running
    assert running.left_s == pytest.approx(5.0)
    assert one_runs.left_s == pytest.approx(empty.left_s * 2 / 3 + 5, rel=0.2)


def test_a_killed_job_is_not_running(tmp_path):
    grid = grid_in(tmp_path)
    folder = log_dir(grid, grid.cells[0])
    write_progress(folder, age_s=job_progress.STALE_S + 1)
    assert status.read(plan.Plan(grid)).count("running") == 0


@pytest.mark.parametrize("pack", [["seed"], [], ["rank", "seed"]])
def test_every_packing(tmp_path, pack):
    """A run that one job of another packing trains is running there only."""
    grid = grid_in(tmp_path, pack=pack)
    write_progress(log_dir(grid, grid.cells[0]))
    found = status.read(plan.Plan(grid))
    expected = {("seed",): 2, (): 1, ("rank", "seed"): 6}[tuple(pack)]
    assert found.count("running") == expected and found.runs == 6
