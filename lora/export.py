"""A run's tensors as a PEFT adapter folder, which `peft.PeftModel.from_pretrained` loads with equal logits.

The folder is written here rather than by peft, whose import alone takes seconds of every training job; a test loads it
with peft and compares logits. The head goes in as `modules_to_save`, since the paper trains it with the adapter.
"""

from pathlib import Path

from torch import Tensor

from lora import checkpoint, records

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


def peft_name(name: str, family: str) -> str:
    """The key in adapter_model.safetensors of a run's tensor `name`."""
    if name.startswith("head."):
        module, _, kind = name.rpartition(".")
        return f"base_model.model.{HEADS[family][module]}.{kind}"
    layer, letter, side = name.split(".")
    return f"base_model.model.{family}.encoder.layer.{layer}.{TARGETS[letter]}.lora_{side.upper()}.weight"


def write_adapter(folder: Path, tensors: dict[str, Tensor], family: str, model: str, weights: str, rank: int,
                  alpha: float, lora_dropout: float) -> None:  # fmt: skip
    """adapter_config.json and adapter_model.safetensors for one run; `model` is the base's name in the registry."""
    named = {peft_name(name, family): tensor for name, tensor in tensors.items()}
    checkpoint.save_tensors(Path(folder) / "adapter_model.safetensors", named)
    records.write_json(
        Path(folder) / "adapter_config.json",
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
