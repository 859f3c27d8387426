"""Selection table: best epoch minus last epoch of every run.

The paper reports each run's best epoch, chosen on the set that is reported (Appendix D.1). The
difference to the last epoch, which nothing chose, is an upper bound of how optimistic that is: it
is never negative, and an overfitting model really is better before its last epoch. The table has
every cell of every table.
"""

import math
from pathlib import Path

import pandas as pd

from lora.columns import SELECTION_COLUMNS, group_by
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.task import Task
from lora.files import Row
from lora.tables import constant, statistics
from lora.tables.labels import (
    METHODS,
    Line,
    Note,
    Page,
    Section,
    Subjects,
    method_name,
    model_name,
    number,
    runs_text,
    spread,
)
from lora.tables.layout import partial
from lora.tables.statistics import summarize

NAME = "selection"
AVERAGED = ("best_mean", "last_mean", "difference_mean", "best_epoch_mean", "last_epoch")
VALUES = ("best_value", "last_value", "best_epoch", "last_epoch")
COLUMNS = (
    "Method and task",
    "Best epoch: mean",
    "Last epoch: mean",
    "Best minus last",
    "n",
    "Best epoch: number",
    "Last epoch: number",
)
FOOTNOTES = (
    "Best epoch: the epoch of each run with the highest metric, the earliest of equals. It is "
    "chosen on the set that is reported, as in the paper. The last epoch is not chosen.",
    "Best minus last is computed for each run; shown are mean ± sample standard deviation (n−1) "
    "over seeds. One run has no standard deviation. The difference is never negative. It is an "
    "upper bound of the optimism: a model that overfits is better before its last epoch.",
    "n is the number of finished runs. Failed and missing runs are in no value. The numbers of the "
    "best and the last epoch are means over runs.",
    "A mean over cells counts each cell once, whatever its metric. Cells without a value are left "
    "out and counted.",
)


def make(grid: Grid, runs_csv: Path) -> tuple[list[Row], Page]:
    """Return the rows, with the columns SELECTION_COLUMNS, and the page.

    Raises:
        ConfigError: If runs.csv lacks runs of the grid.
    """
    cells = statistics.read(grid, runs_csv, grid.table_cells)
    every = [_row(cell, grid.tasks[cell.task], runs) for cell, runs in cells.items()]
    rows = [_average(every, {"model": "", "method": "", "protocol": ""})]
    sections = [Section("All cells of all tables", (_line("", "ours", rows[0]),))]
    groups = group_by(every, "model", "method", "protocol")
    for (model, method, protocol), group in groups.items():
        sizes = list(dict.fromkeys(_size(row) for row in group))
        group = sorted(group, key=lambda row: sizes.index(_size(row)))
        lines = [_line(_size(row) if len(sizes) > 1 else "", "ours", row) for row in group]
        if len(group) > 1 and len(groups) > 1:  # a single group has the mean of all cells
            name = {"model": model, "method": method, "protocol": protocol}
            group.append(_average(group, name))
            lines.append(_line("", "difference", group[-1]))
        title = f"{METHODS[method]} {sizes[0]}".strip() if len(sizes) == 1 else METHODS[method]
        sections.append(Section(f"{model_name(model)}: {title}, protocol {protocol}", tuple(lines)))
        rows += group
    note = constant.runs_note(run.line for runs in cells.values() for run in runs)
    return rows, _page(every, rows, tuple(sections), note)


def _size(row: Row) -> str:
    """Return what cells of one method differ in: rank and adapted weights."""
    return method_name(row).removeprefix(METHODS[row["method"]]).lstrip(", ")


def _row(cell: Cell, task: Task, runs: list[statistics.RunRows]) -> Row:
    """Return the row of a cell: differences within each run, then statistics over runs."""
    finished = pd.DataFrame([run.line for run in runs if run.ok], columns=list(VALUES), dtype=float)
    difference = summarize(finished["best_value"] - finished["last_value"])
    row: Row = statistics.identity(cell, task)
    row |= {"metric": task.metric, "cells": 1} | statistics.counts(runs)
    return row | {
        "best_mean": summarize(finished["best_value"])["mean"],
        "last_mean": summarize(finished["last_value"])["mean"],
        "difference_mean": difference["mean"],
        "difference_std": difference["std"],
        "best_epoch_mean": summarize(finished["best_epoch"])["mean"],
        "last_epoch": summarize(finished["last_epoch"])["mean"],
    }


def _average(rows: list[Row], name: Row) -> Row:
    """Return the mean over the cells that have a value. `name` has the columns that they share."""
    used = pd.DataFrame(
        [row for row in rows if not math.isnan(row["difference_mean"])], columns=list(rows[0])
    )
    of = "" if len(used) == len(rows) else f" of {len(rows)}"
    average: Row = dict.fromkeys(SELECTION_COLUMNS, math.nan)
    average |= name | {"weights": "", "task": "average", "metric": "average"}
    average["task_title"] = f"mean of {len(used)}{of} cells"
    average |= {
        key: sum(row[key] for row in rows) for key in ("n_expected", "n_failed", "n_missing")
    }
    average |= {"cells": len(used), "n": int(used["n"].sum())}
    average |= {key: summarize(used[key].astype(float))["mean"] for key in AVERAGED}
    return average


def _line(size: str, kind: str, row: Row) -> Line:
    """Return the line of a cell or of an average. Failed and missing runs are in a note at n."""
    label = f"{size}, {row['task_title']}" if size else row["task_title"]
    about: tuple[Subjects, ...] = ((), (), (), (), (("remark", runs_text(row)),))
    return Line(
        kind,
        (
            label,
            number(row["best_mean"], 2),
            number(row["last_mean"], 2),
            number(row["difference_mean"], 2) + spread(row["difference_std"], 2),
            str(row["n"]),
            number(row["best_epoch_mean"]),
            number(row["last_epoch"]),
        ),
        about,
    )


def _page(
    cells: list[Row], rows: list[Row], sections: tuple[Section, ...], notes: tuple[str, ...]
) -> Page:
    texts = dict.fromkeys(runs_text(row) for row in rows if row["n"] != row["n_expected"])
    remarks = [Note(f"n={text}.", (("remark", text),)) for text in texts]
    return Page(
        name=NAME,
        title="Best epoch compared with last epoch",
        caption="Evaluation set, per cent, for every cell of the tables: the best epoch, as the "
        "paper reports it, and the last epoch.",
        partial=partial(cells),
        columns=COLUMNS,
        sections=sections,
        notes=(*map(Note, (*FOOTNOTES, *notes)), *remarks),
    )
