"""Frozen biases that runs have in place of the base model's.

An adapter that peft trained with `bias: lora_only` or `all` replaces biases of the base model. The
runs of a pack share the base model, so each layer adds the difference of the two biases to its
output, on the rows of these runs only. The rows of other runs keep every bit.

Shape suffixes: T rows (tokens, or first tokens only), O output width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lora.model.autograd import Context
from lora.model.layers import Segments
from lora.model.pretrained import BaseModel


class RunBiases(nn.Module):
    """Frozen biases of S runs, which start as the base model's.

    Args:
        base: The base model.
        names: For each run, the names in `base` of the biases that it has itself.
        dtype: Type of the biases.
    """

    def __init__(
        self, base: BaseModel, names: Sequence[Sequence[str]], dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._values = [
            {
                name: nn.Parameter(base.get_parameter(name).detach().to(dtype, copy=True), False)
                for name in of_run
            }
            for of_run in names
        ]
        self._registered = nn.ParameterList(one for own in self._values for one in own.values())
        # Frozen layer -> name of its bias. A plain dict, so that layers are not submodules.
        self._layers = {
            base.get_submodule(name.removesuffix(".bias")): name
            for of_run in names
            for name in of_run
        }

    def parameters_of(self, run: int) -> dict[str, nn.Parameter]:
        """Return one run's biases by their names in the base model."""
        return self._values[run]

    def add(
        self, layer: nn.Linear | nn.LayerNorm | nn.Conv1d, out_TO: Tensor, segments: Segments
    ) -> Tensor:
        """Return the output of a frozen layer with the biases that runs have themselves.

        Args:
            layer: A layer of the base model.
            out_TO: Its output, computed with the bias of the base model.
            segments: Rows of each run.
        """
        name = self._layers.get(layer)
        if name is None or layer.bias is None:
            return out_TO
        bias = layer.bias
        differences = {
            run: (self._values[run][name] - bias).to(out_TO.dtype)
            for run, _ in segments
            if name in self._values[run]
        }
        return _AddOnRows.apply(out_TO, differences, segments) if differences else out_TO


class _AddOnRows(torch.autograd.Function):
    """Add a constant to the rows of some runs. The gradient is passed on bit for bit."""

    @staticmethod
    def forward(
        ctx: Context, out_TO: Tensor, differences: dict[int, Tensor], segments: Segments
    ) -> Tensor:
        sum_TO = out_TO.clone()
        for run, rows in segments:
            if run in differences:
                sum_TO[rows] += differences[run]
        return sum_TO

    @staticmethod
    def backward(ctx: Context, g_TO: Tensor) -> tuple[Tensor, None, None]:
        return g_TO, None, None
