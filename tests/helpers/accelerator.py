"""A simulated accelerator: tensors on a device that is not the CPU, without data.

It uses private functions of torch: a device written in Python ("npu"), and fake tensors, which have
a shape, a type and a device but no values. An operation fails if one of its operands is on the CPU,
or if it needs a value (`.item()`, `nonzero`, a boolean index, `if tensor:`), where a GPU would make
the CPU wait. Values, memory, speed and streams are not simulated.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from lora.model import collate, dropout
from lora.model.packed_model import PackedModel
from lora.training import device as devices

try:
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
    )
    from torch.utils import backend_registration
    from torch.utils._python_dispatch import TorchDispatchMode

    class _Hook(backend_registration._DummyPrivateUse1Hook):
        """Tells torch whether the device is there: only within `simulated`."""

        available = False

        def is_available(self) -> bool:
            return _Hook.available

    MISSING = ""
    NEEDS_A_VALUE = (DataDependentOutputException, DynamicOutputShapeException)
except (ImportError, AttributeError) as error:  # another version of torch
    MISSING = f"this torch has no simulated device: {error}"

NAME = "npu"


class _Backend:
    """The module `torch.npu`, with what torch and this package call."""

    def is_available(self) -> bool:
        return _Hook.available

    def is_initialized(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def empty_cache(self) -> None:
        pass


def _on_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Stand in for `collate.on_device`: a copy of one element would stay on the CPU."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    return torch.empty(array.shape, dtype=dtype, device=device)


@contextlib.contextmanager
def simulated() -> Iterator[torch.device]:
    """Run the block with a simulated accelerator, which torch otherwise does not see.

    Tests are skipped where torch lacks the private functions.
    """
    if MISSING:
        pytest.skip(MISSING)
    if not hasattr(torch, NAME):
        backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend(), _Hook())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Hook, "available", True)
        patch.setattr(collate, "on_device", _on_device)
        # Caches by device must not keep a fake tensor.
        patch.setattr(dropout, "column_keys", dropout.column_keys.__wrapped__)
        patch.setattr(devices, "sum_dtype", devices.sum_dtype.__wrapped__)
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield torch.device(NAME, 0)


def move(model: PackedModel, device: torch.device) -> PackedModel:
    """Move a model on the CPU or on meta to the simulated device; return it.

    `nn.Module.to` cannot replace parameters there.
    """
    moved = {}
    for module in (*model.modules(), *model.base.modules()):
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = moved[value] = _moved(value, device)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=device)
    for biases in model.biases._values:
        biases.update((name, moved[value]) for name, value in biases.items())
    return model


def _moved(value: nn.Parameter, device: torch.device) -> nn.Parameter:
    empty = torch.empty(value.shape, dtype=value.dtype, device=device)
    parameter = nn.Parameter(empty, requires_grad=value.requires_grad)
    parameter.grad = torch.zeros_like(parameter) if value.requires_grad else None
    return parameter


class Launches(TorchDispatchMode):
    """Record the names of the operations that launch a kernel on a GPU."""

    # Beginnings of the names of those that launch nothing: views and allocations.
    NO_KERNEL = tuple(
        "view _unsafe_view as_strided slice select expand permute transpose t. unsqueeze squeeze "
        "split detach alias narrow empty lift_fresh unbind chunk prim.device".split()
    )

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = str(operation).removeprefix("aten.")
        if not name.startswith(self.NO_KERNEL):
            self.names.append(name)
        return operation(*arguments, **(named or {}))
