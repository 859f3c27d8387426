"""A small training job for fault injection, and the check of its outputs.

The job is the real command with a tiny model and data set: two LoRA runs that share a base model,
and one of BitFit. It is a subprocess or, ten times as fast, a fork of a server that has imported
torch. Both must write the same bytes.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from faults.injection import Injection
from faults.job import PROCESS_LOCK, Job, JobResult, Lost
from helpers.models import ROOT, make_model
from helpers.training import OVERRIDES, make_tokens

from lora import files
from lora.data import fetch
from lora.experiment import hparam_rows, jobs
from lora.experiment.cell import Cell
from lora.experiment.source import Source

CellRow = tuple[str, str, int, int]
CELLS: tuple[CellRow, ...] = (  # method, weights, rank, epochs
    ("lora", "qv", 4, 3),
    ("lora", "qkvo", 2, 2),
    ("bitfit", "bias", 0, 2),
)
# Keys of run.json that differ between equal runs.
VARYING = ("speed", "finished", "commit", "checksum", "seal")
SavedSteps = dict[str, tuple[int, int]]  # folder of a run's state: (epoch, step)
Outputs = dict[str, bytes]  # path: content


def cell_of(method: str, weights: str, rank: int) -> Cell:
    """Return the cell of a row of CELLS."""
    return Cell("tiny", "sst2", method, weights, rank, "course")


class Bench:
    """Inputs in `folder`, and jobs that train on them.

    Attributes:
        expected: Outputs of an undisturbed job.
        calls: Number of calls of each site of `hooks` in an undisturbed job.
        duration_s: Duration of an undisturbed job.
        killed: Jobs that ended by kill -9.
    """

    def __init__(self, folder: Path):
        self.folder, self._numbers = Path(folder), itertools.count()
        self.killed: list[Job] = []
        model = make_model("bert", self.folder / "made")
        (model / "tokenizer.json").write_text("{}")
        self.model_dir, self.tokens_dir = self.folder / "model", make_tokens(self.folder / "tokens")
        path = self.tokens_dir / "tokens.json"  # as prepared data of a real task, with a checksum
        facts = json.loads(path.read_text()) | dict(task="sst2")
        path.write_text(json.dumps(files.with_checksum(facts)))
        fetch.fetch(Source("tiny", "model", "file", str(model), "", "", ""), self.model_dir)
        self._server = _start_server(self.model_dir)
        subprocess_folder = self.new_folder()
        self.wait_for_success(self.start(subprocess_folder, forked=False))
        self.expected = outputs(subprocess_folder)
        fork_folder, counts = self.new_folder(), self.folder / "calls.json"
        started = time.monotonic()
        self.wait_for_success(self.start(fork_folder, counts=str(counts)))
        self.duration_s = time.monotonic() - started
        self.calls: dict[str, int] = json.loads(counts.read_text())
        self.check(fork_folder)

    def new_folder(self) -> Path:
        """Return a new folder for a job."""
        return self.folder / f"job{next(self._numbers)}"

    def cells(
        self,
        overrides: dict[str, object] | None = None,
        tokens_dir: Path | None = None,
        cells: Iterable[CellRow] = CELLS,
    ) -> str:
        """Return the job's cells as JSON; `overrides` are hyperparameters of the first one."""
        entries: list[dict] = []
        for method, weights, rank, epochs in cells:
            cell = cell_of(method, weights, rank)
            values = OVERRIDES | dict(epochs=epochs) | ((overrides or {}) if not entries else {})
            lora_cell = dataclasses.replace(cell, method="lora", weights="q", rank=max(1, rank))
            hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), lora_cell, values)
            entries.append(jobs.cell_entry(cell, hparams, str(tokens_dir or self.tokens_dir)))
        return jobs.to_json(entries)

    def start(
        self,
        folder: Path,
        injections: Sequence[Injection] = (),
        limits: dict[str, int] | None = None,
        forked: bool = True,
        counts: str | None = None,
        **changes,
    ) -> Job:
        """Start the job, which writes to <folder>/runs and <folder>/state.

        Args:
            folder: Folder of the job.
            injections: Faults to inject.
            limits: Soft limits of the process, by their names in `resource`.
            forked: Whether the job is a fork of the server or a new process. Injections, limits
                and counts need a fork.
            counts: File that gets the number of calls of each site.
            changes: Arguments of the method `arguments`.
        """
        return self.launch(self.arguments(folder, **changes), injections, limits, forked, counts)

    def arguments(
        self, folder: Path, model_dir: Path | None = None, seeds: Sequence[int] = (0,), **cells
    ) -> list[str]:
        """Return the arguments of `lora train`; `cells` are arguments of the method `cells`."""
        return [
            "train",
            *("--cells", self.cells(**cells)),
            *("--seeds", *map(str, seeds)),
            *("--model-dir", str(model_dir or self.model_dir)),
            *("--output-dir", str(folder / "runs")),
            *("--state-dir", str(folder / "state")),
            *("--device", "cpu"),
            *("--precision", "fp32"),
            *("--checkpoint-every-s", "0.05"),
        ]

    def launch(
        self,
        arguments: list[str],
        injections: Sequence[Injection] = (),
        limits: dict[str, int] | None = None,
        forked: bool = True,
        counts: str | None = None,
    ) -> Job:
        """Start a command of lora with the options of `start`."""
        read, write = os.pipe()
        errors = Connection(write, readable=False)
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

    def wait_for_success(self, job: Job) -> JobResult:
        """Wait for a job that must succeed."""
        result = job.wait()
        if result.status:
            raise Lost(
                f"an undisturbed job ended with status {result.status}: {result.errors[-1500:]}"
            )
        return result

    def check(self, folder: Path) -> None:
        """Raise Lost unless the folder has exactly the outputs of an undisturbed job."""
        check_equal(outputs(folder), self.expected)
        temporary = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tmp"))
        if temporary:
            raise Lost(f"temporary files left: {', '.join(temporary)}")

    def resume_and_check(self, folder: Path, **options) -> JobResult:
        """Run the job again without a fault, and check its outputs.

        Args:
            folder: Folder of a job that was disturbed.
            options: Options of `start`.

        Raises:
            Lost: If a checkpoint was not resumed, or outputs differ from the undisturbed ones.
        """
        saved = saved_states(folder)
        result = self.wait_for_success(self.start(folder, **options))
        if result.resumed != len(saved):
            raise Lost(
                f"{len(saved)} runs had saved state, {result.resumed} resumed it: "
                f"{result.errors[-1500:]}"
            )
        self.check(folder)
        return result


