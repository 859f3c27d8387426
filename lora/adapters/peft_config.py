"""Checks of adapter_config.json: every setting of peft is computed, without effect, or a problem.

A finished LoRA adapter is its pairs, their scales, the head and perhaps biases. Most settings only
decide how it was initialized and trained. This module imports no torch.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from lora.errors import shown
from lora.experiment.hparams import allowed_values, check_setting
from lora.experiment.names import MAX_INT

# Settings that decide the adapter; `check` and `peft_rules` read them.
COMPUTED = set(
    "peft_type task_type r lora_alpha lora_dropout use_rslora bias init_lora_weights "
    "target_modules exclude_modules modules_to_save layers_to_transform layers_pattern "
    "rank_pattern alpha_pattern".split()
)
# Settings that do not change a finished adapter of these families, whatever their value is.
# fan_in_fan_out: peft resets it for nn.Linear. *_config: of initializations, which are checked.
# ensure_weight_tying: about embeddings. merge_weights: of peft before 0.3.
WITHOUT_EFFECT = set(
    "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config "
    "fan_in_fan_out inference_mode loftq_config lora_ga_config megatron_core merge_weights "
    "peft_version qalora_group_size revision runtime_config".split()
)
# Settings that change what the adapter computes -> how. Null, false and empty ones are off.
UNSUPPORTED = {
    "alora_invocation_tokens": "Activated LoRA acts on some tokens only",
    "arrow_config": "Arrow chooses between adapters for every token",
    "enable_lora": "only parts of a merged layer are adapted",
    "kasa_config": "KaSA truncates the frozen weights",
    "layer_replication": "layers of the base model are repeated",
    "lora_bias": "B has a bias",
    "megatron_config": "the layers are Megatron's",
    "monteclora_config": "MonteCLoRA adds random noise",
    "target_parameters": "parameters outside linear layers are adapted",
    "trainable_token_indices": "rows of the embeddings are trained",
    "use_bdlora": "BD-LoRA's matrices are block-diagonal",
    "use_dora": "DoRA rescales the weights",
    "use_qalora": "QA-LoRA pools the input",
    "velora_config": "VeLoRA stores other tensors with the pairs",
}
# peft's other initializations (pissa, olora, loftq, ...) change the frozen weights.
INITIALIZATIONS = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
BIASES = ("none", "lora_only", "all")
_WORDS = "null or a list of names"
_PATTERN = "null, a list of names, or a regular expression"


def check(config: Mapping[str, Any]) -> list[str]:
    """Return one problem for each setting that is not supported or has no valid value."""
    if config.get("peft_type") != "LORA":
        what = (
            f"method is {config['method']!r}"
            if "method" in config
            else f"peft_type is {config.get('peft_type')!r}"
        )
        return [f"{what[:200]}; allowed: peft_type 'LORA'"]
    problems = [
        f"{key} is {shown(config.get(key))}; allowed: {allowed}"
        for key, (fits, allowed) in _VALUES.items()
        if not fits(config.get(key, _DEFAULTS.get(key)))
    ]
    if isinstance(config.get("target_modules"), str) and config.get("layers_to_transform"):
        problems.append(
            "layers_to_transform is set and target_modules is a regular expression, which peft "
            "does not allow; write a list of names under target_modules"
        )
    for key in sorted(set(config) - COMPUTED - WITHOUT_EFFECT):
        if config[key] not in (None, False, "", [], {}):
            why = UNSUPPORTED.get(key, "a setting that is not known")
            problems.append(
                f"{key[:100]} is {shown(config[key])}; allowed: leave it out ({why}); merge this "
                "adapter with peft's merge_and_unload(), or train it without"
            )
    return problems


def _is_whole(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_INT


def _is_expression(value: object) -> bool:
    """Return whether a value is a regular expression, in the form in which peft uses it."""
    if not isinstance(value, str):
        return False
    try:
        re.compile(rf"(.*\.)?({value})$")
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_list_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(fits(item) for item in value)


def _is_pattern_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    """Return a check of rank_pattern and alpha_pattern: null, or expressions with their values."""
    return lambda value: (
        value is None
        or isinstance(value, dict)
        and all(_is_expression(key) and fits(item) for key, item in value.items())
    )


def _or_null(*checks: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or any(fits(value) for fits in checks)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_alpha(value: object) -> bool:
    return check_setting("alpha", value) is None


def _is_layer(value: object) -> bool:
    return type(value) is int and abs(value) <= MAX_INT


# Values of keys that an adapter_config.json may leave out; r and lora_alpha must be there.
_DEFAULTS = {"bias": "none", "init_lora_weights": True, "lora_dropout": 0.0}
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task_type": (lambda value: value in (None, "SEQ_CLS"), "'SEQ_CLS' or null"),
    "bias": (lambda value: value in BIASES, ", ".join(map(repr, BIASES))),
    "init_lora_weights": (
        lambda value: any(value is known or value == known != 1 for known in INITIALIZATIONS),
        ", ".join(map(repr, INITIALIZATIONS))
        + "; others change the frozen weights, so merge this adapter with peft's "
        "merge_and_unload()",
    ),
    "r": (_is_whole, f"a whole number of at least 1, at most {MAX_INT}"),
    "lora_alpha": (_is_alpha, allowed_values("alpha")),
    "lora_dropout": (
        _or_null(lambda value: check_setting("lora_dropout", value) is None),
        allowed_values("lora_dropout"),
    ),
    "use_rslora": (lambda value: value in (None, False, True), "true or false"),
    "target_modules": (_or_null(_is_expression, _is_list_of(_is_text)), _PATTERN),
    "exclude_modules": (_or_null(_is_expression, _is_list_of(_is_text)), _PATTERN),
    "modules_to_save": (_or_null(_is_list_of(_is_expression)), _WORDS),
    "layers_to_transform": (
        _or_null(_is_layer, _is_list_of(_is_layer)),
        "null, the index of a layer, or a list of them",
    ),
    "layers_pattern": (_or_null(_is_expression, _is_list_of(_is_expression)), _WORDS),
    "rank_pattern": (
        _is_pattern_of(_is_whole),
        "regular expressions with a whole number of at least 1 for each",
    ),
    "alpha_pattern": (
        _is_pattern_of(_is_alpha),
        f"regular expressions with {allowed_values('alpha')} for each",
    ),
}
