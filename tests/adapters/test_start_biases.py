"""Runs that start from an adapter with biases: peft's logits, in training, export and merging."""

import dataclasses
import json
import logging
import shutil

import peft
import pytest
import torch
import transformers
from helpers.encoders import member, packed, padded, peft_model
from helpers.models import make_model, sentences
from helpers.training import adapter_of, make_spec, rows_of, train
from safetensors.torch import load_file, save_file

from lora.adapters import belonging, merge, peft_folder, warm_start
from lora.errors import ConfigError
from lora.model import collate
from lora.training import evaluation

pytestmark = pytest.mark.filterwarnings("ignore:.*newly initialized.*", "ignore::UserWarning")
UNCHANGED = dict(epochs=1, learning_rate=1e-30, weight_decay=0)
RANK, ALPHA = 4, 6
OPTIONS = [
    dict(bias="lora_only"),
    dict(bias="all"),
    dict(bias="lora_only", layers_to_transform=[1]),
    dict(bias="all", exclude_modules=r".*layer\.0.*value"),
    dict(bias="lora_only", use_rslora=True, rank_pattern={"query": 2}),
    dict(bias="all", modules_to_save=None),
]


def logits_of(model) -> torch.Tensor:
    family = model.config.model_type
    batch = padded(*sentences(6, 4, types=family == "bert"), model.config.pad_token_id)
    with torch.no_grad():
        return model.eval()(**batch).logits


def plain_model(model_dir, **options):
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=2, dtype=torch.float64, attn_implementation="eager", **options
    )


def saved(folder, model_dir, **options):
    """Let peft save an adapter in float32 that a run of rank 4 and alpha 6 can start from."""
    theirs = peft_model(model_dir, num_labels=2, **(dict(r=RANK, lora_alpha=ALPHA) | options))
    theirs.float().double().save_pretrained(folder)
    return theirs


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_first_logits_are_peft_s(model_dir, family, tmp_path, options, caplog):
    """The run is in a pack with one that has no biases."""
    wanted = logits_of(saved(tmp_path, model_dir, **options))
    spec = make_spec(tmp_path / "run", 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path))
    start = warm_start.find_start(spec)
    assert start.bias == options["bias"]
    runs = [member(1), dataclasses.replace(member(0, num_labels=2), bias=start.bias)]
    model = packed(model_dir, *runs)
    belonging.check_start(spec, tmp_path, model_dir, "")
    with caplog.at_level(logging.INFO):
        warm_start.load_start(start, spec, model.parameters_of(1), family)
    assert f"with its biases ({start.bias}), which do not train" in caplog.text
    batch = sentences(6, 4, types=family == "bert")
    found = model(model.batch([collate.RunSequences(run, *batch) for run in (0, 1)]))[1]
    assert (found - wanted).abs().max() < 1e-12
    assert (logits_of(plain_model(model_dir)) - wanted).abs().max() > 0.1


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_a_run_keeps_the_biases_to_its_end(model_dir, family, tmp_path, tokens_dir, bias):
    """In training and export, as the start of another run, and merged: peft gives the same logits.

    The learning rate is too low to change anything.
    """
    theirs = saved(tmp_path / "peft", model_dir, bias=bias)
    wanted = logits_of(theirs)
    first = make_spec(tmp_path / "first", 0, start=str(tmp_path / "peft"), **UNCHANGED)
    train([first], model_dir, tokens_dir, tmp_path / "state")
    folder = first.output_dir / "adapter"
    second = make_spec(tmp_path / "second", 1, start=str(first.output_dir), **UNCHANGED)
    train([second], model_dir, tokens_dir, tmp_path / "state")
    best = dataclasses.replace(second.task, name="other")
    third = dataclasses.replace(
        make_spec(tmp_path / "third", 2, start="toy", **UNCHANGED),
        task=best,
        start_dirs=(second.output_dir,),
        tokens_dir=other_tokens(tmp_path / "tokens", tokens_dir),
    )
    train([third], model_dir, tokens_dir, tmp_path / "state")
    for spec in (first, second, third):
        folder = spec.output_dir / "adapter"
        assert json.loads((folder / "adapter_config.json").read_text())["bias"] == bias
        record = json.loads((spec.output_dir / "run.json").read_text())
        assert record["start"]["frozen_biases"] == bias
        found = peft.PeftModel.from_pretrained(plain_model(model_dir), folder)
        assert (logits_of(found) - wanted).abs().max() < 1e-5
    merge.merge(folder, model_dir, tmp_path / "merged", torch.float64)
    assert (logits_of(plain_model(tmp_path / "merged")) - wanted).abs().max() < 1e-5


