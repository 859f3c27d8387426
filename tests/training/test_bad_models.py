"""`lora train` with damaged models or tokens: exit status 2, one message, nothing trained."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.commands import edit_json, train_arguments, write_file
from safetensors.torch import load_file, save_file

from lora.__main__ import main

pytestmark = pytest.mark.usefixtures("logging_as_before")

CONFIG = "model/config.json"
WEIGHTS = "model/model.safetensors"
TOKENS_JSON = "tokens/tokens.json"
TOKENS = "tokens/tokens.safetensors"
QUERY = "encoder.layer.1.attention.self.query.weight"

Tensors = dict[str, torch.Tensor]


def edit_weights(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    """Return a function that replaces the tensors of the model by `change(tensors)`."""

    def edit(inputs: Path) -> None:
        save_file(dict(change(load_file(inputs / WEIGHTS))), inputs / WEIGHTS)

    return edit


def truncate(path: Path, end: int) -> None:
    """Write back the bytes of a file up to index `end`."""
    write_file(path, path.read_bytes()[:end])


DAMAGES = {  # damage: (function that does it to the inputs, part of the message)
    "tokens.json is truncated": (
        lambda inputs: write_file(inputs / TOKENS_JSON, "{"),
        "tokens.json is not JSON",
    ),
    "tokens.json is a list": (
        lambda inputs: write_file(inputs / TOKENS_JSON, "[]"),
        "tokens.json is not a JSON object",
    ),
    "tokens.json without keys": (
        lambda inputs: write_file(inputs / TOKENS_JSON, "{}"),
        "sha256 is None; allowed",
    ),
    "tokens.json is not UTF-8": (
        lambda inputs: write_file(inputs / TOKENS_JSON, b"\xff"),
        "byte 0xff is not UTF-8",
    ),
    "tokens of another task": (
        lambda inputs: edit_json(inputs / TOKENS_JSON, task="mrpc"),
        "are of mrpc",
    ),
    "tokens without a split": (
        lambda inputs: edit_json(inputs / TOKENS_JSON, splits={"train": {}}),
        "does not name the split 'validation'; delete it and prepare it again",
    ),
    "truncated tokens": (lambda inputs: truncate(inputs / TOKENS, -9), "is cut off"),
    "no tokens": (lambda inputs: shutil.rmtree(inputs / "tokens"), "allowed: an existing folder"),
    "truncated weights": (
        lambda inputs: truncate(inputs / WEIGHTS, 9000),
        "model.safetensors is not a whole safetensors file",
    ),
    "git-lfs pointer instead of weights": (
        lambda inputs: write_file(inputs / WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"),
        "model.safetensors is not a whole safetensors file",
    ),
    "pickle named model.safetensors": (
        lambda inputs: write_file(inputs / WEIGHTS, pickle.dumps({"a": 1})),
        "model.safetensors is not a whole safetensors file",
    ),
    "pytorch_model.bin without model.safetensors": (
        lambda inputs: (inputs / WEIGHTS).rename(inputs / "model/pytorch_model.bin"),
        "no *.safetensors file. It has pytorch_model.bin. Pickled weights are not loaded",
    ),
    "weights of another model": (
        edit_weights(lambda tensors: {f"gpt2.{name}": value for name, value in tensors.items()}),
        "missing in *.safetensors: embeddings.LayerNorm.bias",
    ),
    "missing tensor": (
        edit_weights(
            lambda tensors: {name: value for name, value in tensors.items() if name != QUERY}
        ),
        f"missing in *.safetensors: {QUERY}",
    ),
    "tensor of another shape": (
        edit_weights(lambda tensors: tensors | {QUERY: tensors[QUERY][:3].contiguous()}),
        f"other shape than in config.json: {QUERY}",
    ),
    "tensor that is not finite": (
        edit_weights(lambda tensors: tensors | {QUERY: tensors[QUERY] / 0}),
        f"not finite: {QUERY}",
    ),
    "config.json with fewer layers": (
        lambda inputs: edit_json(inputs / CONFIG, num_hidden_layers=1),
        "not part of a model with this config.json: encoder.layer.1.attention",
    ),
    "config.json with more layers": (
        lambda inputs: edit_json(inputs / CONFIG, num_hidden_layers=3),
        "missing in *.safetensors: encoder.layer.2.attention",
    ),
    "hidden size not divisible by the heads": (
        lambda inputs: edit_json(inputs / CONFIG, num_attention_heads=3),
        "hidden_size is 32; allowed: a multiple of num_attention_heads, 3",
    ),
    "decoder": (
        lambda inputs: edit_json(inputs / CONFIG, is_decoder=True),
        "is_decoder is True; allowed: False",
    ),
    "unknown activation": (
        lambda inputs: edit_json(inputs / CONFIG, hidden_act="nope"),
        "transformers cannot load this model (KeyError",
    ),
    "fetched.json without keys": (
        lambda inputs: write_file(inputs / "model/fetched.json", "{}"),
        "does not have name, files",
    ),
    "fetched.json with files as a list": (
        lambda inputs: write_file(inputs / "model/fetched.json", '{"name": "x", "files": []}'),
        "does not have files",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_model_or_tokens_are_refused(refused, inputs, name):
    damage, message = DAMAGES[name]
    damage(inputs)
    arguments = train_arguments(inputs, inputs / "out", "--seed", 0)
    assert message in refused(*arguments, names=[inputs])
    assert not (inputs / "out/metrics.csv").exists()


def test_undamaged_inputs_are_trained(valid_inputs, tmp_path):
    """Otherwise the tests of damaged inputs would pass on anything."""
    assert main(train_arguments(valid_inputs, tmp_path / "out", "--seed", 0)) == 0
    assert (tmp_path / "out/metrics.csv").is_file()
