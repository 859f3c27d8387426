"""Predicted and measured run time and memory."""

import json
import shutil

import pytest
from helpers.models import ROOT
from helpers.synthetic import load, make_runs, table

from lora.experiment import registry
from lora.planning import outcome, plan


def change(path, **speed):
    """Change a run.json: another device and precision, and some values of `speed`."""
    record = json.loads(path.read_text())
    record["speed"] |= speed
    path.write_text(json.dumps(record | dict(device="CPU of a kind", seal=None, precision="bf16")))


def test_finished_jobs_are_compared_with_their_forecast(tmp_path):
    """Four jobs: one with half the forecast's time and all of its memory, one in another pack,
    one on an unknown device, and one with a missing run.
    """
    grid = load(
        seeds=[0, 1],
        results=str(tmp_path),
        tables=dict(
            table2=table(["minilm"], ["sst2"]), table6=table(["minilm"], ["mnli"], ["q"], [1, 2, 4])
        ),
    )
    make_runs(grid, tmp_path / "runs")
    planned, cpu = plan.Plan(grid), registry.devices()["CPU"]
    first, packed, unknown, incomplete = planned.jobs
    forecast = planned.forecaster.job(first.cells, 2, cpu)
    records = {
        job: [tmp_path / "runs" / job.cells[0].path / f"seed{seed}/run.json" for seed in (0, 1)]
        for job in planned.jobs
    }
    for path in records[first]:
        change(
            path, wall_s=forecast.train_s / 2, pack=2, peak_host_bytes=round(forecast.host_bytes)
        )
    for path in records[packed]:
        change(path, pack=1)
    for path in records[unknown]:
        change(path)
        path.write_text(path.read_text().replace("CPU of a kind", "Abacus"))
    shutil.rmtree(records[incomplete][1].parent)
    outcomes = outcome.compare(planned, tmp_path / "runs")
    assert [job.name for job in outcomes.jobs] == [first.name]
    assert (outcomes.other_packs, outcomes.unknown) == (2, ("Abacus",))
    text = "\n".join(outcome.text(outcomes))
    assert (
        "1 jobs took 0.50 times the seconds predicted (median; 0.50 to 0.50), "
        "1.00 times the memory (1.00 to 1.00)" in text
    )
    assert "2 runs were trained in another pack than the config's: not compared" in text
    assert "no row in config/devices.csv: Abacus" in text
    change(records[first][0], wall_s="long")
    with pytest.raises(ValueError, match="speed.wall_s is 'long'; expected a number"):
        outcome.compare(planned, tmp_path / "runs")


def test_reference_runs_are_compared():
    """All twelve jobs of the demo, trained on a CPU; before memory was recorded."""
    planned = plan.Plan(load(config="demo.yaml"))
    outcomes = outcome.compare(planned, ROOT / "results/reference/runs")
    assert len(outcomes.jobs) == 12 and not outcomes.other_packs and not outcomes.unknown
    walls = {
        float(json.loads(path.read_text())["speed"]["wall_s"])
        for path in (ROOT / "results/reference").rglob("run.json")
    }
    assert {job.measured_s for job in outcomes.jobs} == walls


@pytest.mark.parametrize(
    "recorded, name",
    [
        ("CPU AMD EPYC", "CPU"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA RTX A1000", None),
    ],
)
def test_device_of_recorded_name(recorded, name):
    device = outcome.device_of(recorded, list(registry.devices().values()))
    assert (device and device.name) == name
