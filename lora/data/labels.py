"""Labels as numbers: class names, class numbers and scores.

Classes are matched by name wherever the data have names, so a data set that counts its classes in
another order than the task is read correctly. Numbers without names are class numbers.
"""

import difflib
import math
import re
from collections.abc import Sequence

from lora.data.examples import RawSplit
from lora.errors import shown
from lora.experiment.names import simplified
from lora.experiment.task import MAX_CLASSES, Task
from lora.files import NUMBER

TABLE = "config/tasks.csv"
WHOLE = re.compile(r"[+-]?[0-9]+")
COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


def read(task: Task, raw: RawSplit) -> tuple[list[float], list[tuple[int, str]], list[str]]:
    """Return the labels of a split as numbers, and what is wrong with them.

    Args:
        task: Decides between class numbers (0 to num_labels - 1) and scores.
        raw: The split.

    Returns:
        The labels, NaN for a wrong one; index and problem of each wrong label; and the problems of
        the column as a whole.
    """
    if task.table is not None and not task.is_regression:
        return _read_names(task, raw)
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


def with_classes(task: Task, train: RawSplit) -> Task:
    """Return a task with the classes of its training data, if the config lists none.

    They are sorted by name, whole numbers by value.

    Raises:
        ValueError: If the labels are no classes.
    """
    if task.table is None or task.table.labels or train.problems or not len(train.labels):
        return task
    names = sorted(set(map(str, train.labels)))
    numbers = [name for name in names if _is_number(name)]
    whole = [name for name in numbers if WHOLE.fullmatch(name)]
    problem = ""
    if len(names) == 1:
        problem = (
            f"the label of all {len(train.labels)} examples is {shown(names[0])}, so there is "
            "nothing to learn; expected at least two different labels"
        )
    elif len(whole) < len(numbers) == len(names):
        problem = (
            f"labels are numbers such as {shown(min(set(numbers) - set(whole)))}; for scores "
            "set labels: regression, for classes list them under labels"
        )
    elif numbers and len(numbers) < len(names):
        word = next(name for name in names if name not in numbers)
        one, other = (_first(train, name) for name in (numbers[0], word))
        problem = f"labels are numbers ({one}) and words ({other}); list all classes under labels"
    elif len(names) > MAX_CLASSES:
        problem = (
            f"there are {len(names)} different labels; allowed: up to {MAX_CLASSES} if labels does "
            f"not list them. Is {task.table.label} the column of the labels?"
        )
    if problem:
        raise ValueError(f"{train.where}: {problem}")
    return task.with_labels(sorted(names, key=int) if whole else names)


def _first(raw: RawSplit, name: str) -> str:
    at = list(raw.labels).index(name)
    return f"{shown(name)} in {raw.unit} {raw.rows[at]}"


def _read_names(task: Task, raw: RawSplit) -> tuple[list[float], list[tuple[int, str]], list[str]]:
    """Return the labels of a task of the config, whose classes are names; see `read`."""
    if not task.num_labels:  # what is wrong with train is reported
        return [math.nan] * len(raw.labels), [], []
    numbers = {name: float(number) for number, name in enumerate(task.label_names)}
    labels = [numbers.get(str(label), math.nan) for label in raw.labels]
    unseen = {str(label) for label, value in zip(raw.labels, labels, strict=True) if value != value}
    of_train = "" if task.table and task.table.labels else ", the labels of train"
    allowed = shown(list(task.label_names), 300)[1:-1] + of_train
    why = {}
    for label in unseen:
        close = difflib.get_close_matches(label, task.label_names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        why[label] = f"label {shown(label)}; allowed: {allowed}{hint}"
    wrong = [(at, why[str(raw.labels[at])]) for at, value in enumerate(labels) if value != value]
    return labels, wrong, []


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
    elif task.is_regression and isinstance(label, str) and COMMA.fullmatch(label.strip()):
        hint = '; for decimal commas set decimal: "," in the task of the config'
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
