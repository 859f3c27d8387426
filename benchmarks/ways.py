"""Measure one way to train in a separate process: `python benchmarks/ways.py JSON`.

JSON is a request of run.py; the answer is one line of JSON. All ways train LoRA on query and value
of the same model, with the same sentences, batch, epochs, dropouts, optimizer (AdamW), schedule and
clipping.

The baselines (baselines.py) get every cheap setting that makes them faster: fused AdamW; no
logging, saving, evaluation or check for non-finite losses; batches collated from tensors in the
same process. PEFT uses the precision that `lora` picks on this machine. Its frozen model is loaded
in that precision, so autocast does not convert the weights in every step; its trained parameters
are fp32. Attention is sdpa, and eager for PEFT on a CPU, where sdpa with dropout has no fused
kernel and eager was up to 15 % faster. The baselines train BERT's classifier but not its pooler, as
PEFT does by default; `lora` trains both.

The timed part is from the end of the first step, which includes lazy set-up, to the end of the last
step. `lora` evaluates and saves after it. The function that makes a step of `lora` is wrapped here,
so that its steps can be timed.
"""

import json
import resource
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from baselines import ALPHA, train_baseline
from clock import Clock
from shapes import EXAMPLES_PER_STEP, PAD_TO, Shape, write_model

from lora.data import tokens
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.experiment.task import Task
from lora.training import batching, loop, pack_step
from lora.training.device import DTYPES, device_name, pick_device, pick_precision

CPU_GEMM, GPU_GEMM = 2048, 8192  # sizes large enough for the full rate
SLOW_GEMM = 256  # for bf16 on a CPU without bf16 instructions, which is 50 times slower


def train_ours(request: dict, clock: Clock) -> dict:
    """Train a pack of `request["pack"]` seeds by `lora.training.loop.train`.

    Args:
        request: The request.
        clock: Clock of the steps.

    Returns:
        Precision, number of examples and tokens in the timed steps of all runs, and the memory
        that was predicted for all tensors.
    """
    optimizer_step, plan_budget = pack_step.optimizer_step, batching.plan_budget
    predicted = 0.0

    def timed_step(*arguments, **named):
        clock.begin_step()
        examples = optimizer_step(*arguments, **named)
        clock.end_step()
        return examples

    def recorded_budget(*arguments, **named):
        nonlocal predicted
        budget = plan_budget(*arguments, **named)
        predicted = budget.predicted_bytes / 2**30
        return budget

    cell = Cell("benchmark", "benchmark", "lora", "qv", request["rank"], "course")
    fixed = dict(epochs=1, examples_per_step=EXAMPLES_PER_STEP, max_tokens=PAD_TO, alpha=ALPHA)
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, fixed)
    task = Task(
        "benchmark",
        "",
        "benchmark",
        "glue",
        ("sentence",),
        request["classes"],
        "accuracy",
        ("validation",),
        "",
    )
    seeds = range(request["seed"], request["seed"] + request["pack"])
    with tempfile.TemporaryDirectory() as folder:
        specs = [
            RunSpec(cell, seed, hparams, task, Path(request["tokens_dir"]), Path(folder, str(seed)))
            for seed in seeds
        ]
        options = JobOptions(
            Path(request["model_dir"]),
            Path(folder, "state"),
            device=request["device"],
            precision=request["precision"],
        )
        with (
            mock.patch.object(pack_step, "optimizer_step", timed_step),
            mock.patch.object(batching, "plan_budget", recorded_budget),
        ):
            loop.train(specs, options)
        record = (specs[0].output_dir / "run.json").read_text(encoding="utf-8")
        precision = json.loads(record)["precision"]
    lengths = tokens.load(request["tokens_dir"])["train"].lengths
    first = sum(
        lengths[tokens.epoch_order(seed, 0, len(lengths))[:EXAMPLES_PER_STEP]].sum()
        for seed in seeds
    )
    return dict(
        precision=precision,
        examples=request["pack"] * (len(lengths) - EXAMPLES_PER_STEP),
        tokens=int(request["pack"] * lengths.sum() - first),
        predicted_gib=predicted,
    )


def measure_machine(request: dict) -> dict:
    """Return the device, the precision that `lora` picks on it, and its rates of matrix products.

    A rate is in GFLOP/s, the median of nine large products after two that are not counted.
    """
    device = pick_device(request["device"])
    precision, rates = pick_precision("auto", device), {}
    for name, dtype in DTYPES.items():
        size = CPU_GEMM if device.type == "cpu" else GPU_GEMM
        if device.type == "cpu" and (name, precision) == ("bf16", "fp32"):
            size = SLOW_GEMM
        left, right = torch.randn(2, size, size, device=device).to(dtype)
        seconds = []
        for _ in range(11):
            clock = Clock(2, device.type)
            clock.begin_step()
            left @ right
            clock.end_step()
            seconds.append(clock.times[1] - clock.times[0])
        rates[f"gemm_{name}"] = 2 * size**3 / float(np.median(seconds[2:])) / 1e9
    return rates | dict(device=device.type, device_name=device_name(device), precision=precision)


def peak_gib(device: str) -> float:
    """Return the peak of tensors on the GPU since the last call; 0 where torch does not record it.

    A peak that is not reset would be that of an earlier way in the same process.
    """
    module = torch.get_device_module(device)
    if not hasattr(module, "reset_peak_memory_stats"):
        return 0.0
    peak = module.max_memory_allocated() / 2**30
    module.reset_peak_memory_stats()
    return peak


def measure(request: dict) -> dict:
    """Answer a request: measure a way of training or the machine, or write a model.

    Returns:
        Columns of report.COLUMNS; for way `machine` the answer of `measure_machine`, for way
        `model` nothing.
    """
    torch.set_num_threads(request["threads"])
    if request["way"] == "machine":
        return measure_machine(request)
    if request["way"] == "model":
        write_model(Path(request["model_dir"]), Shape(**request["shape"]))
        return {}
    clock = Clock(request["steps"], request["device"])
    train = train_ours if request["way"].startswith("ours") else train_baseline
    answer = train(request, clock)
    answer |= clock.read(request["started"])
    answer["peak_rss_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    answer["peak_cuda_gib"] = peak_gib(request["device"])
    return answer


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
