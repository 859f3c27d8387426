"""Products with frozen weights, whose rows have the same bits next to any other rows.

A pack computes the rows of all its runs in one product, a run trained alone only its own. On a CPU
both must give a row the same bits, but libraries choose the order of a sum by the size of the
product. Measured with torch 2.13, for widths from 312 to 4096 and 1 and 2 threads:

- float32 with MKL: on AMD the bits depend on the number of rows below 6 rows a thread, and on Intel
  up to 600 rows. On Intel, MKL_CBWR=AUTO,STRICT prevents that and costs no time.
- bfloat16 with oneDNN: the bits do not depend on it on CPUs with AVX512_BF16 and without AMX. With
  AMX they do, up to 700 rows.

So a product is computed whole where that is known to be safe, and in blocks of a fixed number of
rows elsewhere. On a GPU it is computed whole: there packed and solo runs agree within rounding.

Shape suffixes: T rows, I input width, O output width.
"""

import functools
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as torch_linear
from torch.nn.functional import pad

from lora.model.autograd import Context

BLOCK = 256  # rows; fewer make long products slower, more make short ones slower


@functools.cache
def _cpu_facts() -> frozenset[str]:
    """Return the vendor and the instruction sets of the CPU; nothing where /proc is missing."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.partition(":")[::2] for line in lines)
    return frozenset(
        word
        for name, value in pairs
        if name.strip() in ("vendor_id", "flags")
        for word in value.split()
    )


def request_strict_mkl() -> None:
    """Ask MKL on Intel for sums whose order does not depend on the size of a product.

    MKL reads the variable at its first product. A value that the user has set is kept.
    """
    if "GenuineIntel" in _cpu_facts():
        os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


request_strict_mkl()


@functools.cache
def _computes_whole(dtype: torch.dtype) -> bool:
    """Return whether the rows of a product on this CPU are known not to depend on their number."""
    if dtype == torch.bfloat16:
        return "avx512_bf16" in _cpu_facts() and "amx_bf16" not in _cpu_facts()
    return torch.backends.mkl.is_available()


def frozen_product(x_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return x W + bias, [T, O]. On a CPU the bits of a row depend on that row alone."""
    rows = len(x_TI)
    if not x_TI.is_cpu or _computes_whole(x_TI.dtype):
        # The last layer's first tokens in a short step may be fewer than 6 rows a thread.
        x_TI = _padded(x_TI, max(32, 8 * torch.get_num_threads()))
        return _product(x_TI, weight_IO, bias_O)[:rows]
    # Rows for whole blocks; those beyond T are of the last block's padding.
    out_TO = x_TI.new_empty(-(-rows // BLOCK) * BLOCK, weight_IO.shape[1])
    for block_TI, out_block_TO in zip(x_TI.split(BLOCK), out_TO.split(BLOCK), strict=True):
        _product(_padded(block_TI, BLOCK), weight_IO, bias_O, out_block_TO)
    return out_TO[:rows]


def _padded(x_TI: Tensor, rows: int) -> Tensor:
    """Return x with rows of zeros at the end, so that it has at least `rows`."""
    return x_TI if len(x_TI) >= rows else pad(x_TI, (0, 0, 0, rows - len(x_TI)))


def _product(
    x_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None, out_TO: Tensor | None = None
) -> Tensor:
    if bias_O is None:
        return torch.mm(x_TI, weight_IO, out=out_TO)
    return torch.addmm(bias_O, x_TI, weight_IO, out=out_TO)


class _FrozenLinear(torch.autograd.Function):
    """A frozen linear layer: forward and gradient are both a `frozen_product`."""

    @staticmethod
    def forward(ctx: Context, x_TI: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI)
        return frozen_product(x_TI, weight_OI.T, bias_O)

    @staticmethod
    def backward(ctx: Context, g_TO: Tensor) -> tuple[Tensor, None, None]:
        return frozen_product(g_TO, ctx.saved_tensors[0]), None, None


def linear(linear: nn.Linear, x_TI: Tensor) -> Tensor:
    """Return the base model's product W0 x + bias, [T, O]."""
    return product(linear.weight, linear.bias, x_TI)


def product(weight_OI: Tensor, bias_O: Tensor, x_TI: Tensor) -> Tensor:
    """Return W x + bias, [T, O].

    If W or the bias trains, torch's own function computes it and its gradients.
    """
    if weight_OI.requires_grad or bias_O.requires_grad:
        return torch_linear(x_TI, weight_OI, bias_O)
    return _FrozenLinear.apply(x_TI, weight_OI, bias_O)
