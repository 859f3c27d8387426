"""One pass of real tokens through a frozen BERT or RoBERTa encoder, for all runs of a pack.

transformers brings the modules and their weights; this file is the order they are called in, over a flat matrix of
tokens with no padding. Only attention sees sentences: each run's queries, keys and values are padded to that run's
longest sentence, never to a neighbour's. After the last layer only the first token of a sentence is read (by the head),
so the last layer's queries, output and feed-forward are computed for that token alone, which is exact. transformers' own
forward cannot be used for this: its `sdpa` and `eager` attention silently let packed sentences see each other.

Shape suffixes: T tokens, D width, N examples, H heads, L longest sentence of a run, E width of a head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lora import layers

SITES_PER_LAYER = 8  # dropout sites: attention, attention output, feed-forward output, and the LoRA inputs q k v o


@dataclass(frozen=True)
class Part:
    """One run's share of a forward pass: its examples' tokens one after another, as numpy arrays.

    `run` is its place in the pack (a finished run has no part in a pass). `seed` and `step` key the dropout masks, None
    for evaluation. `first_example` is the place of the first example in the optimiser step, so that a micro-batch drops
    what the whole step would.
    """

    run: int
    ids: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    seed: int | None = None
    step: int | None = None
    first_example: int = 0


@dataclass(frozen=True)
class Attend:
    """Where one run's tokens go in its padded attention, and which key places are real."""

    run: int
    tokens: slice
    examples: slice
    longest: int
    places_T: Tensor
    real_NL: Tensor


@dataclass(frozen=True)
class Batch:
    """A forward pass: `segments` are (run, its token rows), `example_segments` (run, its rows after the last layer)."""

    ids_T: Tensor
    types_T: Tensor
    positions_T: Tensor
    first_N: Tensor
    keys_T: Tensor | None
    attend: list[Attend]

    @property
    def segments(self) -> list[tuple[int, slice]]:
        return [(part.run, part.tokens) for part in self.attend]

    @property
    def example_segments(self) -> list[tuple[int, slice]]:
        return [(part.run, part.examples) for part in self.attend]


def batch(parts: list[Part], device) -> Batch:
    """Lay the parts of all runs one after another; every part must hold at least one example."""
    attend, positions, keys, first = [], [], [], []
    token_row = example_row = 0
    for part in parts:
        lengths = part.lengths.astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        example = np.repeat(np.arange(len(lengths)), lengths)
        position = np.arange(len(part.ids)) - starts[example]
        longest = int(lengths.max())
        attend.append(
            Attend(
                run=part.run,
                tokens=slice(token_row, token_row + len(part.ids)),
                examples=slice(example_row, example_row + len(lengths)),
                longest=longest,
                places_T=torch.from_numpy(example * longest + position).to(device),
                real_NL=torch.from_numpy(np.arange(longest) < lengths[:, None]).to(device),
            )
        )
        positions.append(position)
        first.append(starts + token_row)
        if part.seed is not None:
            keys.append(layers.token_keys(part.seed, part.step, example + part.first_example, position))
        token_row += len(part.ids)
        example_row += len(lengths)

    def tensor(arrays, dtype=np.int64):
        return torch.from_numpy(np.concatenate(arrays).astype(dtype, copy=False)).to(device)

    return Batch(
        ids_T=tensor([part.ids for part in parts]),
        types_T=tensor([part.types for part in parts]),
        positions_T=tensor(positions),
        first_N=tensor(first),
        keys_T=tensor(keys, np.int32) if keys else None,
        attend=attend,
    )


def encode(base: nn.Module, adapters: dict[str, layers.LoRA], lora_dropout: list[float], step: Batch) -> Tensor:
    """Hidden state of every example's first token after the last layer, [N, D].

    `base` is a transformers BertModel or RobertaModel; `adapters` maps "<layer>.<letter>" to its LoRA pairs.
    """
    config = base.config
    # RoBERTa counts positions from padding_idx + 1 (fairseq's convention), BERT from 0.
    offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    x_TD = base.embeddings(
        input_ids=step.ids_T[None], token_type_ids=step.types_T[None], position_ids=step.positions_T[None] + offset
    )[0]
    x_TD = layers.drop(x_TD, config.hidden_dropout_prob, step.keys_T, 0)
    last = len(base.encoder.layer) - 1
    for index, layer in enumerate(base.encoder.layer):
        x_TD = _layer(layer, index, config, adapters, lora_dropout, x_TD, step, first_only=index == last)
    return x_TD


