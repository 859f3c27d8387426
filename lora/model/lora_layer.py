"""LoRA layers for S runs at once over one frozen weight.

The frozen product is computed once over all rows, and each run's own delta on its rows only. So the
numbers of a run do not depend on the other runs of its pack.

Shape suffixes: T rows (tokens, or first tokens only), S runs, I input width, O output width,
R rank; with S present, R is the padded rank that all runs share.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora.model.autograd import Context
from lora.model.frozen import frozen_product
from lora.model.layers import Segments


class LoRA(nn.Module):
    """h = W0 x + (alpha/r) B A x for S runs (paper Sec. 4.1, Eq. 3).

    The pairs of all runs are two parameters: `a` [S, R, I], and `b` [S, R, O], which is B
    transposed. R is the largest rank rounded up to a multiple of 8, as a GPU's grouped product
    requires. Rows beyond a run's own rank are zero and stay zero. B starts at zero, so every delta
    starts at zero.

    Args:
        in_width: Input width I.
        out_width: Output width O.
        ranks: Rank of each run; 0 for a run that does not adapt this layer.
        scales: alpha/r of each run.
        dtype: Type of the parameters.
    """

    scale_S11: Tensor

    def __init__(
        self,
        in_width: int,
        out_width: int,
        ranks: list[int],
        scales: list[float],
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.ranks = list(ranks)
        padded = -(-max(ranks) // 8) * 8
        self.a = nn.Parameter(torch.zeros(len(ranks), padded, in_width, dtype=dtype))
        self.b = nn.Parameter(torch.zeros(len(ranks), padded, out_width, dtype=dtype))
        self.register_buffer(
            "scale_S11", self.a.new_tensor(scales).view(-1, 1, 1), persistent=False
        )

    def pair(self, run: int) -> tuple[Tensor, Tensor]:
        """Return A [r, I] and B [O, r] of one run, as detached views of the parameters."""
        return self._views(run, self.a.detach(), self.b.detach())

    def pair_gradients(self, run: int) -> tuple[Tensor, Tensor]:
        """Return the gradients of A [r, I] and B [O, r] of one run, as views."""
        if self.a.grad is None or self.b.grad is None:
            raise RuntimeError("the gradients of a LoRA layer are not allocated")
        return self._views(run, self.a.grad, self.b.grad)

    def _views(self, run: int, a_SRI: Tensor, b_SRO: Tensor) -> tuple[Tensor, Tensor]:
        a_RI, b_RO = (
            stack.select(0, run).narrow(0, 0, self.ranks[run]) for stack in (a_SRI, b_SRO)
        )
        return a_RI, b_RO.T

    def forward(
        self, linear: nn.Linear, x_TI: Tensor, dropped_TI: Tensor, segments: Segments
    ) -> Tensor:
        """Return h.

        Args:
            linear: The frozen layer, W0 and its bias.
            x_TI: Input of the frozen layer.
            dropped_TI: x after LoRA dropout; x itself if there is none.
            segments: Rows of each run.

        Returns:
            h, [T, O].
        """
        return _LoRAFunction.apply(
            x_TI, dropped_TI, linear.weight, linear.bias, self.a, self.b, self, segments
        )

    def weight_delta(self, run: int) -> Tensor:
        """Return (alpha/r) B A of one run, [O, I]: what merging adds to W0."""
        a_RI, b_OR = self.pair(run)
        return self.scale_S11[run] * (b_OR @ a_RI)


class _LoRAContext(Context):
    lora: LoRA
    segments: Segments
    kernel: "type[_Looped] | type[_Grouped]"
    same_input: bool


class _LoRAFunction(torch.autograd.Function):
    """Forward and gradient of LoRA, by `_Grouped` where the GPU supports it, else by `_Looped`.

    Products are in the dtype of x (that of the frozen base), A, B and their gradients in their own
    dtype. With g the gradient of h, s = alpha/r and u = A x:
    dx = W0' g + A' (s B' g), dA = (s B' g) x', dB' = s u g'.
    """

    @staticmethod
    def forward(
        ctx: _LoRAContext,
        x_TI: Tensor,
        dropped_TI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor,
        a_SRI: Tensor,
        b_SRO: Tensor,
        lora: LoRA,
        segments: Segments,
    ) -> Tensor:
        h_TO = frozen_product(x_TI, weight_OI.T, bias_O)
        a_SRI, b_SRO = a_SRI.to(x_TI.dtype), (b_SRO * lora.scale_S11).to(x_TI.dtype)
        kernel: type[_Looped] | type[_Grouped] = _Grouped if _Grouped.supports(x_TI) else _Looped
        inner = kernel.add_delta(h_TO, dropped_TI, a_SRI, b_SRO, segments, lora.ranks)
        ctx.save_for_backward(dropped_TI, weight_OI, a_SRI, b_SRO, *inner)
        ctx.lora, ctx.segments, ctx.kernel = lora, segments, kernel
        ctx.same_input = dropped_TI is x_TI
        return h_TO

    @staticmethod
    def backward(ctx: _LoRAContext, g_TO: Tensor) -> tuple[Tensor | None, ...]:
        dropped_TI, weight_OI, a_SRI, b_SRO, *inner = ctx.saved_tensors
        lora, needs_x, needs_dropped = ctx.lora, *ctx.needs_input_grad[:2]
        g_TO = g_TO.contiguous()
        dx_TI = frozen_product(g_TO, weight_OI) if needs_x else None
        if ctx.same_input:
            delta_TI = dx_TI
        else:
            delta_TI = torch.zeros_like(dropped_TI) if needs_dropped else None
        da_SRI, db_SRO = ctx.kernel.gradients(
            g_TO, dropped_TI, a_SRI, b_SRO, inner, delta_TI, ctx.segments, lora.ranks
        )
        da_SRI = da_SRI.to(lora.a.dtype)
        db_SRO = db_SRO.to(lora.a.dtype).mul_(lora.scale_S11)
        d_dropped_TI = None if ctx.same_input else delta_TI
        return dx_TI, d_dropped_TI, None, None, da_SRI, db_SRO, None, None


class _Looped:
    """The deltas run by run, each at its own rank, so that their bits depend on nothing else."""

    @staticmethod
    def add_delta(
        h_TO: Tensor,
        x_TI: Tensor,
        a_SRI: Tensor,
        b_SRO: Tensor,
        segments: Segments,
        ranks: list[int],
    ) -> list[Tensor]:
        """Add s B A x to `h_TO` in place; return the products A x, for the gradient."""
        inner = []
        for run, rows in segments:
            if rank := ranks[run]:
                inner.append(x_TI[rows] @ a_SRI[run, :rank].T)
                h_TO[rows].addmm_(inner[-1], b_SRO[run, :rank])
        return inner

    @staticmethod
    def gradients(
        g_TO: Tensor,
        x_TI: Tensor,
        a_SRI: Tensor,
        b_SRO: Tensor,
        inner: list[Tensor],
        delta_TI: Tensor | None,
        segments: Segments,
        ranks: list[int],
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of x to `delta_TI` in place; return those of A and s B."""
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
    """Return whether the GPU has a kernel for grouped products: Hopper and Blackwell.

    On other GPUs torch 2.13 computes the groups one by one, and waits for the GPU to read where
    each ends (pytorch/pytorch #161407, #194227). An AMD MI300 also has capability 9.
    """
    nvidia = torch.version.hip is None
    return nvidia and torch.cuda.get_device_capability(device)[0] in (9, 10)


