"""Bottleneck adapters and classification heads for S runs at once.

The rows of all runs are in one flat matrix; `Segments` says which rows belong to which run.

Shape suffixes: T rows (tokens, or first tokens only), I input width, O output width, D model width,
N examples, C classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora.model.dropout import drop

# Standard deviation of an adapter's initial weights; biases start at zero (AdapterHub's
# init_weights="bert").
BOTTLENECK_STD = 0.02
# Activations of classification heads and convolutions, by the names of `families.family`.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "gelu": functional.gelu,
}


@dataclass(frozen=True)
class Segments:
    """Rows of each run in a batch.

    Attributes:
        slices: (index of the run, its rows), one after another without gaps.
        ends: End of each slice, int32 [slices]; only on a GPU, for grouped products.
        runs: Index of each slice's run, int64 [slices]; only on a GPU.
    """

    slices: list[tuple[int, slice]]
    ends: Tensor | None = None
    runs: Tensor | None = None

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        return iter(self.slices)


class Bottleneck(nn.Module):
    """Bottleneck adapters of S runs after one sublayer, ahead of its LayerNorm.

    f(x) = W_up act(W_down x + b_down) + b_up, with h the output of the sublayer and x its input:

    - Houlsby et al. (2019): LN(x + h + f(h)) with SiLU, after both sublayers.
    - Pfeiffer et al. (2021): LN(x + h + f(LN(x + h))) with ReLU, after the feed-forward only. Both
      LayerNorms are the same one.

    Both follow AdapterHub (adapters 1.3, DoubleSeqBnConfig and SeqBnConfig), with which the tests
    compare them. No LayerNorm trains.

    Args:
        width: Model width D.
        sizes: Bottleneck size of each run; 0 for a run without an adapter here.
        method: Method of the runs, such as `adapter_houlsby`.
        dtype: Type of the parameters.
    """

    def __init__(
        self, width: int, sizes: list[int], method: str, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.reads_norm = method != "adapter_houlsby"
        self.sizes = list(sizes)
        self.down = nn.ModuleList(
            nn.Linear(width, size, dtype=dtype) if size else nn.Identity() for size in sizes
        )
        self.up = nn.ModuleList(
            nn.Linear(size, width, dtype=dtype) if size else nn.Identity() for size in sizes
        )

    def parameters_of(self, run: int) -> dict[str, nn.Parameter]:
        """Return one run's parameters: `down.weight` [size, D], `down.bias`, `up.weight`, ..."""
        if not self.sizes[run]:
            return {}
        return _named_parameters(down=self.down[run], up=self.up[run])

    def forward(self, read_TD: Tensor, sum_TD: Tensor, segments: Segments) -> Tensor:
        """Return `sum_TD` with f(read) of each run added on its rows, [T, D].

        Args:
            read_TD: Input of f.
            sum_TD: Residual plus the output of the sublayer.
            segments: Rows of each run.
        """
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
    """Classification heads of S runs: an activation of a dense layer, then logits.

    The heads of the families differ in the activation, and in whether dropout is also applied
    before the dense layer (see `families.family.Head`).

    Args:
        width: Model width I.
        num_labels: Number of classes of each run; 1 for regression.
        dropout: Probability of dropping an element.
        input_dropout: Whether dropout is also applied to the input.
        activation: A key of ACTIVATIONS.
        dtype: Type of the parameters.
    """

    def __init__(
        self,
        width: int,
        num_labels: list[int],
        dropout: float,
        input_dropout: bool,
        activation: str = "tanh",
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.dense = nn.ModuleList(nn.Linear(width, width, dtype=dtype) for _ in num_labels)
        self.out = nn.ModuleList(nn.Linear(width, labels, dtype=dtype) for labels in num_labels)
        self.dropout, self.input_dropout = dropout, input_dropout

    def parameters_of(self, run: int) -> dict[str, nn.Parameter]:
        """Return one run's parameters: `dense.weight`, `dense.bias`, `out.weight`, `out.bias`."""
        return _named_parameters(dense=self.dense[run], out=self.out[run])

    def forward(self, x_NI: Tensor, keys_2N: Tensor | None, segments: Segments) -> list[Tensor]:
        """Return the logits [N_s, C_s] of each run in `segments`.

        Args:
            x_NI: Hidden states of first tokens.
            keys_2N: Dropout keys at the input and before the output layer; None in evaluation.
            segments: Example rows of each run.
        """
        before, after = (None, None) if keys_2N is None else keys_2N
        if self.input_dropout:
            x_NI = drop(x_NI, self.dropout, before)
        hidden_NI = torch.cat(
            [self.activation(self.dense[run](x_NI[rows])) for run, rows in segments]
        )
        hidden_NI = drop(hidden_NI, self.dropout, after)
        return [self.out[run](hidden_NI[rows]) for run, rows in segments]


def _named_parameters(**modules: nn.Module) -> dict[str, nn.Parameter]:
    return {
        f"{side}.{name}": value
        for side, module in modules.items()
        for name, value in module.named_parameters()
    }


def loss_sum(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Return the summed loss of one run's examples, in the dtype of the logits.

    Args:
        logits_NC: Logits; C is 1 for regression.
        labels_N: Labels: class indices from 0, or values for regression.

    Returns:
        Squared error for regression, else cross entropy; a scalar.
    """
    if logits_NC.shape[1] == 1:
        return functional.mse_loss(logits_NC[:, 0], labels_N.to(logits_NC.dtype), reduction="sum")
    return functional.cross_entropy(logits_NC, labels_N.long(), reduction="sum")
