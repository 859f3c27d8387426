"""State of one run during training, its digest, and its checkpoint.

`RunState` holds all that training changes; `spec` is what it trains. The digest hashes everything
that decides the run's numbers and nothing else, so a run is recognised whatever job trains it.
Dropout masks and example orders are functions of seed, epoch and step: a checkpoint needs no
generator state.
"""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora import run_record
from lora.adapters.warm_start import Start
from lora.data.tokens import TokenFacts, Tokens, epoch_order, steps_per_epoch
from lora.experiment import versions
from lora.experiment.run_spec import RunSpec
from lora.run_record import RunRecord
from lora.training import checkpoint, optim
from lora.training.device import sum_dtype
from lora.training.optim import Optimizer

log = logging.getLogger(__name__)
Row = dict[str, float | str]  # of metrics.csv


@dataclass(eq=False)
class RunState:
    """One run in training.

    Attributes:
        spec: What it trains.
        facts: The tokens.json of its prepared tokens.
        precision: Of the frozen base: `bf16` or `fp32`.
        digest: See `digest_of`.
        start: The adapter it starts from, None for the pre-trained model.
        model_dir: Folder of its base model.
        index: Its index in the pack.
        step: Finished optimizer steps.
        epoch: Finished epochs.
        rows: A row of metrics.csv per finished epoch.
        best_epoch: The epoch of `best`, from 1; 0 if there is none yet.
        best: Its tensors after the best epoch, on the CPU.
        wall_s: Seconds of training so far, with evaluation and checkpoints.
        order: Example order of the current epoch, [examples] int64.
        loss: Sum of the example losses of the current epoch, a scalar of `device.sum_dtype`.
        tokens: The splits of its task by name.
        parameters: Its tensors in the model, by name. All that a checkpoint holds.
        optimizer: AdamW state of the parameters that train.
        counts: Number of parameters: `trainable` without the head, `head` and `frozen`.
    """

    spec: RunSpec
    facts: TokenFacts
    precision: str
    digest: str
    start: Start | None = None
    model_dir: Path = Path()
    index: int = 0
    step: int = 0
    epoch: int = 0
    rows: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    wall_s: float = 0.0
    order: np.ndarray | None = None
    loss: Tensor | None = None
    tokens: dict[str, Tokens] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every epoch is finished, or the last one failed."""
        failed = bool(self.rows) and self.rows[-1]["status"] != "ok"
        return failed or self.epoch >= self.spec.hparams.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last one may have fewer examples."""
        return steps_per_epoch(len(self.tokens["train"]), self.spec.hparams.examples_per_step)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.spec.hparams.epochs

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the optimizer step with this number, from 0."""
        return optim.learning_rate(step, self.total_steps, self.spec.hparams)

    def begin_epoch(self, device: torch.device) -> None:
        """Set the example order and a loss of zero, unless the epoch has begun already."""
        if self.order is None:
            self.order = epoch_order(self.spec.seed, self.epoch, len(self.tokens["train"]))
        if self.loss is None:
            self.loss = torch.zeros((), dtype=sum_dtype(device), device=device)

    def end_epoch(self, row: Row) -> None:
        """Add the epoch's row, and keep the tensors if the epoch is the best so far.

        While the metric of every epoch is undefined, the tensors of the latest one are kept.
        """
        self.rows.append(row)
        self.epoch, self.order, self.loss = self.epoch + 1, None, None
        metric = self.spec.task.metric
        best = run_record.best_epoch([float(row[metric]) for row in self.rows])
        if row["status"] == "ok" and best in (None, self.epoch):
            self.best_epoch = self.epoch
            self.best = {
                name: value.detach().cpu().clone() for name, value in self.parameters.items()
            }

    def release(self) -> None:
        """Drop all tensors, so that their memory is free for the next pack."""
        self.parameters, self.best, self.optimizer = {}, {}, Optimizer()


def digest_of(
    spec: RunSpec,
    tokens_sha256: str,
    base_sha256: str,
    precision: str,
    start_sha256: str,
    family: str,
    output_rows: Sequence[int] | None = None,
) -> str:
    """Return the SHA-256 of everything that decides a run's numbers and its adapter.

    The names of protocol, model and task are not part of it, nor is any path.

    Args:
        spec: The run.
        tokens_sha256: Hash of the prepared tokens, from tokens.json.
        base_sha256: Hash of the base model, from `fetch.base_sha256`.
        precision: Of the frozen base.
        start_sha256: Hash of the adapter it starts from; empty for the pre-trained model.
        family: Family of the base model, `model_type` of its config.json.
        output_rows: See `label_names.output_rows`. None, as in all runs of earlier versions, is not
            hashed, so their digests stay the same.
    """
    cell, task = spec.cell, spec.task
    inputs: dict[str, object] = dict(
        method=cell.method,
        weights=cell.weights,
        rank=cell.rank,
        seed=spec.seed,
        hparams=spec.hparams.as_dict() | dict(start=start_sha256),
        num_labels=task.num_labels,
        metric=task.metric,
        eval_splits=task.eval_splits,
        tokens=tokens_sha256,
        base=base_sha256,
        precision=precision,
        results_version=versions.results_version(family, precision),
    )
    if output_rows is not None:
        inputs["output_rows"] = list(output_rows)
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def save(run: RunState, state_dir: Path, record: RunRecord | None) -> None:
    """Save a checkpoint of the run.

    Args:
        run: The run, between two optimizer steps.
        state_dir: Folder of all checkpoints.
        record: Its run.json if it is done. Then the checkpoint has what its outputs need, and no
            parameters or optimizer state.
    """
    tensors = {f"best/{name}": value for name, value in run.best.items()}
    if not run.done:
        for name, value in run.parameters.items():
            tensors[f"now/{name}"] = value
            for key, moment in run.optimizer.moments.get(name, {}).items():
                tensors[f"adam/{key}/{name}"] = moment
    meta = dict(
        done=run.done,
        epoch=run.epoch,
        step=run.step,
        # JSON has no NaN.
        rows=[
            {key: None if value != value else value for key, value in row.items()}
            for row in run.rows
        ],
        best_epoch=run.best_epoch,
        wall_s=run.wall_s,
        # Hexadecimal keeps every bit, and also NaN and infinity.
        loss=None if run.loss is None else float(run.loss).hex(),
        record=record and record.as_json(),
    )
    checkpoint.save(state_dir, run.digest, f"epoch{run.epoch}-step{run.step}", tensors, meta)


def load_finished(run: RunState, state_dir: Path) -> dict[str, Any] | None:
    """Load the rows and best tensors of a finished run, and return its run.json.

    Returns None, and changes nothing, if there is no checkpoint or the run is not done.
    """
    state = checkpoint.load(state_dir, run.digest)
    if state is None or not state[1]["done"]:
        return None
    tensors, meta = state
    _restore(run, meta, tensors)
    record: dict[str, Any] = meta["record"]
    return record


@torch.no_grad()
def resume(run: RunState, state_dir: Path) -> None:
    """Continue the run from its checkpoint, if there is one.

    Values are copied into `run.parameters` and the optimizer's moments in place.
    """
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
        run.loss = torch.tensor(float.fromhex(meta["loss"]), dtype=sum_dtype(device), device=device)
    log.info("%s resumes after epoch %d, step %d", run.spec.name, run.epoch, run.step)


def _restore(run: RunState, meta: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Set what every checkpoint has: progress, rows and the best tensors."""
    run.epoch, run.step = meta["epoch"], meta["step"]
    run.best_epoch, run.wall_s = meta["best_epoch"], meta["wall_s"]
    run.rows = [
        {key: math.nan if value is None else value for key, value in row.items()}
        for row in meta["rows"]
    ]
    run.best = {
        name.removeprefix("best/"): value
        for name, value in tensors.items()
        if name.startswith("best/")
    }
