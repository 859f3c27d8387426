"""Names of tensors: those of a run, and the keys that peft writes."""

import re

import pytest
import torch
from helpers.encoders import saved_adapter
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder, peft_names


def test_every_key_that_peft_writes_has_one_name_and_back(model_dir, family, tmp_path):
    saved_adapter(tmp_path, model_dir)
    keys = load_file(tmp_path / peft_folder.TENSORS).keys()
    names = {peft_names.run_name(key, family) for key in keys}
    assert None not in names and len(names) == len(keys)
    assert {peft_names.peft_name(name, family) for name in names} == set(keys)


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.bert.encoder.layer.0.attention.self.query.weight",
        "base_model.model.bert.encoder.layer.0.output.dense.lora_A.weight",
        "base_model.model.gpt2.encoder.layer.0.attention.self.query.lora_A.weight",
        "base_model.model.score.weight",
    ],
)
def test_other_keys_have_no_name(key):
    assert peft_names.run_name(key, "bert") is None


@pytest.mark.parametrize("infix", ["modules_to_save.default.", "modules_to_save."])
def test_keys_of_older_versions_of_peft(model_dir, family, tmp_path, infix):
    """Their keys have the name of the wrapper module `modules_to_save`."""
    saved_adapter(tmp_path, model_dir)
    before = peft_folder.read_adapter(tmp_path, family)[0]
    stored = load_file(tmp_path / peft_folder.TENSORS)
    renamed = {
        re.sub(r"(\.classifier\.|\.pooler\.)", rf"\1{infix}", key): value
        for key, value in stored.items()
    }
    assert renamed.keys() != stored.keys()
    save_file(renamed, tmp_path / peft_folder.TENSORS)
    after = peft_folder.read_adapter(tmp_path, family)[0]
    assert after.keys() == before.keys() and all(
        torch.equal(after[name], before[name]) for name in before
    )