def _layer(layer, index, config, adapters, lora_dropout, x_TD, step, first_only) -> Tensor:
    site = 1 + index * SITES_PER_LAYER
    segments, keys = step.segments, step.keys_T
    attention = layer.attention

    def project(letter: str, linear: nn.Linear, x: Tensor, segments: list, keys: Tensor | None) -> Tensor:
        adapter = adapters.get(f"{index}.{letter}")
        out = layers.frozen(linear, x)
        if adapter is None:
            return out
        if keys is not None and any(lora_dropout):
            dropped = site + 4 + "qkvo".index(letter)
            x = torch.cat([layers.drop(x[rows], lora_dropout[run], keys[rows], dropped) for run, rows in segments])
        return out + adapter(x, segments)

    key_TD = project("k", attention.self.key, x_TD, segments, keys)
    value_TD = project("v", attention.self.value, x_TD, segments, keys)
    if first_only:
        x_TD = layers.take(x_TD, step.first_N)
        segments = step.example_segments
        keys = None if keys is None else keys[step.first_N]
    query_TD = project("q", attention.self.query, x_TD, segments, keys)
    context = _attention(config, query_TD, key_TD, value_TD, step, keys, site, first_only)
    out = project("o", attention.output.dense, context, segments, keys)
    out = layers.drop(out, config.hidden_dropout_prob, keys, site + 1)
    x_TD = attention.output.LayerNorm(out + x_TD)
    inner = layer.intermediate.intermediate_act_fn(layers.frozen(layer.intermediate.dense, x_TD))
    out = layers.frozen(layer.output.dense, inner)
    out = layers.drop(out, config.hidden_dropout_prob, keys, site + 2)
    return layer.output.LayerNorm(out + x_TD)


def _attention(config, query_TD, key_TD, value_TD, step, keys, site, first_only) -> Tensor:
    """softmax(q k^T / sqrt(E)) v, sentence by sentence; each run padded to its own longest sentence."""
    heads = config.num_attention_heads
    dropout = config.attention_probs_dropout_prob if keys is not None else 0.0
    contexts = []
    for run in step.attend:
        shape_NLHE = (len(run.real_NL), run.longest, heads, key_TD.shape[1] // heads)

        def padded(x, run=run, shape=shape_NLHE):
            return layers.pad(x[run.tokens], run.places_T, shape[0] * shape[1]).view(shape).transpose(1, 2)

        key, value = padded(key_TD), padded(value_TD)
        if first_only:
            query = query_TD[run.examples].view(shape_NLHE[0], 1, heads, -1).transpose(1, 2)
            row_keys = None if keys is None else keys[run.examples].view(-1, 1)
        else:
            query = padded(query_TD)
            row_keys = None if keys is None else layers.pad(keys[run.tokens], run.places_T, run.real_NL.numel())
            row_keys = None if keys is None else row_keys.view(run.real_NL.shape)
        context = _attend(query, key, value, run.real_NL[:, None, None, :], dropout, row_keys, site)
        context = context.transpose(1, 2).reshape(-1, key_TD.shape[1])
        contexts.append(context if first_only else layers.take(context, run.places_T))
    return torch.cat(contexts)


def _attend(query, key, value, real, dropout, row_keys, site) -> Tensor:
    """[N, H, L, E] attention. With dropout it is spelled out, so that the mask is the run's own (and because the fused
    kernels take no mask of ours); without, the fused kernel."""
    if row_keys is None or dropout == 0:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=real)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = torch.softmax(scores.masked_fill_(~real, float("-inf")), dim=-1)
    heads = torch.arange(1, query.shape[1] + 1, dtype=torch.int32, device=query.device)
    keys_NHL = layers.mix(row_keys[:, None, :] + heads[:, None] * layers.SPREAD_INT32)
    return layers.drop(weights, dropout, keys_NHL, site) @ value
