"""torch.compile for elementwise functions on a GPU.

On a GPU a chain of small operations costs one launch and one pass through memory each. On a CPU
torch.compile was measured to be twice as slow, and the plain operations give the bits that a pack
promises, so a CPU always runs the functions as written. A GPU runs them compiled only if a trial
before training gives the same values; otherwise training is slower, but equally correct.
"""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")
_functions: dict[str, Callable] = {}
_compiled: dict[str, Callable] = {}  # empty while every function runs as written


def compilable(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function of tensors and numbers as one that a GPU may run compiled."""
    name = function.__name__
    _functions[name] = function

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return _compiled.get(name, function)(*args, **kwargs)

    return call


def enable_on_gpu(device: torch.device, cache_dir: Path, trial: Callable[[], list[Tensor]]) -> None:
    """Call `enable` on a GPU that Triton can compile for.

    It is not called on a CPU, if it is enabled already, or if TORCH_COMPILE_DISABLE is 1.
    """
    if device.type == "cpu" or _compiled or os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return
    if importlib.util.find_spec("triton") is None:
        log.info("Elementwise functions run as written: Triton is not installed")
        return
    enable(cache_dir, trial)


def enable(cache_dir: Path, trial: Callable[[], list[Tensor]]) -> bool:
    """Compile the marked functions, and keep them if they give the values of the plain ones.

    Every failure is logged and leaves the plain functions in use.

    Args:
        cache_dir: Folder for compiled kernels, reused by later jobs. The environment variable
            TORCHINDUCTOR_CACHE_DIR overrides it.
        trial: Calls every marked function and returns the results. It is called twice.

    Returns:
        Whether the compiled functions are in use.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache_dir).absolute()))
    expected = trial()
    _compiled.update((name, torch.compile(function)) for name, function in _functions.items())
    try:
        pairs = zip(expected, trial(), strict=True)
        if not all(torch.allclose(a, b, rtol=0.02, atol=0.02) for a, b in pairs):
            raise ArithmeticError("compiled functions give other values than plain ones")
    except Exception as error:  # a compiler can raise anything
        disable()
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning(
            "torch.compile does not work here (%s). Training continues without it: slower, with "
            "correct results.",
            why,
        )
        return False
    # A shape that fails to compile later runs as written.
    torch._dynamo.config.suppress_errors = True
    log.info(
        "Elementwise functions run compiled; kernels are in %s",
        os.environ["TORCHINDUCTOR_CACHE_DIR"],
    )
    return True


def disable() -> None:
    """Run every function as written again."""
    _compiled.clear()
