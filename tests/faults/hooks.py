"""Inject faults into a job from inside its process.

A kill at a random time seldom hits the microseconds between the writing and the renaming of a file.
So a fault can be injected at the n-th call of a site: before or after the call, or with a file half
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
from datetime import datetime, timedelta, tzinfo
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from faults.injection import Injection

from lora.__main__ import main
from lora.model import pretrained
from lora.model.packed_model import PackedModel
from lora.training import metrics
from lora.training.batching import MicroBatch

# Every attribute that this folder patches: name -> (module path, attribute).
PATCHES = {
    "step": ("lora.training.pack_step", "optimizer_step"),
    "gradients": ("lora.training.pack_step", "forward_backward"),
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
    injections: list[Injection],
    limits: dict[str, int],
    counts: str | None,
) -> None:
    """Run a command of lora in this process with faults injected, then exit.

    Args:
        arguments: Arguments of the command line.
        errors: Connection that gets standard error.
        injections: Faults to inject.
        limits: Soft limits of the process, by their names in `resource`.
        counts: File that gets the number of calls of each site.
    """
    os.dup2(errors.fileno(), 2)
    errors.close()
    torch.set_num_threads(1)
    calls: dict[str, int] = {}
    for site in SITES:
        patch(site, lambda original, site=site: _watch(original, site, calls, injections))
    patch("rename", lambda original: _watch_rename(original, calls, injections))
    patch("fsync", lambda original: _watch_fsync(original, calls, injections))
    for injection in injections:
        if injection.action == "move the clock":
            _move_clock(injection.seconds)
    for name, limit in limits.items():
        kind = getattr(resource, name)
        if name == "RLIMIT_NOFILE":  # in addition to those that are open
            limit += _next_descriptor()
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    status = main(arguments)
    if counts:
        Path(counts).write_text(json.dumps(calls))
    sys.exit(status)


def _next_descriptor() -> int:
    """Return the number that the next file descriptor will get."""
    number = os.dup(0)
    os.close(number)
    return number


def _watch(
    function: Callable, site: str, calls: dict[str, int], injections: list[Injection]
) -> Callable:
    """Return the function of a site, which counts its calls and injects the faults of the site."""

    def watched(*arguments, **named):
        calls[site] = number = calls.get(site, 0) + 1
        due = [
            injection
            for injection in injections
            if injection.site == site
            and (number == injection.call or injection.repeat and number > injection.call)
        ]
        for injection in due:
            if injection.when == "before":
                ACTIONS[injection.action](*arguments)
        result = function(*arguments, **named)
        for injection in due:
            if injection.when == "after":
                ACTIONS[injection.action](*arguments)
        return result

    return watched


def kind_of(path: Path | str) -> str:
    """Return the kind of a file: its name, or "state tensors" for the tensors of a checkpoint."""
    name = Path(path).name.lstrip(".").split(".safetensors")[0]
    return "state tensors" if name.startswith("epoch") else Path(path).name


def _watch_rename(
    replace: Callable, calls: dict[str, int], injections: list[Injection]
) -> Callable:
    """Return os.replace with a site for each kind of file: "rename <kind>"."""

    def replace_watched(source: Path | str, target: Path | str, **named) -> None:
        watched = _watch(replace, f"rename {kind_of(target)}", calls, injections)
        watched(source, target, **named)

    return replace_watched


def _watch_fsync(fsync: Callable, calls: dict[str, int], injections: list[Injection]) -> Callable:
    """Return os.fsync with a site for each kind of file: "write <kind>".

    A file is flushed under its temporary name, .<name>.<pid>.tmp. The action gets the path, so that
    it can truncate the file.
    """

    def fsync_watched(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        name = Path(path).name.removesuffix(".tmp").rpartition(".")[0].removeprefix(".")
        watched = _watch(lambda _: fsync(descriptor), f"write {kind_of(name)}", calls, injections)
        watched(path)

    return fsync_watched


def _send_signal(number: int) -> Callable[..., None]:
    """Return an action that sends this process a signal."""
    return lambda *_: os.kill(os.getpid(), number)


def _truncate_and_kill(path: str, *_: object) -> None:
    """Truncate the file to half its size and kill the process."""
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception) -> Callable[..., None]:
    """Return an action that raises an error."""

    def action(*_: object) -> None:
        raise error

    return action


def _set_gradient(value: float) -> Callable[..., None]:
    """Return an action that sets one element of a gradient of the run with weights qv."""

    def action(model: PackedModel, pieces: list[MicroBatch]) -> None:
        run = next(piece.run for piece in pieces if piece.run.spec.cell.weights == "qv")
        run.optimizer.gradients[0].view(-1)[0] = value

    return action


def _limit_memory(*_: object) -> None:
    """Limit the address space to 256 kB more, and map every block of 1 kB or more separately."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1024)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**18, resource.RLIM_INFINITY)
    )


def _move_clock(seconds: float) -> None:
    """Move the wall clock by this much more at each reading."""
    total = [0.0]

    def offset() -> float:
        total[0] += seconds
        return total[0]

    class MovedDatetime(datetime):
        @classmethod
        def now(cls, zone: tzinfo | None = None) -> datetime:
            return datetime.now(zone) + timedelta(seconds=offset())

    patch("time", lambda now: lambda: now() + offset())
    patch("datetime", lambda _: MovedDatetime)


ACTIONS: dict[str, Callable[..., None]] = {  # called with the arguments of the site
    "kill": _send_signal(signal.SIGKILL),
    "SIGTERM": _send_signal(signal.SIGTERM),
    "SIGUSR1": _send_signal(signal.SIGUSR1),
    "truncate and kill": _truncate_and_kill,
    "run out of memory": _raise(torch.OutOfMemoryError("made up")),
    "cannot allocate": _raise(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    ),
    "MemoryError": _raise(MemoryError("made up")),
    "nan": _set_gradient(float("nan")),
    "inf": _set_gradient(float("inf")),
    "limit memory": _limit_memory,
}
