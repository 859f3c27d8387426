"""Forecast the time, memory and disk of a training job from the config alone.

A job's time is the sum of: operations divided by the device's sustained rate, a fixed cost per
step, evaluations, checkpoints and start-up. It agrees with the timings in benchmarks/results to
within a quarter. For a device that was not measured, the rates are estimates with a source.
Cluster jobs request the forecast times HEADROOM, doubled at each further attempt. Nothing limits a
local run. Forecasts are cached, because Snakemake requests each several times.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lora.experiment import registry
from lora.experiment.cell import BASE_METHODS, Cell
from lora.experiment.grid import Grid
from lora.experiment.registry import Device
from lora.model import memory
from lora.planning import flops as arithmetic
from lora.planning import workload

GIB = 2**30
FILL = 1.2  # positions in attention per token: attention pads sequences to fixed widths
STATE_BYTES_PER_S = 200e6  # rate at which a checkpoint is written, synced and hashed
SAVED_SHARE = 0.02  # of a job's time, for checkpoints at ends of epochs: checkpoint_schedule.SHARE
# What a cluster job requests, over its forecast. Time has more headroom: another CPU may multiply
# bf16 no faster than float32, and nodes are shared. A job that is stopped resumes when retried.
HEADROOM = {"memory": 1.4, "time": 3.0}
JOBSTEP_BYTES = 500 * 2**20  # Snakemake's own processes inside a cluster job
DOUBLINGS = 2  # attempts that each request twice the memory and time of the one before
FLOOR_MB, FLOOR_MIN = 1500, 10  # least request: torch alone needs the memory, a busy node the time
# Resident memory of a process before it trains: Python, torch and transformers, and CUDA on a GPU.
HOST_BYTES = {"cpu": 0.55 * GIB, "gpu": 3.5 * GIB}
# Memory that allocators hold over the counted tensors: on a CPU fitted to the benchmark, on a GPU
# an estimate.
HELD = {"cpu": 1.5, "gpu": 1.2}
# On a CPU oneDNN caches the kernels of the last 1024 shapes of bf16 products, 0.7 to 0.9 MB each
# (measured), which also fragments the heap. Every step has new shapes: about 6 of the model and 6
# of each run. In float32 nothing grows.
KERNELS, KERNEL_BYTES, NEW_SHAPES = 1024, 1.1e6, 6
CONTEXT_BYTES = 0.8 * GIB  # memory of the GPU that the CUDA context takes
OF_MODEL = 0.5  # share of a float32 model file that stays resident in addition to the model


@dataclass(frozen=True)
class Forecast:
    """Forecast of one training job on one device.

    Memory of the device is 0 on a CPU: `device_bytes` is the peak if there is enough of it,
    `needed_bytes` the least that the job can run with. `disk_bytes` stay in the results folder.
    """

    train_s: float
    startup_s: float
    host_bytes: float
    device_bytes: float
    needed_bytes: float
    disk_bytes: float
    tokens: float
    flops: float
    fits: bool

    @property
    def seconds(self) -> float:
        """Time of the job, start-up included."""
        return self.train_s + self.startup_s


@dataclass(frozen=True)
class _Run:
    """Operations, tokens and parameters of one run of a cell."""

    tokens: float
    flops: float
    steps: int
    eval_tokens: float
    eval_flops: float
    epochs: int
    parameters: int
    step_tokens: float
    longest: float
    attended: float
    mean: float
    lora_inputs: int


class Forecaster:
    """Forecasts of the jobs of one grid.

    `assumptions` are those behind the forecasts made so far, in words, as the keys of a dict.
    """

    def __init__(self, grid: Grid) -> None:
        workload.read()
        self.grid = grid
        self.assumptions: dict[str, None] = {}
        self.results, self.threads = Path(grid.config.results), grid.config.threads
        self._shapes: dict[str, workload.Shape] = {}
        self._runs: dict[Cell, _Run] = {}
        self._jobs: dict[tuple[tuple[Cell, ...], int, Device, str], Forecast] = {}

    def shape(self, model: str) -> workload.Shape:
        """Return the sizes of a model."""
        if model not in self._shapes:
            source = self.grid.sources.get(model)
            self._shapes[model], assumption = workload.shape_of(self.results, model, source)
            self.assumptions |= {assumption: None} if assumption else {}
        return self._shapes[model]

    def job(
        self, cells: tuple[Cell, ...], runs_each: int, device: Device, precision: str = ""
    ) -> Forecast:
        """Return the forecast of a job that trains `runs_each` seeds of each cell together.

        The cells have one model and method. The default precision is the config's.
        """
        key = (tuple(cells), runs_each, device, precision)
        if key not in self._jobs:
            self._jobs[key] = self._forecast(*key)
        return self._jobs[key]

    def _forecast(
        self, cells: tuple[Cell, ...], runs_each: int, device: Device, precision: str
    ) -> Forecast:
        shape, alone = self.shape(cells[0].model), cells[0].method in BASE_METHODS
        precision = "fp32" if alone else precision or device.precision(self.grid.config.precision)
        runs = [self._run(cell) for cell in cells for _ in range(runs_each)]
        packs = [[run] for run in runs] if alone else [runs]
        rate = device.flops_per_s(precision, self.threads)
        every_s = self.grid.config.checkpoint_every_s
        train_s = sum(_seconds(pack, shape.layers, device, rate, every_s) for pack in packs)
        host, used, needed = _memory(packs[0], shape, device, 2 if precision == "bf16" else 4)
        return Forecast(
            train_s=train_s,
            startup_s=device.startup_s,
            host_bytes=host,
            device_bytes=used,
            needed_bytes=needed,
            disk_bytes=sum(_disk(run) for run in runs),
            tokens=sum(run.tokens for run in runs),
            flops=sum(run.flops + run.eval_flops for run in runs),
            fits=not device.memory_gib or needed <= device.memory_gib * GIB,
        )

    def _run(self, cell: Cell) -> _Run:
        if cell not in self._runs:
            self._runs[cell] = self._new_run(cell)
        return self._runs[cell]

    def _new_run(self, cell: Cell) -> _Run:
        """Operations, tokens and parameters of a cell's run, from its task and hyperparameters."""
        hparams, task = self.grid.hparams(cell), self.grid.tasks[cell.task]
        shape = self.shape(cell.model)
        own, classes = self.grid.config.tasks.get(cell.task), task.num_labels or 2
        splits, assumptions = workload.splits_of(
            self.results,
            cell.model,
            task,
            hparams.max_tokens,
            Path(own.path) if own and own.path else None,
        )
        self.assumptions |= dict.fromkeys(assumptions)
        train, evals = splits["train"], [splits[name] for name in task.eval_splits]
        flops = arithmetic.per_token(shape, cell, train, classes, hparams.head == "trained")
        size = min(hparams.examples_per_step, train.examples)
        deviation = math.sqrt(max(train.mean * (train.attended - train.mean), 0))  # of lengths
        head = arithmetic.head(shape, classes)
        return _Run(
            tokens=train.tokens * hparams.epochs,
            flops=train.tokens * hparams.epochs * flops.training,
            steps=math.ceil(train.examples / size) * hparams.epochs,
            eval_tokens=hparams.epochs * sum(split.tokens for split in evals),
            eval_flops=hparams.epochs
            * sum(
                split.tokens * arithmetic.per_token(shape, cell, split, classes).forward
                for split in evals
            ),
            epochs=hparams.epochs,
            parameters=arithmetic.trainable(shape, cell)
            + (head if hparams.head == "trained" else 0),
            # The largest step: four standard deviations above the mean.
            step_tokens=min(
                size * train.mean + 4 * deviation * math.sqrt(size), size * hparams.max_tokens
            ),
            longest=min(train.mean + 6 * deviation, hparams.max_tokens),
            attended=train.attended,
            mean=train.mean,
            lora_inputs=memory.lora_inputs(cell.method, cell.weights, hparams.lora_dropout),
        )


