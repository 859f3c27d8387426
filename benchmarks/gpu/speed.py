"""Speed of the machine, and of packs of `lora` beside PEFT with the Trainer, with memory.

All ways of one model run in the same process, on the same examples: see benchmarks/ways.py.
"""

import importlib.metadata
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
from shapes import LENGTHS, MODELS, Shape, training_flops, write_model, write_tokens

from gpu.settings import Settings

TINY = Shape("roberta", 2, 32, 4, 48, 100, 140, 1)
RANK = 8
PACKAGES = ("torch", "transformers", "peft", "accelerate")


def machine(settings: Settings) -> dict:
    """Return the device, its rates of matrix products in GFLOP/s, and versions."""
    import run
    import torch
    import ways

    if settings.tiny:
        ways.CPU_GEMM = 128
    answer = ways.measure_machine(dict(device=settings.device))
    module = torch.get_device_module(settings.device)
    memory = 0.0
    if hasattr(module, "mem_get_info"):
        memory = module.mem_get_info()[1] / 2**30
    return answer | dict(
        memory_gib=memory,
        gpus=torch.accelerator.device_count() if settings.device != "cpu" else 0,
        driver=_driver(),
        versions=_versions(),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=run.commit(),
    )


def _driver() -> str:
    """Return the version of the NVIDIA driver; empty without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.split()
    except OSError:
        return ""
    return lines[0] if lines else ""


def _versions() -> str:
    found = [f"Python {sys.version.split()[0]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def throughput(settings: Settings, model: str, lengths: str) -> dict:
    """Measure the ways on one model and kind of lengths; a way that fails has its reason.

    Returns:
        `rows`: for each way the columns of benchmarks/report.py, with `predicted_gib`.
    """
    import torch
    import ways

    shape, facts = TINY if settings.tiny else MODELS[model], LENGTHS[lengths]
    steps = settings.steps_of(model)
    model_dir = settings.folder / "models" / model
    if not (model_dir / "config.json").is_file():
        write_model(model_dir, shape)
    tokens_dir = settings.folder / "tokens" / f"{lengths}-{steps}-{shape.vocabulary}"
    counts = write_tokens(tokens_dir, facts, steps, shape.vocabulary)
    speed = ways.measure_machine(dict(device=settings.device))
    flops = training_flops(shape, counts, RANK, facts.classes) / int(counts.sum())
    common = dict(
        table="ways",
        model=model,
        lengths=lengths,
        rank=RANK,
        steps=steps,
        repeat=0,
        threads=torch.get_num_threads(),
        device=settings.device,
        precision=speed["precision"],
        model_dir=str(model_dir),
        tokens_dir=str(tokens_dir),
        classes=facts.classes,
        seed=0,
    )
    requests = [common | dict(way="ours", pack=pack) for pack in settings.packs]
    requests += [common | dict(way=way, pack=1) for way in ("peft", "peft_grouped")]
    rows = []
    for request in requests:
        ways.peak_gib(settings.device)
        try:
            answer = ways.measure(request | dict(started=time.time())) | dict(status="ok")
        except Exception as error:  # one way must not stop the others
            lines = str(error).strip().splitlines()
            answer = dict(status=f"failed: {type(error).__name__}: {lines[0] if lines else ''}")
        rates = {name: speed[name] for name in ("gemm_fp32", "gemm_bf16")}
        rows.append(request | answer | rates | dict(flops_per_token=round(flops)))
    return dict(rows=rows, layers=shape.layers, tokens_a_step=float(np.mean(counts) * 16))
