"""Shared parts of autograd functions: their context type, and row indexing with a cheap gradient.

The gradient of torch's `index_select` adds atomically. The indices here are distinct, so the
gradient can be read or written directly instead.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


class Context(FunctionCtx):
    """Context of an autograd function, with the attributes that torch sets at run time."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]


class _TakeContext(Context):
    size: int


class _Gather(torch.autograd.Function):
    """`x[source]`; the gradient of row i of x is row `back[i]` of the result's gradient."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, source: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, source)

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


class _Take(torch.autograd.Function):
    """`x[index]`; the gradient is copied back, without atomic additions."""

    @staticmethod
    def forward(ctx: _TakeContext, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: _TakeContext, grad: Tensor) -> tuple[Tensor, None]:
        zeros = grad.new_zeros(ctx.size, *grad.shape[1:])
        return zeros.index_copy_(0, ctx.saved_tensors[0], grad), None


def gather(x: Tensor, source: Tensor, back: Tensor) -> Tensor:
    """Return `x[source]`, where every row of x is used once and other rows are padding.

    Args:
        x: Rows, shape [N, ...].
        source: Row of x for each row of the result, int64 [M], M >= N.
        back: Row of the result that holds each row of x, int64 [N]. Rows of the result that are
            not in `back` are padding; their gradient must be zero and is ignored.
    """
    return _Gather.apply(x, source, back)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return `x[index]`; the indices must be distinct."""
    return _Take.apply(x, index)
