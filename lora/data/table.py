"""Tasks of the config: tables of the user's own, with given or made splits.

Texts go to a mapped file as they are read, so a large table needs little memory. Labels become
names of classes; `lora.data.labels` turns them into numbers.
"""

import math
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora.data import labels, table_files, table_rows
from lora.data.examples import RawSplit, ReadCounts
from lora.data.mapped_texts import MappedTexts, TextWriter
from lora.data.table_rows import Row
from lora.errors import shown
from lora.experiment.task import TableOptions, Task

if TYPE_CHECKING:
    import numpy as np

LISTED = 10  # wrong rows of a split that a message lists
WHOLE = re.compile(r"([+-]?[0-9]+)\.0+")


def read(task: Task, folder: Path) -> dict[str, RawSplit]:
    """Return the training and the evaluation split of a task of the config.

    Args:
        task: The task.
        folder: The file or folder of the data, or the folder that they were fetched to.

    Raises:
        ValueError: If a file is not there or not readable, or lacks a column.
    """
    found = table_files.find(task, folder)
    train = _read_split(task, found, found.train)
    if found.dev:
        return {"train": train, task.eval_splits[0]: _read_split(task, found, found.dev)}
    if not train.problems and len(train.labels):
        task = labels.with_classes(task, train)  # first of all rows: messages are about the file
        if not labels.read(task, train)[1]:
            return _make_split(task, train)
    return {"train": train}  # the checks report what is wrong


def check_header(task: Task, path: Path) -> None:
    """Raise ValueError if a split of a task is not there, or its first row can't be read."""
    found = table_files.find(task, path)
    for split in (found.train, *([found.dev] if found.dev else [])):
        next(_rows(task, found, split, lambda problem: None), None)


def _rows(
    task: Task, found: table_files.Found, split: str, report: Callable[[str], None]
) -> Iterator[Row]:
    """Yield the rows of a split; those of several files are numbered on."""
    files = found.splits[split]
    if files is None:
        yield from table_rows.read_saved(task, found.where, split)
        return
    number = 0
    for path in files:
        for row in table_rows.read(task, path, report):
            number += 1
            yield row if len(files) == 1 else row._replace(number=number)


def _read_split(task: Task, found: table_files.Found, split: str) -> RawSplit:
    files, options = found.splits[split], task.table or TableOptions()
    single = files[0] if files and len(files) == 1 else None
    where = str(single) if single else f"{found.where}, split {split}"
    unit = table_rows.unit_of(single)
    writer, found_labels, numbers = TextWriter(len(task.text_columns)), [], array("q")
    names: dict[object, object] = {}  # equal labels are one object
    problems: list[str] = []
    wrong = skipped = 0
    for row in _rows(task, found, split, problems.append):
        label = label_name(row.label, task, options)
        lacking, other = _lacking(task, row, label)
        if lacking and options.missing == "drop" and not other:
            skipped += 1
        elif lacking or other:
            wrong += 1
            if wrong <= LISTED:
                advice = "; to leave such rows out, set missing: drop" if lacking else ""
                problems.append(f"{where}, {unit} {row.number}: {other or lacking}{advice}")
        else:
            writer.add(tuple(str(text) for text in row.texts))
            found_labels.append(names.setdefault(label, label))
            numbers.append(row.number)
    if wrong > LISTED:
        problems.append(f"{where}: and {wrong - LISTED} more {unit}s like these")
    return RawSplit(
        where=where,
        texts=dict(zip(task.text_columns, writer.finish(), strict=True)),
        labels=found_labels,
        rows=numbers,
        unit=unit,
        problems=problems,
        counts=ReadCounts(skipped_lines=skipped),
    )


def _lacking(task: Task, row: Row, label: object) -> tuple[str, str]:
    """Return what a row lacks, and what else is wrong with its texts; empty if nothing."""
    lacking = "the label is missing" if label is None else ""
    for name, text in zip(task.text_columns, row.texts, strict=True):
        if _is_missing(text):
            lacking = lacking or f"column {name}: the text is missing"
        elif not isinstance(text, str):
            return lacking, f"column {name}: {shown(text)}; expected text"
    if not isinstance(row.label, str | int | float | None):
        return lacking, f"label {shown(row.label)}; expected text or a number"
    return lacking, ""


def _is_missing(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def label_name(label: object, task: Task, options: TableOptions) -> object:
    """Return the name of a class, or a score as it was read; None if it is missing.

    Spaces around a label do not count. A whole number is named without decimals: 1.0 is "1".
    """
    if _is_missing(label):
        return None
    if task.is_regression:
        if isinstance(label, str) and options.decimal == ",":
            return label.strip().replace(",", ".")
        return label
    text = label.strip() if isinstance(label, str) else str(label)
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _make_split(task: Task, train: RawSplit) -> dict[str, RawSplit]:
    """Return the rows of a training file as a training and an evaluation split.

    Raises:
        ValueError: If there are too few rows.
    """
    from lora.data import made_split

    options = task.table or TableOptions()
    strata = [0] * len(train.labels) if task.is_regression else list(map(str, train.labels))
    kept, chosen = made_split.choose(
        zip(*train.texts.values(), strict=True),
        strata,
        options.dev_fraction,
        options.split_seed,
    )
    if not len(chosen):
        raise ValueError(
            f"{train.where}: {len(kept)} examples of {len(set(strata))} classes are too few to "
            "make an evaluation split of them; give one: splits: {dev: ...}"
        )
    return {
        "train": _part(train, "training", kept, train.counts),
        task.eval_splits[0]: replace(
            _part(train, "evaluation", chosen, ReadCounts()),
            made=f"{options.dev_fraction:g} of the rows of train, seed {options.split_seed}",
        ),
    }


def _part(whole: RawSplit, name: str, indices: "np.ndarray", counts: ReadCounts) -> RawSplit:
    """Return the rows at these indices as a split."""
    return RawSplit(
        where=f"{whole.where}, {name} rows",
        texts={
            key: column.select(indices)
            for key, column in whole.texts.items()
            if isinstance(column, MappedTexts)
        },
        labels=[whole.labels[at] for at in indices],
        rows=array("q", (whole.rows[at] for at in indices)),
        unit=whole.unit,
        counts=counts,
    )
