"""Read and write PEFT LoRA folders.

Folders are written here because importing peft takes seconds in every training job; tests load them
with peft and compare logits. The head is stored under `modules_to_save`, because the paper trains
it with the adapter. Only LoRA pairs of one rank and alpha on the same attention weights of every
layer, and the head, can be read. Anything else is an error: ignoring it would silently give another
model. Pickled files are never opened.
"""

import re
from pathlib import Path
from typing import Any, TypedDict

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.cell import MODEL_FAMILIES, WEIGHT_TYPES
from lora.experiment.hparams import allowed_values, check_setting
from lora.model.tensor_files import save_tensors

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
TARGETS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
}
# Name of a run's head -> name in transformers' sequence classification model.
HEADS = {
    "roberta": {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    "bert": {"head.dense": "bert.pooler.dense", "head.out": "classifier"},
}
MODULES_TO_SAVE = {"roberta": ["classifier"], "bert": ["classifier", "pooler"]}

# Keys of adapter_config.json that are checked, and keys that do not change a finished adapter.
READ = {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "init_lora_weights"}
WITHOUT_EFFECT = set(
    "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config "
    "exclude_modules inference_mode loftq_config lora_ga_config megatron_core modules_to_save "
    "peft_version qalora_group_size revision runtime_config target_modules".split()
)
# peft's other initializations (pissa, olora, loftq, ...) change the frozen weights.
INITIALIZATIONS = (True, False, "gaussian", "orthogonal", "eva")
LORA_KEY = re.compile(
    r"base_model\.model\.(\w+)\.encoder\.layer\.(\d+)\.([\w.]+)\.lora_([AB])\.weight"
)


class AdapterConfig(TypedDict):
    """Settings of a LoRA adapter: rank r, alpha, weight types such as `qv`, and dropout."""

    rank: int
    alpha: float
    weights: str
    lora_dropout: float


def peft_name(name: str, family: str) -> str:
    """Return the key in adapter_model.safetensors of a run's tensor."""
    if name.startswith("head."):
        module, _, kind = name.rpartition(".")
        return f"base_model.model.{HEADS[family][module]}.{kind}"
    layer, letter, side = name.split(".")
    module = f"{family}.encoder.layer.{layer}.{TARGETS[letter]}"
    return f"base_model.model.{module}.lora_{side.upper()}.weight"


def run_name(key: str, family: str) -> str | None:
    """Return the name that runs use for a key of adapter_model.safetensors; None if unknown."""
    if match := LORA_KEY.fullmatch(key):
        model, layer, module, side = match.groups()
        letter = next((letter for letter, target in TARGETS.items() if target == module), None)
        return f"{layer}.{letter}.{side.lower()}" if letter and model == family else None
    # Older versions of peft keep the name of their wrapper in the key.
    key = key.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
    names = (f"{module}.{kind}" for module in HEADS[family] for kind in ("weight", "bias"))
    return next((name for name in names if peft_name(name, family) == key), None)


def write_adapter(
    folder: Path,
    tensors: dict[str, Tensor],
    family: str,
    model: str,
    weights: str,
    rank: int,
    alpha: float,
    lora_dropout: float,
) -> None:
    """Write adapter_config.json and adapter_model.safetensors of one run.

    Args:
        folder: Folder of the adapter.
        tensors: The run's tensors by name.
        family: `bert` or `roberta`.
        model: Name of the base model in the registry.
        weights: Adapted weight types, such as `qv`.
        rank: Rank r.
        alpha: Scale alpha; the delta is multiplied by alpha/r.
        lora_dropout: Dropout of the LoRA input.
    """
    named = {peft_name(name, family): tensor for name, tensor in tensors.items()}
    save_tensors(Path(folder) / TENSORS, named)
    files.write_json(
        Path(folder) / CONFIG,
        dict(
            peft_type="LORA",
            task_type="SEQ_CLS",
            base_model_name_or_path=model,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=lora_dropout,
            target_modules=[TARGETS[letter] for letter in weights],
            modules_to_save=MODULES_TO_SAVE[family],
            bias="none",
            fan_in_fan_out=False,
            inference_mode=True,
            init_lora_weights=True,
        ),
    )


def read_adapter(folder: Path, family: str) -> tuple[dict[str, Tensor], AdapterConfig]:
    """Read a PEFT LoRA folder.

    Args:
        folder: Folder with adapter_config.json and adapter_model.safetensors.
        family: `bert` or `roberta`.

    Returns:
        The stored tensors by the names that runs use, and the adapter's settings. The names are
        "<layer>.<letter>.a" [r, D], "<layer>.<letter>.b" [D, r], "head.dense.*" and "head.out.*".
        A BERT adapter without a trained pooler has no "head.dense.*".

    Raises:
        ValueError: If the folder does not hold an adapter of this kind. It names file and key.
    """
    config = read_config(folder)
    problems = _check_config(config)
    if problems:
        raise ConfigError(
            f"{Path(folder) / CONFIG} describes an adapter that is not supported:", problems
        )
    tensors = read_tensors(folder)
    named, problems = _named(tensors, family)
    problems = problems or _check_tensors(named, config["r"], family) + _check_targets(
        named, config.get("target_modules")
    )
    if problems:
        raise ConfigError(
            f"{Path(folder) / TENSORS} is an adapter that is not supported:", problems
        )
    present = {name.split(".")[1] for name in named if not name.startswith("head.")}
    weights = "".join(letter for letter in WEIGHT_TYPES if letter in present)
    return named, {
        "rank": config["r"],
        "alpha": float(config["lora_alpha"]),
        "weights": weights,
        "lora_dropout": float(config["lora_dropout"]),
    }


def read_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; raise ValueError if it is missing or not a JSON object."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {CONFIG}; give a folder with an adapter, such as a run's adapter/"
        )
    return files.read_object(path, "write the adapter again")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of adapter_model.safetensors by key.

    Raises:
        ValueError: If the file is missing, damaged, or has values that are not finite.
    """
    path = Path(folder) / TENSORS
    if not path.is_file():
        advice = "give a whole adapter folder"
        if (path.parent / PICKLED).exists():
            advice = (
                f"{PICKLED} is there, but pickled files are not loaded; save it again with "
                "safetensors"
            )
        raise ValueError(f"{folder}: no {TENSORS}; {advice}")
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); write it again"
        ) from None
    wrong = [
        f"{key}: got {str(value.dtype).removeprefix('torch.')} numbers"
        + (
            ", not all finite; allowed: finite ones"
            if value.is_floating_point()
            else "; allowed: floating point"
        )
        for key, value in tensors.items()
        if not (value.is_floating_point() and torch.isfinite(value).all())
    ]
    if wrong:
        raise ConfigError(f"{path} has numbers that cannot be used:", wrong)
    return tensors


def _check_config(config: dict[str, Any]) -> list[str]:
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


def _named(tensors: dict[str, Tensor], family: str) -> tuple[dict[str, Tensor], list[str]]:
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


def _check_targets(named: dict[str, Tensor], modules: object) -> list[str]:
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
        f"{TARGETS[letter]}: {CONFIG} {'names' if letter in listed else 'does not name'} it under "
        f"target_modules, {what}"
        for what, letters in wrong
        for letter in sorted(letters)
    ]


def _first(tensors: dict[str, Tensor], models: set[str]) -> str:
    return next(key for key in tensors if (match := LORA_KEY.fullmatch(key)) and match[1] in models)


def _check_tensors(named: dict[str, Tensor], rank: int, family: str) -> list[str]:
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
