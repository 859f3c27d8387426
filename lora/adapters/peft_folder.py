"""Read and write PEFT LoRA folders.

Folders are written here because importing peft takes seconds in every training job; tests load them
with peft and compare logits. The head is stored under `modules_to_save`, because the paper trains
it with the adapter. Pickled files are never opened.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lora import files
from lora.adapters.peft_biases import adapted_biases, stored_biases
from lora.adapters.peft_checks import Adapter
from lora.adapters.peft_header import CONFIG, TENSORS, describe_folder, read_header
from lora.adapters.peft_names import peft_name
from lora.adapters.peft_tensors import check_types
from lora.errors import ConfigError
from lora.model.families.registry import FAMILIES
from lora.model.tensor_files import save_tensors

log = logging.getLogger(__name__)


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
        family: Family of the base model, a key of FAMILIES.
        model: The base model for `from_pretrained`: a name on the hub, or a folder.
        weights: Adapted weight types, such as `qv`.
        rank: Rank r.
        alpha: Scale alpha; the delta is multiplied by alpha/r.
        lora_dropout: Dropout of the LoRA input.
        revision: Commit of a base model on the hub.
    """
    named = {peft_name(name, family): tensor for name, tensor in tensors.items()}
    for name in adapted_biases(tensors, family) & tensors.keys():
        key = peft_name(name, family)
        # peft wraps an adapted layer: the layer itself is its `base_layer`.
        named[f"{key.removesuffix('.bias')}.base_layer.bias"] = named.pop(key)
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
            target_modules=[FAMILIES[family].projections[letter] for letter in weights],
            modules_to_save=list(FAMILIES[family].head.modules_to_save),
            bias=stored_biases(tensors, family),
            fan_in_fan_out=False,
            inference_mode=True,
            init_lora_weights=True,
        ),
    )


def read_adapter(
    folder: Path, family: str, model_config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], Adapter]:
    """Read a PEFT LoRA folder.

    Args:
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        family: Family of the base model, a key of FAMILIES.
        model_config: config.json of the base model that the adapter is for, if known.

    Returns:
        The tensors by the names that runs use, see `Adapter.keys`, and the description of the
        adapter. A BERT adapter without a trained pooler has no "head.dense.*".

    Raises:
        ValueError: If the folder does not hold an adapter of this kind. It names file and key.
    """
    adapter = describe_folder(folder, {**(model_config or {}), "model_type": family})
    if adapter.notes:
        log.info("%s has keys %s", Path(folder) / TENSORS, " and ".join(adapter.notes))
    stored = read_tensors(folder)
    differing = [
        f"{peft_name(name, family)} is there under two keys with different values: "
        f"{key[:200]}; keep one"
        for name, key in adapter.copies.items()
        if stored[key].tolist() != stored[adapter.keys[name]].tolist()
    ]
    if differing:
        raise ConfigError(f"{Path(folder) / TENSORS} is not clear:", differing)
    return {name: stored[key] for name, key in adapter.keys.items()}, adapter


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of adapter_model.safetensors by key.

    Numbers of 8 bits are converted to float32, which represents all of them.

    Raises:
        ValueError: If the file is missing, damaged, or has values that are not finite.
    """
    path = Path(folder) / TENSORS
    if problems := check_types(read_header(folder)):
        raise ConfigError(f"{path} has numbers that cannot be used:", problems)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); write it again"
        ) from None
    tensors = {
        key: value.float() if value.element_size() == 1 else value for key, value in tensors.items()
    }
    wrong = [
        f"{key}: got numbers that are not all finite; allowed: finite ones"
        for key, value in tensors.items()
        if not torch.isfinite(value).all()
    ]
    if wrong:
        raise ConfigError(f"{path} has numbers that cannot be used:", wrong)
    return tensors
