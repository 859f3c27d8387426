"""Task formats: read the splits of a task from its data folder.

A new format is a module with a `read(task, folder)`, an entry in READERS, and the format's name in
config/tasks.csv.
"""

from collections.abc import Callable
from pathlib import Path

from lora.data import demo, glue
from lora.data.examples import Examples
from lora.experiment.task import Task

READERS: dict[str, Callable[[Task, Path], dict[str, Examples]]] = {
    "glue": glue.read,
    "vader": demo.read,
}


def read(task: Task, folder: Path) -> dict[str, Examples]:
    """Return the split "train" and each of the task's `eval_splits`.

    Args:
        task: Its `format` names the reader.
        folder: A fetched folder, or one with GLUE's official files.

    Raises:
        ValueError: If the format is unknown, or a file, line or label is wrong.
    """
    if task.format not in READERS:
        raise ValueError(
            f"task {task.name}: format is {task.format!r}; allowed: {', '.join(READERS)}"
        )
    return READERS[task.format](task, Path(folder))
