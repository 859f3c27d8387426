"""Task formats: read the splits of a task from its data folder.

A new format is a module with a `read(task, folder)` that returns raw columns, an entry in READERS,
and the format's name in config/tasks.csv. The columns of all formats are checked in one place,
`lora.data.checks`.
"""

from collections.abc import Callable
from pathlib import Path

from lora.data import checks, demo, glue, labels, table
from lora.data.examples import Examples, RawSplit
from lora.experiment.task import TABLE, Task

READERS: dict[str, Callable[[Task, Path], dict[str, RawSplit]]] = {
    "glue": glue.read,
    "vader": demo.read,
    TABLE: table.read,  # of the tasks of a config
}


def read(task: Task, folder: Path) -> dict[str, Examples]:
    """Return the split "train" and each of the task's `eval_splits`. See `read_with_task`."""
    return read_with_task(task, folder)[1]


def read_with_task(task: Task, folder: Path) -> tuple[Task, dict[str, Examples]]:
    """Return the task with the classes of its training data, and its splits.

    The splits are "train" and each of the task's `eval_splits`. Only a task of the config whose
    labels are left out has its classes from the data.

    Args:
        task: Its `format` names the reader.
        folder: A fetched folder, or one with GLUE's official files.

    Raises:
        ValueError: If the format is unknown, or a file, line or label is wrong. The message lists
            all wrong lines of all splits.
    """
    if task.format not in READERS:
        raise ValueError(
            f"task {task.name}: format is {task.format!r}; allowed: {', '.join(READERS)}"
        )
    splits = READERS[task.format](task, Path(folder))
    task = labels.with_classes(task, splits["train"])
    return task, checks.to_examples(task, splits)
