"""Values of config.json that are refused, each by its key."""

import json

import pytest
import transformers

from lora.errors import ConfigError
from lora.model import config


def test_config_without_problems_is_returned_unchanged(tmp_path):
    content = {"model_type": "bert", "hidden_size": 12, "num_attention_heads": 3}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert config.read(tmp_path) == content


@pytest.mark.parametrize(
    "key, value",
    [
        ("hidden_size", 0),
        ("vocab_size", 3.5),
        ("hidden_dropout_prob", 1),
        ("layer_norm_eps", 0),
        ("is_decoder", True),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_values_that_are_not_supported_are_named(tmp_path, key, value):
    content = {"model_type": "roberta", "intermediate_size": -1, key: value}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError) as error:
        config.read(tmp_path)
    assert "intermediate_size is -1" in str(error.value) and f"{key} is" in str(error.value)


def test_width_is_a_multiple_of_heads(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 10, "num_attention_heads": 4}')
    with pytest.raises(ConfigError, match="a multiple of num_attention_heads, 4"):
        config.read(tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_defaults_are_those_of_transformers(family):
    theirs = transformers.AutoConfig.for_model(family).to_dict()
    defaults = config.with_defaults({"model_type": family})
    assert defaults == {key: theirs[key] for key in defaults}
    assert config.with_defaults({"model_type": family, "vocab_size": 9})["vocab_size"] == 9


@pytest.mark.parametrize("pad", [-2, 511, 512, 1.0, True, None, "1"])
def test_pad_ids_that_roberta_cannot_count_from_are_refused(tmp_path, pad):
    """BERT's positions do not depend on it."""
    for family in ("bert", "roberta"):
        content = {"model_type": family, "pad_token_id": pad}
        (tmp_path / "config.json").write_text(json.dumps(content))
        if family == "bert":
            assert config.read(tmp_path) == content
        else:
            with pytest.raises(
                ConfigError, match="pad_token_id is .*a whole number from -1 to 510"
            ):
                config.read(tmp_path)
