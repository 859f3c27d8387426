"""The maths of layers: LoRA against peft, dropout masks against what a Bernoulli draw must look like."""

import numpy as np
import peft
import pytest
import torch
from scipy import stats

from lora import layers


def test_lora_matches_peft_forward_and_grad():
    """One run's delta and its gradients are those of peft's own LoRA layer, alpha != r."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(12, 9)).double()
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["0"], init_lora_weights=False, lora_dropout=0.0)
    theirs = peft.get_peft_model(base, config)
    pair = theirs.base_model.model[0]
    ours = layers.LoRA(12, 9, ranks=[3], scales=[7 / 3], dtype=torch.float64)
    with torch.no_grad():
        ours.a[0].copy_(pair.lora_A["default"].weight)
        ours.b[0].copy_(pair.lora_B["default"].weight)
    x = torch.randn(5, 12, dtype=torch.float64)
    wanted = theirs(x)
    got = ours(pair.base_layer, x, x, [(0, slice(0, 5))])
    assert (got - wanted).abs().max() < 1e-12
    wanted.pow(2).sum().backward()
    got.pow(2).sum().backward()
    for side, parameter in (("lora_A", ours.a[0]), ("lora_B", ours.b[0])):
        assert (parameter.grad - getattr(pair, side)["default"].weight.grad).abs().max() < 1e-11
    assert (ours.weight_delta(0) - pair.get_delta_weight("default")).abs().max() < 1e-12


def make_pair(*ranks, **kind):
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 6, **kind).requires_grad_(False)
    pair = layers.LoRA(4, 6, ranks=list(ranks), scales=[0.5 + run for run in range(len(ranks))], **kind)
    for value in pair.parameters():
        torch.nn.init.normal_(value)
    return linear, pair


def test_delta_is_zero_at_start_and_rank_zero_adds_nothing():
    linear, pair = make_pair(2, 0)
    torch.nn.init.zeros_(pair.b[0])
    x = torch.randn(7, 4)
    assert torch.equal(pair(linear, x, x, [(0, slice(0, 3)), (1, slice(3, 7))]), layers.linear(linear, x))


def test_segments_use_their_own_pair():
    """Rows of run 1 alone, with run 0 absent, get run 1's delta."""
    linear, pair = make_pair(2, 3)
    x = torch.randn(5, 4)
    wanted = linear(x) + 1.5 * x @ pair.a[1].T @ pair.b[1].T
    assert torch.allclose(pair(linear, x, x, [(1, slice(0, 5))]), wanted, atol=1e-6)


