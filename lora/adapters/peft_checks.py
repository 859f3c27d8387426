"""Checks of a PEFT folder: only adapters that runs can use whole are accepted.

These are LoRA pairs of one rank and alpha on the same attention weights of every layer, and the
head. Anything else is a problem: ignoring it would silently give another model.
"""

import re
from typing import Any

from torch import Tensor

from lora.adapters.peft_names import HEADS, LORA_KEY, TARGETS, peft_name, run_name
from lora.errors import shown
from lora.experiment.cell import MODEL_FAMILIES
from lora.experiment.hparams import allowed_values, check_setting

# Keys of adapter_config.json that are checked, and keys that do not change a finished adapter.
READ = {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "init_lora_weights"}
WITHOUT_EFFECT = set(
    "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config "
    "exclude_modules inference_mode loftq_config lora_ga_config megatron_core modules_to_save "
    "peft_version qalora_group_size revision runtime_config target_modules".split()
)
# peft's other initializations (pissa, olora, loftq, ...) change the frozen weights.
INITIALIZATIONS = (True, False, "gaussian", "orthogonal", "eva")


def check_config(config: dict[str, Any]) -> list[str]:
    """Return one problem for each setting that is not supported."""
    if config.get("peft_type") != "LORA":
        what = (
            f"method is {config['method']!r}"
            if "method" in config
            else f"peft_type is {config.get('peft_type')!r}"
        )
        return [f"{what[:200]}; allowed: peft_type 'LORA'"]
    problems = []
    for key, allowed in (
        ("task_type", ("SEQ_CLS",)),
        ("bias", ("none",)),
        ("init_lora_weights", INITIALIZATIONS),
    ):
        if config.get(key, allowed[0]) not in allowed or key not in config and key == "task_type":
            problems.append(
                f"{key} is {shown(config.get(key))}; allowed: {', '.join(map(repr, allowed))}"
            )
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        problems.append(f"r is {shown(rank)}; allowed: a whole number of at least 1")
    for key, name in (("lora_alpha", "alpha"), ("lora_dropout", "lora_dropout")):
        if check_setting(name, config.get(key)):
            problems.append(f"{key} is {shown(config.get(key))}; allowed: {allowed_values(name)}")
    for key in sorted(set(config) - READ - WITHOUT_EFFECT):
        if config[key] not in (None, False, [], {}):
            problems.append(
                f"{key[:100]} is {shown(config[key])}; allowed: leave it out, it is not supported"
            )
    return problems


def name_tensors(tensors: dict[str, Tensor], family: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors by the names of runs, and problems: one line for keys of several layers."""
    if family not in MODEL_FAMILIES:
        raise ValueError(f"model family is {family!r}; allowed: {', '.join(MODEL_FAMILIES)}")
    others = {match[1] for key in tensors if (match := LORA_KEY.fullmatch(key))} - {family}
    if others:
        return {}, [
            f"{_first(tensors, others)}: an adapter of {', '.join(sorted(others))}; "
            f"allowed: one of {family}"
        ]
    named: dict[str, Tensor] = {}
    unknown: dict[str, list[str]] = {}
    problems = []
    for key, value in tensors.items():
        name = run_name(key, family)
        if name is None:
            unknown.setdefault(re.sub(r"\.\d+\.", ".*.", key), []).append(key)
        elif name in named:
            problems.append(f"{key}: {peft_name(name, family)} is there under two keys; keep one")
        else:
            named[name] = value
    targets = ", ".join(f"{target} ({letter})" for letter, target in TARGETS.items())
    for keys in unknown.values():
        like = f" and {len(keys) - 1} of other layers" if len(keys) > 1 else ""
        heads = ", ".join(HEADS[family].values())
        problems.append(f"{keys[0][:200]}{like}: allowed: LoRA pairs of {targets}, and {heads}")
    return named, problems


def check_targets(named: dict[str, Tensor], modules: object) -> list[str]:
    """Compare the target_modules of adapter_config.json with the stored pairs; skip a pattern."""
    if not isinstance(modules, list):
        return []
    listed = {
        letter
        for letter, target in TARGETS.items()
        for name in modules
        if f".{target}".endswith(f".{name}") or str(name).endswith(f".{target}")
    }
    found = {name.split(".")[1] for name in named if not name.startswith("head.")}
    wrong = [
        ("but there is no pair of it", listed - found),
        ("though there are pairs of it", found - listed),
    ]
    return [
        f"{TARGETS[letter]}: adapter_config.json "
        f"{'names' if letter in listed else 'does not name'} it under "
        f"target_modules, {what}"
        for what, letters in wrong
        for letter in sorted(letters)
    ]


def _first(tensors: dict[str, Tensor], models: set[str]) -> str:
    return next(key for key in tensors if (match := LORA_KEY.fullmatch(key)) and match[1] in models)


def check_tensors(named: dict[str, Tensor], rank: int, family: str) -> list[str]:
    """Return the missing tensors, and those whose shapes do not fit the rank and each other."""
    pairs = [name.split(".") for name in named if not name.startswith("head.")]
    if not pairs:
        return ["no LoRA pair is in it; a run that failed in its first epoch has none"]
    depth = 1 + max(int(layer) for layer, _, _ in pairs)
    letters = sorted({letter for _, letter, _ in pairs})
    expected = [
        f"{layer}.{letter}.{side}" for layer in range(depth) for letter in letters for side in "ab"
    ]
    dense = ["head.dense.weight", "head.dense.bias"]
    if family == "roberta" or any(name in named for name in dense):
        expected += dense
    expected += ["head.out.weight", "head.out.bias"]
    problems = [
        f"{peft_name(name, family)} is missing; the same weights of every layer, and the head, "
        "must be there"
        for name in expected
        if name not in named
    ]
    width = next(
        (value.shape[-1] for name, value in named.items() if name.endswith(".a") and value.dim()), 0
    )
    labels = max([1, *named["head.out.weight"].shape[:1]]) if "head.out.weight" in named else 1
    shapes: dict[str, tuple[int, ...]] = {
        "a": (rank, width),
        "b": (width, rank),
        "head.dense.weight": (width, width),
        "head.dense.bias": (width,),
        "head.out.weight": (labels, width),
        "head.out.bias": (labels,),
    }
    for name, value in named.items():
        wanted = shapes[name if name.startswith("head.") else name[-1]]
        if tuple(value.shape) != wanted:
            problems.append(
                f"{peft_name(name, family)} has shape {list(value.shape)}; expected {list(wanted)} "
                f"for r = {rank}"
            )
    return problems
