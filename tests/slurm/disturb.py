"""Disturbances of a cluster, each during the training of a grid with one job."""

import contextlib
import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from faults.job import Lost
from slurm.grid import LIMIT_S, SMALL_JOBS, Grid, trainings

DAEMON_DOWN_S = 8
SAVES_AFTER_S = 41  # a job of one minute saves and stops 40 s after its training began
NODE_DOWN_S = 25  # Slurm counts jobs that it started in the last 20 s as still starting
DAEMON_LOCK = threading.Lock()  # one daemon at a time
ONE_JOB = dict(ranks=[2], device="cpu")  # one job without a GPU, so that many fit


@contextlib.contextmanager
def _training(
    grid: Grid, folder: Path, *options: str
) -> Iterator[tuple[subprocess.Popen, int, str]]:
    """Yield (Snakemake, training process, Slurm job); the training is stopped until `_resume`."""
    with grid.started(folder, *SMALL_JOBS, *options, **ONE_JOB) as snakemake:
        yield snakemake, *grid.stop_first_training(folder)


def _resume(process: int) -> None:
    """Let a stopped training continue (SIGCONT), if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def _check(grid: Grid, folder: Path, interrupted: bool = True) -> None:
    """Check the outputs, and that an interrupted job was resumed from its saved state."""
    grid.check(folder, ranks=[2])
    log = next((folder / "results/logs/train").rglob("train.log")).read_text()
    if interrupted and not ("resumes after epoch" in log or "is finished: outputs written" in log):
        raise Lost(f"the saved state was not resumed: {log}")


def _squeue(grid: Grid, job: str, columns: str) -> str:
    """Return columns of a job from squeue."""
    return grid.cluster.query(
        "squeue", "--noheader", "--states=all", columns, f"--jobs={job}"
    ).strip()


def _wait_for_state(grid: Grid, job: str, *states: str) -> str:
    """Wait until the job's state is one of these, and return it."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        state = _squeue(grid, job, "--format=%T")
        if state in states:
            return state
        time.sleep(0.2)
    raise Lost(f"job {job} is {state}, not {' or '.join(states)}")


def _check_requeued(grid: Grid, folder: Path, job: str) -> str:
    """Raise Lost unless the grid had one job, and Slurm itself started it again."""
    if grid.jobs(folder) != [job]:
        raise Lost(f"job {job} was not the only one: {grid.jobs(folder)}")
    if int(_squeue(grid, job, "--Format=restartcnt")) < 1:
        raise Lost(f"job {job} was not started again")
    return "started again by Slurm"


@contextlib.contextmanager
def _daemon_down(grid: Grid, name: str) -> Iterator[None]:
    """Kill a daemon, and start it again at the end of the block."""
    with DAEMON_LOCK:
        grid.cluster.kill(name)
        yield
        grid.cluster.start(name)


def _failure_message(folder: Path, job: str, state: str) -> str:
    """Return the end of Snakemake's message about a job that failed in this state.

    Raises:
        Lost: If there is no such message.
    """
    text = (folder / "output.txt").read_text()
    message = f"SLURM status is: '{state}'"
    if f"SLURM-job '{job}' failed, {message}" not in text:
        raise Lost(f"no message about {state}: {text[-3000:]}")
    return message


def cancel(grid: Grid, random: Random, folder: Path) -> str:
    """Cancel the job; Snakemake submits it again."""
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.query("scancel", job)
        _resume(process)
        grid.wait(snakemake, folder)
    _check(grid, folder)
    return _failure_message(folder, job, "CANCELLED")


def cancel_without_retries(grid: Grid, random: Random, folder: Path) -> str:
    """Cancel the job: Snakemake fails, and the same command resumes the training."""
    with _training(grid, folder, "--retries", "0") as (snakemake, process, job):
        grid.cluster.query("scancel", job)
        _resume(process)
        grid.wait(snakemake, folder, status=1)
    message = _failure_message(folder, job, "CANCELLED")
    grid.run(folder, *SMALL_JOBS, **ONE_JOB)
    _check(grid, folder)
    return message


