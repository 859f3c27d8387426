"""Numbers of trained parameters against the paper's."""

import pytest
import torch
import transformers
from helpers.encoders import member

from lora.model import packed_model


@pytest.mark.parametrize(
    "layers, width, heads, wanted", [(12, 768, 12, 294_912), (24, 1024, 16, 786_432)]
)
def test_parameter_counts_are_the_papers(layers, width, heads, wanted):
    """RoBERTa-base, r=8 on q and v: 294,912 (0.3M in the paper); large: 786,432 (0.8M)."""
    config = transformers.RobertaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    with torch.device("meta"):
        base = transformers.RobertaModel(config, add_pooling_layer=False)
    model = packed_model.PackedModel(
        base, [member(0, "qv", 8, num_labels=2), member(0, "qv", 8, num_labels=3)], "meta"
    )
    assert [model.counts(run)["trainable"] for run in (0, 1)] == [wanted, wanted]
    if width == 768:
        assert [model.counts(run)["head"] for run in (0, 1)] == [592_130, 592_899]
        assert (
            model.counts(0)["frozen"] == 124_055_040
        )  # RoBERTa-base without pooler and language-model head
