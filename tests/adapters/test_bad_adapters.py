"""Adapters that were changed, or that belong to another model."""

import json
import re
import shutil

import pytest
import torch
from helpers.fuzzing import tensors_of
from helpers.training import adapter_of, make_spec, rows_of, train
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder
from lora.errors import ConfigError
from lora.model import pretrained


@pytest.fixture
def adapter(tmp_path):
    peft_folder.write_adapter(tmp_path, tensors_of(), "bert", "tiny", "qv", 2, 4.0, 0.1)
    return tmp_path


@pytest.mark.parametrize(
    "modules, message",
    [
        (
            ["query"],
            "attention.self.value: adapter_config.json does not adapt it",
        ),
        (
            ["query", "value", "key"],
            "attention.self.key: adapter_config.json adapts it",
        ),
    ],
)
def test_target_modules_that_differ_from_the_tensors_are_refused(adapter, modules, message):
    facts = json.loads((adapter / peft_folder.CONFIG).read_text())
    (adapter / peft_folder.CONFIG).write_text(json.dumps(facts | dict(target_modules=modules)))
    with pytest.raises(ConfigError, match=re.escape(message)):
        peft_folder.read_adapter(adapter, "bert")


@pytest.mark.parametrize(
    "modules", [["query", "value"], ["self.query", "attention.self.value"], r".*\.(query|value)"]
)
def test_other_spellings_of_target_modules_are_read(adapter, modules):
    facts = json.loads((adapter / peft_folder.CONFIG).read_text())
    (adapter / peft_folder.CONFIG).write_text(json.dumps(facts | dict(target_modules=modules)))
    assert peft_folder.read_adapter(adapter, "bert")[1].weights == "qv"


def test_a_scalar_head_is_refused(adapter):
    found = load_file(adapter / peft_folder.TENSORS)
    save_file(
        found | {"base_model.model.classifier.weight": torch.tensor(1.0)},
        adapter / peft_folder.TENSORS,
    )
    with pytest.raises(ConfigError, match=r"classifier.weight has shape \[\]"):
        peft_folder.read_adapter(adapter, "bert")


def test_a_bert_without_a_pooler_gives_the_same_run_twice(bert_dir, tokens_dir, tmp_path):
    """The head's dense layer is initialized from the run's seed, not torch's global generator."""
    model = shutil.copytree(bert_dir, tmp_path / "model")
    found = {
        name: value
        for name, value in load_file(model / "model.safetensors").items()
        if "pooler" not in name
    }
    save_file(found, model / "model.safetensors", metadata={"format": "pt"})
    assert pretrained.load_base(model).pooler is None
    first, second = (make_spec(tmp_path / name, 0, epochs=1) for name in ("first", "second"))
    for one, state in ((first, "state"), (second, "other state")):
        torch.manual_seed(len(state))
        train([one], model, tokens_dir, tmp_path / state)
    assert rows_of(first) == rows_of(second) and adapter_of(first) == adapter_of(second)
