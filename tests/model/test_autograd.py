"""Row indexing: values and gradients against torch's numerical gradient."""

import torch

from lora.model import autograd


def test_gradients_of_gather_and_take_are_each_other():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    source, back = (
        torch.tensor([0, 1, 0, 2, 4, 3]),
        torch.tensor([0, 1, 3, 5, 4]),
    )  # row 2 is padding
    assert torch.autograd.gradcheck(lambda value: autograd.take(value, torch.tensor([3, 0])), x)
    assert torch.autograd.gradcheck(
        lambda value: autograd.take(autograd.gather(value, source, back) ** 2, back), x
    )
    assert torch.equal(autograd.take(autograd.gather(x, source, back), back), x)
