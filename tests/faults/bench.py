"""A small training job to disturb, what it gives when nobody disturbs it, and the comparison of the two.

The job is the real command over a tiny model and a tiny data set: three runs of two kinds, two that share the base model
and one that trains it. It runs either as a process of its own or, ten times as quickly, as a fork of a server that has
imported torch; both must give the same bytes.
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
from lora.experiment import jobs, registry
from lora.experiment.cell import Cell
from lora.experiment.source import Source

LIMIT_S = 600  # that no job of this size takes
CELLS = (
    ("lora", "qv", 4, 3),
    ("lora", "qkvo", 2, 2),
    ("bitfit", "bias", 0, 2),
)  # method, weights, rank, epochs
CHANGING = ("speed", "finished", "commit", "seal")  # keys of run.json that two equal runs differ in
LOOKING = threading.Lock()
TESTS = str(ROOT / "tests")


def cell_of(method: str, weights: str, rank: int) -> Cell:
    return Cell("tiny", "sst2", method, weights, rank, "course")


class Lost(Exception):
    """What a fault must not do."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit status, negative for a signal, and what it wrote to standard error."""

    status: int
    errors: str

    @property
    def message(self) -> str:
        """What the command said last of all, without its time; empty where it said nothing of the kind."""
        found = re.findall(r"^\S+ \S+ lora \w+: (.*(?:\n  - .*)*)", self.errors, re.M)
        return found[-1] if found else ""

    @property
    def taken_up(self) -> int:
        """Runs that went on from saved state, or were written out from it."""
        return self.errors.count(" goes on after epoch ") + self.errors.count(
            " is finished already"
        )


class Job:
    """A job under way, whose standard error is read as it comes. Jobs are started and looked at under one lock:
    multiprocessing looks at all its processes whenever it starts one, and two looks at once lose an exit status."""

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
        with LOOKING:
            return (
                self.process.poll()
                if isinstance(self.process, subprocess.Popen)
                else self.process.exitcode
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.running:
            os.kill(self.process.pid, number)

    def end(self) -> Ended:
        """Wait for it; a job that hangs is killed and is lost."""
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
    """Inputs in `folder`, and jobs over them; `whole` is what they give undisturbed, `calls` how often each place of
    `hooks` is called in that, `took_s` how long it takes, `killed` every job that ended by kill -9."""

    def __init__(self, folder: Path):
        self.folder, self._numbers, self.killed = Path(folder), itertools.count(), []
        model = make_model("bert", self.folder / "made")
        (model / "tokenizer.json").write_text("{}")
        self.model_dir, self.tokens_dir = self.folder / "model", make_tokens(self.folder / "tokens")
        told = self.tokens_dir / "tokens.json"  # as of a real task, and sealed as prepared data are
        told.write_text(
            json.dumps(files.with_checksum(json.loads(told.read_text()) | dict(task="sst2")))
        )
        fetch.fetch(Source("tiny", "model", "file", str(model), "", "", ""), self.model_dir)
        self._server = _server(self.model_dir)
        apart = self.new()
        self.end_well(self.start(apart, forked=False))
        self.whole = outputs(apart)
        counted, counts = self.new(), self.folder / "calls.json"
        started = time.monotonic()
        self.end_well(self.start(counted, counts=str(counts)))
        self.took_s = time.monotonic() - started
        self.calls = json.loads(counts.read_text())
        self.check(counted)

    def new(self) -> Path:
        """A folder that no job has used yet."""
        return self.folder / f"job{next(self._numbers)}"

    def cells(
        self, changed: dict | None = None, tokens_dir: Path | None = None, cells=CELLS
    ) -> str:
        """The job's cells as JSON, with other hyperparameters for the first one where some are given."""
        listed = []
        for method, weights, rank, epochs in cells:
            cell = cell_of(method, weights, rank)
            given = OVERRIDES | dict(epochs=epochs) | ((changed or {}) if not listed else {})
            like = dataclasses.replace(cell, method="lora", weights="q", rank=max(1, rank))
            hparams = registry.resolve(registry.read_rows("hparams.csv"), like, given)
            listed.append(jobs.JobCell(cell, hparams, str(tokens_dir or self.tokens_dir)))
        return jobs.to_json(listed)

    def start(self, folder: Path, acts=(), limits=None, forked=True, counts=None, **changes) -> Job:
        """The job over `folder`: outputs in its runs/, state in its state/; `changes` are those of `arguments`."""
        return self.launch(self.arguments(folder, **changes), acts, limits, forked, counts)

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

    def launch(self, arguments: list[str], acts=(), limits=None, forked=True, counts=None) -> Job:
        """A command of lora, struck by `acts` under `limits` (see hooks.run), which takes a fork."""
        read, write = os.pipe()
        errors = multiprocessing.connection.Connection(write, readable=False)
        if forked:
            from faults import hooks

            process = self._server.Process(
                target=hooks.run, args=(arguments, errors, list(acts), limits or {}, counts)
            )
            with LOOKING:
                process.start()
        else:
            environment = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
            process = subprocess.Popen(
                [sys.executable, "-m", "lora", *arguments], cwd=ROOT, env=environment, stderr=write
            )
        errors.close()
        return Job(process, read, self.killed)

    def end_well(self, job: Job) -> Ended:
        """The end of a job that nothing stands in the way of."""
        ended = job.end()
        if ended.status:
            raise Lost(
                f"an undisturbed job ended with status {ended.status}: {ended.errors[-1500:]}"
            )
        return ended

    def check(self, folder: Path, whole: dict[str, bytes] | None = None) -> None:
        """Raise Lost unless the folder holds what an undisturbed job leaves, and nothing else."""
        found, whole = outputs(folder), self.whole if whole is None else whole
        differ = sorted(
            name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name)
        )
        if differ:
            raise Lost(f"not as undisturbed: {', '.join(differ)}")
        lying = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))
        if lying:
            raise Lost(f"left lying about: {', '.join(lying)}")

    def finish(self, folder: Path, whole: dict[str, bytes] | None = None, **options) -> Ended:
        """Run the job again, undisturbed: every run with saved state takes it up, and all is as if nothing had happened."""
        saved = states(folder)
        ended = self.end_well(self.start(folder, **options))
        if ended.taken_up != len(saved):
            raise Lost(
                f"{len(saved)} runs had saved state, {ended.taken_up} took it up: {ended.errors[-1500:]}"
            )
        self.check(folder, whole)
        return ended


def _server(model_dir: Path):
    """The server whose forks are struck; it imports `hooks` before the first of them."""
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
    """Every file of the runs, by its place; of run.json what does not change from one time to the next."""
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


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """(epoch, step) of every run with saved state, the newer of two whose tensors are those it names; read here, without the
    code that is tested."""
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


def not_behind(before: dict[str, tuple[int, int]], folder: Path) -> None:
    """Raise Lost where a state that was saved before a fault is there no more."""
    now = states(folder)
    gone = [name for name, place in before.items() if now.get(name, (-1, -1)) < place]
    if gone:
        raise Lost(f"saved state is gone: {', '.join(gone)}")
