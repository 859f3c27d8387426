"""Write tensors as a safetensors file, atomically."""

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lora.files import atomic_write


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """One whole safetensors file or nothing, on the CPU; raises OSError that names it."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            safetensors.torch.save_file(on_cpu, temporary, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:  # so it says that a disk is full
            raise OSError(str(error)) from None
