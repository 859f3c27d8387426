"""One optimizer step of all runs of a pack, in as many forward passes as memory needs."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lora.model import collate, layers
from lora.model.packed_model import PackedModel
from lora.training import batching, optim
from lora.training.batching import MicroBatch, TokenBudget
from lora.training.run_state import RunState


def optimizer_step(model: PackedModel, pack: Sequence[RunState], budget: TokenBudget) -> int:
    """Make one optimizer step of every run; return the number of examples they saw together."""
    chosen = [(run, step_examples(run)) for run in pack]
    losses = [run.loss.clone() for run in pack if run.loss is not None]

    def attempt() -> Iterator[tuple[int, bool]]:
        for batches in batching.split_step(chosen, budget):
            single = len(batches) == len(batches[0].indices) == 1
            yield sum(batch.tokens for batch in batches), single
            forward_backward(model, batches)

    def undo() -> None:
        for run, loss in zip(pack, losses, strict=True):
            run.loss = loss.clone()
        optim.zero_gradients(run.optimizer for run in pack)

    batching.run_within_memory(budget, attempt, undo)
    optim.step([(run.optimizer, run.spec.hparams, run.learning_rate(run.step)) for run in pack])
    for run in pack:
        run.step += 1
    return sum(len(indices) for _, indices in chosen)


def step_examples(run: RunState) -> np.ndarray:
    """Return the indices of the examples of the run's next optimizer step."""
    assert run.order is not None  # the epoch has begun
    size = run.spec.hparams.examples_per_step
    first = run.step % run.steps_per_epoch * size
    return run.order[first : first + size]


def forward_backward(model: PackedModel, batches: Sequence[MicroBatch]) -> None:
    """Add the gradients of these micro-batches, in one forward and one backward pass.

    The loss of a run is the mean over the examples of its optimizer step.
    """
    parts, labels = [], []
    for batch in batches:
        run = batch.run
        ids, types, lengths, targets = run.tokens["train"].gather(batch.indices)
        parts.append(
            collate.RunSequences(
                run.index, ids, types, lengths, run.spec.seed, run.step, batch.first
            )
        )
        labels.append(targets)
    on_device = collate.on_device(np.concatenate(labels), model.device)
    split = on_device.split([len(targets) for targets in labels])
    losses = []
    for batch, logits, targets in zip(batches, model(model.batch(parts)), split, strict=True):
        loss = layers.loss_sum(logits, targets)
        assert batch.run.loss is not None  # the epoch has begun
        batch.run.loss += loss.detach()
        losses.append(loss / batch.step_size)
    torch.stack(losses).sum().backward()
