"""What a machine runs out of: disk, file sizes, the right to write, file handles, memory. A job goes on, or says in one
message what stood in its way; what was saved before stays, and with the obstacle gone the result is the undisturbed one."""

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
from faults.bench import CELLS, Bench, Ended, Lost, not_behind, outputs, states
from safetensors.numpy import load

from lora.columns import METRICS_COLUMNS

SEEDS = (0, 1, 2, 3)  # enough runs that half of a pass still holds a whole step of one
MAKING = threading.Lock()


class Skipped(Exception):
    """A fault that cannot be made here, and why."""


def one_message(ended: Ended, named: Path | str = "/") -> str:
    """What a job that stopped said, if that is one message in which `named` occurs; otherwise raise Lost. Paths are
    shortened."""
    if ended.status not in (1, 2) or not ended.message or "Traceback" in ended.errors:
        raise Lost(f"status {ended.status} without one message: {ended.errors[-1500:]}")
    if str(named) not in ended.message:
        raise Lost(f"a message that does not name {named}: {ended.message}")
    return re.sub(r"/[\w.+/-]*/", ".../", ended.message)


def _interrupted(bench: Bench, random: Random) -> Path:
    """A folder in which a job was killed with state saved."""
    folder = bench.new()
    call = random.randint(4, bench.calls["step"] - 1)
    ended = bench.start(folder, [dict(place="step", call=call, when="after", do="kill")]).end()
    if ended.status != -signal.SIGKILL:
        raise Lost(f"status {ended.status} in place of a kill: {ended.errors[-1500:]}")
    return folder


def _go_on(bench: Bench, folder: Path, before: dict, ended: Ended) -> str:
    """After the obstacle is gone."""
    not_behind(before, folder)
    said = one_message(ended, folder) if ended.status else ""
    bench.finish(folder)
    return said


def _mount(*arguments) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Skipped(f"mount {' '.join(map(str, arguments[:-2]))}: {done.stderr.strip()}")


