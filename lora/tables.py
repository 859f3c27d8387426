"""From rows to table cells: which epoch counts, which statistic is taken, and which published figure stands beside it.

Every epoch of every run is in `runs.csv`; what is reported of it is decided here and nowhere else. Each cell gets the
paper's figure (median over seeds of each run's best epoch, Appendix D.1) and an unselected one (mean of the last epoch).
The best epoch is chosen on the set it is reported on, so it flatters; the last epoch is the cost of honesty. A published
figure is compared only where model, task, method, weights and rank are the same, and by its own statistic and selection.
A failed or missing run is counted and never replaced. How a table looks is `layout` and `render`.
"""

import math
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import pandas as pd

from lora import layout, records, render
from lora.collect import collect, write_provenance
from lora.page import Page
from lora.spec import Cell, Problems

__all__ = ["Made", "collect", "make", "statistics", "write", "write_provenance"]

GLUE = ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb")  # the columns of the paper's Table 2, in order
OURS = {  # statistic and selection of a published figure -> the column of ours that is like it
    ("median", "best"): "best_median",
    ("mean", "best"): "best_mean",
    ("single", "best"): "best_median",  # one seed is a draw from what ours is the median of
    ("median", "last"): "last_median",
    ("mean", "last"): "last_mean",
}


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
        raise Problems(f"No table {name!r} is asked for:", [f"allowed: {', '.join(grid.tables)}; add it under tables:"])
    runs = pd.DataFrame(records.read_csv(runs_csv, records.RUNS_COLUMNS), columns=list(records.RUNS_COLUMNS))
    by_run = {key: rows for key, rows in runs.groupby([*records.CELL_COLUMNS, "seed"], sort=False)}
    table = grid.tables[name]
    _check(grid, table, by_run, runs_csv)
    cells, best, curves = [], [], []
    for cell in table.cells:
        task = grid.tasks[cell.task]
        of_cell = [_run(cell, task, seed, by_run[_key(cell, seed)]) for seed in grid.seeds]
        best += [run for run, _ in of_cell]
        curves += _curves(cell, task, [rows for run, rows in of_cell if run["status"] == "ok"], len(grid.seeds))
        cells.append(_cell(name, cell, task.title, task.metric, of_cell))
        if len(task.eval_splits) > 1 and name == "table2":
            cells.append(_mismatched(name, cell, task, of_cell))
    cells += _averages(cells)
    published = _published(grid, table, cells)
    cells = [_beside(row, published) for row in cells]
    return Made(name, cells, published, best, curves, layout.page(grid, table, cells, published))


def write(grid, runs_csv: Path, name: str, folder: Path) -> None:
    """Write table `name` into `folder`: <name>.csv .md .tex .html, and <name>_published, _best and _curves.csv."""
    made = make(grid, runs_csv, name)
    folder = Path(folder)
    for suffix, columns, rows in (
        ("", records.TABLE_COLUMNS, made.cells),
        ("_published", records.PUBLISHED_COLUMNS, made.published),
        ("_best", records.BEST_COLUMNS, made.best),
        ("_curves", records.CURVES_COLUMNS, made.curves),
    ):
        records.write_csv(folder / f"{name}{suffix}.csv", columns, rows)
    for suffix, convert in ((".md", render.to_markdown), (".tex", render.to_latex), (".html", render.to_html)):
        records.write_text(folder / f"{name}{suffix}", convert(made.page))


def statistics(values: pd.Series) -> dict[str, float]:
    """median, mean, std (n-1), min and max, rounded to 1e-6; NaN where undefined, which any NaN in `values` makes them.

    The median of an even count is the mean of the middle two.
    """
    return {name: round(float(getattr(values, name)(skipna=False)), 6) for name in ("median", "mean", "std", "min", "max")}


def _key(cell: Cell, seed: int) -> tuple:
    return (*astuple(cell), seed)


def _check(grid, table, by_run: dict, runs_csv: Path) -> None:
    problems = []
    for cell in table.cells:
        for seed in grid.seeds:
            if _key(cell, seed) not in by_run:
                problems.append(f"{cell.path}/seed{seed} is not in it")
    if problems:
        raise Problems(f"{runs_csv} is not of this config; collect the runs again:", problems)


def _identity(cell: Cell, task) -> dict:
    return asdict(cell) | dict(task_title=task.title)


