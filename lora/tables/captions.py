"""Captions of the tables in the report, made from the grid: they are true for any config."""

from lora.experiment.grid import Grid, Table
from lora.tables.labels import METHODS, listed, model_name
from lora.tables.sources import registered_name

SUMMARIES = {
    "claims": "Claims of the paper, checked against these runs: mean difference in the last epoch, "
    "its 95 % interval, and whether the runs confirm or contradict the claim.",
    "differences": "Two cells of one model and task compared, paired by seed: mean difference, "
    "95 % interval and p value of the paired t test, and the p value adjusted by Holm.",
    "selection": "Best epoch minus last epoch of each run, by cell. The best epoch is chosen on "
    "the set that is reported, so this is an upper bound of how optimistic it is.",
}


def caption(grid: Grid, name: str) -> str:
    """Return the caption of a table: what it shows, of which models and tasks, over which seeds.

    Args:
        grid: The grid.
        name: table2, table5, table6 or a summary.
    """
    seeds = f"{'Seed' if len(grid.seeds) == 1 else 'Seeds'} {', '.join(map(str, grid.seeds))}."
    if name in SUMMARIES:
        return f"{SUMMARIES[name]} {seeds}"
    table = grid.tables[name]
    what = {
        "table2": "Methods by task",
        "table5": "LoRA by weight type, at equal numbers of parameters",
        "table6": "LoRA by rank and adapted weights",
    }[name]
    models = listed([model_name(model) for model in table.models])
    tasks = listed([grid.tasks[task].title for task in table.tasks])
    methods = listed(list(dict.fromkeys(METHODS[cell.method] for cell in table.cells)))
    shown = "Best epoch (median and range) and last epoch (mean ± std)."
    if name == "table2":
        shown = "Median of the best epochs; rows without published values also have the last epoch."
    return f"{what}: {methods} of {models} on {tasks}. {seeds} {shown} {_published(grid, table)}"


def _published(grid: Grid, table: Table) -> str:
    """Return how the published values of the table relate to its runs."""
    rows = [row for row in grid.published if row["table"] == table.name]
    if table.name == "table2" and all(grid.tasks[task].table for task in table.tasks):
        rows = []  # a page of Table 2 has no published values of other tasks
    ours = {(registered_name(grid, model), task) for model in table.models for task in table.tasks}
    if any((row["model"], row["task"]) in ours for row in rows):
        return "Published values of the same model and task are beside ours."
    if rows:
        return (
            "The published values are of another model or of other tasks: compare the shape, not "
            "the level."
        )
    return "There are no published values."
