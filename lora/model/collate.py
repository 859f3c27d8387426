"""Collate the sequences of several runs into one batch without padding.

All tokens are rows of one flat matrix, run after run. Only attention needs sequences: its rows are
(sequence, head, position), grouped by padded width, and two index tensors lead there and back.

Shape suffixes: T tokens, N examples, H heads, M rows of attention.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora.model import attention, dropout
from lora.model.architecture import Architecture
from lora.model.layers import Segments

# Dropout sites of a layer: attention output, feed-forward output, LoRA inputs of q, k, v and o.
SITES_PER_LAYER = 6


@dataclass(frozen=True)
class RunSequences:
    """The sequences of one run in a batch.

    Attributes:
        run: Index of the run in the pack. A run that has finished has no sequences in a batch.
        ids: Token ids of all sequences, one after another, [T].
        types: Token types (0 or 1), [T].
        lengths: Number of tokens of each sequence, [N].
        seed: The run's seed for dropout; None in evaluation.
        step: The run's optimizer step for dropout; None in evaluation.
        first_example: Index of the first sequence within the optimizer step. A micro-batch then
            drops what the whole step would drop.
    """

    run: int
    ids: np.ndarray
    types: np.ndarray
    lengths: np.ndarray
    seed: int | None = None
    step: int | None = None
    first_example: int = 0


@dataclass(frozen=True)
class PositionRows:
    """The table of relative positions, once for each run of a batch.

    Attributes:
        segments: Rows of each run's copy of the table.
        dropout_keys: Keys of the rows at each dropout site, int32 [sites, rows]; None in
            evaluation. They are the same in every micro-batch of a step.
    """

    segments: Segments
    dropout_keys: Tensor | None


@dataclass(frozen=True)
class SpacedRows:
    """Tokens with rows of zeros before and after each sequence, for a convolution.

    Attributes:
        count: Number of rows.
        place_T: Row of each token.
    """

    count: int
    place_T: Tensor


@dataclass(frozen=True)
class Batch:
    """Input of one forward pass, on the device.

    Attributes:
        ids_T: Token ids.
        types_T: Token types.
        positions_T: Position id of each token, as the base model counts them.
        first_N: Row of each sequence's first token.
        dropout_keys: Keys of the tokens at each dropout site, int32 [sites, T]; the last two are
            the head's, the one before them the convolution's, if any. None in evaluation.
        attention_keys: Keys of the rows of attention in each layer, int32 [layers, M]; None in
            evaluation.
        segments: Token rows of each run.
        example_segments: Example rows of each run.
        groups: Groups of sequences that attention pads to one width.
        to_attention: Index into (token, head) for each row of attention, [M].
        from_attention: Row of attention for each (token, head), [T * H].
        order_N: Examples in the order of attention's groups.
        positions: Tables of relative positions; None if the model has none.
        spaced: Tokens with space between sequences; None if the model has no convolution.
    """

    ids_T: Tensor
    types_T: Tensor
    positions_T: Tensor
    first_N: Tensor
    dropout_keys: Tensor | None
    attention_keys: Tensor | None
    segments: Segments
    example_segments: Segments
    groups: list[attention.Group]
    to_attention: Tensor
    from_attention: Tensor
    order_N: Tensor
    positions: PositionRows | None
    spaced: SpacedRows | None


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on the device.

    The copy to a GPU goes through pinned memory where torch has it: otherwise it would wait for all
    work that is queued on the GPU.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor
    if _can_pin(device.type):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@functools.cache
def _can_pin(device_type: str) -> bool:
    """Return whether torch has pinned memory for copies to this kind of device."""
    try:
        return torch.empty(1).pin_memory().is_pinned()
    except (RuntimeError, NotImplementedError):
        return False


def collate(
    parts: list[RunSequences],
    architecture: Architecture,
    dtype: torch.dtype,
    device: torch.device,
) -> Batch:
    """Lay out the sequences of all runs one after another.

    Args:
        parts: Sequences of each run; at least one sequence per run.
        architecture: Sizes of the base model.
        dtype: Type of the base model, for the attention bias.
        device: Device of the batch.
    """
    lengths = np.concatenate([part.lengths for part in parts]).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    example = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(example)) - starts[example]
    segments, example_segments, numbers = [], [], []
    row = example_row = 0
    for part in parts:
        tokens = slice(row, row + len(part.ids))
        examples = slice(example_row, example_row + len(part.lengths))
        segments.append((part.run, tokens))
        example_segments.append((part.run, examples))
        if part.seed is not None and part.step is not None:
            in_step = example[tokens] - example_row + part.first_example
            numbers.append(dropout.token_numbers(part.seed, part.step, in_step, position[tokens]))
        row, example_row = tokens.stop, examples.stop

    heads = architecture.heads
    width = attention.widths_of(lengths)
    order = np.argsort(width, kind="stable")
    begin = np.empty_like(starts)  # first row of attention of each example
    begin[order] = np.cumsum(heads * width[order]) - heads * width[order]
    back = begin[example][:, None] + np.arange(heads) * width[example][:, None] + position[:, None]
    part_N = np.repeat(np.arange(len(parts)), [len(part.lengths) for part in parts])
    groups, token_heads = _groups(lengths, starts, width, order, part_N, heads, dtype, device)
    to_attention = _int64(np.concatenate(token_heads), device)
    dropout_keys = attention_keys = None
    if numbers:
        keys_T = dropout.mix(
            on_device(np.concatenate(numbers).astype(np.int32, copy=False), device)
        )
        dropout_keys = dropout.site_keys(keys_T, _sites(architecture))
        head = torch.arange(1, heads + 1, dtype=torch.int32, device=device) * dropout.SPREAD_INT32
        per_head = dropout.mix(keys_T[:, None] + head).view(-1)
        attention_keys = dropout.site_keys(per_head[to_attention], architecture.layers)
    ids = np.concatenate([part.ids for part in parts])
    return Batch(
        ids_T=_int64(ids, device),
        types_T=_int64(np.concatenate([part.types for part in parts]), device),
        positions_T=_int64(_position_ids(architecture, ids, starts, example, position), device),
        first_N=_int64(starts, device),
        dropout_keys=dropout_keys,
        attention_keys=attention_keys,
        segments=_segments(segments, device),
        example_segments=_segments(example_segments, device),
        groups=groups,
        to_attention=to_attention,
        from_attention=_int64(back.ravel(), device),
        order_N=_int64(order, device),
        positions=_position_rows(parts, architecture, device),
        spaced=_spaced_rows(architecture, example, position, device),
    )


def _sites(architecture: Architecture) -> int:
    """Return the number of dropout sites: embeddings, layers, convolution, and two of the head."""
    has_convolution = architecture.convolution is not None
    return 1 + architecture.layers * SITES_PER_LAYER + has_convolution + 2


def _position_rows(
    parts: list[RunSequences], architecture: Architecture, device: torch.device
) -> PositionRows | None:
    if architecture.relative is None:
        return None
    rows, numbers = architecture.relative.rows, []
    for part in parts:
        if part.seed is not None and part.step is not None:
            example = np.full(rows, -1)  # no example has this number
            numbers.append(dropout.token_numbers(part.seed, part.step, example, np.arange(rows)))
    keys = None
    if numbers:
        keys = dropout.mix(on_device(np.concatenate(numbers), device))
        keys = dropout.site_keys(keys, _sites(architecture))
    slices = [
        (part.run, slice(index * rows, (index + 1) * rows)) for index, part in enumerate(parts)
    ]
    return PositionRows(_segments(slices, device), keys)


def _spaced_rows(
    architecture: Architecture, example: np.ndarray, position: np.ndarray, device: torch.device
) -> SpacedRows | None:
    if architecture.convolution is None:
        return None
    side = architecture.convolution.kernel // 2
    place = np.arange(len(position)) + (example + 1) * side
    return SpacedRows(int(place[-1]) + side + 1, _int64(place, device))


def _position_ids(
    architecture: Architecture,
    ids: np.ndarray,
    starts: np.ndarray,
    example: np.ndarray,
    position: np.ndarray,
) -> np.ndarray:
    """Return the position ids of transformers, [T].

    A family that counts from padding starts at pad_token_id + 1, and a padding token in the text
    has position pad_token_id (`create_position_ids_from_input_ids` of RoBERTa). Others count a
    sequence's tokens from 0.
    """
    if not architecture.family.counts_from_padding:
        return position
    pad = architecture.pad_token_id
    assert pad is not None  # checked by `config.read`
    counted = ids != pad
    count = np.cumsum(counted)
    before = count[starts] - counted[starts]
    return np.where(counted, count - before[example], 0) + pad


def _int64(array: np.ndarray, device: torch.device) -> Tensor:
    return on_device(array.astype(np.int64, copy=False), device)


def _segments(slices: list[tuple[int, slice]], device: torch.device) -> Segments:
    if device.type == "cpu":
        return Segments(slices)
    ends = np.array([rows.stop for _, rows in slices], np.int32)
    runs = np.array([run for run, _ in slices], np.int64)
    return Segments(slices, on_device(ends, device), on_device(runs, device))


def _groups(
    lengths: np.ndarray,
    starts: np.ndarray,
    width: np.ndarray,
    order: np.ndarray,
    part_N: np.ndarray,
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[list[attention.Group], list[np.ndarray]]:
    """Return attention's groups, and the (token, head) index of each row in each of them.

    Padding rows point to the first token of their sequence.
    """
    groups, token_heads = [], []
    for value in np.unique(width):
        chosen = order[width[order] == value]
        real = np.arange(value) < lengths[chosen, None]
        token = starts[chosen, None] + np.where(real, np.arange(value), 0)
        token_heads.append((token[:, None, :] * heads + np.arange(heads)[:, None]).ravel())
        padding = on_device((~real).astype(np.bool_, copy=False), device)
        bias = torch.zeros(real.shape, dtype=dtype, device=device)
        bias = bias.masked_fill_(padding, -torch.inf).repeat_interleave(heads, dim=0)
        present, first, counts = np.unique(part_N[chosen], return_index=True, return_counts=True)
        slices = tuple(
            (int(part), slice(int(start) * heads, int(start + count) * heads))
            for part, start, count in zip(present, first, counts, strict=True)
        )
        groups.append(attention.Group(len(chosen) * heads, int(value), bias[:, None, :], slices))
    return groups, token_heads