def _seconds(
    pack: list[_Run], layers: int, device: Device, flops_per_s: float, every_s: float
) -> float:
    """Seconds of training a pack in lock-step, with a checkpoint every `every_s` seconds and at
    ends of epochs.
    """
    kind = memory.table_key(device.kind)
    pass_tokens = memory.TRAIN_TOKENS[kind]
    passes = max(max(run.steps for run in pack), sum(run.tokens for run in pack) / pass_tokens)
    steps = (
        layers
        * (device.layer_ms * passes + device.run_layer_ms * sum(run.steps for run in pack))
        / 1000
    )
    eval_tokens = sum(run.eval_tokens for run in pack)
    batches = eval_tokens / memory.EVAL_TOKENS[kind] + sum(run.epochs for run in pack)
    passes = eval_tokens / pass_tokens + max(run.epochs for run in pack)
    # A forward pass launches a third of a step's kernels; an evaluation has no optimizer.
    evaluations = layers * (device.layer_ms * passes + device.run_layer_ms * batches) / 3 / 1000
    work = sum(run.flops + run.eval_flops for run in pack) / flops_per_s + steps + evaluations
    saves_s = [4 * 4 * run.parameters / STATE_BYTES_PER_S for run in pack]  # one save of each run
    ends_s = sum(run.epochs * save_s for run, save_s in zip(pack, saves_s, strict=True))
    save_s = sum(saves_s)
    return work * (1 + save_s / every_s) + min(ends_s, SAVED_SHARE * work + save_s)


