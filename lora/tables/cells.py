"""From rows to table cells: which statistic is taken of a cell's runs, and which published figure stands beside it.

Each cell gets the paper's figure (median over seeds of each run's best epoch, Appendix D.1) and an unselected one (mean of
the last epoch); which epochs those are is `epochs`, what is published of the same cell is `matching`. MNLI has its second
evaluation set, and both as one, in columns of their own, at the epochs that the matched set chose. A failed or missing run
is counted and never replaced. How a table looks is `layout` and `render`.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lora.columns import (
    BEST_COLUMNS,
    CURVES_COLUMNS,
    PUBLISHED_COLUMNS,
    SELECTION_COLUMNS,
    TABLE_COLUMNS,
)
from lora.errors import ConfigError
from lora.experiment.cell import Cell
from lora.files import write_csv, write_text
from lora.tables import layout, render, selection, statistics
from lora.tables import published as matching
from lora.tables.collect import collect, write_provenance
from lora.tables.labels import GLUE, OTHER_SETS, Page
from lora.tables.statistics import RunRows, percent, summarize, whole

__all__ = ["Made", "collect", "make", "write", "write_provenance"]

AVERAGED = ("best_median", "best_mean", "last_median", "last_mean")


@dataclass(frozen=True)
class Made:
    """One table, every way it is written: rows of records.{TABLE,PUBLISHED,BEST,CURVES}_COLUMNS, and the page."""

    name: str
    cells: list[dict]
    published: list[dict]
    best: list[dict]
    curves: list[dict]
    page: Page


def make(grid, runs_csv: Path, name: str) -> Made:
    """Table `name` of `grid` from what `collect` wrote.

    Raises Problems when the grid has no such table, or runs.csv lacks runs of it.
    """
    if name not in grid.tables:
        allowed = ", ".join([*grid.tables, selection.NAME])
        raise ConfigError(
            f"No table {name!r} is asked for:", [f"allowed: {allowed}; add it under tables:"]
        )
    table = grid.tables[name]
    runs = statistics.read(grid, runs_csv, table.cells)
    cells, best, curves = [], [], []
    for cell, of_cell in runs.items():
        task = grid.tasks[cell.task]
        best += [run.line for run in of_cell]
        curves += _curves(cell, task, [run.rows for run in of_cell if run.ok], len(of_cell))
        cells.append(_cell(grid, name, cell, task.title, task.metric, of_cell))
        if len(task.eval_splits) > 1 and name == "table2":
            cells += _other_sets(grid, name, cell, task, of_cell)
    if name == "table2" and set(GLUE) <= set(table.tasks):
        cells += _averages(cells)
    published = matching.beside(grid, table, cells)
    cells = [matching.compared(row, published) for row in cells]
    return Made(name, cells, published, best, curves, layout.page(grid, table, cells, published))


def write(grid, runs_csv: Path, name: str, folder: Path) -> None:
    """Write table `name` into `folder`: <name>.csv .md .tex .html, and, but for the table of selection, <name>_published,
    _best and _curves.csv."""
    folder = Path(folder)
    if name == selection.NAME:
        rows, page = selection.make(grid, runs_csv)
        files = (("", SELECTION_COLUMNS, rows),)
    else:
        made = make(grid, runs_csv, name)
        page = made.page
        files = (
            ("", TABLE_COLUMNS, made.cells),
            ("_published", PUBLISHED_COLUMNS, made.published),
            ("_best", BEST_COLUMNS, made.best),
            ("_curves", CURVES_COLUMNS, made.curves),
        )
    for suffix, columns, rows in files:
        write_csv(folder / f"{name}{suffix}.csv", columns, rows)
    for suffix, convert in (
        (".md", render.to_markdown),
        (".tex", render.to_latex),
        (".html", render.to_html),
    ):
        write_text(folder / f"{name}{suffix}", convert(page))


def _row(table: str, cell: Cell) -> str:
    """The row of a table in which a cell stands, in words that no other row has."""
    shared = f"{cell.model} {cell.task} {cell.method}"
    if table == "table5":
        return f"{shared} {cell.protocol} budget r{cell.rank * len(cell.weights)}"
    if table == "table6":
        return f"{shared} {cell.weights} {cell.protocol}"
    return f"{cell.model} {cell.method} {cell.weights} r{cell.rank} {cell.protocol}"


def _cell(grid, table: str, cell: Cell, title: str, metric: str, runs: list[RunRows]) -> dict:
    """A cell's line of the long CSV, without what is published."""
    done = pd.DataFrame(
        [run.line for run in runs if run.ok], columns=["best_value", "last_value"], dtype=float
    )
    best, last = summarize(done["best_value"]), summarize(done["last_value"])
    examples = pd.concat([run.rows["eval_examples"] for run in runs]).dropna()
    trainable = [
        run.line["trainable"] for run in runs if run.line["trainable"] == run.line["trainable"]
    ]
    hparams = grid.hparams(cell)
    row = (
        dict.fromkeys(TABLE_COLUMNS, math.nan)
        | asdict(cell)
        | dict(task_title=title, metric=metric)
    )
    row |= dict(
        row=_row(table, cell),
        column=matching.column(table, row),
        start=hparams.start,
        head=hparams.head,
    )
    row |= statistics.counts(runs) | dict(
        base_precision=" ".join(
            sorted({run.rows["base_precision"].iloc[0] for run in runs} - {""})
        ),
        trainable=trainable[0] if trainable else math.nan,
        eval_examples=whole(examples.iloc[0]) if len(examples) else math.nan,
    )
    row |= {f"best_{key}": best[key] for key in statistics.STATISTICS}
    return row | {f"last_{key}": last[key] for key in ("mean", "median", "std")}


