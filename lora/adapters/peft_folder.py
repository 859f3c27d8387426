"""A run's tensors as a PEFT adapter folder, and such a folder read back, whether it was written here or by peft.

Folders are written here rather than by peft, whose import alone takes seconds of every training job; tests load them
with peft and compare logits. The head goes in as `modules_to_save`, since the paper trains it with the adapter. Reading
takes only what a run here can be: LoRA pairs of one rank and one alpha on the same attention weights of every layer, and
the head. A folder that holds or asks for anything else is refused with all that is wrong with it, since leaving it out
would quietly give another model. Pickled files are never opened.
"""

import re
from pathlib import Path

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
HEADS = {  # our name -> the name inside the sequence classification model of transformers
    "roberta": {"head.dense": "classifier.dense", "head.out": "classifier.out_proj"},
    "bert": {"head.dense": "bert.pooler.dense", "head.out": "classifier"},
}
MODULES_TO_SAVE = {"roberta": ["classifier"], "bert": ["classifier", "pooler"]}

# Keys of peft's configuration that change nothing of what a finished adapter computes, or that are read for themselves.
READ = {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "bias", "init_lora_weights"}
WITHOUT_EFFECT = set(
    "auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules inference_mode "
    "loftq_config lora_ga_config megatron_core modules_to_save peft_version qalora_group_size revision runtime_config "
    "target_modules".split()
)
# The other starts of peft (pissa, olora, loftq, ...) take their share out of the frozen weights, which then are others.
STARTS = (True, False, "gaussian", "orthogonal", "eva")
LORA_KEY = re.compile(
    r"base_model\.model\.(\w+)\.encoder\.layer\.(\d+)\.([\w.]+)\.lora_([AB])\.weight"
)


def peft_name(name: str, family: str) -> str:
    """The key in adapter_model.safetensors of a run's tensor `name`."""
    if name.startswith("head."):
        module, _, kind = name.rpartition(".")
        return f"base_model.model.{HEADS[family][module]}.{kind}"
    layer, letter, side = name.split(".")
    return f"base_model.model.{family}.encoder.layer.{layer}.{TARGETS[letter]}.lora_{side.upper()}.weight"


def our_name(key: str, family: str) -> str | None:
    """The run's tensor behind a key of adapter_model.safetensors, None where no run has one like it."""
    if match := LORA_KEY.fullmatch(key):
        model, layer, module, side = match.groups()
        letter = next((letter for letter, target in TARGETS.items() if target == module), None)
        return f"{layer}.{letter}.{side.lower()}" if letter and model == family else None
    # peft wraps a module to save; its older versions keep the wrapper's name in the key.
    key = key.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
    names = (f"{module}.{kind}" for module in HEADS[family] for kind in ("weight", "bias"))
    return next((name for name in names if peft_name(name, family) == key), None)


def write_adapter(folder: Path, tensors: dict[str, Tensor], family: str, model: str, weights: str, rank: int,
                  alpha: float, lora_dropout: float) -> None:  # fmt: skip
    """adapter_config.json and adapter_model.safetensors for one run; `model` is the base's name in the registry."""
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


def read_adapter(folder: Path, family: str) -> tuple[dict[str, Tensor], dict]:
    """(tensors under the names that runs have, facts) of a LoRA adapter folder; facts are rank, alpha, weights (letters)
    and lora_dropout.

    Tensors are "<layer>.<letter>.a" [r, D], "<layer>.<letter>.b" [D, r], "head.dense.*" and "head.out.*", as they were
    stored. Of a BERT adapter that leaves the pooler as it was pre-trained there is no "head.dense.*". Raises ValueError
    that names file and key for everything that is not an adapter of this kind.
    """
    told = read_config(folder)
    problems = _check_config(told)
    if problems:
        raise ConfigError(
            f"{Path(folder) / CONFIG} does not describe an adapter that can be used here:", problems
        )
    tensors = read_tensors(folder)
    named, problems = _named(tensors, family)
    problems = problems or _check_tensors(named, told["r"], family) + _check_targets(
        named, told.get("target_modules")
    )
    if problems:
        raise ConfigError(
            f"{Path(folder) / TENSORS} is not an adapter that can be used here:", problems
        )
    present = {name.split(".")[1] for name in named if not name.startswith("head.")}
    weights = "".join(letter for letter in WEIGHT_TYPES if letter in present)
    facts = dict(
        rank=told["r"],
        alpha=float(told["lora_alpha"]),
        weights=weights,
        lora_dropout=float(told["lora_dropout"]),
    )
    return named, facts


def read_config(folder: Path) -> dict:
    """What adapter_config.json in `folder` says; raises ValueError where there is none or it is no JSON object."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder}: no {CONFIG}; give a folder with an adapter, such as a run's adapter/"
        )
    return files.read_object(path, "write the adapter again")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All of adapter_model.safetensors in `folder`; raises ValueError where there is none, it is damaged, or a number in it
    is not finite."""
    path = Path(folder) / TENSORS
    if not path.is_file():
        why = (
            f"{PICKLED} is there, but pickled files are not loaded; save it again with safetensors"
        )
        raise ValueError(
            f"{folder}: no {TENSORS}; {why if (path.parent / PICKLED).exists() else 'give a whole adapter folder'}"
        )
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


