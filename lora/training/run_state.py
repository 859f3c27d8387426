"""One run: what identifies it, what it carries through training, how it is kept and how it is written out.

A run's digest hashes everything that decides its numbers and nothing else, so the same run is recognised wherever and
with whomever it trains. Its state after each epoch, under that digest, is enough to go on from or, once it is done, to
write its outputs again without training: Snakemake deletes outputs before a job starts. What a run's numbers stood on
(versions, hashes, device, commit) goes into run.json.
"""

import hashlib
import json
import logging
import math
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lora
from lora import files, run_record
from lora.adapters import peft_folder
from lora.adapters.warm_start import Start
from lora.columns import CELL_COLUMNS
from lora.data.tokens import Tokens, steps_per_epoch
from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams
from lora.experiment.jobs import Asked
from lora.experiment.task import Task
from lora.model.tensor_files import save_tensors
from lora.training import checkpoint
from lora.training.device import device_name, peak_device_bytes, peak_host_bytes

log = logging.getLogger(__name__)


@dataclass(eq=False)
class RunState:
    """One run under way."""

    asked: Asked
    hparams: Hparams
    prepared: dict  # tokens.json
    precision: str  # of the frozen base
    digest: str
    start: Start | None = None
    place: int = 0  # in the pack
    step: int = 0
    epoch: int = 0  # finished epochs
    rows: list[dict] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    wall_s: float = 0.0
    order: np.ndarray | None = None
    loss: Tensor | None = None  # summed over the epoch so far
    tokens: dict[str, Tokens] = field(default_factory=dict)  # of its task, by split
    parameters: dict[str, Tensor] = field(default_factory=dict)
    optimizer: Any = None  # adamw.Optimizer
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.epoch >= self.hparams.epochs or bool(
            self.rows and self.rows[-1]["status"] != "ok"
        )

    @property
    def cell(self) -> Cell:
        return Cell(**{name: self.asked.settings[name] for name in CELL_COLUMNS})

    @property
    def method(self) -> str:
        return self.asked.settings["method"]

    @property
    def seed(self) -> int:
        return self.asked.settings["seed"]

    @property
    def name(self) -> str:
        """What tells it from the others of its pack, for messages."""
        settings = self.asked.settings
        what = (
            f"{settings['weights']} r{settings['rank']}" if self.method == "lora" else self.method
        )
        return f"{settings['task']} {what} seed {self.seed}"

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.tokens["train"]), self.hparams.examples_per_step)


