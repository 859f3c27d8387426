"""Read adapter_config.json and the header of adapter_model.safetensors, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from lora import files
from lora.adapters import peft_checks, peft_config
from lora.adapters.peft_tensors import StoredTensor
from lora.errors import ConfigError

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


def describe_folder(
    folder: Path, model_config: Mapping[str, Any] | None = None
) -> peft_checks.Adapter:
    """Describe a PEFT LoRA folder; no tensor is loaded.

    Args:
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        model_config: See `peft_checks.describe`.

    Raises:
        ValueError: If a file is missing or damaged.
        ConfigError: If the adapter is not supported or does not fit the base model.
    """
    config = read_config(folder)
    if problems := peft_config.check(config):
        raise ConfigError(
            f"{Path(folder) / CONFIG} describes an adapter that is not supported:", problems
        )
    title = f"{Path(folder) / TENSORS} is an adapter that is not supported:"
    return peft_checks.describe(config, read_header(folder), model_config, title)


def read_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; raise ValueError if it is missing or not a JSON object."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {CONFIG}; give a folder with an adapter, such as a run's adapter/"
        )
    return files.read_object(path, "write the adapter again")


def read_header(folder: Path) -> dict[str, StoredTensor]:
    """Return types and shapes in adapter_model.safetensors by key.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    path = Path(folder) / TENSORS
    if not path.is_file():
        advice = "give a whole adapter folder"
        if (path.parent / PICKLED).exists():
            advice = (
                f"{PICKLED} is there, but pickled files are not loaded; save it again with "
                "safetensors"
            )
        raise ValueError(f"{folder}: no {TENSORS}; {advice}")
    try:
        with safetensors.safe_open(path, framework="np") as stored:
            slices = {key: stored.get_slice(key) for key in stored.keys()}  # noqa: SIM118
            return {
                key: StoredTensor(part.get_dtype(), tuple(part.get_shape()))
                for key, part in slices.items()
            }
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); write it again"
        ) from None
