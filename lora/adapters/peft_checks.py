"""Description of a PEFT LoRA folder, from its config and the header of its tensors.

Pairs must be on attention weights of a supported family, and exactly those that peft adapts by
adapter_config.json: ignoring a tensor, or filling in a missing one, would silently give another
model. This module imports no torch, so that a folder can be checked before data are prepared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lora.adapters import peft_rules
from lora.adapters.peft_biases import check_biases, stored_biases
from lora.adapters.peft_names import PREFIX, as_peft_writes, module_of, run_name
from lora.adapters.peft_tensors import (
    StoredTensor,
    check_base_weights,
    check_family,
    check_head,
    check_pairs,
    check_size,
    check_types,
    check_unknown,
    width_of,
)
from lora.errors import ConfigError
from lora.experiment.cell import WEIGHT_TYPES
from lora.model.families import registry
from lora.model.families.registry import FAMILIES


class PairSettings(NamedTuple):
    """Rank of a LoRA pair, and the scale s of its delta s B A."""

    rank: int
    scale: float


@dataclass(frozen=True)
class Adapter:
    """What a PEFT LoRA folder holds.

    Attributes:
        family: Family of its base model. If that is not known, the first one with such tensors.
        width: Width of the model that it was trained on.
        weights: Adapted weight types, such as `qv`.
        rank: `r` of adapter_config.json; `pairs` has the rank of each pair.
        alpha: `lora_alpha` of adapter_config.json.
        lora_dropout: Dropout of the LoRA input.
        bias: Which biases of the base model are in it: `none`, `lora_only` (at most those of
            adapted layers) or `all`.
        pairs: Settings of each pair, by "<layer>.<letter>".
        keys: Keys in adapter_model.safetensors by the names that runs use: "<layer>.<letter>.a"
            [r, D], "<layer>.<letter>.b" [D, r], "head.dense.*", "head.out.*", and "base.*" for
            biases of the base model.
        copies: Keys of second copies of tensors, by the same names.
        notes: What differs from a folder that peft writes, for the log.
    """

    family: str
    width: int
    weights: str
    rank: int
    alpha: float
    lora_dropout: float
    bias: str
    pairs: Mapping[str, PairSettings]
    keys: Mapping[str, str]
    copies: Mapping[str, str]
    notes: tuple[str, ...]

    def left_out(self, depth: int) -> list[str]:
        """Return the pairs that a model of `depth` layers has and this adapter has not."""
        every = (f"{layer}.{letter}" for layer in range(depth) for letter in self.weights)
        return [pair for pair in every if pair not in self.pairs]


def describe(
    config: Mapping[str, Any],
    stored: Mapping[str, StoredTensor],
    model_config: Mapping[str, Any] | None = None,
    title: str = "This adapter is not supported:",
) -> Adapter:
    """Describe a PEFT LoRA folder.

    Args:
        config: adapter_config.json, which must have passed `peft_config.check`.
        stored: Types and shapes in adapter_model.safetensors.
        model_config: config.json of the base model, or the keys of it that are known: model_type,
            num_hidden_layers, hidden_size. None if the base model is not there yet.
        title: First line of the error.

    Raises:
        ConfigError: If a tensor is missing, surplus or does not fit. It names every problem.
    """
    base = model_config or {}
    found = as_peft_writes(stored)
    family = base.get("model_type") or _family_of(found.stored)
    registry.family_of({"model_type": family})
    if problems := found.problems or check_family(found.stored, family):
        raise ConfigError(title, problems)
    names_of = {key: name for key in found.stored if (name := run_name(key, family))}
    keys = {name: found.stored[key] for key, name in names_of.items()}
    tensors = {name: stored[key] for name, key in keys.items()}
    layers, width = base.get("num_hidden_layers"), base.get("hidden_size")
    unknown = [key for key in found.stored if key not in names_of]
    if problems := check_base_weights(unknown, family):
        raise ConfigError(title, problems)
    problems = [*check_types(stored), *check_unknown(unknown, family)]
    if any(".lora_" in key for key in names_of) or not unknown:
        problems += check_size(tensors, layers, width) or [
            *check_pairs(config, tensors, family, layers, unknown),
            *check_head(tensors, family, config.get("bias")),
            *check_biases(config, tensors, family, layers),
        ]
    if problems:
        raise ConfigError(title, problems)
    pairs = _settings(config, tensors, family)
    letters = {pair.split(".")[1] for pair in pairs}
    return Adapter(
        family=family,
        width=width_of(tensors),
        weights="".join(letter for letter in WEIGHT_TYPES if letter in letters),
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        lora_dropout=float(config.get("lora_dropout") or 0),
        bias=stored_biases(keys, family),
        pairs=pairs,
        keys=keys,
        copies={name: found.copies[key] for key, name in names_of.items() if key in found.copies},
        notes=tuple(found.notes),
    )


def _settings(
    config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], family: str
) -> dict[str, PairSettings]:
    """Return rank and scale of each pair, by layer and weight type; the tensors are checked."""
    pairs = sorted({name[:-2] for name in tensors if name.endswith(".a")}, key=_layer_and_letter)
    settings = {}
    for pair in pairs:
        rank = tensors[f"{pair}.a"].shape[0]
        (alpha,) = peft_rules.alphas_of(config, module_of(pair, family))
        settings[pair] = PairSettings(rank, peft_rules.scale(config, alpha, rank))
    return settings


def _layer_and_letter(pair: str) -> tuple[int, int]:
    layer, letter = pair.split(".")
    return int(layer), WEIGHT_TYPES.index(letter)


def _family_of(keys: Iterable[str]) -> str:
    """Return the first family of those that keys as peft writes them name; DEFAULT if none."""
    prefixes: dict[str, str] = {}
    for name, family in FAMILIES.items():
        prefixes.setdefault(family.prefix, name)
    first = (key.removeprefix(PREFIX).split(".")[0] for key in keys)
    return next((prefixes[part] for part in first if part in prefixes), registry.DEFAULT)
