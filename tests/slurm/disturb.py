"""Disturbances of a cluster: each one hits the running training of a grid with one job."""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from faults.bench import Lost
from slurm.grid import LIMIT_S, SMALL, Grid, trainings

DAEMON_S = 8  # how long a daemon is stopped
# How long a node is down. Slurm counts jobs that it started in the last 20 s as still starting.
NODE_S = 25
DAEMON_LOCK = threading.Lock()  # one daemon at a time
JOB = dict(ranks=[2], device="cpu")  # one job without a GPU, so that many fit


@contextlib.contextmanager
def _training(grid: Grid, folder: Path, *options: str) -> Iterator[tuple]:
    """Yield (Snakemake, training process, Slurm job); the training is stopped until `_resume`."""
    with grid.started(folder, *SMALL, *options, **JOB) as snakemake:
        yield snakemake, *grid.first_training(folder)


def _resume(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def _check(grid: Grid, folder: Path, interrupted: bool = True) -> None:
    """Check the rows, and that an interrupted job was resumed from its saved state."""
    grid.check(folder, ranks=[2])
    log = next((folder / "results/logs/train").rglob("train.log")).read_text()
    if interrupted and not ("resumes after epoch" in log or "is finished: outputs written" in log):
        raise Lost(f"the saved state was not resumed: {log}")


def _state(grid: Grid, job: str, *wanted: str) -> str:
    """Wait until the job's state is one of these, and return it."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        state = grid.cluster.query(
            "squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"
        ).strip()
        if state in wanted:
            return state
        time.sleep(0.2)
    raise Lost(f"job {job} is {state}, not {' or '.join(wanted)}")


def _same_job(grid: Grid, folder: Path, job: str) -> str:
    """Raise Lost unless Slurm itself started the job again."""
    if grid.jobs(folder) != [job]:
        raise Lost(f"job {job} was not the only one: {grid.jobs(folder)}")
    restarts = grid.cluster.query(
        "squeue", "--noheader", "--states=all", "--Format=restartcnt", f"--jobs={job}"
    ).strip()
    if int(restarts) < 1:
        raise Lost(f"job {job} was not started again")
    return "started again by Slurm"


@contextlib.contextmanager
def _stopped(grid: Grid, name: str) -> Iterator[None]:
    """Kill a daemon, and start it again at the end of the block."""
    with DAEMON_LOCK:
        grid.cluster.kill(name)
        yield
        grid.cluster.start(name)


def _failed(grid: Grid, folder: Path, job: str, state: str) -> str:
    """Return Snakemake's message about a job that ended in this state; raise Lost if none."""
    text = (folder / "output.txt").read_text()
    failure = f"SLURM-job '{job}' failed, SLURM status is: '{state}'"
    if failure not in text:
        raise Lost(f"no message about {state}: {text[-3000:]}")
    return f"SLURM status is: '{state}'"


def cancelled(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.query("scancel", job)
        _resume(process)
        grid.end(snakemake, folder)
    _check(grid, folder)
    return _failed(grid, folder, job, "CANCELLED")


def cancelled_for_good(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder, "--retries", "0") as (snakemake, process, job):
        grid.cluster.query("scancel", job)
        _resume(process)
        grid.end(snakemake, folder, status=1)
    output = _failed(grid, folder, job, "CANCELLED")
    grid.run(folder, *SMALL, **JOB)
    _check(grid, folder)
    return output


def requeued(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.query("scontrol", "requeue", job)
        _resume(process)
        grid.end(snakemake, folder)
    _check(grid, folder)
    return _same_job(grid, folder, job)


def preempted(grid: Grid, random: Random, folder: Path) -> str:
    """A job of a higher partition takes the expected node."""
    with _training(grid, folder) as (snakemake, process, job):
        options = ["--parsable", "--partition=urgent", "--exclusive", "--mem=100"]
        urgent = grid.cluster.query(
            "sbatch", *options, "--output=/dev/null", "--wrap=sleep 1"
        ).strip()
        _state(grid, job, "PREEMPTED", "COMPLETING", "PENDING")
        _resume(process)
        grid.end(snakemake, folder)
        _state(grid, urgent, "COMPLETED")
    _check(grid, folder)
    return _same_job(grid, folder, job)


def out_of_time(grid: Grid, random: Random, folder: Path) -> str:
    """The job is stopped until its time limit of one minute; the second attempt has two."""
    with _training(grid, folder) as (snakemake, process, job):
        _state(grid, job, "TIMEOUT", "COMPLETING")
        _resume(process)
        grid.end(snakemake, folder)
        last = grid.jobs(folder)[-1]
        limit = grid.cluster.query(
            "squeue", "--noheader", "--states=all", "--format=%l", f"--jobs={last}"
        ).strip()
    if limit != "2:00":
        raise Lost(f"the second attempt had {limit}")
    _check(grid, folder)
    return f"{_failed(grid, folder, job, 'TIMEOUT')}; the second attempt had {limit} minutes"


def out_of_memory(grid: Grid, random: Random, folder: Path) -> str:
    """The first attempt has too little memory for its imports and fails; the second has more."""
    grid.run(
        folder,
        "--set-resources",
        "train:mem_mb=400 if attempt == 1 else 1500",
        "train:runtime=10",
        **JOB,
    )
    _check(grid, folder, interrupted=False)
    first, _ = grid.jobs(folder)
    log = next((folder / "results/logs/slurm").rglob(f"{first}.log")).read_text()
    if f"StepId={first}.0 exceeded memory limit" not in log:
        raise Lost("the first attempt did not fail for lack of memory")
    return _failed(grid, folder, first, "FAILED")


def daemon_killed(grid: Grid, random: Random, folder: Path, daemon: str) -> str:
    """Kill a daemon of Slurm alone: jobs continue."""
    with _training(grid, folder) as (snakemake, process, _):
        with _stopped(grid, daemon):
            _resume(process)
            time.sleep(DAEMON_S)
        grid.end(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return ""


def node_lost(grid: Grid, random: Random, folder: Path) -> str:
    """Kill slurmd and all jobs of the node, as in a power failure; then start it again."""
    with _training(grid, folder, "--set-resources", "train:mem_mb=1500", "train:runtime=20") as (
        snakemake,
        process,
        job,
    ):
        with _stopped(grid, "slurmd"):
            for one in grid.of_job(job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(NODE_S)
            if trainings(folder):
                raise Lost("the training outlived its node")
        grid.end(snakemake, folder)
    _check(grid, folder)
    return _same_job(grid, folder, job)


def database_away(grid: Grid, random: Random, folder: Path) -> str:
    """Stop slurmdbd from before the end of the job until after it; squeue gives job states."""
    with _training(grid, folder) as (snakemake, process, _), _stopped(grid, "slurmdbd"):
        _resume(process)
        grid.end(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return "Snakemake ended while it was stopped"


def database_away_sacct(grid: Grid, random: Random, folder: Path) -> str:
    """The same with sacct for job states: the end is seen when slurmdbd is back."""
    with _training(grid, folder, "--slurm-status-command", "sacct") as (snakemake, process, job):
        with _stopped(grid, "slurmdbd"):
            _resume(process)
            _state(grid, job, "COMPLETED")
            time.sleep(DAEMON_S)
        grid.end(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return ""


def snakemake_killed(grid: Grid, random: Random, folder: Path) -> str:
    """Kill Snakemake: its job continues, next to a second one that is started after --unlock."""
    with _training(grid, folder) as (snakemake, process, job):
        snakemake.kill()
        snakemake.wait()
        _resume(process)
        grid.run(folder, "--unlock", **JOB)
        grid.run(folder, *SMALL, **JOB)
        _state(grid, job, "COMPLETED")
    _check(grid, folder, interrupted=False)
    return ""


DISTURBANCES = {
    "scancel of a training job; retried": cancelled,
    "scancel, no retries; the same command again": cancelled_for_good,
    "scontrol requeue": requeued,
    "preempted by a higher partition (PreemptMode=REQUEUE)": preempted,
    "TIMEOUT after one minute": out_of_time,
    "out of memory at 400 MB": out_of_memory,
    "kill -9 of slurmd, back after 8 s": functools.partial(daemon_killed, daemon="slurmd"),
    "kill -9 of slurmd and all of its job's processes (a node lost), back after 25 s": node_lost,
    "kill -9 of slurmctld, back after 8 s": functools.partial(daemon_killed, daemon="slurmctld"),
    "kill -9 of slurmdbd, stopped until the grid is done": database_away,
    "kill -9 of slurmdbd, job states from sacct": database_away_sacct,
    "kill -9 of Snakemake, its job continues": snakemake_killed,
}
