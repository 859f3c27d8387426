"""The maths: LoRA deltas, heads and dropout for S runs at once over one frozen weight.

The runs of a pack lie one after another along the rows of one flat matrix; `segments` says which rows are whose. The
frozen product is computed once over all rows, each run's own delta on its rows only, so a run's numbers do not depend on
its neighbours. Dropout masks are a hash of (seed, step, example, position, site, feature) rather than the output of a
generator: whatever the pack, the micro-batch, the device or the moment of a resume, an element is kept or dropped alike,
there is no state to save, and it costs a tenth of `bernoulli_` on a CPU. Nothing here knows what a model or a file is.

Shape suffixes: T rows (tokens, or first tokens only), I input width, O output width, R rank, N examples, C classes.
"""

import functools
import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

GOLDEN = 0x9E3779B1  # 2^32 / golden ratio, odd: spreads consecutive integers over 32 bits
SPREAD = 0x85EBCA77
SPREAD_INT32 = SPREAD - 2**32
BOTTLENECK_STD = 0.02  # of an adapter's first weights, up and down; biases start at zero (AdapterHub's init_weights "bert")


class LoRA(nn.Module):
    """h = W0 x + (alpha/r) B A x for S runs (paper Sec. 4.1, Eq. 3): the frozen product once, each run's delta on its rows.

    `a[s]` is [r_s, I] and `b[s]` is [O, r_s]; a run with rank 0 is not adapted here. B starts at zero, so every delta
    starts at zero.
    """

    def __init__(self, in_width: int, out_width: int, ranks: list[int], scales: list[float], **tensor_kind):
        super().__init__()
        self.ranks, self.scales = list(ranks), list(scales)
        self.a = nn.ParameterList(torch.zeros(rank, in_width, **tensor_kind) for rank in ranks)
        self.b = nn.ParameterList(torch.zeros(out_width, rank, **tensor_kind) for rank in ranks)

    def forward(self, linear: nn.Linear, x_TI: Tensor, dropped_TI: Tensor, segments: list[tuple[int, slice]]) -> Tensor:
        """h [T, O]. `segments` are (run, its rows); `dropped_TI` is x after LoRA's own dropout, or x itself."""
        adapted = [(run, rows) for run, rows in segments if self.ranks[run]]
        pairs = [tensor for run, _ in adapted for tensor in (self.a[run], self.b[run])]
        where = [(rows, self.scales[run]) for run, rows in adapted]
        return _Adapted.apply(x_TI, dropped_TI, linear.weight, linear.bias, where, *pairs)

    def weight_delta(self, run: int) -> Tensor:
        """(alpha/r) B A of one run, [O, I]: what merging adds to W0."""
        return self.scales[run] * (self.b[run] @ self.a[run])


class _Adapted(torch.autograd.Function):
    """The formula of LoRA and its gradient, in place: no delta [T, O] is ever a tensor of its own.

    Products are in the dtype of x (the frozen base's), A and B and their gradients in their own. With g the gradient of h
    and s = alpha/r: dx = W0' g, plus s A' B' g from the delta; dA = s B' g x', dB = s g (A x)'.
    """

    @staticmethod
    def forward(ctx, x_TI, dropped_TI, weight_OI, bias_O, where, *pairs):
        h_TO = _product(x_TI, weight_OI.T, bias_O)
        pairs = [tensor.to(x_TI.dtype) for tensor in pairs]
        inner = []
        for (rows, scale), a_RI, b_OR in zip(where, pairs[::2], pairs[1::2], strict=True):
            u_TR = dropped_TI[rows] @ a_RI.T
            h_TO[rows].addmm_(u_TR, b_OR.T, alpha=scale)
            inner.append(u_TR)
        ctx.save_for_backward(dropped_TI, weight_OI, *pairs, *inner)
        ctx.where, ctx.same_input = where, dropped_TI is x_TI
        return h_TO

    @staticmethod
    def backward(ctx, g_TO):
        dropped_TI, weight_OI, *saved = ctx.saved_tensors
        count = len(ctx.where)
        pairs, inner, kinds = saved[: 2 * count], saved[2 * count :], ctx.needs_input_grad
        dx_TI = _product(g_TO, weight_OI) if kinds[0] else None
        delta_TI = dx_TI if ctx.same_input else torch.zeros_like(dropped_TI) if kinds[1] else None
        grads = []
        for (rows, scale), a_RI, b_OR, u_TR in zip(ctx.where, pairs[::2], pairs[1::2], inner, strict=True):
            gb_TR = (g_TO[rows] @ b_OR).mul_(scale)
            grads += [gb_TR.T @ dropped_TI[rows], (g_TO[rows].T @ u_TR).mul_(scale)]
            if delta_TI is not None:
                delta_TI[rows].addmm_(gb_TR, a_RI)
        return dx_TI, None if ctx.same_input else delta_TI, None, None, None, *grads


