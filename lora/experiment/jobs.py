"""The runs of one training job, as the JSON text that the workflow passes to `lora train --cells`.

The JSON holds every hyperparameter, resolved, so the command line looks nothing up again: the job
trains what the workflow resolved. It is a parameter of the train rule, so its text is the same for
the same cells.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora import files, paths
from lora.columns import CELL_COLUMNS
from lora.errors import ConfigError, shown
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting
from lora.experiment.run_spec import RunSpec
from lora.experiment.task import Task

CELL_KEYS = (*CELL_COLUMNS, "hparams", "tokens_dir", "start_dirs")  # of one object of the list
TITLE = "The cells of a job are not valid:"


def cell_entry(
    cell: Cell, hparams: Hparams, tokens_dir: str, start_dirs: Iterable[str] = ()
) -> dict[str, object]:
    """Return the JSON object of one cell.

    Args:
        cell: The cell.
        hparams: Its resolved hyperparameters.
        tokens_dir: Folder of its prepared tokens.
        start_dirs: Folders of the runs that its runs start from, relative to the runs folder.
    """
    inputs = dict(hparams=hparams.as_dict(), tokens_dir=tokens_dir, start_dirs=list(start_dirs))
    return asdict(cell) | inputs


def to_json(entries: Sequence[Mapping[str, object]]) -> str:
    """Return one line of JSON for these objects of `cell_entry`."""
    return json.dumps(entries, sort_keys=True, separators=(",", ":"))


def parse_json(
    text: str, seeds: Sequence[int], runs_dir: Path, tasks: Mapping[str, Task]
) -> list[RunSpec]:
    """Return the runs of one job: every seed of every cell, in the order of the cells.

    Args:
        text: What `to_json` wrote.
        seeds: The seeds of each cell.
        runs_dir: Folder of all runs. Outputs go to `runs_dir/<cell>/seed<n>`.
        tasks: The known tasks by name.

    Raises:
        ConfigError: If a cell is not valid, is there twice, or has another model than the first.
            It names every problem, and a cell by its index.
    """
    cells: list[tuple[Cell, Hparams, Path, tuple[Path, ...]]] = []
    problems: list[str] = []
    for index, entry in enumerate(_parse_list(text)):
        try:
            cells.append(_parse_entry(entry, runs_dir, tasks))
        except ConfigError as error:
            problems += [f"cell {index}: {problem}" for problem in error.problems]
    names = [cell.path for cell, *_ in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"{name} is in the list more than once; keep one" for name in twice]
    models = sorted({cell.model for cell, *_ in cells})
    if len(models) > 1:
        problems.append(
            f"got models {', '.join(models)}; allowed: one model per job, which its runs share"
        )
    if problems:
        raise ConfigError(TITLE, problems)
    return [
        RunSpec(
            cell=cell,
            seed=seed,
            hparams=hparams,
            task=tasks[cell.task],
            tokens_dir=tokens_dir,
            output_dir=Path(paths.run_dir(runs_dir, cell.path, seed)),
            start_dirs=start_dirs,
        )
        for cell, hparams, tokens_dir, start_dirs in cells
        for seed in seeds
    ]


def _parse_list(text: str) -> list[object]:
    allowed = f"allowed: a JSON list of objects with the keys {', '.join(CELL_KEYS)}"
    try:
        entries = files.parse_json(text)
    except ValueError as error:
        raise ConfigError(TITLE, [f"got {shown(text)} ({error}); {allowed}"]) from None
    if not isinstance(entries, list) or not entries:
        raise ConfigError(TITLE, [f"got {shown(text)}; {allowed}, at least one"])
    return entries


def _parse_entry(
    entry: object, runs_dir: Path, tasks: Mapping[str, Task]
) -> tuple[Cell, Hparams, Path, tuple[Path, ...]]:
    if not isinstance(entry, dict) or set(entry) != set(CELL_KEYS):
        raise ConfigError(
            "", [f"got {_keys(entry)}; allowed: exactly the keys {', '.join(CELL_KEYS)}"]
        )
    problems = [
        f"{key} is {shown(entry[key])}; allowed: {'a whole number' if kind is int else 'text'}"
        for key, kind in (
            *((axis, int if axis == "rank" else str) for axis in CELL_COLUMNS),
            ("tokens_dir", str),
        )
        if type(entry[key]) is not kind
    ]
    starts, hparams = entry["start_dirs"], entry["hparams"]
    if type(starts) is not list or not all(isinstance(folder, str) for folder in starts):
        problems.append(f"start_dirs is {shown(starts)}; allowed: a list of folders")
    if not isinstance(hparams, dict) or set(hparams) != set(HPARAM_NAMES):
        problems.append(
            f"hparams has {_keys(hparams)}; allowed: exactly the keys {', '.join(HPARAM_NAMES)}"
        )
    if problems:
        raise ConfigError("", problems)
    cell = Cell(**{axis: entry[axis] for axis in CELL_COLUMNS})
    if cell.task not in tasks:
        problems.append(f"no task {cell.task!r}; allowed: {', '.join(tasks)}")
    values: dict[str, Any] = {}  # parse_setting gives each the type of its field
    for name, value in hparams.items():
        try:
            values[name] = parse_setting(name, value, cell.rank)
        except ValueError as error:
            problems.append(f"hparams.{error}")
    if problems:
        raise ConfigError("", problems)
    start_dirs = tuple(runs_dir / folder for folder in starts)
    return cell, Hparams(**values), Path(entry["tokens_dir"]), start_dirs


def _keys(value: object) -> str:
    if isinstance(value, dict):
        return f"the keys {', '.join(value)[:200] or 'none'}"
    return shown(value)
