"""Examples of one split: their texts and labels, and what every task format needs to read them.

Labels are numbers: the hub's class numbers, or the score of a regression task. Nothing is skipped
or repaired. A file, line or label that cannot be read raises ValueError, which says where it is and
what is allowed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora.errors import shown
from lora.experiment.task import Task
from lora.files import NUMBER, read_text

UNLIMITED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Examples:
    """Texts and labels of one split, in the order of the file.

    Attributes:
        first: First text of each example.
        second: Second text of each example; None for tasks with one text.
        labels: Class number or score of each example.
    """

    first: list[str]
    second: list[str] | None
    labels: list[float]

    def __len__(self) -> int:
        return len(self.labels)


def from_columns(texts: list[list[str]], labels: list[float], where: str) -> Examples:
    """Return examples from one or two columns of texts. Raises ValueError if there are none."""
    if not labels:
        raise ValueError(f"{where} holds no example; expected at least one")
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, labels)


def read_lines(path: Path) -> list[str]:
    r"""Return the lines of a UTF-8 file, without byte-order mark and line ends.

    Only \n and \r\n end a line: `str.splitlines` also splits at characters inside sentences.

    Raises:
        ValueError: If the file is empty, a line has another \r, or as in `lora.files.read_text`.
    """
    text = read_text(path)
    if not text:
        raise ValueError(f"{path} is empty; expected at least one line")
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if "\r" in text:
        for number, line in enumerate(lines, start=1):
            if "\r" in line:
                raise ValueError(
                    f"{path}, line {number}: a carriage return (\\r) that is no line end here; "
                    "save the file with line ends \\n"
                )
    return lines


def parse_label(
    task: Task,
    label: object,
    where: str,
    names: Mapping[str, int] | None = None,
    limits: tuple[float, float] = UNLIMITED,
) -> float:
    """Return a label as a number.

    Args:
        task: Decides between class numbers (0 to num_labels - 1) and scores.
        label: The label as the file has it.
        where: File and line, for messages.
        names: Class names and their numbers, for files that hold names.
        limits: Lowest and highest score of a regression task.

    Raises:
        ValueError: If the label is not allowed.
    """
    if names is not None:
        if not isinstance(label, str) or label not in names:
            raise ValueError(f"{where}: label {shown(label)}; allowed: {', '.join(names)}")
        return float(names[label])
    value = _number(label)
    if task.is_regression:
        if not (math.isfinite(value) and limits[0] <= value <= limits[1]):
            allowed = "a finite number"
            if math.isfinite(limits[0]):
                allowed = f"a number from {limits[0]:g} to {limits[1]:g}"
            raise ValueError(f"{where}: label {shown(label)}; allowed: {allowed}")
    elif value not in range(task.num_labels):
        allowed = f"the whole numbers 0 to {task.num_labels - 1}"
        raise ValueError(f"{where}: label {shown(label)}; allowed: {allowed}")
    return value


def _number(label: object) -> float:
    """Return a label as a float, NaN if it is not a number."""
    if isinstance(label, str):
        return float(label) if NUMBER.fullmatch(label.strip()) else math.nan
    return float(label) if isinstance(label, (int, float)) else math.nan
