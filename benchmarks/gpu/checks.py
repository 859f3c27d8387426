"""Checks of training on a GPU: tests, packs, learning, kill and resume, two GPUs."""

import csv
import importlib.util
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shapes import LENGTHS, MODELS, write_model, write_tokens

from gpu.settings import BENCHMARKS, ROOT, Settings

# Largest difference of a loss between a packed and a single run. A GPU rounds a product by its
# number of rows, and the differences grow with the steps.
ROUNDING = {"fp32": 1e-3, "bf16": 3e-2}
TASK = "product-sentiment"  # of the learning check, with the demo's model
DEVIATIONS = 3  # of the mean over seeds, that the GPU may differ from the CPU


class Skipped(Exception):
    """A step that this machine cannot do; the message says why."""


def tests(settings: Settings) -> dict:
    """Run the tests that need a GPU."""
    if importlib.util.find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += ["--noconftest", str(ROOT / "tests/training/test_on_a_gpu.py")]
    command += ["-k", "lora-bert or trial or memory"] if settings.tiny else []
    environment = os.environ | dict(LORA_TEST_DEVICE=settings.device)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    last = (done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1]
    if done.returncode:
        raise AssertionError(f"{last}\n{done.stdout[-3000:]}")
    return dict(summary=last)


def train(
    settings: Settings, seeds: Sequence[int], precision: str, folder: Path, steps: int
) -> dict[int, list[dict[str, str]]]:
    """Train seeds of one cell together, on random tokens of SST-2's lengths.

    Returns:
        The rows of metrics.csv of each seed.
    """
    from lora.experiment import hparam_rows
    from lora.experiment.cell import Cell
    from lora.experiment.run_spec import JobOptions, RunSpec
    from lora.experiment.task import Task
    from lora.training import loop

    model_dir, tokens_dir = random_inputs(settings, steps)
    cell = Cell("benchmark", "sst2", "lora", "qv", 8, "course")
    fixed = dict(epochs=2, examples_per_step=16, max_tokens=128, alpha=16, lora_dropout=0.1)
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, fixed)
    task = Task("sst2", "", "sst2", "glue", ("sentence",), 2, "accuracy", ("validation",), "")
    specs = [RunSpec(cell, seed, hparams, task, tokens_dir, folder / str(seed)) for seed in seeds]
    loop.train(
        specs, JobOptions(model_dir, folder / "state", device=settings.device, precision=precision)
    )
    return {spec.seed: rows_of(spec.output_dir) for spec in specs}


def random_inputs(settings: Settings, steps: int) -> tuple[Path, Path]:
    """Return a model of the demo's shape with random weights, and tokens of SST-2's lengths."""
    from gpu.speed import TINY

    shape = TINY if settings.tiny else MODELS["demo"]
    model_dir = settings.folder / "models/checks"
    if not (model_dir / "config.json").is_file():
        write_model(model_dir, shape)
    tokens_dir = settings.folder / f"tokens/checks-{steps}"
    write_tokens(tokens_dir, LENGTHS["sst2"], steps, shape.vocabulary, "sst2")
    return model_dir, tokens_dir


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a run's metrics.csv."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def largest_difference(first: list[dict[str, str]], second: list[dict[str, str]]) -> float:
    """Return the largest difference of a loss between two runs; infinite if one is not finite."""
    pairs = [
        (float(one[name]), float(other[name]))
        for one, other in zip(first, second, strict=True)
        for name in ("train_loss", "eval_loss")
    ]
    differences = [abs(one - other) for one, other in pairs]
    return max(value if math.isfinite(value) else math.inf for value in differences)


def packed(settings: Settings) -> dict:
    """Compare the rows of three packed seeds with those that each gives alone."""
    import tempfile

    steps, seeds, found = 3 if settings.tiny else 20, (0, 1, 2), {}
    for precision in ROUNDING:
        with tempfile.TemporaryDirectory() as folder:
            together = train(settings, seeds, precision, Path(folder, "pack"), steps)
            alone = {
                seed: train(settings, [seed], precision, Path(folder, f"alone{seed}"), steps)[seed]
                for seed in seeds
            }
        found[precision] = max(largest_difference(together[seed], alone[seed]) for seed in seeds)
    wrong = {name: value for name, value in found.items() if value > ROUNDING[name]}
    if wrong:
        raise AssertionError(f"packed runs differ from single runs: {wrong}; allowed: {ROUNDING}")
    return dict(largest_difference=found, allowed=ROUNDING)


