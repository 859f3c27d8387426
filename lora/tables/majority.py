"""Majority class: the metric of always predicting the most frequent label of the evaluation set.

Of equally frequent labels the lowest counts. Values are those of scikit-learn for constant
predictions, with 0 where a metric has nothing to divide by, as `lora.training.metrics` has them.
The labels are counted at training time (`data.label_counts` of run.json); runs of earlier versions
have no counts.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from lora.experiment.task import Task
from lora.files import Row
from lora.tables.labels import Note, Subject, listed
from lora.tables.statistics import RunRows

LABEL = "majority class"
SUBJECT: Subject = ("majority",)  # of the notes on the row


def value(metric: str, counts: Mapping[int, int], num_labels: int) -> float:
    """Return a metric of always predicting the most frequent label, as a fraction.

    Args:
        metric: accuracy, matthews, precision, recall or f1.
        counts: Number of examples of each label, some above 0.
        num_labels: Number of classes, at least 2. For two, precision, recall and F1 are those of
            class 1; for more, their mean over all classes.
    """
    majority = max(sorted(counts), key=lambda label: counts[label])
    share = counts[majority] / sum(counts.values())
    if metric == "matthews":
        return 0.0  # constant predictions do not correlate with anything
    if metric == "accuracy":
        return share
    of_class = {"precision": share, "recall": 1.0, "f1": 2 * share / (1 + share)}[metric]
    if num_labels == 2:
        return of_class if majority == 1 else 0.0
    return of_class / num_labels  # the other classes have 0


def of_cell(task: Task, metric: str, runs: Iterable[RunRows]) -> float:
    """Return the value of a cell in per cent; NaN for regression and without known labels.

    Args:
        task: The task.
        metric: Its metric, or the accuracy on MNLI's second evaluation set or on both.
        runs: The runs of the cell. If they counted different labels, the value is NaN.
    """
    recorded = {str(run.rows["label_counts"].iloc[0]) for run in runs} - {""}
    if task.is_regression or len(recorded) != 1:
        return math.nan
    splits = {
        name: {int(label): count for label, count in counts.items()}
        for name, counts in json.loads(recorded.pop()).items()
    }
    used = {"accuracy_mismatched": task.eval_splits[1:], "accuracy_overall": task.eval_splits}
    counts: Counter[int] = Counter()
    for split in used.get(metric, task.eval_splits[:1]):
        counts.update(splits.get(split, {}))
    if not counts.total():
        return math.nan
    metric = "accuracy" if metric in used else metric
    return round(100 * value(metric, counts, task.num_labels), 6)


def by_column(cells: Iterable[Row], key: str) -> dict[str, float]:
    """Return the majority value by `key` of the cells; NaN where cells disagree or have none."""
    found: dict[str, set[float]] = {}
    for cell in cells:
        if not math.isnan(cell["majority"]):
            found.setdefault(cell[key], set()).add(cell["majority"])
    return {name: values.pop() if len(values) == 1 else math.nan for name, values in found.items()}


def notes(tasks: Iterable[Task], cells: list[Row]) -> list[Note]:
    """Return notes on the majority-class row, and on the tasks that it leaves out."""
    classes = [task for task in tasks if not task.is_regression]
    if not classes:
        return []
    known = by_column([cell for cell in cells if cell["metric"] != "average"], "task_title")
    shown = {title for title, number in known.items() if not math.isnan(number)}
    lacking = [task.title for task in classes if task.title not in shown]
    found = []
    if len(lacking) < len(classes):
        text = (
            "Majority class: the metric of predicting the most frequent label of the evaluation "
            "set for every example. Matthews correlation is then 0; F1, precision and recall are "
            "0 with nothing to divide by, of class 1 for two classes, and the mean over classes "
            "for more."
        )
        found.append(Note(text, (SUBJECT,)))
    if lacking:
        text = (
            f"No majority class for {listed(lacking)}: the runs do not record the same counts of "
            "evaluation labels, or none (no run yet, an earlier version, or imported runs)."
        )
        found.append(Note(text, (SUBJECT,)))
    return found