def _run(cell: Cell, task, seed: int, rows: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    """A run's line of best.csv, and its epochs. Best is the highest metric, the earliest epoch of equals."""
    status = rows["status"].iloc[-1]
    values = rows[task.metric]
    if status == "ok" and values.isna().all():
        status = "undefined"
    line = _identity(cell, task) | dict(seed=seed, metric=task.metric, trainable=_whole(rows["trainable"].iloc[-1]))
    line |= dict(status=status, best_epoch=math.nan, best_value=math.nan, last_epoch=math.nan, last_value=math.nan)
    if status == "ok":
        best, last = values.idxmax(), values.index[-1]
        line |= dict(best_epoch=int(rows["epoch"][best]), best_value=_percent(values[best]))
        line |= dict(last_epoch=int(rows["epoch"][last]), last_value=_percent(values[last]))
    return line, rows


def _cell(name: str, cell: Cell, title: str, metric: str, of_cell: list) -> dict:
    """A cell's line of the long CSV, without what is published."""
    finished = [run for run, _ in of_cell if run["status"] == "ok"]
    done = pd.DataFrame(finished, columns=["best_value", "last_value"], dtype=float)
    best, last = statistics(done["best_value"]), statistics(done["last_value"])
    examples = pd.concat([rows["eval_examples"] for _, rows in of_cell]).dropna()
    trainable = [run["trainable"] for run, _ in of_cell if run["trainable"] == run["trainable"]]
    statuses = [run["status"] for run, _ in of_cell]
    where = dict(row=f"{cell.model} {cell.method} {cell.weights} r{cell.rank}", column=cell.task)
    if name == "table6":
        where = dict(row=f"{cell.model} {cell.task} {cell.weights}", column=f"r{cell.rank}")
    row = dict.fromkeys(records.TABLE_COLUMNS, math.nan) | where
    row |= asdict(cell) | dict(task_title=title)
    row |= dict(metric=metric, n=len(done), n_expected=len(of_cell), n_missing=statuses.count("missing"))
    row |= dict(
        n_failed=statuses.count("non_finite") + statuses.count("undefined"),
        base_precision=" ".join(sorted({rows["base_precision"].iloc[0] for _, rows in of_cell} - {""})),
        trainable=trainable[0] if trainable else math.nan,
        eval_examples=_whole(examples.iloc[0]) if len(examples) else math.nan,
    )
    row |= {f"best_{key}": best[key] for key in ("median", "mean", "std", "min", "max")}
    return row | {f"last_{key}": last[key] for key in ("mean", "median", "std")}


def _mismatched(name: str, cell: Cell, task, of_cell: list) -> dict:
    """MNLI's second evaluation set, at the epochs that the first one chose."""
    second = []
    for run, rows in of_cell:
        values = rows.set_index("epoch")["accuracy_mismatched"]
        if run["status"] == "ok":
            at = dict(best_value=values[run["best_epoch"]], last_value=values[run["last_epoch"]])
            run = run | {key: _percent(value) for key, value in at.items()}
        second.append((run, rows))
    row = _cell(name, cell, f"{task.title}-mm", "accuracy_mismatched", second)
    return row | dict(column=f"{cell.task}-mm", eval_examples=math.nan)  # the set's size is not recorded


def _averages(cells: list[dict]) -> list[dict]:
    """The paper's Avg: the mean of a row's eight GLUE figures, where it has all of them."""
    averages = []
    for row in dict.fromkeys(cell["row"] for cell in cells):
        eight = [cell for cell in cells if cell["row"] == row and cell["column"] in GLUE]
        if len(eight) == len(GLUE) and all(cell["n"] for cell in eight):
            frame = pd.DataFrame(eight)
            means = {key: round(float(frame[key].mean(skipna=False)), 6) for key in set(OURS.values())}
            counts = {key: int(frame[key].min()) for key in ("n", "n_expected")}
            counts |= {key: int(frame[key].sum()) for key in ("n_failed", "n_missing")}
            blank = dict.fromkeys(records.TABLE_COLUMNS, math.nan)
            kept = {key: eight[0][key] for key in ("row", "model", "method", "weights", "rank", "protocol", "trainable")}
            kept["base_precision"] = " ".join(sorted({one for cell in eight for one in cell["base_precision"].split()}))
            averages.append(
                blank | kept | means | counts | dict(column="average", task="average", task_title="Avg", metric="average")
            )
    return averages


def _published(grid, table, cells: list[dict]) -> list[dict]:
    """The published figures that a table shows, each with how it relates to ours, and the difference where compared."""
    shown = []
    for fact in grid.published:
        if fact["table"] != table.name or fact["metric"] == "spearman":
            continue
        same = [cell for cell in cells if _same(fact, cell)]
        columns = [f"r{fact['rank']}"] if table.name == "table6" else _columns(grid, table, fact)
        kinds = dict(relation=_relation(table, fact, same), ours=math.nan, difference=math.nan)
        if same:
            key = OURS.get((fact["statistic"], fact["selection"]))
            ours = same[0][key] if key else math.nan
            kinds |= dict(ours=ours, difference=round(ours - float(fact["value"]), 6))
        shown += [{**_typed(fact), **kinds, "column": column} for column in columns if kinds["relation"]]
    return shown


def _relation(table, fact: dict, same: list) -> str:
    """How a published figure relates to the table: same, context, reference, or empty for none."""
    if same:
        return "same"
    if table.name == "table6":
        if int(fact["rank"]) not in table.ranks or fact["weights"] not in table.weights:
            return ""
        ours = fact["model"] in table.models and fact["task"] in table.tasks
        return "context" if ours else "reference" if (fact["model"], fact["task"]) == ("gpt3-175b", "mnli") else ""
    if fact["model"] in table.models and fact["task"] in (*table.tasks, "average"):
        return "context"
    paper_lora = (fact["model"], fact["method"]) == ("roberta-base", "lora") and fact["source"].startswith("arXiv")
    return "reference" if paper_lora and fact["task"] != "average" else ""


def _columns(grid, table, fact: dict) -> list[str]:
    """The columns of Table 2 that a published figure stands in: its task's, or the demo tasks' that mirror it."""
    if fact["task"] == "average":
        return ["average"] if set(GLUE) <= set(table.tasks) else []
    if fact["model"] in table.models:
        column = f"{fact['task']}-mm" if fact["metric"] == "accuracy_mismatched" else fact["task"]
        return [column] if fact["task"] in table.tasks else []
    return [task for task in table.tasks if grid.tasks[task].mirrors == fact["task"]]


def _same(fact: dict, cell: dict) -> bool:
    keys = ("model", "task", "method", "weights", "metric")
    return all(fact[key] == cell[key] for key in keys) and fact["rank"] == str(cell["rank"])


def _typed(fact: dict) -> dict:
    """A row of config/published.csv with numbers as numbers; an empty one is NaN."""
    kinds = {name: records.PUBLISHED_COLUMNS[name][0] for name in fact}
    return {name: text if kinds[name] is str else kinds[name](text) if text else math.nan for name, text in fact.items()}


def _beside(row: dict, published: list[dict]) -> dict:
    """A line of the long CSV with the first published figure that is of the same thing."""
    words = ("published_spread_kind", "published_statistic", "published_selection", "published_source", "note")
    fact = next((fact for fact in published if fact["relation"] == "same" and _same_row(fact, row)), None)
    if fact is None:
        return row | dict.fromkeys(words, "")
    return row | dict(
        published=float(fact["value"]),
        published_spread=fact["spread"],
        difference=fact["difference"],
        note=fact["note"],
        **{f"published_{key}": fact[key] for key in ("spread_kind", "statistic", "selection", "source")},
    )


def _same_row(fact: dict, row: dict) -> bool:
    return all(fact[key] == row[key] for key in ("model", "task", "method", "weights", "metric", "rank"))


def _curves(cell: Cell, task, runs: list[pd.DataFrame], expected: int) -> list[dict]:
    """Mean, min and max over the finished runs, epoch by epoch."""
    if not runs:
        return []
    frame = pd.concat(runs).assign(metric_percent=lambda rows: rows[task.metric] * 100)
    lines = []
    for epoch, rows in frame.groupby("epoch"):
        line = _identity(cell, task) | dict(metric=task.metric, epoch=int(epoch), n=len(rows), n_expected=expected)
        for name, column in (("metric", "metric_percent"), ("train_loss", "train_loss"), ("eval_loss", "eval_loss")):
            values = statistics(rows[column])
            line |= {f"{name}_{key}": values[key] for key in ("mean", "min", "max")}
        lines.append(line)
    return lines


def _percent(value: float) -> float:
    return round(float(value) * 100, 6)


def _whole(value: float):
    return int(value) if value == value else math.nan
