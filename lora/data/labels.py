"""Labels as numbers: class names, class numbers and scores.

Classes are matched by name wherever the data have names, so a data set that counts its classes in
another order than the task is read correctly. Numbers without names are class numbers.
"""

import math
from collections.abc import Sequence

from lora.data.examples import RawSplit
from lora.errors import shown
from lora.experiment.names import simplified
from lora.experiment.task import Task
from lora.files import NUMBER

TABLE = "config/tasks.csv"


def read(task: Task, raw: RawSplit) -> tuple[list[float], list[tuple[int, str]], list[str]]:
    """Return the labels of a split as numbers, and what is wrong with them.

    Args:
        task: Decides between class numbers (0 to num_labels - 1) and scores.
        raw: The split.

    Returns:
        The labels, NaN for a wrong one; index and problem of each wrong label; and the problems of
        the column as a whole.
    """
    classes = None
    if raw.label_names is not None:
        classes, problem = _classes_of(task, raw.label_names)
        if problem:
            return [math.nan] * len(raw.labels), [], [f"{raw.where}: {problem}"]
    labels, wrong = [], []
    first: dict[bool, int] = {}  # whether the label is a name -> its first index
    for index, label in enumerate(raw.labels):
        value = _value(task, label, raw.limits, classes)
        labels.append(value)
        if math.isnan(value):
            wrong.append((index, _explain(task, label, raw)))
        elif classes is None:
            first.setdefault(isinstance(label, str) and not _is_number(label), index)
    mixed = []
    if len(first) == 2:
        one, other = (
            f"{shown(raw.labels[at])} in {raw.unit} {raw.rows[at]}" for at in first.values()
        )
        mixed = [f"{raw.where}: labels are names and numbers ({one}, {other}); use one of them"]
    return labels, wrong, mixed


def has_names(raw: RawSplit) -> bool:
    """Return whether a split gives its classes by name, not by number."""
    names = raw.labels if raw.label_names is None else raw.label_names
    return any(isinstance(name, str) and name.strip() and not _is_number(name) for name in names)


def _classes_of(task: Task, names: Sequence[str]) -> tuple[list[float], str]:
    """Return the task's class number of each class of a data set, and what is wrong with them."""
    have = f"the data set has the classes {', '.join(names)}"
    if task.is_regression:
        return [], f"{have}; expected scores, because task {task.name} is a regression task"
    numbers = [_class_number(task, name) for name in names]
    nameless = not task.label_names and all(math.isnan(number) for number in numbers)
    if nameless and len(names) == task.num_labels:
        return [float(number) for number in range(len(names))], ""
    if any(math.isnan(number) for number in numbers) or len(set(numbers)) < len(numbers):
        allowed = ", ".join(task.label_names) or f"{task.num_labels} classes, without names"
        return [], (
            f"{have}; task {task.name} has {allowed}. Rename the classes of the data set, or "
            f"correct label_names in {TABLE}"
        )
    return numbers, ""


def _value(
    task: Task, label: object, limits: tuple[float, float], classes: list[float] | None
) -> float:
    """Return a label as a number, NaN if it is not allowed."""
    if classes is not None and isinstance(label, int) and not isinstance(label, bool):
        return classes[label] if 0 <= label < len(classes) else math.nan
    if task.is_regression:
        value = _number(label)
        return value if math.isfinite(value) and limits[0] <= value <= limits[1] else math.nan
    return _class_number(task, label)


def _class_number(task: Task, label: object) -> float:
    """Return the number of a class by its name or number, NaN if there is no such class.

    A name may differ in case, hyphens, underscores and spaces.
    """
    if isinstance(label, str) and not _is_number(label):
        if label in task.label_names:
            return float(task.label_names.index(label))
        known = [simplified(name) for name in task.label_names]
        matches = [at for at, name in enumerate(known) if name == simplified(label)]
        return float(matches[0]) if len(matches) == 1 else math.nan
    value = _number(label)
    return value if value in range(task.num_labels) else math.nan


def _is_number(label: str) -> bool:
    return NUMBER.fullmatch(label.strip()) is not None


def _number(label: object) -> float:
    """Return a label as a float, NaN if it is not a number. True and False are no numbers."""
    if isinstance(label, str):
        return float(label) if _is_number(label) else math.nan
    if isinstance(label, bool) or not isinstance(label, (int, float)):
        return math.nan
    return float(label) if abs(label) < 1e300 else math.nan


def _explain(task: Task, label: object, raw: RawSplit) -> str:
    """Return a wrong label, what is allowed, and a hint."""
    hint = ""
    if label is None or label != label or (isinstance(label, str) and not label.strip()):
        hint = "; the label is missing"
    elif _number(label) == -1:
        hint = "; -1 marks examples without a label, as in test splits"
    elif isinstance(label, str) and not _is_number(label) and not task.label_names:
        hint = "" if task.is_regression else f"; for names, give label_names in {TABLE}"
    return f"label {shown(label)}; allowed: {_allowed(task, label, raw)}{hint}"


def _allowed(task: Task, label: object, raw: RawSplit) -> str:
    if task.is_regression:
        low, high = raw.limits
        return f"a number from {low:g} to {high:g}" if math.isfinite(low) else "a finite number"
    numbers, names = f"the whole numbers 0 to {task.num_labels - 1}", ", ".join(task.label_names)
    if raw.label_names is not None:
        return f"the whole numbers 0 to {len(raw.label_names) - 1}"
    if isinstance(label, str) and names and not _is_number(label):
        return f"{names}, or {numbers}"
    return f"{numbers}, or {names}" if names else numbers
