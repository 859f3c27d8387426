"""Split an optimizer step into micro-batches that fit the token budget.

Gradients add up, and a run's rows do not depend on what else is in a forward pass. So a pass takes
whole steps of runs until it is full. Only a step that exceeds the budget alone is split, which
changes the order in which its gradient is summed, that is its rounding, and nothing else.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lora.data.tokens import epoch_order
from lora.model import attention, memory, modules
from lora.model.memory import EVAL_TOKENS, FLOATS_PER_PARAMETER, TRAIN_TOKENS, table_key
from lora.training.device import (
    GIB,
    activation_bytes,
    free_bytes,
    is_out_of_memory,
    release_cached_memory,
)
from lora.training.run_state import RunState

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "EVAL_TOKENS",
    "TRAIN_TOKENS",
    "MicroBatch",
    "TokenBudget",
    "plan_budget",
    "run_within_memory",
    "split_step",
]
log = logging.getLogger(__name__)
SHARE = 0.9  # of the free memory that the plan uses


@dataclass
class TokenBudget:
    """What one forward pass may hold.

    Attributes:
        tokens: Tokens of all runs together.
        examples: Examples of one run; 0 is its whole optimizer step.
        predicted_bytes: Predicted memory of all tensors of the pack; 0 if it was not predicted.
    """

    tokens: int
    examples: int = 0
    predicted_bytes: int = 0

    def shrink(self, tokens: int, single: bool) -> None:
        """Halve the budget after running out of memory.

        Args:
            tokens: Tokens of the pass that failed.
            single: Whether it was a single example.

        Raises:
            MemoryError: If it was a single example.
        """
        if single:
            raise MemoryError(
                f"out of memory in a pass of a single example of {tokens} tokens; free memory, "
                "pack fewer runs, or lower max_tokens. Finished epochs are saved: run the same "
                "command again to continue"
            )
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        log.warning(
            "out of memory in a pass of %d tokens: from now on at most %d tokens per pass",
            tokens,
            self.tokens,
        )


@dataclass(frozen=True)
class MicroBatch:
    """A part of one run's optimizer step.

    Attributes:
        run: The run.
        indices: Its examples in the training set, [n].
        first: Index of the first of them in the step.
        step_size: Examples in the whole step.
        tokens: Tokens in this part.
    """

    run: RunState
    indices: np.ndarray
    first: int
    step_size: int
    tokens: int


def split_step(
    chosen: Sequence[tuple[RunState, np.ndarray]], budget: TokenBudget
) -> list[list[MicroBatch]]:
    """Return the forward passes of an optimizer step.

    Args:
        chosen: For each run the examples of its step, [n].
        budget: What a pass may hold.

    Returns:
        The micro-batches of each pass. Together they have each run's examples in order.
    """
    passes: list[list[MicroBatch]] = []
    tokens_left = 0
    for run, indices in chosen:
        for batch in _micro_batches(run, indices, budget):
            if batch.tokens > tokens_left:
                passes.append([])
                tokens_left = budget.tokens
            passes[-1].append(batch)
            tokens_left -= batch.tokens
    return passes


def _micro_batches(run: RunState, indices: np.ndarray, budget: TokenBudget) -> list[MicroBatch]:
    lengths = run.tokens["train"].lengths_of(indices)
    count = len(indices)

    def tokens_from(first: int) -> int:
        return int(lengths[first : first + size].sum())

    size = min(budget.examples or count, count)
    while size > 1 and max(map(tokens_from, range(0, count, size))) > budget.tokens:
        size = (size + 1) // 2
    return [
        MicroBatch(run, indices[first : first + size], first, count, tokens_from(first))
        for first in range(0, count, size)
    ]


def run_within_memory(
    budget: TokenBudget,
    attempt: Callable[[], Iterator[tuple[int, bool]]],
    undo: Callable[[], None],
) -> None:
    """Run `attempt` to its end, halving the token budget each time memory runs out.

    Args:
        budget: Halved in place.
        attempt: Does the work. Before each pass it yields the pass's tokens and whether it is a
            single example.
        undo: Clears what a failed attempt left.

    Raises:
        MemoryError: If a single example does not fit.
    """
    while True:
        last = (0, True)
        try:
            for last in attempt():  # noqa: B007 (used after the loop)
                pass
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, because the error holds the tensors of the failed pass.
        undo()
        release_cached_memory()
        budget.shrink(*last)


def plan_budget(
    pack: Sequence[RunState],
    base: "PreTrainedModel",
    trainable: Sequence[int],
    device: torch.device,
    micro_batch: int,
) -> TokenBudget:
    """Return the token budget with which the pack is predicted to fit memory, and log it.

    Args:
        pack: The runs, with their tokens.
        base: The base model, on the CPU.
        trainable: Number of parameters that each run trains.
        device: Where the pack will train.
        micro_batch: Examples of a run per pass; 0 is the whole step.

    Raises:
        ValueError: If the pack does not fit. It names the largest pack that would.
    """
    lengths = np.concatenate([_longest_step(run) for run in pack])
    per_token = _activations(base, pack, lengths) / lengths.sum()
    one_example = _activations(base, pack, lengths.max(keepdims=True))
    model = sum(value.numel() * value.element_size() for value in base.parameters())
    runs = [4 * FLOATS_PER_PARAMETER * count for count in trainable]
    free = int(SHARE * free_bytes(device))
    if device.type != "cpu":  # on a CPU the model is in memory already
        free -= model
    if sum(runs) + one_example > free:
        raise ValueError(_too_large(runs, one_example, free))
    budget = TokenBudget(TRAIN_TOKENS[table_key(device.type)], micro_batch)
    while budget.tokens > lengths.max() and per_token * min(
        budget.tokens, lengths.sum()
    ) > free - sum(runs):
        budget.tokens //= 2
    tokens = min(budget.tokens, int(lengths.sum()))
    budget.predicted_bytes = int(model + sum(runs) + per_token * tokens)
    log.info(
        "memory: %.2f GiB of tensors predicted (model %.2f, %d runs %.2f, passes of up to %d "
        "tokens %.2f), %.2f GiB free",
        budget.predicted_bytes / GIB,
        model / GIB,
        len(pack),
        sum(runs) / GIB,
        tokens,
        per_token * tokens / GIB,
        free_bytes(device) / GIB,
    )
    return budget


def _too_large(runs: Sequence[int], one_example: int, free: int) -> str:
    """Return the message for a pack that does not fit.

    Args:
        runs: Bytes of each run.
        one_example: Bytes of the activations of the longest example.
        free: Bytes that the pack may use.
    """
    fitting = int(np.searchsorted(np.cumsum(runs), free - one_example, side="right"))
    advice = "not even its first run fits"
    if fitting:
        advice = f"the largest pack that fits has {fitting} of its runs"
    needed, available = (sum(runs) + one_example) / GIB, max(free, 0) / GIB
    return (
        f"a pack of {len(runs)} runs needs at least {needed:.2f} GiB in addition to the model, "
        f"and {available:.2f} GiB are available: {advice}. Use fewer axes in pack:, or free memory"
    )


def _longest_step(run: RunState) -> np.ndarray:
    """Return the lengths of the examples in the step with most tokens, of the first epoch."""
    train_set, size = run.tokens["train"], run.spec.hparams.examples_per_step
    lengths = train_set.lengths[epoch_order(run.spec.seed, 0, len(train_set))]
    starts = range(0, len(lengths), size)
    first = starts[int(np.argmax(np.add.reduceat(lengths, starts)))]
    return lengths[first : first + size]


def _activations(base: "PreTrainedModel", pack: Sequence[RunState], lengths: np.ndarray) -> int:
    lora_inputs = max(
        memory.lora_inputs(
            run.spec.cell.method, run.spec.cell.weights, run.spec.hparams.lora_dropout
        )
        for run in pack
    )
    widths = attention.widths_of(lengths)
    return activation_bytes(
        modules.architecture_of(base),
        lengths,
        widths,
        lora_inputs,
        base.dtype,
        runs=min(len(pack), len(lengths)),
    )
