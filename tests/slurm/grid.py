"""A small grid: its outputs without Slurm, and Snakemake commands that run it on a cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from faults.bench import Outputs, check_equal
from faults.job import Lost
from helpers.models import ROOT, make_glue, make_model, make_tokenizer
from slurm.cluster import Cluster

LIMIT_S = 900  # far more than such a grid takes
EPOCHS = 60  # enough to be interrupted during training
PROFILE = ROOT / "workflow/profiles/slurm"
FAST_POLLING = ["--slurm-init-seconds-before-status-checks", "2"]  # from submission to first query
# Little memory, so that many jobs fit, and a time limit that grows with each attempt.
SMALL_JOBS = ["--set-resources", "train:mem_mb=1500", "train:runtime=attempt"]


class Grid:
    """Two cells of two seeds, in two jobs.

    Attributes:
        folder: Folder with the model, the data and the folders of the grids.
        cluster: The cluster on which they run.
        base: Folder of an undisturbed grid without Slurm.
        expected: Outputs of that grid.
    """

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster
        make_tokenizer(make_model("bert", folder / "tiny"))
        make_glue(folder / "glue")
        self.base = self.folder / "base"
        command = [*self.command(self.base, tables=True), "--cores", "2"]
        subprocess.run(
            command,
            cwd=ROOT,
            check=True,
            env=os.environ | dict(OMP_NUM_THREADS="1"),
            capture_output=True,
        )
        self.expected = outputs(self.base / "results")

    def new_folder(self, name: str) -> Path:
        """Return a new folder with sources and tokens, but no runs."""
        folder = self.folder / name
        shutil.copytree(
            self.base,
            folder,
            ignore=shutil.ignore_patterns("runs", "state", "logs", "tables", "figures"),
        )
        return folder

    def command(
        self, folder: Path, tables: bool, ranks: Sequence[int] = (1, 2), **changes: object
    ) -> list[str]:
        """Return the Snakemake command of a grid.

        Args:
            folder: Folder of the grid.
            tables: Whether to make the table, or only to train.
            ranks: Ranks of the cells.
            changes: Other values in the config.
        """
        folder.mkdir(exist_ok=True)
        table = dict(
            models=["tiny"], tasks=["sst2"], method="lora", weights=["qv"], ranks=list(ranks)
        )
        config = dict(
            protocol="course",
            seeds=[0, 1],
            device="auto",
            precision="fp32",
            threads=1,
            checkpoint_every_s=0.2,
            overrides=dict(max_tokens=20, epochs=EPOCHS, learning_rate=3e-3, alpha="2r"),
            sources={
                "tiny": dict(role="model", kind="file", locator=str(self.folder / "tiny")),
                "glue-sst2": dict(kind="file", locator=str(self.folder / "glue")),
            },
            tables=dict(table2=None, table6=table),
        )
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config | changes))
        return [
            *(sys.executable, "-m", "snakemake"),
            *("-s", str(ROOT / "Snakefile")),
            *("--configfile", str(path)),
            *("--directory", str(folder)),
            *(["results/tables/table6.html"] if tables else ["--until", "train"]),
        ]

    @contextlib.contextmanager
    def started(
        self, folder: Path, *options: str, tables: bool = False, **config: object
    ) -> Iterator[subprocess.Popen]:
        """Start a Snakemake on the cluster; kill it and its jobs at the end of the block."""
        command = [
            *self.command(folder, tables, **config),
            *("--profile", str(PROFILE)),
            *FAST_POLLING,
            *options,
        ]
        environment = self.cluster.environment | dict(OMP_NUM_THREADS="1")
        with open(folder / "output.txt", "a") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
                for job in self.jobs(folder):
                    self.cluster.query("scancel", "--signal=KILL", "--full", job)
                    self.cluster.query("scancel", job)

    def wait(self, process: subprocess.Popen, folder: Path, status: int = 0) -> str:
        """Wait for a Snakemake and return its output; raise Lost if its status is another."""
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            queue = self.cluster.query("squeue", "--format=%i %T %r %k")
            raise Lost(f"snakemake hung for {LIMIT_S} s: {self.output(folder)}\n{queue}") from None
        if process.returncode != status:
            raise Lost(f"snakemake ended with status {process.returncode}: {self.output(folder)}")
        return (folder / "output.txt").read_text()

    def run(self, folder: Path, *options: str, status: int = 0, **config) -> str:
        """Run Snakemake on the cluster and return its output; `config` is as for `started`."""
        with self.started(folder, *options, **config) as process:
            return self.wait(process, folder, status)

    def output(self, folder: Path) -> str:
        """Return the end of Snakemake's output."""
        return (folder / "output.txt").read_text()[-3000:]

    def check(self, folder: Path, ranks: Sequence[int] = (1, 2)) -> None:
        """Raise Lost unless rows and adapters equal those of the undisturbed grid."""
        expected = {
            name: content
            for name, content in self.expected.items()
            if any(f"/r{rank}/" in name for rank in ranks)
        }
        check_equal(outputs(folder / "results"), expected)

    def jobs(self, folder: Path) -> list[str]:
        """Return the numbers of the Slurm jobs of a folder, from the output of Snakemake."""
        parts = (folder / "output.txt").read_text().split("SLURM jobid ")
        return [part.split()[0] for part in parts[1:]]

    def stop_first_training(self, folder: Path) -> tuple[int, str]:
        """Stop (SIGSTOP) a training that has saved state, and return (process, Slurm job)."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            for process in trainings(folder):
                if any((folder / "results/state").glob("*/state.json")):
                    os.kill(process, signal.SIGSTOP)
                    return process, _slurm_job(process)
            time.sleep(0.02)
        raise Lost(f"no training is running: {self.output(folder)}")

    def processes_of_job(self, job: str) -> list[int]:
        """Return the processes of a Slurm job, and its slurmstepd."""
        return [
            process
            for process in self.cluster.processes()
            if _slurm_job(process) == job or _is_slurmstepd_of(process, job)
        ]


def outputs(results: Path) -> Outputs:
    """Return metrics.csv and adapter of each run, by path below the results folder."""
    names = ("metrics.csv", "adapter_model.safetensors")
    paths = [path for path in (results / "runs").rglob("*") if path.name in names]
    return {str(path.relative_to(results)): path.read_bytes() for path in sorted(paths)}


def trainings(folder: Path) -> list[int]:
    """Return the training processes that run in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended
            words = (path / "cmdline").read_bytes().split(b"\0")
            if (
                b"train" in words
                and b"-m" in words
                and b"lora" in words
                and os.readlink(path / "cwd") == str(folder)
            ):
                found.append(int(path.name))
    return found


def _slurm_job(process: int) -> str | None:
    """Return the Slurm job of a process, or None."""
    with contextlib.suppress(OSError):  # the process has ended
        for variable in (Path("/proc") / str(process) / "environ").read_bytes().split(b"\0"):
            if variable.startswith(b"SLURM_JOB_ID="):
                return variable.decode().partition("=")[2]
    return None


def _is_slurmstepd_of(process: int, job: str) -> bool:
    """Return whether a process is the slurmstepd of a Slurm job."""
    with contextlib.suppress(OSError):
        return f"slurmstepd: [{job}." in (Path("/proc") / str(process) / "cmdline").read_text()
    return False
