"""A small grid over local folders, the rows that a plain local Snakemake gives of it, and Snakemake over a test cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from faults.bench import Lost
from helpers.models import ROOT, make_glue, make_model, make_tokenizer
from slurm.cluster import Cluster

LIMIT_S = 900  # that no grid of this size takes, on any machine
EPOCHS = 60  # enough to be struck in mid-training
PROFILE = ROOT / "workflow/profiles/slurm"
SOON = ["--slurm-init-seconds-before-status-checks", "2"]  # first question after a submission
# What tests ask for: small, so that many fit, and a time limit that grows with the tries.
SMALL = ["--set-resources", "train:mem_mb=1500", "train:runtime=attempt"]


class Grid:
    """Two cells of two seeds, in two jobs; `whole` is what they give without Slurm, undisturbed."""

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
        self.whole = outputs(self.base / "results")

    def new(self, name: str) -> Path:
        """A folder with sources and tokens, and no runs yet."""
        folder = self.folder / name
        shutil.copytree(
            self.base,
            folder,
            ignore=shutil.ignore_patterns("runs", "state", "logs", "tables", "figures"),
        )
        return folder

    def command(self, folder: Path, tables: bool, ranks=(1, 2), **changes) -> list[str]:
        folder.mkdir(exist_ok=True)
        table = dict(
            models=["tiny"], tasks=["sst2"], method="lora", weights=["qv"], ranks=list(ranks)
        )
        config = dict(
            protocol="course", seeds=[0, 1], device="auto", precision="fp32", threads=1, checkpoint_every_s=0.2,
            overrides=dict(max_tokens=20, epochs=EPOCHS, learning_rate=3e-3, alpha="2r"),
            sources={
                "tiny": dict(role="model", kind="file", locator=str(self.folder / "tiny")),
                "glue-sst2": dict(kind="file", locator=str(self.folder / "glue")),
            },
            tables=dict(table2=None, table6=table),
        )  # fmt: skip
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config | changes))
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(ROOT / "Snakefile"),
            "--configfile",
            str(path),
        ]
        wanted = ["results/tables/table6.html"] if tables else ["--until", "train"]
        return [*command, "--directory", str(folder), *wanted]

    @contextlib.contextmanager
    def started(
        self, folder: Path, *options: str, tables=False, soon=True, **config
    ) -> Iterator[subprocess.Popen]:
        """A Snakemake over the cluster, ended with its jobs if the block is left before it."""
        command = [
            *self.command(folder, tables, **config),
            "--profile",
            str(PROFILE),
            *(SOON if soon else []),
            *options,
        ]
        environment = self.cluster.environment | dict(OMP_NUM_THREADS="1")
        with open(folder / "said.txt", "a") as said:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
                for job in self.jobs(folder):
                    self.cluster.tell("scancel", "--signal=KILL", "--full", job)
                    self.cluster.tell("scancel", job)

    def end(self, process: subprocess.Popen, folder: Path, status: int = 0) -> str:
        """What a Snakemake says until its end; raises Lost unless it ends with this status."""
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            queue = self.cluster.tell("squeue", "--format=%i %T %r %k")
            raise Lost(f"snakemake hung for {LIMIT_S} s: {self.said(folder)}\n{queue}") from None
        if process.returncode != status:
            raise Lost(f"snakemake ended with status {process.returncode}: {self.said(folder)}")
        return (folder / "said.txt").read_text()

    def run(self, folder: Path, *options: str, status: int = 0, **config) -> str:
        with self.started(folder, *options, **config) as process:
            return self.end(process, folder, status)

    def said(self, folder: Path) -> str:
        return (folder / "said.txt").read_text()[-3000:]

    def check(self, folder: Path, ranks=(1, 2)) -> None:
        """Raise Lost unless the folder's rows and adapters are those of the grid that nobody disturbed."""
        whole = {
            name: content
            for name, content in self.whole.items()
            if any(f"/r{rank}/" in name for rank in ranks)
        }
        found = outputs(folder / "results")
        differ = sorted(
            name for name in whole.keys() | found.keys() if found.get(name) != whole.get(name)
        )
        if differ:
            raise Lost(f"not as undisturbed: {', '.join(differ)}")

    def jobs(self, folder: Path) -> list[str]:
        """The Slurm jobs submitted from a folder, by number, as Snakemake says."""
        words = (folder / "said.txt").read_text().split("SLURM jobid ")
        return [part.split()[0] for part in words[1:]]

    def first_training(self, folder: Path) -> tuple[int, str]:
        """(process, Slurm job) of a training that has saved state, stopped (SIGSTOP) in its midst."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            for process in trainings(folder):
                if any((folder / "results/state").glob("*/state.json")):
                    os.kill(process, signal.SIGSTOP)
                    return process, _slurm_job(process)
            time.sleep(0.02)
        raise Lost(f"no training is under way: {self.said(folder)}")

    def of_job(self, job: str) -> list[int]:
        """Every process of a Slurm job, and the daemon that watches over it."""
        return [
            process
            for process in self.cluster.processes()
            if _slurm_job(process) == job or _watches(process, job)
        ]


def outputs(results: Path) -> dict[str, bytes]:
    """Rows and adapters, by their place under the folder of results."""
    names = ("metrics.csv", "adapter_model.safetensors")
    paths = [path for path in (results / "runs").rglob("*") if path.name in names]
    return {str(path.relative_to(results)): path.read_bytes() for path in sorted(paths)}


def trainings(folder: Path) -> list[int]:
    """Training processes over a folder, by what the system says of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
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
    """The Slurm job that a process belongs to."""
    with contextlib.suppress(OSError):  # it has ended
        words = (Path("/proc") / str(process) / "environ").read_bytes().split(b"\0")
        return next(
            (
                word.decode().partition("=")[2]
                for word in words
                if word.startswith(b"SLURM_JOB_ID=")
            ),
            None,
        )


def _watches(process: int, job: str) -> bool:
    with contextlib.suppress(OSError):
        return f"slurmstepd: [{job}." in (Path("/proc") / str(process) / "cmdline").read_text()
    return False
