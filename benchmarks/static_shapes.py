"""Count the distinct shapes of 1,000 steps: `python benchmarks/static_shapes.py`.

A CUDA graph replays the kernels of one shape, and `torch.compile` with static shapes compiles each
shape once. The matrix products of a step have one shape for each number of tokens; attention has
one for each padded width and number of sequences of that width. A step is one combination of all of
them. A bucket rounds these numbers up. Lengths are drawn as in shapes.py.
"""

import sys
from collections.abc import Sequence

import numpy as np
import report
from shapes import EXAMPLES_PER_STEP, LENGTHS, draw_lengths

from lora.data.tokens import epoch_order
from lora.model import attention

STEPS = 1000
EXAMPLES = {"sst2": 67349, "mrpc": 3668}  # in the training sets
PACKS = (1, 5, 15)
# (tokens, sequences of a width) that a step is rounded up to multiples of; 1 is no bucket.
BUCKETS = ((1, 1), (64, 4), (256, 16), (512, 32))


def lengths_of_steps(lengths: np.ndarray, runs: int, steps: int) -> list[np.ndarray]:
    """Return the lengths of the examples in each step of a pack, [steps] of [runs * examples]."""
    size, per_run = EXAMPLES_PER_STEP, []
    for seed in range(runs):
        order, epoch = np.empty(0, np.int64), 0
        while len(order) < steps * size:
            whole = epoch_order(seed, epoch, len(lengths))
            order = np.append(order, whole[: len(whole) // size * size])
            epoch += 1
        per_run.append(lengths[order[: steps * size]].reshape(steps, size))
    return list(np.concatenate(per_run, axis=1))


def shapes_of_step(lengths: np.ndarray, tokens: int, sequences: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a step: (tokens,), and (width, sequences) for each width, rounded up."""
    widths, counts = np.unique(attention.widths_of(lengths), return_counts=True)
    groups = [
        (int(width), _rounded_up(int(count), sequences))
        for width, count in zip(widths, counts, strict=True)
    ]
    return ((_rounded_up(int(lengths.sum()), tokens),), *groups)


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def count(steps: Sequence[np.ndarray], tokens: int, sequences: int) -> dict[str, float]:
    """Count distinct shapes of products, of attention and of whole steps.

    Returns:
        `products`, `attention` and `steps`; `padding`, the share of rows of products added by the
        buckets.
    """
    found = [shapes_of_step(lengths, tokens, sequences) for lengths in steps]
    real = sum(int(lengths.sum()) for lengths in steps)
    return dict(
        products=len({shapes[0] for shapes in found}),
        attention=len({group for shapes in found for group in shapes[1:]}),
        steps=len(set(found)),
        padding=sum(shapes[0][0] for shapes in found) / real - 1,
    )


def main() -> int:
    """Print the table."""
    lines = []
    for name, examples in EXAMPLES.items():
        lengths = draw_lengths(LENGTHS[name], examples)
        for runs in PACKS:
            steps = lengths_of_steps(lengths, runs, STEPS)
            for tokens, sequences in BUCKETS:
                counts = count(steps, tokens, sequences)
                values = [f"{counts[key]}" for key in ("products", "attention", "steps")]
                lines.append(
                    [
                        f"{name}, {runs} runs",
                        f"{tokens}, {sequences}" if tokens > 1 else "none",
                        *values,
                        f"{100 * counts['padding']:.0f} %",
                    ]
                )
    titles = ["lengths, pack", "buckets", "products", "attention", "whole steps", "rows added"]
    print(report.table(titles, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
