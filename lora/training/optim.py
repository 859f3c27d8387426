"""AdamW for all runs of a pack, each with its own learning rate and gradient clipping.

AdamW (Loshchilov & Hutter 2019; paper App. D.1) is torch's fused function, called once for the
tensors of all runs that share a learning rate and its other settings, so the cost of a step hardly
grows with the pack. The moments are stored by tensor name, so a run can resume in any pack. Weight
decay and the linear schedule are as in transformers' Trainer.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from lora.experiment.hparams import Hparams


def learning_rate(step: int, total: int, hparams: Hparams) -> float:
    """Return the learning rate of an optimizer step: linear from 0 to the peak, then back to 0.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole run.
        hparams: For the peak and the share of warm-up steps.
    """
    warmup = math.ceil(total * hparams.warmup_frac)
    if step < warmup:
        return hparams.learning_rate * step / max(1, warmup)
    return hparams.learning_rate * max(0.0, (total - step) / max(1, total - warmup))


class _Group:
    """Tensors that take one call of AdamW: parallel lists, as torch's function takes them."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.averages: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.steps: list[Tensor] = []

    def extend(self, other: "_Group") -> None:
        self.values += other.values
        self.gradients += other.gradients
        self.averages += other.averages
        self.squares += other.squares
        self.steps += other.steps


class Optimizer:
    """AdamW state of one run.

    Args:
        parameters: Tensors of the run by name: views of the model's own, updated in place.
        gradients: Their gradients, of the names that train; also views.

    Attributes:
        moments: For each name that trains: `exp_avg`, `exp_avg_sq` and `step`.
        gradients: All gradients.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor] | None = None,
        gradients: Mapping[str, Tensor] | None = None,
    ) -> None:
        parameters, gradients = parameters or {}, gradients or {}
        self.moments: dict[str, dict[str, Tensor]] = {}
        self.gradients = list(gradients.values())
        self.groups = {True: _Group(), False: _Group()}  # by whether weight decay applies
        for name, gradient in gradients.items():
            value = _contiguous(parameters[name])
            moments = dict(
                exp_avg=torch.zeros_like(value),
                exp_avg_sq=torch.zeros_like(value),
                step=torch.zeros((), dtype=torch.float32, device=value.device),
            )
            self.moments[name] = moments
            group = self.groups[has_weight_decay(name)]
            group.values.append(value)
            group.gradients.append(_contiguous(gradient))
            group.averages.append(moments["exp_avg"])
            group.squares.append(moments["exp_avg_sq"])
            group.steps.append(moments["step"])


@torch.no_grad()
def step(updates: Sequence[tuple[Optimizer, Hparams, float]]) -> None:
    """Update every run of a pack once, and set its gradients to zero.

    Args:
        updates: For each run its optimizer, hyperparameters and learning rate.
    """
    alike: dict[tuple[tuple[str, float], ...], _Group] = defaultdict(_Group)
    for optimizer, hparams, rate in updates:
        if hparams.max_grad_norm:
            _clip(optimizer.gradients, hparams.max_grad_norm)
        for decays, group in optimizer.groups.items():
            settings = dict(
                lr=rate,
                beta1=hparams.adam_beta1,
                beta2=hparams.adam_beta2,
                eps=hparams.adam_epsilon,
                weight_decay=hparams.weight_decay if decays else 0.0,
            )
            alike[tuple(settings.items())].extend(group)
    for key, group in alike.items():
        settings = dict(key)
        adamw(
            group.values,
            group.gradients,
            group.averages,
            group.squares,
            [],
            group.steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=settings["lr"],
            beta1=settings["beta1"],
            beta2=settings["beta2"],
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
        )
    zero_gradients(optimizer for optimizer, _, _ in updates)


def zero_gradients(optimizers: Iterable[Optimizer]) -> None:
    """Set the gradients of these runs to zero."""
    gradients = [gradient for optimizer in optimizers for gradient in optimizer.gradients]
    torch._foreach_zero_(gradients)


def _clip(gradients: list[Tensor], max_norm: float) -> None:
    """Scale gradients to a norm of at most `max_norm`, as torch's clip_grad_norm_ does."""
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0))


def _contiguous(tensor: Tensor) -> Tensor:
    """Return the same memory as a contiguous tensor: a transposed view is transposed back."""
    return tensor if tensor.is_contiguous() else tensor.T


def has_weight_decay(name: str) -> bool:
    """Return whether weight decay applies to a parameter: not to biases and LayerNorm."""
    return not (name.endswith("bias") or "layernorm" in name.replace("_", "").lower())
