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
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from faults.bench import CELLS, Bench, Ended, Lost, check_not_lost, outputs, saved_states
from safetensors.numpy import load

from lora.columns import METRICS_COLUMNS

SEEDS = (0, 1, 2, 3)  # enough runs that half of a pass still holds a complete step of one
SETUP_LOCK = threading.Lock()


class Skipped(Exception):
    """The fault can't be injected on this machine; the message gives the reason."""


def one_message(ended: Ended, named: Path | str = "/") -> str:
    """Return the message of a job that stopped, with shortened paths.

    Raises:
        Lost: Unless it is a single message that contains `named`.
    """
    if ended.status not in (1, 2) or not ended.message or "Traceback" in ended.errors:
        raise Lost(f"status {ended.status} without one message: {ended.errors[-1500:]}")
    if str(named) not in ended.message:
        raise Lost(f"a message that does not name {named}: {ended.message}")
    return re.sub(r"/[\w.+/-]*/", ".../", ended.message)


def _interrupted(bench: Bench, random: Random) -> Path:
    """Return the folder of a job that was killed after it saved state."""
    folder = bench.new()
    call = random.randint(4, bench.calls["step"] - 1)
    ended = bench.start(folder, [dict(site="step", call=call, when="after", do="kill")]).end()
    if ended.status != -signal.SIGKILL:
        raise Lost(f"status {ended.status} instead of a kill: {ended.errors[-1500:]}")
    return folder


def _resume(bench: Bench, folder: Path, before: dict, ended: Ended) -> str:
    """Check the saved state and the message, and run the job again without the fault."""
    check_not_lost(before, folder)
    message = one_message(ended, folder) if ended.status else ""
    bench.finish(folder)
    return message


def _mount(*arguments) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"mount {' '.join(map(str, arguments[:-2]))}: {done.stderr.strip()}")


