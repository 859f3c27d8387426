"""Biases in a PEFT folder are those that adapter_config.json describes."""

import json

import pytest
import torch
from helpers.encoders import saved_adapter
from helpers.models import make_model
from safetensors.torch import load_file, save_file

from lora.adapters import peft_biases, peft_folder, peft_header
from lora.errors import ConfigError


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return make_model("bert", tmp_path_factory.mktemp("models") / "bert", num_hidden_layers=4)


def test_biases_that_the_config_does_not_describe_are_refused(model_dir, tmp_path):
    for stored, written in (("lora_only", "none"), ("all", "lora_only")):
        saved_adapter(tmp_path, model_dir, bias=stored)
        path = tmp_path / peft_folder.CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(bias=written)))
        with pytest.raises(ConfigError, match=f"bias is there, but bias is '{written}'") as caught:
            peft_header.describe_folder(tmp_path)
        assert len(caught.value.problems) == 1


def test_biases_are_read_under_the_names_of_older_versions_of_peft(model_dir, tmp_path):
    """They replaced the linear layer itself, so there was no `base_layer` in the key."""
    saved_adapter(tmp_path, model_dir, bias="lora_only")
    before, described = peft_folder.read_adapter(tmp_path, "bert")
    stored = load_file(tmp_path / peft_folder.TENSORS)
    renamed = {key.replace(".base_layer.", "."): value for key, value in stored.items()}
    assert renamed.keys() != stored.keys()
    save_file(renamed, tmp_path / peft_folder.TENSORS)
    after, again = peft_folder.read_adapter(tmp_path, "bert")
    assert after.keys() == before.keys() and again.pairs == described.pairs
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert sum(name.startswith("base.") for name in after) == 8


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_which_biases_are_stored_is_read_from_their_names(model_dir, tmp_path, bias):
    """Against the `bias` of peft's LoraConfig."""
    saved_adapter(tmp_path, model_dir, bias=bias)
    tensors, _ = peft_folder.read_adapter(tmp_path, "bert")
    assert peft_biases.stored_biases(tensors, "bert") == bias
    adapted = peft_biases.adapted_biases(tensors, "bert")
    assert len(adapted) == 8 and (bias == "none" or adapted <= set(tensors))
