"""Constant predictions: a run that predicts one class for every example of the evaluation set.

Its Matthews correlation is 0 and its accuracy the share of that class, whatever the model, so the
value says nothing about the method. Such a run is recognized from the columns of metrics.csv:

- Two classes. Precision and recall are those of class 1. If Matthews is 0 and recall is 1, no
  example is a true negative; if recall is 0, none is a false positive. Both mean one class only.
- More classes. Accuracy is the mean of the classes' precisions weighted by how often each class is
  predicted, so it equals their sum only if one class has all predictions.
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from lora.experiment.task import Task
from lora.files import Row

UNKNOWN = math.nan
EQUAL = 1e-12  # sum of precisions and accuracy differ by 1/n^2 or more if they differ
WORD = "constant"


def of_epoch(task: Task, epoch: Mapping[Any, Any]) -> float:
    """Return whether all predictions of an epoch are of one class.

    Args:
        task: The task.
        epoch: A row with the columns METRICS_COLUMNS and `label_counts`.

    Returns:
        1 or 0; NaN for regression, and without the metrics that show it. Predictions of a class
        that no label of the evaluation set has are not recognized if there are more than two.
    """
    accuracy, precision = epoch["accuracy"], epoch["precision"]
    recall, matthews = epoch["recall"], epoch["matthews"]
    if task.is_regression or any(map(math.isnan, (accuracy, precision, recall, matthews))):
        return UNKNOWN
    if task.num_labels > 2:
        total = precision * task.num_labels
        return float(accuracy > 0 and abs(total - accuracy) < EQUAL)
    counts = json.loads(epoch["label_counts"] or "{}").get(task.eval_splits[0])
    if counts and not counts.get("1"):  # recall and Matthews are 0 for any predictions
        return float(accuracy in (0, 1))
    return float(matthews == 0 and recall in (0, 1))


def is_constant(cell: Row, center: str) -> bool:
    """Return whether every finished run of a cell has constant predictions.

    Args:
        cell: A row with the columns TABLE_COLUMNS.
        center: Column of a statistic of the best or the last epoch, such as `best_median`.
    """
    return cell["metric"] != "average" and 0 < cell["n"] == count(cell, center)


def count(cell: Row, center: str) -> float:
    """Return the number of finished runs with constant predictions at the epoch of a statistic."""
    found: float = cell[f"{center.partition('_')[0]}_constant"]
    return 0 if math.isnan(found) else found


def without_constant(cell: Row, center: str) -> float:
    """Return a statistic of a cell; NaN if every finished run has constant predictions."""
    value: float = cell[center]
    return math.nan if is_constant(cell, center) else value


def notes(cells: list[Row]) -> list[str]:
    """Return a note on constant predictions, if a cell has any."""
    cells = [cell for cell in cells if cell["metric"] != "average"]
    if not any(count(cell, center) for cell in cells for center in ("best_", "last_")):
        return []
    return [
        f"“{WORD}”: at this epoch every finished run of the cell predicts one class for all "
        f"examples; “k of n {WORD}” counts such runs. Their Matthews correlation is 0 and their "
        "accuracy the share of that class, so the value says nothing about the method; often the "
        "learning rate is too high or too low. Such cells are in no difference and no spread of a "
        "line."
    ]


def runs_note(runs: Iterable[Row]) -> tuple[str, ...]:
    """Return a note on the number of runs with constant predictions, if there are any.

    Args:
        runs: Rows with the columns BEST_COLUMNS.
    """
    lines = list(runs)
    found = sum(1 in (line["best_constant"], line["last_constant"]) for line in lines)
    if not found:
        return ()
    return (
        f"{found} of {len(lines)} runs predict one class for all examples at their best or last "
        "epoch. Their values say nothing about the method, and they are included here; Tables 2, 5 "
        f"and 6 mark them as {WORD}.",
    )
