"""Best and last epoch of each run in runs.csv, and statistics over runs.

The best epoch follows the paper (Appendix D.1): it is chosen on the set that is reported, so it is
optimistic. The last epoch is not chosen. A failed or missing run has neither. Every table reads
runs through this module.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import pandas as pd

from lora import files
from lora.columns import CELL_COLUMNS, RUNS_COLUMNS
from lora.errors import ConfigError
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.task import Task
from lora.files import Row
from lora.run_record import best_epoch
from lora.tables import constant

OF_EPOCHS = tuple(
    f"{epoch}_{key}" for epoch in ("best", "last") for key in ("epoch", "value", "constant")
)
STATISTICS = ("median", "mean", "std", "min", "max")


@dataclass(frozen=True)
class RunRows:
    """One requested run.

    Attributes:
        line: Its best and last epoch, with the columns BEST_COLUMNS.
        rows: Its epochs, with the columns RUNS_COLUMNS.
    """

    line: Row
    rows: pd.DataFrame

    @property
    def ok(self) -> bool:
        """Whether the run finished with a defined metric."""
        return self.line["status"] == "ok"


def read(grid: Grid, runs_csv: Path, cells: Iterable[Cell]) -> dict[Cell, list[RunRows]]:
    """Return the runs of these cells, grouped by cell, in the order of the grid's seeds.

    Args:
        grid: The grid that runs.csv was collected for.
        runs_csv: The file that `collect` wrote.
        cells: The cells to read.

    Raises:
        ConfigError: If runs.csv has no row of a run. The message names every such run.
    """
    table = pd.DataFrame(files.read_csv(runs_csv, RUNS_COLUMNS), columns=list(RUNS_COLUMNS))
    by_run = {key: rows for key, rows in table.groupby([*CELL_COLUMNS, "seed"], sort=False)}
    requested = {cell: [(*astuple(cell), seed) for seed in grid.seeds] for cell in cells}
    problems = [
        f"{cell.path}/seed{key[-1]} is not in it"
        for cell, keys in requested.items()
        for key in keys
        if key not in by_run
    ]
    if problems:
        raise ConfigError(
            f"{runs_csv} was not made with this config; collect the runs again:", problems
        )
    return {
        cell: [_run(cell, grid.tasks[cell.task], key[-1], by_run[key]) for key in keys]
        for cell, keys in requested.items()
    }


def _run(cell: Cell, task: Task, seed: int, rows: pd.DataFrame) -> RunRows:
    status, values = rows["status"].iloc[-1], rows[task.metric].tolist()
    best = best_epoch(values)
    if status == "ok" and best is None:
        status = "undefined"
    line: Row = identity(cell, task)
    line["seed"] = seed
    line["metric"] = task.metric
    line["trainable"] = whole(rows["trainable"].iloc[-1])
    line["status"] = status
    line |= dict.fromkeys(OF_EPOCHS, math.nan)
    if status == "ok" and best is not None:
        line |= {"best_epoch": best, "best_value": percent(values[best - 1])}
        line |= {"last_epoch": len(values), "last_value": percent(values[-1])}
        line["best_constant"] = whole(constant.of_epoch(task, rows.iloc[best - 1]))
        line["last_constant"] = whole(constant.of_epoch(task, rows.iloc[-1]))
    return RunRows(line, rows)


def identity(cell: Cell, task: Task) -> Row:
    """Return the columns that name a cell in the CSVs of a table."""
    return asdict(cell) | {"task_title": task.title}


def summarize(values: "pd.Series[float]") -> dict[str, float]:
    """Return median, mean, std (n-1), min and max, rounded to 1e-6.

    All are NaN if a value is NaN. The median of an even count is the mean of the middle two.
    """
    return {name: round(float(getattr(values, name)(skipna=False)), 6) for name in STATISTICS}


def counts(runs: list[RunRows]) -> dict[str, int]:
    """Return how many runs of a cell finished, were requested, failed and are missing."""
    statuses = [run.line["status"] for run in runs]
    failed = statuses.count("non_finite") + statuses.count("undefined")
    return {
        "n": statuses.count("ok"),
        "n_expected": len(runs),
        "n_failed": failed,
        "n_missing": statuses.count("missing"),
    }


def percent(value: float) -> float:
    """Return a fraction in per cent, rounded to 1e-6."""
    return round(float(value) * 100, 6)


def whole(value: float) -> float:
    """Return a count that was read as a float as an int; NaN stays NaN."""
    return int(value) if value == value else math.nan
