"""What goes wrong on a cluster: each disturbance strikes a training job in its midst, in a grid of one job."""

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

AWAY_S = 8  # that a daemon is away
GONE_S = (
    25  # that a node is; Slurm takes jobs that it started in the last 20 s to be starting still
)
AWAY = threading.Lock()  # one daemon at a time
JOB = dict(ranks=[2], device="cpu")  # one job, which asks for no GPU, so that many fit


@contextlib.contextmanager
def _training(grid: Grid, folder: Path, *options: str) -> Iterator[tuple]:
    """(Snakemake, its training process, the Slurm job), the training stopped until `_go_on`."""
    with grid.started(folder, *SMALL, *options, **JOB) as snakemake:
        yield snakemake, *grid.first_training(folder)


def _go_on(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def _whole(grid: Grid, folder: Path, struck: bool = True) -> None:
    """The rows are right, and a job that was struck down was taken up from its saved state."""
    grid.check(folder, ranks=[2])
    log = next((folder / "results/logs/train").rglob("train.log")).read_text()
    if struck and not ("goes on after epoch" in log or "is finished already" in log):
        raise Lost(f"the saved state was not taken up: {log}")


def _state(grid: Grid, job: str, *wanted: str) -> str:
    """The job's state, once it is one of these."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        state = grid.cluster.tell(
            "squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"
        ).strip()
        if state in wanted:
            return state
        time.sleep(0.2)
    raise Lost(f"job {job} is {state}, not {' or '.join(wanted)}")


def _same_job(grid: Grid, folder: Path, job: str) -> str:
    """Raise Lost unless it was Slurm that started the job again."""
    if grid.jobs(folder) != [job]:
        raise Lost(f"job {job} was not the only one: {grid.jobs(folder)}")
    restarts = grid.cluster.tell(
        "squeue", "--noheader", "--states=all", "--Format=restartcnt", f"--jobs={job}"
    ).strip()
    if int(restarts) < 1:
        raise Lost(f"job {job} was not started again")
    return "started again by Slurm"


@contextlib.contextmanager
def _away(grid: Grid, name: str) -> Iterator[None]:
    """A daemon is killed, and comes back."""
    with AWAY:
        grid.cluster.kill(name)
        yield
        grid.cluster.start(name)


def _failed(grid: Grid, folder: Path, job: str, state: str) -> str:
    """What Snakemake said of a job that ended in this state; raises Lost where it said nothing."""
    text = (folder / "said.txt").read_text()
    told = f"SLURM-job '{job}' failed, SLURM status is: '{state}'"
    if told not in text:
        raise Lost(f"not a word of {state}: {text[-3000:]}")
    return f"SLURM status is: '{state}'"


def cancelled(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.tell("scancel", job)
        _go_on(process)
        grid.end(snakemake, folder)
    _whole(grid, folder)
    return _failed(grid, folder, job, "CANCELLED")


def cancelled_for_good(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder, "--retries", "0") as (snakemake, process, job):
        grid.cluster.tell("scancel", job)
        _go_on(process)
        grid.end(snakemake, folder, status=1)
    said = _failed(grid, folder, job, "CANCELLED")
    grid.run(folder, *SMALL, **JOB)
    _whole(grid, folder)
    return said


def requeued(grid: Grid, random: Random, folder: Path) -> str:
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.tell("scontrol", "requeue", job)
        _go_on(process)
        grid.end(snakemake, folder)
    _whole(grid, folder)
    return _same_job(grid, folder, job)


def preempted(grid: Grid, random: Random, folder: Path) -> str:
    """A job of a higher partition takes the whole node."""
    with _training(grid, folder) as (snakemake, process, job):
        urgent = grid.cluster.tell("sbatch", "--parsable", "--partition=urgent", "--exclusive", "--mem=100",
                                   "--output=/dev/null", "--wrap=sleep 1").strip()  # fmt: skip
        _state(grid, job, "PREEMPTED", "COMPLETING", "PENDING")
        _go_on(process)
        grid.end(snakemake, folder)
        _state(grid, urgent, "COMPLETED")
    _whole(grid, folder)
    return _same_job(grid, folder, job)


def out_of_time(grid: Grid, random: Random, folder: Path) -> str:
    """The job stands still until its time limit, one minute; the next try has two."""
    with _training(grid, folder) as (snakemake, process, job):
        _state(grid, job, "TIMEOUT", "COMPLETING")
        _go_on(process)
        grid.end(snakemake, folder)
        last = grid.jobs(folder)[-1]
        limit = grid.cluster.tell(
            "squeue", "--noheader", "--states=all", "--format=%l", f"--jobs={last}"
        ).strip()
    if limit != "2:00":
        raise Lost(f"the second try had {limit}")
    _whole(grid, folder)
    return f"{_failed(grid, folder, job, 'TIMEOUT')}; the second try had {limit} minutes"


def out_of_memory(grid: Grid, random: Random, folder: Path) -> str:
    """The first try has too little for its imports: Slurm ends the step, by which the job fails; the second has more."""
    grid.run(
        folder,
        "--set-resources",
        "train:mem_mb=400 if attempt == 1 else 1500",
        "train:runtime=10",
        **JOB,
    )
    _whole(grid, folder, struck=False)
    first, _ = grid.jobs(folder)
    log = next((folder / "results/logs/slurm").rglob(f"{first}.log")).read_text()
    if f"StepId={first}.0 exceeded memory limit" not in log:
        raise Lost("it was not for lack of memory that the first try failed")
    return _failed(grid, folder, first, "FAILED")


def daemon_killed(grid: Grid, random: Random, folder: Path, daemon: str) -> str:
    """A daemon of Slurm alone: jobs run on."""
    with _training(grid, folder) as (snakemake, process, _):
        with _away(grid, daemon):
            _go_on(process)
            time.sleep(AWAY_S)
        grid.end(snakemake, folder)
    _whole(grid, folder, struck=False)
    return ""


def node_lost(grid: Grid, random: Random, folder: Path) -> str:
    """slurmd and all of the node's jobs, as when it loses power; it comes back."""
    with _training(grid, folder, "--set-resources", "train:mem_mb=1500", "train:runtime=20") as (
        snakemake,
        process,
        job,
    ):
        with _away(grid, "slurmd"):
            for one in grid.of_job(job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(GONE_S)
            if trainings(folder):
                raise Lost("the training outlived its node")
        grid.end(snakemake, folder)
    _whole(grid, folder)
    return _same_job(grid, folder, job)


def database_away(grid: Grid, random: Random, folder: Path) -> str:
    """slurmdbd is away before the job ends and comes back when it has ended; jobs are asked after by squeue."""
    with _training(grid, folder) as (snakemake, process, _), _away(grid, "slurmdbd"):
        _go_on(process)
        grid.end(snakemake, folder)
    _whole(grid, folder, struck=False)
    return "Snakemake ended while it was away"


def database_away_sacct(grid: Grid, random: Random, folder: Path) -> str:
    """The same where sacct is asked: the end is seen when slurmdbd is there again."""
    with _training(grid, folder, "--slurm-status-command", "sacct") as (snakemake, process, job):
        with _away(grid, "slurmdbd"):
            _go_on(process)
            _state(grid, job, "COMPLETED")
            time.sleep(AWAY_S)
        grid.end(snakemake, folder)
    _whole(grid, folder, struck=False)
    return ""


def snakemake_killed(grid: Grid, random: Random, folder: Path) -> str:
    """kill -9 of Snakemake; its job runs on, and so does a second one beside it, started after --unlock."""
    with _training(grid, folder) as (snakemake, process, job):
        snakemake.kill()
        snakemake.wait()
        _go_on(process)
        grid.run(folder, "--unlock", **JOB)
        grid.run(folder, *SMALL, **JOB)
        _state(grid, job, "COMPLETED")
    _whole(grid, folder, struck=False)
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
    "kill -9 of slurmdbd, away until the grid is done": database_away,
    "kill -9 of slurmdbd, jobs asked after by sacct": database_away_sacct,
    "kill -9 of Snakemake, its job runs on": snakemake_killed,
}
