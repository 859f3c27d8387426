"""A small training job for fault injection, and the comparison with its undisturbed outputs.

The job is the real command with a tiny model and data set: two LoRA runs that share a base model,
and one of BitFit. It is a subprocess or, ten times as fast, a fork of a server that has imported
torch. Both must give the same bytes.
"""

import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from helpers.models import ROOT, make_model
from helpers.training import OVERRIDES, make_tokens

from lora import files
from lora.data import fetch
from lora.experiment import hparam_rows, jobs
from lora.experiment.cell import Cell
from lora.experiment.source import Source

LIMIT_S = 600  # far more than such a job takes
CELLS = (
    ("lora", "qv", 4, 3),
    ("lora", "qkvo", 2, 2),
    ("bitfit", "bias", 0, 2),
)  # method, weights, rank, epochs
# Keys of run.json that differ between equal runs.
CHANGING = ("speed", "finished", "commit", "checksum", "seal")
PROCESS_LOCK = threading.Lock()
TESTS = str(ROOT / "tests")


def cell_of(method: str, weights: str, rank: int) -> Cell:
    return Cell("tiny", "sst2", method, weights, rank, "course")


class Lost(Exception):
    """Data was lost, or a job behaved as it must not."""


@dataclass(frozen=True)
class Ended:
    """A finished job: its exit status, negative for a signal, and its standard error."""

    status: int
    errors: str

    @property
    def message(self) -> str:
        """The last message of the command, without its time; empty if there is none."""
        found = re.findall(r"^\S+ \S+ lora \w+: (.*(?:\n  - .*)*)", self.errors, re.M)
        return found[-1] if found else ""

    @property
    def resumed(self) -> int:
        """How many runs resumed from saved state, or were written from it."""
        return self.errors.count(" resumes after epoch ") + self.errors.count(
            " is finished: outputs written"
        )


