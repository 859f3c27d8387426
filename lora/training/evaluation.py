"""Evaluation at the end of an epoch: metrics on the whole evaluation set, and a row of metrics.csv.

Evaluation uses no dropout, no padding and large batches, and all runs of a task share forward
passes. How examples are cut into parts does not depend on the pack, because the rounding of a
product depends on its number of rows. A run whose loss or logits are not finite gets a row with
that status and no metrics.
"""

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lora.columns import METRICS_COLUMNS
from lora.data.tokens import Tokens
from lora.experiment.task import Task
from lora.model import collate, layers
from lora.model.memory import table_key
from lora.model.packed_model import PackedModel
from lora.training import batching, metrics, signals
from lora.training.batching import TokenBudget
from lora.training.run_state import Row, RunState

log = logging.getLogger(__name__)


def end_epoch(
    model: PackedModel, ended: Sequence[RunState], budget: TokenBudget, rate: float
) -> None:
    """Evaluate the runs that ended an epoch and add a row to each.

    Args:
        model: The model of the pack.
        ended: The runs.
        budget: Tokens per forward pass.
        rate: Examples per second of the pack, for the log.
    """
    first, second = (_evaluate_split(model, ended, number, budget) for number in (0, 1))
    for run in ended:
        row = _row(run, first[run], second.get(run))
        run.end_epoch(row)
        metric = run.spec.task.metric
        log.info(
            "%s epoch %d/%d: train loss %.4f, eval loss %.4f, %s %.4f, %.0f examples/s in the pack",
            run.spec.name,
            run.epoch,
            run.spec.hparams.epochs,
            row["train_loss"],
            row["eval_loss"],
            metric,
            row[metric],
            rate,
        )


@torch.no_grad()
def predict(
    model: PackedModel, indices: Sequence[int], examples: Tokens, budget: TokenBudget
) -> list[np.ndarray]:
    """Return the logits of every example for several runs, without dropout.

    Args:
        model: The model of the pack.
        indices: Which runs of the pack.
        examples: An evaluation split of n examples.
        budget: Tokens per forward pass. Halved in place if memory runs out.

    Returns:
        For each run, logits [n, C] in the order of the examples.
    """
    order = np.argsort(examples.lengths, kind="stable")
    logits: list[list[Tensor]] = [[] for _ in indices]

    def attempt() -> Iterator[tuple[int, bool]]:
        size = min(batching.EVAL_TOKENS[table_key(model.device.type)], budget.tokens)
        ends = np.cumsum(examples.lengths[order]) // size
        cut = np.split(order, np.flatnonzero(np.diff(ends)) + 1)
        parts = [(run, chosen) for chosen in cut for run in range(len(indices))]
        parts_per_pass = budget.tokens // size
        for first in range(0, len(parts), parts_per_pass):
            signals.raise_if_received()
            together = parts[first : first + parts_per_pass]
            batch = [
                collate.RunSequences(indices[run], *examples.gather(chosen)[:3])
                for run, chosen in together
            ]
            yield sum(len(part.ids) for part in batch), len(batch) == len(batch[0].lengths) == 1
            for (run, _), values in zip(together, model(model.batch(batch)), strict=True):
                logits[run].append(values)

    def undo() -> None:
        for values in logits:
            values.clear()

    batching.run_within_memory(budget, attempt, undo)
    back = np.argsort(order, kind="stable")
    return [torch.cat(values).cpu().numpy()[back] for values in logits]


def _evaluate_split(
    model: PackedModel, ended: Sequence[RunState], number: int, budget: TokenBudget
) -> dict[RunState, dict[str, float]]:
    """Return the scores of each run on its task's evaluation split with this number, from 0.

    Runs of one task are evaluated together. A run whose task has no such split is left out.
    """
    scores: dict[RunState, dict[str, float]] = {}
    for folder in dict.fromkeys(run.spec.tokens_dir for run in ended):
        group = [run for run in ended if run.spec.tokens_dir == folder]
        task = group[0].spec.task
        if number < len(task.eval_splits):
            examples = group[0].tokens[task.eval_splits[number]]
            logits = predict(model, [run.index for run in group], examples, budget)
            for run, values in zip(group, logits, strict=True):
                scores[run] = score(task, values, examples.labels)
    return scores


def score(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return eval_loss and the metrics of one run on a split.

    Args:
        task: The task of the split.
        logits: [n, C].
        labels: Class number or score of each example, [n].

    Returns:
        The values by name; NaN for all if a logit is not finite.
    """
    if not np.isfinite(logits).all():
        return dict(eval_loss=math.nan, accuracy=math.nan)
    loss = layers.loss_sum(torch.from_numpy(logits), torch.from_numpy(np.array(labels)))
    values = metrics.evaluate_predictions(task.num_labels, logits, labels)
    return dict(eval_loss=float(loss) / len(labels)) | values


def _row(run: RunState, first: dict[str, float], second: dict[str, float] | None) -> Row:
    """Return the row of metrics.csv of the epoch that ends.

    Args:
        run: The run, before its epoch is counted.
        first: Its scores on the first evaluation split.
        second: Those on the second one, None if the task has one split.
    """
    assert run.loss is not None  # a step has been made
    train_loss = float(run.loss) / len(run.tokens["train"])
    finite = math.isfinite(train_loss) and math.isfinite(first["eval_loss"])
    row: Row = dict.fromkeys(METRICS_COLUMNS, math.nan)
    row |= dict(
        epoch=run.epoch + 1,
        step=run.step,
        status="ok" if finite else "non_finite",
        learning_rate=run.learning_rate(run.step - 1),
    )
    if finite:
        row |= first
        row["train_loss"] = train_loss
        if second is not None:
            row |= _both_splits(run, first["accuracy"], second["accuracy"])
    return row


def _both_splits(run: RunState, first: float, second: float) -> Row:
    """Return the accuracy on the second evaluation split, and on both taken together."""
    sizes = [len(run.tokens[split]) for split in run.spec.task.eval_splits]
    correct = first * sizes[0] + second * sizes[1]
    return dict(accuracy_mismatched=second, accuracy_overall=correct / sum(sizes))
