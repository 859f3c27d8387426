"""Attention scores from relative positions, as DeBERTa-v2 and v3 have them (He et al. 2021).

The score of query i and key j is q_i k_j, and up to two terms more: q_i K[b] (c2p, content to
position) and k_j Q[b] (p2c, position to content). Each is divided by sqrt(E * number of terms).
K and Q are projections of one table of embeddings, and b is the row of distance i - j: near
distances have rows of their own, far ones share rows in logarithmic buckets.

A score depends on positions by i - j alone. So the products are computed once for each distance,
[queries or keys, distances], and each row is then shifted by its own position. The shift is a view.

Shape suffixes: N sequences, H heads, L width of a group of sequences, Q queries of a sequence (L,
or 1 for its first token), E width of a head, P distances (L + Q - 1), B rows of the table, D width.
"""

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from lora.model import attention
from lora.model.families.family import RelativePositions


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tables: Mapping[str, Tensor],
    relative: RelativePositions,
    heads: int,
    groups: list[attention.Group],
    row_keys: Tensor | None,
    dropout: float,
) -> Tensor:
    """Compute attention with the scores of relative positions, for every sequence and head.

    Args:
        query: Shape [M, E], or [N * H, E] where only first tokens have a query.
        key: Shape [M, E].
        value: Shape [M, E].
        tables: Projected tables of all runs by kind, [parts * B, D]: K of c2p and Q of p2c.
        relative: How the model scores relative positions.
        heads: Number of heads H.
        groups: The groups, in the order of the rows.
        row_keys: Dropout keys of the M rows, int32 [M]; None in evaluation.
        dropout: Probability of dropping an attention weight, from 0 to below 1.

    Returns:
        The context vectors, in the shape of `query`.
    """
    terms = 1 + len(relative.kinds)
    # transformers takes the root in float32, whatever the model's type is.
    scale = 1 / torch.tensor(query.shape[-1] * terms, dtype=torch.float32).sqrt().item()
    first_only = len(query) != len(key)
    queries = attention.split(query * scale, groups, first_only)
    keys, values = attention.split(key, groups), attention.split(value, groups)
    group_keys = [None] * len(groups) if row_keys is None else attention.split(row_keys, groups)
    scaled = {kind: table * scale if kind == "p2c" else table for kind, table in tables.items()}
    contexts = []
    for group, q, k, v, own_keys in zip(groups, queries, keys, values, group_keys, strict=True):
        of_positions = [
            scores(
                q[rows].unflatten(0, (-1, heads)),
                k[rows].unflatten(0, (-1, heads)),
                {
                    kind: table[part * relative.rows : (part + 1) * relative.rows]
                    for kind, table in scaled.items()
                },
                relative,
            ).flatten(0, 1)
            for part, rows in group.parts
        ]
        total = torch.baddbmm(torch.cat(of_positions), q, k.mT) + group.bias
        contexts.append(attention.attend_scores(total, v, own_keys, dropout).flatten(0, 1))
    return torch.cat(contexts)


@functools.cache
def table_rows(
    relative: RelativePositions, queries: int, width: int, device: torch.device
) -> Tensor:
    """Return the row of the table for each distance i - j, from Q - 1 down to 1 - L, int64 [P].

    transformers' own function computes the buckets: their borders depend on its rounding.
    """
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distance = torch.arange(queries - 1, -width, -1)
    if relative.buckets:
        distance = make_log_bucket_position(distance, relative.buckets, relative.max_distance)
    rows = (distance.long() + relative.side).clamp(0, relative.rows - 1)
    return rows.to(device)


def scores(
    query_NHQE: Tensor,
    key_NHLE: Tensor,
    tables: Mapping[str, Tensor],
    relative: RelativePositions,
) -> Tensor:
    """Return the sum of the c2p and p2c terms of one run's sequences in a group, [N, H, Q, L].

    Args:
        query_NHQE: Queries.
        key_NHLE: Keys.
        tables: Projected tables of the run by kind, [B, D].
        relative: How the model scores relative positions.
    """
    queries, width = query_NHQE.shape[2], key_NHLE.shape[2]
    rows = table_rows(relative, queries, width, query_NHQE.device)
    terms = []
    if "c2p" in tables:
        products = _products(query_NHQE, tables["c2p"].index_select(0, rows))
        terms.append(_shift(products, width))
    if "p2c" in tables:
        products = _products(key_NHLE, tables["p2c"].index_select(0, rows.flip(0)))
        terms.append(_shift(products, queries).mT)
    return sum(terms[1:], terms[0]).transpose(0, 1)


def _products(content_NHXE: Tensor, table_PD: Tensor) -> Tensor:
    """Return the products of contents and a table of positions, [H, N, X, P].

    One product for each head over the rows of all sequences.
    """
    sequences, heads, length, width = content_NHXE.shape
    flat = content_NHXE.transpose(0, 1).reshape(heads, sequences * length, width)
    table_HEP = table_PD.view(len(table_PD), heads, width).permute(1, 2, 0)
    return torch.bmm(flat, table_HEP).view(heads, sequences, length, len(table_PD))


def _shift(products: Tensor, columns: int) -> Tensor:
    """Return column `x - 1 - i + j` of row i as element (i, j), [..., X, columns], as a view.

    Args:
        products: Shape [..., X, P], with P = X + columns - 1.
        columns: Columns of the result.
    """
    length, distances = products.shape[-2:]
    if length == 1:
        return products
    flat = products.flatten(-2)[..., length - 1 : length * distances - 1]
    return flat.unflatten(-1, (length, distances - 1))[..., :columns]
