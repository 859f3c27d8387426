"""Read and write PEFT LoRA folders.

Folders are written here because importing peft takes seconds in every training job; tests load them
with peft and compare logits. The head is stored under `modules_to_save`, because the paper trains
it with the adapter. Pickled files are never opened.
"""

from pathlib import Path
from typing import Any, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lora import files
from lora.adapters.peft_checks import check_config, check_targets, check_tensors, name_tensors
from lora.adapters.peft_names import MODULES_TO_SAVE, TARGETS, peft_name
from lora.errors import ConfigError
from lora.experiment.cell import WEIGHT_TYPES
from lora.model.tensor_files import save_tensors

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


class AdapterConfig(TypedDict):
    """Settings of a LoRA adapter: rank r, alpha, weight types such as `qv`, and dropout."""

    rank: int
    alpha: float
    weights: str
    lora_dropout: float


def write_adapter(
    folder: Path,
    tensors: dict[str, Tensor],
    family: str,
    model: str,
    weights: str,
    rank: int,
    alpha: float,
    lora_dropout: float,
    revision: str | None = None,
) -> None:
    """Write adapter_config.json and adapter_model.safetensors of one run.

    Args:
        folder: Folder of the adapter.
        tensors: The run's tensors by name.
        family: `bert` or `roberta`.
        model: The base model for `from_pretrained`: a name on the hub, or a folder.
        weights: Adapted weight types, such as `qv`.
        rank: Rank r.
        alpha: Scale alpha; the delta is multiplied by alpha/r.
        lora_dropout: Dropout of the LoRA input.
        revision: Commit of a base model on the hub.
    """
    named = {peft_name(name, family): tensor for name, tensor in tensors.items()}
    save_tensors(Path(folder) / TENSORS, named)
    files.write_json(
        Path(folder) / CONFIG,
        dict(
            peft_type="LORA",
            task_type="SEQ_CLS",
            base_model_name_or_path=model,
            revision=revision,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=lora_dropout,
            target_modules=[TARGETS[letter] for letter in weights],
            modules_to_save=MODULES_TO_SAVE[family],
            bias="none",
            fan_in_fan_out=False,
            inference_mode=True,
            init_lora_weights=True,
        ),
    )


def read_adapter(folder: Path, family: str) -> tuple[dict[str, Tensor], AdapterConfig]:
    """Read a PEFT LoRA folder.

    Args:
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        family: `bert` or `roberta`.

    Returns:
        The stored tensors by the names that runs use, and the adapter's settings. The names are
        "<layer>.<letter>.a" [r, D], "<layer>.<letter>.b" [D, r], "head.dense.*" and "head.out.*".
        A BERT adapter without a trained pooler has no "head.dense.*".

    Raises:
        ValueError: If the folder does not hold an adapter of this kind. It names file and key.
    """
    config = read_config(folder)
    problems = check_config(config)
    if problems:
        raise ConfigError(
            f"{Path(folder) / CONFIG} describes an adapter that is not supported:", problems
        )
    tensors = read_tensors(folder)
    named, problems = name_tensors(tensors, family)
    problems = problems or check_tensors(named, config["r"], family) + check_targets(
        named, config.get("target_modules")
    )
    if problems:
        raise ConfigError(
            f"{Path(folder) / TENSORS} is an adapter that is not supported:", problems
        )
    present = {name.split(".")[1] for name in named if not name.startswith("head.")}
    weights = "".join(letter for letter in WEIGHT_TYPES if letter in present)
    return named, {
        "rank": config["r"],
        "alpha": float(config["lora_alpha"]),
        "weights": weights,
        "lora_dropout": float(config["lora_dropout"]),
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; raise ValueError if it is missing or not a JSON object."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {CONFIG}; give a folder with an adapter, such as a run's adapter/"
        )
    return files.read_object(path, "write the adapter again")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of adapter_model.safetensors by key.

    Raises:
        ValueError: If the file is missing, damaged, or has values that are not finite.
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
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); write it again"
        ) from None
    wrong = [
        f"{key}: got {str(value.dtype).removeprefix('torch.')} numbers"
        + (
            ", not all finite; allowed: finite ones"
            if value.is_floating_point()
            else "; allowed: floating point"
        )
        for key, value in tensors.items()
        if not (value.is_floating_point() and torch.isfinite(value).all())
    ]
    if wrong:
        raise ConfigError(f"{path} has numbers that cannot be used:", wrong)
    return tensors
