"""Damaged data sets and tokens of another task."""

import json
import shutil

import pytest
from helpers.fuzzing import check_message
from helpers.models import make_model
from helpers.training import make_spec, make_tokens, train
from safetensors.numpy import load_file, save_file

from lora import files
from lora.data import formats
from lora.data.tokens import arrays_sha256
from lora.errors import ConfigError
from lora.experiment import registry


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A data set as `datasets` saves it."""
    from datasets import Dataset, DatasetDict

    rows = {"sentence1": ["a", "c"], "sentence2": ["b", ""], "label": [0, 1]}
    folder = tmp_path_factory.mktemp("saved") / "rte"
    DatasetDict({name: Dataset.from_dict(rows) for name in ("train", "validation")}).save_to_disk(
        str(folder)
    )
    return folder


@pytest.mark.parametrize(
    "name", ["dataset_dict.json", "train/state.json", "train/dataset_info.json"]
)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"\xff", b"[" * 100_000, b'{"splits": [1]}']
)
def test_a_damaged_saved_data_set_is_refused(saved, tmp_path, name, content):
    folder = shutil.copytree(saved, tmp_path / "rte")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match="datasets cannot load this data set") as caught:
        formats.read(registry.read_tasks()["rte"], folder)
    check_message(str(caught.value), folder)


def test_tokens_of_another_task_are_refused(bert_dir, tmp_path):
    tokens = make_tokens(tmp_path / "tokens")
    facts = json.loads((tokens / "tokens.json").read_text())
    for changes in (dict(task="other"), dict(num_labels=3)):
        files.write_json(tokens / "tokens.json", facts | changes)
        with pytest.raises(ConfigError, match="task is toy, but the tokens in .* are of"):
            train([make_spec(tmp_path, 0)], bert_dir, tokens, tmp_path / "state")


@pytest.mark.parametrize(
    "family, sizes, message",
    [
        ("bert", dict(vocab_size=50), "token id 59; allowed by config.json: below 50"),
        ("bert", dict(type_vocab_size=1), "segment id 1; allowed by config.json: below 1"),
        ("roberta", {}, "segment id 1; allowed by config.json: below 1"),
        ("bert", dict(max_position_embeddings=19), "max_tokens is 20; this model takes at most 19"),
        ("roberta", dict(pad_token_id=20), "max_tokens is 20; this model takes at most 19"),
        ("roberta", dict(max_position_embeddings=21), "this model takes at most 19"),
    ],
)
def test_tokens_of_another_model_are_refused_before_training(tmp_path, family, sizes, message):
    """Tokens prepared with one model's tokenizer, training with another model."""
    folder = make_tokens(tmp_path / "tokens")
    arrays = load_file(folder / "tokens.safetensors")
    arrays["validation.types"][-1] = 1
    save_file(arrays, folder / "tokens.safetensors")
    facts = json.loads((folder / "tokens.json").read_text())
    files.write_json(folder / "tokens.json", facts | dict(sha256=arrays_sha256(arrays)))
    with pytest.raises(ConfigError, match=message):
        model = make_model(family, tmp_path / "model", **sizes)
        train([make_spec(tmp_path, 0)], model, folder, tmp_path / "state")
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.parametrize("family, sizes", [("bert", {}), ("roberta", dict(type_vocab_size=2))])
@pytest.mark.parametrize("pad", [0, 5])
def test_a_model_trains_up_to_its_last_position(tmp_path, family, sizes, pad):
    positions = 20 if family == "bert" else 20 + pad + 1
    sizes = sizes | dict(max_position_embeddings=positions, pad_token_id=pad)
    model = make_model(family, tmp_path / "model", **sizes)
    folder = make_tokens(tmp_path / "tokens")
    train([make_spec(tmp_path, 0, epochs=1)], model, folder, tmp_path / "state")
    assert list(tmp_path.rglob("metrics.csv"))
