"""Damaged data sets and tokens of another task."""

import json
import shutil

import pytest
from helpers.fuzzing import check_message
from helpers.training import make_spec, make_tokens, train

from lora import files
from lora.data import formats
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
