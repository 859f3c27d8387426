"""Keys of adapters that were not saved by peft's save_pretrained from an unwrapped model."""

import logging
import re
import shutil

import peft
import pytest
import torch
import transformers
from helpers.encoders import peft_model, saved_adapter
from safetensors.torch import load_file, save_file

from lora.adapters import peft_folder
from lora.errors import ConfigError

PREFIX = "base_model.model."


def wrapped(name, at):
    """Return a renaming: the name of a wrapper module at the start, or around the model in it."""
    return lambda key: (
        f"{name}.{key}" if at == "start" else key.replace(PREFIX, PREFIX + name + ".")
    )


RENAMINGS = {  # what saved the adapter -> its keys, and what the log says of them
    "torch.compile of a PeftModel": (wrapped("_orig_mod", "start"), "torch.compile (_orig_mod)"),
    "a PeftModel of torch.compile": (wrapped("_orig_mod", "inside"), "torch.compile (_orig_mod)"),
    "DataParallel of a PeftModel": (wrapped("module", "start"), "DataParallel (module)"),
    "a PeftModel of DataParallel": (wrapped("module", "inside"), "DataParallel (module)"),
    "FSDP": (wrapped("_fsdp_wrapped_module", "start"), "FSDP (_fsdp_wrapped_module)"),
    "FSDP of each layer": (
        lambda key: re.sub(r"(layer\.\d+\.)", r"\1_fsdp_wrapped_module.", key),
        "FSDP (_fsdp_wrapped_module)",
    ),
    "activation checkpointing": (
        lambda key: re.sub(r"(layer\.\d+\.)", r"\1_checkpoint_wrapped_module.", key),
        "activation checkpointing (_checkpoint_wrapped_module)",
    ),
    "torch.compile of DataParallel": (
        wrapped("_orig_mod.module", "start"),
        "DataParallel (module) and of a model wrapped by torch.compile (_orig_mod)",
    ),
    "a state_dict": (
        lambda key: re.sub(r"lora_([AB])\.", r"lora_\1.default.", key),
        "with the name of the adapter (default)",
    ),
    "a state_dict of another name": (
        lambda key: re.sub(r"lora_([AB])\.", r"lora_\1.mine.", key),
        "with the name of the adapter (mine)",
    ),
    "a state_dict of the LoraModel": (
        lambda key: key.removeprefix("base_model."),
        "without the prefix base_model.model.",
    ),
    "adapters injected in a model": (
        lambda key: key.removeprefix(PREFIX),
        "without the prefix base_model.model.",
    ),
    "a compiled model with adapters injected": (
        lambda key: "_orig_mod." + re.sub(r"lora_([AB])", r"lora_\1.default", key[len(PREFIX) :]),
        "torch.compile (_orig_mod) and with the name of the adapter (default) and without the",
    ),
    "the head of an older peft": (
        lambda key: re.sub(r"(\.classifier|\.pooler)\.", r"\1.modules_to_save.default.", key),
        None,
    ),
    "the head of a state_dict": (
        lambda key: re.sub(r"(\.classifier|\.pooler)\.", r"\1.modules_to_save.mine.", key),
        None,
    ),
}


@pytest.mark.parametrize("what", RENAMINGS)
def test_renamed_keys_are_read_with_one_line_in_the_log(model_dir, family, tmp_path, what, caplog):
    saved_adapter(tmp_path, model_dir)
    before, described = peft_folder.read_adapter(tmp_path, family)
    stored = load_file(tmp_path / peft_folder.TENSORS)
    rename, noted = RENAMINGS[what]
    renamed = {rename(key): value for key, value in stored.items()}
    assert renamed.keys() != stored.keys() and len(renamed) == len(stored)
    save_file(renamed, tmp_path / peft_folder.TENSORS)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        after, found = peft_folder.read_adapter(tmp_path, family)
    assert len(caplog.messages) == (1 if noted else 0)
    assert noted is None or noted in re.sub("of a model wrapped by ", "", caplog.text, count=1)
    assert after.keys() == before.keys() and found.pairs == described.pairs
    assert all(torch.equal(after[name], before[name]) for name in before)


def whole_model(theirs):
    return theirs.state_dict()


def merged_state(theirs):
    return theirs.merge_and_unload().state_dict()


