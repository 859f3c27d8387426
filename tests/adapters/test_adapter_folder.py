"""What a given folder is: an adapter is found, everything else is refused with the next step.

The kinds are what peft, transformers' Trainer and this workflow write, and what users give instead.
"""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
import transformers
from helpers.encoders import peft_model, saved_adapter
from helpers.training import make_spec, train
from safetensors.torch import load_file

from lora.adapters import adapter_folder
from lora.adapters.adapter_folder import CONFIG, PICKLED, TENSORS


@pytest.fixture(scope="module")
def adapter(bert_dir, tmp_path_factory):
    return saved_adapter(tmp_path_factory.mktemp("saved") / "adapter", bert_dir)


def copies(adapter, folder, *names):
    for name in names:
        shutil.copytree(adapter, folder / name)


def trainer_output(bert_dir, folder):
    """Let transformers' Trainer write checkpoints 1 to 3 of a PEFT model."""
    model = peft_model(bert_dir, num_labels=2, dtype=torch.float32)
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=3, save_steps=1, report_to=[], use_cpu=True
    )
    examples = [dict(input_ids=[2, 7, 3], labels=0), dict(input_ids=[2, 8, 3], labels=1)]
    transformers.Trainer(model, arguments, train_dataset=examples).train()


def test_an_adapter_of_peft_is_found(adapter, caplog):
    with caplog.at_level(logging.INFO):
        found = adapter_folder.find(adapter, "--start")
    assert (found.path, found.method) == (adapter, "lora")
    assert found.config["peft_type"] == "LORA" and "not used" not in caplog.text


@pytest.mark.parametrize("name", ["adapter", "mine", "checkpoint-500", "runs/seed0/adapter"])
def test_the_only_adapter_below_a_folder_is_found(adapter, tmp_path, name, caplog):
    """A run's folder, a named adapter of peft, one checkpoint, one seed of several levels."""
    copies(adapter, tmp_path, name)
    with caplog.at_level(logging.INFO):
        assert adapter_folder.find(tmp_path, "--start").path == tmp_path / name
    assert f"--start {tmp_path}: the only adapter in it is {tmp_path / name}" in caplog.text


