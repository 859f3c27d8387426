"""Losses against torch."""

import torch

from lora.model import layers


def test_loss_sum_against_torch():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0.0])
    assert layers.loss_sum(logits, labels) == torch.nn.CrossEntropyLoss(reduction="sum")(
        logits, labels.long()
    )
    assert layers.loss_sum(logits[:, :1], labels) == ((logits[:, 0] - labels) ** 2).sum()
