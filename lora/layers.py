"""The maths: LoRA deltas, heads and dropout for S runs at once over one frozen weight.

The runs of a pack lie one after another along the rows of one flat matrix; `segments` says which rows are whose. The
frozen product is computed once over all rows, each run's own delta on its rows only, so a run's numbers do not depend on
its neighbours. Dropout masks are a hash of (seed, step, example, position, site, feature) rather than the output of a
generator: whatever the pack, the micro-batch, the device or the moment of a resume, an element is kept or dropped alike,
there is no state to save, and it costs a tenth of `bernoulli_` on a CPU. Nothing here knows what a model or a file is.

Shape suffixes: T rows (tokens, or first tokens only), I input width, O output width, R rank, N examples, C classes.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, odd: spreads consecutive integers over 32 bits
SPREAD = 0x85EBCA77
SPREAD_INT32 = SPREAD - 2**32


class LoRA(nn.Module):
    """h = W0 x + (alpha/r) B A x for S runs: this module is the second term (paper Sec. 4.1, Eq. 3).

    `a[s]` is [r_s, I] and `b[s]` is [O, r_s]; a run with rank 0 is not adapted here and adds nothing. B starts at zero,
    so every delta starts at zero.
    """

    def __init__(self, in_width: int, out_width: int, ranks: list[int], scales: list[float], **tensor_kind):
        super().__init__()
        self.ranks, self.scales, self.out_width = list(ranks), list(scales), out_width
        self.a = nn.ParameterList(torch.zeros(rank, in_width, **tensor_kind) for rank in ranks)
        self.b = nn.ParameterList(torch.zeros(out_width, rank, **tensor_kind) for rank in ranks)

    def forward(self, x_TI: Tensor, segments: list[tuple[int, slice]]) -> Tensor:
        """The deltas [T, O] of x, each run's rows through its own pair; `segments` are (run, rows), in row order."""
        return torch.cat([self.delta(run, x_TI[rows]) for run, rows in segments])

    def delta(self, run: int, x_TI: Tensor) -> Tensor:
        if self.ranks[run] == 0:
            return x_TI.new_zeros(len(x_TI), self.out_width)
        return (x_TI @ self.a[run].T * self.scales[run]) @ self.b[run].T

    def weight_delta(self, run: int) -> Tensor:
        """(alpha/r) B A of one run, [O, I]: what merging adds to W0."""
        return self.scales[run] * (self.b[run] @ self.a[run])


class Head(nn.Module):
    """Classification head of one run: tanh of a dense layer over the first token, then logits [N, C].

    RoBERTa's head and BERT's pooler + classifier are the same but for `input_dropout`: RoBERTa drops before the dense
    layer too (transformers RobertaClassificationHead).
    """

    def __init__(self, width: int, num_labels: int, dropout: float, input_dropout: bool, **tensor_kind):
        super().__init__()
        self.dense = nn.Linear(width, width, **tensor_kind)
        self.out = nn.Linear(width, num_labels, **tensor_kind)
        self.dropout, self.input_dropout = dropout, input_dropout

    def forward(self, x_NI: Tensor, keys_N: Tensor | None, site: int) -> Tensor:
        if self.input_dropout:
            x_NI = drop(x_NI, self.dropout, keys_N, site)
        hidden = torch.tanh(self.dense(x_NI))
        return self.out(drop(hidden, self.dropout, keys_N, site + 1))


def mix(x):
    """A 32-bit integer hash, in place on an int32 tensor: after it every output bit depends on every input bit.

    Constants and shifts: Hash Function Prospector's `lowbias32` (Wellons 2018). Shifts are arithmetic on int32, hence the
    masks.
    """
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


def token_keys(seed: int, step: int, examples: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A 32-bit key per token, int32 [T]: a function of the run's seed, its step, the example's place in the step and the
    token's place in the example, and of nothing else."""
    start = int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=4).digest(), "little")
    spread = examples.astype(np.uint32) * np.uint32(GOLDEN) + positions.astype(np.uint32) * np.uint32(SPREAD)
    return mix(torch.from_numpy((spread + np.uint32(start)).view(np.int32))).numpy()


def keep_mask(row_keys: Tensor, columns: int, dropout: float) -> Tensor:
    """Which elements stay, bool [..., columns]: each is dropped with probability `dropout` (to 1/65536).

    One hash serves two columns, 16 bits each, so element (row, column) is the same however many columns are asked for.
    """
    pairs = torch.arange(1, (columns + 1) // 2 + 1, dtype=torch.int32, device=row_keys.device)
    column_keys = mix(pairs * (GOLDEN - 2**32))
    bits = row_keys.unsqueeze(-1) ^ column_keys
    bits.mul_(GOLDEN - 2**32)
    bits.bitwise_xor_((bits >> 15) & 0x1FFFF).mul_(SPREAD - 2**32)
    bits.bitwise_xor_((bits >> 13) & 0x7FFFF)
    return (bits.view(torch.int16) >= round(dropout * 65536) - 32768)[..., :columns]


def drop(x: Tensor, dropout: float, row_keys: Tensor | None, site: int) -> Tensor:
    """Inverted dropout over the last axis. `row_keys` None is evaluation: x as it is. `site` tells places apart."""
    if row_keys is None or dropout == 0:
        return x
    keep = keep_mask(mix(row_keys ^ (site * GOLDEN & 0x7FFFFFFF)), x.shape[-1], dropout)
    return x * keep.to(x.dtype).mul_(1 / (1 - dropout))


def frozen(linear: nn.Linear, x_TI: Tensor) -> Tensor:
    """The frozen product, with row bits that do not depend on how many rows there are.

    Measured on CPU (torch 2.13, fp32 and bf16): a matrix product's rows are bitwise the same for any number of rows from
    6 per thread on, and not below. So few rows (the last layer's first tokens in a short step) are filled up with zeros.
    """
    missing = max(32, 8 * torch.get_num_threads()) - len(x_TI)
    if missing <= 0:
        return linear(x_TI)
    return linear(functional.pad(x_TI, (0, 0, 0, missing)))[: len(x_TI)]


class _Pad(torch.autograd.Function):
    """Rows to their places in a zero matrix. The places are distinct, so its gradient is a plain gather and exact."""

    @staticmethod
    def forward(ctx, x, places, size):
        ctx.save_for_backward(places)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, places, x)

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
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None


def pad(x: Tensor, places: Tensor, size: int) -> Tensor:
    """[T, ...] to [size, ...], zero where no row goes; `places` [T] are distinct."""
    return _Pad.apply(x, places, size)


def take(x: Tensor, places: Tensor) -> Tensor:
    """The rows of x at distinct `places`."""
    return _Take.apply(x, places)


def loss_sum(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Summed loss of one run's examples: squared error for one output, else cross entropy. Float32 or wider."""
    if logits_NC.shape[1] == 1:
        return functional.mse_loss(logits_NC[:, 0], labels_N.to(logits_NC.dtype), reduction="sum")
    return functional.cross_entropy(logits_NC, labels_N.long(), reduction="sum")
