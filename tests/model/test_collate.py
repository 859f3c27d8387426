"""Index tensors of a batch: each token and head has a row of attention; padding is masked."""

import torch
from helpers.models import sentences

from lora.model import collate
from lora.model.architecture import Architecture


def test_token_rows_map_to_attention_rows_and_back():
    one = Architecture.of({"num_attention_heads": 2, "num_hidden_layers": 1})
    parts = [
        collate.RunSequences(run, *sentences(5, run, longest=40), seed=run, step=0)
        for run in (0, 1)
    ]
    batch = collate.collate(parts, one, torch.float32, torch.device("cpu"))
    tokens = sum(int(part.lengths.sum()) for part in parts)
    there_and_back = batch.to_attention[batch.from_attention]
    assert torch.equal(there_and_back, torch.arange(tokens * 2))
    bias = torch.cat([group.bias.expand(-1, group.width, -1).flatten() for group in batch.groups])
    assert set(bias.unique().tolist()) <= {0.0, -torch.inf}
    real = sum(int((group.bias == 0).sum()) for group in batch.groups)
    assert real == tokens * 2
    assert batch.dropout_keys is not None
    assert batch.dropout_keys.shape == (1 + collate.SITES_PER_LAYER + 2, tokens)
