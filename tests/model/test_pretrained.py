"""Model folders that cannot be used are refused, and a good one gives transformers' own weights."""

import pytest
import torch
import transformers

from lora.model import pretrained


def test_a_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model family 'gpt2'; allowed: bert, roberta"):
        pretrained.load_base(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors"):
        pretrained.load_base(tmp_path)


def test_base_has_transformers_weights_and_does_not_train(model_dir):
    base = pretrained.load_base(model_dir)
    expected = transformers.AutoModel.from_pretrained(model_dir).state_dict()
    for name, value in base.named_parameters():
        assert torch.equal(value, expected[name]) and not value.requires_grad, name