def requeue(grid: Grid, random: Random, folder: Path) -> str:
    """Requeue the job: Slurm starts it again."""
    with _training(grid, folder) as (snakemake, process, job):
        grid.cluster.query("scontrol", "requeue", job)
        _resume(process)
        grid.wait(snakemake, folder)
    _check(grid, folder)
    return _check_requeued(grid, folder, job)


def preempt(grid: Grid, random: Random, folder: Path) -> str:
    """Submit a job of a higher partition that needs the whole node."""
    with _training(grid, folder) as (snakemake, process, job):
        options = ["--parsable", "--partition=urgent", "--exclusive", "--mem=100"]
        urgent = grid.cluster.query(
            "sbatch", *options, "--output=/dev/null", "--wrap=sleep 1"
        ).strip()
        _wait_for_state(grid, job, "PREEMPTED", "COMPLETING", "PENDING")
        _resume(process)
        grid.wait(snakemake, folder)
        _wait_for_state(grid, urgent, "COMPLETED")
    _check(grid, folder)
    return _check_requeued(grid, folder, job)


def exceed_time_limit(grid: Grid, random: Random, folder: Path) -> str:
    """Stop the job until its time limit of one minute; the second attempt has two."""
    with _training(grid, folder) as (snakemake, process, job):
        _wait_for_state(grid, job, "TIMEOUT", "COMPLETING")
        _resume(process)
        grid.wait(snakemake, folder)
        limit = _squeue(grid, grid.jobs(folder)[-1], "--format=%l")
    if limit != "2:00":
        raise Lost(f"the second attempt had {limit}")
    _check(grid, folder)
    message = _failure_message(folder, job, "TIMEOUT")
    return f"{message}; the second attempt had {limit} minutes"


def exceed_max_runtime(grid: Grid, random: Random, folder: Path) -> str:
    """With `max_runtime: 1`, two attempts are held until they must stop; the third one ends."""
    options = ("--set-resources", "train:mem_mb=1500")
    found = []
    with grid.started(folder, *options, max_runtime=1, **ONE_JOB) as snakemake:
        for _ in range(2):
            _wait_for_training(grid, folder, len(found) + 1)
            process, job = grid.stop_first_training(folder)
            found.append((job, _squeue(grid, job, "--format=%l")))
            time.sleep(SAVES_AFTER_S)
            _resume(process)
        grid.wait(snakemake, folder)
        found.append((grid.jobs(folder)[-1], _squeue(grid, grid.jobs(folder)[-1], "--format=%l")))
    if [limit for _, limit in found] != ["1:00"] * 3 or len(grid.jobs(folder)) != 3:
        raise Lost(f"jobs and their time limits: {found}, all jobs {grid.jobs(folder)}")
    _check(grid, folder)
    messages = {_failure_message(folder, job, "FAILED") for job, _ in found[:2]}
    return f"{messages.pop()} after 1 minute, twice; the third attempt ended"


