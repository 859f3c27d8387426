"""What one training job trains: which cells share a job, whether a grid allows it, and the JSON they travel in.

The config names the axes that are packed. A job is then one value of every other axis with all values of the packed ones,
so that one rule with fixed outputs serves every pack. It follows that the packed axes must form a full product with the
rest of the grid: a cell that no table asks for is refused, never trained. The cost is that two tables of different shape
cannot always pack the same axis in one config. A job is told its cells with every hyperparameter resolved: the command
line looks nothing up again, so that what the workflow resolved is what is trained.
"""

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lora import files
from lora.columns import CELL_COLUMNS
from lora.errors import ConfigError, shown
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting
from lora.experiment.task import Task

CELL_KEYS = (*CELL_COLUMNS, "hparams", "tokens_dir", "start_dirs")  # of one object of --cells
SHOWN = 3  # cells that a message names before "and N more"


@dataclass(frozen=True)
class Packing:
    """How the runs of a grid are divided into jobs: the packed `axes`, of task, weights, rank and seed."""

    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]

    @property
    def packed(self) -> dict[str, list]:
        """Every packed axis with its values in the whole grid, sorted, so that the order of a config decides nothing."""
        return {axis: self._values(axis) for axis in self.axes}

    def _values(self, axis: str) -> list:
        return sorted(
            self.seeds if axis == "seed" else {getattr(cell, axis) for cell in self.cells}
        )

    def cells_of(self, wildcards: dict) -> list[Cell]:
        """The cells that the job with these wildcards trains; they hold every axis that is not packed, as text or value."""
        values = {
            axis: self._values(axis) if axis in self.axes else [wildcards[axis]]
            for axis in CELL_COLUMNS
        }
        values["rank"] = [int(rank) for rank in values["rank"]]
        return [Cell(*one) for one in itertools.product(*values.values())]

    def seeds_of(self, wildcards: dict) -> list[int]:
        """The seeds that the job with these wildcards trains of each of its cells."""
        return self._values("seed") if "seed" in self.axes else [int(wildcards["seed"])]

    def jobs(self) -> list[tuple[tuple[Cell, ...], tuple[int, ...]]]:
        """Every training job of the grid, as its cells and the seeds of each, in the order of the cells."""
        found = {}
        for cell in self.cells:
            for seed in self.seeds:
                values = asdict(cell) | dict(seed=seed)
                found.setdefault((tuple(self.cells_of(values)), tuple(self.seeds_of(values))))
        return list(found)

    def not_asked_for(self) -> list[Cell]:
        """The cells that these packs would train and that no table asks for."""
        asked, seen, extra = set(self.cells), set(), []
        for cell in self.cells:
            if cell not in seen:
                together = self.cells_of(asdict(cell))
                seen.update(together)
                extra += [other for other in together if other not in asked]
        return extra

    def problems(self) -> list[str]:
        """What forbids these packs, one line each; none for no packed axis."""
        methods = sorted({cell.method for cell in self.cells})
        if len(methods) > 1 and {"weights", "rank"} & set(self.axes):
            rest = tuple(axis for axis in self.axes if axis not in ("weights", "rank"))
            return [
                f"pack: got {_written(self.axes)}, but {', '.join(methods)} have weights and ranks of their own; "
                f"use pack: {_written(rest)}, or a config for each method"
            ]
        extra = [cell.path for cell in self.not_asked_for()]
        found = []
        if extra:
            more = f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else ""
            found.append(
                f"pack: got {_written(self.axes)}, which trains all values of {', '.join(self._cell_axes())} together, "
                f"but no table asks for {', '.join(extra[:SHOWN])}{more}; use pack: {_written(self._fitting())}, "
                "or a config for each table, with the other one null"
            )
        return found

    def _cell_axes(self) -> list[str]:
        return [axis for axis in self.axes if axis != "seed"]

    def _fitting(self) -> tuple[str, ...]:
        """The first of the largest choices of these axes that the grid allows."""
        smaller = (
            axes
            for size in reversed(range(len(self.axes)))
            for axes in itertools.combinations(self.axes, size)
        )
        return next(
            axes for axes in smaller if not Packing(axes, self.cells, self.seeds).not_asked_for()
        )


def _written(axes: tuple[str, ...]) -> str:
    return f"[{', '.join(axes)}]"


