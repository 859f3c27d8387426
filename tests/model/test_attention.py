"""Attention over groups of sequences against torch's own attention on each sequence alone."""

import numpy as np
import pytest
import torch

from lora.model import attention, dropout

HEADS, E = 2, 4
LENGTHS = (3, 16, 20, 5)  # three of width 16, one of width 32


def case(first_only=False):
    """Return rows, groups, and the real (query, key) rows of each sequence and head."""
    torch.manual_seed(0)
    groups, real, at, query_at = [], [], 0, 0
    for width, lengths in ((16, (3, 16, 5)), (32, (20,))):
        bias = torch.zeros(len(lengths) * HEADS, 1, width, dtype=torch.float64)
        for number, length in enumerate(length for length in lengths for _ in range(HEADS)):
            bias[number, 0, length:] = -torch.inf
            queries = slice(query_at, query_at + 1) if first_only else slice(at, at + length)
            real.append((queries, slice(at, at + length)))
            at, query_at = at + width, query_at + 1
        groups.append(attention.Group(len(bias), width, bias))
    query = torch.randn(query_at if first_only else at, E, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(at, E, dtype=torch.float64, requires_grad=True) for _ in range(2))
    return query, key, value, groups, real


@pytest.mark.parametrize("first_only", [False, True])
def test_attention_of_each_sequence_equals_torchs(first_only):
    query, key, value, groups, real = case(first_only)
    for keys in (
        None,
        torch.zeros(len(key), dtype=torch.int32),
    ):  # the second with no dropout to do
        got = attention.attend(query, key, value, groups, keys, 0.0)
        for queries, rows in real:
            wanted = torch.softmax(query[queries] @ key[rows].T / E**0.5, -1) @ value[rows]
            assert torch.allclose(got[queries], wanted, atol=1e-14)


@pytest.mark.parametrize("first_only", [False, True])
def test_attention_with_dropout_equals_the_masked_formula(first_only):
    """Values and gradients against autograd through the formula, with the same masks."""
    query, key, value, groups, real = case(first_only)
    own = torch.randint(-(2**31), 2**31, (len(key),), dtype=torch.int32)
    got = attention.attend(query, key, value, groups, own, 0.3)
    weight = torch.randn(len(query), E, dtype=torch.float64)
    wanted = torch.zeros_like(got)
    for queries, rows in real:
        weights = torch.softmax(query[queries] @ key[rows].T / E**0.5, -1)
        asking = own[rows][: len(weights)]
        keep = dropout.keep_mask(
            asking,
            dropout.column_keys(len(key[rows]), own.device),
            len(key[rows]),
            0.3,
            torch.float64,
        )
        wanted[queries] = (weights * keep / 0.7) @ value[rows]
    of_real = torch.zeros(len(query), 1, dtype=torch.float64)
    for queries, _ in real:
        of_real[queries] = 1
    assert torch.allclose(got * of_real, wanted, atol=1e-14)
    inputs = query, key, value
    ours, plain = (
        torch.autograd.grad((out * weight * of_real).sum(), inputs) for out in (got, wanted)
    )
    for one, other in zip(ours, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-13)


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1)])
def test_frozen_inputs_get_no_gradient(frozen):
    query, key, value, groups, _ = case()
    inputs = [
        rows.detach().requires_grad_(index not in frozen)
        for index, rows in enumerate((query, key, value))
    ]
    own = torch.arange(len(key), dtype=torch.int32)
    attention.attend(*inputs, groups, own, 0.3).sum().backward()
    assert [rows.grad is None for rows in inputs] == [index in frozen for index in range(3)]


def test_dropout_keeps_the_mean():
    """Over many sequences of one width, attention over values of one gives 1 on average."""
    rows = 1600 * 16
    query, key = torch.randn(2, rows, E, dtype=torch.float64)
    groups = [attention.Group(1600, 16, torch.zeros(1600, 1, 16, dtype=torch.float64))]
    positions = np.repeat(np.arange(1600), 16), np.tile(np.arange(16), 1600)
    keys = dropout.mix(torch.from_numpy(dropout.token_numbers(0, 0, *positions)))
    left = attention.attend(query, key, torch.ones(rows, E, dtype=torch.float64), groups, keys, 0.3)
    assert abs(left.mean().item() - 1) < 0.01 and left.std() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("head_width", [32, 64])  # of MiniLM and of RoBERTa
def test_bits_of_a_sequence_do_not_depend_on_the_others(
    two_threads, dtype, first_only, rate, head_width
):
    """Of its values and gradients, at each padded width, from two heads on."""
    for width in attention.WIDTHS:
        sequences = max(12, 2048 // width)
        random = torch.Generator().manual_seed(width)
        key, value, grad = (
            torch.randn(sequences, width, head_width, generator=random).to(dtype) for _ in range(3)
        )
        queries = 1 if first_only else width
        query, grad = key.flip(0)[:, :queries].contiguous(), grad[:, :queries].contiguous()
        keys = dropout.mix(torch.arange(sequences * width, dtype=torch.int32))
        bias = torch.zeros(sequences, 1, width, dtype=dtype)
        bias[::3, :, width - 5 :] = -torch.inf

        def results(part, queries=queries, width=width, rows=(query, key, value), **of):
            flat = [one[part].flatten(0, 1).requires_grad_(rate > 0) for one in rows]
            group = attention.Group(part.stop - part.start, width, of["bias"][part])
            row_keys = of["keys"].view(-1, width)[part].flatten() if rate else None
            out = attention.attend(*flat, [group], row_keys, rate)
            if rate:
                out.backward(of["grad"][part].flatten(0, 1))
            found = [out.detach(), *(one.grad for one in flat if rate)]
            return [each.view(group.sequences, -1) for each in found]

        of = dict(bias=bias, keys=keys, grad=grad)
        together = results(slice(0, sequences), **of)
        for count in (2, 3, 7, 12):
            part = slice(sequences - count, sequences)
            for alone, expected in zip(results(part, **of), together, strict=True):
                assert torch.equal(alone, expected[part]), (width, count)
