"""Attention over sentences that are not padded: those of like length go together, whatever run they are of.

A group's sentences are filled up to one of a few fixed widths, so that a sentence's bits depend on its own length alone.
Queries, keys and values lie in rows (sentence, head, place), groups one after another: `gather` and `take` bring tokens'
rows there and back, and both passes read and write a group's rows in place. With dropout attention is spelled out, as no
fused kernel takes a mask of ours.

Shape suffixes: N sentences, H heads, L width of a group, E width of a head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lora.model.dropout import column_keys, softmax_drop, softmax_drop_backward

# Widths that attention is filled up to: fine enough to waste little, few enough to keep groups large.
WIDTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


def widths_of(lengths: np.ndarray) -> np.ndarray:
    """What attention fills sentences of these lengths up to."""
    return np.array(WIDTHS)[np.searchsorted(WIDTHS, lengths)]


@dataclass(frozen=True)
class Group:
    """The sentences of a pass that attend at one width: how many times how many heads, the width, and [N * H, 1, L] what is
    added to their scores, 0 where a key is real and -inf where it fills up."""

    sequences: int
    width: int
    bias: Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    groups: list[Group],
    row_keys: Tensor | None,
    dropout: float,
) -> Tensor:
    """softmax(q k' / sqrt E) v, [rows of query, E]; `key` and `value` are [rows, E].

    `query` has as many rows, or, where only first tokens ask, one a sentence and head. `row_keys` are the dropout keys of
    the rows of `key`, or None in evaluation.
    """
    first_only = len(query) != len(key)
    if row_keys is not None and dropout:
        return _Dropped.apply(query, key, value, groups, row_keys, dropout, first_only)
    parts = zip(
        _split(query, groups, first_only),
        _split(key, groups),
        _split(value, groups),
        groups,
        strict=True,
    )
    return torch.cat([_plain(q, k, v, group.bias).flatten(0, 1) for q, k, v, group in parts])


def _split(rows: Tensor, groups: list[Group], first_only: bool = False) -> list[Tensor]:
    """Rows as a view [N * H, L, ...] for each group; L is 1 where only first tokens have a row."""
    sizes = [group.sequences * (1 if first_only else group.width) for group in groups]
    parts = zip(groups, rows.split(sizes), strict=True)
    return [part.view(group.sequences, -1, *rows.shape[1:]) for group, part in parts]


def _plain(query, key, value, bias) -> Tensor:
    """Without dropout. The fused kernel, but for one query alone: there, on two CPU threads, a row's bits depend on the
    number of rows."""
    if query.shape[1] > 1:
        return functional.scaled_dot_product_attention(
            query[None], key[None], value[None], attn_mask=bias[None]
        )[0]
    scores = torch.baddbmm(bias, query, key.mT, alpha=query.shape[-1] ** -0.5)
    return torch.bmm(torch.softmax(scores, dim=-1), value)


class _Dropped(torch.autograd.Function):
    """All groups at once, with dropout on the attention weights."""

    @staticmethod
    def forward(ctx, query, key, value, groups, row_keys, dropout, first_only):
        context = torch.empty_like(query)
        kept = []
        queries, contexts = (_split(rows, groups, first_only) for rows in (query, context))
        keys, values, own = (_split(rows, groups) for rows in (key, value, row_keys))
        for group, q, k, v, out, dropping in zip(
            groups, queries, keys, values, contexts, own, strict=True
        ):
            scores = torch.baddbmm(group.bias, q, k.mT, alpha=q.shape[-1] ** -0.5)
            pair_keys = column_keys(group.width, query.device)
            weights, keep, left = softmax_drop(
                scores, dropping[:, : q.shape[1]], pair_keys, dropout
            )
            torch.bmm(left, v, out=out)
            kept += [weights, keep, left]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.groups, ctx.dropout, ctx.first_only = groups, dropout, first_only
        return context

    @staticmethod
    def backward(ctx, grad):
        query, key, value, *kept = ctx.saved_tensors
        groups, first_only = ctx.groups, ctx.first_only
        found = [
            torch.empty_like(rows) if ctx.needs_input_grad[at] else None
            for at, rows in enumerate((query, key, value))
        ]
        nothing = [None] * len(groups)
        grads, queries = (_split(rows, groups, first_only) for rows in (grad.contiguous(), query))
        keys, values = (_split(rows, groups) for rows in (key, value))
        to_q, to_k, to_v = (
            nothing if rows is None else _split(rows, groups, first_only and place == 0)
            for place, rows in enumerate(found)
        )
        for index, (g, q, k, v) in enumerate(zip(grads, queries, keys, values, strict=True)):
            weights, keep, left = kept[3 * index : 3 * index + 3]
            scale = q.shape[-1] ** -0.5
            if found[2] is not None:
                torch.bmm(left.mT, g, out=to_v[index])
            if found[0] is None and found[1] is None:
                continue
            to_scores = softmax_drop_backward(torch.bmm(g, v.mT), weights, keep, ctx.dropout)
            if found[0] is not None:
                torch.baddbmm(to_q[index], to_scores, k, beta=0, alpha=scale, out=to_q[index])
            if found[1] is not None:
                torch.baddbmm(to_k[index], to_scores.mT, q, beta=0, alpha=scale, out=to_k[index])
        return *found, None, None, None, None


class _Gather(torch.autograd.Function):
    """Rows x[source]; the gradient is read back at `back`, where each row of x went.

    Rows of the result that are not in `back` fill up; their gradient must be zero, and is not looked at.
    """

    @staticmethod
    def forward(ctx, x, source, back):
        ctx.save_for_backward(back)
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Take(torch.autograd.Function):
    """Rows picked at distinct places; the gradient puts them back, without the atomic adds of index_select's own."""

    @staticmethod
    def forward(ctx, x, places):
        ctx.save_for_backward(places)
        ctx.size = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, grad):
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(
            0, ctx.saved_tensors[0], grad
        ), None


def gather(x: Tensor, source: Tensor, back: Tensor) -> Tensor:
    """x[source] over rows, where every row of x is taken at its place in `back` [len(x)]; other places only fill up."""
    return _Gather.apply(x, source, back)


def take(x: Tensor, places: Tensor) -> Tensor:
    """The rows of x at distinct `places`."""
    return _Take.apply(x, places)