@pytest.mark.parametrize("own_input", [False, True])
def test_the_gradient_written_by_hand_is_the_gradient(own_input):
    """Two runs of other ranks, a third not adapted; with and without an input of LoRA's own (its dropout)."""
    linear, pair = make_pair(2, 3, 0, dtype=torch.float64)
    segments = [(1, slice(0, 4)), (0, slice(4, 6)), (2, slice(6, 9))]
    x, other = (torch.randn(9, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    inputs = [x, other, *pair.a[:2], *pair.b[:2]]

    def forward(x, other, *_):
        return pair(linear, x, other if own_input else x, segments)

    assert torch.autograd.gradcheck(forward, inputs if own_input else [x, x, *inputs[2:]])
    assert torch.autograd.gradcheck(lambda x: layers.linear(linear, x), x)


@pytest.mark.parametrize("dropout", [0.1, 0.3, 0.5])
def test_keep_mask_looks_like_independent_draws(dropout):
    """Rates overall, per row and per column, and pair correlations, are those of independent Bernoulli draws."""
    rows, columns = 3000, 384
    keys = layers.token_keys(3, 11, np.repeat(np.arange(100), 30), np.tile(np.arange(30), 100))
    keep = layers.keep_mask(torch.from_numpy(keys), columns, dropout, torch.float32).numpy()
    sigma = np.sqrt(dropout * (1 - dropout))
    assert abs(keep.mean() - (1 - dropout)) < 5 * sigma / np.sqrt(keep.size)
    for axis in (0, 1):
        z = (keep.mean(axis) - (1 - dropout)) / (sigma / np.sqrt(keep.shape[axis]))
        # Sums of independent draws spread as they should, neither more nor less: z^2 adds up to a chi-square.
        assert 1e-4 < stats.chi2(len(z)).cdf((z**2).sum()) < 1 - 1e-4
    centred = (keep - keep.mean()) / sigma
    for shift_rows, shift_columns in ((0, 1), (0, 2), (1, 0), (1, 1), (30, 0), (2, 3)):
        a = centred[: rows - shift_rows or None, : columns - shift_columns or None]
        b = centred[shift_rows:, shift_columns:]
        assert abs((a * b).mean()) < 5 / np.sqrt(a.size), (shift_rows, shift_columns)


@pytest.mark.parametrize("columns", [2, 5, 16])
def test_few_columns_are_dropped_at_the_same_rate(columns):
    """Every column by itself, the first of a pair and the second."""
    keys = torch.from_numpy(layers.token_keys(1, 5, np.arange(60_000), np.zeros(60_000, int)))
    rates = layers.keep_mask(keys, columns, 0.3, torch.float64).mean(0)
    assert (rates - 0.7).abs().max() < 5 * np.sqrt(0.21 / 60_000)


def test_masks_of_other_seeds_steps_and_sites_are_unrelated():
    where = (np.zeros(400, int), np.arange(400))
    base = torch.from_numpy(layers.token_keys(0, 0, *where))
    x = torch.ones(400, 64)
    first, *others = [layers.drop(x, 0.5, keys) > 0 for keys in layers.site_keys(base, 3)]
    for key in ((1, 0), (0, 1)):
        others.append(layers.drop(x, 0.5, layers.site_keys(torch.from_numpy(layers.token_keys(*key, *where)), 1)[0]) > 0)
    for other in others:
        agree = (first == other).float().mean().item()
        assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(first.numel())


def test_mask_of_an_element_does_not_depend_on_its_surroundings():
    """The same token keeps the same features whatever else is in the pass, and however many columns are asked for."""
    keys = torch.from_numpy(layers.token_keys(5, 2, np.arange(6), np.zeros(6, int)))
    wide = layers.keep_mask(keys, 33, 0.3, torch.float32)
    assert torch.equal(wide[2:4, :20], layers.keep_mask(keys[2:4], 20, 0.3, torch.float32))


def test_drop_keeps_the_mean_and_is_identity_in_evaluation():
    x = torch.ones(2000, 100, dtype=torch.float64)
    keys = torch.from_numpy(layers.token_keys(1, 1, np.arange(2000), np.zeros(2000, int)))
    assert abs(layers.drop(x, 0.3, keys).mean().item() - 1) < 0.01
    assert layers.drop(x, 0.3, None) is x
    assert layers.drop(x, 0.0, keys) is x
    residual = torch.randn_like(x)
    assert torch.equal(layers.drop(x, 0.3, keys, residual), residual + layers.drop(x, 0.3, keys))
    assert torch.equal(layers.drop(x, 0.3, None, residual), residual + x)


def test_the_gradient_of_drop():
    keys = torch.from_numpy(layers.token_keys(1, 1, np.arange(5), np.zeros(5, int)))
    x, residual = (torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x: layers.drop(x, 0.3, keys), x)
    assert torch.autograd.gradcheck(lambda *both: layers.drop(both[0], 0.3, keys, both[1]), (x, residual))


def test_gather_and_take_are_each_others_gradient():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    source, back = torch.tensor([0, 1, 0, 2, 4, 3]), torch.tensor([0, 1, 3, 5, 4])  # place 2 only fills up
    assert torch.autograd.gradcheck(lambda value: layers.take(value, torch.tensor([3, 0])), x)
    assert torch.autograd.gradcheck(lambda value: layers.take(layers.gather(value, source, back) ** 2, back), x)
    assert torch.equal(layers.take(layers.gather(x, source, back), back), x)


def test_loss_sum_against_torch():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0.0])
    assert layers.loss_sum(logits, labels) == torch.nn.CrossEntropyLoss(reduction="sum")(logits, labels.long())
    assert layers.loss_sum(logits[:, :1], labels) == ((logits[:, 0] - labels) ** 2).sum()