def test_a_named_adapter_of_peft_is_found(bert_dir, tmp_path):
    model = peft_model(bert_dir)
    model.add_adapter("second", peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    model.save_pretrained(tmp_path, selected_adapters=["second"])
    assert adapter_folder.find(tmp_path, "--start").path == tmp_path / "second"


@pytest.mark.parametrize("method", ["lora", "ft", "bitfit", "adapter_houlsby", "adapter_pfeiffer"])
def test_a_run_of_every_method_is_found(bert_dir, tokens_dir, tmp_path, method):
    weights = dict(
        lora="qv", ft="all", bitfit="bias", adapter_houlsby="both", adapter_pfeiffer="ffn"
    )
    rank = 0 if method in ("ft", "bitfit") else 4
    spec = make_spec(tmp_path, 0, weights[method], rank, method, epochs=1)
    train([spec], bert_dir, tokens_dir, tmp_path / "state")
    for given in (spec.output_dir, spec.output_dir / "adapter"):
        found = adapter_folder.find(given, "--start")
        assert (found.path, found.method) == (spec.output_dir / "adapter", method)


def test_files_that_are_not_used_are_named(adapter, tmp_path, caplog):
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    for name in ("training_args.bin", "tokenizer.json", PICKLED):
        (folder / name).write_bytes(b"")
    (folder / "checkpoint-3").mkdir()
    with caplog.at_level(logging.INFO):
        adapter_folder.find(folder, "--start")
    assert "not used: adapter_model.bin, checkpoint-3, tokenizer.json and 1 more" in caplog.text


def make_file(adapter, folder, bert_dir):
    copies(adapter, folder, "adapter")
    return folder / "adapter" / TENSORS


def make_pickled(adapter, folder, bert_dir):
    peft_model(bert_dir).save_pretrained(folder, safe_serialization=False)


def make_model(adapter, folder, bert_dir):
    shutil.copytree(bert_dir, folder, dirs_exist_ok=True)


def make_whole_checkpoints(adapter, folder, bert_dir):
    shutil.copytree(bert_dir, folder / "checkpoint-20")


def write(*names):
    def make(adapter, folder, bert_dir):
        for name in names:
            (folder / name).write_text("{}")

    return make


REFUSED = {  # kind: (what makes it; it may return the path to give, part of the message)
    "empty": (lambda *_: None, "The folder is empty: the adapter was not written, or not copied"),
    "missing": (
        lambda adapter, folder, _: folder / "runs/none",
        "There is no such folder; the last part of the path that exists is {folder}.",
    ),
    "a name on the hub": (
        lambda *_: "textattack/roberta-base-MRPC",
        "`hf download textattack/roberta-base-MRPC --local-dir FOLDER`",
    ),
    "a file": (make_file, "It is a file. Give {folder}/adapter."),
    "another file": (
        lambda adapter, folder, _: (write("a.txt")(adapter, folder, _), folder / "a.txt")[1],
        "It is a file. Give the folder that it is in.",
    ),
    "pickled": (make_pickled, "adapter_model.bin is there, but pickled files are not loaded."),
    "pickled, in a run": (
        lambda adapter, folder, bert_dir: make_pickled(adapter, folder / "adapter", bert_dir),
        "Below it is only {folder}/adapter/adapter_model.bin, which is not loaded.",
    ),
    "config alone": (write(CONFIG), "There is no adapter_model.safetensors in it. Copy the whole"),
    "tensors alone": (write(TENSORS), "There is no adapter_config.json in it. Copy the whole"),
    "Trainer's checkpoints": (
        lambda adapter, folder, bert_dir: trainer_output(bert_dir, folder),
        "It has 3 checkpoints of a training, each with an adapter. Give one of them; the newest "
        "is {folder}/checkpoint-3.",
    ),
    "checkpoints by number": (
        lambda adapter, folder, _: copies(adapter, folder, "checkpoint-1000", "checkpoint-500"),
        "the newest is {folder}/checkpoint-1000.",
    ),
    "seeds": (
        lambda adapter, folder, _: copies(
            adapter, folder, *(f"seed{seed}/adapter" for seed in range(5))
        ),
        "It has 5 adapters below it. Give one of them: {folder}/seed0/adapter, "
        "{folder}/seed1/adapter, {folder}/seed2/adapter and 2 more.",
    ),
    "several named adapters": (
        lambda adapter, folder, _: copies(adapter, folder, "first", "second"),
        "It has 2 adapters below it. Give one of them: {folder}/first, {folder}/second.",
    ),
    "a model": (make_model, "{folder} is a whole model, not an adapter. Give it as the base model"),
    "a Trainer's output of a whole model": (
        make_whole_checkpoints,
        "{folder}/checkpoint-20 is a whole model, not an adapter.",
    ),
    "a run without adapter": (write("run.json", "metrics.csv"), "It is a run without adapter/"),
    "another folder": (write("notes.txt"), "It has no adapter, only notes.txt."),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_every_other_folder_is_refused_with_the_next_step(adapter, bert_dir, tmp_path, kind):
    make, message = REFUSED[kind]
    given = make(adapter, tmp_path, bert_dir) or tmp_path
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError) as caught:
        adapter_folder.find(given, "--start")
    text = str(caught.value)
    assert text.startswith(f"--start is {given}; allowed: a folder with adapter_config.json and ")
    assert message.format(folder=tmp_path) in text and "\n" not in text
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_of_the_message_converts_a_pickled_adapter(bert_dir, tmp_path, monkeypatch):
    """Its tensors are those that peft writes as safetensors."""
    model = peft_model(bert_dir)
    model.save_pretrained(tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    with pytest.raises(ValueError) as caught:
        adapter_folder.find(tmp_path / "old", "--start")
    command = str(caught.value).rpartition("convert it: ")[2]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(command, shell=True, check=True, env={"PATH": path})
    assert adapter_folder.find(tmp_path / "old", "--start").path == tmp_path / "old"
    wanted, found = load_file(tmp_path / "new" / TENSORS), load_file(tmp_path / "old" / TENSORS)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
