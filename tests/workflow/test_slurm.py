"""The Slurm profile on a real Slurm of one node: equal rows, a GPU per job, no loss when disturbed.

The long version with every disturbance is `python tests/slurm/run.py`.
"""

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
from slurm.grid import LIMIT_S, PROFILE, SMALL, Grid, trainings
from slurm.run import planned

from lora.planning import slurm_queue

pytestmark = pytest.mark.slow

ABSENT = missing_programs()
on_slurm = pytest.mark.skipif(
    bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}: see tests/slurm/install.sh"
)
SHORT = (
    "scontrol requeue",
    "out of memory",
    "retried",
)  # a time limit and a lost node take minutes


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    cluster = Cluster(folder / "cluster")
    try:
        yield Grid(folder, cluster.up())
    finally:
        cluster.down()


@on_slurm
def test_a_grid_on_slurm_gives_the_rows_of_a_plain_run(grid):
    """Two jobs at once, each with its own GPU.

    Meanwhile the controller is killed and started again, and the accounting is killed until
    Snakemake has ended. Then nothing is left to do.
    """
    folder = grid.new("plain")
    with grid.started(folder, *SMALL, tables=True) as snakemake:
        first, job = grid.first_training(folder)
        until = time.monotonic() + LIMIT_S
        while not (others := set(trainings(folder)) - {first}) and time.monotonic() < until:
            time.sleep(0.1)
        assert others, grid.output(folder)
        grid.cluster.kill("slurmctld")
        grid.cluster.start("slurmctld")
        grid.cluster.query("squeue")
        grid.cluster.kill("slurmdbd")
        os.kill(first, signal.SIGCONT)
        grid.end(snakemake, folder)
        grid.cluster.start("slurmdbd")
    grid.check(folder)
    pages = {
        path.name: path.read_bytes() for path in (grid.base / "results/tables").glob("table6*")
    }
    assert (
        pages and {name: (folder / "results/tables" / name).read_bytes() for name in pages} == pages
    )
    logs = [path.read_text() for path in (folder / "results/logs/train").rglob("train.log")]
    devices = [re.search(r"CUDA_VISIBLE_DEVICES=(\S*)\)", log).group(1) for log in logs]
    assert sorted(devices) == ["0", "1"]
    jobs = grid.jobs(folder)
    columns = "JobID,Comment%50,State,AllocTRES%50,Elapsed"
    command = ["sacct", "-X", f"--format={columns}", f"--jobs={','.join(jobs)}"]
    for last in jobs:  # the controller sends what it kept for the accounting
        grid.cluster.wait_for(
            "sacct", "-X", "--noheader", "--format=State", f"--jobs={last}", answer="COMPLETED"
        )
    listed = grid.cluster.query(*command)
    sys.stdout.write(f"{listed}devices: {devices}\n")
    assert listed.count("COMPLETED") == listed.count("gres/gpu=1") == len(jobs) == 2
    assert "Nothing to be done" in grid.run(folder, *SMALL, tables=True)


@on_slurm
def test_disturbances_lose_nothing(grid):
    """Each disturbance has its own grid; all run on one cluster at the same time."""
    done = run.disturb(
        grid, planned(1, *SHORT), seed=0, workers=len(SHORT), report=sys.stdout.write
    )
    sys.stdout.write(run.table(done, 0))
    assert [lost for fault in done for lost in fault.lost] == [] and len(done) == len(SHORT)


