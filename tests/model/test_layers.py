"""Losses and frozen products against torch."""

import pytest
import torch

from lora.model import layers


def test_loss_sum_against_torch():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0.0])
    assert layers.loss_sum(logits, labels) == torch.nn.CrossEntropyLoss(reduction="sum")(
        logits, labels.long()
    )
    assert layers.loss_sum(logits[:, :1], labels) == ((logits[:, 0] - labels) ** 2).sum()


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_frozen_product_is_torchs_for_any_number_of_rows(rows):
    x, weight, bias = torch.randn(rows, 8), torch.randn(8, 6), torch.randn(6)
    assert torch.allclose(layers.frozen_product(x, weight, bias), x @ weight + bias, atol=1e-5)
    assert torch.allclose(layers.frozen_product(x, weight), x @ weight, atol=1e-5)
