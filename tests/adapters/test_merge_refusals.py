"""What a merge refuses; a merged checkpoint is whole or not there."""

import pytest
import torch
import transformers
from helpers.encoders import peft_model, trained_copy
from helpers.models import make_model
from safetensors.torch import save_file

from lora import files
from lora.adapters import merge, peft_folder
from lora.errors import ConfigError


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda tensors: tensors.pop("base.encoder.layer.1.output.dense.bias"),
            "base.encoder.layer.1.output.dense.bias is",
        ),
        (lambda tensors: tensors.pop("head.out.bias"), "head.out.bias is missing"),
        (
            lambda tensors: tensors.update(
                {"base.encoder.layer.1.output.dense.weight": torch.ones(2, 2)}
            ),
            "base.encoder.layer.1.output.dense.weight is not trained by bitfit",
        ),
        (
            lambda tensors: tensors.update(
                {"base.encoder.layer.1.output.dense.bias": torch.ones(2)}
            ),
            r"base.encoder.layer.1.output.dense.bias has shape \[2\], the base model has \[32\]",
        ),
    ],
)
def test_parameters_of_another_model_are_refused(bert_dir, tmp_path, change, message):
    tensors = trained_copy(bert_dir, "bert", "bitfit", tmp_path / "adapter")[1]
    change(tensors)
    save_file(tensors, tmp_path / "adapter" / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match=message):
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(num_hidden_layers=3),
            "it has pairs of 2 layers and by adapter_config.json it adapts every layer, but the "
            "base model has 3; give",
        ),
        (
            dict(num_hidden_layers=1),
            "it has pairs of layer 2, counted from 1, the base model has 1 layers; give",
        ),
        (dict(hidden_size=48), "it is for a model of width 32, the base model has 48; give"),
    ],
)
def test_an_adapter_of_a_model_of_another_size_is_refused(bert_dir, tmp_path, changes, message):
    peft_model(bert_dir).save_pretrained(tmp_path / "adapter")
    other = make_model("bert", tmp_path / "other", **changes)
    with pytest.raises(ConfigError, match=message):
        merge.merge(tmp_path / "adapter", other, tmp_path / "out")


def test_bottleneck_adapters_cannot_be_merged(bert_dir, tmp_path):
    files.write_json(
        tmp_path / peft_folder.CONFIG, dict(method="adapter_houlsby", weights="both", rank=8)
    )
    save_file({"0.ffn.down.weight": torch.ones(8, 32)}, tmp_path / peft_folder.TENSORS)
    with pytest.raises(
        ValueError,
        match="method 'adapter_houlsby', which adds layers that cannot be merged; "
        "allowed: lora, ft",
    ):
        merge.merge(tmp_path, bert_dir, tmp_path / "out")


def test_merge_never_overwrites_and_writes_atomically(bert_dir, tmp_path, monkeypatch):
    peft_model(bert_dir).save_pretrained(tmp_path / "adapter")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="full exists and is not an empty folder"):
        merge.merge(tmp_path / "adapter", bert_dir, full)
    assert [path.name for path in full.iterdir()] == ["notes.txt"]

    def breaks(model, folder, **_):
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise OSError("no space left")

    kind = transformers.BertForSequenceClassification
    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(kind, "save_pretrained", breaks)
        merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "models/out")
    assert list((tmp_path / "models").iterdir()) == []
    (tmp_path / "models/out").mkdir()
    merge.merge(tmp_path / "adapter", bert_dir, tmp_path / "models/out")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["out"]