@on_slurm
def test_a_job_that_can_never_run_is_reported(grid):
    """Slurm refuses a job that is too large for the node, but queues one that is too long forever.

    `lora queue` reports that one, and cancels it.
    """
    too_large = grid.new("too large")
    output = grid.run(
        too_large, "--set-resources", "train:mem_mb=64000", "--retries", "0", status=1, ranks=[2]
    )
    assert "sbatch failed" in output and "Memory specification can not be satisfied" in output
    too_long = grid.new("too long")
    options = ["--set-resources", "train:mem_mb=1000", "train:runtime=120", "--retries", "0"]
    with grid.started(too_long, *options, ranks=[2]) as snakemake:
        grid.cluster.wait_for("squeue", "--format=%r", answer="PartitionTimeLimit")
        listed, ended = (lora_queue(grid.cluster, *flags) for flags in ([], ["--cancel"]))
        output = grid.end(snakemake, too_long, status=1)
    for done in (listed, ended):
        assert (
            done.returncode == 2
            and "1 jobs can never start" in done.stderr
            and "MaxTime" in done.stderr
        )
        assert "rule_train_wildcards_course_tiny_sst2_lora_qv_2: PartitionTimeLimit" in done.stdout
    assert "SLURM status is: 'CANCELLED'" in output
    assert lora_queue(grid.cluster).returncode == 0


def lora_queue(cluster: Cluster, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lora", "queue", *options]
    return subprocess.run(
        command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "reason, permanent",
    [
        ("Resources", False),
        ("Priority", False),
        ("QOSGrpGRES", False),
        ("AssocGrpCpuLimit", False),
        ("BeginTime", False),
        ("QOSMaxWallDurationPerJobLimit", True),
        ("AssocMaxJobsLimit", False),
        ("QOSMaxGRESPerUser", False),
        ("InvalidQOS", True),
        ("BadConstraints", True),
        ("JobHeldAdmin", True),
    ],
)
def test_permanent_reasons_get_advice(reason, permanent):
    assert (slurm_queue.advice(reason) is not None) == permanent


@on_slurm
def test_without_accounting(grid, tmp_path_factory):
    """No slurmdbd and no database: squeue gives the job states."""
    cluster = Cluster(tmp_path_factory.mktemp("bare") / "cluster", accounting=False)
    try:
        bare = Grid.__new__(Grid)
        bare.__dict__ |= grid.__dict__ | dict(cluster=cluster.up())
        folder = bare.new("unaccounted")
        bare.run(folder, *SMALL, ranks=[2])
        bare.check(folder, ranks=[2])
        done = subprocess.run(["sacct"], env=cluster.environment, capture_output=True, text=True)
        assert "accounting storage is disabled" in done.stderr
    finally:
        cluster.down()


@on_slurm
def test_a_cluster_leaves_nothing_behind(tmp_path):
    """Start it twice and stop it twice."""
    cluster = Cluster(tmp_path / "cluster", accounting=False)
    try:
        assert len(cluster.up().processes()) >= 3
        cluster.up()
    finally:
        cluster.down()
    cluster.down()
    assert cluster.processes() == [] and list(tmp_path.iterdir()) == []


def test_queue_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no squeue here"):
        slurm_queue.report(cancel=False)


def test_partition_and_account_come_from_a_workflow_profile(tmp_path):
    """With the example of the profiles' README.md. Retries request more memory and time."""
    text = (PROFILE.parent / "README.md").read_text()
    shown = re.search(r"```yaml\n# ~/our-cluster/profile.yaml.*?\n(.*?)```", text, re.S).group(1)
    (tmp_path / "profile.yaml").write_text(shown)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        PROFILE,
        "--workflow-profile",
        tmp_path,
        "-n",
        "--configfile",
    ]
    done = subprocess.run(
        [*command, ROOT / "config/demo.yaml", "--directory", tmp_path / "grid"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
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


def test_the_profile_names_no_site():
    """No partition or account; every value has a comment."""
    text = (PROFILE / "profile.yaml").read_text()
    settings = yaml.safe_load(text)
    assert not {"slurm_partition", "slurm_account"} & {*settings["default-resources"], *settings}
    assert settings["retries"] and "retries:" not in (ROOT / "workflow/rules/train.smk").read_text()
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith("#") and not line.rstrip().endswith(":")
    ]
    assert (
        len(lines) >= 14
        and [line for line in lines if "#" not in line and not line.startswith("max-status")] == []
    )
