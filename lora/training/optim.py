"""The optimiser steps of all runs of a pack: AdamW with decoupled weight decay, each run at its own rate, clipped by itself.

AdamW is torch's own fused function (Loshchilov & Hutter 2019; paper App. D.1), called once for the tensors of all runs that
share a rate and its other settings: what a step costs besides arithmetic hardly grows with the pack. A run's moments are
kept under its tensors' names, so that they can be saved and taken up in any other pack. Weight decay spares biases and
LayerNorm, the rate rises and falls linearly, both as in transformers' Trainer.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from lora.experiment.hparams import Hparams
from lora.training.run_state import RunState


def learning_rate(step: int, total: int, hparams: Hparams) -> float:
    """Of the optimiser step with this number, from 0: linear from 0 to the peak over the warm-up, then linear to 0."""
    warmup = math.ceil(total * hparams.warmup_frac)
    if step < warmup:
        return hparams.learning_rate * step / max(1, warmup)
    return hparams.learning_rate * max(0.0, (total - step) / max(1, total - warmup))


def rate_of(run: RunState, step: int) -> float:
    return learning_rate(step, run.steps_per_epoch * run.hparams.epochs, run.hparams)


class Optimizer:
    """What AdamW keeps of one run: `moments`, by its tensors' names, and the tensors in lists, as torch's function asks for
    them. Values and gradients are views of the model's own, which stay where they are."""

    def __init__(self, parameters: dict[str, Tensor], gradients: dict[str, Tensor]):
        self.moments: dict[str, dict[str, Tensor]] = {}
        self.gradients = list(gradients.values())
        self.lists = {
            True: [[], [], [], [], []],
            False: [[], [], [], [], []],
        }  # by whether weight decay acts
        for name, gradient in gradients.items():
            value = _contiguous(parameters[name])
            self.moments[name] = dict(
                exp_avg=torch.zeros_like(value),
                exp_avg_sq=torch.zeros_like(value),
                step=torch.zeros((), dtype=torch.float32, device=value.device),
            )
            members = value, _contiguous(gradient), *self.moments[name].values()
            for tensors, tensor in zip(self.lists[_decays(name)], members, strict=True):
                tensors.append(tensor)


@torch.no_grad()
def step(pack: list[RunState]) -> None:
    """One step of every run in `pack`; its gradients are zero afterwards."""
    alike = defaultdict(lambda: [[], [], [], [], []])
    for run in pack:
        hparams = run.hparams
        if hparams.max_grad_norm:
            _clip(run.optimizer.gradients, hparams.max_grad_norm)
        for decays, lists in run.optimizer.lists.items():
            settings = dict(
                lr=rate_of(run, run.step),
                beta1=hparams.adam_beta1,
                beta2=hparams.adam_beta2,
                eps=hparams.adam_epsilon,
                weight_decay=hparams.weight_decay if decays else 0.0,
            )
            for together, tensors in zip(alike[tuple(settings.items())], lists, strict=True):
                together += tensors
        run.step += 1
    for settings, (values, gradients, averages, squares, steps) in alike.items():
        adamw(
            values,
            gradients,
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            **dict(settings),
        )
    clear(pack)


def clear(pack: list[RunState]) -> None:
    """Set the gradients of these runs to zero."""
    torch._foreach_zero_([gradient for run in pack for gradient in run.optimizer.gradients])


def _clip(gradients: list[Tensor], most: float) -> None:
    """Scale gradients so that their norm is at most `most`, as torch's clip_grad_norm_ does it."""
    norm = torch.nn.utils.get_total_norm(gradients)
    torch._foreach_mul_(gradients, torch.clamp(most / (norm + 1e-6), max=1.0))


def _contiguous(tensor: Tensor) -> Tensor:
    """The same memory row by row: a view that was transposed is turned back."""
    return tensor if tensor.is_contiguous() else tensor.T


def _decays(name: str) -> bool:
    """Whether weight decay acts on a parameter: not on biases and LayerNorm."""
    return not (name.endswith("bias") or "LayerNorm" in name)
