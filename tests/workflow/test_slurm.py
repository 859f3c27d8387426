"""The Slurm profile on a real Slurm of one node: equal rows, one GPU per job, no lost data.

`python tests/slurm/run.py` makes all disturbances.
"""

import copy
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from faults import run
from helpers.models import ROOT
from slurm.cluster import Cluster, missing_programs
from slurm.grid import LIMIT_S, PROFILE, SMALL_JOBS, Grid, trainings
from slurm.run import plan_disturbances

from lora.planning import slurm_queue

pytestmark = pytest.mark.slow

MISSING = missing_programs()
on_slurm = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}: see tests/install_programs.sh"
)
# Parts of the names of short disturbances; time limits and a lost node take minutes.
SHORT = ("scontrol requeue", "out of memory", "retried")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    cluster = Cluster(folder / "cluster")
    try:
        yield Grid(folder, cluster.up())
    finally:
        cluster.down()


@on_slurm
def test_grid_on_slurm_equals_grid_without_slurm(grid):
    """Two jobs run at the same time, each with a different GPU.

    Meanwhile the controller is killed and started again, and slurmdbd is stopped until Snakemake
    has ended. A second Snakemake has nothing to do.
    """
    folder = grid.new_folder("plain")
    with grid.started(folder, *SMALL_JOBS, tables=True) as snakemake:
        first, job = grid.stop_first_training(folder)
        until = time.monotonic() + LIMIT_S
        while not (others := set(trainings(folder)) - {first}) and time.monotonic() < until:
            time.sleep(0.1)
        assert others, grid.output(folder)
        grid.cluster.kill("slurmctld")
        grid.cluster.start("slurmctld")
        grid.cluster.query("squeue")
        grid.cluster.kill("slurmdbd")
        os.kill(first, signal.SIGCONT)
        grid.wait(snakemake, folder)
        grid.cluster.start("slurmdbd")
    grid.check(folder)
    tables = {
        path.name: path.read_bytes() for path in (grid.base / "results/tables").glob("table6*")
    }
    assert tables
    assert {name: (folder / "results/tables" / name).read_bytes() for name in tables} == tables
    logs = [path.read_text() for path in (folder / "results/logs/train").rglob("train.log")]
    devices = [re.search(r"CUDA_VISIBLE_DEVICES=(\S*)\)", log).group(1) for log in logs]
    assert sorted(devices) == ["0", "1"]
    jobs = grid.jobs(folder)
    columns = "JobID,Comment%50,State,AllocTRES%50,Elapsed"
    command = ["sacct", "-X", f"--format={columns}", f"--jobs={','.join(jobs)}"]
    for number in jobs:  # the controller sends slurmdbd what it recorded meanwhile
        grid.cluster.wait_for(
            "sacct", "-X", "--noheader", "--format=State", f"--jobs={number}", answer="COMPLETED"
        )
    listed = grid.cluster.query(*command)
    sys.stdout.write(f"{listed}devices: {devices}\n")
    assert listed.count("COMPLETED") == listed.count("gres/gpu=1") == len(jobs) == 2
    assert "Nothing to be done" in grid.run(folder, *SMALL_JOBS, tables=True)


@on_slurm
def test_no_disturbance_loses_data(grid):
    """Each disturbance has a separate grid; all run on one cluster at the same time."""
    planned = plan_disturbances(1, *SHORT)
    faults = run.inject_all(grid, planned, seed=0, workers=len(SHORT), report=sys.stdout.write)
    sys.stdout.write(run.format_table(faults, 0))
    assert [lost for fault in faults for lost in fault.lost] == []
    assert len(faults) == len(SHORT)


@on_slurm
def test_job_that_can_never_start_is_reported(grid):
    """Slurm refuses a job that needs too much memory, but queues one with too long a time limit.

    `lora queue` reports that one, and cancels it.
    """
    too_large = grid.new_folder("too large")
    output = grid.run(
        too_large, "--set-resources", "train:mem_mb=64000", "--retries", "0", status=1, ranks=[2]
    )
    assert "sbatch failed" in output and "Memory specification can not be satisfied" in output
    too_long = grid.new_folder("too long")
    options = ["--set-resources", "train:mem_mb=1000", "train:runtime=120", "--retries", "0"]
    with grid.started(too_long, *options, ranks=[2]) as snakemake:
        grid.cluster.wait_for("squeue", "--format=%r", answer="PartitionTimeLimit")
        listed, cancelled = (lora_queue(grid.cluster, *flags) for flags in ([], ["--cancel"]))
        output = grid.wait(snakemake, too_long, status=1)
    for done in (listed, cancelled):
        assert done.returncode == 2
        assert "1 jobs can never start" in done.stderr and "MaxTime" in done.stderr
        assert "rule_train_wildcards_course_tiny_sst2_lora_qv_2: PartitionTimeLimit" in done.stdout
    assert "SLURM status is: 'CANCELLED'" in output
    assert lora_queue(grid.cluster).returncode == 0