class _Grouped:
    """The deltas of all runs in one grouped product, at the largest rank.

    The number of kernels does not depend on the number of runs.
    """

    @staticmethod
    def supports(x_TI: Tensor) -> bool:
        return x_TI.is_cuda and x_TI.dtype == torch.bfloat16 and _has_grouped_kernel(x_TI.device)

    @staticmethod
    def add_delta(
        h_TO: Tensor,
        x_TI: Tensor,
        a_SRI: Tensor,
        b_SRO: Tensor,
        segments: Segments,
        ranks: list[int],
    ) -> list[Tensor]:
        own_a, own_b = _select_runs(segments, a_SRI, b_SRO)
        u_TR = functional.grouped_mm(x_TI, own_a.mT, offs=segments.ends)
        h_TO += functional.grouped_mm(u_TR, own_b, offs=segments.ends)
        return [u_TR]

    @staticmethod
    def gradients(
        g_TO: Tensor,
        x_TI: Tensor,
        a_SRI: Tensor,
        b_SRO: Tensor,
        inner: list[Tensor],
        delta_TI: Tensor | None,
        segments: Segments,
        ranks: list[int],
    ) -> tuple[Tensor, Tensor]:
        own_a, own_b = _select_runs(segments, a_SRI, b_SRO)
        gb_TR = functional.grouped_mm(g_TO, own_b.mT, offs=segments.ends)
        da = functional.grouped_mm(gb_TR.T, x_TI, offs=segments.ends)
        db = functional.grouped_mm(inner[0].T, g_TO, offs=segments.ends)
        if delta_TI is not None:
            delta_TI += functional.grouped_mm(gb_TR, own_a, offs=segments.ends)
        if own_a is a_SRI:
            return da, db
        return _scatter_runs(segments, a_SRI, da), _scatter_runs(segments, b_SRO, db)


def _select_runs(segments: Segments, *stacks: Tensor) -> list[Tensor]:
    """Return each stack [S, ...] with one row per slice; the stack itself if it has these rows."""
    if [run for run, _ in segments] == list(range(len(stacks[0]))):
        return list(stacks)
    assert segments.runs is not None
    return [stack[segments.runs] for stack in stacks]


def _scatter_runs(segments: Segments, stack: Tensor, rows: Tensor) -> Tensor:
    """Return zeros in the shape of `stack` [S, ...], with the row of each slice at its run."""
    assert segments.runs is not None
    return torch.zeros_like(stack).index_add_(0, segments.runs, rows)