def digest_of(
    settings: dict,
    task: Task,
    tokens_sha256: str,
    base_sha256: str,
    precision: str,
    start_sha256: str,
) -> str:
    """sha256 of everything that decides a run's numbers and its adapter; the names of protocol, model and task do not, nor
    does where what it starts from was found."""
    deciding = {key: settings[key] for key in ("method", "weights", "rank", "seed")}
    deciding["hparams"] = settings["hparams"] | dict(start=start_sha256)
    deciding |= dict(num_labels=task.num_labels, metric=task.metric, eval_splits=task.eval_splits)
    deciding |= dict(
        tokens=tokens_sha256,
        base=base_sha256,
        precision=precision,
        results_version=lora.RESULTS_VERSION,
    )
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def commit() -> str:
    """The checkout's commit, with -dirty when it has local changes; empty where there is no git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def record_of(run: RunState, base_facts: dict, model, pack: int) -> dict:
    """run.json so far; see records.RUN_JSON_KEYS. `base_facts` are its `base`, `pack` the runs of the job."""
    import transformers

    train_set, task = run.tokens["train"], run.asked.task
    data_facts = dict(
        source=run.prepared["source"],
        tokens_sha256=run.prepared["sha256"],
        train_examples=len(train_set),
        train_tokens=int(train_set.lengths.sum()),
        eval_examples=len(run.tokens[task.eval_splits[0]]),
    )
    best = run.rows[run.best_epoch - 1][task.metric] if run.best_epoch else None
    return dict(
        settings=run.asked.settings,
        digest=run.digest,
        results_version=lora.RESULTS_VERSION,
        status=run.rows[-1]["status"],
        parameters=run.counts,
        data=data_facts,
        base=base_facts,
        start=run.start and dict(source=run.start.source, sha256=run.start.sha256),
        best=dict(
            epoch=run.best_epoch,
            metric=task.metric,
            value=None if best is None or math.isnan(best) else best,
        ),
        speed=dict(
            wall_s=round(run.wall_s, 3),
            examples_per_s=round(run.epoch * len(train_set) / max(run.wall_s, 1e-9), 1),
            pack=pack,
            peak_host_bytes=peak_host_bytes(),
            peak_device_bytes=peak_device_bytes(model.device),
        ),
        versions=dict(
            python=platform.python_version(),
            torch=torch.__version__,
            transformers=transformers.__version__,
            lora=lora.__version__,
        ),
        precision=run.precision,
        device=device_name(model.device),
        commit=commit(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def save(run: RunState, state_dir: Path, record: dict | None) -> None:
    """Keep the run's state: everything to go on from, or, once it is done, everything to write it out again; then `record`
    is its run.json. Masks and orders are functions of seed, epoch and step, so there is no generator to keep."""
    tensors = {f"best/{name}": value for name, value in run.best.items()}
    if not run.done:
        for name, value in run.parameters.items():
            tensors[f"now/{name}"] = value
            for key, moment in run.optimizer.moments.get(name, {}).items():
                tensors[f"adam/{key}/{name}"] = moment
    rows = [
        {key: None if value != value else value for key, value in row.items()} for row in run.rows
    ]
    meta = dict(
        done=run.done,
        epoch=run.epoch,
        step=run.step,
        rows=rows,
        best_epoch=run.best_epoch,
        wall_s=run.wall_s,
    )
    loss = (
        None if run.loss is None else float(run.loss).hex()
    )  # also NaN and infinity, which JSON has not
    checkpoint.save(
        state_dir,
        run.digest,
        f"epoch{run.epoch}-step{run.step}",
        tensors,
        meta | dict(loss=loss, record=record),
    )


def _restore(run: RunState, meta: dict, tensors: dict[str, Tensor]) -> None:
    run.epoch, run.step, run.best_epoch, run.wall_s = (
        meta[key] for key in ("epoch", "step", "best_epoch", "wall_s")
    )
    run.rows = [
        {key: math.nan if value is None else value for key, value in row.items()}
        for row in meta["rows"]
    ]
    run.best = {
        name.removeprefix("best/"): value
        for name, value in tensors.items()
        if name.startswith("best/")
    }


def restore_finished(run: RunState, state_dir: Path) -> bool:
    """Write a finished run's outputs from its state; False where it has none."""
    state = checkpoint.load(state_dir, run.digest)
    if state is None or not state[1]["done"]:
        return False
    tensors, meta = state
    _restore(run, meta, tensors)
    write_outputs(run.asked, run.rows, meta["record"] | dict(settings=run.asked.settings), run.best)
    return True


@torch.no_grad()
def resume(run: RunState, state_dir: Path) -> None:
    """Take a run up where its state left it, between two steps."""
    state = checkpoint.load(state_dir, run.digest)
    if state is None:
        return
    tensors, meta = state
    _restore(run, meta, tensors)
    for name, value in run.parameters.items():
        value.copy_(tensors[f"now/{name}"])
        for key, moment in run.optimizer.moments.get(name, {}).items():
            moment.copy_(tensors[f"adam/{key}/{name}"])
    if meta["loss"] is not None:
        device = next(iter(run.parameters.values())).device
        run.loss = torch.tensor(float.fromhex(meta["loss"]), dtype=torch.float64, device=device)
    log.info("%s goes on after epoch %d, step %d", run.name, run.epoch, run.step)


def write_outputs(asked: Asked, rows: list[dict], record: dict, best: dict[str, Tensor]) -> None:
    """adapter/, run.json, which has the others' hashes and a seal, and, last, metrics.csv of a finished run. A run that
    failed in its first epoch has no adapter tensors worth keeping: its folder holds the configuration and an empty file."""
    settings, folder = asked.settings, Path(asked.output_dir)
    hparams = settings["hparams"]
    for part in (folder, folder / "adapter"):
        files.remove_temporary_files(part)
    if settings["method"] == "lora":
        peft_folder.write_adapter(
            folder / "adapter", best, record["base"]["family"], settings["model"], settings["weights"], settings["rank"],
            hparams["alpha"], hparams["lora_dropout"],
        )  # fmt: skip
    else:
        save_tensors(folder / "adapter" / peft_folder.TENSORS, best)
        told = {key: settings[key] for key in ("method", "weights", "rank", "model")}
        files.write_json(
            folder / "adapter" / "adapter_config.json", told | dict(family=record["base"]["family"])
        )
    run_record.write_run(folder, record, rows, f"adapter/{peft_folder.TENSORS}")
