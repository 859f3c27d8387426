"""The end of an epoch: every run's figures on its whole evaluation set, one more row, and the best epoch's tensors.

Evaluation goes without dropout and without padding, at large batches, for all runs of a task in the same passes. How the
examples are cut into parts does not depend on the pack, as few rows round otherwise than many. A run whose loss or logits
are not finite gets a row that says so, and no figures.
"""

import logging
import math

import numpy as np
import torch

from lora.columns import METRICS_COLUMNS
from lora.experiment.task import Task
from lora.model import encoder, layers
from lora.training import batching, metrics, optim, signals
from lora.training.batching import TokenBudget
from lora.training.run_state import RunState

log = logging.getLogger(__name__)


@torch.no_grad()
def predict(model, places: list[int], examples, limits: TokenBudget) -> list[np.ndarray]:
    """Logits [n, C] of each run in `places` for every example, in the examples' order, dropout off. Examples are cut into
    the same parts whatever the pack, as few rows round otherwise than many; a pass takes parts of any runs."""
    order = np.argsort(examples.lengths, kind="stable")
    found = [[] for _ in places]

    def attempt():
        size = min(batching.EVALUATED[model.device.type], limits.tokens)
        ends = np.cumsum(examples.lengths[order]) // size
        cut = np.split(order, np.flatnonzero(np.diff(ends)) + 1)
        parts = [(index, indices) for indices in cut for index in range(len(places))]
        room = limits.tokens // size
        for first in range(0, len(parts), room):
            signals.raise_if_received()
            chosen = parts[first : first + room]
            given = [
                encoder.Part(places[index], *examples.gather(indices)[:3])
                for index, indices in chosen
            ]
            yield sum(len(part.ids) for part in given), len(given) == len(given[0].lengths) == 1
            for (index, _), logits in zip(chosen, model(model.batch(given)), strict=True):
                found[index].append(logits)

    def undo():
        for kept in found:
            kept.clear()

    batching.run_within_memory(limits, attempt, undo)
    back = np.argsort(order, kind="stable")
    return [torch.cat(kept).cpu().numpy()[back] for kept in found]


def _scores(model, ended: list[RunState], split: int, limits: TokenBudget) -> dict[RunState, dict]:
    """Each run's figures on an evaluation split of its task, for the runs whose task has it: one pass for the runs of a
    task together."""
    found = {}
    for folder in dict.fromkeys(run.asked.tokens_dir for run in ended):
        group = [run for run in ended if run.asked.tokens_dir == folder]
        task = group[0].asked.task
        if split < len(task.eval_splits):
            examples = group[0].tokens[task.eval_splits[split]]
            logits = predict(model, [run.place for run in group], examples, limits)
            found |= {
                run: _score(task, one, examples.labels)
                for run, one in zip(group, logits, strict=True)
            }
    return found


def end_epoch(model, ended: list[RunState], limits: TokenBudget, rate: float) -> None:
    """Evaluate the runs, add a row to each, and keep the best epoch's tensors."""
    scores, second = _scores(model, ended, 0, limits), _scores(model, ended, 1, limits)
    for run in ended:
        score, metric = scores[run], run.asked.task.metric
        train_loss = float(run.loss) / len(run.tokens["train"])
        finite = math.isfinite(train_loss) and math.isfinite(score["eval_loss"])
        run.epoch, run.order, run.loss = run.epoch + 1, None, None
        row = dict.fromkeys(METRICS_COLUMNS, math.nan) | dict(
            epoch=run.epoch,
            step=run.step,
            status="ok" if finite else "non_finite",
            learning_rate=optim.rate_of(run, run.step - 1),
        )
        if finite:
            row |= score | dict(train_loss=train_loss) | _two_sets(run, score, second.get(run))
        run.rows.append(row)
        best = run.rows[run.best_epoch - 1][metric] if run.best_epoch else -math.inf
        if finite and (not run.best_epoch or row[metric] > best or math.isnan(best)):
            run.best_epoch = run.epoch
            run.best = {
                name: value.detach().cpu().clone() for name, value in run.parameters.items()
            }
        log.info(
            "%s epoch %d/%d: train loss %.4f, eval loss %.4f, %s %.4f, %.0f examples/s in the pack", run.name,
            run.epoch, run.hparams.epochs, train_loss, row["eval_loss"], metric, row[metric], rate,
        )  # fmt: skip


def _two_sets(run: RunState, first: dict, second: dict | None) -> dict:
    """Accuracy on the second evaluation set, and on both taken as one; nothing for a task with one set."""
    if second is None:
        return {}
    sizes = [len(run.tokens[split]) for split in run.asked.task.eval_splits]
    right = first["accuracy"] * sizes[0] + second["accuracy"] * sizes[1]
    return dict(accuracy_mismatched=second["accuracy"], accuracy_overall=right / sum(sizes))


def _score(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict:
    """eval_loss and the metrics of one run; all NaN when its logits are not finite."""
    if not np.isfinite(logits).all():
        return dict(eval_loss=math.nan, accuracy=math.nan)
    loss = layers.loss_sum(torch.from_numpy(logits), torch.from_numpy(np.array(labels)))
    return dict(eval_loss=float(loss) / len(labels)) | metrics.evaluate_predictions(
        task.num_labels, logits, labels
    )
