"""peft's rules: which modules an adapter_config.json adapts, with which rank and scale.

The rules are those of peft 0.21.2: `check_target_module_exists` and
`_maybe_include_all_linear_layers` of tuners/tuners_utils.py, `get_pattern_key` of utils/other.py,
and `_create_and_replace` of tuners/lora/model.py. They are applied to the names of modules in
transformers' sequence classification models. The config must have passed `peft_config.check`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lora.model.families.registry import FAMILIES

ALL_LINEAR = "all-linear"


def module_names(family: str, depth: int) -> list[str]:
    """Return the names of all linear layers and embeddings of a model of `depth` layers."""
    one = FAMILIES[family]
    names = [f"{one.prefix}.embeddings.{kind}_embeddings" for kind in one.embeddings]
    names += [
        f"{one.prefix}.{one.layers}.{layer}.{module}"
        for layer in range(depth)
        for module in one.linears
    ]
    return names + list(one.head_modules.values())


def adapted_modules(config: Mapping[str, Any], family: str, depth: int) -> list[str]:
    """Return the modules that peft adapts in a model of `depth` layers."""
    default = FAMILIES[family].default_targets
    return [name for name in module_names(family, depth) if adapts(config, name, default)]


def adapts(config: Mapping[str, Any], name: str, default: Sequence[str]) -> bool:
    """Return whether peft adapts a module; `default` are the targets if the config names none."""
    if _excluded(config, name):
        return False
    targets = config.get("target_modules")
    if targets is None:
        targets = default
    if isinstance(targets, str):
        if targets.lower() == ALL_LINEAR:
            head = name == "classifier" and config.get("task_type") == "SEQ_CLS"
            return not (head or name.endswith("_embeddings"))
        return re.fullmatch(targets, name) is not None
    if name in targets:  # peft does not look at layers_to_transform then
        return True
    return _ends_with(name, targets) and _layer_is_chosen(config, name)


def _excluded(config: Mapping[str, Any], name: str) -> bool:
    excluded = config.get("exclude_modules") or []
    if isinstance(excluded, str):
        if re.fullmatch(excluded, name):
            return True
    elif name in excluded or _ends_with(name, excluded):
        return True
    saved = config.get("modules_to_save") or []
    return any(re.match(rf"(^|.*\.){module}($|\..*)", name) for module in saved)


def _ends_with(name: str, modules: Iterable[str]) -> bool:
    return any(name.endswith(f".{module}") for module in modules)


def _layer_is_chosen(config: Mapping[str, Any], name: str) -> bool:
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = config.get("layers_pattern") or []
    if isinstance(patterns, str):
        patterns = [patterns]
    expressions = [rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\." for pattern in patterns]
    for expression in expressions or [r".*?\.[^.]*\.(?P<idx>\d+)\."]:
        if match := re.match(expression, name):
            index = int(match["idx"])
            return index == layers if isinstance(layers, int) else index in layers
    return False


def ranks_of(config: Mapping[str, Any], name: str) -> list[int]:
    """Return the ranks that a module's pair may have: more than one if several patterns fit.

    peft uses the first pattern that fits, but sorts the patterns when it saves them. So the order
    of training is lost, and the stored tensors tell which rank was trained.
    """
    return _of_patterns(config.get("rank_pattern") or {}, name, config["r"])


def alphas_of(config: Mapping[str, Any], name: str) -> list[float]:
    """Return the alphas that a module's pair may have: more than one if several patterns fit."""
    return _of_patterns(config.get("alpha_pattern") or {}, name, config["lora_alpha"])


def scale(config: Mapping[str, Any], alpha: float, rank: int) -> float:
    """Return the scale that multiplies B A."""
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_patterns(patterns: Mapping[str, Any], name: str, default: Any) -> list[Any]:
    """Return the different values of the patterns that fit a module's name, or the default."""
    values = [
        value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name)
    ]
    return list(dict.fromkeys(values or [default]))
