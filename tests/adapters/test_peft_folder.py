"""Adapter folders read back: peft's logits, and unsupported settings refused by name."""

import json
import os
import pickle
import re

import pytest
import torch
from helpers.encoders import member, packed, padded, peft_model
from helpers.models import sentences
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder
from lora.errors import ConfigError
from lora.model import collate


def saved(folder, model_dir, **options):
    peft_model(model_dir, **options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("weights, rank, num_labels", [("qv", 3, 3), ("qkvo", 2, 1), ("o", 1, 2)])
def test_an_adapter_of_peft_gives_the_same_logits_here(
    model_dir, family, tmp_path, weights, rank, num_labels
):
    theirs = peft_model(model_dir, weights, num_labels, r=rank)
    theirs.save_pretrained(tmp_path)
    tensors, facts = peft_folder.read_adapter(tmp_path, family)
    assert facts == dict(rank=rank, alpha=7.0, weights=weights, lora_dropout=0.25)
    model = packed(model_dir, member(0, weights, rank, num_labels, alpha=facts["alpha"]))
    assert tensors.keys() == model.parameters_of(0).keys()
    with torch.no_grad():
        for name, value in model.parameters_of(0).items():
            value.copy_(tensors[name])
    batch = sentences(6, 4, types=family == "bert")
    (logits,) = model(model.batch([collate.RunSequences(0, *batch)]))
    wanted = theirs(**padded(*batch, model.base.config.pad_token_id)).logits
    assert (logits - wanted).abs().max() < 1e-12 < wanted.std()


def test_what_was_written_here_comes_back_bit_for_bit(model_dir, family, tmp_path):
    model = packed(model_dir, member(0, "qko", 4))
    written = model.parameters_of(0)
    peft_folder.write_adapter(tmp_path, written, family, "tiny", "qko", 4, 6.5, 0.1)
    tensors, facts = peft_folder.read_adapter(tmp_path, family)
    assert facts == dict(rank=4, alpha=6.5, weights="qko", lora_dropout=0.1)
    assert tensors.keys() == written.keys() and all(
        torch.equal(tensors[name], written[name]) for name in written
    )


def test_a_bert_adapter_without_its_pooler_leaves_the_head_s_dense_layer_out(bert_dir, tmp_path):
    saved(tmp_path, bert_dir, modules_to_save=None)
    names = set(peft_folder.read_adapter(tmp_path, "bert")[0])
    assert {name for name in names if name.startswith("head.")} == {
        "head.out.weight",
        "head.out.bias",
    }


@pytest.mark.parametrize("infix", ["modules_to_save.default.", "modules_to_save."])
def test_keys_of_older_versions_of_peft(model_dir, family, tmp_path, infix):
    """They kept the name of the wrapper around a module to save."""
    saved(tmp_path, model_dir)
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


OPTIONS = [  # what peft is asked for, and what the message must say
    (dict(use_rslora=True), "adapter_config.json", "use_rslora is True"),
    (dict(use_dora=True), "adapter_config.json", "use_dora is True"),
    (
        dict(rank_pattern={"layer.1.attention.self.query": 2}),
        "adapter_config.json",
        "rank_pattern is {",
    ),
    (
        dict(alpha_pattern={"layer.1.attention.self.query": 2}),
        "adapter_config.json",
        "alpha_pattern is {",
    ),
    (dict(bias="lora_only"), "adapter_config.json", "bias is 'lora_only'; allowed: 'none'"),
    (dict(lora_bias=True), "adapter_config.json", "lora_bias is True"),
    (dict(layers_to_transform=[1]), "adapter_config.json", "layers_to_transform is [1]"),
    (
        dict(init_lora_weights="pissa"),
        "adapter_config.json",
        "init_lora_weights is 'pissa'; allowed: True, False",
    ),
    (dict(trainable_token_indices=[1, 2]), "adapter_config.json", "trainable_token_indices is "),
    (
        dict(target_modules=["query", "intermediate.dense"]),
        peft_folder.TENSORS,
        "bert.encoder.layer.0.intermediate.dense.lora_A.weight and 1 of other layers: "
        "allowed: LoRA pairs of attention.se",
    ),
    (
        dict(exclude_modules=["bert.encoder.layer.0.attention.self.value"]),
        peft_folder.TENSORS,
        "bert.encoder.layer.0.attention.self.value.lora_A.weight is missing",
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
def test_what_peft_can_and_a_run_cannot_is_refused(bert_dir, tmp_path, options, file, message):
    saved(tmp_path, bert_dir, dtype=torch.float32, **options)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        peft_folder.read_adapter(tmp_path, "bert")
    assert str(tmp_path / file) in str(caught.value)


@pytest.fixture
def folder(bert_dir, tmp_path):
    return saved(tmp_path / "adapter", bert_dir)


def with_config(folder, **changes) -> None:
    told = json.loads((folder / peft_folder.CONFIG).read_text()) | changes
    (folder / peft_folder.CONFIG).write_text(json.dumps(told))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(peft_type="IA3"), "peft_type is 'IA3'; allowed: peft_type 'LORA'"),
        (dict(peft_type=None, method="ft"), "method is 'ft'; allowed: peft_type 'LORA'"),
        (dict(task_type="CAUSAL_LM"), "task_type is 'CAUSAL_LM'; allowed: 'SEQ_CLS'"),
        (dict(task_type=None), "task_type is None; allowed: 'SEQ_CLS'"),
        (dict(fan_in_fan_out=True), "fan_in_fan_out is True"),
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
def test_configurations_that_no_run_can_have_are_refused(folder, changes, message):
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
            "classifier.bias has shape [2]; expected [3] for r = 3",
        ),
        (
            replaced("base_model.model.classifier.bias", torch.full((3,), torch.nan)),
            "classifier.bias: got float32 numbers",
        ),
        (
            replaced("base_model.model.classifier.bias", torch.ones(3).int()),
            "classifier.bias: got int32 numbers; al",
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
def test_tensors_that_are_no_whole_adapter_are_refused(folder, change, message):
    tensors = load_file(folder / peft_folder.TENSORS)
    change(tensors)
    save_file(tensors, folder / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        peft_folder.read_adapter(folder, "bert")
    assert str(folder / "adapter_model.safetensors") in str(caught.value)


def test_all_problems_are_told_at_once(folder):
    with_config(folder, use_rslora=True, use_dora=True, bias="all", r=None)
    with pytest.raises(ConfigError) as caught:
        peft_folder.read_adapter(folder, "bert")
    assert len(caught.value.problems) == 4


def test_another_family_is_one_problem(folder):
    with pytest.raises(ConfigError, match="an adapter of bert; allowed: one of roberta") as caught:
        peft_folder.read_adapter(folder, "roberta")
    assert len(caught.value.problems) == 1
    with pytest.raises(ValueError, match="model family is 'gpt2'; allowed: bert, roberta"):
        peft_folder.read_adapter(folder, "gpt2")


def test_damaged_and_missing_files_are_told_by_name(folder):
    whole = (folder / peft_folder.TENSORS).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 64):
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
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_tensors_are_never_opened(folder, tmp_path):
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
