"""Which published figure stands beside which of ours, and how they differ.

A figure is compared with a cell only where model, task, method, weights, rank and metric are the same, and by its own
statistic and selection. The paper's dagger rows were run under a protocol of their own, so they meet only our runs under
that protocol (or one of the config's that is based on it), and no other figure does; between all other protocols a figure
is compared all the same, and the page says which they are. Prior work that the paper copied does not say its statistic:
it is compared with our median of best epochs, which is what the paper sets beside it.
"""

import math

from lora.columns import PUBLISHED_COLUMNS
from lora.tables.labels import GLUE

OURS = {  # statistic and selection of a published figure -> the column of ours that is like it
    ("median", "best"): "best_median",
    ("mean", "best"): "best_mean",
    ("single", "best"): "best_median",  # one seed is a draw from what ours is the median of
    ("median", "last"): "last_median",
    ("mean", "last"): "last_mean",
    ("unknown", "unknown"): "best_median",  # the paper's own (Appendix D.1)
}
SAME = ("model", "task", "method", "weights", "rank", "metric")


def beside(grid, table, cells: list[dict]) -> list[dict]:
    """The published figures that a table shows, as records.PUBLISHED_COLUMNS; one that is of several cells of ours, which
    then differ by their protocol, once for each of them. `cells` are records.TABLE_COLUMNS without what is published."""
    apart = {fact["protocol"] for fact in grid.published} - {""}
    shown = []
    for fact in grid.published:
        if fact["table"] != table.name or fact["metric"] == "spearman":
            continue
        typed = _typed(fact)
        same = [
            cell
            for cell in cells
            if _is_of(typed, cell) and _meets(grid, fact["protocol"], cell["protocol"], apart)
        ]
        for cell in same:
            like = OURS.get((fact["statistic"], fact["selection"]))
            ours = cell[like] if like else math.nan
            found = dict(relation="same", column=cell["column"], ours_protocol=cell["protocol"])
            shown.append(
                typed | found | dict(ours=ours, difference=round(ours - float(fact["value"]), 6))
            )
        relation = "" if same else _relation(table, typed)
        blank = dict(relation=relation, ours_protocol="", ours=math.nan, difference=math.nan)
        shown += [
            typed | blank | dict(column=column)
            for column in _columns(grid, table, typed)
            if relation
        ]
    return shown


def compared(row: dict, published: list[dict]) -> dict:
    """A line of the long CSV with the first published figure that is of the same thing."""
    words = (
        "published_spread_kind",
        "published_statistic",
        "published_selection",
        "published_source",
        "note",
    )
    fact = next((fact for fact in published if is_beside(fact, row) and fact["metric"] == row["metric"]
                 and fact["task"] == row["task"]), None)  # fmt: skip
    if fact is None:
        return row | dict.fromkeys(words, "")
    return row | dict(
        published=float(fact["value"]),
        published_spread=fact["spread"],
        difference=fact["difference"],
        note=fact["note"],
        **{
            f"published_{key}": fact[key]
            for key in ("spread_kind", "statistic", "selection", "source")
        },
    )


def is_beside(fact: dict, row: dict) -> bool:
    """Whether a published figure is compared with a cell of this row of ours, whatever the task."""
    keys = ("model", "method", "weights", "rank")
    same = fact["relation"] == "same" and fact["ours_protocol"] == row["protocol"]
    return same and all(fact[key] == row[key] for key in keys)


def _is_of(fact: dict, cell: dict) -> bool:
    return all(fact[key] == cell[key] for key in SAME)


def _meets(grid, theirs: str, ours: str, apart: set[str]) -> bool:
    """Whether a figure of protocol `theirs`, empty for the origin's main one, is compared with a run under `ours`."""
    shipped = grid.config["protocols"].get(ours, {}).get("base", ours)
    return shipped == theirs if theirs else shipped not in apart


def _relation(table, fact: dict) -> str:
    """What a published figure that is of no cell of ours is to the table: context, reference, or empty for nothing."""
    if table.name != "table2":
        asked = {(cell.weights, cell.rank) for cell in table.cells}
        if (fact["weights"], fact["rank"]) not in asked:
            return ""
        ours = fact["model"] in table.models and fact["task"] in table.tasks
        return (
            "context"
            if ours
            else "reference"
            if (fact["model"], fact["task"]) == ("gpt3-175b", "mnli")
            else ""
        )
    if fact["model"] in table.models and fact["task"] in (*table.tasks, "average"):
        return "context"
    paper_lora = (fact["model"], fact["method"]) == ("roberta-base", "lora") and fact[
        "source"
    ].startswith("arXiv")
    return "reference" if paper_lora and fact["task"] != "average" else ""


def _columns(grid, table, fact: dict) -> list[str]:
    """The columns that a published figure stands in: its cell's, its task's, or those of the demo tasks that mirror it."""
    if table.name != "table2":
        return [column(table.name, fact)]
    if fact["task"] == "average":
        return ["average"] if set(GLUE) <= set(table.tasks) else []
    if fact["model"] in table.models:
        return [column(table.name, fact)] if fact["task"] in table.tasks else []
    return [task for task in table.tasks if grid.tasks[task].mirrors == fact["task"]]


def column(table: str, of: dict) -> str:
    """The column of a table in which a cell of ours, or a published figure, stands."""
    if table == "table5":
        return f"{of['weights']} r{of['rank']}"
    if table == "table6":
        return f"r{of['rank']}"
    return {"accuracy_mismatched": f"{of['task']}-mm", "accuracy_overall": f"{of['task']}-all"}.get(
        of["metric"], of["task"]
    )


def _typed(fact: dict) -> dict:
    """A row of config/published.csv with numbers as numbers; an empty one is NaN."""
    kinds = {name: PUBLISHED_COLUMNS[name][0] for name in fact}
    return {
        name: text if kinds[name] is str else kinds[name](text) if text else math.nan
        for name, text in fact.items()
    }
