"""Checks of the tensors in a PEFT folder against its config: pairs, head, types, shapes.

Each function returns one line for each problem; keys of several layers share a line. `tensors` has
types and shapes by the names that runs use. This module imports no torch.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from lora.adapters import peft_rules
from lora.adapters.peft_names import LORA_KEY, PREFIX, module_of, peft_name
from lora.model.families.registry import ALLOWED, FAMILIES

# safetensors' types that float32 or float64 represents exactly.
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
MOST_LAYERS = 1000  # a key has no higher layer than 999


class StoredTensor(NamedTuple):
    """Type (safetensors' name of it) and shape of a tensor in adapter_model.safetensors."""

    dtype: str
    shape: tuple[int, ...]


Tensors = Mapping[str, StoredTensor]


def check_family(keys: Collection[str], family: str) -> list[str]:
    """Return a problem for pairs of another model family, or of none."""
    pairs = [(key, match[1]) for key in keys if (match := LORA_KEY.fullmatch(key))]
    if not pairs:
        headless = re.compile(r"(base_model\.model\.)?(encoder|transformer)\.")
        bare = next((key for key in keys if headless.match(key)), None)
        if bare is not None:
            return [
                f"{bare[:200]}: it was saved from an encoder without a classification head; save "
                "it from AutoModelForSequenceClassification"
            ]
    for key, other in pairs:
        if other != FAMILIES[family].prefix:
            known = any(other == one.prefix for one in FAMILIES.values())
            allowed = family if known else ALLOWED
            return [f"{key[:200]}: an adapter of {other[:100]}; allowed: one of {allowed}"]
    return []


def check_types(stored: Tensors) -> list[str]:
    """Return a problem for each type of numbers that cannot be used."""
    wrong: dict[str, list[str]] = {}
    for key, value in stored.items():
        if value.dtype not in FLOATS:
            wrong.setdefault(value.dtype, []).append(key)
    return [
        f"{keys[0][:200]}{_others(keys)}: got numbers of type {dtype}; allowed: floating point "
        f"({', '.join(FLOATS)}), save it as float32"
        for dtype, keys in wrong.items()
    ]


def check_base_weights(keys: Iterable[str], family: str) -> list[str]:
    """Return a problem if the base model's own weights are stored, which LoRA does not train."""
    prefix = re.escape(f"{PREFIX}{FAMILIES[family].prefix}")
    parts = "embeddings|embeddings_project|encoder|transformer|pooler"
    inside = re.compile(rf"{prefix}\.({parts})\.(?!.*\.lora_)")
    own = [key for key in keys if inside.match(key)]
    if not own:
        return []
    return [
        f"{own[0][:200]}{_others(own)}: the base model's own weights; {_allowed(family)}; save the "
        "adapter alone, with model.save_pretrained(folder)"
    ]


def check_unknown(keys: Iterable[str], family: str) -> list[str]:
    """Return a problem for each kind of keys that have no meaning in a run."""
    kinds: dict[str, list[str]] = {}
    for key in keys:
        kind = "lora" if ".lora_" in key else re.sub(r"\.\d+\.", ".*.", key)
        kinds.setdefault(kind, []).append(key)
    return [f"{alike[0][:200]}{_others(alike)}: {_allowed(family)}" for alike in kinds.values()]


def _allowed(family: str) -> str:
    targets = ", ".join(
        f"{target} ({letter})" for letter, target in FAMILIES[family].projections.items()
    )
    heads = ", ".join(FAMILIES[family].head_modules.values())
    return f"allowed: LoRA pairs of {targets}, and {heads}"


def _others(keys: list[str]) -> str:
    return f" and {len(keys) - 1} more tensors" if len(keys) > 1 else ""


def check_size(tensors: Tensors, layers: int | None, width: int | None) -> list[str]:
    """Return a problem if there is no pair, or the pairs are of a larger or wider model.

    Args:
        tensors: The tensors.
        layers: Number of layers of the base model; None if unknown.
        width: Its width; None if unknown.
    """
    if not pairs_of(tensors):
        return ["no LoRA pair is in it; a run that failed in its first epoch has none"]
    got = width_of(tensors)
    if width is not None and got != width:
        return [
            f"it is for a model of width {got}, the base model has {width}; give the base model "
            "that it was trained on"
        ]
    depth = depth_of(tensors)
    if layers is not None and depth > layers:
        return [
            f"it has pairs of layer {depth}, counted from 1, the base model has {layers} layers; "
            "give the base model that it was trained on"
        ]
    return []


def pairs_of(tensors: Iterable[str]) -> set[str]:
    """Return the names of pairs of which A or B is there."""
    return {name[:-2] for name in tensors if not name.startswith(("head.", "base."))}


def depth_of(tensors: Iterable[str]) -> int:
    """Return the number of layers up to the last one with a pair."""
    return 1 + max(int(pair.split(".")[0]) for pair in pairs_of(tensors))


def width_of(tensors: Tensors) -> int:
    """Return the input width of the pairs; 0 if it is unknown."""
    shapes = (value.shape for name, value in tensors.items() if name.endswith(".a"))
    return next((shape[-1] for shape in shapes if shape), 0)


def check_pairs(
    config: Mapping[str, Any],
    tensors: Tensors,
    family: str,
    layers: int | None,
    unknown: Iterable[str] = (),
) -> list[str]:
    """Compare the pairs with those that peft adapts by adapter_config.json, and their shapes.

    Args:
        config: adapter_config.json.
        tensors: The tensors.
        family: Family of the model, a key of FAMILIES.
        layers: Number of layers of the base model; None if unknown.
        unknown: Keys of tensors that have no meaning in a run.
    """
    found, depth = pairs_of(tensors), depth_of(tensors)
    adapted = set(peft_rules.adapted_modules(config, family, min(layers or depth, MOST_LAYERS)))
    wanted = {
        pair
        for layer in range(min(layers or depth, MOST_LAYERS))
        for letter in FAMILIES[family].projections
        if module_of(pair := f"{layer}.{letter}", family) in adapted
    }
    missing, surplus = wanted - found, found - wanted
    absent = {int(pair.split(".")[0]) for pair in missing}
    if layers and not surplus and depth < layers and absent == set(range(depth, layers)):
        return [
            f"it has pairs of {depth} layers and by adapter_config.json it adapts every layer, but "
            f"the base model has {layers}; give the base model that it was trained on"
        ]
    problems = [
        *_by_letter(missing, wanted, family, "adapts", "is no pair"),
        *_by_letter(surplus, found, family, "does not adapt", "are pairs"),
    ]
    for pair in sorted(found):
        problems += [
            f"{peft_name(name, family)} is missing; save the adapter again"
            for name in (f"{pair}.a", f"{pair}.b")
            if name not in tensors
        ]
    stored = {key.removeprefix(PREFIX).split(".lora_")[0] for key in unknown}
    others = sorted(adapted - stored - {module_of(pair, family) for pair in wanted})
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        problems.append(
            f"{others[0]}{more}: adapter_config.json adapts it, but there is no pair of it; "
            f"{_allowed(family)}"
        )
    return [
        *problems,
        *_check_alphas(config, found, family),
        *_check_shapes(config, tensors, family),
    ]


def _check_alphas(config: Mapping[str, Any], pairs: set[str], family: str) -> list[str]:
    """Return a problem if the alpha of a pair is not clear."""
    for pair in sorted(pairs):
        module = module_of(pair, family)
        alphas = peft_rules.alphas_of(config, module)
        if len(alphas) > 1:
            return [
                f"{module}: several patterns of alpha_pattern in adapter_config.json fit it, with "
                f"alpha {' and '.join(map(str, alphas))}, and peft sorts the patterns when it "
                "saves them; keep the one of them that it was trained with"
            ]
    return []


def _by_letter(pairs: set[str], of: set[str], family: str, what: str, but: str) -> list[str]:
    """Return a line for each weight type; it names the layers unless all are meant."""
    lines = []
    for letter, target in FAMILIES[family].projections.items():
        layers = sorted(int(pair.split(".")[0]) for pair in pairs if pair.endswith(f".{letter}"))
        if layers:
            whole = len(layers) == sum(pair.endswith(f".{letter}") for pair in of)
            where = "" if whole else f" in layer {', '.join(map(str, layers))} (counted from 0)"
            lines.append(
                f"{target}: adapter_config.json {what} it{where}, but there {but} of it; give the "
                "whole adapter, or correct target_modules, exclude_modules or layers_to_transform"
            )
    return lines


def _check_shapes(config: Mapping[str, Any], tensors: Tensors, family: str) -> list[str]:
    width, problems = width_of(tensors), []
    for pair in sorted(pairs_of(tensors)):
        ranks = peft_rules.ranks_of(config, module_of(pair, family))
        a = tensors.get(f"{pair}.a")
        rank = a.shape[0] if a and a.shape[:1] and a.shape[0] in ranks else ranks[0]
        for name, wanted in ((f"{pair}.a", (rank, width)), (f"{pair}.b", (width, rank))):
            if name in tensors and tensors[name].shape != wanted:
                problems.append(
                    f"{peft_name(name, family)} has shape {list(tensors[name].shape)}; expected "
                    f"{list(wanted)} for r = {rank}"
                )
    return problems


def check_head(tensors: Tensors, family: str, bias: str | None) -> list[str]:
    """Return what is missing in the head, and what has another shape."""
    width, out = width_of(tensors), tensors.get("head.out.weight")
    labels = max([1, *out.shape[:1]]) if out else 1
    shapes = {
        "head.dense.weight": (width, width),
        "head.dense.bias": (width,),
        "head.out.weight": (labels, width),
        "head.out.bias": (labels,),
    }
    needed = set(shapes)
    trained = {name for name in tensors if name.startswith("head.dense.")}
    untrained = not trained or bias == "all" and trained == {"head.dense.bias"}
    if FAMILIES[family].has_pooler and untrained:
        needed -= {"head.dense.weight", "head.dense.bias"}  # the pooler's weight was not trained
    missing = [peft_name(name, family) for name in shapes if name in needed - set(tensors)]
    problems = []
    if missing:
        problems.append(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; save it with "
            "the head, with task_type='SEQ_CLS' in peft's LoraConfig"
        )
    return problems + [
        f"{peft_name(name, family)} has shape {list(tensors[name].shape)}; expected {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