def _wait_for_training(grid: Grid, folder: Path, attempt: int) -> None:
    """Wait until the job of this attempt is in its training loop."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        text = ""
        with contextlib.suppress(OSError):  # Snakemake deletes the log of the attempt before
            text = "".join(
                log.read_text() for log in (folder / "results/logs/train").rglob("train.log")
            )
        if len(grid.jobs(folder)) == attempt and trainings(folder) and "in lock-step" in text:
            return
        time.sleep(0.02)
    raise Lost(f"attempt {attempt} does not train: {grid.output(folder)}")


def exceed_memory(grid: Grid, random: Random, folder: Path) -> str:
    """The first attempt has too little memory for its imports and fails; the second has more."""
    memory = "train:mem_mb=400 if attempt == 1 else 1500"
    grid.run(folder, "--set-resources", memory, "train:runtime=10", **ONE_JOB)
    _check(grid, folder, interrupted=False)
    first, _ = grid.jobs(folder)
    log = next((folder / "results/logs/slurm").rglob(f"{first}.log")).read_text()
    if f"StepId={first}.0 exceeded memory limit" not in log:
        raise Lost("the first attempt did not fail for lack of memory")
    return _failure_message(folder, first, "FAILED")


def kill_daemon(grid: Grid, random: Random, folder: Path, daemon: str) -> str:
    """Kill a daemon of Slurm, and start it again later: jobs continue."""
    with _training(grid, folder) as (snakemake, process, _):
        with _daemon_down(grid, daemon):
            _resume(process)
            time.sleep(DAEMON_DOWN_S)
        grid.wait(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return ""


def kill_node(grid: Grid, random: Random, folder: Path) -> str:
    """Kill slurmd and all processes of the job, as in a power failure; then start slurmd again."""
    options = ("--set-resources", "train:mem_mb=1500", "train:runtime=20")
    with _training(grid, folder, *options) as (snakemake, _, job):
        with _daemon_down(grid, "slurmd"):
            for process in grid.processes_of_job(job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(NODE_DOWN_S)
            if trainings(folder):
                raise Lost("the training outlived its node")
        grid.wait(snakemake, folder)
    _check(grid, folder)
    return _check_requeued(grid, folder, job)


def kill_accounting(grid: Grid, random: Random, folder: Path) -> str:
    """Stop slurmdbd from before the end of the job until after it; squeue gives job states."""
    with _training(grid, folder) as (snakemake, process, _), _daemon_down(grid, "slurmdbd"):
        _resume(process)
        grid.wait(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return "Snakemake ended while it was stopped"


def kill_accounting_with_sacct(grid: Grid, random: Random, folder: Path) -> str:
    """The same with job states from sacct: Snakemake sees the end when slurmdbd is back."""
    with _training(grid, folder, "--slurm-status-command", "sacct") as (snakemake, process, job):
        with _daemon_down(grid, "slurmdbd"):
            _resume(process)
            _wait_for_state(grid, job, "COMPLETED")
            time.sleep(DAEMON_DOWN_S)
        grid.wait(snakemake, folder)
    _check(grid, folder, interrupted=False)
    return ""


def kill_snakemake(grid: Grid, random: Random, folder: Path) -> str:
    """Kill Snakemake: its job continues, while a second one is started after --unlock."""
    with _training(grid, folder) as (snakemake, process, job):
        snakemake.kill()
        snakemake.wait()
        _resume(process)
        grid.run(folder, "--unlock", **ONE_JOB)
        grid.run(folder, *SMALL_JOBS, **ONE_JOB)
        _wait_for_state(grid, job, "COMPLETED")
    _check(grid, folder, interrupted=False)
    return ""


Disturbance = Callable[[Grid, Random, Path], str]
DISTURBANCES: dict[str, Disturbance] = {
    "scancel of a training job; retried": cancel,
    "scancel, no retries; the same command again": cancel_without_retries,
    "scontrol requeue": requeue,
    "preempted by a higher partition (PreemptMode=REQUEUE)": preempt,
    "TIMEOUT after one minute": exceed_time_limit,
    "max_runtime of one minute, shorter than a run": exceed_max_runtime,
    "out of memory at 400 MB": exceed_memory,
    "kill -9 of slurmd, back after 8 s": functools.partial(kill_daemon, daemon="slurmd"),
    "kill -9 of slurmd and all of its job's processes (a node lost), back after 25 s": kill_node,
    "kill -9 of slurmctld, back after 8 s": functools.partial(kill_daemon, daemon="slurmctld"),
    "kill -9 of slurmdbd, stopped until the grid is done": kill_accounting,
    "kill -9 of slurmdbd, job states from sacct": kill_accounting_with_sacct,
    "kill -9 of Snakemake, its job continues": kill_snakemake,
}
