"""Biases of the base model in a PEFT folder: which are there, and checks against its config."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lora.adapters.peft_names import peft_name
from lora.adapters.peft_tensors import Tensors, pairs_of, width_of
from lora.model.families.registry import FAMILIES


def stored_biases(tensors: Iterable[str], family: str) -> str:
    """Return which biases of the base model are among an adapter's tensors.

    Args:
        tensors: Names of the tensors.
        family: Family of the model, a key of FAMILIES.

    Returns:
        `none`, `lora_only` (only those of adapted layers) or `all`, as peft names them.
    """
    names = set(tensors)
    found = {name for name in names if name.startswith("base.")}
    if not found:
        return "none"
    return "lora_only" if found <= adapted_biases(names, family) else "all"


def adapted_biases(tensors: Iterable[str], family: str) -> set[str]:
    """Return the names of the biases of the layers that have pairs."""
    return {f"base.{FAMILIES[family].module_of(pair)}.bias" for pair in pairs_of(tensors)}


def check_biases(
    config: Mapping[str, Any], tensors: Tensors, family: str, layers: int | None
) -> list[str]:
    """Compare the biases of the base model with those that `bias` of adapter_config.json stores.

    Args:
        config: adapter_config.json.
        tensors: The tensors.
        family: Family of the model, a key of FAMILIES.
        layers: Number of layers of the base model; None if unknown.
    """
    bias = config.get("bias") or "none"
    found = {name for name in tensors if name.startswith("base.")}
    adapted = adapted_biases(tensors, family)
    number = re.compile(rf"base\.{re.escape(FAMILIES[family].layers)}\.(\d+)\.")
    above = [
        name
        for name in sorted(found)
        if layers and (match := number.match(name)) and int(match[1]) >= layers
    ]
    if above:
        return [
            f"{peft_name(above[0], family)}: the base model has {layers} layers, counted from 0; "
            "give the base model that it was trained on"
        ]
    if bias == "none" and found or bias == "lora_only" and found - adapted:
        extra = peft_name(min(found if bias == "none" else found - adapted), family)
        return [
            f"{extra} is there, but bias is {bias!r} in adapter_config.json; save the adapter "
            "again, with the bias that it was trained with"
        ]
    if bias != "none" and adapted - found:
        return [
            f"{peft_name(min(adapted - found), family)} is missing, though bias is {bias!r} in "
            "adapter_config.json (older versions of peft do not save biases); save it with a "
            "newer one, or set bias to 'none' there to use the base model's own biases"
        ]
    width = width_of(tensors)
    return [
        f"{peft_name(name, family)} has shape {list(tensors[name].shape)}; expected [{width}]"
        for name in sorted(found)
        if tensors[name].shape != (width,)
        and name.startswith(f"base.{FAMILIES[family].layers}.")
        and not name.endswith(f".{FAMILIES[family].inner}.bias")
    ]
