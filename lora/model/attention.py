"""Attention over unpadded sequences, grouped by length across all runs of a pack.

The sequences of a group are padded to one of a few fixed widths, so that the bits of a sequence's
result depend on its own length alone. With dropout the formula is written out, because no fused
kernel accepts our hash-based masks.

Shapes: queries, keys and values are rows [M, E], one row per (sequence, head, position), group
after group. N sequences, H heads, L width of a group, E width of a head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lora.model.autograd import Context
from lora.model.dropout import column_keys, softmax_drop, softmax_drop_backward

# Padded widths: close enough together to waste little, few enough to keep groups large.
WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def widths_of(lengths: np.ndarray) -> np.ndarray:
    """Return the padded width of each sequence, for lengths from 1 to 512 tokens."""
    return np.array(WIDTHS)[np.searchsorted(WIDTHS, lengths)]


@dataclass(frozen=True)
class Group:
    """Sequences that are padded to the same width.

    Attributes:
        sequences: Number of sequences times number of heads.
        width: Padded width L.
        bias: Added to the scores, [sequences, 1, L]: 0 for a token, -inf for padding.
        parts: Index of each run's part in the batch, and its rows of [sequences].
    """

    sequences: int
    width: int
    bias: Tensor
    parts: tuple[tuple[int, slice], ...] = ()


class _DropoutContext(Context):
    groups: list[Group]
    dropout: float
    first_only: bool


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    groups: list[Group],
    row_keys: Tensor | None,
    dropout: float,
) -> Tensor:
    """Compute softmax(q k' / sqrt E) v for every sequence and head.

    Args:
        query: Shape [M, E], or [N * H, E] where only first tokens have a query.
        key: Shape [M, E].
        value: Shape [M, E].
        groups: The groups, in the order of the rows.
        row_keys: Dropout keys of the M rows, int32 [M]; None in evaluation.
        dropout: Probability of dropping an attention weight, from 0 to below 1.

    Returns:
        The context vectors, in the shape of `query`.
    """
    first_only = len(query) != len(key)
    if row_keys is not None and dropout:
        return _DropoutAttention.apply(query, key, value, groups, row_keys, dropout, first_only)
    parts = zip(
        split(query, groups, first_only),
        split(key, groups),
        split(value, groups),
        groups,
        strict=True,
    )
    return torch.cat([_attend_plain(q, k, v, group.bias).flatten(0, 1) for q, k, v, group in parts])


def split(rows: Tensor, groups: list[Group], first_only: bool = False) -> list[Tensor]:
    """Return a view [N * H, L, ...] of each group's rows; L is 1 if only first tokens have rows."""
    sizes = [group.sequences * (1 if first_only else group.width) for group in groups]
    parts = zip(groups, rows.split(sizes), strict=True)
    return [part.view(group.sequences, -1, *rows.shape[1:]) for group, part in parts]


def attend_scores(scores: Tensor, value: Tensor, row_keys: Tensor | None, dropout: float) -> Tensor:
    """Compute softmax(scores) v for the sequences of one group.

    Args:
        scores: Shape [N * H, Q, L], with -inf for padding; Q is L, or 1 for first tokens.
        value: Shape [N * H, L, E].
        row_keys: Dropout keys of the rows, int32 [N * H, L]; None in evaluation.
        dropout: Probability of dropping an attention weight, from 0 to below 1.

    Returns:
        The context vectors, [N * H, Q, E].
    """
    if row_keys is None or not dropout:
        return torch.bmm(torch.softmax(scores, dim=-1), value)
    weights = _SoftmaxDrop.apply(scores, row_keys[:, : scores.shape[1]], dropout)
    return torch.bmm(weights, value)


def _attend_plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention of one group without dropout.

    The fused kernel is not used for a single query: on two CPU threads the bits of its rows depend
    on the number of rows.
    """
    if query.shape[1] > 1:
        return functional.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=bias[None]
        )[0]
    scores = torch.baddbmm(bias, query, key.mT, alpha=query.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, dim=-1), value)


class _SoftmaxDropContext(Context):
    dropout: float


class _SoftmaxDrop(torch.autograd.Function):
    """Softmax over the last axis, followed by dropout."""

    @staticmethod
    def forward(
        ctx: _SoftmaxDropContext, scores: Tensor, row_keys: Tensor, dropout: float
    ) -> Tensor:
        pair_keys = column_keys(scores.shape[-1], scores.device)
        weights, keep, dropped = softmax_drop(scores, row_keys, pair_keys, dropout)
        ctx.save_for_backward(weights, keep)
        ctx.dropout = dropout
        return dropped

    @staticmethod
    def backward(ctx: _SoftmaxDropContext, grad: Tensor) -> tuple[Tensor, None, None]:
        weights, keep = ctx.saved_tensors
        return softmax_drop_backward(grad, weights, keep, ctx.dropout), None, None


class _DropoutAttention(torch.autograd.Function):
    """Attention of all groups with dropout on the attention weights."""

    @staticmethod
    def forward(
        ctx: _DropoutContext,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: list[Group],
        row_keys: Tensor,
        dropout: float,
        first_only: bool,
    ) -> Tensor:
        context = torch.empty_like(query)
        kept: list[Tensor] = []
        queries, contexts = (split(rows, groups, first_only) for rows in (query, context))
        keys, values, group_keys = (split(rows, groups) for rows in (key, value, row_keys))
        for group, q, k, v, out, key_rows in zip(
            groups, queries, keys, values, contexts, group_keys, strict=True
        ):
            scores = torch.baddbmm(group.bias, q, k.mT, alpha=q.shape[-1] ** -0.5)
            pair_keys = column_keys(group.width, query.device)
            weights, keep, dropped = softmax_drop(
                scores, key_rows[:, : q.shape[1]], pair_keys, dropout
            )
            torch.bmm(dropped, v, out=out)
            kept += [weights, keep, dropped]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.groups, ctx.dropout, ctx.first_only = groups, dropout, first_only
        return context

    @staticmethod
    def backward(ctx: _DropoutContext, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        groups, first_only = ctx.groups, ctx.first_only
        needs_query, needs_key, needs_value = ctx.needs_input_grad[:3]
        d_query = torch.empty_like(query) if needs_query else None
        d_key = torch.empty_like(key) if needs_key else None
        d_value = torch.empty_like(value) if needs_value else None
        grads, queries = (split(rows, groups, first_only) for rows in (grad.contiguous(), query))
        keys, values = (split(rows, groups) for rows in (key, value))
        # Views of the gradients, written group by group.
        to_query = [] if d_query is None else split(d_query, groups, first_only)
        to_key = [] if d_key is None else split(d_key, groups)
        to_value = [] if d_value is None else split(d_value, groups)
        for index, (g, q, k, v) in enumerate(zip(grads, queries, keys, values, strict=True)):
            weights, keep, dropped = kept[3 * index : 3 * index + 3]
            scale = q.shape[-1] ** -0.5
            if to_value:
                torch.bmm(dropped.mT, g, out=to_value[index])
            if not to_query and not to_key:
                continue
            d_scores = softmax_drop_backward(torch.bmm(g, v.mT), weights, keep, ctx.dropout)
            if to_query:
                out = to_query[index]
                torch.baddbmm(out, d_scores, k, beta=0, alpha=scale, out=out)
            if to_key:
                out = to_key[index]
                torch.baddbmm(out, d_scores.mT, q, beta=0, alpha=scale, out=out)
        return d_query, d_key, d_value, None, None, None, None
