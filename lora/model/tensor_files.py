"""Write safetensors files atomically."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from lora.files import atomic_write


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a safetensors file, whole or not at all.

    Raises:
        OSError: If the file cannot be written, for example because the disk is full.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            safetensors.torch.save_file(on_cpu, temporary, metadata={"format": "pt"})
        except safetensors.SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from None