def learning(settings: Settings) -> dict:
    """Train the demo's task, and compare the best accuracy with that of the reference runs."""
    import tempfile

    from lora.experiment import hparam_rows, registry
    from lora.experiment.cell import Cell
    from lora.experiment.run_spec import JobOptions, RunSpec
    from lora.training import loop

    for path in (settings.model_dir / "config.json", settings.tokens_dir / "tokens.json"):
        if not path.is_file():
            raise Skipped(f"no {path}: run `make demo` first, or give --model-dir and --tokens-dir")
    cell = Cell("minilm", TASK, "lora", "qv", 8, "demo")
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, {})
    with tempfile.TemporaryDirectory() as folder:
        specs = [
            RunSpec(cell, seed, hparams, registry.task(TASK), settings.tokens_dir, Path(folder, s))
            for seed, s in ((seed, str(seed)) for seed in range(settings.seeds))
        ]
        state_dir = Path(folder, "state")
        loop.train(specs, JobOptions(settings.model_dir, state_dir, device=settings.device))
        ours = [best_accuracy(rows_of(spec.output_dir)) for spec in specs]
    reference = sorted((ROOT / "results/reference/runs" / cell.path).glob("seed*"))
    return compared_with(ours, [best_accuracy(rows_of(folder)) for folder in reference])


def best_accuracy(rows: list[dict[str, str]]) -> float:
    return max(float(row["accuracy"]) for row in rows)


def compared_with(ours: list[float], theirs: list[float]) -> dict:
    """Compare the mean of a metric with that of the CPU's runs.

    Raises:
        AssertionError: If it differs by more than DEVIATIONS standard errors. The standard
            deviation of a run is that of the CPU's runs, and at least 0.01.
    """
    deviation = max(statistics.stdev(theirs), 0.01)
    allowed = DEVIATIONS * deviation * math.sqrt(1 / len(ours) + 1 / len(theirs))
    difference = statistics.mean(ours) - statistics.mean(theirs)
    found = dict(gpu=ours, cpu=theirs, difference=difference, allowed=allowed)
    if not abs(difference) <= allowed:
        raise AssertionError(f"learning differs from the CPU's: {found}")
    return found


def command_of_job(settings: Settings, steps: int, output_dir: Path, seed: int = 0) -> list[str]:
    """Return the command that trains one run in a separate process."""
    model_dir, tokens_dir = random_inputs(settings, steps)
    options = {
        "--task": "sst2",
        "--model": "benchmark",
        "--weights": "qv",
        "--rank": "8",
        "--seed": str(seed),
        "--epochs": "2",
        "--examples-per-step": "16",
        "--max-tokens": "128",
        "--model-dir": str(model_dir),
        "--tokens-dir": str(tokens_dir),
        "--output-dir": str(output_dir),
        "--checkpoint-every-s": "0.2",
        "--device": settings.device,
    }
    return [
        sys.executable,
        "-m",
        "lora",
        "train",
        *(word for pair in options.items() for word in pair),
    ]


def start(command: list[str]) -> subprocess.Popen:
    """Start a job; its log is on standard error."""
    path = os.pathsep.join([str(ROOT), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | dict(PYTHONPATH=path)
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(job: subprocess.Popen) -> str:
    """Wait for a job and return its log.

    Raises:
        AssertionError: If it failed.
    """
    log = job.communicate()[1]
    if job.returncode:
        raise AssertionError(f"a job ended with exit status {job.returncode}:\n{log[-2000:]}")
    return log


def resume(settings: Settings) -> dict:
    """Kill a run after its first checkpoint, run it again, and compare with a whole one."""
    import tempfile

    steps = 20 if settings.tiny else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish(start(command_of_job(settings, steps, folder / "whole")))
        job = start(command_of_job(settings, steps, folder / "killed"))
        while job.poll() is None and not list((folder / "killed").rglob("*.safetensors")):
            time.sleep(0.02)
        job.kill()
        job.communicate()
        interrupted = not (folder / "killed/metrics.csv").is_file()
        started = time.time()
        log = finish(start(command_of_job(settings, steps, folder / "killed")))
        seconds = time.time() - started
        whole, killed = (rows_of(folder / kind) for kind in ("whole", "killed"))
    difference = largest_difference(whole, killed)
    if difference > ROUNDING["bf16"]:
        raise AssertionError(f"a resumed run differs from an uninterrupted one by {difference}")
    return dict(
        interrupted=interrupted,
        resumed="resumes after" in log,
        same_bits=whole == killed,
        largest_difference=difference,
        seconds=seconds,
    )


def two_gpus(settings: Settings) -> dict:
    """Train two jobs at once; each must lock another GPU."""
    import tempfile

    import torch

    if not settings.tiny and torch.accelerator.device_count() < 2:
        raise Skipped("this machine has one GPU")
    with tempfile.TemporaryDirectory() as folder:
        commands = [command_of_job(settings, 20, Path(folder, str(seed)), seed) for seed in (0, 1)]
        logs = [finish(job) for job in [start(command) for command in commands]]
    taken = [locked_gpu(log) for log in logs]
    if settings.device != "cpu" and (None in taken or taken[0] == taken[1]):
        raise AssertionError(f"two jobs took these GPUs: {taken}; expected two different ones")
    return dict(gpus=taken)


def locked_gpu(log: str) -> str | None:
    """Return the GPU that a job locked, from its log."""
    found = [line for line in log.splitlines() if "the first free one of" in line]
    return found[0].split("GPU ", 1)[1].split(",")[0] if found else None
