"""Aggregate runs into the cells of a table: statistics over seeds, and the published value.

Each cell has the paper's value (median over seeds of each run's best epoch, Appendix D.1) and one
without selection (mean of the last epoch). MNLI's second evaluation set, and both sets together,
have their own columns, at the epochs that the matched set chose. A failed or missing run is counted
and never replaced.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from lora.columns import (
    BEST_COLUMNS,
    CLAIMS_COLUMNS,
    CURVES_COLUMNS,
    DIFFERENCES_COLUMNS,
    PUBLISHED_COLUMNS,
    SELECTION_COLUMNS,
    TABLE_COLUMNS,
)
from lora.errors import ConfigError
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.task import Task
from lora.files import Columns, Row, write_csv, write_text
from lora.tables import (
    claims,
    differences,
    layout,
    layout_details,
    majority,
    render,
    selection,
    sources,
    statistics,
)
from lora.tables import published as matching
from lora.tables.labels import GLUE, OTHER_SETS, Page
from lora.tables.statistics import RunRows, percent, summarize, whole

AVERAGED = ("best_median", "best_mean", "last_median", "last_mean")
COUNTS = ("n", "n_expected", "n_failed", "n_missing")
CONSTANT = ("best_constant", "last_constant")
SUMMARIES = {  # tables of every cell of the grid
    selection.NAME: (selection.make, SELECTION_COLUMNS),
    differences.NAME: (differences.make, DIFFERENCES_COLUMNS),
    claims.NAME: (claims.make, CLAIMS_COLUMNS),
}
CURVES = {"metric": "metric_percent", "train_loss": "train_loss", "eval_loss": "eval_loss"}


@dataclass(frozen=True)
class TableData:
    """One table: the rows of its CSVs, and its page.

    Attributes:
        name: Name of the table.
        cells: Rows of <table>.csv, with the columns TABLE_COLUMNS.
        published: Rows of <table>_published.csv, with the columns PUBLISHED_COLUMNS.
        best: Rows of <table>_best.csv, with the columns BEST_COLUMNS.
        curves: Rows of <table>_curves.csv, with the columns CURVES_COLUMNS.
        page: The table, ready to be rendered.
        details: Its second page, with all statistics.
    """

    name: str
    cells: list[Row]
    published: list[Row]
    best: list[Row]
    curves: list[Row]
    page: Page
    details: Page


def make(grid: Grid, runs_csv: Path, name: str) -> TableData:
    """Make a table from the runs.csv that `collect` wrote.

    Raises:
        ConfigError: If the grid has no such table, or runs.csv lacks runs of it.
    """
    if name not in grid.tables:
        allowed = ", ".join([*grid.tables, *SUMMARIES])
        raise ConfigError(
            f"The config has no table {name!r}:",
            [f"allowed: {allowed}; to make another one, add it under `tables:`"],
        )
    table = grid.tables[name]
    cells: list[Row] = []
    best: list[Row] = []
    curves: list[Row] = []
    for cell, runs in statistics.read(grid, runs_csv, table.cells).items():
        task = grid.tasks[cell.task]
        best += [run.line for run in runs]
        curves += _curves(cell, task, runs)
        cells.append(_cell(grid, name, cell, task.title, task.metric, runs))
        if len(task.eval_splits) > 1 and name == "table2":
            cells += _other_sets(grid, name, cell, task, runs)
    if name == "table2" and set(GLUE) <= set(table.tasks):
        cells += _averages(cells)
    published = matching.match(grid, table, cells)
    cells = [matching.with_published(row, published) for row in cells]
    page = layout.page(grid, table, cells, published)
    details = layout_details.page(grid, table, cells, published)
    return TableData(name, cells, published, best, curves, page, details)


def page(grid: Grid, runs_csv: Path, name: str) -> Page:
    """Return a page of a table of the config, or of a summary of all its cells.

    Args:
        grid: The grid.
        runs_csv: The file that `collect` wrote.
        name: One of `page_names`.
    """
    if name in SUMMARIES:
        return SUMMARIES[name][0](grid, runs_csv)[1]
    data = make(grid, runs_csv, name.removesuffix(layout_details.SUFFIX))
    return data.details if name.endswith(layout_details.SUFFIX) else data.page


def page_names(grid: Grid) -> list[str]:
    """Return the names of all pages: two for each table of the config, and the summaries."""
    both = (name + suffix for name in grid.tables for suffix in ("", layout_details.SUFFIX))
    return [*both, *SUMMARIES]


def write(grid: Grid, runs_csv: Path, name: str, folder: Path) -> None:
    """Write a table into `folder`: <name>.csv, .md, .tex and .html.

    The tables of the config also get <name>_details.md, .tex and .html, and <name>_published, _best
    and _curves.csv.
    """
    folder = Path(folder)
    written: list[tuple[str, Columns, list[Row]]]
    if name in SUMMARIES:
        make_summary, columns = SUMMARIES[name]
        rows, page = make_summary(grid, runs_csv)
        pages = [page]
        written = [("", columns, rows)]
    else:
        data = make(grid, runs_csv, name)
        pages = [data.page, data.details]
        written = [
            ("", TABLE_COLUMNS, data.cells),
            ("_published", PUBLISHED_COLUMNS, data.published),
            ("_best", BEST_COLUMNS, data.best),
            ("_curves", CURVES_COLUMNS, data.curves),
        ]
    for suffix, columns, rows in written:
        write_csv(folder / f"{name}{suffix}.csv", columns, rows)
    for page in pages:
        write_text(folder / f"{page.name}.md", render.to_markdown(page))
        write_text(folder / f"{page.name}.tex", render.to_latex(page))
        write_text(folder / f"{page.name}.html", render.to_html(page))


def _row_name(table: str, cell: Cell) -> str:
    """Return a name for the row of a cell that no other row of the table has."""
    shared = f"{cell.model} {cell.task} {cell.method}"
    if table == "table5":
        return f"{shared} {cell.protocol} budget r{cell.rank * len(cell.weights)}"
    if table == "table6":
        return f"{shared} {cell.weights} {cell.protocol}"
    return f"{cell.model} {cell.method} {cell.weights} r{cell.rank} {cell.protocol}"


def _cell(grid: Grid, table: str, cell: Cell, title: str, metric: str, runs: list[RunRows]) -> Row:
    """Return the row of a cell for one metric, without the published value."""
    finished = pd.DataFrame(
        [run.line for run in runs if run.ok], columns=["best_value", "last_value"], dtype=float
    )
    best, last = summarize(finished["best_value"]), summarize(finished["last_value"])
    examples = pd.concat([run.rows["eval_examples"] for run in runs]).dropna()
    trainable = [run.line["trainable"] for run in runs if not math.isnan(run.line["trainable"])]
    hparams = grid.hparams(cell)
    row: Row = dict.fromkeys(TABLE_COLUMNS, math.nan)
    row |= asdict(cell) | {"task_title": title, "metric": metric}
    row |= {"row": _row_name(table, cell), "column": matching.column(table, row)}
    row |= {"start": hparams.start, "head": hparams.head}
    row |= statistics.counts(runs)
    row["majority"] = majority.of_cell(grid.tasks[cell.task], metric, runs)
    row["source_problem"] = sources.problem(grid, cell, runs)
    row["base_precision"] = _joined(run.rows["base_precision"].iloc[0] for run in runs)
    row["trainable"] = trainable[0] if trainable else math.nan
    row["eval_examples"] = whole(examples.iloc[0]) if len(examples) else math.nan
    row |= {f"best_{key}": best[key] for key in statistics.STATISTICS}
    row |= {f"last_{key}": last[key] for key in ("mean", "median", "std")}
    for key in CONSTANT:
        row[key] = sum(run.line[key] == 1 for run in runs)
    return row


def _joined(words: Iterable[str]) -> str:
    """Return the distinct words in alphabetical order, without empty ones."""
    return " ".join(sorted(set(words) - {""}))


def _other_sets(grid: Grid, table: str, cell: Cell, task: Task, runs: list[RunRows]) -> list[Row]:
    """Return rows for MNLI's second evaluation set and for both sets together.

    The epochs are those that the first set chose. A set that no finished run recorded has no row.
    """
    rows = []
    for metric, suffix in OTHER_SETS.items():
        finished = [run.rows[metric] for run in runs if run.ok]
        if finished and not pd.concat(finished).notna().any():
            continue
        other = [_with_metric(run, metric) for run in runs]
        row = _cell(grid, table, cell, f"{task.title}-{suffix}", metric, other)
        rows.append(row | {"eval_examples": math.nan})  # the size of this set is not recorded
    return rows


def _with_metric(run: RunRows, metric: str) -> RunRows:
    """Return a run with the values of another metric at the epochs that its own metric chose."""
    if not run.ok:
        return run
    values = run.rows.set_index("epoch")[metric]
    line = run.line | {
        "best_value": percent(values[run.line["best_epoch"]]),
        "last_value": percent(values[run.line["last_epoch"]]),
    }
    return replace(run, line=line)


def _averages(cells: list[Row]) -> list[Row]:
    """Return the paper's Avg for each row: the mean of its eight GLUE values.

    It is empty if one of the eight is. The counts are those of the task with the fewest runs.
    """
    averages = []
    for name in dict.fromkeys(cell["row"] for cell in cells):
        eight = [cell for cell in cells if cell["row"] == name and cell["column"] in GLUE]
        frame, fewest = pd.DataFrame(eight), min(eight, key=lambda cell: cell["n"])
        row: Row = dict.fromkeys(TABLE_COLUMNS, math.nan)
        row |= {
            key: eight[0][key] for key in ("row", "model", "method", "weights", "rank", "protocol")
        }
        row |= {key: _joined(cell[key] for cell in eight) for key in ("start", "head")}
        row["base_precision"] = _joined(
            word for cell in eight for word in cell["base_precision"].split()
        )
        row["trainable"] = next((cell["trainable"] for cell in eight if cell["n"]), math.nan)
        row |= {key: round(float(frame[key].mean(skipna=False)), 6) for key in AVERAGED}
        row |= {key: fewest[key] for key in COUNTS}
        row |= {key: int(frame[key].sum()) for key in CONSTANT}
        row["source_problem"] = next(filter(None, (cell["source_problem"] for cell in eight)), "")
        row |= {"column": "average", "task": "average", "task_title": "Avg", "metric": "average"}
        averages.append(row)
    return averages


def _curves(cell: Cell, task: Task, runs: list[RunRows]) -> list[Row]:
    """Return mean, min and max over the finished runs for each epoch."""
    finished = [run.rows for run in runs if run.ok]
    if not finished:
        return []
    frame = pd.concat(finished).assign(metric_percent=lambda rows: rows[task.metric] * 100)
    lines = []
    for epoch, rows in frame.groupby("epoch"):
        line: Row = statistics.identity(cell, task)
        line |= {"metric": task.metric, "epoch": int(epoch)}
        line |= {"n": len(rows), "n_expected": len(runs)}
        for name, column in CURVES.items():
            values = summarize(rows[column])
            line |= {f"{name}_{key}": values[key] for key in ("mean", "min", "max")}
        lines.append(line)
    return lines
