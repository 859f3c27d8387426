"""Dropout masks against Bernoulli draws, and functions that use them against torch's own."""

import numpy as np
import pytest
import torch
from scipy import stats

from lora.model import dropout


def token_keys(*where):
    return dropout.mix(torch.from_numpy(dropout.token_numbers(*where)))


def mask(row_keys, columns, rate, dtype):
    return dropout.keep_mask(
        row_keys, dropout.column_keys(columns, row_keys.device), columns, rate, dtype
    )


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_keep_mask_looks_like_independent_draws(rate):
    """Rates and pair correlations are those of independent Bernoulli draws."""
    rows, columns = 3000, 384
    keys = token_keys(3, 11, np.repeat(np.arange(100), 30), np.tile(np.arange(30), 100))
    keep = mask(keys, columns, rate, torch.float32).numpy()
    sigma = np.sqrt(rate * (1 - rate))
    assert abs(keep.mean() - (1 - rate)) < 5 * sigma / np.sqrt(keep.size)
    for axis in (0, 1):
        z = (keep.mean(axis) - (1 - rate)) / (sigma / np.sqrt(keep.shape[axis]))
        # Sums of independent draws: z^2 adds up to a chi-square.
        assert 1e-4 < stats.chi2(len(z)).cdf((z**2).sum()) < 1 - 1e-4
    centred = (keep - keep.mean()) / sigma
    for shift_rows, shift_columns in ((0, 1), (0, 2), (1, 0), (1, 1), (30, 0), (2, 3)):
        a = centred[: rows - shift_rows or None, : columns - shift_columns or None]
        b = centred[shift_rows:, shift_columns:]
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size), (shift_rows, shift_columns)


@pytest.mark.parametrize("columns", [2, 5, 16])
def test_few_columns_are_dropped_at_the_same_rate(columns):
    """Every column by itself, the first of a pair and the second."""
    keys = token_keys(1, 5, np.arange(60_000), np.zeros(60_000, int))
    rates = mask(keys, columns, 0.3, torch.float64).mean(0)
    assert (rates - 0.7).abs().max() < 5 * np.sqrt(0.21 / 60_000)


def test_masks_of_other_seeds_steps_and_sites_are_unrelated():
    where = (np.zeros(400, int), np.arange(400))
    base = token_keys(0, 0, *where)
    x = torch.ones(400, 64)
    first, *others = [dropout.drop(x, 0.5, keys) > 0 for keys in dropout.site_keys(base, 3)]
    for key in ((1, 0), (0, 1)):
        others.append(dropout.drop(x, 0.5, dropout.site_keys(token_keys(*key, *where), 1)[0]) > 0)
    for other in others:
        agree = (first == other).float().mean().item()
        assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(first.numel())


def test_mask_of_an_element_is_independent_of_other_elements():
    """The mask of a token depends neither on other tokens nor on the number of columns."""
    keys = token_keys(5, 2, np.arange(6), np.zeros(6, int))
    wide = mask(keys, 33, 0.3, torch.float32)
    assert torch.equal(wide[2:4, :20], mask(keys[2:4], 20, 0.3, torch.float32))


def test_drop_keeps_the_mean_and_is_identity_in_evaluation():
    x = torch.ones(2000, 100, dtype=torch.float64)
    keys = token_keys(1, 1, np.arange(2000), np.zeros(2000, int))
    assert abs(dropout.drop(x, 0.3, keys).mean().item() - 1) < 0.01
    assert dropout.drop(x, 0.3, None) is x
    assert dropout.drop(x, 0.0, keys) is x


def keys_of(*shape):
    return torch.randint(
        -(2**31), 2**31, shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )


def test_gradient_of_drop_is_the_mask():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout.drop(x, 0.3, keys_of(5)), x)


@pytest.mark.parametrize("rate", [0, 0.3])
def test_residual_dropout_and_layer_norm_equal_torchs(rate):
    """The value is that of the separate operations, the gradient the numerical one."""
    torch.manual_seed(0)
    x, residual = (torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    norm = torch.nn.LayerNorm(6, dtype=torch.float64).requires_grad_(False)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    wanted = norm(residual + dropout.drop(x, rate, keys_of(5)))
    assert torch.allclose(
        dropout.drop_add_norm(x, residual, rate, keys_of(5), norm), wanted, atol=1e-14
    )
    assert torch.equal(dropout.drop_add_norm(x, residual, rate, None, norm), norm(residual + x))
    assert torch.autograd.gradcheck(
        lambda *both: dropout.drop_add_norm(*both, rate, keys_of(5), norm), (x, residual)
    )


def test_a_trained_layer_norm_gets_its_gradient():
    norm = torch.nn.LayerNorm(6, dtype=torch.float64)
    x, residual = torch.randn(2, 5, 6, dtype=torch.float64)
    dropout.drop_add_norm(x, residual, 0.3, keys_of(5), norm).sum().backward()
    assert norm.weight.grad is not None and norm.bias.grad is not None