@contextlib.contextmanager
def _mounted(folder: Path, *arguments):
    if os.geteuid():
        raise Skipped("only root can mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    _mount(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(bench: Bench, random: Random) -> str:
    """Give the job a disk that holds a random part of its outputs; enlarge it later."""
    folder = bench.new()
    needed = sum(-(-len(content) // 4096) * 4096 for content in bench.expected.values())
    size = random.randint(3, 2 * needed // 4096) * 4096
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        ended = bench.start(folder).end()
        saved = saved_states(folder)
        _mount("-o", "remount,size=64m", folder)
        return _resume(bench, folder, saved, ended)


def file_too_large(bench: Bench, random: Random) -> str:
    """Limit the size of files."""
    folder = _interrupted(bench, random) if random.random() < 0.5 else bench.new()
    before = saved_states(folder)
    sizes = sorted(len(content) for content in bench.expected.values())
    ended = bench.start(
        folder, limits=dict(RLIMIT_FSIZE=random.randint(sizes[0] // 2, 4 * sizes[-1]))
    ).end()
    return _resume(bench, folder, before, ended)


def read_only(bench: Bench, random: Random) -> str:
    """Make a results folder with saved state read-only: by a mount as root, else by permissions."""
    folder = _interrupted(bench, random)
    before = saved_states(folder)
    if os.geteuid() == 0:
        with _mounted(folder, "--bind", folder):
            _mount("-o", "remount,bind,ro", folder)
            ended = bench.start(folder).end()
    else:
        folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        ended = bench.start(folder).end()
        for path in folders:
            path.chmod(0o755)
    if not ended.status:
        raise Lost("the job wrote to a read-only folder")
    return _resume(bench, folder, before, ended)


def few_handles(bench: Bench, random: Random) -> str:
    folder = _interrupted(bench, random) if random.random() < 0.5 else bench.new()
    before = saved_states(folder)
    ended = bench.start(folder, limits=dict(RLIMIT_NOFILE=random.randint(1, 9))).end()
    check_not_lost(before, folder)
    message = one_message(ended) if ended.status else ""
    bench.finish(folder)
    return message


def one_memory_error(bench: Bench, random: Random, do: str) -> str:
    """Let one pass of a pack run out of memory: the pack is split, and trains to the same bits.

    An evaluation may differ in the last bits, as fewer examples go through a product at once.
    """
    wanted = dict(cells=CELLS[:1], seeds=SEEDS)
    expected = _expected_of(bench, wanted)
    folder = bench.new()
    # Seven passes an epoch. Not the sixth, with two examples of each run: half of that holds no
    # complete step of any run.
    call = 7 * random.randint(0, 2) + random.choice((1, 2, 3, 4, 5, 7))
    injection = dict(site="pass", call=call, when=random.choice(("before", "after")), do=do)
    ended = bench.end_well(bench.start(folder, [injection], **wanted))
    if "out of memory in a pass of" not in ended.errors:
        raise Lost("no message about the lack of memory")
    _check_to_rounding(outputs(folder), expected, tensors=0, values=1e-6)
    return ""


def _expected_of(bench: Bench, wanted: dict) -> dict[str, bytes]:
    """Return the outputs of an undisturbed job of these runs; trained once."""
    with SETUP_LOCK:
        if not hasattr(bench, "expected_pack"):
            folder = bench.new()
            bench.end_well(bench.start(folder, **wanted))
            bench.expected_pack = outputs(folder)
    return bench.expected_pack


def no_pass_fits(bench: Bench, random: Random, do: str) -> str:
    """From some pass on not even one example fits: the job says so, and keeps its saved state."""
    folder = bench.new()
    injection = dict(
        site="pass", call=random.randint(1, bench.calls["pass"]), when="before", do=do, on=True
    )
    before = saved_states(folder)
    ended = bench.start(folder, [injection]).end()
    check_not_lost(before, folder)
    if ended.status != 2 or "out of memory in a pass of a single example" not in ended.message:
        raise Lost(f"status {ended.status}: {ended.errors[-1500:]}")
    bench.finish(folder)
    return ended.message


def no_address_space(bench: Bench, random: Random) -> str:
    """Let the process map no more memory from some pass on.

    It takes smaller passes, whose gradients are summed in another order, or stops with a message.
    The outputs are the undisturbed ones to rounding.
    """
    folder = bench.new()
    injection = dict(
        site="pass",
        call=random.randint(1, bench.calls["pass"]),
        when="before",
        do="leave no memory",
    )
    ended = bench.start(folder, [injection]).end()
    if ended.status not in (0, 2) or ended.status and "memory" not in ended.message:
        raise Lost(f"status {ended.status}: {ended.errors[-1500:]}")
    bench.end_well(bench.start(folder))
    _check_to_rounding(outputs(folder), bench.expected, tensors=1e-3, values=0.02)
    return ended.message


def _check_to_rounding(
    found: dict[str, bytes], expected: dict[str, bytes], tensors: float, values: float
) -> None:
    """Check as Bench.check, with tolerances for the tensors of adapters and the values of rows."""
    if found.keys() != expected.keys():
        raise Lost(
            f"not the undisturbed outputs: {', '.join(sorted(found.keys() ^ expected.keys()))}"
        )
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
    header, *lines = content.decode().splitlines()
    numeric = [
        index for index, name in enumerate(header.split(",")) if METRICS_COLUMNS[name][0] is not str
    ]
    return np.array(
        [[float(line.split(",")[index] or "nan") for index in numeric] for line in lines]
    )


MEMORY = ("run out of memory", "cannot allocate", "MemoryError")
SCARCE = {
    "full disk (small tmpfs)": full_disk,
    "file size limit (RLIMIT_FSIZE)": file_too_large,
    "read-only results folder": read_only,
    "few file handles (RLIMIT_NOFILE)": few_handles,
    **{
        f"memory: {do}, once, evaluation to rounding": partial(one_memory_error, do=do)
        for do in MEMORY
    },
    "memory: no pass fits": partial(no_pass_fits, do="run out of memory"),
    "memory: no address space (RLIMIT_AS), to rounding": no_address_space,
}
