"""One pass of real tokens through a frozen BERT or RoBERTa encoder, for all runs of a pack.

transformers brings the modules and their weights; this file is the order they are called in, over a flat matrix of
tokens with no padding. Only `attention` sees sentences. After the last layer only the first token of a sentence is read (by
the head), so the last layer's queries, output and feed-forward are computed for that token alone, which is exact.
transformers' own forward cannot be used for this: its `sdpa` and `eager` attention silently let packed sentences see each
other.

Shape suffixes: T tokens, D width, N examples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lora.model import attention, dropout, layers

SITES_PER_LAYER = (
    6  # dropout sites of tokens: attention output, feed-forward output, and the LoRA inputs q k v o
)


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
class Batch:
    """A forward pass: `segments` say which token rows are whose, `example_segments` which rows after the last layer.

    Attention's rows are (sentence, head, place), groups one after another: `source` is the row (token, head) that stands
    at each of them, `back` where each (token, head) stands, `order_N` the examples in that order. Dropout keys are one row a
    site: `keys` [sites, T], the last two the head's, and `attention_keys` [layers, rows of attention]; None in evaluation.
    """

    ids_T: Tensor
    types_T: Tensor
    positions_T: Tensor
    first_N: Tensor
    keys: Tensor | None
    attention_keys: Tensor | None
    segments: layers.Segments
    example_segments: layers.Segments
    groups: list[attention.Group]
    source: Tensor
    back: Tensor
    order_N: Tensor


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on the device. To a GPU it goes by way of pinned memory: otherwise the copy would wait for all
    that the GPU still has to do, and every step with it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _segments(parts: list[tuple[int, slice]], device: torch.device) -> layers.Segments:
    if device.type == "cpu":
        return layers.Segments(parts)
    ends, index = (
        np.array([rows.stop for _, rows in parts], np.int32),
        np.array([run for run, _ in parts], np.int64),
    )
    return layers.Segments(parts, on_device(ends, device), on_device(index, device))


def batch(parts: list[Part], config, dtype: torch.dtype, device: torch.device) -> Batch:
    """Lay the parts of all runs one after another; every part must hold at least one example."""
    lengths = np.concatenate([part.lengths for part in parts]).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    example = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(example)) - starts[example]
    segments, example_segments, keys = [], [], []
    row = example_row = 0
    for part in parts:
        tokens, examples = (
            slice(row, row + len(part.ids)),
            slice(example_row, example_row + len(part.lengths)),
        )
        segments.append((part.run, tokens))
        example_segments.append((part.run, examples))
        if part.seed is not None:
            places = example[tokens] - example_row + part.first_example
            keys.append(dropout.token_numbers(part.seed, part.step, places, position[tokens]))
        row, example_row = tokens.stop, examples.stop

    def tensor(array, kind=np.int64):
        return on_device(array.astype(kind, copy=False), device)

    heads = config.num_attention_heads
    width = attention.widths_of(lengths)
    order = np.argsort(width, kind="stable")
    begin = np.empty_like(starts)  # of an example's attention rows
    begin[order] = np.cumsum(heads * width[order]) - heads * width[order]
    back = begin[example][:, None] + np.arange(heads) * width[example][:, None] + position[:, None]
    groups, token_heads = [], []
    for value in np.unique(width):
        chosen = order[width[order] == value]
        real = np.arange(value) < lengths[chosen, None]
        token = starts[chosen, None] + np.where(real, np.arange(value), 0)
        token_heads.append((token[:, None, :] * heads + np.arange(heads)[:, None]).ravel())
        bias = torch.zeros(real.shape, dtype=dtype, device=device).masked_fill_(
            tensor(~real, np.bool_), -torch.inf
        )
        groups.append(
            attention.Group(
                len(chosen) * heads, int(value), bias.repeat_interleave(heads, dim=0)[:, None, :]
            )
        )
    source = tensor(np.concatenate(token_heads))
    all_keys = attention_keys = None
    if keys:
        keys_T = dropout.mix(tensor(np.concatenate(keys), np.int32))
        all_keys = dropout.site_keys(keys_T, 1 + config.num_hidden_layers * SITES_PER_LAYER + 2)
        head = torch.arange(1, heads + 1, dtype=torch.int32, device=device) * dropout.SPREAD_INT32
        per_head = dropout.mix(keys_T[:, None] + head).view(-1)
        attention_keys = dropout.site_keys(per_head[source], config.num_hidden_layers)
    return Batch(
        ids_T=tensor(np.concatenate([part.ids for part in parts])),
        types_T=tensor(np.concatenate([part.types for part in parts])),
        positions_T=tensor(position),
        first_N=tensor(starts),
        keys=all_keys,
        attention_keys=attention_keys,
        segments=_segments(segments, device),
        example_segments=_segments(example_segments, device),
        groups=groups,
        source=source,
        back=tensor(back.ravel()),
        order_N=tensor(order),
    )


def encode(base: nn.Module, adapters: dict[str, layers.LoRA], bottlenecks: dict[str, layers.Bottleneck],
           lora_dropout: list[float], step: Batch) -> Tensor:  # fmt: skip
    """Hidden state of every example's first token after the last layer, [N, D].

    `base` is a transformers BertModel or RobertaModel; `adapters` maps "<layer>.<letter>" to its LoRA pairs,
    `bottlenecks` "<layer>.<sublayer>" to its adapters.
    """
    config = base.config
    # RoBERTa counts positions from padding_idx + 1 (fairseq's convention), BERT from 0.
    offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    x_TD = base.embeddings(
        input_ids=step.ids_T[None],
        token_type_ids=step.types_T[None],
        position_ids=step.positions_T[None] + offset,
    )[0]
    x_TD = dropout.drop(
        x_TD, config.hidden_dropout_prob, None if step.keys is None else step.keys[0]
    )
    last = len(base.encoder.layer) - 1
    for index, layer in enumerate(base.encoder.layer):
        x_TD = _layer(
            layer,
            index,
            config,
            adapters,
            bottlenecks,
            lora_dropout,
            x_TD,
            step,
            first_only=index == last,
        )
    return x_TD


def _layer(
    layer, index, config, adapters, bottlenecks, lora_dropout, x_TD, step, first_only
) -> Tensor:
    site = 1 + index * SITES_PER_LAYER
    segments = step.segments
    keys = None if step.keys is None else step.keys[site : site + SITES_PER_LAYER]
    modules = layer.attention

    def project(
        letter: str, linear: nn.Linear, x: Tensor, segments: layers.Segments, keys: Tensor | None
    ) -> Tensor:
        adapter = adapters.get(f"{index}.{letter}")
        if adapter is None:
            return layers.linear(linear, x)
        dropped = x
        if keys is not None and any(lora_dropout):
            own = keys[2 + "qkvo".index(letter)]
            dropped = torch.cat(
                [dropout.drop(x[rows], lora_dropout[run], own[rows]) for run, rows in segments]
            )
        return adapter(linear, x, dropped, segments)

    key_TD = project("k", modules.self.key, x_TD, segments, keys)
    value_TD = project("v", modules.self.value, x_TD, segments, keys)
    if first_only:
        x_TD = attention.take(x_TD, step.first_N)
        segments = step.example_segments
        keys = None if keys is None else keys[:, step.first_N]
    query_TD = project("q", modules.self.query, x_TD, segments, keys)
    context_TD = _attention(config, query_TD, key_TD, value_TD, step, index, first_only)
    out = project("o", modules.output.dense, context_TD, segments, keys)
    attended = _end(
        config,
        modules.output.LayerNorm,
        bottlenecks.get(f"{index}.attention"),
        out,
        keys,
        0,
        x_TD,
        segments,
    )
    inner = layer.intermediate.intermediate_act_fn(
        layers.linear(layer.intermediate.dense, attended)
    )
    out = layers.linear(layer.output.dense, inner)
    return _end(
        config,
        layer.output.LayerNorm,
        bottlenecks.get(f"{index}.ffn"),
        out,
        keys,
        1,
        attended,
        segments,
    )


def _end(config, norm, bottleneck, out_TD, keys, site, residual_TD, segments) -> Tensor:
    """The end of a sublayer: its output dropped out, added to its input and normed; an adapter's part added before."""
    key = None if keys is None else keys[site]
    if bottleneck is None:
        return dropout.drop_add_norm(out_TD, residual_TD, config.hidden_dropout_prob, key, norm)
    out_TD = dropout.drop(out_TD, config.hidden_dropout_prob, key)
    sum_TD = residual_TD + out_TD
    return norm(bottleneck(norm(sum_TD) if bottleneck.reads_norm else out_TD, sum_TD, segments))


def _attention(
    config, query_TD, key_TD, value_TD, step: Batch, layer: int, first_only: bool
) -> Tensor:
    """softmax(q k' / sqrt E) v: tokens' heads brought into attention's rows and back."""
    heads = config.num_attention_heads
    width = key_TD.shape[1] // heads

    def laid_out(x):
        return attention.gather(x.view(-1, width), step.source, step.back)

    own = None if step.attention_keys is None else step.attention_keys[layer]
    if first_only:
        by_example = step.order_N, torch.argsort(step.order_N)
        query = attention.gather(query_TD, *by_example).view(-1, width)
    else:
        query = laid_out(query_TD)
    rate = config.attention_probs_dropout_prob
    context = attention.attend(query, laid_out(key_TD), laid_out(value_TD), step.groups, own, rate)
    if first_only:
        return attention.gather(context.view(-1, heads * width), *by_example[::-1])
    return attention.take(context, step.back).view(-1, heads * width)