def other_tokens(folder, tokens_dir):
    """Return a copy of prepared tokens as those of task `other`."""
    shutil.copytree(tokens_dir, folder)
    facts = json.loads((folder / "tokens.json").read_text())
    (folder / "tokens.json").write_text(json.dumps(facts | dict(task="other")))
    return folder


class Stopped(Exception):
    """Raised by a test to stop a training."""


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_packed_and_resumed_runs_give_the_same_bits(
    bert_dir, tokens_dir, tmp_path, bias, monkeypatch
):
    """A run with biases and one without: alone, packed, resumed, and restored when finished."""
    saved(tmp_path / "peft", bert_dir, bias=bias)

    def specs(name):
        given = (dict(start=str(tmp_path / "peft")), {})
        return [make_spec(tmp_path / name, seed, **one) for seed, one in enumerate(given)]

    alone = specs("alone")
    for one in alone:
        train([one], bert_dir, tokens_dir, tmp_path / "state alone")
    packs = specs("pack")
    end_epoch, calls = evaluation.end_epoch, []

    def stop_at_third_call(*arguments):
        if len(calls) == 2:
            raise Stopped
        calls.append(arguments)
        return end_epoch(*arguments)

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(evaluation, "end_epoch", stop_at_third_call)
        train(packs, bert_dir, tokens_dir, tmp_path / "state")
    train(packs, bert_dir, tokens_dir, tmp_path / "state")
    outputs = [rows_of(one) + adapter_of(one) for one in packs]
    assert outputs == [rows_of(one) + adapter_of(one) for one in alone]
    config = packs[0].output_dir / "adapter/adapter_config.json"
    written = config.read_bytes()
    for one in packs:
        shutil.rmtree(one.output_dir)
    train(packs, bert_dir, tokens_dir, tmp_path / "state")  # from the finished checkpoints
    assert outputs == [rows_of(one) + adapter_of(one) for one in packs]
    assert config.read_bytes() == written
    given, came = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (tmp_path / "peft", packs[0].output_dir / "adapter")
    )
    biases = [key for key in came if key.endswith(".bias") and ".encoder." in key]
    assert len(biases) == dict(lora_only=4, all=16)[bias]
    for key in biases:
        assert torch.equal(came[key], given[key].float()), key
    parameters = [
        json.loads((one.output_dir / "run.json").read_text())["parameters"] for one in packs
    ]
    assert parameters[0] == parameters[1]


@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_other_biases_are_another_run(bert_dir, tokens_dir, tmp_path, bias):
    saved(tmp_path / "peft", bert_dir, bias=bias)
    spec = make_spec(tmp_path, 0, start=str(tmp_path / "peft"))
    before = warm_start.find_start(spec).sha256
    path = tmp_path / "peft" / peft_folder.TENSORS
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("query.base_layer.bias"))
    save_file(tensors | {key: tensors[key] + 1}, path)
    assert warm_start.find_start(spec).sha256 != before


def test_biases_of_another_model_are_refused(bert_dir, tmp_path):
    """A layer that the base model has not, and a bias of another width."""
    saved(tmp_path / "peft", bert_dir, bias="all", layers_to_transform=[0])
    spec = make_spec(tmp_path, 0, "qv", RANK, alpha=ALPHA, start=str(tmp_path / "peft"))
    shallow = make_model("bert", tmp_path / "shallow", num_hidden_layers=1)
    with pytest.raises(ConfigError, match=r"layer\.1\..*: the base model has 1 layers, counted"):
        belonging.check_start_folders([(spec.cell, spec.hparams)], shallow)
    path = tmp_path / "peft" / peft_folder.TENSORS
    tensors = load_file(path)
    key = "base_model.model.bert.encoder.layer.1.intermediate.dense.bias"
    save_file(tensors | {key: torch.ones(7)}, path)
    model = packed(bert_dir, dataclasses.replace(member(0, num_labels=2), bias="all"))
    start = warm_start.find_start(spec)
    with pytest.raises(ConfigError, match=r"layer.1.intermediate.dense.bias: got \[7\], expected"):
        warm_start.load_start(start, spec, model.parameters_of(0), "bert")