def _start_server(model_dir: Path) -> ForkServerContext:
    """Start the server whose forks run the jobs; it imports `hooks` before the first fork."""
    context = multiprocessing.get_context("forkserver")
    variables = dict(
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        OMP_NUM_THREADS="1",
        LORA_FAULTS_MODEL=str(model_dir),
    )
    with _environment(variables):
        context.set_forkserver_preload(["faults.hooks"])
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and restore the previous values at the end of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def check_equal(found: Outputs, expected: Outputs) -> None:
    """Raise Lost unless both have the same files with the same bytes."""
    names = found.keys() | expected.keys()
    different = sorted(name for name in names if found.get(name) != expected.get(name))
    if different:
        raise Lost(f"not the undisturbed outputs: {', '.join(different)}")


def outputs(folder: Path) -> Outputs:
    """Return the files of the runs by path, with what equal runs share.

    Of run.json that is all keys but VARYING. The folder of the base model is left out.
    """
    found = {}
    for path in sorted((folder / "runs").rglob("*")):
        if path.is_file() and path.suffix != ".tmp":
            content = path.read_bytes()
            if path.name == "run.json":
                record = {
                    key: value for key, value in json.loads(content).items() if key not in VARYING
                }
                content = json.dumps(record, sort_keys=True).encode()
            if path.name in ("adapter_config.json", "README.md"):
                content = re.sub(rb'["`]/[^"`]*["`]', b"MODEL_DIR", content)
            found[str(path.relative_to(folder))] = content
    return found


def saved_states(folder: Path) -> SavedSteps:
    """Return epoch and step of each run's newest checkpoint whose tensors match their checksum.

    The files are read without the code under test.
    """
    found = {}
    for run in sorted((folder / "state").glob("*")):
        for name in ("state.json", "before.json"):
            if not (run / name).exists():
                continue
            state = json.loads((run / name).read_text())
            content = (run / state["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() == state["sha256"]:
                found[run.name] = (state["meta"]["epoch"], state["meta"]["step"])
                break
    return found


def check_not_lost(before: SavedSteps, folder: Path) -> None:
    """Raise Lost if a run's newest checkpoint is older than before the fault."""
    now = saved_states(folder)
    gone = [name for name, steps in before.items() if now.get(name, (-1, -1)) < steps]
    if gone:
        raise Lost(f"saved state is gone: {', '.join(gone)}")
