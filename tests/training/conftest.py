"""Valid inputs of `lora prepare` and `lora train`, and copies of them that a test may damage."""

import shutil
from pathlib import Path

import pytest
from helpers.commands import prepare_arguments
from helpers.models import make_glue, make_model, make_tokenizer

from lora.__main__ import main


@pytest.fixture(scope="module")
def valid_inputs(tmp_path_factory) -> Path:
    """A folder with model/, glue/ (SST-2, STS-B) and tokens/ (SST-2); tests must not change it."""
    folder = tmp_path_factory.mktemp("valid")
    make_tokenizer(make_model("bert", folder / "model"))
    make_glue(folder / "glue")
    assert main(prepare_arguments(folder, folder / "tokens")) == 0
    return folder


@pytest.fixture
def inputs(valid_inputs, tmp_path) -> Path:
    """A copy of `valid_inputs` that the test may change."""
    return Path(shutil.copytree(valid_inputs, tmp_path / "inputs"))
