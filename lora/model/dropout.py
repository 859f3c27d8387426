"""Dropout with masks that are a hash of (seed, step, example, position, site, feature).

The masks of a random generator depend on what else is in the batch; a hash does not. So an element
is kept or dropped alike in any pack or micro-batch, on any device and after a resume, and there is
no generator state to save. On a CPU it costs a tenth of `bernoulli_`. The operations beside dropout
(add and norm, softmax) are part of the same functions, so that a GPU can compile each into one
kernel (see `compiled`).

A *site* is a point of the network where dropout is applied, such as "output of the feed-forward
block of layer 3". Each site has its own keys.

Shape suffixes: T rows (tokens, or first tokens only), D width.
"""

import functools
import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from lora.model.autograd import Context
from lora.model.compiled import compilable

GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, odd: spreads consecutive integers over 32 bits
SPREAD = 0x85EBCA77
GOLDEN_INT32, SPREAD_INT32 = GOLDEN - 2**32, SPREAD - 2**32


def mix(x: Tensor) -> Tensor:
    """Hash an int32 tensor in place, so that every output bit depends on every input bit.

    Source: `lowbias32` of Hash Function Prospector (Wellons 2018). Shifts of int32 are arithmetic,
    hence the masks.
    """
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


def token_numbers(seed: int, step: int, examples: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return one 32-bit number per token; `mix` turns them into the tokens' dropout keys.

    Args:
        seed: Seed of the run.
        step: Optimizer step of the run.
        examples: Index of each token's example within the optimizer step, [T].
        positions: Position of each token within its example, [T].

    Returns:
        The numbers, int32 [T].
    """
    start = int.from_bytes(
        hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=4).digest(), "little"
    )
    by_example = examples.astype(np.uint32) * np.uint32(GOLDEN)
    by_position = positions.astype(np.uint32) * np.uint32(SPREAD)
    return (by_example + by_position + np.uint32(start)).view(np.int32)


def site_keys(row_keys: Tensor, sites: int) -> Tensor:
    """Return the keys of rows, int32 [T], at each of `sites` dropout sites, int32 [sites, T]."""
    number = torch.arange(sites, dtype=torch.int32, device=row_keys.device) * GOLDEN_INT32
    return mix(row_keys ^ number[:, None])


@functools.cache
def column_keys(columns: int, device: torch.device) -> Tensor:
    """Return the keys of the pairs of columns in a row, int32 [ceil(columns / 2)]."""
    number = torch.arange(1, (columns + 1) // 2 + 1, dtype=torch.int32, device=device)
    return mix(number * GOLDEN_INT32)


def keep_mask(
    row_keys: Tensor, pair_keys: Tensor, columns: int, dropout: float, dtype: torch.dtype
) -> Tensor:
    """Return a mask with 1 for elements that are kept and 0 for dropped ones.

    One hash serves two columns, 16 bits each. So element (row, column) does not depend on the
    number of columns.

    Args:
        row_keys: Keys of the rows, int32 [...].
        pair_keys: Keys of the pairs of columns, from `column_keys`.
        columns: Number of columns.
        dropout: Probability of dropping an element, from 0 to below 1, rounded to 1/65536.
        dtype: Type of the mask.

    Returns:
        The mask, [..., columns].
    """
    bits = row_keys.unsqueeze(-1) ^ pair_keys
    bits.mul_(GOLDEN_INT32)
    # Shifts are arithmetic: with xor the sign bit would always be cleared, so add.
    bits.add_(bits >> 15).mul_(SPREAD_INT32)
    bits.add_(bits >> 13)
    threshold = round(dropout * 65536) - 32768
    if torch.compiler.is_compiling():  # the same halves, in operations that become one kernel
        halves = torch.stack(((bits << 16) >> 16, bits >> 16), dim=-1).flatten(-2)
        return (halves >= threshold)[..., :columns].to(dtype)
    halves = bits.view(torch.int16)
    # Writing the comparison in the wanted dtype takes a third of the time of converting it.
    keep = torch.empty(halves.shape, dtype=dtype, device=row_keys.device)
    return torch.ge(halves, threshold, out=keep)[..., :columns]


class _DropContext(Context):
    scale: float


class _Drop(torch.autograd.Function):
    """scale * keep * x. The scale is applied in float32 or wider."""

    @staticmethod
    def forward(ctx: _DropContext, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale)

    @staticmethod
    def backward(ctx: _DropContext, grad: Tensor) -> tuple[Tensor, None, None]:
        return (grad * ctx.saved_tensors[0]).mul_(ctx.scale), None, None


def drop(x: Tensor, dropout: float, row_keys: Tensor | None) -> Tensor:
    """Apply inverted dropout.

    Args:
        x: Shape [T, D].
        dropout: Probability of dropping an element, from 0 to below 1.
        row_keys: Keys of the rows at this site, int32 [T], from `site_keys`; None in evaluation.

    Returns:
        The kept elements divided by (1 - dropout), [T, D]; x itself if nothing is dropped.
    """
    if row_keys is None or dropout == 0:
        return x
    columns = x.shape[-1]
    keep = keep_mask(row_keys, column_keys(columns, x.device), columns, dropout, x.dtype)
    return _Drop.apply(x, keep, 1 / (1 - dropout))


@compilable
def _norm_forward(
    x_TD: Tensor,
    residual_TD: Tensor,
    row_keys: Tensor,
    pair_keys: Tensor,
    weight_D: Tensor,
    bias_D: Tensor,
    dropout: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    width = x_TD.shape[-1]
    keep = keep_mask(row_keys, pair_keys, width, dropout, x_TD.dtype)
    sum_TD = torch.addcmul(residual_TD, x_TD, keep, value=1 / (1 - dropout))
    out, mean, rstd = torch.native_layer_norm(sum_TD, (width,), weight_D, bias_D, eps)
    return out, sum_TD, mean, rstd, keep


@compilable
def _norm_backward(
    grad_TD: Tensor,
    sum_TD: Tensor,
    mean: Tensor,
    rstd: Tensor,
    keep: Tensor,
    weight_D: Tensor,
    bias_D: Tensor,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    shape, outputs = sum_TD.shape[-1:], (True, False, False)
    d_sum = torch.ops.aten.native_layer_norm_backward(
        grad_TD, sum_TD, shape, mean, rstd, weight_D, bias_D, outputs
    )[0]
    return (d_sum * keep).mul_(1 / (1 - dropout)), d_sum


class _NormContext(Context):
    dropout: float


class _DropAddNorm(torch.autograd.Function):
    """LayerNorm(residual + scale * keep * x) with a frozen LayerNorm."""

    @staticmethod
    def forward(
        ctx: _NormContext,
        x_TD: Tensor,
        residual_TD: Tensor,
        row_keys: Tensor,
        weight_D: Tensor,
        bias_D: Tensor,
        dropout: float,
        eps: float,
    ) -> Tensor:
        pair_keys = column_keys(x_TD.shape[-1], x_TD.device)
        out, *saved = _norm_forward(
            x_TD, residual_TD, row_keys, pair_keys, weight_D, bias_D, dropout, eps
        )
        ctx.save_for_backward(*saved, weight_D, bias_D)
        ctx.dropout = dropout
        return out

    @staticmethod
    def backward(ctx: _NormContext, grad_TD: Tensor) -> tuple[Tensor | None, ...]:
        sum_TD, mean, rstd, keep, weight_D, bias_D = ctx.saved_tensors
        d_x, d_residual = _norm_backward(
            grad_TD.contiguous(), sum_TD, mean, rstd, keep, weight_D, bias_D, ctx.dropout
        )
        return d_x, d_residual, None, None, None, None, None


def drop_add_norm(
    x_TD: Tensor, residual_TD: Tensor, dropout: float, row_keys: Tensor | None, norm: nn.LayerNorm
) -> Tensor:
    """Compute the end of a sublayer, norm(residual + drop(x)).

    Args:
        x_TD: Output of the sublayer.
        residual_TD: Input of the sublayer.
        dropout: Probability of dropping an element, from 0 to below 1.
        row_keys: Keys of the rows at this site, int32 [T]; None in evaluation.
        norm: LayerNorm of width D.

    Returns:
        The normed sum, [T, D].
    """
    if row_keys is None or dropout == 0 or norm.weight.requires_grad or norm.bias.requires_grad:
        return norm(residual_TD + drop(x_TD, dropout, row_keys))
    return _DropAddNorm.apply(
        x_TD, residual_TD, row_keys, norm.weight, norm.bias, dropout, norm.eps
    )


@compilable
def softmax_drop(
    scores: Tensor, row_keys: Tensor, pair_keys: Tensor, dropout: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute softmax over the last axis, followed by dropout.

    Args:
        scores: Shape [..., L].
        row_keys: Keys of the rows, int32 [...].
        pair_keys: Keys of the pairs of columns, from `column_keys`.
        dropout: Probability of dropping an element, from 0 to below 1.

    Returns:
        The softmax, the mask of kept elements, and their scaled product, each [..., L].
    """
    weights = torch.softmax(scores, dim=-1)
    keep = keep_mask(row_keys, pair_keys, scores.shape[-1], dropout, scores.dtype)
    return weights, keep, (weights * keep).mul_(1 / (1 - dropout))


@compilable
def softmax_drop_backward(grad: Tensor, weights: Tensor, keep: Tensor, dropout: float) -> Tensor:
    """Return the gradient of `softmax_drop`'s scores, given that of its third result."""
    grad = (grad * keep).mul_(1 / (1 - dropout))
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


def sample_outputs(width: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return the outputs of every compilable function here for random inputs.

    The shapes cover the kinds that training has. `compiled.enable` compares the outputs with and
    without torch.compile.
    """
    generator, outputs = torch.Generator().manual_seed(0), []

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    def keys(*shape: int) -> Tensor:
        bits = torch.randint(-(2**31), 2**31, shape, generator=generator, dtype=torch.int32)
        return bits.to(device)

    for rows in (48, 80, 112):
        weight, bias = random(width), random(width)
        x, residual, row_keys = random(rows, width), random(rows, width), keys(rows)
        pair_keys = column_keys(width, device)
        out, total, mean, rstd, keep = _norm_forward(
            x, residual, row_keys, pair_keys, weight, bias, 0.1, 1e-5
        )
        grad = random(rows, width)
        outputs += [out, total, mean, rstd, keep]
        outputs += _norm_backward(grad, total, mean, rstd, keep, weight, bias, 0.1)
    for sequences, queries, length in (
        (24, 16, 16),
        (36, 48, 48),
        (12, 32, 32),
        (36, 1, 48),
        (24, 1, 16),
    ):
        row_keys = keys(sequences, length)[:, :queries]
        scores, pair_keys = random(sequences, queries, length), column_keys(length, device)
        weights, keep, dropped = softmax_drop(scores, row_keys, pair_keys, 0.1)
        outputs += [weights, keep, dropped]
        grad = random(sequences, queries, length)
        outputs.append(softmax_drop_backward(grad, weights, keep, 0.1))
    return outputs
