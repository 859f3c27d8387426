"""Inside the process that is disturbed: the places where something can happen to it, and what happens there.

A clock alone seldom hits the few microseconds between a file's writing and its renaming, so a job can be told to be struck
at the n-th call of a place: before or after the call, or with a file half written. A struck job is a fork of a server that
has imported torch already, runs the command line's `main`, and knows nothing of being watched until the blow falls.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import torch

from lora import files
from lora.__main__ import main
from lora.adapters import peft_folder
from lora.model import packed_model, tensor_files
from lora.training import batching, checkpoint, evaluation, loop, metrics, optim, run_state

PLACES = {  # what a call is called -> (owner, attribute)
    "step": (loop, "_step"),
    "gradients": (loop, "_add_gradients"),
    "pass": (packed_model.PackedModel, "forward"),
    "optimiser": (optim, "step"),
    "evaluation": (evaluation, "predict"),
    "end of epoch": (evaluation, "end_epoch"),
    "state": (checkpoint, "save"),
    "tensors": (tensor_files, "save_tensors"),
    "old state": (Path, "unlink"),
    "text": (files, "write_text"),
    "adapter": (peft_folder, "write_adapter"),
    "outputs": (run_state, "write_outputs"),
    "plan": (batching, "plan"),
}
M_MMAP_THRESHOLD = -3  # of mallopt(3)

if (
    "LORA_FAULTS_MODEL" in os.environ
):  # in the server, what is slow at its first call is called once for all forks
    metrics.evaluate_predictions(2, np.eye(2), np.arange(2))
    packed_model.load_base(Path(os.environ["LORA_FAULTS_MODEL"]))


def run(
    arguments: list[str], errors, acts: list[dict], limits: dict[str, int], counts: str | None
) -> None:
    """The whole life of a struck job; `errors` is the connection its standard error goes to.

    An act is dict(place, call, when, do), and on=True where every call after that one is struck as well; a limit is a soft
    limit of the process by its name in `resource`. How often each place was called goes to the file `counts`.
    """
    os.dup2(errors.fileno(), 2)
    errors.close()
    torch.set_num_threads(1)
    called: dict[str, int] = {}
    for place, (owner, name) in PLACES.items():
        setattr(
            owner,
            name,
            _watched(
                getattr(owner, name), place, called, [act for act in acts if act["place"] == place]
            ),
        )
    os.replace = _renaming(os.replace, called, acts)
    os.fsync = _flushing(os.fsync, called, acts)
    for act in acts:
        if act["do"] == "move the clock":
            _move_clock(act["by_s"])
    for name, limit in limits.items():
        kind = getattr(resource, name)
        if name == "RLIMIT_NOFILE":  # so many more than are open
            limit += _lowest_free()
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    status = main(arguments)
    if counts:
        Path(counts).write_text(json.dumps(called))
    sys.exit(status)


def _lowest_free() -> int:
    """The number that the next file handle will get."""
    number = os.dup(0)
    os.close(number)
    return number


def _watched(function, place: str, called: dict[str, int], acts: list[dict]):
    def watched(*arguments, **named):
        called[place] = number = called.get(place, 0) + 1
        due = [
            act for act in acts if number == act["call"] or act.get("on") and number > act["call"]
        ]
        for act in due:
            if act["when"] == "before":
                ACTS[act["do"]](*arguments)
        result = function(*arguments, **named)
        for act in due:
            if act["when"] == "after":
                ACTS[act["do"]](*arguments)
        return result

    return watched


def kind_of(path) -> str:
    """A file by what it is: states' tensors have names of their own."""
    name = Path(path).name.lstrip(".").split(".safetensors")[0]
    return "state tensors" if name.startswith("epoch") else Path(path).name


def _renaming(replace, called: dict[str, int], acts: list[dict]):
    def renamed(source, target, **named):
        place = f"rename {kind_of(target)}"
        mine = [act for act in acts if act["place"] == place]
        return _watched(replace, place, called, mine)(source, target, **named)

    return renamed


def _flushing(fsync, called: dict[str, int], acts: list[dict]):
    """A file is flushed under its temporary name, .<name>.<pid>.tmp, which is where it can be torn."""

    def flushed(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        place = f"write {kind_of(Path(path).name.removesuffix('.tmp').rpartition('.')[0].removeprefix('.'))}"
        mine = [act for act in acts if act["place"] == place]
        return _watched(lambda _: fsync(descriptor), place, called, mine)(path)

    return flushed


def _signal(number: int):
    return lambda *_: os.kill(os.getpid(), number)


def _tear(path, *_) -> None:
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception):
    def raised(*_):
        raise error

    return raised


def _poison(value: float):
    """One number of one gradient of the run whose weights are qv."""

    def poisoned(model, pieces):
        run = next(piece.run for piece in pieces if piece.run.cell.weights == "qv")
        run.optimizer.gradients[0].view(-1)[0] = value

    return poisoned


def _leave_no_memory(*_) -> None:
    """The address space may grow by 256 kB and no more, and every block of 1 kB or more is asked of the system."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1024)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**18, resource.RLIM_INFINITY)
    )


def _move_clock(seconds: float) -> None:
    """Every look at the clock that people set finds it moved on by as much again."""
    moved = [0.0]

    def shift() -> float:
        moved[0] += seconds
        return moved[0]

    class Moved(datetime):
        @classmethod
        def now(cls, zone=None):
            return datetime.now(zone) + timedelta(seconds=shift())

    now = time.time
    time.time = lambda: now() + shift()
    run_state.datetime = Moved


ACTS = {
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
