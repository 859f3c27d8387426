"""The device, the precision it trains in, and its memory.

A GPU is what torch calls an accelerator: `cuda` (NVIDIA, AMD), `mps` (Apple), `xpu` (Intel) or
another one. Precision `auto` asks a GPU whether it has native bf16, and times matrix products on a
CPU, as CPUs that accept bf16 differ tenfold in its speed. Memory of a pass is predicted from shapes
before training. That is an estimate, so `batching` also handles running out of memory.
"""

import functools
import logging
import math
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch

from lora.model import memory
from lora.model.architecture import Architecture
from lora.training import device_trial

log = logging.getLogger(__name__)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MIN_BF16_SPEEDUP = 1.5  # of matrix products; a smaller gain is lost in the other operations
GIB = 2**30
# Messages of a RuntimeError: torch's allocator, C++, and oneDNN (with a limit on address space).
# The last one is of an Apple GPU.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "backend out of memory",
)
VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
NEEDED = {  # to train on a kind of GPU
    "cuda": "install a CUDA build of torch",
    "mps": "use a Mac with an Apple GPU",
    "xpu": "install an XPU build of torch",
}


def pick_device(requested: str) -> torch.device:
    """Return the device to train on, and log it.

    A GPU that is not `cuda` first trains a tiny model for one step, because its backend may lack
    an operation.

    Args:
        requested: auto, or a kind of device. auto takes a GPU if there is one and it can train.

    Raises:
        ValueError: If a GPU is requested that torch does not find, or that cannot train.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    device = torch.device("cpu" if requested == "cpu" or found is None else found.type)
    if requested not in ("auto", device.type):
        raise ValueError(
            f"device is {requested}, but torch sees no GPU of this kind; use device auto or cpu, "
            f"or {NEEDED.get(requested, 'another build of torch')}"
        )
    note = " (no GPU found)" if requested == "auto" and device.type == "cpu" else ""
    problem = "" if device.type in ("cpu", "cuda") else device_trial.find_problem(device)
    if problem and requested != "auto":
        raise ValueError(f"device is {requested}, but it cannot train ({problem}); use device cpu")
    if problem:
        note = f" ({device.type} cannot train: {problem})"
        device = torch.device("cpu")
    variable = VISIBLE.get(device.type, VISIBLE["cuda"])
    visible = os.environ.get(variable)
    note += "" if visible is None else f" ({variable}={visible})"
    log.info("device %s%s, %d CPU threads", device_name(device), note, torch.get_num_threads())
    return device


def device_name(device: torch.device) -> str:
    """Return the model name of the GPU or CPU; for an Apple GPU that of its processor."""
    if hasattr(torch.get_device_module(device), "get_device_name"):
        return str(torch.get_device_module(device).get_device_name(device))
    if device.type != "cpu":
        return f"{device.type} GPU of {platform.processor() or platform.machine()}"
    lines = _lines("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.processor() or platform.machine()}"


def pick_precision(requested: str, device: torch.device) -> str:
    """Return the precision of the frozen base model, and log why.

    Args:
        requested: auto, bf16 or fp32. auto takes bf16 on a GPU with native bf16, and on a CPU
            where it is at least MIN_BF16_SPEEDUP times as fast.

    Raises:
        ValueError: If the precision is unknown.
    """
    if requested not in ("auto", *DTYPES):
        raise ValueError(f"precision is {requested!r}; allowed: auto, {', '.join(DTYPES)}")
    if requested == "fp32":
        return requested
    if device.type != "cpu":
        supports = getattr(torch.get_device_module(device), "is_bf16_supported", None)
        fast = supports is not None and supports(including_emulation=False)
        slow = not fast
        reason = "native on this GPU" if fast else "this GPU has no native bf16"
    else:
        speedup = _bf16_speedup()
        fast, slow = speedup >= MIN_BF16_SPEEDUP, speedup < 1
        reason = f"matrix products in bf16 are {speedup:.2g} times as fast here as in fp32"
    if requested == "bf16":
        if slow:
            log.warning(
                "precision is bf16, but %s. Training is slower than with precision fp32, which "
                "auto takes here",
                reason,
            )
        return requested
    precision = "bf16" if fast else "fp32"
    log.info("precision %s: %s", precision, reason)
    return precision


@functools.cache
def _bf16_speedup() -> float:
    """Return the speedup of a matrix product in bf16 over fp32 on this CPU, from the best times.

    One thread, CPU time: the load of the machine must not decide the precision of a grid. A CPU
    without bf16 instructions takes 50 times as long; two repeats are enough to see that.
    """
    pairs = {
        dtype: (torch.ones(256, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype))
        for dtype in DTYPES.values()
    }
    best, threads = dict.fromkeys(pairs, math.inf), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for repeat in range(6):
            for dtype, (left, right) in pairs.items():
                started = time.thread_time()
                left @ right
                if repeat:  # the first one is a warm-up
                    best[dtype] = min(best[dtype], time.thread_time() - started)
            if repeat and best[torch.bfloat16] > 5 * best[torch.float32]:
                break
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]


def is_out_of_memory(error: Exception) -> bool:
    """Return whether torch, Python or numpy ran out of memory, on a GPU or a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )


