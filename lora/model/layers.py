"""The maths: LoRA deltas, bottleneck adapters and heads for S runs at once over one frozen weight.

The runs of a pack lie one after another along the rows of one flat matrix; `segments` says which rows are whose. The
frozen product is computed once over all rows, each run's own delta on its rows only, so a run's numbers do not depend on
its neighbours. Nothing here knows what a model or a file is.

Shape suffixes: T rows (tokens, or first tokens only), I input width, O output width, R rank, N examples, C classes.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora.model.dropout import drop

BOTTLENECK_STD = 0.02  # of an adapter's first weights, up and down; biases start at zero (AdapterHub's init_weights "bert")


@dataclass(frozen=True)
class Segments:
    """Which rows are whose: `parts` are (run, its rows), one after another. For a GPU also where each ends, int32 [parts],
    and whose it is, int64 [parts]."""

    parts: list[tuple[int, slice]]
    ends: Tensor | None = None
    index: Tensor | None = None

    def __iter__(self):
        return iter(self.parts)


class LoRA(nn.Module):
    """h = W0 x + (alpha/r) B A x for S runs (paper Sec. 4.1, Eq. 3): the frozen product once, each run's delta on its rows.

    The pairs of all runs are two parameters, `a` [S, R, I] and `b` [S, R, O], which is B transposed. R is the largest rank,
    filled up to a multiple of 8 as a GPU's grouped product asks for; beyond its own rank r_s a run's rows are zero and stay
    so. A run with rank 0 is not adapted here. B starts at zero, so every delta starts at zero.
    """

    def __init__(
        self, in_width: int, out_width: int, ranks: list[int], scales: list[float], **tensor_kind
    ):
        super().__init__()
        self.ranks = list(ranks)
        most = -(-max(ranks) // 8) * 8
        self.a = nn.Parameter(torch.zeros(len(ranks), most, in_width, **tensor_kind))
        self.b = nn.Parameter(torch.zeros(len(ranks), most, out_width, **tensor_kind))
        self.register_buffer(
            "scale_S11", self.a.new_tensor(scales).view(-1, 1, 1), persistent=False
        )

    def pair(
        self, run: int, of: Callable[[nn.Parameter], Tensor] = Tensor.detach
    ) -> tuple[Tensor, Tensor]:
        """A [r, I] and B [O, r] of one run, as views; or what `of` makes of the parameters, such as their gradient."""
        a_RI, b_RO = (
            of(stack).select(0, run).narrow(0, 0, self.ranks[run]) for stack in (self.a, self.b)
        )
        return a_RI, b_RO.T

    def forward(
        self, linear: nn.Linear, x_TI: Tensor, dropped_TI: Tensor, segments: Segments
    ) -> Tensor:
        """h [T, O]. `dropped_TI` is x after LoRA's own dropout, or x itself."""
        return _Adapted.apply(
            x_TI, dropped_TI, linear.weight, linear.bias, self.a, self.b, self, segments
        )

    def weight_delta(self, run: int) -> Tensor:
        """(alpha/r) B A of one run, [O, I]: what merging adds to W0."""
        a_RI, b_OR = self.pair(run)
        return self.scale_S11[run] * (b_OR @ a_RI)