def _memory(
    pack: list[_Run], shape: workload.Shape, device: Device, itemsize: int
) -> tuple[float, float, float]:
    """Peak bytes of the host and of the device, and the least of the device, for a pack in
    lock-step.
    """
    model = shape.parameters * itemsize
    runs = 4 * memory.FLOATS_PER_PARAMETER * sum(run.parameters for run in pack)
    worst = max(pack, key=lambda run: run.step_tokens)
    kind = memory.table_key(device.kind)
    tokens = min(memory.TRAIN_TOKENS[kind], sum(run.step_tokens for run in pack))
    inputs = max(run.lora_inputs for run in pack)

    def activations(count: float, attended: float) -> float:
        rows = FILL * count
        return memory.activation_bytes(
            shape.width,
            shape.inner,
            shape.layers,
            shape.heads,
            count,
            rows,
            rows * FILL * attended,
            inputs,
            itemsize,
            table_rows=len(pack) * shape.table_rows,
        )

    held = HELD[kind]
    least = model + runs + held * activations(worst.longest, worst.longest)
    whole = model + runs + held * activations(tokens, worst.attended)
    file = OF_MODEL * 4 * shape.parameters
    if kind == "cpu":
        shapes = (
            min(KERNELS, NEW_SHAPES * (1 + len(pack)) * max(run.steps for run in pack))
            if itemsize == 2
            else 0
        )
        return HOST_BYTES["cpu"] + file + whole + shapes * KERNEL_BYTES, 0.0, 0.0
    needed, used = CONTEXT_BYTES + least, CONTEXT_BYTES + whole
    used = min(used, max(needed, device.memory_gib * GIB)) if device.memory_gib else used
    return HOST_BYTES["gpu"] + file + model + runs / memory.FLOATS_PER_PARAMETER, used, needed


def _disk(run: _Run) -> float:
    """Bytes that a finished run leaves on disk.

    They are its adapter, its last checkpoint with the same tensors, the checkpoint before that,
    with values, two moments and the best epoch's copy, and a few kilobytes of text.
    """
    return 4 * run.parameters * (1 + 1 + 4) + 20_000


def shared_disk_bytes(forecaster: Forecaster) -> float:
    """Return the bytes on disk that all jobs share: models, and tokens with types and labels."""
    grid = forecaster.grid
    models = {cell.model for cell in grid.cells}
    prepared = {(cell.model, cell.task, grid.hparams(cell).max_tokens) for cell in grid.cells}
    total = sum(4.0 * forecaster.shape(model).parameters for model in models)
    for model, task, max_tokens in prepared:
        splits, _ = workload.splits_of(forecaster.results, model, grid.tasks[task], max_tokens)
        total += sum(5 * split.tokens + 12 * split.examples for split in splits.values())
    return total


def mem_mb(forecast: Forecast, attempt: int) -> int:
    """Return the memory that a cluster job requests, in MB."""
    return max(
        FLOOR_MB, math.ceil((HEADROOM["memory"] * forecast.host_bytes + JOBSTEP_BYTES) / 2**20)
    ) * 2 ** min(attempt - 1, DOUBLINGS)


def runtime_min(forecast: Forecast, attempt: int, limit: int | None = None) -> int:
    """Return the time that a cluster job requests, in minutes; at most `limit`."""
    minutes = max(FLOOR_MIN, math.ceil(HEADROOM["time"] * forecast.seconds / 60))
    minutes *= 2 ** min(attempt - 1, DOUBLINGS)
    return min(minutes, limit) if limit else minutes


def retries(forecasts: Iterable[Forecast], limit: int) -> int:
    """Return how often a job of at most `limit` minutes is tried again, to finish the longest.

    A job that fails for another reason fails early, so more attempts than needed cost little.
    """
    return DOUBLINGS + max((runtime_min(one, 1) // limit for one in forecasts), default=0)


def planning_device(grid: Grid) -> Device:
    """Return the device that requests are made for: the config's `plan_device`.

    `auto` is the CPU if the config trains on it, otherwise the slowest GPU of devices.csv.
    """
    devices = registry.devices()
    requested = grid.config.plan_device
    if requested != "auto":
        return devices[requested]
    if grid.config.device == "cpu":
        return next(device for device in devices.values() if device.kind == "cpu")
    gpus = [device for device in devices.values() if device.kind != "cpu"]
    return min(
        gpus, key=lambda device: device.flops_per_s(device.precision(grid.config.precision), 1)
    )
