"""Jobs of a grid and the edges between them; the files that `lora plan` writes."""

import csv
import struct

import pytest
import yaml
from helpers.figures import words
from helpers.models import ROOT
from helpers.synthetic import load

from lora import __main__, files
from lora.experiment import registry
from lora.figures import makespan as makespan_figure
from lora.planning import plan

GPUS = [device for device in registry.devices().values() if device.kind == "cuda"]


def test_grid_of_the_paper_has_edges_and_the_default_grid_has_none():
    """MRPC, RTE and STS-B of each model's LoRA start from its MNLI runs: 6 edges with packs of
    seeds, 25 each without.
    """
    for pack, count, edges in ((["seed"], 114, 6), ([], 570, 6 * 25)):
        jobs = plan.jobs_of(load(config="paper.yaml", pack=pack))
        assert len(jobs) == count and sum(len(job.after) for job in jobs) == edges
        for job in jobs:
            for index in job.after:
                start = jobs[index].cells[0]
                assert (start.task, start.model, start.method) == (
                    "mnli",
                    job.cells[0].model,
                    "lora",
                )
    assert not any(job.after for job in plan.jobs_of(load()))


def test_command_merges_configs_and_writes_what_it_prints(tmp_path, capsys):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(dict(seeds=[0, 1, 7], results=str(tmp_path / "results"))))
    arguments = ["plan", "--config", str(ROOT / "config/demo.yaml"), str(own)]
    assert __main__.main([*arguments, "--output-dir", str(tmp_path / "plan")]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "plan/plan.txt").read_text() == printed
    assert "36  12 cells, 3 seeds each" in printed
    jobs = files.read_csv(tmp_path / "plan/jobs.csv", plan.JOBS_COLUMNS)
    devices = registry.devices()
    assert len(jobs) == 12 * len(devices)
    assert sum(row["runs"] for row in jobs) == 36 * len(devices)
    spans = files.read_csv(tmp_path / "plan/makespan.csv", plan.MAKESPAN_COLUMNS)
    for device in devices:
        line = [row["seconds"] for row in spans if row["device"] == device]
        seconds = [row["seconds"] for row in jobs if row["device"] == device]
        assert line == sorted(line, reverse=True)
        assert line[0] == pytest.approx(sum(seconds)) and line[-1] == max(seconds)
    svg = (tmp_path / "plan/makespan.svg").read_bytes()
    shown = words(svg)
    assert "CPU, measured" in shown
    assert all(f"{device.name}, estimate, not measured" in shown for device in GPUS)
    makespan_figure.draw(tmp_path / "plan/makespan.csv", tmp_path / "again")
    assert (tmp_path / "again.svg").read_bytes() == svg
    width, height = struct.unpack(">II", (tmp_path / "again.png").read_bytes()[16:24])
    assert width > 800 and height > 400


def test_wrong_config_is_one_message(tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("plan_device: K80\n")
    assert __main__.main(["plan", "--config", str(tmp_path / "wrong.yaml")]) == 2
    assert "plan_device: got 'K80'; allowed: A100, CPU" in capsys.readouterr().err


def test_csv_files_have_the_values_of_the_plan(tmp_path):
    planned = plan.Plan(load())
    plan.write(planned, "text\n", tmp_path)
    with open(tmp_path / "jobs.csv", newline="") as handle:
        first = next(csv.DictReader(handle))
    assert first["device"] == "CPU" and first["known"] == "measured" and first["fits"] == "yes"
    cpu = registry.devices()["CPU"]
    assert float(first["seconds"]) == pytest.approx(planned.forecasts[cpu][0].seconds)


def test_numbers_of_devices_rise_from_one_to_a_thousand():
    counts = plan.DEVICE_COUNTS
    assert counts[:7] == (1, 2, 3, 4, 6, 8, 12) and counts[-3:] == (512, 768, 1000)
    assert list(counts) == sorted(set(counts))
