"""Model folders that cannot be used are refused, and a good one gives transformers' own weights."""

import dataclasses

import pytest
import torch
import transformers
from helpers.encoders import member

from lora.model import packed_model, pretrained


def test_a_model_of_another_family_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model family is 'gpt2'; allowed: bert, roberta"):
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


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["whole", "shards", "classifier"])
def test_the_pooler_of_a_bf16_base_has_the_values_of_its_file(bert_dir, tmp_path, stored, form):
    """The head starts from it and trains in float32: rounding to bf16 would be a bias of its start.

    Kinds: types of the file, sharded files, and files with the prefix of a classifier.
    """
    kind = "AutoModelForSequenceClassification" if form == "classifier" else "AutoModel"
    model = getattr(transformers, kind).from_pretrained(bert_dir, dtype=stored)
    model.save_pretrained(tmp_path, max_shard_size="20KB" if form == "shards" else "1GB")
    wanted = getattr(model, "bert", model).pooler.dense
    base = pretrained.load_base(tmp_path, torch.bfloat16)
    assert torch.equal(base.pooler.dense.weight, wanted.weight.float())
    assert torch.equal(base.pooler.dense.bias, wanted.bias.float())
    others = {value.dtype for name, value in base.named_parameters() if "pooler" not in name}
    assert others == {torch.bfloat16}
    spec = member(weights="q")
    head = packed_model.PackedModel(base, [spec]).parameters_of(0)
    assert torch.equal(head["head.dense.weight"], wanted.weight.float())


@pytest.mark.parametrize("method", ["lora", "adapter_houlsby"])
def test_everything_that_trains_on_a_bf16_base_starts_as_on_an_fp32_one(model_dir, method):
    """Pairs, bottleneck adapters and heads; ft and BitFit have an fp32 base."""
    spec = dataclasses.replace(member(weights="qv"), method=method)
    first, second = (
        packed_model.PackedModel(pretrained.load_base(model_dir, dtype), [spec]).parameters_of(0)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
