"""What choosing the best epoch adds: the optimism of the paper's protocol, measured on our own runs.

The paper reports each run's best epoch, chosen on the set it is reported on (Appendix D.1). Every run here has its last
epoch too, which nothing chose, so the difference within a run, best minus last, is what the choice is worth: never below
zero, larger with more epochs to choose from and with fewer examples. It is an upper bound of the flattery, for a model that
overfits is truly better before its last epoch. Made of all cells of all tables, out of runs.csv alone.
"""

import math
from pathlib import Path

import pandas as pd

from lora.columns import SELECTION_COLUMNS
from lora.tables import statistics
from lora.tables.labels import METHODS, MODELS, Line, Page, Section, method_name, number, spread
from lora.tables.layout import partial
from lora.tables.statistics import summarize

NAME = "selection"
AVERAGED = ("best_mean", "last_mean", "difference_mean", "best_epoch_mean", "last_epoch")
COLUMNS = (
    "Method and task",
    "Best epoch: mean",
    "Last epoch: mean",
    "Best minus last",
    "n",
    "Epoch chosen",
    "of",
)


def make(grid, runs_csv: Path) -> tuple[list[dict], Page]:
    """Rows of records.SELECTION_COLUMNS and the page, of every cell that a table asks for. Raises Problems as
    `epochs.read`."""
    groups = {}
    for cell, runs in statistics.read(grid, runs_csv, grid.asked).items():
        groups.setdefault((cell.model, cell.method, cell.protocol), []).append(
            _row(cell, grid.tasks[cell.task], runs)
        )
    rows = [
        _average(
            [row for mine in groups.values() for row in mine],
            dict(model="", method="", protocol=""),
        )
    ]
    sections = [Section("All cells of all tables", (_line("", "ours", rows[0]),))]
    for (model, method, protocol), mine in groups.items():
        sizes = list(dict.fromkeys(_size(row) for row in mine))
        mine = sorted(mine, key=lambda row: sizes.index(_size(row)))
        lines = [_line(_size(row) if len(sizes) > 1 else "", "ours", row) for row in mine]
        if len(mine) > 1:
            mine.append(_average(mine, dict(model=model, method=method, protocol=protocol)))
            lines.append(_line("", "difference", mine[-1]))
        size = f"{METHODS[method]} {sizes[0]}".strip() if len(sizes) == 1 else METHODS[method]
        sections.append(
            Section(f"{MODELS.get(model, model)}: {size}, protocol {protocol}", tuple(lines))
        )
        rows += mine
    return rows, _page(rows, tuple(sections))


def _size(row: dict) -> str:
    """What tells cells of one method apart: rank and what is adapted."""
    return method_name(row).removeprefix(METHODS[row["method"]]).lstrip(", ")


def _row(cell, task, runs: list[statistics.RunRows]) -> dict:
    """A cell's line: differences are taken within each run, then over runs."""
    keys = ["best_value", "last_value", "best_epoch", "last_epoch"]
    done = pd.DataFrame([run.line for run in runs if run.ok], columns=keys, dtype=float)
    difference = summarize(done["best_value"] - done["last_value"])
    row = (
        statistics.identity(cell, task)
        | dict(metric=task.metric, cells=1)
        | statistics.counts(runs)
    )
    return row | dict(
        best_mean=summarize(done["best_value"])["mean"],
        last_mean=summarize(done["last_value"])["mean"],
        difference_mean=difference["mean"],
        difference_std=difference["std"],
        best_epoch_mean=summarize(done["best_epoch"])["mean"],
        last_epoch=summarize(done["last_epoch"])["mean"],
    )


def _average(rows: list[dict], named: dict) -> dict:
    """The mean over the cells that have a figure, each counted once, and how many those are; n is the runs behind them."""
    whole = pd.DataFrame(
        [row for row in rows if not math.isnan(row["difference_mean"])], columns=list(rows[0])
    )
    means = {key: summarize(whole[key].astype(float))["mean"] for key in AVERAGED}
    numbers = {
        key: sum(row[key] for row in rows) for key in ("n_expected", "n_failed", "n_missing")
    }
    numbers |= dict(cells=len(whole), n=int(whole["n"].sum()))
    of = "" if len(whole) == len(rows) else f" of {len(rows)}"
    named = named | dict(
        weights="", task="average", task_title=f"mean of {len(whole)}{of} cells", metric="average"
    )
    return dict.fromkeys(SELECTION_COLUMNS, math.nan) | named | numbers | means


def _line(size: str, kind: str, row: dict) -> Line:
    label = f"{size}, {row['task_title']}" if size else row["task_title"]
    failed = f", {row['n_failed']} failed" if row["n_failed"] else ""
    runs = (
        str(row["n"])
        if row["n"] == row["n_expected"]
        else f"{row['n']} of {row['n_expected']}{failed}"
    )
    difference = number(row["difference_mean"], 2) + spread(row["difference_std"], 2)
    means = (number(row[key], 2) for key in ("best_mean", "last_mean"))
    return Line(
        kind,
        (
            label,
            *means,
            difference,
            runs,
            number(row["best_epoch_mean"]),
            _whole(row["last_epoch"]),
        ),
    )


def _whole(value: float) -> str:
    return (
        number(value, 0 if value == round(value) else 1) if not math.isnan(value) else number(value)
    )


def _page(rows: list[dict], sections: tuple[Section, ...]) -> Page:
    notes = (
        "Best epoch: each run's epoch with the highest metric, the earliest of equals, chosen on the set it is reported on, "
        "as in the paper. Last epoch: chosen by nothing.",
        "Best minus last: taken within each run, then mean ± sample standard deviation (n−1) over seeds; one run has none. "
        "It cannot be below zero. It is what choosing adds at most: a model that overfits is better before its last epoch.",
        "n: finished runs; a failed or missing run is in no figure. Best epoch: mean of its number over runs, of so many "
        "epochs.",
        "A mean of cells counts each cell once, whatever its metric; cells without a figure are left out of it and counted.",
    )
    return Page(
        name=NAME,
        title="What choosing the best epoch adds",
        caption="Evaluation set figures in per cent, of every cell of the tables asked for: the best epoch, as the paper "
        "reports it, beside the last one.",
        partial=partial([row for row in rows if row["task"] != "average"]),
        columns=COLUMNS,
        sections=sections,
        footnotes=notes,
        details_texts=0,
        details_columns=(),
        details=(),
    )
