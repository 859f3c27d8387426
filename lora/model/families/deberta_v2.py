"""DeBERTa-v2 and v3 (He et al. 2021). Scores of relative positions; some have a convolution.

Supported are the published shapes: positions are relative alone, and there are no segments.
"""

from collections.abc import Mapping
from typing import Any

from lora.errors import shown
from lora.model.families import bert
from lora.model.families.family import Convolution, Family, Head, RelativePositions

KINDS = ("c2p", "p2c")
PROJECTIONS = {"c2p": "attention.self.pos_key_proj", "p2c": "attention.self.pos_query_proj"}
TABLE_NORM = "encoder.LayerNorm"
CONV = ("encoder.conv.conv", "encoder.conv.LayerNorm")
ACTIVATIONS = ("gelu", "relu", "tanh")
# Values that config.json must have, and those that transformers takes where it has none.
REQUIRED = {
    "relative_attention": (True, False),
    "position_biased_input": (False, True),
    "type_vocab_size": (0, 0),
    "pooler_dropout": (0, 0),
    "pooler_hidden_act": ("gelu", "gelu"),
    "conv_groups": (1, 1),
}


def kinds_of(settings: Mapping[str, Any]) -> list[str]:
    """Return `pos_att_type`, a list or text such as "p2c|c2p", as a list."""
    given = settings.get("pos_att_type") or []
    return [kind.strip() for kind in given.lower().split("|")] if isinstance(given, str) else given


def relative_positions(settings: Mapping[str, Any]) -> RelativePositions:
    """Return how a config.json scores relative positions."""
    kinds = tuple(kind for kind in KINDS if kind in kinds_of(settings))
    shares = settings.get("share_att_key", False)
    longest = settings.get("max_relative_positions", -1)
    has_norm = "layer_norm" in _norms(settings)
    return RelativePositions(
        kinds=kinds,
        buckets=max(0, settings.get("position_buckets", -1)),
        max_distance=longest if longest > 0 else settings["max_position_embeddings"],
        table="encoder.rel_embeddings",
        norm=TABLE_NORM if has_norm else "",
        projections={} if shares else {kind: PROJECTIONS[kind] for kind in kinds},
    )


def convolution(settings: Mapping[str, Any]) -> Convolution | None:
    """Return the convolution of a config.json; None if it has none."""
    kernel = settings.get("conv_kernel_size", 0)
    return Convolution(kernel, settings.get("conv_act", "tanh"), *CONV) if kernel > 0 else None


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return what is not supported in a config.json, one line each."""
    found = [
        f"{key} is {shown(settings.get(key, default))}; allowed for {FAMILY.title}: {required!r}"
        for key, (required, default) in REQUIRED.items()
        if settings.get(key, default) != required
    ]
    width = settings["hidden_size"]
    found += [
        f"{key} is {shown(settings[key])}; allowed for {FAMILY.title}: hidden_size, {width}"
        for key in ("embedding_size", "pooler_hidden_size")
        if settings.get(key, width) != width
    ]
    kinds = kinds_of(settings)
    if not isinstance(kinds, list) or not kinds or not all(kind in KINDS for kind in kinds):
        found.append(f"pos_att_type is {shown(kinds)}; allowed: c2p, p2c or both")
    for key in ("position_buckets", "max_relative_positions", "conv_kernel_size"):
        if type(settings.get(key, -1)) is not int:
            found.append(f"{key} is {shown(settings[key])}; allowed: a whole number")
    buckets, kernel = settings.get("position_buckets", -1), settings.get("conv_kernel_size", 0)
    if type(buckets) is int and buckets in (1, 2, 3):
        found.append(f"position_buckets is {buckets}; allowed: -1, or at least 4")
    if type(kernel) is int and kernel > 0 and kernel % 2 == 0:
        found.append(f"conv_kernel_size is {kernel}; allowed: an odd number, or 0")
    if settings.get("conv_act", "tanh") not in ACTIVATIONS:
        found.append(
            f"conv_act is {shown(settings['conv_act'])}; allowed: {', '.join(ACTIVATIONS)}"
        )
    if not isinstance(settings.get("norm_rel_ebd", "none"), str):
        found.append(f"norm_rel_ebd is {shown(settings['norm_rel_ebd'])}; allowed: text")
    size = width // max(1, settings["num_attention_heads"])
    if settings.get("attention_head_size", size) != size:
        found.append(
            f"attention_head_size is {shown(settings['attention_head_size'])}; allowed: {size}"
        )
    return found


def _norms(settings: Mapping[str, Any]) -> list[str]:
    return [name.strip() for name in settings.get("norm_rel_ebd", "none").lower().split("|")]


FAMILY = Family(
    name="deberta-v2",
    title="DeBERTa-v2",
    prefix="deberta",
    model_class="DebertaV2Model",
    classifier_class="DebertaV2ForSequenceClassification",
    defaults={
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "vocab_size": 128100,
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    },
    head=Head(
        dense="pooler.dense",
        out="classifier",
        modules_to_save=("classifier", "pooler"),
        activation="gelu",
        input_dropout=False,
    ),
    surplus=bert.BUFFERS + r"|embeddings\.position_embeddings\.weight"
    r"|pooler\.dense\.(weight|bias)|(classifier|qa_outputs)\.(weight|bias)"
    r"|cls\.predictions\.(bias|(transform\.(dense|LayerNorm)|decoder)\.(weight|bias))"
    r"|lm_predictions\.lm_head\.(bias|(dense|LayerNorm)\.(weight|bias))|mask_predictions\..*",
    keys={"classifier_dropout": "cls_dropout"},
    projections={
        "q": "attention.self.query_proj",
        "k": "attention.self.key_proj",
        "v": "attention.self.value_proj",
        "o": "attention.output.dense",
    },
    embeddings=("word",),
    default_targets=("query_proj", "value_proj"),
    other_modules=(TABLE_NORM, *CONV),
    other_layer_modules=tuple(PROJECTIONS.values()),
    relative_positions=relative_positions,
    convolution=convolution,
    problems=problems,
)
