"""How a step of a pack is cut into passes: as many tokens at once as memory allows, and no more than is fast.

The runs of a step need not go through the model together: gradients add up, and a run's rows do not depend on what else
is in a pass. So a pass holds whole steps of runs until it is full. Only when one run's step alone is too much is it cut
into micro-batches, which changes the order in which its gradient is summed, that is its rounding, and nothing else.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lora.data.tokens import epoch_order
from lora.model import attention, memory
from lora.model.memory import EVALUATED, FLOATS_PER_PARAMETER, TOKENS
from lora.training.device import GIB, activation_bytes, free_bytes, is_out_of_memory
from lora.training.run_state import RunState

__all__ = ["EVALUATED", "TOKENS", "MicroBatch", "TokenBudget", "cut", "plan", "run_within_memory"]
log = logging.getLogger(__name__)
SHARE = 0.9  # of free memory that is planned with


@dataclass
class TokenBudget:
    """What one pass may hold: `tokens` of all runs together, and `examples` of one run, 0 for its whole step."""

    tokens: int
    examples: int = 0

    def shrink(self, largest: int, single: bool) -> None:
        """After running out of memory in a pass of `largest` tokens; raises MemoryError when it was one example."""
        if single:
            raise MemoryError(
                f"out of memory in a pass of a single example of {largest} tokens; free memory, pack fewer runs, or lower "
                "max_tokens. Finished epochs are kept: the same command goes on from there"
            )
        self.tokens = max(1, min(self.tokens, largest) // 2)
        log.warning(
            "out of memory in a pass of %d tokens: passes of at most %d tokens from here on",
            largest,
            self.tokens,
        )


@dataclass(frozen=True)
class MicroBatch:
    """Examples `indices` of a run's step of `step_size` examples, the first of them at place `first`."""

    run: RunState
    indices: np.ndarray
    first: int
    step_size: int
    tokens: int


def cut(chosen: list[tuple[RunState, np.ndarray]], limits: TokenBudget) -> list[list[MicroBatch]]:
    """The passes of a step in which each run sees the examples chosen for it, in order."""
    passes: list[list[MicroBatch]] = []
    room = 0
    for run, indices in chosen:
        for piece in _pieces(run, indices, limits):
            if piece.tokens > room:
                passes.append([])
                room = limits.tokens
            passes[-1].append(piece)
            room -= piece.tokens
    return passes


def _pieces(run: RunState, indices: np.ndarray, limits: TokenBudget) -> list[MicroBatch]:
    lengths = run.tokens["train"].lengths_of(indices)
    size = min(limits.examples or len(indices), len(indices))
    while (
        size > 1
        and max(lengths[at : at + size].sum() for at in range(0, len(indices), size))
        > limits.tokens
    ):
        size = (size + 1) // 2
    return [
        MicroBatch(
            run, indices[at : at + size], at, len(indices), int(lengths[at : at + size].sum())
        )
        for at in range(0, len(indices), size)
    ]


def run_within_memory(
    limits: TokenBudget, attempt: Callable[[], Iterator[tuple[int, bool]]], undo: Callable[[], None]
) -> None:
    """Run `attempt` through; if memory runs out, `undo`, shrink the limits and do it again.

    `attempt` yields, before each pass, its tokens and whether it is a single example.
    """
    while True:
        tried = (0, True)
        try:
            for tried in attempt():  # noqa: B007 (the last one is looked at after the loop)
                pass
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: until here the error holds on to the tensors of the pass that failed.
        undo()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limits.shrink(*tried)


def plan(
    pack: list[RunState], base, parameters: list[int], device: torch.device, micro_batch: int
) -> TokenBudget:
    """The limits that the pack fits memory with, predicted and logged; raises ValueError when none does.

    `parameters` are the trainable parameters of each run.
    """
    longest_steps = [_longest_step(run) for run in pack]
    lengths = np.concatenate(longest_steps)
    per_token = _activations(base, pack, lengths) / lengths.sum()
    one_example = _activations(base, pack, lengths.max(keepdims=True))
    model = sum(value.numel() * value.element_size() for value in base.parameters())
    runs = [4 * FLOATS_PER_PARAMETER * count for count in parameters]
    free = int(SHARE * free_bytes(device)) - (
        model if device.type == "cuda" else 0
    )  # on a CPU it is loaded already
    if sum(runs) + one_example > free:
        fit = int(np.searchsorted(np.cumsum(runs), free - one_example, side="right"))
        advice = (
            f"the largest pack that fits has {fit} of its runs"
            if fit
            else "not even its first run fits"
        )
        raise ValueError(
            f"a pack of {len(pack)} runs needs at least {(sum(runs) + one_example) / GIB:.2f} GiB beside the model; "
            f"{max(free, 0) / GIB:.2f} GiB can be had: {advice}. Pack fewer axes (pack:), or free memory"
        )
    limits = TokenBudget(TOKENS[device.type], micro_batch)
    while limits.tokens > lengths.max() and per_token * min(
        limits.tokens, lengths.sum()
    ) > free - sum(runs):
        limits.tokens //= 2
    tokens = min(limits.tokens, int(lengths.sum()))
    log.info(
        "memory: %.2f GiB of tensors predicted (model %.2f, %d runs %.2f, passes of up to %d tokens %.2f), %.2f GiB free",
        (model + sum(runs) + per_token * tokens) / GIB, model / GIB, len(pack), sum(runs) / GIB,
        tokens, per_token * tokens / GIB, free_bytes(device) / GIB,
    )  # fmt: skip
    return limits


def _longest_step(run: RunState) -> np.ndarray:
    """Lengths of the examples in the run's step with most tokens, of its first epoch: others differ little."""
    train_set, size = run.tokens["train"], run.hparams.examples_per_step
    lengths = train_set.lengths[epoch_order(run.seed, 0, len(train_set))]
    starts = range(0, len(lengths), size)
    at = starts[int(np.argmax(np.add.reduceat(lengths, starts)))]
    return lengths[at : at + size]


def _activations(base, pack: list[RunState], lengths: np.ndarray) -> int:
    lora_inputs = max(map(_lora_inputs, pack))
    return activation_bytes(
        base.config, lengths, attention.widths_of(lengths), lora_inputs, base.dtype
    )


def _lora_inputs(run: RunState) -> int:
    return memory.lora_inputs(run.method, run.cell.weights, run.hparams.lora_dropout)