class Bottleneck(nn.Module):
    """Adapters of S runs after one sublayer: f(x) = W_up act(W_down x + b_down) + b_up, added ahead of its LayerNorm.

    Houlsby et al. (2019) read the sublayer's output h: LN(x + h + f(h)), act SiLU, after both sublayers. Pfeiffer et al.
    (2021) read the normed sum: LN(x + h + f(LN(x + h))), act ReLU, the same LayerNorm twice, after the feed-forward alone.
    Both as AdapterHub has them (adapters 1.3, DoubleSeqBnConfig and SeqBnConfig), which the tests hold them to; no LayerNorm
    trains. `down[s].weight` is [size, D]; a run with size 0 has no adapter here.
    """

    def __init__(self, width: int, sizes: list[int], method: str, **tensor_kind):
        super().__init__()
        self.reads_norm = method != "adapter_houlsby"
        self.sizes = list(sizes)
        self.down = nn.ModuleList(nn.Linear(width, size, **tensor_kind) if size else nn.Identity() for size in sizes)
        self.up = nn.ModuleList(nn.Linear(size, width, **tensor_kind) if size else nn.Identity() for size in sizes)

    def of(self, run: int) -> dict[str, nn.Parameter]:
        """The parameters of one run by name."""
        if not self.sizes[run]:
            return {}
        return {f"{side}.{name}": value for side, module in (("down", self.down[run]), ("up", self.up[run]))
                for name, value in module.named_parameters()}  # fmt: skip

    def forward(self, read_TD: Tensor, sum_TD: Tensor, segments: list[tuple[int, slice]]) -> Tensor:
        """`sum_TD` with f(read) of each run added on its rows, [T, D]."""
        act = functional.relu if self.reads_norm else functional.silu
        added = []
        for run, rows in segments:
            x_TD = sum_TD[rows]
            if self.sizes[run]:
                down, up = ([value.to(x_TD.dtype) for value in side[run].parameters()] for side in (self.down, self.up))
                x_TD = x_TD + functional.linear(act(functional.linear(read_TD[rows], *down)), *up)
            added.append(x_TD)
        return torch.cat(added)


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

    def forward(self, x_NI: Tensor, keys_2N: Tensor | None) -> Tensor:
        before, after = (None, None) if keys_2N is None else keys_2N
        if self.input_dropout:
            x_NI = drop(x_NI, self.dropout, before)
        hidden = torch.tanh(self.dense(x_NI))
        return self.out(drop(hidden, self.dropout, after))


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


def site_keys(row_keys: Tensor, sites: int) -> Tensor:
    """The keys of rows [T] at each of `sites` places where something is dropped, int32 [sites, T]."""
    number = torch.arange(sites, dtype=torch.int32, device=row_keys.device) * (GOLDEN - 2**32)
    return mix(row_keys ^ number[:, None])


@functools.cache
def _column_keys(pairs: int, device: torch.device) -> Tensor:
    return mix(torch.arange(1, pairs + 1, dtype=torch.int32, device=device) * (GOLDEN - 2**32))


