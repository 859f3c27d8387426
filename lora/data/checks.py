"""Checks of a task's texts and labels, the same for every format.

What a model cannot be trained on is refused: a label that is wrong or missing, a text that is not
text, a split without examples, training labels that are all equal. All problems are listed at once,
each with its line. What is unusual is kept, counted and logged: GLUE itself has empty questions
(QQP), repeated evaluation sentences and training sentences in its evaluation sets (CoLA, STS-B).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lora.data import labels
from lora.data.examples import Examples, RawSplit
from lora.data.mapped_texts import MappedTexts
from lora.errors import ConfigError, shown
from lora.experiment.task import Task

log = logging.getLogger(__name__)
LISTED = 10  # wrong rows of a split that a message lists


def to_examples(task: Task, splits: Mapping[str, RawSplit]) -> dict[str, Examples]:
    """Check the splits of a task, and return their texts and labels.

    Args:
        task: The task.
        splits: "train" and each evaluation split.

    Raises:
        ConfigError: Lists all problems of all splits; a ValueError if there is only one.
    """
    examples, problems, where = {}, [], []
    for name, raw in splits.items():
        examples[name], found = _check_split(task, raw)
        if not found and name == "train":
            found = _check_training_labels(examples[name], raw)
        problems += found
        where += [raw.where] if found else []
    problems = problems or _check_label_names(task, splits)
    if len(problems) == 1:
        raise ValueError(problems[0])
    if problems:
        title = where[0] if len(where) == 1 else f"task {task.name}"
        raise ConfigError(f"{title}: the data cannot be used:", problems)
    _warn_about_labels(task, examples, splits)
    return _count(examples, splits)


def check_columns(needed: Sequence[str], found: Sequence[str], where: str) -> list[str]:
    """Return what is wrong with the column names of a file or split."""
    problems = []
    if missing := [name for name in needed if name not in found]:
        problems.append(
            f"{where}: no column {missing}; it has: {shown(list(found))}, expected "
            f"{', '.join(needed)}"
        )
    if repeated := sorted({name for name in needed if found.count(name) > 1}):
        problems.append(
            f"{where}: column {', '.join(repeated)} is in its header more than once; keep one"
        )
    return problems


def _check_split(task: Task, raw: RawSplit) -> tuple[Examples, list[str]]:
    """Return the examples of a split, and what is wrong with it."""
    if not len(raw.labels):
        none = f"{raw.where} holds no example; expected at least one"
        return Examples([], None, []), raw.problems or [none]
    values, wrong, problems = labels.read(task, raw)
    columns: list[Sequence[str]] = []
    for name, column in raw.texts.items():
        texts: Sequence[str]
        if isinstance(column, MappedTexts):  # texts for sure, and too many for a list
            texts = column
        else:
            texts = [text if isinstance(text, str) else "" for text in column]
            wrong += [
                (at, f"column {name}: {shown(text)}; expected text")
                for at, text in enumerate(column)
                if not isinstance(text, str)
            ]
        columns.append(texts)
        if not any(text.strip() for text in texts) and not wrong:
            problems.append(f"{raw.where}: column {name} has only empty texts; expected text")
    wrong.sort()
    problems += [f"{raw.place(at)}: {problem}" for at, problem in wrong[:LISTED]]
    if len(wrong) > LISTED:
        problems.append(f"{raw.where}: and {len(wrong) - LISTED} more {raw.unit}s like these")
    second = columns[1] if len(columns) == 2 else None
    examples = Examples(columns[0], second, values, raw.counts, raw.made)
    return examples, [*raw.problems, *problems]


def _check_training_labels(examples: Examples, raw: RawSplit) -> list[str]:
    if len(set(examples.labels)) > 1:
        return []
    label = f"{examples.labels[0]:g}"
    return [
        f"{raw.where}: the label of all {len(examples)} examples is {label}, so there is nothing "
        "to learn; expected at least two different labels"
    ]


def _check_label_names(task: Task, splits: Mapping[str, RawSplit]) -> list[str]:
    """Check that splits give their classes alike: by names or by numbers, in one order."""
    if task.is_regression or task.table is not None:
        return []
    read = [raw for raw in splits.values() if len(raw.labels)]
    named = {labels.has_names(raw): raw.where for raw in read}
    if len(named) == 2:
        return [
            f"{named[True]} has names of classes, {named[False]} has numbers, whose order is not "
            "known; use names in both, or numbers in both"
        ]
    lists = {raw.label_names: raw.where for raw in read if raw.label_names is not None}
    if task.label_names or len(lists) < 2:
        return []
    shown_lists = "; ".join(f"{where}: {', '.join(names)}" for names, where in lists.items())
    return [
        f"the splits have different lists of classes ({shown_lists}); give label_names of task "
        f"{task.name} in {labels.TABLE}, or save the splits with one list"
    ]


def _warn_about_labels(
    task: Task, examples: Mapping[str, Examples], splits: Mapping[str, RawSplit]
) -> None:
    train = examples["train"]
    if not task.is_regression and (absent := set(range(task.num_labels)) - set(train.labels)):
        listed = ", ".join(f"{label:g}" for label in sorted(absent))
        log.warning("%s has no example of class %s", splits["train"].where, listed)
    for name in examples.keys() - {"train"}:
        one, where = examples[name], splits[name].where
        if len(one) > len(train):
            log.warning(
                "%s has %d examples, more than the %d of train; check that the files are not "
                "swapped",
                where,
                len(one),
                len(train),
            )
        if len(set(one.labels)) == 1 and len(one) > 1:
            log.warning("%s: the label of all %d examples is the same", where, len(one))


def _count(examples: Mapping[str, Examples], splits: Mapping[str, RawSplit]) -> dict[str, Examples]:
    """Return the examples with their counts, which are logged."""
    train = _first_rows(examples["train"])
    counted = {}
    for name, one in examples.items():
        raw = splits[name]
        for number, what in (
            (raw.counts.skipped_lines, "lack a column or their label and are skipped"),
            (raw.counts.long_lines, "have more columns than the header; columns are read by index"),
        ):
            if number:
                log.warning("%s: %d lines %s", raw.where, number, what)
        empty = [at for at, row in enumerate(one.rows()) if not all(text.strip() for text in row)]
        _warn(raw, len(one), "have an empty text", empty)
        counts = replace(raw.counts, empty_texts=len(empty))
        if name != "train":
            first = _first_rows(one)
            again = [at for at, row in enumerate(one.rows()) if first[hash(row)] != at]
            _warn(raw, len(one), "have the texts of an earlier example", again)
            both = [at for at, row in enumerate(one.rows()) if hash(row) in train]
            other = splits["train"].place(train[hash(_row(one, both[0]))]) if both else ""
            _warn(raw, len(one), f"have texts that are in train too ({other})", both)
            counts = replace(counts, repeated=len(again), in_train=len(both))
        counted[name] = replace(one, counts=counts)
    return counted


def _first_rows(examples: Examples) -> dict[int, int]:
    """Return the first index of each row by the hash of its texts.

    The texts of a large table are not kept in memory. Among a million rows, two of them share a
    hash of 64 bits by chance once in 10^7 times.
    """
    first: dict[int, int] = {}
    for at, row in enumerate(examples.rows()):
        first.setdefault(hash(row), at)
    return first


def _row(examples: Examples, at: int) -> tuple[str, ...]:
    columns = (examples.first, examples.second)
    return tuple(column[at] for column in columns if column is not None)


def _warn(raw: RawSplit, examples: int, what: str, found: list[int]) -> None:
    if found:
        first = f"{raw.unit} {raw.rows[found[0]]}"
        log.warning(
            "%s: %d of %d examples %s; the first is %s",
            raw.where,
            len(found),
            examples,
            what,
            first,
        )