@contextlib.contextmanager
def _mounted(folder: Path, *arguments):
    if os.geteuid():
        raise Skipped("it takes root to mount a small disk")
    folder.mkdir(parents=True, exist_ok=True)
    _mount(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def full_disk(bench: Bench, random: Random) -> str:
    """A disk of a random part of what the job needs; later it is enlarged."""
    folder = bench.new()
    needed = sum(-(-len(content) // 4096) * 4096 for content in bench.whole.values())
    size = random.randint(3, 2 * needed // 4096) * 4096
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        ended = bench.start(folder).end()
        saved = states(folder)
        _mount("-o", "remount,size=64m", folder)
        return _go_on(bench, folder, saved, ended)


def file_too_large(bench: Bench, random: Random) -> str:
    """A limit on the size of a file that is below one of the files written."""
    folder = _interrupted(bench, random) if random.random() < 0.5 else bench.new()
    before = states(folder)
    sizes = sorted(len(content) for content in bench.whole.values())
    ended = bench.start(
        folder, limits=dict(RLIMIT_FSIZE=random.randint(sizes[0] // 2, 4 * sizes[-1]))
    ).end()
    return _go_on(bench, folder, before, ended)


def read_only(bench: Bench, random: Random) -> str:
    """A results folder that cannot be written, with state in it: root, whom permissions do not stop, mounts it so."""
    folder = _interrupted(bench, random)
    before = states(folder)
    if os.geteuid() == 0:
        with _mounted(folder, "--bind", folder):
            _mount("-o", "remount,bind,ro", folder)
            ended = bench.start(folder).end()
    else:
        places = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
        for path in places:
            path.chmod(0o555)
        ended = bench.start(folder).end()
        for path in places:
            path.chmod(0o755)
    if not ended.status:
        raise Lost("a folder that cannot be written was written")
    return _go_on(bench, folder, before, ended)


def few_handles(bench: Bench, random: Random) -> str:
    folder = _interrupted(bench, random) if random.random() < 0.5 else bench.new()
    before = states(folder)
    ended = bench.start(folder, limits=dict(RLIMIT_NOFILE=random.randint(1, 9))).end()
    not_behind(before, folder)
    said = one_message(ended) if ended.status else ""
    bench.finish(folder)
    return said


def one_refusal(bench: Bench, random: Random, do: str) -> str:
    """One pass of a pack runs out of memory: the pack is split, and no bit of what is trained differs. Of an evaluation the
    last bits do, where fewer examples go through a product at once."""
    wanted = dict(cells=CELLS[:1], seeds=SEEDS)
    whole = _whole_of(bench, wanted)
    folder = bench.new()
    # Seven passes an epoch. Not the sixth, two examples of each run: half of it would no longer hold a whole step.
    call = 7 * random.randint(0, 2) + random.choice((1, 2, 3, 4, 5, 7))
    act = dict(place="pass", call=call, when=random.choice(("before", "after")), do=do)
    ended = bench.end_well(bench.start(folder, [act], **wanted))
    if "out of memory in a pass of" not in ended.errors:
        raise Lost("it did not say that memory ran out")
    _check_to_rounding(outputs(folder), whole, tensors=0, figures=1e-6)
    return ""


def _whole_of(bench: Bench, wanted: dict) -> dict[str, bytes]:
    """What an undisturbed job of these runs gives; made once."""
    with MAKING:
        if not hasattr(bench, "whole_pack"):
            folder = bench.new()
            bench.end_well(bench.start(folder, **wanted))
            bench.whole_pack = outputs(folder)
    return bench.whole_pack


def no_pass_fits(bench: Bench, random: Random, do: str) -> str:
    """From some pass on not even one example fits: a message, and what was saved is there."""
    folder = bench.new()
    act = dict(
        place="pass", call=random.randint(1, bench.calls["pass"]), when="before", do=do, on=True
    )
    before = states(folder)
    ended = bench.start(folder, [act]).end()
    not_behind(before, folder)
    if ended.status != 2 or "out of memory in a pass of a single example" not in ended.message:
        raise Lost(f"status {ended.status}: {ended.errors[-1500:]}")
    bench.finish(folder)
    return ended.message


def no_address_space(bench: Bench, random: Random) -> str:
    """The process may map no more memory from some pass on: it cuts its passes smaller, whose gradients are summed in
    another order, or stops and says so. Then the result is the undisturbed one, to rounding."""
    folder = bench.new()
    act = dict(
        place="pass",
        call=random.randint(1, bench.calls["pass"]),
        when="before",
        do="leave no memory",
    )
    ended = bench.start(folder, [act]).end()
    if ended.status not in (0, 2) or ended.status and "memory" not in ended.message:
        raise Lost(f"status {ended.status}: {ended.errors[-1500:]}")
    bench.end_well(bench.start(folder))
    _check_to_rounding(outputs(folder), bench.whole, tensors=1e-3, figures=0.02)
    return ended.message


def _check_to_rounding(
    found: dict[str, bytes], whole: dict[str, bytes], tensors: float, figures: float
) -> None:
    """As Bench.check, but numbers may differ by this much in adapters' tensors and in rows."""
    if found.keys() != whole.keys():
        raise Lost(f"not as undisturbed: {', '.join(sorted(found.keys() ^ whole.keys()))}")
    for name, content in found.items():
        if name.endswith(".safetensors"):
            ours, theirs = load(content), load(whole[name])
            close = ours.keys() == theirs.keys() and all(
                np.allclose(ours[key], theirs[key], rtol=0, atol=tensors) for key in ours
            )
        elif name.endswith("metrics.csv"):
            ours, theirs = _numbers(content), _numbers(whole[name])
            close = ours.shape == theirs.shape and np.allclose(
                ours, theirs, rtol=0, atol=figures, equal_nan=True
            )
        else:
            continue
        if not close:
            raise Lost(f"not as undisturbed, beyond rounding: {name}")


def _numbers(content: bytes) -> np.ndarray:
    header, *lines = content.decode().splitlines()
    numeric = [
        place for place, name in enumerate(header.split(",")) if METRICS_COLUMNS[name][0] is not str
    ]
    return np.array(
        [[float(line.split(",")[place] or "nan") for place in numeric] for line in lines]
    )


MEMORY = ("run out of memory", "cannot allocate", "MemoryError")
SCARCE = {
    "full disk (small tmpfs)": full_disk,
    "file size limit (RLIMIT_FSIZE)": file_too_large,
    "read-only results folder": read_only,
    "few file handles (RLIMIT_NOFILE)": few_handles,
    **{f"memory: {do}, once, evaluation to rounding": partial(one_refusal, do=do) for do in MEMORY},
    "memory: no pass fits": partial(no_pass_fits, do="run out of memory"),
    "memory: no address space (RLIMIT_AS), to rounding": no_address_space,
}