def two_adapters(theirs):
    theirs.add_adapter("other", theirs.peft_config["default"])
    state = theirs.state_dict()
    return {key: value for key, value in state.items() if ".lora_" in key or "_save." in key}


def encoder_alone(theirs):
    state = peft.get_peft_model_state_dict(theirs)
    return {
        re.sub(r"base_model\.model\.(bert|roberta)\.", PREFIX, key): value
        for key, value in state.items()
        if ".lora_" in key
    }


def encoder_alone_without_prefix(theirs):
    return {key.removeprefix(PREFIX): value for key, value in encoder_alone(theirs).items()}


def without_head(theirs):
    state = peft.get_peft_model_state_dict(theirs)
    return {key: value for key, value in state.items() if ".lora_" in key}


@pytest.mark.parametrize(
    "saved, message",
    [
        (
            whole_model,
            "and .* more tensors: the base model's own weights; .*save the adapter alone",
        ),
        (merged_state, "the base model's own weights; .*save the adapter alone"),
        (
            two_adapters,
            r"several adapters \('default, other'\); save one of them alone, with model",
        ),
        (encoder_alone, "an encoder without a classification head; save it from AutoModelForSeq"),
        (encoder_alone_without_prefix, "without a classification head; save it from AutoModelFor"),
        (without_head, "classifier.*are missing; save it with the head, with task_type='SEQ_CLS'"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_keys_without_one_meaning_are_one_problem(model_dir, family, tmp_path, saved, message):
    theirs = peft_model(model_dir)
    theirs.save_pretrained(tmp_path)
    tensors = {key: value.clone() for key, value in saved(theirs).items()}
    save_file(tensors, tmp_path / peft_folder.TENSORS)
    with pytest.raises(ConfigError) as caught:
        peft_folder.read_adapter(tmp_path, family)
    assert len(caught.value.problems) == 1 and re.search(message, caught.value.problems[0])


def test_two_keys_of_one_tensor_are_one_problem(bert_dir, tmp_path):
    """Two copies of the pairs, one of them of a compiled model: it is unknown which is newer."""
    saved_adapter(tmp_path, bert_dir)
    stored = load_file(tmp_path / peft_folder.TENSORS)
    twice = stored | {f"_orig_mod.{key}": value.clone() for key, value in stored.items()}
    save_file(twice, tmp_path / peft_folder.TENSORS)
    with pytest.raises(ConfigError, match="is there under two keys .*, and 11 other") as caught:
        peft_folder.read_adapter(tmp_path, "bert")
    assert len(caught.value.problems) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_of_peft_is_read(bert_dir, tmp_path):
    """Not only its keys: what torch.compile and peft really write."""
    plain = peft_model(bert_dir)
    plain.save_pretrained(tmp_path / "plain")
    compiled = torch.compile(plain)
    shutil.copytree(tmp_path / "plain", tmp_path / "compiled")
    state = {key: value for key, value in compiled.state_dict().items() if "lora_" in key}
    state |= {
        key: value for key, value in compiled.state_dict().items() if "modules_to_save" in key
    }
    assert all(key.startswith("_orig_mod.base_model.model.") for key in state)
    save_file(state, tmp_path / "compiled" / peft_folder.TENSORS)
    before, after = (
        peft_folder.read_adapter(tmp_path / name, "bert")[0] for name in ("plain", "compiled")
    )
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_adapters_that_transformers_injects_are_read(bert_dir, tmp_path):
    """model.add_adapter of transformers: peft's state dict has no prefix then."""
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(bert_dir, num_labels=3)
    config = peft.LoraConfig(r=3, target_modules=["query"], task_type="SEQ_CLS")
    model.add_adapter(config)
    state = peft.get_peft_model_state_dict(model)
    assert state and not any(key.startswith("base_model") for key in state)
    head = {f"classifier.{name}": value for name, value in model.classifier.named_parameters()}
    save_file(
        {key: value.detach().clone() for key, value in (state | head).items()},
        tmp_path / peft_folder.TENSORS,
    )
    config.save_pretrained(tmp_path)
    tensors, adapter = peft_folder.read_adapter(tmp_path, "bert")
    assert adapter.weights == "q" and torch.equal(tensors["head.out.bias"], head["classifier.bias"])
