"""What the machine offers a training: its device, the precision it gains by, and the memory it has.

Precision `auto` asks a GPU what it can do and measures a CPU for some milliseconds, because processors that accept bf16
differ tenfold in how fast they multiply it. Memory is predicted from the shapes before training: a pass's activations from
its sentences' lengths, and what every run keeps. The prediction decides how many tokens go through a pass at once; it is
an estimate, so running out all the same is caught where it happens (`train`). Knows nothing of runs or files.
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

log = logging.getLogger(__name__)
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
GAIN = 1.5  # how much faster bf16 products must be for `auto` to take it: less is lost again on everything else
GIB = 2**30
# What a RuntimeError says of it: torch's own allocator, C++, and oneDNN (seen with a limit on the address space).
OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "could not create a primitive")


def pick_device(wanted: str) -> torch.device:
    """auto, cpu or cuda to a device, saying which; raises ValueError for cuda without a GPU."""
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ValueError(
            "device is cuda, but torch sees no GPU; use device auto or cpu, or install a CUDA build of torch"
        )
    device = torch.device("cuda" if found and wanted != "cpu" else "cpu")
    why = " (no GPU found)" if wanted == "auto" and device.type == "cpu" else ""
    given = os.environ.get(
        "CUDA_VISIBLE_DEVICES"
    )  # which of a machine's GPUs a queue gave to this job
    why += "" if given is None else f" (CUDA_VISIBLE_DEVICES={given})"
    log.info("training on %s%s, %d CPU threads", device_name(device), why, torch.get_num_threads())
    return device


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.processor() or platform.machine()}"


def pick_precision(wanted: str, device: torch.device) -> str:
    """bf16 or fp32 for the frozen base; `auto` takes bf16 where it gains, and says why."""
    if wanted not in ("auto", *DTYPES):
        raise ValueError(f"precision is {wanted!r}; allowed: auto, {', '.join(DTYPES)}")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        picked = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        log.info(
            "precision %s: %s",
            picked,
            "native on this GPU" if picked == "bf16" else "this GPU has no native bf16",
        )
    else:
        gain = _bf16_gain()
        picked = "bf16" if gain >= GAIN else "fp32"
        log.info(
            "precision %s: matrix products in bf16 are %.1f times as fast here as in fp32",
            picked,
            gain,
        )
    return picked


@functools.cache
def _bf16_gain() -> float:
    """Time of a float32 matrix product on this CPU over that of the same in bf16: the best of a few of each, in turn.

    On one thread and in processor time, so that what else the machine is doing does not decide what a grid is trained in.
    """
    pairs = {
        kind: (torch.ones(256, 1024, dtype=kind), torch.ones(1024, 1024, dtype=kind))
        for kind in DTYPES.values()
    }
    best, threads = dict.fromkeys(pairs, math.inf), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for repeat in range(6):
            for kind, (left, right) in pairs.items():
                started = time.thread_time()
                left @ right
                if repeat:  # the first of each warms up
                    best[kind] = min(best[kind], time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return best[torch.float32] / best[torch.bfloat16]


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, Python or numpy says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )


def peak_host_bytes() -> int:
    """The most memory that this process has held so far: its resident set, libraries and mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_device_bytes(device: torch.device) -> int:
    """The most memory that torch has held on a GPU so far, without CUDA's own; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0


def free_bytes(device: torch.device) -> int:
    """Memory that training may still take: of the GPU, or of this machine and, where there is one, its control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [
        int(line.split()[1]) * 1024
        for line in _lines("/proc/meminfo")
        if line.startswith("MemAvailable")
    ]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        # Cached file pages count as used and can be taken back.
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
    config, lengths: np.ndarray, widths: np.ndarray, lora_inputs: int, dtype: torch.dtype
) -> int:
    """Estimate of what a training pass over sentences of these lengths keeps for its gradient, and works with; `widths` are
    what attention fills each sentence up to. See memory.activation_bytes."""
    tokens, places, scores = (
        int(total.sum()) for total in (lengths, widths, widths.astype(np.int64) ** 2)
    )
    return memory.activation_bytes(
        config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads,
        tokens, places, scores, lora_inputs, dtype.itemsize,
    )  # fmt: skip
