"""Faults of Snakemake: it is killed, started twice, or deletes outputs before a job that fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import yaml
from faults.bench import Outputs
from faults.job import LIMIT_S, Lost
from helpers.models import ROOT, make_glue, make_model, make_tokenizer

EPOCHS = 20  # a few seconds of training


class Workflow:
    """A grid of one cell and two seeds.

    Attributes:
        folder: Folder with the model, the data and the folders of the grids.
        base: Folder of an undisturbed grid.
        expected: Outputs of that grid.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        make_tokenizer(make_model("bert", folder / "tiny"))
        make_glue(folder / "glue")
        self.base = folder / "base"
        self.snakemake(self.base)
        self.expected = runs_of(self.base)

    def new_folder(self, name: str) -> Path:
        """Return a new folder with sources and tokens, but no runs."""
        folder = self.folder / name
        shutil.copytree(self.base, folder, ignore=shutil.ignore_patterns("runs", "state", "logs"))
        return folder

    def command(self, folder: Path, *options: str, seeds: Sequence[int] = (0, 1)) -> list[str]:
        """Return the Snakemake command that trains these seeds in a folder."""
        folder.mkdir(exist_ok=True)
        config = dict(
            protocol="course",
            seeds=list(seeds),
            device="cpu",
            precision="fp32",
            threads=1,
            checkpoint_every_s=0.2,
            overrides=dict(max_tokens=20, epochs=EPOCHS, learning_rate=3e-3, alpha="2r"),
            sources={
                "tiny": dict(role="model", kind="file", locator=str(self.folder / "tiny")),
                "glue-sst2": dict(kind="file", locator=str(self.folder / "glue")),
            },
            tables=dict(
                table2=dict(
                    models=["tiny"], tasks=["sst2"], method="lora", weights=["qv"], ranks=[2]
                ),
                table6=None,
            ),
        )
        path = folder / f"seeds{len(seeds)}.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1"]
        return [
            *command,
            "--until",
            "train",
            "--configfile",
            str(path),
            "--directory",
            str(folder),
            *options,
        ]

    def start(self, folder: Path, *options: str, **config: Sequence[int]) -> subprocess.Popen:
        """Start Snakemake; its arguments are those of `command`."""
        return subprocess.Popen(
            self.command(folder, *options, **config),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(OMP_NUM_THREADS="1"),
        )

    def snakemake(
        self, folder: Path, *options: str, status: int = 0, **config: Sequence[int]
    ) -> str:
        """Run Snakemake and return its output; raise Lost unless it ends with this status."""
        with self.start(folder, *options, **config) as process:
            output = _output_of(process)
        if process.returncode != status:
            raise Lost(f"snakemake ended with status {process.returncode}: {output[-3000:]}")
        return output

    def check(self, folder: Path) -> None:
        """Raise Lost if an output of the undisturbed grid is missing or differs."""
        found = runs_of(folder)
        names = sorted(name for name in self.expected if found.get(name) != self.expected[name])
        if names:
            raise Lost(f"not the undisturbed outputs: {', '.join(names)}")