@dataclass(frozen=True)
class JobCell:
    """A cell as a job gets it: its resolved hyperparameters, the folder of the tokens it trains on, and the folders, under
    that of all runs, of those of which the best one is what it starts from; none where it starts from no other run."""

    cell: Cell
    hparams: Hparams
    tokens_dir: str
    start_dirs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """One run that is wanted: its settings as run.json holds them, its task, the prepared tokens it trains on, the folder
    its outputs go to, and the folders of the runs of which the best is what it starts from, if it starts from one."""

    settings: dict
    task: Task
    tokens_dir: Path
    output_dir: Path
    start_dirs: tuple[Path, ...] = ()

    @property
    def hparams(self) -> Hparams:
        return Hparams(**self.settings["hparams"])


def to_json(cells: list[JobCell]) -> str:
    """One line of JSON, the same for the same cells; `parse_json` reads it."""
    listed = [asdict(one.cell) | _inputs(one) for one in cells]
    return json.dumps(listed, sort_keys=True, separators=(",", ":"))


def _inputs(one: JobCell) -> dict:
    return dict(
        hparams=one.hparams.as_dict(), tokens_dir=one.tokens_dir, start_dirs=list(one.start_dirs)
    )


def parse_json(text: str) -> list[JobCell]:
    """The cells of one job, each checked anew; raises Problems that name every wrong one by its place, from 0.

    They are distinct and of one model, the one that their runs share.
    """
    allowed = f"allowed: a JSON list of objects with the keys {', '.join(CELL_KEYS)}"
    try:
        listed = files.parse_json(text)
    except ValueError as error:
        raise ConfigError(
            "The cells of a job:", [f"got {shown(text)} ({error}); {allowed}"]
        ) from None
    if not isinstance(listed, list) or not listed:
        raise ConfigError("The cells of a job:", [f"got {shown(text)}; {allowed}, at least one"])
    cells, problems = [], []
    for place, one in enumerate(listed):
        try:
            cells.append(_parse_cell(one))
        except ConfigError as error:
            problems += [f"cell {place}: {problem}" for problem in error.problems]
    paths = [one.cell.path for one in cells]
    problems += [
        f"{path} is there more than once; keep one"
        for path in sorted(set(paths))
        if paths.count(path) > 1
    ]
    models = sorted({one.cell.model for one in cells})
    if len(models) > 1:
        problems.append(
            f"got models {', '.join(models)}; allowed: one, which the runs share; give each a job of its own"
        )
    if problems:
        raise ConfigError("The cells of a job:", problems)
    return cells


def _parse_cell(one) -> JobCell:
    if not isinstance(one, dict) or set(one) != set(CELL_KEYS):
        raise ConfigError(
            "", [f"got {_keys(one)}; allowed: the keys {', '.join(CELL_KEYS)}, all of them"]
        )
    hparams = one["hparams"]
    problems = [
        f"{key} is {shown(one[key])}; allowed: {'a whole number' if kind is int else 'text'}"
        for key, kind in (
            *((axis, int if axis == "rank" else str) for axis in CELL_COLUMNS),
            ("tokens_dir", str),
        )
        if type(one[key]) is not kind
    ]
    starts = one["start_dirs"]
    if type(starts) is not list or not all(isinstance(folder, str) for folder in starts):
        problems.append(f"start_dirs is {shown(starts)}; allowed: a list of folders")
    if not isinstance(hparams, dict) or set(hparams) != set(HPARAM_NAMES):
        problems.append(
            f"hparams has {_keys(hparams)}; allowed: the keys {', '.join(HPARAM_NAMES)}, all of them"
        )
    if problems:
        raise ConfigError("", problems)
    cell, values = Cell(*(one[axis] for axis in CELL_COLUMNS)), {}
    for name, value in hparams.items():
        try:
            values[name] = parse_setting(name, value, cell.rank)
        except ValueError as error:
            problems.append(f"hparams.{error}")
    if problems:
        raise ConfigError("", problems)
    return JobCell(cell, Hparams(**values), one["tokens_dir"], tuple(starts))


def _keys(value) -> str:
    return (
        f"the keys {', '.join(value)[:200] or 'none'}" if isinstance(value, dict) else shown(value)
    )
