"""Dropout whose masks are a hash of (seed, step, example, position, site, feature), and what is computed together with it.

A generator's masks depend on what else is in the pass; a hash's do not: whatever the pack, the micro-batch, the device or
the moment of a resume, an element is kept or dropped alike. There is no state to save, and it costs a tenth of `bernoulli_`
on a CPU. What follows or precedes dropout at the end of a sublayer and in attention is a function of tensors here, forward
and backward, so that a GPU can run each as one kernel (`fusion`).

Shape suffixes: T rows (tokens, or first tokens only), D width.
"""

import functools
import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from lora.model.compiled import fused

GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, odd: spreads consecutive integers over 32 bits
SPREAD = 0x85EBCA77
GOLDEN_INT32, SPREAD_INT32 = GOLDEN - 2**32, SPREAD - 2**32


def mix(x):
    """A 32-bit integer hash, in place on an int32 tensor: after it every output bit depends on every input bit.

    Constants and shifts: Hash Function Prospector's `lowbias32` (Wellons 2018). Shifts are arithmetic on int32, hence the
    masks.
    """
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


def token_numbers(seed: int, step: int, examples: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A 32-bit number per token, int32 [T], which `mix` makes its key of: a function of the run's seed, its step, the
    example's place in the step and the token's place in the example, and of nothing else."""
    start = int.from_bytes(
        hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=4).digest(), "little"
    )
    spread = examples.astype(np.uint32) * np.uint32(GOLDEN) + positions.astype(
        np.uint32
    ) * np.uint32(SPREAD)
    return (spread + np.uint32(start)).view(np.int32)


def site_keys(row_keys: Tensor, sites: int) -> Tensor:
    """The keys of rows [T] at each of `sites` places where something is dropped, int32 [sites, T]."""
    number = torch.arange(sites, dtype=torch.int32, device=row_keys.device) * GOLDEN_INT32
    return mix(row_keys ^ number[:, None])


@functools.cache
def column_keys(columns: int, device: torch.device) -> Tensor:
    """The keys of pairs of columns, int32: what `keep_mask` needs for a row of `columns`."""
    return mix(
        torch.arange(1, (columns + 1) // 2 + 1, dtype=torch.int32, device=device) * GOLDEN_INT32
    )


def keep_mask(
    row_keys: Tensor, pair_keys: Tensor, columns: int, dropout: float, dtype: torch.dtype
) -> Tensor:
    """Which elements stay, 1 or 0, [..., columns]: each is dropped with probability `dropout` (to 1/65536).

    One hash serves two columns, 16 bits each, so element (row, column) is the same however many columns are asked for.
    """
    bits = row_keys.unsqueeze(-1) ^ pair_keys
    bits.mul_(GOLDEN_INT32)
    # Shifts are arithmetic: adding keeps the sign bit's chance at a half, where xor would always clear it.
    bits.add_(bits >> 15).mul_(SPREAD_INT32)
    bits.add_(bits >> 13)
    threshold = round(dropout * 65536) - 32768
    if torch.compiler.is_compiling():  # the same halves, in words that become one kernel
        halves = torch.stack(((bits << 16) >> 16, bits >> 16), dim=-1).flatten(-2)
        return (halves >= threshold)[..., :columns].to(dtype)
    halves = bits.view(torch.int16)
    # Comparing into a tensor of the dtype wanted takes a third of the time of comparing and converting.
    keep = torch.empty(halves.shape, dtype=dtype, device=row_keys.device)
    return torch.ge(halves, threshold, out=keep)[..., :columns]


class _Drop(torch.autograd.Function):
    """scale * keep * x. The scale is applied in float32 or wider."""

    @staticmethod
    def forward(ctx, x, keep, scale):
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx, grad):
        return (grad * ctx.saved_tensors[0]).mul_(ctx.scale), None, None


def drop(x: Tensor, dropout: float, row_keys: Tensor | None) -> Tensor:
    """Inverted dropout over the last axis. `row_keys` are those of this place (`site_keys`); None is evaluation: nothing is
    dropped."""
    if row_keys is None or dropout == 0:
        return x
    columns = x.shape[-1]
    keep = keep_mask(row_keys, column_keys(columns, x.device), columns, dropout, x.dtype)
    return _Drop.apply(x, keep, 1 / (1 - dropout))


@fused
def _norm_forward(
    x_TD, residual_TD, row_keys, pair_keys, weight_D, bias_D, dropout: float, eps: float
):
    width = x_TD.shape[-1]
    keep = keep_mask(row_keys, pair_keys, width, dropout, x_TD.dtype)
    sum_TD = torch.addcmul(residual_TD, x_TD, keep, value=1 / (1 - dropout))
    out, mean, rstd = torch.native_layer_norm(sum_TD, (width,), weight_D, bias_D, eps)
    return out, sum_TD, mean, rstd, keep


@fused
def _norm_backward(grad_TD, sum_TD, mean, rstd, keep, weight_D, bias_D, dropout: float):
    shape, wanted = sum_TD.shape[-1:], (True, False, False)
    to_sum = torch.ops.aten.native_layer_norm_backward(
        grad_TD, sum_TD, shape, mean, rstd, weight_D, bias_D, wanted
    )[0]
    return (to_sum * keep).mul_(1 / (1 - dropout)), to_sum


class _DropAddNorm(torch.autograd.Function):
    """LayerNorm(residual + scale * keep * x), of a norm that does not train."""

    @staticmethod
    def forward(ctx, x_TD, residual_TD, row_keys, weight_D, bias_D, dropout, eps):
        pair_keys = column_keys(x_TD.shape[-1], x_TD.device)
        out, *saved = _norm_forward(
            x_TD, residual_TD, row_keys, pair_keys, weight_D, bias_D, dropout, eps
        )
        ctx.save_for_backward(*saved, weight_D, bias_D)
        ctx.dropout = dropout
        return out

    @staticmethod
    def backward(ctx, grad_TD):
        to_x, to_residual = _norm_backward(grad_TD.contiguous(), *ctx.saved_tensors, ctx.dropout)
        return to_x, to_residual, None, None, None, None, None


def drop_add_norm(
    x_TD: Tensor, residual_TD: Tensor, dropout: float, row_keys: Tensor | None, norm: nn.LayerNorm
) -> Tensor:
    """The end of a sublayer: x dropped out, added to the residual, and normed."""
    if row_keys is None or dropout == 0 or norm.weight.requires_grad or norm.bias.requires_grad:
        return norm(residual_TD + drop(x_TD, dropout, row_keys))
    return _DropAddNorm.apply(
        x_TD, residual_TD, row_keys, norm.weight, norm.bias, dropout, norm.eps
    )


@fused
def softmax_drop(
    scores: Tensor, row_keys: Tensor, pair_keys: Tensor, dropout: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax over the last axis, which elements of it stay, and what is left of it, scaled."""
    weights = torch.softmax(scores, dim=-1)
    keep = keep_mask(row_keys, pair_keys, scores.shape[-1], dropout, scores.dtype)
    return weights, keep, (weights * keep).mul_(1 / (1 - dropout))


@fused
def softmax_drop_backward(grad: Tensor, weights: Tensor, keep: Tensor, dropout: float) -> Tensor:
    """The gradient of the scores, given that of what `softmax_drop` left."""
    grad = (grad * keep).mul_(1 / (1 - dropout))
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


def rehearse(width: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """What the fused functions give for some tensors, at sizes of all kinds that training has: for `fusion` to compare."""
    source, found = torch.Generator().manual_seed(0), []

    def random(*shape):
        return torch.randn(shape, generator=source).to(device, dtype)

    def keys(*shape):
        return torch.randint(-(2**31), 2**31, shape, generator=source, dtype=torch.int32).to(device)

    for rows in (48, 80, 112):
        norm = random(width), random(width)
        out = _norm_forward(
            random(rows, width),
            random(rows, width),
            keys(rows),
            column_keys(width, device),
            *norm,
            0.1,
            1e-5,
        )
        found += [*out, *_norm_backward(random(rows, width), *out[1:], *norm, 0.1)]
    for sequences, queries, length in (
        (24, 16, 16),
        (36, 48, 48),
        (12, 32, 32),
        (36, 1, 48),
        (24, 1, 16),
    ):
        own = keys(sequences, length)[:, :queries]
        out = softmax_drop(
            random(sequences, queries, length), own, column_keys(length, device), 0.1
        )
        found += [*out, softmax_drop_backward(random(sequences, queries, length), *out[:2], 0.1)]
    return found
