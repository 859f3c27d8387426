"""Checks of the data of tasks of the config before any job: files, columns, and small files whole.

Data of the hub are checked once they are fetched.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from lora.data import formats, table
from lora.errors import ConfigError
from lora.experiment import local_data
from lora.experiment.grid import Grid

TITLE = "The data of tasks in the config can't be used:"
SMALL = 20_000_000  # bytes of files that are read whole: a second or two


def check(grid: Grid, names: Iterable[str]) -> None:
    """Check the local data of some tasks of the config.

    Args:
        grid: The grid.
        names: Names of tasks of the config.

    Raises:
        ConfigError: Lists what is wrong with every task.
    """
    problems: list[str] = []
    for name in sorted(names):
        if grid.config.tasks[name].path:
            problems += _problems(grid, name, Path(grid.config.tasks[name].path))
    if problems:
        raise ConfigError(TITLE, problems)


def _problems(grid: Grid, name: str, path: Path) -> list[str]:
    results = Path(grid.config.results)
    if path.is_dir() and results.absolute().resolve().is_relative_to(path.resolve()):
        return [
            f"tasks.{name}.path: {path} holds the results folder {results}, and all of its files "
            "would be copied; give a folder of the data alone, or a file"
        ]
    try:
        if _size(path) > SMALL:
            table.check_header(grid.tasks[name], path)
        else:
            formats.read(grid.tasks[name], path)
    except ConfigError as error:
        return [f"tasks.{name}: {problem}" for problem in error.problems]
    except (ValueError, OSError) as error:
        return [f"tasks.{name}: {error}"]
    return []


def _size(path: Path) -> float:
    """Return the bytes of a table's files; infinity for compressed ones that may be large."""
    if not path.exists():
        return 0
    files = local_data.select(path).values()
    total = sum(one.stat().st_size for one in files)
    return math.inf if any(one.suffix == ".gz" for one in files) and total > SMALL / 10 else total