class _Adapted(torch.autograd.Function):
    """The formula of LoRA and its gradient: run by run, in place, or, where a GPU can, in one grouped product for all runs.

    Products are in the dtype of x (the frozen base's), A and B and their gradients in their own. With g the gradient of h,
    s = alpha/r and u = A x: dx = W0' g, plus A' (s B' g) from the delta; dA = (s B' g) x', dB' = s u g'.
    """

    @staticmethod
    def forward(ctx, x_TI, dropped_TI, weight_OI, bias_O, a_SRI, b_SRO, pairs, segments):
        h_TO = _product(x_TI, weight_OI.T, bias_O)
        a_SRI, b_SRO = a_SRI.to(x_TI.dtype), (b_SRO * pairs.scale_S11).to(x_TI.dtype)
        way = _Grouped if _Grouped.takes(x_TI) else _Looped
        inner = way.add_delta(h_TO, dropped_TI, a_SRI, b_SRO, segments, pairs.ranks)
        ctx.save_for_backward(dropped_TI, weight_OI, a_SRI, b_SRO, *inner)
        ctx.pairs, ctx.segments, ctx.way, ctx.same_input = pairs, segments, way, dropped_TI is x_TI
        return h_TO

    @staticmethod
    def backward(ctx, g_TO):
        dropped_TI, weight_OI, a_SRI, b_SRO, *inner = ctx.saved_tensors
        pairs, kinds, g_TO = ctx.pairs, ctx.needs_input_grad, g_TO.contiguous()
        dx_TI = _product(g_TO, weight_OI) if kinds[0] else None
        delta_TI = dx_TI if ctx.same_input else torch.zeros_like(dropped_TI) if kinds[1] else None
        da_SRI, db_SRO = ctx.way.gradients(
            g_TO, dropped_TI, a_SRI, b_SRO, inner, delta_TI, ctx.segments, pairs.ranks
        )
        kind = pairs.a.dtype
        return (dx_TI, None if ctx.same_input else delta_TI, None, None, da_SRI.to(kind),
                db_SRO.to(kind).mul_(pairs.scale_S11), None, None)  # fmt: skip


class _Looped:
    """Run by run at its own rank: its bits depend on nothing else."""

    @staticmethod
    def add_delta(h_TO, x_TI, a_SRI, b_SRO, segments, ranks) -> list[Tensor]:
        inner = []
        for run, rows in segments:
            if rank := ranks[run]:
                inner.append(x_TI[rows] @ a_SRI[run, :rank].T)
                h_TO[rows].addmm_(inner[-1], b_SRO[run, :rank])
        return inner

    @staticmethod
    def gradients(
        g_TO, x_TI, a_SRI, b_SRO, inner, delta_TI, segments, ranks
    ) -> tuple[Tensor, Tensor]:
        da_SRI, db_SRO = torch.zeros_like(a_SRI), torch.zeros_like(b_SRO)
        adapted = [(run, rows, ranks[run]) for run, rows in segments if ranks[run]]
        for (run, rows, rank), u_TR in zip(adapted, inner, strict=True):
            g_rows = g_TO[rows]
            gb_TR = g_rows @ b_SRO[run, :rank].T
            da_SRI[run, :rank].addmm_(gb_TR.T, x_TI[rows])
            db_SRO[run, :rank].addmm_(u_TR.T, g_rows)
            if delta_TI is not None:
                delta_TI[rows].addmm_(gb_TR, a_SRI[run, :rank])
        return da_SRI, db_SRO


@functools.cache
def _has_grouped_kernel(device: torch.device) -> bool:
    """Hopper and Blackwell: on others torch 2.13 goes through the groups one by one, and waits for the GPU to say where each
    ends (PyTorch #161407, #194227)."""
    return torch.cuda.get_device_capability(device)[0] in (9, 10)


class _Grouped:
    """All runs in one product each, at the largest rank: a handful of kernels whatever the number of runs."""

    @staticmethod
    def takes(x_TI: Tensor) -> bool:
        return x_TI.is_cuda and x_TI.dtype == torch.bfloat16 and _has_grouped_kernel(x_TI.device)

    @staticmethod
    def add_delta(h_TO, x_TI, a_SRI, b_SRO, segments, ranks) -> list[Tensor]:
        own_a, own_b = _of_parts(segments, a_SRI, b_SRO)
        u_TR = functional.grouped_mm(x_TI, own_a.mT, offs=segments.ends)
        h_TO += functional.grouped_mm(u_TR, own_b, offs=segments.ends)
        return [u_TR]

    @staticmethod
    def gradients(
        g_TO, x_TI, a_SRI, b_SRO, inner, delta_TI, segments, ranks
    ) -> tuple[Tensor, Tensor]:
        own_a, own_b = _of_parts(segments, a_SRI, b_SRO)
        gb_TR = functional.grouped_mm(g_TO, own_b.mT, offs=segments.ends)
        da = functional.grouped_mm(gb_TR.T, x_TI, offs=segments.ends)
        db = functional.grouped_mm(inner[0].T, g_TO, offs=segments.ends)
        if delta_TI is not None:
            delta_TI += functional.grouped_mm(gb_TR, own_a, offs=segments.ends)
        if own_a is a_SRI:
            return da, db
        whole = torch.zeros_like(a_SRI), torch.zeros_like(b_SRO)
        return tuple(
            each.index_add_(0, segments.index, part)
            for each, part in zip(whole, (da, db), strict=True)
        )


