"""Trial of a GPU before training: one step and one evaluation of a tiny model, as on the CPU.

A backend of torch may lack an operation or compute it differently. The trial uses every operation
of a LoRA step: dropout masks, attention, products, clipping and AdamW.
"""

import numpy as np
import torch
from torch import Tensor

from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.model import collate, layers
from lora.model.methods import AdapterSpec
from lora.model.packed_model import PackedModel
from lora.training import optim

CELL = Cell("trial", "trial", "lora", "qkvo", 4, "course")
CHANGES = {"lora_dropout": 0.1, "max_grad_norm": 1.0}
TOLERANCE = 0.01  # of a tensor's norm, in float32
LENGTHS = ((3, 17, 9), (20, 5))  # tokens of the sequences of each run
LEARNING_RATE = 1e-3


def find_problem(device: torch.device) -> str:
    """Return why the device cannot train, in a few words; empty if it can."""
    try:
        found = train_tiny_model(device)
    except Exception as error:  # a backend can raise anything
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
    expected = train_tiny_model(torch.device("cpu"))
    errors = [
        float((ours - theirs).norm() / theirs.norm().clamp(min=1e-6))
        for ours, theirs in zip(found, expected, strict=True)
    ]
    if all(error < TOLERANCE for error in errors):  # NaN is no match
        return ""
    return "its values are not those of the CPU"


@torch.random.fork_rng(devices=[])
def train_tiny_model(device: torch.device) -> list[Tensor]:
    """Train two runs of a BERT with two layers for one step.

    Returns:
        Logits in training, gradients, and logits after the step without dropout, on the CPU.
    """
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=32,
    )
    base = transformers.BertModel(config).requires_grad_(False).eval()
    ids = [torch.randint(5, 50, (sum(lengths),)).numpy() for lengths in LENGTHS]
    hparams = hparam_rows.resolve(hparam_rows.read_hparam_rows(), CELL, CHANGES)
    runs = range(len(LENGTHS))
    specs = [AdapterSpec(seed, CELL.weights, CELL.rank, 2, hparams) for seed in runs]
    model = PackedModel(base, specs, device)
    gradients = [model.gradients_of(run) for run in runs]
    optimizers = [optim.Optimizer(model.parameters_of(run), gradients[run]) for run in runs]

    def forward(step: int | None) -> list[Tensor]:
        parts = [
            collate.RunSequences(
                run,
                ids[run],
                np.zeros_like(ids[run]),
                np.array(LENGTHS[run]),
                None if step is None else run,
                step,
            )
            for run in runs
        ]
        return model(model.batch(parts))

    logits = forward(0)
    labels = [torch.arange(len(lengths), device=device) % 2 for lengths in LENGTHS]
    losses = [layers.loss_sum(*pair) for pair in zip(logits, labels, strict=True)]
    torch.stack(losses).sum().backward()
    copied = [value.clone() for own in gradients for value in own.values()]
    optim.step([(optimizer, hparams, LEARNING_RATE) for optimizer in optimizers])
    with torch.no_grad():
        evaluated = forward(None)
    return [value.detach().cpu() for value in logits + copied + evaluated]
