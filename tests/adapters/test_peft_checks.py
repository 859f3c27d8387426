"""Unsupported settings and tensors of a PEFT folder are refused by name."""

import json
import re

import pytest
import torch
from helpers.encoders import saved_adapter
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder
from lora.errors import ConfigError

OPTIONS = [  # options of peft, and the expected message
    (dict(use_dora=True), "adapter_config.json", "use_dora is True"),
    (dict(lora_bias=True), "adapter_config.json", "lora_bias is True"),
    (
        dict(init_lora_weights="pissa"),
        "adapter_config.json",
        "init_lora_weights is 'pissa'; allowed: True, False",
    ),
    (dict(trainable_token_indices=[1, 2]), "adapter_config.json", "trainable_token_indices is "),
    (
        dict(target_modules=["query", "intermediate.dense"]),
        peft_folder.TENSORS,
        "bert.encoder.layer.0.intermediate.dense.lora_A.weight and 3 more tensors: "
        "allowed: LoRA pairs of attention.se",
    ),
    (
        dict(modules_to_save=["pooler", "intermediate"]),
        peft_folder.TENSORS,
        "bert.encoder.layer.0.intermediate.dense.weight",
    ),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "options, file, message",
    OPTIONS,
    ids=lambda value: "-".join(value) if type(value) is dict else "",
)
def test_unsupported_peft_options_are_refused(bert_dir, tmp_path, options, file, message):
    saved_adapter(tmp_path, bert_dir, dtype=torch.float32, **options)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        peft_folder.read_adapter(tmp_path, "bert")
    assert str(tmp_path / file) in str(caught.value) and len(caught.value.problems) == 1


def with_config(folder, **changes) -> None:
    facts = json.loads((folder / peft_folder.CONFIG).read_text()) | changes
    (folder / peft_folder.CONFIG).write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(peft_type="IA3"), "peft_type is 'IA3'; allowed: peft_type 'LORA'"),
        (dict(peft_type=None, method="ft"), "method is 'ft'; allowed: peft_type 'LORA'"),
        (dict(task_type="CAUSAL_LM"), "task_type is 'CAUSAL_LM'; allowed: 'SEQ_CLS'"),
        (dict(r=0), "r is 0; allowed: a whole number of at least 1"),
        (dict(r=2.5), "r is 2.5; allowed: a whole number"),
        (dict(lora_alpha=None), "lora_alpha is None; allowed: a number above 0"),
        (dict(lora_dropout="much"), "lora_dropout is 'much'; allowed: a number of at least 0"),
        (
            dict(a_later_invention=dict(of="peft")),
            "a_later_invention is {'of': 'peft'}; allowed: leave it out",
        ),
    ],
)
def test_invalid_adapter_configurations_are_refused(folder, changes, message):
    with_config(folder, **changes)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        peft_folder.read_adapter(folder, "bert")
    assert str(folder / "adapter_config.json") in str(caught.value)


LAYER = "base_model.model.bert.encoder.layer"


def dropped(key):
    return lambda tensors: tensors.pop(key)


def replaced(key, value):
    return lambda tensors: tensors.update({key: value})


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dropped(f"{LAYER}.0.attention.self.query.lora_B.weight"),
            f"{LAYER}.0.attention.self.query.lora_B.weight is miss",
        ),
        (
            dropped("base_model.model.classifier.weight"),
            "base_model.model.classifier.weight is missing",
        ),
        (
            dropped("base_model.model.bert.pooler.dense.bias"),
            "base_model.model.bert.pooler.dense.bias is missing",
        ),
        (
            replaced(f"{LAYER}.1.attention.self.value.lora_A.weight", torch.ones(2, 32)),
            f"{LAYER}.1.attention.self.value.lora_A.weight has shape [2, 32]; "
            "expected [3, 32] for r = 3",
        ),
        (
            replaced(f"{LAYER}.1.attention.self.value.lora_B.weight", torch.ones(16, 3)),
            f"{LAYER}.1.attention.self.value.lora_B.weight has shape [16, 3]; "
            "expected [32, 3] for r = 3",
        ),
        (
            replaced("base_model.model.classifier.bias", torch.ones(2)),
            "classifier.bias has shape [2]; expected [3]",
        ),
        (
            replaced("base_model.model.classifier.bias", torch.full((3,), torch.nan)),
            "classifier.bias: got numbers that are not all finite",
        ),
        (
            replaced("base_model.model.classifier.bias", torch.ones(3).int()),
            "classifier.bias: got numbers of type I32; allowed: floating point",
        ),
        (
            replaced("base_model.model.score.weight", torch.ones(3)),
            "base_model.model.score.weight: allowed: LoRA pairs of",
        ),
        (
            replaced("base_model.model.classifier.modules_to_save.default.bias", torch.ones(3)),
            "base_model.model.classifier.bias is there under two keys",
        ),
        (dict.clear, "no LoRA pair is in it"),
    ],
)
def test_incomplete_adapter_tensors_are_refused(folder, change, message):
    tensors = load_file(folder / peft_folder.TENSORS)
    change(tensors)
    save_file(tensors, folder / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        peft_folder.read_adapter(folder, "bert")
    assert str(folder / "adapter_model.safetensors") in str(caught.value)


def test_all_problems_of_an_adapter_are_in_one_message(folder):
    with_config(folder, use_rslora="yes", use_dora=True, bias="some", r=None)
    with pytest.raises(ConfigError) as caught:
        peft_folder.read_adapter(folder, "bert")
    assert len(caught.value.problems) == 4


def test_another_family_is_one_problem(folder):
    with pytest.raises(ConfigError, match="an adapter of bert; allowed: one of roberta") as caught:
        peft_folder.read_adapter(folder, "roberta")
    assert len(caught.value.problems) == 1
    with pytest.raises(ValueError, match="model family is 'gpt2'; allowed: bert, roberta"):
        peft_folder.read_adapter(folder, "gpt2")
