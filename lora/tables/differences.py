"""Table of differences: two cells of one model and task compared, paired by seed.

Two cells are compared if they differ in one thing: the method (each with its own weights and rank),
the weights, the rank, the protocol, or, in Table 5, the weights at an equal number of parameters.
The difference is taken within each seed that finished in both. Interval and p value are those of
scipy's paired t test. P values are adjusted by Holm (1979, Scandinavian Journal of Statistics 6:65)
over all comparisons of the table, separately for the best and the last epoch.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lora.columns import DIFFERENCES_COLUMNS, group_by
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.files import Row
from lora.tables import constant, statistics
from lora.tables.labels import (
    Line,
    Note,
    Page,
    Section,
    difference,
    interval,
    method_name,
    model_name,
    number,
)
from lora.tables.layout import partial
from lora.tables.statistics import RunRows

NAME = "differences"
LEVEL = 0.05
EPOCHS = ("best", "last")
SAME = 1e-9  # differences that vary by less do not vary: per cent
COLUMNS = ("Pair", "Difference", "95 % interval", "p", "p, Holm", "n")
NOTES = (
    "Difference: the mean over seeds of the first minus the second, in per cent; n is the number "
    "of seeds that finished in both. Interval and p value are those of the paired t test "
    "(scipy.stats.ttest_rel). With fewer than two shared seeds, or the same difference in every "
    "seed, there are none.",
    "p, Holm is adjusted over all comparisons of this table (Holm 1979), for the best and the last "
    "epoch separately. The intervals are not adjusted.",
    "The best epoch is chosen on the set that is reported, so its values are optimistic; the last "
    "epoch is not chosen.",
    "A pair that is not found to differ is not shown to be equal: few seeds find large differences "
    "only.",
)


def make(grid: Grid, runs_csv: Path) -> tuple[list[Row], Page]:
    """Return the rows, with the columns DIFFERENCES_COLUMNS, and the page.

    Raises:
        ConfigError: If runs.csv lacks runs of the grid.
    """
    cells = statistics.read(grid, runs_csv, grid.table_cells)
    pairs = [
        (one, other, axis)
        for one, other in itertools.combinations(cells, 2)
        if (axis := differs_in(grid, one, other))
    ]
    rows = [
        _row(grid, one, other, axis, epoch, cells[one], cells[other])
        for one, other, axis in pairs
        for epoch in EPOCHS
    ]
    for epoch in EPOCHS:
        tested = [row for row in rows if row["epoch"] == epoch and not math.isnan(row["p"])]
        for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row |= {"p_holm": round(adjusted, 9), "comparisons": len(tested)}
    counts = [statistics.counts(runs) for runs in cells.values()]
    page = _page(grid, rows, partial(counts))
    note = constant.runs_note(run.line for runs in cells.values() for run in runs)
    return rows, replace(page, notes=(*page.notes, *map(Note, note)))


def differs_in(grid: Grid, one: Cell, other: Cell) -> str:
    """Return the one thing that two cells differ in; empty if they are not compared."""
    if (one.model, one.task) != (other.model, other.task):
        return ""
    if one.method != other.method:
        return "method" if one.protocol == other.protocol else ""
    axes = [a for a in ("weights", "rank", "protocol") if getattr(one, a) != getattr(other, a)]
    if len(axes) == 1:
        return axes[0]
    table5 = grid.tables.get("table5")
    at_one_budget = (
        axes == ["weights", "rank"]
        and table5 is not None
        and {one, other} <= set(table5.cells)
        and one.rank * len(one.weights) == other.rank * len(other.weights)
    )
    return "weights at equal parameters" if at_one_budget else ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's step-down method, in the order given."""
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def paired(differences: Sequence[float]) -> dict[str, float]:
    """Return mean, std, interval and p value of paired differences; NaN where undefined."""
    from scipy import stats

    values = np.asarray(differences, dtype=float)
    found = dict.fromkeys(("difference", "std", "low", "high", "p"), math.nan)
    if len(values):
        found["difference"] = float(values.mean())
    if len(values) > 1:
        found["std"] = float(values.std(ddof=1))
        if np.ptp(values) > SAME:
            test = stats.ttest_rel(values, np.zeros_like(values))
            interval = test.confidence_interval(1 - LEVEL)
            found |= {"low": float(interval.low), "high": float(interval.high)}
            found["p"] = float(test.pvalue)
    return {name: round(value, 9) for name, value in found.items()}


