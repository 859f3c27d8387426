"""Runs that do not fit their model or tokens are refused before training, with every reason."""

import pytest
from helpers.training import make_spec, train

from lora.errors import ConfigError


def test_all_bad_settings_are_reported_before_training(bert_dir, tokens_dir, tmp_path):
    """A rank above the model's width, and more tokens than prepared and than the model allows."""
    spec = make_spec(tmp_path, 0, rank=33, max_tokens=64)
    with pytest.raises(ConfigError) as caught:
        train([spec], bert_dir, tokens_dir, tmp_path / "state")
    message = str(caught.value)
    assert "rank is 33; at most the model's width, 32" in message
    assert "the prepared tokens have 20" in message and "takes at most 40" in message