class Job:
    """A running job, whose standard error is read as it comes.

    Jobs are started and polled under one lock: multiprocessing polls all its processes whenever it
    starts one, and two polls at once lose an exit status.
    """

    def __init__(self, process, errors, killed: list):
        self.process, self._parts, self._killed = process, [], killed
        self._reader = threading.Thread(target=self._read, args=[errors], daemon=True)
        self._reader.start()

    def _read(self, errors) -> None:
        with open(errors, "rb", closefd=True) as stream:
            self._parts.append(stream.read())

    @property
    def running(self) -> bool:
        return self._status() is None

    def _status(self) -> int | None:
        with PROCESS_LOCK:
            return (
                self.process.poll()
                if isinstance(self.process, subprocess.Popen)
                else self.process.exitcode
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.running:
            os.kill(self.process.pid, number)

    def end(self) -> Ended:
        """Wait for the job. One that hangs is killed and counts as lost."""
        until = time.monotonic() + LIMIT_S
        while self.running:
            if time.monotonic() > until:
                self.kill()
                raise Lost(f"a job hung for {LIMIT_S} s")
            time.sleep(0.005)
        self._reader.join(LIMIT_S)
        if self._status() == -signal.SIGKILL:
            self._killed.append(self)
        return Ended(self._status(), b"".join(self._parts).decode())


class Bench:
    """Inputs in `folder`, and jobs that train on them.

    Attributes:
        expected: Outputs of an undisturbed job.
        calls: Number of calls of each site of `hooks` in an undisturbed job.
        took_s: Duration of an undisturbed job.
        killed: Jobs that ended by kill -9.
    """

    def __init__(self, folder: Path):
        self.folder, self._numbers, self.killed = Path(folder), itertools.count(), []
        model = make_model("bert", self.folder / "made")
        (model / "tokenizer.json").write_text("{}")
        self.model_dir, self.tokens_dir = self.folder / "model", make_tokens(self.folder / "tokens")
        facts = self.tokens_dir / "tokens.json"  # as prepared data of a real task, with a checksum
        facts.write_text(
            json.dumps(files.with_checksum(json.loads(facts.read_text()) | dict(task="sst2")))
        )
        fetch.fetch(Source("tiny", "model", "file", str(model), "", "", ""), self.model_dir)
        self._server = _server(self.model_dir)
        apart = self.new()
        self.end_well(self.start(apart, forked=False))
        self.expected = outputs(apart)
        counted, counts = self.new(), self.folder / "calls.json"
        started = time.monotonic()
        self.end_well(self.start(counted, counts=str(counts)))
        self.took_s = time.monotonic() - started
        self.calls = json.loads(counts.read_text())
        self.check(counted)

    def new(self) -> Path:
        """Return a new folder for a job."""
        return self.folder / f"job{next(self._numbers)}"

    def cells(
        self, changed: dict | None = None, tokens_dir: Path | None = None, cells=CELLS
    ) -> str:
        """Return the job's cells as JSON; `changed` are hyperparameters of the first one."""
        listed = []
        for method, weights, rank, epochs in cells:
            cell = cell_of(method, weights, rank)
            given = OVERRIDES | dict(epochs=epochs) | ((changed or {}) if not listed else {})
            like = dataclasses.replace(cell, method="lora", weights="q", rank=max(1, rank))
            hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), like, given)
            listed.append(jobs.cell_entry(cell, hparams, str(tokens_dir or self.tokens_dir)))
        return jobs.to_json(listed)

    def start(
        self, folder: Path, injections=(), limits=None, forked=True, counts=None, **changes
    ) -> Job:
        """Start the job: outputs in <folder>/runs, state in <folder>/state (see `arguments`)."""
        return self.launch(self.arguments(folder, **changes), injections, limits, forked, counts)

    def arguments(
        self, folder: Path, model_dir: Path | None = None, seeds=(0,), **cells
    ) -> list[str]:
        arguments = ["train", "--cells", self.cells(**cells), "--seeds", *map(str, seeds)]
        arguments += [
            "--model-dir",
            str(model_dir or self.model_dir),
            "--output-dir",
            str(folder / "runs"),
        ]
        arguments += [
            "--state-dir",
            str(folder / "state"),
            "--device",
            "cpu",
            "--precision",
            "fp32",
        ]
        return [*arguments, "--checkpoint-every-s", "0.05"]

    def launch(
        self, arguments: list[str], injections=(), limits=None, forked=True, counts=None
    ) -> Job:
        """Start a command of lora; `injections` and `limits` (see hooks.run) need a fork."""
        read, write = os.pipe()
        errors = multiprocessing.connection.Connection(write, readable=False)
        if forked:
            from faults import hooks

            process = self._server.Process(
                target=hooks.run, args=(arguments, errors, list(injections), limits or {}, counts)
            )
            with PROCESS_LOCK:
                process.start()
        else:
            environment = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
            process = subprocess.Popen(
                [sys.executable, "-m", "lora", *arguments], cwd=ROOT, env=environment, stderr=write
            )
        errors.close()
        return Job(process, read, self.killed)

    def end_well(self, job: Job) -> Ended:
        """Wait for a job that must succeed."""
        ended = job.end()
        if ended.status:
            raise Lost(
                f"an undisturbed job ended with status {ended.status}: {ended.errors[-1500:]}"
            )
        return ended

    def check(self, folder: Path, expected: dict[str, bytes] | None = None) -> None:
        """Raise Lost unless the folder holds the outputs of an undisturbed job, and no others."""
        found, expected = outputs(folder), self.expected if expected is None else expected
        differ = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        if differ:
            raise Lost(f"not the undisturbed outputs: {', '.join(differ)}")
        leftover = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))
        if leftover:
            raise Lost(f"temporary files left: {', '.join(leftover)}")

    def finish(self, folder: Path, expected: dict[str, bytes] | None = None, **options) -> Ended:
        """Run the job again: every saved state must be resumed, and the outputs be complete."""
        saved = saved_states(folder)
        ended = self.end_well(self.start(folder, **options))
        if ended.resumed != len(saved):
            raise Lost(
                f"{len(saved)} runs had saved state, {ended.resumed} resumed it: "
                f"{ended.errors[-1500:]}"
            )
        self.check(folder, expected)
        return ended


def _server(model_dir: Path):
    """Start the server whose forks run the jobs; it imports `hooks` before the first fork."""
    context = multiprocessing.get_context("forkserver")
    wanted = dict(
        PYTHONPATH=os.pathsep.join([str(ROOT), TESTS]),
        OMP_NUM_THREADS="1",
        LORA_FAULTS_MODEL=str(model_dir),
    )
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        context.set_forkserver_preload(["faults.hooks"])
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    return context


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the files of the runs by path; of run.json only what two equal runs share."""
    found = {}
    for path in sorted((folder / "runs").rglob("*")):
        if path.is_file() and path.suffix != ".tmp":
            content = path.read_bytes()
            if path.name == "run.json":
                record = {
                    key: value for key, value in json.loads(content).items() if key not in CHANGING
                }
                content = json.dumps(record, sort_keys=True).encode()
            found[str(path.relative_to(folder))] = content
    return found


def saved_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (epoch, step) of each run with saved state: of the newest one whose tensors match.

    Read here without the code under test.
    """
    found = {}
    for kept in sorted((folder / "state").glob("*")):
        for name in ("state.json", "before.json"):
            if not (kept / name).exists():
                continue
            state = json.loads((kept / name).read_text())
            content = (kept / state["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() == state["sha256"]:
                found[kept.name] = (state["meta"]["epoch"], state["meta"]["step"])
                break
    return found


def check_not_lost(before: dict[str, tuple[int, int]], folder: Path) -> None:
    """Raise Lost if a state that was saved before a fault is gone."""
    now = saved_states(folder)
    gone = [name for name, step in before.items() if now.get(name, (-1, -1)) < step]
    if gone:
        raise Lost(f"saved state is gone: {', '.join(gone)}")
