"""config.json of a model folder: what the encoder here relies on, checked before anything is built of it.

transformers fills what a config leaves out with its defaults and ignores what it does not know, so a damaged config gives
another model or an error deep inside. Only what decides the shape or the arithmetic of a BERT or RoBERTa encoder is looked
at, and what this encoder does not compute (a decoder, relative positions, quantised weights) is refused. Whether the
weights beside it fit is `pretrained`'s to see. It imports no torch: text is tokenised for a model where there is none.
"""

from pathlib import Path

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.cell import MODEL_FAMILIES
from lora.experiment.names import MAX_INT

NAME = "config.json"
WHOLE = (
    "hidden_size num_hidden_layers num_attention_heads intermediate_size vocab_size max_position_embeddings type_vocab_size"
).split()
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
ABOVE_ZERO = ("layer_norm_eps", "initializer_range")
ONLY = dict(
    is_decoder=False,
    add_cross_attention=False,
    position_embedding_type="absolute",
    quantization_config=None,
)


def read(folder: Path) -> dict:
    """What config.json in `folder` says; raises ValueError that names every key no model here can have."""
    path = Path(folder) / NAME
    if not path.is_file():
        raise ValueError(f"{folder}: no {NAME}; give a folder with a transformers model")
    config = files.read_object(path, "fetch the model again")
    family = config.get("model_type", MODEL_FAMILIES[0])
    if family not in MODEL_FAMILIES:
        raise ValueError(
            f"{folder}: model family {shown(family)}; allowed: {', '.join(MODEL_FAMILIES)}"
        )
    problems = _problems(config)
    if problems:
        raise ConfigError(f"{path} is of no model that can be used here:", problems)
    return config


def _problems(config: dict) -> list[str]:
    problems = [
        f"{key} is {shown(config[key])}; allowed: a whole number of at least 1"
        for key in WHOLE
        if key in config and not (type(config[key]) is int and 1 <= config[key] <= MAX_INT)
    ]
    for keys, fits, allowed in (
        (PROBABILITIES, lambda value: 0 <= value < 1, "a number of at least 0, below 1"),
        (ABOVE_ZERO, lambda value: 0 < value < float("inf"), "a number above 0"),
    ):
        for key in keys:
            value = config.get(key)
            unset = key not in config or (key == "classifier_dropout" and value is None)
            if not unset and (type(value) not in (int, float) or not fits(value)):
                problems.append(f"{key} is {shown(value)}; allowed: {allowed}")
    for key, only in ONLY.items():
        if config.get(key, only) != only:
            problems.append(
                f"{key} is {shown(config[key])}; allowed: {only!r}, or that it is not set"
            )
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not problems and width is not None and heads is not None and width % heads:
        problems.append(
            f"hidden_size is {width}; allowed: a multiple of num_attention_heads, {heads}"
        )
    return problems
