"""Check of config.json in a model folder, before a model is built from it.

transformers fills missing keys with defaults and ignores unknown ones, so a damaged config gives
another model or an error deep inside. Only keys that decide the shape or arithmetic of the encoder
are checked. What this encoder does not compute is an error: decoders, relative positions, quantized
weights. `pretrained` checks the weights. This module imports no torch.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.names import MAX_INT
from lora.model.families import registry
from lora.model.families.family import Family

NAME = "config.json"
INTEGERS = (
    "hidden_size",
    "embedding_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
POSITIVE = ("layer_norm_eps", "initializer_range")
REQUIRED_VALUES = {
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "quantization_config": None,
}


def read(folder: Path) -> dict[str, Any]:
    """Read and check config.json in `folder`.

    Raises:
        ValueError: If there is no config.json, or the model is of another family.
        ConfigError: If values are not usable. It names every such key.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise ValueError(f"{folder}: no {NAME}; give a folder with a transformers model")
    config = files.read_object(path, "fetch the model again")
    try:
        family = registry.family_of(config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    problems = _problems(config, family)
    if problems:
        raise ConfigError(f"{path} describes a model that is not supported:", problems)
    return config


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json with transformers' values of the keys that it leaves out.

    Keys that the family names otherwise are there under BERT's names too.
    """
    family = registry.family_of(config)
    renamed = {name: config[key] for name, key in family.keys.items() if key in config}
    return {"model_type": family.name, **family.defaults, **config, **renamed}


def longest_sequence(config: Mapping[str, Any]) -> int:
    """Return for how many tokens a model has positions, special tokens included.

    Some families count positions from pad_token_id + 1 (fairseq's convention), others from 0.

    Args:
        config: The keys of config.json, defaults included.
    """
    first = config["pad_token_id"] + 1 if registry.family_of(config).counts_from_padding else 0
    return int(config["max_position_embeddings"]) - first


def _problems(config: dict[str, Any], family: Family) -> list[str]:
    def own(names: Iterable[str]) -> list[str]:
        """Return the family's keys for BERT's names."""
        return [family.keys.get(name, name) for name in names if name in family.defaults]

    problems = [
        f"{key} is {shown(config[key])}; allowed: a whole number of at least 1"
        for key in own(INTEGERS)
        if key in config and not (type(config[key]) is int and 1 <= config[key] <= MAX_INT)
    ]
    for key in own(PROBABILITIES):
        if _is_set(config, key) and not (_is_number(config[key]) and 0 <= config[key] < 1):
            problems.append(
                f"{key} is {shown(config[key])}; allowed: a number of at least 0, below 1"
            )
    for key in POSITIVE:
        if key in config and not (_is_number(config[key]) and 0 < config[key] < float("inf")):
            problems.append(f"{key} is {shown(config[key])}; allowed: a number above 0")
    for key, required in REQUIRED_VALUES.items():
        if config.get(key, required) != required:
            problems.append(
                f"{key} is {shown(config[key])}; allowed: {required!r}, or leave it out"
            )
    filled = with_defaults(config)
    if family.counts_from_padding and not problems:
        pad, highest = filled["pad_token_id"], filled["max_position_embeddings"] - 2
        if not (type(pad) is int and -1 <= pad <= highest):
            problems.append(
                f"pad_token_id is {shown(pad)}; allowed: a whole number from -1 to {highest}, "
                f"because {family.title} counts positions from the next number"
            )
    width, heads = filled["hidden_size"], filled["num_attention_heads"]
    if not problems and width % heads:
        width_key, heads_key = own(["hidden_size", "num_attention_heads"])
        problems.append(f"{width_key} is {width}; allowed: a multiple of {heads_key}, {heads}")
    if not problems:
        problems += family.problems(filled)
    return problems


def _is_set(config: dict[str, Any], key: str) -> bool:
    """Return whether a probability is set; null leaves `classifier_dropout` unset."""
    return key in config and not (key == "classifier_dropout" and config[key] is None)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
