"""Elementwise work as one kernel each, on a GPU: marked functions are compiled by torch.compile, once for all shapes.

On a GPU a chain of small operations costs a launch and a trip through memory each; on a CPU torch's own are as fast as
what torch.compile makes of them (measured: it was twice as slow), and their bits are what packs are promised by. So a CPU
runs the functions as they are written. A GPU runs them compiled if, tried before training, they compile there and give
what the plain ones give; a machine without a C compiler, or TORCH_COMPILE_DISABLE=1, trains all the same, only slower.
Compiled kernels are kept in a folder, so that the next job finds them.
"""

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch

log = logging.getLogger(__name__)
_marked: dict[str, Callable] = {}
_compiled: dict[str, Callable] = {}  # empty: every function runs as it is written


def fused(function: Callable) -> Callable:
    """Mark a function of tensors (and numbers) as one that a GPU may run as one kernel."""
    name = function.__name__
    _marked[name] = function

    @functools.wraps(function)
    def call(*arguments):
        return _compiled.get(name, function)(*arguments)

    return call


def prepare(device: torch.device, folder: Path, attempt: Callable[[], list[torch.Tensor]]) -> None:
    """On a GPU, from here on run the marked functions compiled, if they prove right; see `switch_on`."""
    if device.type == "cuda" and not _compiled and os.environ.get("TORCH_COMPILE_DISABLE") != "1":
        switch_on(folder, attempt)


def switch_on(folder: Path, attempt: Callable[[], list[torch.Tensor]]) -> bool:
    """Run the marked functions compiled from here on, if `attempt`, which calls them all, gives what it gave before.

    `folder` is where compiled kernels are kept, unless TORCHINDUCTOR_CACHE_DIR says otherwise. Whatever goes wrong is
    logged, and the plain functions stay: they are slower and no less right.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(folder).absolute()))
    wanted = attempt()
    _compiled.update((name, torch.compile(function)) for name, function in _marked.items())
    try:
        got = attempt()
        if not all(
            torch.allclose(a, b, rtol=0.02, atol=0.02) for a, b in zip(wanted, got, strict=True)
        ):
            raise ArithmeticError("compiled functions give other values than plain ones")
    except Exception as error:  # what a compiler may raise is not to be listed
        switch_off()
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning(
            "torch.compile does not work here (%s): training goes on without it, slower and no less right",
            why,
        )
        return False
    torch._dynamo.config.suppress_errors = (
        True  # a shape that cannot be compiled later on runs as it is written
    )
    log.info(
        "small operations run as compiled kernels, kept in %s",
        os.environ["TORCHINDUCTOR_CACHE_DIR"],
    )
    return True


def switch_off() -> None:
    """Run every function as it is written again."""
    _compiled.clear()
