# Inputs, arguments and names of the rules that make tables and figures.
from lora.tables import captions

HOME = "home.rst"  # first page of the report
SUMMARIES = ("selection", "differences", "claims")  # tables of every cell of the grid


def grid_runs(wildcards):
    """Return every per-run file of the grid; with `mode: partial` only those that exist.

    The tables are made again if they were made of other runs, another config or other facts.
    """
    runs = paths.runs_dir(config["results"])
    decide_by_checksums()
    if not REMOTE and TABLES_ARE_OLD:
        make_again(f"{TABLES}/runs.csv")
    files = [
        f"{paths.run_dir(runs, cell.path, seed)}/{name}"
        for cell in GRID.cells
        for seed in GRID.seeds
        for name in (paths.METRICS, paths.RUN_JSON)
    ]
    return (
        [name for name in files if Path(name).exists()]
        if config["mode"] == "partial"
        else files
    )


def runs_folder(wildcards, input):
    """Return the folder of all runs as the job sees it, also with a storage provider."""
    found = (
        Path(input.runs[0]).parents[DEPTH - 1]
        if input.runs
        else paths.runs_dir(config["results"])
    )
    return str(found)


def report_home():
    """Return the first page of the report; a short one until the tables are there."""
    page = Path(TABLES, HOME).absolute()
    return str(page) if page.is_file() else "workflow/report/workflow.rst"


def caption_of(wildcards):
    """Return the caption of a table in the report."""
    return captions.caption(GRID, *wildcards)


def figure_names():
    """Return the figures of the requested tables.

    head_ablation needs several protocols in table 6, rank_cost needs a LoRA method of several ranks.
    """
    of_table = dict(table2=["table2"], table5=[], table6=["rank_curves"])
    six = GRID.tables.get("table6")
    several_ranks = any(
        block.method == "lora" and len(block.ranks) > 1
        for table in GRID.tables.values()
        for block in table.blocks
    )
    return [
        *(name for table in GRID.tables for name in of_table[table]),
        *(["head_ablation"] if six and len(six.protocols) > 1 else []),
        *(["rank_cost"] if several_ranks else []),
        "learning_curves",
        "parameters",
    ]
