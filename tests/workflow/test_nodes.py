"""The workflow with several GPUs, few cores, other schedulers and unusual paths."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.models import ROOT
from helpers.workflow import run_files, small_config, snakemake, trained, write_config

pytestmark = pytest.mark.slow

BARRIER = '''
"""Loaded by every Python of the test: each job waits until another one has its GPU."""
import os, sys, time
from pathlib import Path

if "train" in sys.orig_argv:
    from lora.training import gpu_lock

    folder, claim = Path(os.environ["MEETING"]), gpu_lock.lock_free_gpu

    def claim_and_wait(wanted):
        held = claim(wanted, folder=folder / "locks")
        (folder / f"job{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        while len(list(folder.glob("job*"))) < 2:
            time.sleep(0.05)
        return held

    gpu_lock.lock_free_gpu = claim_and_wait
'''


@pytest.fixture(scope="module")
def one_table(tmp_path_factory):
    """A grid of two jobs that train one run each."""
    folder = tmp_path_factory.mktemp("nodes")
    config = small_config(folder) | dict(seeds=[0])
    return config | dict(tables=dict(table2=None, table6=config["tables"]["table6"]))


def train_log(folder: Path) -> str:
    return next((folder / "results/logs/train").rglob("train.log")).read_text()


def test_two_jobs_at_a_time_take_two_gpus(one_table, tmp_path, monkeypatch):
    """Each job waits until the other has its GPU, and has its share of the cores."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    fakes, meeting = tmp_path / "fakes", tmp_path / "meeting"
    fakes.mkdir()
    meeting.mkdir()
    (fakes / "sitecustomize.py").write_text(BARRIER)
    listing = "".join(f"GPU {number}: NVIDIA Fake (UUID: GPU-{number * 4})\n" for number in "01")
    (fakes / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '%s' '{listing}'\n")
    (fakes / "nvidia-smi").chmod(0o755)
    paths = dict(
        PATH=f"{fakes}:{os.environ['PATH']}", PYTHONPATH=f"{fakes}:{ROOT}", MEETING=str(meeting)
    )
    path = write_config(tmp_path, one_table, device="auto", threads=2)
    output = snakemake(
        "--configfile",
        path,
        "--directory",
        tmp_path,
        "--resources",
        "gpu=2",
        "--until",
        "train",
        env=paths,
    )
    assert trained(output) == 2
    assert sorted(file.read_text() for file in meeting.glob("job*")) == ["GPU-0000", "GPU-1111"]
    log = train_log(tmp_path)
    assert re.search(r"GPU GPU-(0000|1111), the first free one of GPU-0000, GPU-1111\n", log)
    assert (
        " 1 CPU threads" in log and "were requested" not in log
    )  # the CPU threads do not change the results of a GPU


def test_training_uses_the_threads_that_snakemake_gives(one_table, tmp_path):
    """3 threads are requested, --cores gives 2; the log warns that results differ."""
    path = write_config(tmp_path, one_table, threads=3)
    snakemake(
        "--configfile",
        path,
        "--directory",
        tmp_path,
        "--until",
        "train",
        env=dict(OMP_NUM_THREADS="1"),
    )
    assert re.search(
        r" 2 CPU threads, 3 were requested.* 8th digit.*\n.*device CPU.*, 2 CPU threads\n",
        train_log(tmp_path),
    )


QSUB = """#!/bin/bash
# Runs a job as Grid Engine would on another machine: later, with a record of it afterwards, and, in
# folders that are named in LATE, over a network file system that shows what was written some
# seconds after that.
echo "$*" >> $SGE/submitted
id=$(grep -c . $SGE/submitted)
( bash "${@: -1}" > $SGE/out.$id 2>&1; echo "exit_status  $?" > $SGE/left.$id
  [ -d "$LATE" ] && mv "$LATE" "$LATE.hidden"
  mv $SGE/left.$id $SGE/account.$id
  [ -d "$LATE.hidden" ] && sleep 5 && mv "$LATE.hidden" "$LATE" ) > /dev/null 2>&1 < /dev/null &
echo $id
"""
QSTAT = """#!/bin/sh
[ -e $SGE/out.$2 ] && ! [ -e $SGE/account.$2 ]
"""
QACCT = """#!/bin/sh
[ -e $SGE/account.$2 ] && echo "failed       0" && cat $SGE/account.$2
"""


@pytest.fixture
def grid_engine(tmp_path, monkeypatch):
    """Fake qsub, qstat and qacct; return the file with the arguments of qsub."""
    folder = tmp_path / "sge"
    folder.mkdir()
    for name, text in dict(qsub=QSUB, qstat=QSTAT, qacct=QACCT).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SGE", str(folder))
    return folder / "submitted"


def generic(*arguments, check=True):
    options = [
        "--profile",
        ROOT / "workflow/profiles/generic",
        "--seconds-between-status-checks",
        "1",
    ]
    return snakemake(*arguments, *options, check=check, cores=())


def test_generic_profile_submits_jobs_to_grid_engine(one_table, tmp_path, grid_engine):
    """Jobs are submitted with their resources; a failed job is reported."""
    path = write_config(tmp_path, one_table, threads=2)
    output = generic("--configfile", path, "--directory", tmp_path)
    assert trained(output) == 2 and len(run_files(tmp_path)) == 2
    assert (tmp_path / "results/tables/table6.html").exists()
    submitted = grid_engine.read_text().splitlines()
    assert len(submitted) == 3  # one to prepare, two to train
    train = next(line for line in submitted if "lora-train" in line)
    found = re.search(r"-pe smp (\d+) -l h_rt=(\d+),mem_free=(\d+)M,gpu=(\d+) .*\.sh$", train)
    threads, seconds, megabytes, gpus = map(int, found.groups())
    assert threads == 2 and gpus == 0 and seconds % 60 == 0 < seconds and megabytes > 0

    wrong = one_table | dict(overrides=one_table["overrides"] | dict(max_tokens=30), device="cuda")
    path = write_config(tmp_path, wrong)
    code, output = generic(
        "--configfile", path, "--directory", tmp_path, "--retries", "0", check=False
    )
    assert code != 0 and "Error in rule train" in output
    assert "gpu=1 " in grid_engine.read_text().splitlines()[-1]


def test_jobs_wait_for_files_that_appear_late(one_table, tmp_path, grid_engine, monkeypatch):
    """Files appear seconds after the job's end; with --latency-wait 0 the job fails."""
    monkeypatch.setenv("LATE", "results/runs")
    table = one_table["tables"]["table6"] | dict(ranks=[1])
    path = write_config(tmp_path, one_table, tables=dict(table2=None, table6=table))
    options = ["--configfile", path, "--directory", tmp_path, "--until", "train"]
    code, output = generic(*options, "--latency-wait", "0", "--retries", "0", check=False)
    assert code != 0 and "Missing files after 0 seconds" in output
    while (tmp_path / "results/runs.hidden").exists():
        time.sleep(0.1)
    shutil.rmtree(tmp_path / "results/runs")
    generic(*options)
    assert len(run_files(tmp_path)) == 1


def test_generic_profile_makes_a_dry_run(tmp_path):
    output = generic("-n", "--directory", tmp_path)
    assert trained(output) == 18


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_paths_may_have_spaces_quotes_and_dollars(one_table, tmp_path, absolute):
    """Run a grid with checkout, working directory, sources, config and results in unusual paths.

    No other files are written. Paths in a config have no variables in them: those are expanded.
    """
    odd = 'it\'s "a" $HOME; `x` &'
    in_config = odd.replace("$HOME", "HOME$")
    checkout, work = (tmp_path / f"{name} {odd}" for name in ("checkout", "work {b}"))
    away = tmp_path / f"away {{b}} {in_config}"
    checkout.mkdir()
    for name in ("Snakefile", "workflow", "config", "lora", "envs"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, checkout / name)
    shutil.copytree(Path(one_table["sources"]["tiny"]["locator"]).parent, away)
    sources = {
        name: source | dict(locator=str(away / Path(source["locator"]).name))
        for name, source in one_table["sources"].items()
    }
    results = f"{tmp_path}/results {in_config}" if absolute else f"results {in_config}"
    path = write_config(away, one_table, sources=sources, results=results)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        checkout / "Snakefile",
        "--cores",
        "2",
        "--configfile",
        path,
    ]
    done = subprocess.run([*command, "--directory", work], cwd=away, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    written = work / results
    assert (
        len(list((written / "runs").rglob("metrics.csv"))) == 2
        and (written / "tables/table6.html").exists()
    )
    assert {one.name for one in work.iterdir()} <= {".snakemake", written.name}
    assert {one.name for one in tmp_path.iterdir()} <= {
        checkout.name,
        work.name,
        away.name,
        written.name,
    }
    again = subprocess.run(
        [*command, "--directory", work], cwd=away, capture_output=True, text=True
    )
    assert "Nothing to be done" in again.stdout + again.stderr


def test_paths_with_braces_are_refused(tmp_path):
    path = write_config(tmp_path, dict(results="my {results}"))
    code, output = snakemake("-n", "--configfile", path, "--directory", tmp_path, check=False)
    assert code != 0 and "results: got 'my {results}'; allowed: a folder's path" in output
    checkout = tmp_path / "{checkout}"
    checkout.symlink_to(ROOT)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        checkout / "Snakefile",
        "-n",
        "--directory",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode != 0
        and "reads braces as wildcards. Move it to another folder" in done.stdout + done.stderr
    )