def _other_sets(grid, table: str, cell: Cell, task, runs: list[RunRows]) -> list[dict]:
    """MNLI's second evaluation set and both sets as one, at the epochs that the first set chose; none where no finished run
    has recorded such a figure."""
    lines = []
    for metric, suffix in OTHER_SETS.items():
        other = []
        for run in runs:
            values, line = run.rows.set_index("epoch")[metric], run.line
            if run.ok:
                at = dict(
                    best_value=values[line["best_epoch"]], last_value=values[line["last_epoch"]]
                )
                line = line | {key: percent(value) for key, value in at.items()}
            other.append(RunRows(line, run.rows))
        finished = [run.rows[metric] for run in runs if run.ok]
        if not finished or pd.concat(finished).notna().any():
            row = _cell(grid, table, cell, f"{task.title}-{suffix}", metric, other)
            lines.append(row | dict(eval_examples=math.nan))  # the set's size is not recorded
    return lines


def _averages(cells: list[dict]) -> list[dict]:
    """The paper's Avg: the mean of a row's eight GLUE figures, empty where one of them is; counts are of the task with the
    fewest runs."""
    averages = []
    for row in dict.fromkeys(cell["row"] for cell in cells):
        eight = [cell for cell in cells if cell["row"] == row and cell["column"] in GLUE]
        frame, fewest = pd.DataFrame(eight), min(eight, key=lambda cell: cell["n"])
        means = {key: round(float(frame[key].mean(skipna=False)), 6) for key in AVERAGED}
        numbers = {key: fewest[key] for key in ("n", "n_expected", "n_failed", "n_missing")}
        kept = {
            key: eight[0][key] for key in ("row", "model", "method", "weights", "rank", "protocol")
        }
        kept |= {key: " ".join(sorted({cell[key] for cell in eight})) for key in ("start", "head")}
        kept["base_precision"] = " ".join(
            sorted({one for cell in eight for one in cell["base_precision"].split()})
        )
        kept["trainable"] = next((cell["trainable"] for cell in eight if cell["n"]), math.nan)
        blank = dict.fromkeys(TABLE_COLUMNS, math.nan)
        named = dict(column="average", task="average", task_title="Avg", metric="average")
        averages.append(blank | kept | means | numbers | named)
    return averages


def _curves(cell: Cell, task, runs: list[pd.DataFrame], expected: int) -> list[dict]:
    """Mean, min and max over the finished runs, epoch by epoch."""
    if not runs:
        return []
    frame = pd.concat(runs).assign(metric_percent=lambda rows: rows[task.metric] * 100)
    lines = []
    for epoch, rows in frame.groupby("epoch"):
        line = statistics.identity(cell, task) | dict(
            metric=task.metric, epoch=int(epoch), n=len(rows), n_expected=expected
        )
        for name, column in (
            ("metric", "metric_percent"),
            ("train_loss", "train_loss"),
            ("eval_loss", "eval_loss"),
        ):
            values = summarize(rows[column])
            line |= {f"{name}_{key}": values[key] for key in ("mean", "min", "max")}
        lines.append(line)
    return lines