def _check_config(told: dict) -> list[str]:
    """What in a configuration a run here cannot be, one line a key."""
    if told.get("peft_type") != "LORA":
        what = (
            f"method is {told['method']!r}"
            if "method" in told
            else f"peft_type is {told.get('peft_type')!r}"
        )
        return [f"{what[:200]}; allowed: peft_type 'LORA'"]
    problems = []
    for key, allowed in (
        ("task_type", ("SEQ_CLS",)),
        ("bias", ("none",)),
        ("init_lora_weights", STARTS),
    ):
        if told.get(key, allowed[0]) not in allowed or key not in told and key == "task_type":
            problems.append(
                f"{key} is {shown(told.get(key))}; allowed: {', '.join(map(repr, allowed))}"
            )
    rank = told.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        problems.append(f"r is {shown(rank)}; allowed: a whole number of at least 1")
    for key, name in (("lora_alpha", "alpha"), ("lora_dropout", "lora_dropout")):
        if check_setting(name, told.get(key)):
            problems.append(f"{key} is {shown(told.get(key))}; allowed: {allowed_values(name)}")
    for key in sorted(set(told) - READ - WITHOUT_EFFECT):
        if told[key] not in (None, False, [], {}):
            problems.append(
                f"{key[:100]} is {shown(told[key])}; allowed: that it is not set, as nothing here computes it"
            )
    return problems


def _named(tensors: dict[str, Tensor], family: str) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by the names that runs have, and what is wrong with the keys: one line for keys that differ in layer alone."""
    if family not in MODEL_FAMILIES:
        raise ValueError(f"model family is {family!r}; allowed: {', '.join(MODEL_FAMILIES)}")
    others = {match[1] for key in tensors if (match := LORA_KEY.fullmatch(key))} - {family}
    if others:
        return {}, [
            f"{_first(tensors, others)}: an adapter of {', '.join(sorted(others))}; allowed: one of {family}"
        ]
    named, unknown, problems = {}, {}, []
    for key, value in tensors.items():
        name = our_name(key, family)
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


def _check_targets(named: dict[str, Tensor], modules) -> list[str]:
    """Whether the weights that adapter_config.json names are those that there are pairs of. A pattern in place of names is
    not looked at."""
    if not isinstance(modules, list):
        return []
    told = {letter for letter, target in TARGETS.items() for name in modules if f".{target}".endswith(f".{name}")
            or str(name).endswith(f".{target}")}  # fmt: skip
    found = {name.split(".")[1] for name in named if not name.startswith("head.")}
    wrong = [
        ("but there is no pair of it", told - found),
        ("though there are pairs of it", found - told),
    ]
    return [
        f"{TARGETS[letter]}: {CONFIG} {'names' if letter in told else 'does not name'} it under target_modules, {what}"
        for what, letters in wrong
        for letter in sorted(letters)
    ]


def _first(tensors: dict[str, Tensor], models: set[str]) -> str:
    return next(key for key in tensors if (match := LORA_KEY.fullmatch(key)) and match[1] in models)


def _check_tensors(named: dict[str, Tensor], rank: int, family: str) -> list[str]:
    """What is missing for a whole adapter, and which shapes do not fit its rank and each other."""
    places = [name.split(".") for name in named if not name.startswith("head.")]
    if not places:
        return ["no LoRA pair is in it; a run that failed in its first epoch has none"]
    depth = 1 + max(int(layer) for layer, _, _ in places)
    letters = sorted({letter for _, letter, _ in places})
    expected = [
        f"{layer}.{letter}.{side}" for layer in range(depth) for letter in letters for side in "ab"
    ]
    dense = ["head.dense.weight", "head.dense.bias"]
    if family == "roberta" or any(name in named for name in dense):
        expected += dense
    expected += ["head.out.weight", "head.out.bias"]
    problems = [
        f"{peft_name(name, family)} is missing; the same weights of every layer, and the head, must be there"
        for name in expected
        if name not in named
    ]
    width = next(
        (value.shape[-1] for name, value in named.items() if name.endswith(".a") and value.dim()), 0
    )
    labels = max([1, *named["head.out.weight"].shape[:1]]) if "head.out.weight" in named else 1
    shapes = {"a": (rank, width), "b": (width, rank), "head.dense.weight": (width, width), "head.dense.bias": (width,),
              "head.out.weight": (labels, width), "head.out.bias": (labels,)}  # fmt: skip
    for name, value in named.items():
        wanted = shapes[name if name.startswith("head.") else name[-1]]
        if tuple(value.shape) != wanted:
            problems.append(
                f"{peft_name(name, family)} has shape {list(value.shape)}; r = {rank} asks for {list(wanted)}"
            )
    return problems
