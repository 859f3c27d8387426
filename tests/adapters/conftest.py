"""Shared by the tests of adapters."""

import json
from pathlib import Path

import pytest
from helpers.encoders import saved_adapter
from helpers.models import make_glue, make_model, make_tokenizer

from lora.__main__ import main

OF_ANOTHER_TASK = {"0": "entailment", "1": "neutral", "2": "contradiction"}


@pytest.fixture
def folder(bert_dir, tmp_path):
    """An adapter that peft saved."""
    return saved_adapter(tmp_path / "adapter", bert_dir)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with model/, glue/, and sst2/ and stsb/: runs that `lora train` made of them.

    The config of the base model has the names of other classes.
    """
    folder = tmp_path_factory.mktemp("trained")
    make_tokenizer(make_model("bert", folder / "model"))
    config = json.loads((folder / "model/config.json").read_text())
    names = dict(id2label=OF_ANOTHER_TASK, label2id={v: int(k) for k, v in OF_ANOTHER_TASK.items()})
    (folder / "model/config.json").write_text(json.dumps(config | names))
    make_glue(folder / "glue")
    for task in ("sst2", "stsb"):
        given = ["train", "--task", task, "--weights", "qv", "--rank", "2", "--seed", "0"]
        given += ["--epochs", "2", "--max-tokens", "24", "--learning-rate", "0.02", "--device"]
        given += [
            "cpu",
            "--precision",
            "fp32",
            "--model-dir",
            folder / "model",
            "--data-dir",
            folder / "glue",
        ]
        given += ["--cache-dir", folder / "cache", "--output-dir", folder / task]
        assert main([str(part) for part in given]) == 0
    return folder
