"""Shared by the tests of adapters."""

import pytest
from helpers.encoders import saved_adapter


@pytest.fixture
def folder(bert_dir, tmp_path):
    """An adapter that peft saved."""
    return saved_adapter(tmp_path / "adapter", bert_dir)
