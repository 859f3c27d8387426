"""Run out of disk, file size, write permission, file handles or memory.

The job continues, or stops with one message that gives the reason. Saved state is kept, and
without the limit the same command gives the undisturbed outputs.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from faults.bench import CELLS, Bench, Outputs, SavedSteps, check_not_lost, outputs, saved_states
from faults.injection import Injection
from faults.job import JobResult, Lost
from safetensors.numpy import load

from lora.columns import METRICS_COLUMNS

SEEDS = (0, 1, 2, 3)  # enough runs that half of a pass still has a complete step of one
SETUP_LOCK = threading.Lock()


class Skipped(Exception):
    """The fault can't be injected on this machine; the message gives the reason."""


def single_message(result: JobResult, name: Path | str = "/") -> str:
    """Return the message of a job that stopped, with shortened paths.

    Raises:
        Lost: Unless it is a single message that contains `name`.
    """
    if result.status not in (1, 2) or not result.message or "Traceback" in result.errors:
        raise Lost(f"status {result.status} without one message: {result.errors[-1500:]}")
    if str(name) not in result.message:
        raise Lost(f"a message that does not name {name}: {result.message}")
    return re.sub(r"/[\w.+/-]*/", ".../", result.message)


def _interrupted(bench: Bench, random: Random) -> Path:
    """Return the folder of a job that was killed after it saved state."""
    folder = bench.new_folder()
    call = random.randint(4, bench.calls["step"] - 1)
    result = bench.start(folder, [Injection("kill", "step", call)]).wait()
    if result.status != -signal.SIGKILL:
        raise Lost(f"status {result.status} instead of a kill: {result.errors[-1500:]}")
    return folder


def _new_or_interrupted(bench: Bench, random: Random) -> Path:
    """Return the folder of an interrupted job, or in half of the cases a new one."""
    return _interrupted(bench, random) if random.random() < 0.5 else bench.new_folder()


