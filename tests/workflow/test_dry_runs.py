"""Dry runs, plans and checks of the workflow, without training."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.encoders import saved_adapter
from helpers.models import ROOT
from helpers.workflow import small_config, snakemake, trained, write_config


@pytest.mark.parametrize("name, cells", [("config.yaml", 18), ("demo.yaml", 12)])
def test_a_dry_run_shows_the_grid_and_downloads_nothing(tmp_path, name, cells):
    output = snakemake("-n", "--configfile", ROOT / "config" / name, "--directory", tmp_path)
    assert trained(output) == cells
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "pack, left_out, jobs",
    [
        ([], "table2", 75),
        (["seed"], "table2", 15),
        (["rank", "seed"], "table2", 3),
        (["seed", "weights"], "table2", 5),
        (["weights", "rank", "seed"], "table2", 1),
        (["task", "seed"], "table6", 1),
        (["task"], "table6", 5),
    ],
)
def test_each_pack_is_one_job(tmp_path, pack, left_out, jobs):
    """The default config has 75 runs in Table 6 and 15 in Table 2; each has its own files."""
    path = write_config(tmp_path, dict(pack=pack, tables={left_out: None}))
    output = snakemake("-n", "--configfile", path, "--directory", tmp_path)
    assert trained(output) == jobs
    (collected,) = re.findall(r"rule collect:\n +input: (.*)", output)
    assert collected.count("metrics.csv") == dict(table2=75, table6=15)[left_out]


def test_an_incomplete_pack_stops_before_any_job(tmp_path):
    path = write_config(tmp_path, dict(pack=["rank", "seed"]))
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert code != 0 and "Traceback" not in output and trained(output) == 0
    assert (
        "no table uses course/roberta-base/sst2/lora/qv/r1" in output
        and "use pack: [seed]" in output
    )


def test_lint_and_format():
    assert "Congratulations" in snakemake("--lint")
    subprocess.run(
        [Path(sys.executable).parent / "snakefmt", "--check", "Snakefile", "workflow"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


def test_a_wrong_config_stops_before_any_job_with_all_problems(tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text("seeds: [1, 1]\nprotocl: demo\ntables: {table2: {tasks: [sst3]}}\n")
    code, output = snakemake("-n", "--configfile", config, "--directory", tmp_path, check=False)
    assert code != 0 and "Traceback" not in output
    assert "seeds: got [1, 1]" in output and "did you mean 'protocol'" in output


def test_training_jobs_request_their_forecast_memory_and_time(tmp_path):
    """Each job requests its own memory and minutes; the longest jobs have priority."""
    output = snakemake("-n", "--directory", tmp_path)
    found = re.findall(
        r"rule train:.*?task=([\w-]+),.*?priority: (\d+).*?resources: (.*?)\n", output, re.S
    )
    assert len(found) == 18 and all("gpu=1" in resources for _, _, resources in found)
    requested = {
        task: [
            int(re.search(rf"{name}=(\d+)", resources).group(1)) for name in ("mem_mb", "runtime")
        ]
        + [int(priority)]
        for task, priority, resources in found
    }
    assert len(requested) == 4 and all(memory > 1500 for memory, _, _ in requested.values())
    order = [sorted(requested, key=lambda task: requested[task][index]) for index in (1, 2)]
    assert order[0] == order[1] == ["mrpc", "sst2", "qqp", "mnli"]
    less = snakemake("-n", "--directory", tmp_path, "--config", "plan_device=H100")
    assert max(map(int, re.findall(r"runtime=(\d+)", less))) < requested["mnli"][1] / 2


@pytest.mark.parametrize("mode", ["train", "existing"])
def test_plan_runs_in_any_mode_and_trains_nothing(tmp_path, mode):
    for _ in range(2):  # the rule has no output, so it always runs
        output = snakemake("plan", "--directory", tmp_path, "--config", f"mode={mode}")
        assert trained(output) == 0 and "rule fetch" not in output
        assert "estimate, not measured" in output and "18 cells, 5 seeds each" in output
    written = {path.name for path in (tmp_path / "results/plan").iterdir()}
    figure = {f"makespan.{kind}" for kind in ("csv", "svg", "png", "txt")}
    assert written == {"plan.txt", "jobs.csv"} | figure


def test_arguments_of_config_mean_what_they_mean_in_a_file(tmp_path):
    """Lists, null and nested numbers reach every rule as in a config file; paths are expanded."""
    table = "{models: [minilm], tasks: [same-article], method: lora, weights: [qv], ranks: [4, 8]}"
    output = snakemake(
        *("-n", "--directory", tmp_path, "--config", "seeds=[7]", "pack=[seed]", "subspace=null"),
        *("protocol=demo", f"tables={{table2: {table}, table6: null}}", "results=$MINE/./x/"),
        env=dict(MINE=str(tmp_path / "mine")),
    )
    assert trained(output) == 2 and "rule subspace" not in output
    run = tmp_path / "mine/x/runs/demo/minilm/same-article/lora/qv/r4/seed7"
    assert f"output: {run}/metrics.csv" in output


@pytest.mark.parametrize("ranks, figures", [([8], 0), ([4, 8], 1)])
def test_the_cost_of_a_rank_is_drawn_if_there_are_several(tmp_path, ranks, figures):
    """In any table: here Table 2."""
    table = dict(
        models=["minilm"], tasks=["same-article"], method="lora", weights=["qv"], ranks=ranks
    )
    options = ("--config", f"tables={{table6: null, table2: {json.dumps(table)}}}")
    output = snakemake("-n", "--directory", tmp_path, *options, "subspace=null")
    assert output.count("figures/rank_cost.txt") == figures


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(r=2, lora_alpha=4), None),
        (
            dict(r=2, lora_alpha=5),
            "alpha/r: got 5/2, expected 4/2; set overrides: {{alpha: 5}} in the config",
        ),
        (
            dict(weights="qk", r=2, lora_alpha=4),
            "weights: got qk, expected qv; set weights: [qk] in the config",
        ),
        (dict(r=4, lora_alpha=8), "rank: got 4, expected at most 2; set ranks: [4] in the config"),
        ("no folder", "overrides or protocols in the config) is {start}; allowed: a folder with"),
    ],
)
def test_a_start_folder_that_does_not_fit_stops_before_any_job(tmp_path, options, message):
    """Adapters of peft under `overrides: {start: ...}`: nothing is fetched or prepared."""
    config, start = small_config(tmp_path), tmp_path / "adapter"
    if options != "no folder":
        saved_adapter(start, tmp_path / "tiny", num_labels=2, **options)
    config["tables"] = dict(table2=config["tables"]["table2"], table6=None)
    config["overrides"] |= dict(start=str(start))
    path = write_config(tmp_path, config)
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert "Traceback" not in output and not (tmp_path / "results").exists()
    assert (code == 0) == (message is None) and (message or "").format(start=start) in output