def keep_mask(row_keys: Tensor, columns: int, dropout: float, dtype: torch.dtype) -> Tensor:
    """Which elements stay, 1 or 0, [..., columns]: each is dropped with probability `dropout` (to 1/65536).

    One hash serves two columns, 16 bits each, so element (row, column) is the same however many columns are asked for.
    """
    bits = row_keys.unsqueeze(-1) ^ _column_keys((columns + 1) // 2, row_keys.device)
    bits.mul_(GOLDEN - 2**32)
    # Shifts are arithmetic: adding keeps the sign bit's chance at a half, where xor would always clear it.
    bits.add_(bits >> 15).mul_(SPREAD - 2**32)
    bits.add_(bits >> 13)
    halves = bits.view(torch.int16)
    # Comparing into a tensor of the dtype wanted takes a third of the time of comparing and converting.
    keep = torch.empty(halves.shape, dtype=dtype, device=row_keys.device)
    return torch.ge(halves, round(dropout * 65536) - 32768, out=keep)[..., :columns]


class _Drop(torch.autograd.Function):
    """residual + scale * keep * x; without a residual, scale * keep * x. The scale is applied in float32 or wider."""

    @staticmethod
    def forward(ctx, x, keep, scale, residual):
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return (x * keep).mul_(scale) if residual is None else torch.addcmul(residual, x, keep, value=scale)

    @staticmethod
    def backward(ctx, grad):
        residual = grad if ctx.needs_input_grad[3] else None
        return (grad * ctx.saved_tensors[0]).mul_(ctx.scale), None, None, residual


def drop(x: Tensor, dropout: float, row_keys: Tensor | None, residual: Tensor | None = None) -> Tensor:
    """Inverted dropout over the last axis, added to `residual` where there is one.

    `row_keys` are those of this place (`site_keys`); None is evaluation: nothing is dropped.
    """
    if row_keys is None or dropout == 0:
        return x if residual is None else residual + x
    return _Drop.apply(x, keep_mask(row_keys, x.shape[-1], dropout, x.dtype), 1 / (1 - dropout), residual)


def _product(x_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x W + bias, with row bits that do not depend on how many rows there are.

    Measured on CPU (torch 2.13): the rows of a float32 matrix product are bitwise the same for any number of rows from 6
    per thread on, and not below. So few rows (the last layer's first tokens in a short step) are filled up with zeros.
    """
    rows = len(x_TI)
    missing = max(32, 8 * torch.get_num_threads()) - rows
    if missing > 0:
        x_TI = functional.pad(x_TI, (0, 0, 0, missing))
    out_TO = x_TI @ weight_IO if bias_O is None else torch.addmm(bias_O, x_TI, weight_IO)
    return out_TO[:rows]


class _Frozen(torch.autograd.Function):
    """A frozen linear layer: forward and gradient are both a `_product`."""

    @staticmethod
    def forward(ctx, x_TI, weight_OI, bias_O):
        ctx.save_for_backward(weight_OI)
        return _product(x_TI, weight_OI.T, bias_O)

    @staticmethod
    def backward(ctx, g_TO):
        return _product(g_TO, ctx.saved_tensors[0]), None, None


def linear(linear: nn.Linear, x_TI: Tensor) -> Tensor:
    """The base's product W0 x + bias, [T, O]; with gradients of its own where W0 or the bias train."""
    if linear.weight.requires_grad or linear.bias.requires_grad:
        return functional.linear(x_TI, linear.weight, linear.bias)
    return _Frozen.apply(x_TI, linear.weight, linear.bias)


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
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, ctx.saved_tensors[0], grad), None


def gather(x: Tensor, source: Tensor, back: Tensor) -> Tensor:
    """x[source] over rows, where every row of x is taken at its place in `back` [len(x)]; other places only fill up."""
    return _Gather.apply(x, source, back)


def take(x: Tensor, places: Tensor) -> Tensor:
    """The rows of x at distinct `places`."""
    return _Take.apply(x, places)


def loss_sum(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Summed loss of one run's examples: squared error for one output, else cross entropy. Float32 or wider."""
    if logits_NC.shape[1] == 1:
        return functional.mse_loss(logits_NC[:, 0], labels_N.to(logits_NC.dtype), reduction="sum")
    return functional.cross_entropy(logits_NC, labels_N.long(), reduction="sum")
