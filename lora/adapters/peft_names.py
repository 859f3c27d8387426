"""Names of tensors: those of a run, and the keys of a PEFT folder."""

import re

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

LORA_KEY = re.compile(
    r"base_model\.model\.(\w+)\.encoder\.layer\.(\d+)\.([\w.]+)\.lora_([AB])\.weight"
)


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
