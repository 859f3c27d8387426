"""Snakemake over the jobs: killed, started twice, and with a rerun that deletes finished outputs and then fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import yaml
from faults.bench import LIMIT_S, Lost
from helpers.models import ROOT, make_glue, make_model, make_tokenizer

EPOCHS = 20  # a few seconds of training


class Workflow:
    """A grid of one cell and two seeds over local folders, and what it gives undisturbed."""

    def __init__(self, folder: Path):
        self.folder = folder
        make_tokenizer(make_model("bert", folder / "tiny"))
        make_glue(folder / "glue")
        self.base = folder / "base"
        self.snakemake(self.base)
        self.whole = runs_of(self.base)

    def new(self, name: str) -> Path:
        """A folder with sources and tokens, and no runs yet."""
        folder = self.folder / name
        shutil.copytree(self.base, folder, ignore=shutil.ignore_patterns("runs", "state", "logs"))
        return folder

    def command(self, folder: Path, *options, seeds=(0, 1)) -> list[str]:
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

    def start(self, folder: Path, *options, **config) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(folder, *options, **config), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | dict(OMP_NUM_THREADS="1"),
        )  # fmt: skip

    def snakemake(self, folder: Path, *options, status: int = 0, **config) -> str:
        """Run it through; raise Lost unless it ends with this status."""
        with self.start(folder, *options, **config) as process:
            output = _output_of(process)
        if process.returncode != status:
            raise Lost(f"snakemake ended with status {process.returncode}: {output[-3000:]}")
        return output

    def check(self, folder: Path) -> None:
        found = runs_of(folder)
        differ = sorted(name for name in self.whole if found.get(name) != self.whole[name])
        if differ:
            raise Lost(f"not as undisturbed: {', '.join(differ)}")


def runs_of(folder: Path) -> dict[str, bytes]:
    """Rows and adapters."""
    names = ("metrics.csv", "adapter_model.safetensors")
    paths = [path for path in (folder / "results/runs").rglob("*") if path.name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


@contextmanager
def _under_way(workflow: Workflow, random: Random, folder: Path) -> Iterator[subprocess.Popen]:
    """A Snakemake, some time after its job saved state for the first time; the job stands still (SIGSTOP) until it is
    told to go on or killed, so that what follows finds it in mid-training however slow the machine is."""
    with workflow.start(folder) as process:
        try:
            until = time.monotonic() + LIMIT_S
            while not any((folder / "results/state").glob("*/state.json")):
                if process.poll() is not None or time.monotonic() > until:
                    raise Lost(f"no job is under way: {_output_of(process)[-3000:]}")
                time.sleep(0.02)
            time.sleep(random.random() / 2)
            if not _jobs(folder):
                raise Lost("the job ended before it could be disturbed")
            _signal(folder, signal.SIGSTOP)
            yield process
        finally:
            process.kill()
            _signal(folder, signal.SIGKILL)


def _signal(folder: Path, number: int) -> None:
    for job in _jobs(folder):
        os.kill(job, number)


def _output_of(process: subprocess.Popen) -> str:
    """What a Snakemake says until its end."""
    try:
        return process.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise Lost(f"snakemake hung for {LIMIT_S} s") from None


def _jobs(folder: Path) -> list[int]:
    """Training processes over a folder, by what the system says of all processes."""
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
        except OSError:  # it has ended
            continue
    return found


def _refused(workflow: Workflow, folder: Path) -> str:
    """What a second Snakemake says while a lock is there."""
    output = workflow.snakemake(folder, status=1)
    told = [line for line in output.splitlines() if "cannot be locked" in line]
    if not told:
        raise Lost(f"no word of a lock: {output[-3000:]}")
    return told[0].strip()


def killed(workflow: Workflow, random: Random, folder: Path) -> str:
    """kill -9 of Snakemake alone: its job goes on, a second Snakemake is refused by the lock; unlocked, it starts the job
    anew beside the one that still runs."""
    with _under_way(workflow, random, folder) as process:
        process.kill()
        process.wait()
        if not _jobs(folder):
            raise Lost("the job ended with its Snakemake")
        said = _refused(workflow, folder)
        workflow.snakemake(folder, "--unlock")
        _signal(folder, signal.SIGCONT)
        workflow.snakemake(folder, "--rerun-incomplete")
        until = time.monotonic() + LIMIT_S
        while _jobs(folder) and time.monotonic() < until:
            time.sleep(0.05)
    workflow.check(folder)
    return said


def killed_with_its_job(workflow: Workflow, random: Random, folder: Path) -> str:
    """As when a machine goes down."""
    with _under_way(workflow, random, folder):
        pass
    workflow.snakemake(folder, "--unlock")
    workflow.snakemake(folder, "--rerun-incomplete")
    workflow.check(folder)
    if not any(
        "goes on after epoch" in path.read_text()
        for path in (folder / "results/logs").rglob("train.log")
    ):
        raise Lost("the saved state was not taken up")
    return ""


def started_twice(workflow: Workflow, random: Random, folder: Path) -> str:
    """The second one is refused, the first goes through."""
    with _under_way(workflow, random, folder) as first:
        said = _refused(workflow, folder)
        _signal(folder, signal.SIGCONT)
        output = _output_of(first)
        if first.returncode:
            raise Lost(
                f"the first Snakemake ended with status {first.returncode}: {output[-3000:]}"
            )
    workflow.check(folder)
    return said


def seed_added(workflow: Workflow, random: Random, folder: Path) -> str:
    """Snakemake deletes the finished seeds' outputs, the job fails for the new one (damaged tokens), Snakemake deletes what
    the job had restored; without the new seed, and with the tokens mended, the finished ones come back untrained."""
    workflow.snakemake(folder)
    tokens = next((folder / "results/tokens").rglob("tokens.safetensors"))
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    workflow.snakemake(folder, seeds=(0, 1, 2), status=1)
    log = next((folder / "results/logs/train").rglob("train.log"))
    said = log.read_text().rpartition("lora train: ")[2].strip()
    workflow.snakemake(folder)
    workflow.check(folder)
    if log.read_text().count("is finished already") != 2:
        raise Lost("finished runs were trained again")
    tokens.write_bytes(content)
    workflow.snakemake(folder, seeds=(0, 1, 2))
    workflow.check(folder)
    if "1 runs in lock-step" not in log.read_text():
        raise Lost("more than the new seed was trained")
    return said


WORKFLOW = {
    "kill -9 of Snakemake, its job runs on": killed,
    "kill -9 of Snakemake and its job": killed_with_its_job,
    "two Snakemakes on one directory": started_twice,
    "a seed added, whose training fails": seed_added,
}
