"""Names of tensors: those of a run, and the keys of a PEFT folder.

Keys of a wrapped model (torch.compile, DataParallel, FSDP), keys with the adapter's name, and keys
without peft's prefix have one meaning only, so they are read too.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lora.errors import shown
from lora.model.families.registry import FAMILIES

PREFIX = "base_model.model."


def _one_of(names: Iterable[str]) -> str:
    """Return a regular expression of these names."""
    return "|".join(sorted({re.escape(name) for name in names}))


_LAYERS = _one_of(family.layers for family in FAMILIES.values())
_NUMBER = r"0|[1-9]\d{0,2}"
# First parts of the names of modules in transformers' classifiers.
_FIRST = _one_of(
    name.split(".")[0]
    for family in FAMILIES.values()
    for name in (family.prefix, family.head.dense, family.head.out)
)
LORA_KEY = re.compile(
    rf"base_model\.model\.(\w+)\.(?:{_LAYERS})\.({_NUMBER})\.([\w.]+)\.lora_([AB])\.weight"
)
# Modules that wrap a model and add their name to its keys -> the code that adds them.
_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DataParallel",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
_HEAD_PARTS = ("dense", "out_proj", "weight", "bias")


def peft_name(name: str, family: str) -> str:
    """Return the key in adapter_model.safetensors of a run's tensor."""
    if name.startswith("head."):
        module, _, kind = name.rpartition(".")
        return f"{PREFIX}{FAMILIES[family].head_modules[module]}.{kind}"
    if name.startswith("base."):
        return f"{PREFIX}{FAMILIES[family].prefix}.{name.removeprefix('base.')}"
    pair, _, side = name.rpartition(".")
    return f"{PREFIX}{module_of(pair, family)}.lora_{side.upper()}.weight"


def module_of(pair: str, family: str) -> str:
    """Return the name in transformers' classification model of the module of "<layer>.<letter>"."""
    return f"{FAMILIES[family].prefix}.{FAMILIES[family].module_of(pair)}"


def run_name(key: str, family: str) -> str | None:
    """Return the name that runs use for a key as peft writes it; None if the key is unknown."""
    if match := LORA_KEY.fullmatch(key):
        _, layer, module, side = match.groups()
        targets = FAMILIES[family].projections.items()
        letter = next((letter for letter, target in targets if target == module), None)
        name = f"{layer}.{letter}.{side.lower()}"
        return name if letter and peft_name(name, family) == key else None
    modules = FAMILIES[family].head_modules
    names = (f"{module}.{kind}" for module in modules for kind in ("weight", "bias"))
    if head := next((name for name in names if peft_name(name, family) == key), None):
        return head
    match = _bias_key(family).fullmatch(key)
    return f"base.{match[1]}" if match else None


@functools.cache
def _bias_key(family: str) -> re.Pattern[str]:
    """Return the expression of a key of a bias in the encoder; its group is the encoder's name."""
    one = FAMILIES[family]
    projection = one.embedding_projection or "embeddings.LayerNorm"
    outside = _one_of(["embeddings.LayerNorm", projection, *one.other_modules])
    inside = _one_of([*one.linears, *one.norms, *one.other_layer_modules])
    layers = rf"{re.escape(one.layers)}\.(?:{_NUMBER})"
    return re.compile(
        rf"{re.escape(PREFIX + one.prefix)}\.((?:{outside}|{layers}\.(?:{inside}))\.bias)"
    )


@dataclass
class StoredKeys:
    """Keys of adapter_model.safetensors by the keys that peft's `save_pretrained` writes.

    Attributes:
        stored: peft's key -> stored key.
        copies: peft's key -> key of a second copy. With `bias: all` peft stores a head's bias
            twice, as the module's and inside its wrapper `modules_to_save`, and loads the first.
        notes: How the keys differ from peft's, for the log.
        problems: Keys whose meaning is not clear.
    """

    stored: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def as_peft_writes(keys: Iterable[str]) -> StoredKeys:
    """Return the keys of adapter_model.safetensors by the keys that peft writes."""
    found = StoredKeys()
    doubled: dict[str, list[str]] = {}
    changes: dict[str, None] = {}
    adapters: dict[str, None] = {}
    for stored in sorted(keys, key=lambda key: (".modules_to_save." in key, key)):
        if ".original_module." in stored:  # the untrained copy of a head, which peft never uses
            continue
        key, adapter, changed = _as_peft_writes(stored)
        changes |= dict.fromkeys(changed)
        adapters |= dict.fromkeys(adapter)
        if key not in found.stored:
            found.stored[key] = stored
        elif ".modules_to_save." in stored and key not in found.copies:
            found.copies[key] = stored
        else:
            doubled.setdefault(key, [found.stored[key]]).append(stored)
    if len(adapters) > 1:
        found.problems.append(
            f"it has several adapters ({shown(', '.join(adapters))}); save one of them alone, "
            "with model.save_pretrained(folder, selected_adapters=[name])"
        )
    elif doubled:
        key, twice = next(iter(doubled.items()))
        more = f", and {len(doubled) - 1} other tensors are" if len(doubled) > 1 else ""
        found.problems.append(
            f"{key[:200]} is there under two keys ({shown(', '.join(twice), 300)}){more}; keep one"
        )
    found.notes += sorted(changes)
    return found


def _as_peft_writes(stored: str) -> tuple[str, list[str], list[str]]:
    """Return the key that peft writes, the adapter's name in the stored one, and the changes."""
    changes = []
    parts = stored.split(".")
    for wrapper in dict.fromkeys(part for part in parts if part in _WRAPPERS):
        changes.append(f"of a model wrapped by {_WRAPPERS[wrapper]} ({wrapper})")
    parts = [part for part in parts if part not in _WRAPPERS and part != "base_layer"]
    adapter = []
    if len(parts) > 2 and parts[-3] in ("lora_A", "lora_B") and parts[-1] == "weight":
        adapter = [parts.pop(-2)]
        changes.append(f"with the name of the adapter ({adapter[0]})")
    if "modules_to_save" in parts:
        at = parts.index("modules_to_save")
        del parts[at]
        if at < len(parts) and parts[at] not in _HEAD_PARTS:
            del parts[at]
    key = ".".join(parts)
    bare = re.match(rf"(base_model\.)?(model\.)?(?=({_FIRST})\.)", key)
    if bare and bare[0] != PREFIX:
        changes.append(f"without the prefix {PREFIX}")
        key = PREFIX + key.removeprefix(bare[0])
    return key, adapter, changes