def peak_host_bytes() -> int:
    """Return the peak resident set of this process, with libraries and mapped files."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_device_bytes(device: torch.device) -> int:
    """Return the peak of torch's GPU memory, without the driver's own.

    It is 0 on a CPU, and what is in use now on a GPU whose peak torch does not record.
    """
    module = torch.get_device_module(device)
    if hasattr(module, "max_memory_reserved"):
        return int(module.max_memory_reserved(device))
    if hasattr(module, "driver_allocated_memory"):  # Apple
        return int(module.driver_allocated_memory())
    return 0


def release_cached_memory() -> None:
    """Return the GPU memory that torch has cached and does not use."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is not None:
        torch.get_device_module(found).empty_cache()


@functools.cache
def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which losses are summed: float64, or float32 if the device has none."""
    try:
        return torch.zeros((), dtype=torch.float64, device=device).dtype
    except (TypeError, RuntimeError):  # an Apple GPU
        return torch.float32


def free_bytes(device: torch.device) -> int:
    """Return the free memory of the GPU, or of the machine within the limit of its cgroup."""
    module = torch.get_device_module(device)
    if hasattr(module, "mem_get_info"):
        return int(module.mem_get_info(device)[0])
    if hasattr(module, "recommended_max_memory"):  # Apple
        return int(module.recommended_max_memory() - module.driver_allocated_memory())
    free = [
        int(line.split()[1]) * 1024
        for line in _lines("/proc/meminfo")
        if line.startswith("MemAvailable")
    ]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        # Cached file pages count as used, but the kernel reclaims them.
        cached = [
            int(line.split()[1])
            for line in _lines("/sys/fs/cgroup/memory.stat")
            if line.startswith("inactive_file ")
        ]
        free.append(int(limit[0]) - int(used[0]) + sum(cached))
    return min(free, default=2**62)


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []


def activation_bytes(
    architecture: Architecture,
    lengths: np.ndarray,
    widths: np.ndarray,
    lora_inputs: int,
    dtype: torch.dtype,
    runs: int = 1,
) -> int:
    """Estimate the memory of a training pass over some sequences (see memory.activation_bytes).

    Args:
        architecture: Sizes of the base model.
        lengths: Tokens of each sequence, shape [sequences].
        widths: Length that attention pads each sequence to, shape [sequences].
        lora_inputs: Matrices that LoRA keeps per layer, from `memory.lora_inputs`.
        dtype: Type of the activations.
        runs: Number of runs in the pass.

    Returns:
        Memory in bytes.
    """
    return memory.activation_bytes(
        width=architecture.width,
        inner=architecture.inner,
        layers=architecture.layers,
        heads=architecture.heads,
        tokens=int(lengths.sum()),
        attention_rows=int(widths.sum()),
        scores=int((widths.astype(np.int64) ** 2).sum()),
        lora_inputs=lora_inputs,
        itemsize=dtype.itemsize,
        table_rows=0 if architecture.relative is None else runs * architecture.relative.rows,
    )
