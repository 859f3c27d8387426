"""A model folder has the weights of exactly one model, or is refused by name.

Kinds: a second set of weights, an index that disagrees with its shards, foreign and missing
tensors, an adapter in the folder. Accepted: everything that transformers saves of BERT and RoBERTa.
"""

import json
import logging
import re
import shutil

import peft
import pytest
import torch
import transformers
from helpers.models import make_model
from safetensors.torch import load_file, save_file

from lora.data import fetch
from lora.errors import ConfigError
from lora.experiment.source import Source
from lora.model import model_files, pretrained

WORD = "embeddings.word_embeddings.weight"
SHARD = "model-00001-of-00002.safetensors"
INDEX = model_files.INDEX


@pytest.fixture
def folder(bert_dir, tmp_path):
    return shutil.copytree(bert_dir, tmp_path / "model")


def shard(folder, change=None):
    """Replace model.safetensors by two shards and their index, as transformers writes them."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {
        SHARD: {name: tensors[name] for name in names[:9]},
        "model-00002-of-00002.safetensors": {name: tensors[name] for name in names[9:]},
    }
    weight_map = {name: file for file, part in parts.items() for name in part}
    index = dict(metadata=dict(total_size=1), weight_map=weight_map)
    if change:
        change(parts, index)
    for file, part in parts.items():
        save_file(part, folder / file)
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def other(folder):
    return load_file(folder / "model.safetensors")


def add_tensors(folder, **named):
    tensors = other(folder) | {name.replace("__", "."): value for name, value in named.items()}
    save_file(tensors, folder / "model.safetensors")


def double(folder):
    """The encoder twice, under both names that transformers reads."""
    tensors = other(folder)
    both = tensors | {f"bert.{name}": value.clone() for name, value in tensors.items()}
    save_file(both, folder / "model.safetensors")


ONE = torch.ones(1)
REFUSED = {  # kind: (what makes it, part of the message)
    "a copy of the weights": (
        lambda folder: save_file(other(folder), folder / "model.fp16.safetensors"),
        "model.safetensors and also model.fp16.safetensors: several sets of weights",
    ),
    "model.safetensors beside shards": (
        lambda folder: (
            save_file(other(folder), folder / "copy"),
            shard(folder),
            (folder / "copy").rename(folder / "model.safetensors"),
        ),
        "model.safetensors and also model-00001-of-00002.safetensors, model-00002",
    ),
    "two files without an index": (
        lambda folder: (shard(folder), (folder / INDEX).unlink()),
        "neither model.safetensors nor model.safetensors.index.json is there",
    ),
    "one file of another name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "weights.safetensors"),
        "weights.safetensors: neither model.safetensors nor",
    ),
    "an adapter": (
        lambda folder: (
            (folder / "adapter_config.json").write_text("{}"),
            save_file({"a": ONE}, folder / "adapter_model.safetensors"),
        ),
        "adapter_config.json, adapter_model.safetensors: files of an adapter",
    ),
    "a pickled adapter": (
        lambda folder: (folder / "adapter_model.bin").write_bytes(b""),
        "adapter_model.bin: files of an adapter",
    ),
    "a missing shard": (
        lambda folder: (shard(folder), (folder / SHARD).unlink()),
        f"shards that {INDEX} names are missing: {SHARD}",
    ),
    "a shard of another set": (
        lambda folder: (
            shard(folder),
            save_file({"a": ONE}, folder / "model-00003-of-00003.safetensors"),
        ),
        "does not name, another set of weights: model-00003-of-00003.safetensors",
    ),
    "a second index": (
        lambda folder: (
            shard(folder),
            shutil.copy(folder / INDEX, folder / "model.fp16.safetensors.index.json"),
        ),
        "model.fp16.safetensors.index.json: allowed: model.safetensors.index.json alone",
    ),
    "an index without a map": (
        lambda folder: (shard(folder), (folder / INDEX).write_text('{"weight_map": [1]}')),
        "weight_map is [1]; allowed",
    ),
    "a tensor in both shards": (
        lambda folder: shard(
            folder, lambda parts, _: parts[SHARD].update({"pooler.dense.bias": torch.ones(32)})
        ),
        "tensors that are in several shards: pooler.dense.bias",
    ),
    "a tensor in another shard": (
        lambda folder: shard(
            folder, lambda _, index: index["weight_map"].update({"pooler.dense.bias": SHARD})
        ),
        "tensors that are in another shard than",
    ),
    "a tensor that the index lacks": (
        lambda folder: shard(folder, lambda _, index: index["weight_map"].pop("pooler.dense.bias")),
        "does not name: pooler.dense.bias",
    ),
    "a tensor that no shard has": (
        lambda folder: shard(folder, lambda _, index: index["weight_map"].update(x=SHARD)),
        "that are in no shard: x",
    ),
    "a foreign tensor": (
        lambda folder: add_tensors(folder, decoder__layer__0__weight=ONE),
        "not part of a model with this config.json: decoder.layer.0.weight",
    ),
    "a tensor of the other family": (
        lambda folder: add_tensors(folder, lm_head__bias=ONE),
        "not part of a model with this config.json: lm_head.bias",
    ),
    "a model of the other family beside it": (
        lambda folder: add_tensors(folder, roberta__embeddings__word_embeddings__weight=ONE),
        "not part of a model with this config.json: roberta.embeddings",
    ),
    "an adapter's tensors": (
        lambda folder: add_tensors(
            folder, base_model__model__bert__encoder__layer__0__x__lora_A__weight=ONE
        ),
        "not part of a model with this config.json: base_model.model",
    ),
    "adapted layers": (
        lambda folder: add_tensors(
            folder, encoder__layer__0__attention__self__query__lora_A__weight=ONE
        ),
        "encoder.layer.0.attention.self.query.lora_A.weight",
    ),
    "two encoders": (double, "there under two names: bert.embeddings.LayerNorm.bias and "),
    "a layer that config.json has not": (
        lambda folder: add_tensors(folder, encoder__layer__2__output__dense__bias=torch.ones(32)),
        "not part of a model with this config.json: encoder.layer.2.output.dense.bias",
    ),
    "a missing tensor": (
        lambda folder: save_file(
            {name: value for name, value in other(folder).items() if name != WORD},
            folder / "model.safetensors",
        ),
        f"missing in *.safetensors: {WORD}",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_weights_that_are_not_those_of_one_model_are_refused(folder, kind, monkeypatch):
    make, message = REFUSED[kind]
    make(folder)
    monkeypatch.setattr(pretrained, "_from_pretrained", None)  # nothing is loaded
    with pytest.raises(ConfigError, match=re.escape(message)):
        pretrained.load_base(folder)


@pytest.mark.parametrize(
    "family, name",
    [
        *(
            ("bert", f"BertFor{name}")
            for name in (
                *("PreTraining", "MaskedLM", "NextSentencePrediction", "SequenceClassification"),
                *("MultipleChoice", "TokenClassification", "QuestionAnswering"),
            )
        ),
        *(
            ("roberta", f"RobertaFor{name}")
            for name in (
                *("MaskedLM", "SequenceClassification", "MultipleChoice", "TokenClassification"),
                "QuestionAnswering",
            )
        ),
        ("bert", "BertModel"),
        ("roberta", "RobertaModel"),
    ],
)
def test_every_model_that_transformers_saves_is_accepted(tmp_path, family, name):
    """Whole or in shards; the digest is that of all *.safetensors and config.json, as before."""
    model = getattr(transformers, name).from_pretrained(make_model(family, tmp_path / "source"))
    wanted = getattr(model, family, model).state_dict()
    for size in ("1GB", "20KB"):
        folder = tmp_path / size
        model.save_pretrained(folder, max_shard_size=size)
        assert (folder / INDEX).is_file() == (size == "20KB")
        base = pretrained.load_base(folder)
        for key, value in base.named_parameters():
            assert torch.equal(value, wanted[key]), key
        assert len(fetch.base_sha256(folder)) == 64


def test_old_names_and_buffers_are_accepted(folder):
    """The hub's bert-base-uncased has gamma, beta and position_ids."""
    tensors = {}
    for name, value in other(folder).items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        tensors[f"bert.{old.replace('LayerNorm.bias', 'LayerNorm.beta')}"] = value
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    wanted = pretrained.load_base(folder).state_dict()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, value in pretrained.load_base(folder).named_parameters():
        assert torch.equal(value, wanted[name]), name


