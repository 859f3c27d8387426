"""Inject faults into a job from inside its process.

A kill by the clock seldom hits the microseconds between the writing and the renaming of a file. So
a fault can be injected at the n-th call of a site: before or after the call, or with a file half
written. The job is a fork of a server that has imported torch; it runs `main` of the command line.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from lora.__main__ import main
from lora.model import pretrained
from lora.training import metrics

# Every attribute that this folder patches: name -> (module path, attribute).
PATCHES = {
    "step": ("lora.training.loop", "_optimizer_step"),
    "gradients": ("lora.training.loop", "_forward_backward"),
    "pass": ("lora.model.packed_model", "PackedModel.forward"),
    "optimizer": ("lora.training.optim", "step"),
    "evaluation": ("lora.training.evaluation", "predict"),
    "end of epoch": ("lora.training.evaluation", "end_epoch"),
    "state": ("lora.training.checkpoint", "save"),
    "tensors": ("lora.training.checkpoint", "save_tensors"),
    "old state": ("pathlib", "Path.unlink"),
    "text": ("lora.files", "write_text"),
    "adapter": ("lora.adapters.peft_folder", "write_adapter"),
    "outputs": ("lora.training.run_outputs", "write_outputs"),
    "plan": ("lora.training.batching", "plan_budget"),
    # Not sites themselves: see _watch_rename, _watch_fsync and _move_clock.
    "rename": ("os", "replace"),
    "fsync": ("os", "fsync"),
    "time": ("time", "time"),
    "datetime": ("lora.training.run_outputs", "datetime"),
}
SITES = tuple(name for name in PATCHES if name not in ("rename", "fsync", "time", "datetime"))
M_MMAP_THRESHOLD = -3  # of mallopt(3)

if "LORA_FAULTS_MODEL" in os.environ:  # in the server: warm up once for all forks
    metrics.evaluate_predictions(2, np.eye(2), np.arange(2))
    pretrained.load_base(Path(os.environ["LORA_FAULTS_MODEL"]))


def owner_of(name: str) -> tuple[object, str]:
    """Return (module or class, attribute) of an entry of PATCHES."""
    module, path = PATCHES[name]
    owner: object = importlib.import_module(module)
    *classes, attribute = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    return owner, attribute


def patch(name: str, make: Callable) -> None:
    """Replace an entry of PATCHES by `make(original)`."""
    owner, attribute = owner_of(name)
    setattr(owner, attribute, make(getattr(owner, attribute)))


def run(
    arguments: list[str],
    errors: Connection,
    injections: list[dict],
    limits: dict[str, int],
    counts: str | None,
) -> None:
    """Run a command of lora in this process with faults injected, then exit.

    Args:
        arguments: Arguments of the command line.
        errors: Connection that gets standard error.
        injections: Faults: dict(site, call, when, do), with on=True to repeat it at later calls.
        limits: Soft limits of the process, by their names in `resource`.
        counts: File that gets the number of calls of each site.
    """
    os.dup2(errors.fileno(), 2)
    errors.close()
    torch.set_num_threads(1)
    called: dict[str, int] = {}
    for site in SITES:
        mine = [injection for injection in injections if injection["site"] == site]
        patch(site, lambda original, site=site, mine=mine: _watched(original, site, called, mine))
    patch("rename", lambda original: _watch_rename(original, called, injections))
    patch("fsync", lambda original: _watch_fsync(original, called, injections))
    for injection in injections:
        if injection["do"] == "move the clock":
            _move_clock(injection["by_s"])
    for name, limit in limits.items():
        kind = getattr(resource, name)
        if name == "RLIMIT_NOFILE":  # in addition to those that are open
            limit += _lowest_free()
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    status = main(arguments)
    if counts:
        Path(counts).write_text(json.dumps(called))
    sys.exit(status)


def _lowest_free() -> int:
    """Return the number that the next file descriptor will get."""
    number = os.dup(0)
    os.close(number)
    return number


def _watched(
    function: Callable, site: str, called: dict[str, int], injections: list[dict]
) -> Callable:
    """Wrap a function: count its calls, and inject the faults that are due."""

    def watched(*arguments, **named):
        called[site] = number = called.get(site, 0) + 1
        due = [
            injection
            for injection in injections
            if number == injection["call"] or injection.get("on") and number > injection["call"]
        ]
        for injection in due:
            if injection["when"] == "before":
                ACTIONS[injection["do"]](*arguments)
        result = function(*arguments, **named)
        for injection in due:
            if injection["when"] == "after":
                ACTIONS[injection["do"]](*arguments)
        return result

    return watched


def kind_of(path: Path | str) -> str:
    """Return the kind of a file: its name, except for tensors of a state, whose names differ."""
    name = Path(path).name.lstrip(".").split(".safetensors")[0]
    return "state tensors" if name.startswith("epoch") else Path(path).name


def _watch_rename(replace: Callable, called: dict[str, int], injections: list[dict]) -> Callable:
    def renamed(source, target, **named):
        site = f"rename {kind_of(target)}"
        mine = [injection for injection in injections if injection["site"] == site]
        return _watched(replace, site, called, mine)(source, target, **named)

    return renamed


def _watch_fsync(fsync: Callable, called: dict[str, int], injections: list[dict]) -> Callable:
    """A file is flushed under its temporary name, .<name>.<pid>.tmp: there it can be torn."""

    def flushed(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        name = Path(path).name.removesuffix(".tmp").rpartition(".")[0].removeprefix(".")
        site = f"write {kind_of(name)}"
        mine = [injection for injection in injections if injection["site"] == site]
        return _watched(lambda _: fsync(descriptor), site, called, mine)(path)

    return flushed


def _signal(number: int) -> Callable:
    return lambda *_: os.kill(os.getpid(), number)


def _tear(path: str, *_) -> None:
    """Cut the file in half and kill the process."""
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception) -> Callable:
    def raised(*_):
        raise error

    return raised


def _poison(value: float) -> Callable:
    """Set one element of a gradient of the run with weights qv."""

    def poisoned(model, pieces):
        run = next(piece.run for piece in pieces if piece.run.spec.cell.weights == "qv")
        run.optimizer.gradients[0].view(-1)[0] = value

    return poisoned


def _leave_no_memory(*_) -> None:
    """Limit the address space to 256 kB more, and take every block from 1 kB on from the system."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1024)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**18, resource.RLIM_INFINITY)
    )


def _move_clock(seconds: float) -> None:
    """Move the wall clock by this much more each time it is read."""
    moved = [0.0]

    def shift() -> float:
        moved[0] += seconds
        return moved[0]

    class Moved(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(seconds=shift())

    patch("time", lambda now: lambda: now() + shift())
    patch("datetime", lambda _: Moved)


ACTIONS = {
    "kill": _signal(signal.SIGKILL),
    "SIGTERM": _signal(signal.SIGTERM),
    "SIGUSR1": _signal(signal.SIGUSR1),
    "tear": _tear,
    "run out of memory": _raise(torch.OutOfMemoryError("made up")),
    "cannot allocate": _raise(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    ),
    "MemoryError": _raise(MemoryError("made up")),
    "nan": _poison(float("nan")),
    "inf": _poison(float("inf")),
    "leave no memory": _leave_no_memory,
}
