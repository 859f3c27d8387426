"""Which epochs of a run count: its best and its last one, out of runs.csv, and statistics over runs.

Every epoch of every run is in `runs.csv`. The best one is the epoch with the highest metric, the earliest of equals, as the
paper chooses it (Appendix D.1): on the set it is reported on, so it flatters. The last one is not chosen. A run that failed
or is missing has neither, and a metric that is undefined in an epoch is never skipped over. All tables read runs through
this module, so that no two of them can choose differently.
"""

import math
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import pandas as pd

from lora import files
from lora.columns import CELL_COLUMNS, RUNS_COLUMNS
from lora.errors import ConfigError
from lora.experiment.cell import Cell

STATISTICS = ("median", "mean", "std", "min", "max")


@dataclass(frozen=True)
class RunRows:
    """One run asked for: `line` has records.BEST_COLUMNS, `rows` its epochs as records.RUNS_COLUMNS."""

    line: dict
    rows: pd.DataFrame

    @property
    def ok(self) -> bool:
        return self.line["status"] == "ok"


def read(grid, runs_csv: Path, cells) -> dict[Cell, list[RunRows]]:
    """The runs of these cells out of what `collect` wrote, in the order of the grid's seeds.

    Raises Problems that name every run asked for that runs.csv has no row of.
    """
    table = pd.DataFrame(files.read_csv(runs_csv, RUNS_COLUMNS), columns=list(RUNS_COLUMNS))
    by_run = {key: rows for key, rows in table.groupby([*CELL_COLUMNS, "seed"], sort=False)}
    asked = [(cell, seed) for cell in cells for seed in grid.seeds]
    problems = [
        f"{cell.path}/seed{seed} is not in it"
        for cell, seed in asked
        if (*astuple(cell), seed) not in by_run
    ]
    if problems:
        raise ConfigError(f"{runs_csv} is not of this config; collect the runs again:", problems)
    found = {cell: [] for cell in cells}
    for cell, seed in asked:
        found[cell].append(_run(cell, grid.tasks[cell.task], seed, by_run[(*astuple(cell), seed)]))
    return found


def _run(cell: Cell, task, seed: int, rows: pd.DataFrame) -> RunRows:
    status, values = rows["status"].iloc[-1], rows[task.metric]
    if status == "ok" and values.isna().all():
        status = "undefined"
    line = identity(cell, task) | dict(
        seed=seed, metric=task.metric, trainable=whole(rows["trainable"].iloc[-1])
    )
    line |= dict(
        status=status,
        best_epoch=math.nan,
        best_value=math.nan,
        last_epoch=math.nan,
        last_value=math.nan,
    )
    if status == "ok":
        best, last = values.idxmax(), values.index[-1]
        line |= dict(best_epoch=int(rows["epoch"][best]), best_value=percent(values[best]))
        line |= dict(last_epoch=int(rows["epoch"][last]), last_value=percent(values[last]))
    return RunRows(line, rows)


def identity(cell: Cell, task) -> dict:
    """What names a cell in a table's CSVs."""
    return asdict(cell) | dict(task_title=task.title)


def summarize(values: pd.Series) -> dict[str, float]:
    """median, mean, std (n-1), min and max, rounded to 1e-6; NaN where undefined, which any NaN in `values` makes them.

    The median of an even count is the mean of the middle two.
    """
    return {name: round(float(getattr(values, name)(skipna=False)), 6) for name in STATISTICS}


def counts(runs: list[RunRows]) -> dict[str, int]:
    """How many runs are behind a cell's statistics, and what became of the others."""
    statuses = [run.line["status"] for run in runs]
    failed = statuses.count("non_finite") + statuses.count("undefined")
    return dict(
        n=statuses.count("ok"),
        n_expected=len(runs),
        n_failed=failed,
        n_missing=statuses.count("missing"),
    )


def percent(value: float) -> float:
    return round(float(value) * 100, 6)


def whole(value: float):
    """A count read as a float, as int; NaN stays."""
    return int(value) if value == value else math.nan
