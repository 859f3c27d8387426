"""Adapter folders read back: peft's logits, and unsupported settings refused by name."""

import os
import pickle

import pytest
import torch
from helpers.encoders import member, packed, padded, peft_model, saved_adapter
from helpers.models import sentences

from lora.adapters import peft_folder
from lora.model import collate


def settings_of(adapter):
    return adapter.rank, adapter.alpha, adapter.weights, adapter.lora_dropout


@pytest.mark.parametrize("weights, rank, num_labels", [("qv", 3, 3), ("qkvo", 2, 1), ("o", 1, 2)])
def test_an_adapter_of_peft_gives_the_same_logits_here(
    model_dir, family, tmp_path, weights, rank, num_labels
):
    theirs = peft_model(model_dir, weights, num_labels, r=rank)
    theirs.save_pretrained(tmp_path)
    tensors, facts = peft_folder.read_adapter(tmp_path, family)
    assert settings_of(facts) == (rank, 7.0, weights, 0.25)
    model = packed(model_dir, member(0, weights, rank, num_labels, alpha=facts.alpha))
    assert tensors.keys() == model.parameters_of(0).keys()
    with torch.no_grad():
        for name, value in model.parameters_of(0).items():
            value.copy_(tensors[name])
    batch = sentences(6, 4, types=family == "bert")
    (logits,) = model(model.batch([collate.RunSequences(0, *batch)]))
    wanted = theirs(**padded(*batch, model.base.config.pad_token_id)).logits
    assert (logits - wanted).abs().max() < 1e-12 < wanted.std()


def test_a_written_adapter_is_read_back_bit_for_bit(model_dir, family, tmp_path):
    model = packed(model_dir, member(0, "qko", 4))
    written = model.parameters_of(0)
    peft_folder.write_adapter(tmp_path, written, family, "tiny", "qko", 4, 6.5, 0.1)
    tensors, facts = peft_folder.read_adapter(tmp_path, family)
    assert settings_of(facts) == (4, 6.5, "qko", 0.1)
    assert tensors.keys() == written.keys() and all(
        torch.equal(tensors[name], written[name]) for name in written
    )


def test_a_bert_adapter_without_its_pooler_leaves_the_head_s_dense_layer_out(bert_dir, tmp_path):
    saved_adapter(tmp_path, bert_dir, modules_to_save=None)
    names = set(peft_folder.read_adapter(tmp_path, "bert")[0])
    assert {name for name in names if name.startswith("head.")} == {
        "head.out.weight",
        "head.out.bias",
    }


def test_damaged_and_missing_files_are_named(folder):
    content = (folder / peft_folder.TENSORS).read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" * 64):
        (folder / peft_folder.TENSORS).write_bytes(damaged)
        with pytest.raises(
            ValueError, match="adapter_model.safetensors is not a whole safetensors file"
        ):
            peft_folder.read_adapter(folder, "bert")
    (folder / peft_folder.TENSORS).unlink()
    with pytest.raises(
        ValueError, match="no adapter_model.safetensors; give a whole adapter folder"
    ):
        peft_folder.read_adapter(folder, "bert")
    (folder / peft_folder.CONFIG).write_text("{")
    with pytest.raises(ValueError, match="adapter_config.json is not JSON"):
        peft_folder.read_adapter(folder, "bert")
    (folder / peft_folder.CONFIG).write_text("[]")
    with pytest.raises(ValueError, match="adapter_config.json is not a JSON object"):
        peft_folder.read_adapter(folder, "bert")
    (folder / peft_folder.CONFIG).unlink()
    with pytest.raises(ValueError, match="no adapter_config.json"):
        peft_folder.read_adapter(folder, "bert")


class Touch:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_tensors_are_never_loaded(folder, tmp_path):
    marker = tmp_path / "opened"
    for name in (peft_folder.TENSORS, "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Touch(marker)))
        with pytest.raises(
            ValueError,
            match="pickled files are not loaded" if name.endswith("bin") else "not a whole",
        ):
            peft_folder.read_adapter(folder, "bert")
        assert not marker.exists()
        (folder / name).unlink()
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists()  # this test can fail
