"""Sizes of a config.json by names that every family shares, against transformers' attributes."""

import pytest
import transformers

from lora.model.architecture import Architecture


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "distilbert"])
def test_sizes_are_those_of_transformers(family):
    theirs = transformers.AutoConfig.for_model(family, hidden_size=24, num_attention_heads=3)
    one = Architecture.of(theirs.to_dict())
    assert (one.layers, one.width, one.heads) == (theirs.num_hidden_layers, 24, 3)
    assert (one.vocabulary, one.positions) == (theirs.vocab_size, theirs.max_position_embeddings)
    assert one.types == getattr(theirs, "type_vocab_size", 0)
    assert one.embedding_width == 24 and not one.projects_embeddings


def test_a_narrow_embedding_is_projected():
    theirs = transformers.ElectraConfig()
    one = Architecture.of({"model_type": "electra"})
    assert (one.embedding_width, one.width) == (theirs.embedding_size, theirs.hidden_size)
    assert one.projects_embeddings


def test_head_dropout_is_the_models_if_it_is_not_set():
    plain = {"model_type": "bert", "hidden_dropout_prob": 0.3}
    assert Architecture.of(plain).head_dropout == 0.3
    assert Architecture.of(plain | {"classifier_dropout": 0.0}).head_dropout == 0.0
    distilbert = {"model_type": "distilbert", "dropout": 0.3, "seq_classif_dropout": 0.4}
    assert Architecture.of(distilbert).head_dropout == 0.4