def _row(
    grid: Grid,
    one: Cell,
    other: Cell,
    axis: str,
    epoch: str,
    runs: list[RunRows],
    other_runs: list[RunRows],
) -> Row:
    """Return the row of a pair for the best or the last epoch."""
    task = grid.tasks[one.task]
    first, second = (
        {run.line["seed"]: run.line[f"{epoch}_value"] for run in of_cell if run.ok}
        for of_cell in (runs, other_runs)
    )
    seeds = [seed for seed in first if seed in second]
    row: Row = dict.fromkeys(DIFFERENCES_COLUMNS, math.nan)
    row |= {"model": one.model, "task": one.task, "task_title": task.title, "metric": task.metric}
    row |= {"differs_in": axis, "epoch": epoch, "comparisons": 0, "n": len(seeds)}
    row["seeds"] = " ".join(map(str, seeds))
    for key in ("method", "weights", "rank", "protocol"):
        row |= {key: getattr(one, key), f"other_{key}": getattr(other, key)}
    return row | paired([first[seed] - second[seed] for seed in seeds])


def _page(grid: Grid, rows: list[Row], why_partial: str) -> Page:
    """Return the page: a section for each model, task, axis and epoch, a line for each pair."""
    groups = group_by(rows, "model", "task_title", "differs_in", "epoch").items()
    sections = [
        Section(
            f"{model_name(model)}, {title}: other {axis}, {epoch} epoch",
            tuple(Line("ours", (_pair(row), *_numbers(row), str(row["n"]))) for row in group),
        )
        for (model, title, axis, epoch), group in groups
    ]
    first = [_summary(rows, epoch) for epoch in EPOCHS]
    if not rows:
        first = [
            "No two cells of one model and task differ in one thing only: nothing is compared."
        ]
    return Page(
        name=NAME,
        title="Differences between cells, paired by seed",
        caption="Evaluation set, per cent: first minus second, of runs with the same seed.",
        partial=why_partial,
        columns=COLUMNS,
        sections=tuple(sections),
        notes=tuple(map(Note, (*first, *NOTES))),
    )


def _numbers(row: Row) -> tuple[str, ...]:
    """Return the texts of difference, interval, p value and adjusted p value."""
    around = interval(row["low"], row["high"], 2)
    return difference(row["difference"], 2), around, _p(row["p"]), _p(row["p_holm"])


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else number(value, 3)


def _pair(row: Row) -> str:
    """Return the two cells in words, with what they share only once."""
    other = {key.removeprefix("other_"): row[key] for key in row if key.startswith("other_")}
    shared = method_name(row)
    if row["differs_in"] == "protocol":
        return f"{shared}: {row['protocol']} − {other['protocol']}"
    return f"{shared} − {method_name(row | other)}, {row['protocol']}"


def _summary(rows: list[Row], epoch: str) -> str:
    """Return which pairs differ after the adjustment, in words."""
    of_epoch = [row for row in rows if row["epoch"] == epoch]
    tested = [row for row in of_epoch if not math.isnan(row["p"])]
    differ = [row for row in tested if row["p_holm"] < LEVEL]
    named = "; ".join(
        f"{model_name(row['model'])}, {row['task_title']}, {_pair(row)}" for row in differ
    )
    found = f"{len(differ)} of {len(tested)} tested pairs differ: {named}" if differ else ""
    found = found or f"none of {len(tested)} tested pairs is found to differ"
    untested = len(of_epoch) - len(tested)
    more = f" {untested} more have no test (fewer than two shared seeds, or no variation)."
    return f"{epoch.capitalize()} epoch, at the 5 % level after Holm's adjustment: {found}." + (
        more if untested else ""
    )