def _of_parts(segments: Segments, *stacks: Tensor) -> list[Tensor]:
    """Of each stack [S, ...] the rows of the parts, or the stack itself where the parts are those of all runs in order."""
    everyone = [run for run, _ in segments] == list(range(len(stacks[0])))
    return [stack if everyone else stack[segments.index] for stack in stacks]


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
        self.down = nn.ModuleList(
            nn.Linear(width, size, **tensor_kind) if size else nn.Identity() for size in sizes
        )
        self.up = nn.ModuleList(
            nn.Linear(size, width, **tensor_kind) if size else nn.Identity() for size in sizes
        )

    def of(self, run: int) -> dict[str, nn.Parameter]:
        """The parameters of one run by name."""
        if not self.sizes[run]:
            return {}
        return _named(down=self.down[run], up=self.up[run])

    def forward(self, read_TD: Tensor, sum_TD: Tensor, segments: Segments) -> Tensor:
        """`sum_TD` with f(read) of each run added on its rows, [T, D]."""
        act = functional.relu if self.reads_norm else functional.silu
        added = []
        for run, rows in segments:
            x_TD = sum_TD[rows]
            if self.sizes[run]:
                down, up = (
                    [value.to(x_TD.dtype) for value in side[run].parameters()]
                    for side in (self.down, self.up)
                )
                x_TD = x_TD + functional.linear(act(functional.linear(read_TD[rows], *down)), *up)
            added.append(x_TD)
        return torch.cat(added)


class Heads(nn.Module):
    """Classification heads of S runs: tanh of a dense layer over the first token, then logits [N_s, C_s].

    RoBERTa's head and BERT's pooler + classifier are the same but for `input_dropout`: RoBERTa drops before the dense
    layer too (transformers RobertaClassificationHead).
    """

    def __init__(
        self, width: int, num_labels: list[int], dropout: float, input_dropout: bool, **tensor_kind
    ):
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(width, width, **tensor_kind) for _ in num_labels)
        self.out = nn.ModuleList(nn.Linear(width, labels, **tensor_kind) for labels in num_labels)
        self.dropout, self.input_dropout = dropout, input_dropout

    def of(self, run: int) -> dict[str, nn.Parameter]:
        """The parameters of one run by name."""
        return _named(dense=self.dense[run], out=self.out[run])

    def forward(self, x_NI: Tensor, keys_2N: Tensor | None, segments: Segments) -> list[Tensor]:
        before, after = (None, None) if keys_2N is None else keys_2N
        if self.input_dropout:
            x_NI = drop(x_NI, self.dropout, before)
        hidden_NI = torch.cat([torch.tanh(self.dense[run](x_NI[rows])) for run, rows in segments])
        hidden_NI = drop(hidden_NI, self.dropout, after)
        return [self.out[run](hidden_NI[rows]) for run, rows in segments]


def _named(**modules: nn.Module) -> dict[str, nn.Parameter]:
    return {
        f"{side}.{name}": value
        for side, module in modules.items()
        for name, value in module.named_parameters()
    }


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


def loss_sum(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Summed loss of one run's examples: squared error for one output, else cross entropy. Float32 or wider."""
    if logits_NC.shape[1] == 1:
        return functional.mse_loss(logits_NC[:, 0], labels_N.to(logits_NC.dtype), reduction="sum")
    return functional.cross_entropy(logits_NC, labels_N.long(), reduction="sum")