def _check_and_resume(
    bench: Bench, folder: Path, before: SavedSteps, result: JobResult, name: Path | str = "/"
) -> str:
    """Check the saved state and the message, and run the job again without the fault.

    Returns:
        The message of the job, which contains `name`; empty if the job succeeded.
    """
    check_not_lost(before, folder)
    message = single_message(result, name) if result.status else ""
    bench.resume_and_check(folder)
    return message


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"mount {' '.join(map(str, arguments[:-2]))}: {done.stderr.strip()}")


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str | Path) -> Iterator[None]:
    """Mount a file system on a folder, and unmount it at the end of the block."""
    if os.geteuid():
        raise Skipped("only root can mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    _mount(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(bench: Bench, random: Random) -> str:
    """Give the job a disk with space for a random part of its outputs; enlarge it later."""
    folder = bench.new_folder()
    needed = sum(-(-len(content) // 4096) * 4096 for content in bench.expected.values())
    size = random.randint(3, 2 * needed // 4096) * 4096
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        result = bench.start(folder).wait()
        saved = saved_states(folder)
        _mount("-o", "remount,size=64m", folder)
        return _check_and_resume(bench, folder, saved, result, folder)


def file_size_limit(bench: Bench, random: Random) -> str:
    """Limit the size of files."""
    folder = _new_or_interrupted(bench, random)
    before = saved_states(folder)
    sizes = sorted(len(content) for content in bench.expected.values())
    limit = random.randint(sizes[0] // 2, 4 * sizes[-1])
    result = bench.start(folder, limits=dict(RLIMIT_FSIZE=limit)).wait()
    return _check_and_resume(bench, folder, before, result, folder)


def read_only(bench: Bench, random: Random) -> str:
    """Make a results folder with saved state read-only: by a mount as root, else by permissions."""
    folder = _interrupted(bench, random)
    before = saved_states(folder)
    if os.geteuid() == 0:
        with _mounted(folder, "--bind", folder):
            _mount("-o", "remount,bind,ro", folder)
            result = bench.start(folder).wait()
    else:
        folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        result = bench.start(folder).wait()
        for path in folders:
            path.chmod(0o755)
    if not result.status:
        raise Lost("the job wrote to a read-only folder")
    return _check_and_resume(bench, folder, before, result, folder)


def few_handles(bench: Bench, random: Random) -> str:
    """Limit the number of open files to a few more than at the start."""
    folder = _new_or_interrupted(bench, random)
    before = saved_states(folder)
    result = bench.start(folder, limits=dict(RLIMIT_NOFILE=random.randint(1, 9))).wait()
    return _check_and_resume(bench, folder, before, result)


def one_memory_error(bench: Bench, random: Random, action: str) -> str:
    """Let one pass of a pack run out of memory: the pack is split, and trains to the same bits.

    An evaluation may differ in the last bits, as fewer examples are in a product.
    """
    options = dict(cells=CELLS[:1], seeds=SEEDS)
    expected = _expected_of(bench, options)
    folder = bench.new_folder()
    # Seven passes an epoch. Not the sixth, with two examples of each run: half of that has no
    # complete step of any run.
    call = 7 * random.randint(0, 2) + random.choice((1, 2, 3, 4, 5, 7))
    injection = Injection(action, "pass", call, when=random.choice(("before", "after")))
    result = bench.wait_for_success(bench.start(folder, [injection], **options))
    if "out of memory in a pass of" not in result.errors:
        raise Lost("no message about the lack of memory")
    _check_to_rounding(outputs(folder), expected, tensors=0, values=1e-6)
    return ""


def _expected_of(bench: Bench, options: dict) -> Outputs:
    """Return the outputs of an undisturbed job with these options; it is trained once."""
    with SETUP_LOCK:
        if not hasattr(bench, "expected_pack"):
            folder = bench.new_folder()
            bench.wait_for_success(bench.start(folder, **options))
            bench.expected_pack = outputs(folder)
    return bench.expected_pack


def no_pass_fits(bench: Bench, random: Random, action: str) -> str:
    """From some pass on not even one example fits: the job reports it, and keeps saved state."""
    folder = bench.new_folder()
    call = random.randint(1, bench.calls["pass"])
    injection = Injection(action, "pass", call, when="before", repeat=True)
    before = saved_states(folder)
    result = bench.start(folder, [injection]).wait()
    check_not_lost(before, folder)
    if result.status != 2 or "out of memory in a pass of a single example" not in result.message:
        raise Lost(f"status {result.status}: {result.errors[-1500:]}")
    bench.resume_and_check(folder)
    return result.message


def no_address_space(bench: Bench, random: Random) -> str:
    """Let the process map no more memory from some pass on.

    It makes smaller passes, whose gradients are summed in another order, or stops with a message.
    The outputs equal the undisturbed ones to rounding.
    """
    folder = bench.new_folder()
    call = random.randint(1, bench.calls["pass"])
    result = bench.start(folder, [Injection("limit memory", "pass", call, when="before")]).wait()
    if result.status not in (0, 2) or result.status and "memory" not in result.message:
        raise Lost(f"status {result.status}: {result.errors[-1500:]}")
    bench.wait_for_success(bench.start(folder))
    _check_to_rounding(outputs(folder), bench.expected, tensors=1e-3, values=0.02)
    return result.message


def _check_to_rounding(found: Outputs, expected: Outputs, tensors: float, values: float) -> None:
    """Compare adapters and rows with absolute tolerances; other files only by name.

    Args:
        found: Outputs of a disturbed job.
        expected: Outputs of an undisturbed one.
        tensors: Tolerance for the tensors of adapters.
        values: Tolerance for the numbers in metrics.csv.

    Raises:
        Lost: If they differ.
    """
    if found.keys() != expected.keys():
        different = sorted(found.keys() ^ expected.keys())
        raise Lost(f"not the undisturbed outputs: {', '.join(different)}")
    for name, content in found.items():
        if name.endswith(".safetensors"):
            ours, theirs = load(content), load(expected[name])
            close = ours.keys() == theirs.keys() and all(
                np.allclose(ours[key], theirs[key], rtol=0, atol=tensors) for key in ours
            )
        elif name.endswith("metrics.csv"):
            ours, theirs = _numbers(content), _numbers(expected[name])
            close = ours.shape == theirs.shape and np.allclose(
                ours, theirs, rtol=0, atol=values, equal_nan=True
            )
        else:
            continue
        if not close:
            raise Lost(f"not the undisturbed outputs, beyond rounding: {name}")


def _numbers(content: bytes) -> np.ndarray:
    """Return the numeric columns of a metrics.csv, shape [rows, columns], NaN for empty cells."""
    header, *lines = content.decode().splitlines()
    numeric = [
        index for index, name in enumerate(header.split(",")) if METRICS_COLUMNS[name][0] is not str
    ]
    return np.array(
        [[float(line.split(",")[index] or "nan") for index in numeric] for line in lines]
    )


MEMORY_ERRORS = ("run out of memory", "cannot allocate", "MemoryError")
RESOURCE_LIMITS: dict[str, Callable[[Bench, Random], str]] = {
    "full disk (small tmpfs)": full_disk,
    "file size limit (RLIMIT_FSIZE)": file_size_limit,
    "read-only results folder": read_only,
    "few file handles (RLIMIT_NOFILE)": few_handles,
    **{
        f"memory: {action}, once, evaluation to rounding": partial(one_memory_error, action=action)
        for action in MEMORY_ERRORS
    },
    "memory: no pass fits": partial(no_pass_fits, action="run out of memory"),
    "memory: no address space (RLIMIT_AS), to rounding": no_address_space,
}
