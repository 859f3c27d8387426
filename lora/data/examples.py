"""Examples of one split: texts and labels, as a file has them and after the checks.

A reader of a format returns `RawSplit`: the columns as they are in the file, and where each row
comes from. `lora.data.checks` turns them into `Examples`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lora.files import read_text

UNLIMITED = (-math.inf, math.inf)


@dataclass(frozen=True)
class ReadCounts:
    """What was counted while a split was read.

    Attributes:
        skipped_lines: Lines of an official file that are left out because a column is missing; rows
            of a task of the config without a text or a label.
        long_lines: Lines of an official file with more columns than the header.
        empty_texts: Examples with an empty or blank text.
        repeated: Examples with the texts of an earlier example of the same evaluation split.
        in_train: Examples of an evaluation split whose texts are in the training split too.
    """

    skipped_lines: int = 0
    long_lines: int = 0
    empty_texts: int = 0
    repeated: int = 0
    in_train: int = 0


@dataclass(frozen=True)
class RawSplit:
    """Columns of one split as the file has them. Values are of any type.

    Attributes:
        where: The file, or the folder and the split, for messages.
        texts: Name and values of each text column.
        labels: Label of each example.
        rows: Number of each example's line or row, for messages.
        unit: What `rows` counts: "line" or "row".
        label_names: Class names of the data set, class 0 first, where the labels are numbers of
            these names; None if the data set has no names.
        limits: Lowest and highest score of a regression task.
        problems: Why rows or the whole split could not be read, with the place.
        counts: The lines that the reader left out.
        made: How the split was made of train; empty if it was given.
    """

    where: str
    texts: dict[str, Sequence[object]] = field(default_factory=dict)
    labels: Sequence[object] = ()
    rows: Sequence[int] = ()
    unit: str = "line"
    label_names: tuple[str, ...] | None = None
    limits: tuple[float, float] = UNLIMITED
    problems: list[str] = field(default_factory=list)
    counts: ReadCounts = ReadCounts()
    made: str = ""

    def place(self, index: int) -> str:
        """Return the file and line, or the split and row, of the example at `index`."""
        return f"{self.where}, {self.unit} {self.rows[index]}"


@dataclass(frozen=True)
class Examples:
    """Texts and labels of one split, in the order of the file.

    Attributes:
        first: First text of each example; a list, or a column in a mapped file.
        second: Second text of each example; None for tasks with one text.
        labels: Class number or score of each example.
        counts: What was counted while the split was read.
        made: How the split was made of train; empty if it was given.
    """

    first: Sequence[str]
    second: Sequence[str] | None
    labels: list[float]
    counts: ReadCounts = field(default=ReadCounts(), compare=False)
    made: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """The one or two texts of each example."""
        return list(self.rows())

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the one or two texts of each example."""
        columns = [self.first] if self.second is None else [self.first, self.second]
        return zip(*columns, strict=True)


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