def runs_of(folder: Path) -> Outputs:
    """Return metrics.csv and adapter of each run, by path."""
    names = ("metrics.csv", "adapter_model.safetensors")
    paths = [path for path in (folder / "results/runs").rglob("*") if path.name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


@contextmanager
def _running(workflow: Workflow, random: Random, folder: Path) -> Iterator[subprocess.Popen]:
    """Yield a Snakemake some time after its job first saved state.

    The job is stopped (SIGSTOP), so it is unfinished on any machine.
    """
    with workflow.start(folder) as process:
        try:
            until = time.monotonic() + LIMIT_S
            while not any((folder / "results/state").glob("*/state.json")):
                if process.poll() is not None or time.monotonic() > until:
                    raise Lost(f"no job is running: {_output_of(process)[-3000:]}")
                time.sleep(0.02)
            time.sleep(random.random() / 2)
            if not _jobs(folder):
                raise Lost("the job ended before it could be disturbed")
            _send_signal(folder, signal.SIGSTOP)
            yield process
        finally:
            process.kill()
            _send_signal(folder, signal.SIGKILL)


def _send_signal(folder: Path, number: int) -> None:
    """Send a signal to the training processes of a folder."""
    for job in _jobs(folder):
        os.kill(job, number)


def _output_of(process: subprocess.Popen) -> str:
    """Wait for a Snakemake, and return its output; raise Lost after LIMIT_S."""
    try:
        return process.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise Lost(f"snakemake hung for {LIMIT_S} s") from None


def _jobs(folder: Path) -> list[int]:
    """Return the training processes that run in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if (
                b"train" in words
                and b"-m" in words
                and os.readlink(path.parent / "cwd") == str(folder)
            ):
                found.append(int(path.parent.name))
        except OSError:  # the process has ended
            continue
    return found


def _start_second(workflow: Workflow, folder: Path) -> str:
    """Start a second Snakemake, which is refused, and return its message about the lock."""
    output = workflow.snakemake(folder, status=1)
    lines = [line for line in output.splitlines() if "cannot be locked" in line]
    if not lines:
        raise Lost(f"no message about a lock: {output[-3000:]}")
    return lines[0].strip()


def kill_snakemake(workflow: Workflow, random: Random, folder: Path) -> str:
    """Kill Snakemake alone: its job continues, and the lock refuses a second Snakemake.

    After --unlock, that one starts the job again while the first is still running.
    """
    with _running(workflow, random, folder) as process:
        process.kill()
        process.wait()
        if not _jobs(folder):
            raise Lost("the job ended with its Snakemake")
        message = _start_second(workflow, folder)
        workflow.snakemake(folder, "--unlock")
        _send_signal(folder, signal.SIGCONT)
        workflow.snakemake(folder, "--rerun-incomplete")
        until = time.monotonic() + LIMIT_S
        while _jobs(folder) and time.monotonic() < until:
            time.sleep(0.05)
    workflow.check(folder)
    return message


def kill_snakemake_and_job(workflow: Workflow, random: Random, folder: Path) -> str:
    """Kill Snakemake and its job, as when a machine fails."""
    with _running(workflow, random, folder):
        pass
    workflow.snakemake(folder, "--unlock")
    workflow.snakemake(folder, "--rerun-incomplete")
    workflow.check(folder)
    if not any(
        "resumes after epoch" in path.read_text()
        for path in (folder / "results/logs").rglob("train.log")
    ):
        raise Lost("the saved state was not resumed")
    return ""


def start_twice(workflow: Workflow, random: Random, folder: Path) -> str:
    """Start a second Snakemake: it is refused, and the first one succeeds."""
    with _running(workflow, random, folder) as first:
        message = _start_second(workflow, folder)
        _send_signal(folder, signal.SIGCONT)
        output = _output_of(first)
        if first.returncode:
            raise Lost(
                f"the first Snakemake ended with status {first.returncode}: {output[-3000:]}"
            )
    workflow.check(folder)
    return message


def add_failing_seed(workflow: Workflow, random: Random, folder: Path) -> str:
    """Add a seed whose training fails.

    Snakemake deletes the outputs of the finished seeds before the job, and again when the job fails
    on damaged tokens. Without the new seed, and later with the tokens restored, the finished runs
    are written from saved state and not trained again.
    """
    workflow.snakemake(folder)
    tokens = next((folder / "results/tokens").rglob("tokens.safetensors"))
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    workflow.snakemake(folder, seeds=(0, 1, 2), status=1)
    log = next((folder / "results/logs/train").rglob("train.log"))
    message = log.read_text().rpartition("lora train: ")[2].strip()
    workflow.snakemake(folder)
    workflow.check(folder)
    if log.read_text().count("is finished: outputs written") != 2:
        raise Lost("finished runs were trained again")
    tokens.write_bytes(content)
    workflow.snakemake(folder, seeds=(0, 1, 2))
    workflow.check(folder)
    if "1 runs in lock-step" not in log.read_text():
        raise Lost("more than the new seed was trained")
    return message


WORKFLOW_FAULTS: dict[str, Callable[[Workflow, Random, Path], str]] = {
    "kill -9 of Snakemake, its job continues": kill_snakemake,
    "kill -9 of Snakemake and its job": kill_snakemake_and_job,
    "two Snakemakes on one directory": start_twice,
    "a seed added, whose training fails": add_failing_seed,
}