def lora_queue(cluster: Cluster, *options: str) -> subprocess.CompletedProcess:
    """Run `lora queue` on a cluster."""
    command = [sys.executable, "-m", "lora", "queue", *options]
    return subprocess.run(
        command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True
    )


@on_slurm
def test_grid_on_slurm_without_accounting(grid, tmp_path_factory):
    """No slurmdbd and no database: squeue gives the job states."""
    cluster = Cluster(tmp_path_factory.mktemp("no-accounting") / "cluster", accounting=False)
    try:
        same_grid = copy.copy(grid)
        same_grid.cluster = cluster.up()
        folder = same_grid.new_folder("no-accounting")
        same_grid.run(folder, *SMALL_JOBS, ranks=[2])
        same_grid.check(folder, ranks=[2])
        done = subprocess.run(["sacct"], env=cluster.environment, capture_output=True, text=True)
        assert "accounting storage is disabled" in done.stderr
    finally:
        cluster.down()


@on_slurm
def test_stopped_cluster_leaves_no_processes_and_files(tmp_path):
    """Also if it is started twice and stopped twice."""
    cluster = Cluster(tmp_path / "cluster", accounting=False)
    try:
        assert len(cluster.up().processes()) >= 3
        cluster.up()
    finally:
        cluster.down()
    cluster.down()
    assert cluster.processes() == [] and list(tmp_path.iterdir()) == []


def test_queue_without_slurm_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no squeue here"):
        slurm_queue.report(cancel=False)


def test_partition_and_account_come_from_a_workflow_profile(tmp_path):
    """The example in the profiles' README.md is used. Retries request more memory and time."""
    text = (PROFILE.parent / "README.md").read_text()
    example = re.search(r"```yaml\n# ~/our-cluster/profile.yaml.*?\n(.*?)```", text, re.S).group(1)
    (tmp_path / "profile.yaml").write_text(example)
    command = [
        *(sys.executable, "-m", "snakemake", "-n"),
        *("--profile", PROFILE),
        *("--workflow-profile", tmp_path),
        *("--configfile", ROOT / "config/demo.yaml"),
        *("--directory", tmp_path / "grid"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = re.findall(
        r"^rule (\w+):\n(?: +.*\n)*? +resources: (.*)", done.stdout + done.stderr, re.M
    )
    accounts = {
        rule: set(re.findall(r"slurm_partition=(\w+), slurm_account=(\w+)", resources))
        for rule, resources in jobs
    }
    assert accounts["train"] == {("gpu", "nlp")} and accounts["prepare"] == {("cpu", "nlp")}
    rules = "".join("\n" + path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    remote = {
        part.split(":")[0] for part in rules.split("\nrule ")[1:] if "localrule: True" not in part
    }
    assert remote == {"train", "prepare"}
    settings = yaml.safe_load((PROFILE / "profile.yaml").read_text())["default-resources"]
    requests = [
        {name: eval(value, dict(attempt=attempt)) for name, value in settings.items()}
        for attempt in (1, 2)
    ]
    assert all(requests[1][name] > requests[0][name] for name in ("mem_mb", "runtime"))


def test_profile_has_no_settings_of_a_site():
    """It has no partition and no account, and every value has a comment."""
    text = (PROFILE / "profile.yaml").read_text()
    settings = yaml.safe_load(text)
    assert not {"slurm_partition", "slurm_account"} & {*settings["default-resources"], *settings}
    assert settings["retries"]  # the rule has none but with max_runtime
    assert "TRAIN_RETRIES = None" in (ROOT / "workflow/rules/resources.smk").read_text()
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith("#") and not line.rstrip().endswith(":")
    ]
    assert len(lines) >= 14
    assert [line for line in lines if "#" not in line and not line.startswith("max-status")] == []
