"""Plans: makespans against a hand example and Graham's bounds, what is printed and written, predicted against measured."""

import csv
import json
import re
import shutil
import struct

import pytest
import yaml
from helpers.figures import words
from helpers.models import ROOT
from helpers.synthetic import load, make_runs, table
from hypothesis import given, settings
from hypothesis import strategies as st

from lora import __main__, files
from lora.experiment import registry
from lora.figures import makespan as makespan_figure
from lora.planning import makespan, outcome, plan, workload
from lora.planning.makespan import Work

GPU = [device for device in registry.devices().values() if device.kind == "cuda"]


def test_the_makespan_of_a_hand_example():
    """5, 4, 3 and 3 hours, the last after the 4; two devices: 5 | 4 then 3 (ready) at 4 to 7, the other 3 at 5 to 8."""
    jobs = [Work(4), Work(5), Work(3), Work(3, (0,))]
    assert [makespan.makespan(jobs, devices) for devices in (1, 2, 3, 9)] == [15, 8, 7, 7]
    assert makespan.longest_chain(jobs) == [0, 3]
    assert makespan.makespan([], 3) == 0 and makespan.longest_chain([]) == []


@given(
    st.lists(st.tuples(st.integers(1, 50), st.sets(st.integers(0, 11), max_size=3)), max_size=12),
    st.integers(1, 5),
)
@settings(max_examples=200, deadline=None)
def test_a_makespan_lies_within_grahams_bounds(drawn, devices):
    """At least the work over n and the longest chain; at most their sum with the work off the chain divided (Graham 1969);
    with one device the whole work, with as many as jobs the chain."""
    jobs = [
        Work(seconds, tuple(sorted(place for place in after if place < at)))
        for at, (seconds, after) in enumerate(drawn)
    ]
    work, chain = (
        sum(job.seconds for job in jobs),
        sum(jobs[place].seconds for place in makespan.longest_chain(jobs)),
    )
    taken = makespan.makespan(jobs, devices)
    assert max(work / devices, chain) <= taken <= chain + (work - chain) / devices + 1e-9
    assert (
        makespan.makespan(jobs, 1) == work and makespan.makespan(jobs, max(1, len(jobs))) == chain
    )


def test_jobs_in_a_circle_are_refused():
    circle = [Work(1, (1,)), Work(1, (0,)), Work(1)]
    for function in (lambda: makespan.makespan(circle, 2), lambda: makespan.longest_chain(circle)):
        with pytest.raises(ValueError, match="2 jobs wait for each other in a circle"):
            function()


def test_the_papers_grid_has_its_edges_and_the_default_one_has_none():
    """MRPC, RTE and STS-B of each model's LoRA start from its MNLI runs: 6 edges with packs of seeds, 25 each without."""
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
        "longest chain: mnli lora qv r8 on roberta-base, paper, then rte lora qv r8 on roberta-base, paper"
        in told
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
    tiny = {name: device if device.kind == "cpu" else registry.Device(**vars(device) | dict(memory_gib=1.0))
            for name, device in registry.devices().items()}  # fmt: skip
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


def test_predicted_stands_beside_measured(tmp_path):
    """Four jobs: one with half the forecast's time and all of its memory, one in another pack, one on an unknown device, and
    one that is not there in full."""
    grid = load(seeds=[0, 1], results=str(tmp_path),
                tables=dict(table2=table(["minilm"], ["sst2"]), table6=table(["minilm"], ["mnli"], ["q"], [1, 2, 4])),
                )  # fmt: skip
    make_runs(grid, tmp_path / "runs")
    made, cpu = plan.Plan(grid), registry.devices()["CPU"]
    first, packed, unknown, partly = made.jobs
    forecast = made.forecaster.job(first.cells, 2, cpu)
    folders = {
        job: [tmp_path / "runs" / job.cells[0].path / f"seed{seed}/run.json" for seed in (0, 1)]
        for job in made.jobs
    }
    for path in folders[first]:
        changed(
            path, wall_s=forecast.train_s / 2, pack=2, peak_host_bytes=round(forecast.host_bytes)
        )
    for path in folders[packed]:
        changed(path, pack=1)
    for path in folders[unknown]:
        changed(path)
        path.write_text(path.read_text().replace("CPU of a kind", "Abacus"))
    shutil.rmtree(folders[partly][1].parent)
    found = outcome.of(made, tmp_path / "runs")
    assert [one.name for one in found.jobs] == [first.name] and (
        found.other_packs,
        found.unknown,
    ) == (2, ("Abacus",))
    told = "\n".join(outcome.text(found, plan.aligned, plan.duration))
    assert (
        "1 jobs took 0.50 times the seconds predicted (median; 0.50 to 0.50), 1.00 times the memory (1.00 to 1.00)"
        in told
    )
    assert "2 runs were trained in another pack than the config's: not compared" in told
    assert "no row in config/devices.csv: Abacus" in told
    changed(folders[first][0], wall_s="long")
    with pytest.raises(ValueError, match="speed.wall_s is 'long'; expected a number"):
        outcome.of(made, tmp_path / "runs")


def test_the_reference_runs_are_compared():
    """All twelve jobs of the demo, trained on a CPU; older than the record of memory."""
    made = plan.Plan(load(config="demo.yaml"))
    found = outcome.of(made, ROOT / "results/reference/runs")
    assert len(found.jobs) == 12 and not found.other_packs and not found.unknown
    walls = {
        float(json.loads(path.read_text())["speed"]["wall_s"])
        for path in (ROOT / "results/reference").rglob("run.json")
    }
    assert {one.measured_s for one in found.jobs} == walls


@pytest.mark.parametrize("written, name", [
    ("CPU AMD EPYC", "CPU"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-80GB", "A100"), ("Tesla T4", "T4"),
    ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("Tesla V100-SXM2-16GB", "V100"), ("NVIDIA RTX A1000", None),
])  # fmt: skip
def test_devices_are_known_by_their_names(written, name):
    found = outcome.device_of(written, list(registry.devices().values()))
    assert (found and found.name) == name


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
