"""Plans: makespans against a hand example and Graham's bounds, what is printed and written,
predicted against measured.
"""

import csv
import json
import re
import struct

import pytest
import yaml
from helpers.figures import words
from helpers.models import ROOT
from helpers.synthetic import load, table

from lora import __main__, files
from lora.experiment import registry
from lora.figures import makespan as makespan_figure
from lora.planning import plan

GPU = [device for device in registry.devices().values() if device.kind == "cuda"]


def test_the_papers_grid_has_its_edges_and_the_default_one_has_none():
    """MRPC, RTE and STS-B of each model's LoRA start from its MNLI runs: 6 edges with packs of
    seeds, 25 each without.
    """
    for pack, jobs, edges in ((["seed"], 114, 6), ([], 570, 6 * 25)):
        made = plan.jobs_of(load(config="paper.yaml", pack=pack))
        assert len(made) == jobs and sum(len(job.after) for job in made) == edges
        for job in made:
            for place in job.after:
                start = made[place].cells[0]
                assert (start.task, start.model, start.method) == (
                    "mnli",
                    job.cells[0].model,
                    "lora",
                )
    assert not any(job.after for job in plan.jobs_of(load()))


def test_a_chain_is_told():
    grid = load(
        protocol="paper", tables=dict(table2=table(["roberta-base"], ["mnli", "rte"]), table6=None)
    )
    told = plan.text(plan.Plan(grid), None)
    assert "1 edges between them" in told
    assert (
        "longest chain: mnli lora qv r8 on roberta-base, paper, then "
        "rte lora qv r8 on roberta-base, paper" in told
    )


@pytest.mark.parametrize(
    "name", ["config.yaml", "paper.yaml", "demo.yaml", "baselines.yaml", "ablation-head.yaml"]
)
def test_every_figure_of_a_device_nobody_measured_says_so(name):
    told = plan.text(plan.Plan(load(config=name)), None)
    lines = told.splitlines()
    for device in GPU:
        found = [line for line in lines if re.search(rf"(^|on|for) *{device.name}\b", line)]
        assert len(found) >= 2 and all("estimate, not measured" in line for line in found), found
    assert all(len(line) < 150 for line in lines)


def test_a_job_too_large_for_a_device_is_told(monkeypatch):
    tiny = {
        name: device
        if device.kind == "cpu"
        else registry.Device(**vars(device) | dict(memory_gib=1.0))
        for name, device in registry.devices().items()
    }
    monkeypatch.setattr(registry, "devices", lambda: tiny)
    told = plan.text(plan.Plan(load()), None)
    assert "estimate, not measured; 18 of 18 jobs do not fit its memory" in told


def test_the_verb_lays_configs_over_each_other_and_writes_what_it_prints(tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(dict(seeds=[0, 1, 7], results=str(tmp_path / "results"))))
    arguments = ["plan", "--config", str(ROOT / "config/demo.yaml"), str(mine)]
    assert __main__.main([*arguments, "--output-dir", str(tmp_path / "plan")]) == 0
    told = capsys.readouterr().out
    assert (tmp_path / "plan/plan.txt").read_text() == told and "36  12 cells, 3 seeds each" in told
    jobs = files.read_csv(tmp_path / "plan/jobs.csv", plan.JOBS_COLUMNS)
    assert len(jobs) == 12 * len(registry.devices()) and sum(
        row["runs"] for row in jobs
    ) == 36 * len(registry.devices())
    spans = files.read_csv(tmp_path / "plan/makespan.csv", plan.MAKESPAN_COLUMNS)
    for device in registry.devices():
        line = [row["seconds"] for row in spans if row["device"] == device]
        assert line == sorted(line, reverse=True)
        assert line[0] == pytest.approx(
            sum(row["seconds"] for row in jobs if row["device"] == device)
        )
        assert line[-1] == max(row["seconds"] for row in jobs if row["device"] == device)
    svg = (tmp_path / "plan/makespan.svg").read_bytes()
    shown = words(svg)
    assert "CPU, measured" in shown and all(
        f"{device.name}, estimate, not measured" in shown for device in GPU
    )
    makespan_figure.draw(tmp_path / "plan/makespan.csv", tmp_path / "again")
    assert (tmp_path / "again.svg").read_bytes() == svg
    width, height = struct.unpack(">II", (tmp_path / "again.png").read_bytes()[16:24])
    assert width > 800 and height > 400


def test_a_wrong_config_is_one_message(tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("plan_device: K80\n")
    assert __main__.main(["plan", "--config", str(tmp_path / "wrong.yaml")]) == 2
    assert "plan_device: got 'K80'; allowed: A100, CPU" in capsys.readouterr().err


def changed(path, **speed):
    record = json.loads(path.read_text())
    record["speed"] |= speed
    path.write_text(json.dumps(record | dict(device="CPU of a kind", seal=None, precision="bf16")))


def test_durations_are_said_as_people_say_them():
    said = {
        45: "45 s",
        119: "119 s",
        150: "2.5 min",
        7100: "118 min",
        7200: "2.0 h",
        350_000: "97.2 h",
        864_000: "10.0 d",
    }
    assert {seconds: plan.duration(seconds) for seconds in said} == said


def test_csvs_are_read_as_they_are_written(tmp_path):
    made = plan.Plan(load())
    plan.write(made, "told\n", tmp_path)
    with open(tmp_path / "jobs.csv", newline="") as handle:
        first = next(csv.DictReader(handle))
    assert first["device"] == "CPU" and first["known"] == "measured" and first["fits"] == "yes"