def test_other_formats_and_state_of_a_training_are_named_and_not_read(folder, caplog):
    """They are whole files of other programs, here without content: reading them would fail."""
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.onnx"):
        (folder / name).write_bytes(b"")
    for name in ("optimizer.pt", "trainer_state.json", "training_args.bin", "rng_state.pth"):
        (folder / name).write_bytes(b"")
    (folder / "checkpoint-500").mkdir()
    with caplog.at_level(logging.INFO):
        pretrained.load_base(folder)
    assert "other formats of the weights: flax_model.msgpack, model.onnx" in caplog.text
    assert "state of a training: checkpoint-500, optimizer.pt, rng_state.pth" in caplog.text


def test_transformers_would_load_the_adapter_in_a_model_folder(bert_dir, tmp_path):
    """The reason why it is refused: the loaded model is not that of the folder's weights."""
    folder = shutil.copytree(bert_dir, tmp_path / "model")
    model = transformers.BertModel.from_pretrained(make_model("bert", tmp_path / "x"))
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"], r=2))
    adapted.save_pretrained(folder)
    loaded = transformers.AutoModel.from_pretrained(folder)
    assert any("lora_A" in name for name, _ in loaded.named_parameters())


def test_a_source_with_two_sets_of_weights_is_not_fetched(folder, tmp_path):
    save_file(other(folder), folder / "model.fp16.safetensors")
    source = Source("tiny", "model", "file", str(folder), "", "", "MIT")
    with pytest.raises(fetch.FetchError, match="and also model.fp16.safetensors: several sets"):
        fetch.fetch(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
