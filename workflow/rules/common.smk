# Functions of the rules: from wildcards to runs, files and arguments.
import functools
import json
from pathlib import Path

from lora import RESULTS_VERSION, paths
from lora.experiment import jobs, kept_outputs, table_inputs, verify
from lora.tables import captions

RUN = paths.RUN_PATTERN
TOKENS = paths.tokens_dir("<results>", "{model}", "{task}", "{max_tokens}")
# parts of the path of a run's file below the folder of all runs
DEPTH = len(Path(RUN).parts) + 1
PACKING = GRID.packing
HOME = "home.rst"  # first page of the report
SUMMARIES = ("selection", "differences", "claims")  # tables of every cell of the grid


def check_runs_exist():
    """Stop with one line if `mode: existing` lacks runs of the grid.

    Snakemake itself would name a file for each, or keep old tables without a word.
    """
    runs = paths.runs_dir(config["results"])
    missing = table_inputs.missing_runs(GRID, runs)
    if missing:
        count = len(GRID.cells) * len(GRID.seeds)
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise WorkflowError(
            f"{len(missing)} of {count} runs are missing in {runs}: {', '.join(missing[:3])}{more}. "
            "Train them with mode: train, or make the tables without them with mode: partial."
        )


# A plan and --unlock need no runs. Snakemake knows its targets only after it has read the rules.
if config["mode"] == "existing" and not REMOTE:
    if workflow.is_main_process and not {"plan", "--unlock"} & set(sys.argv):
        check_runs_exist()

TABLES = paths.tables_dir(config["results"])
TABLES_ARE_OLD = workflow.is_main_process and table_inputs.read(
    TABLES
) != table_inputs.checksum(GRID, paths.runs_dir(config["results"]))


wildcard_constraints:
    protocol="[^/]+",
    source="[^/]+",
    model="[^/]+",
    task="[^/]+",
    method="[^/]+",
    weights="[a-z0-9]+",
    rank="[0-9]+",
    seed="[0-9]+",
    max_tokens="[0-9]+",


def per_run(name):
    """Return the pattern of a file of every run of a job: packed axes expanded, wildcards for others."""
    return expand(
        f"{paths.runs_dir('<results>')}/{RUN}/{name}",
        allow_missing=True,
        **PACKING.packed,
    )


def cells_of(wildcards):
    """Return the cells that a training job trains."""
    return PACKING.cells_of(dict(wildcards.items()))


def seeds_of(wildcards):
    """Return the seeds of each cell of a training job."""
    return PACKING.seeds_of(dict(wildcards.items()))


def tokens_folder(cell):
    """Return the folder of a cell's tokens, cut at the max_tokens of its protocol."""
    max_tokens = GRID.hparams(cell).max_tokens
    return paths.tokens_dir(config["results"], cell.model, cell.task, max_tokens)


def tokens_json(cell):
    """Return the file that describes a cell's tokens."""
    return f"{tokens_folder(cell)}/{paths.TOKENS_JSON}"


@functools.cache
def is_up_to_date(cell, seeds):
    """Return whether these runs of a cell exist and match the config."""
    runs = paths.runs_dir(config["results"])
    return verify.up_to_date(GRID, cell, seeds, runs, tokens_json)


def check_start_folders():
    """Stop before any job if a run to train starts from an adapter folder that does not fit.

    A finished run no longer needs the folder. The base model is compared as far as it is there.
    """
    runs = {}
    for cell in GRID.cells:
        if "/" in GRID.hparams(cell).start and not is_up_to_date(cell, GRID.seeds):
            runs.setdefault(cell.model, []).append((cell, GRID.hparams(cell)))
    if not runs:
        return
    from lora.adapters import belonging

    for model, wanted in runs.items():
        manifest = Path(paths.manifest(config["results"], model))
        fetched = manifest.is_file() and verify.fetched_as_in_config(
            GRID.sources[model], manifest
        )
        try:
            belonging.check_start_folders(
                wanted,
                manifest.parent if fetched else None,
                GRID.sources,
                belonging.CONFIG_KEY,
            )
        except (ValueError, OSError) as problems:
            raise WorkflowError(str(problems)) from None


if config["mode"] == "train" and not REMOTE and workflow.is_main_process:
    if "--unlock" not in sys.argv:
        check_start_folders()


def unless_up_to_date(wildcards, files):
    """Return inputs of a training job, as ancient() if all its runs exist and match the config.

    Timestamps then never train a finished run again. Runs that exist but do not match are made
    again. Runs in remote storage cannot be read here. They count as up to date, and the tables
    refuse them if they do not match the config.
    """
    decide_by_checksums()
    cells, seeds = cells_of(wildcards), tuple(seeds_of(wildcards))
    if REMOTE or all(is_up_to_date(cell, seeds) for cell in cells):
        return [ancient(name) for name in files]
    if workflow.dryrun:
        warn_without_gpu()
    for cell in cells:
        make_again_unless_prepared(cell)
        for seed in seeds:
            run = paths.run_dir(paths.runs_dir(config["results"]), cell.path, seed)
            keep_outputs(run)
            if not is_up_to_date(cell, (seed,)):
                make_again(f"{run}/{paths.METRICS}")
    return files


@functools.cache
def keep_outputs(run):
    """Keep a run's outputs if they are whole: Snakemake deletes those of all runs of a job."""
    if workflow.is_main_process and workflow.executor_plugin and not workflow.dryrun:
        kept_outputs.keep(run, paths.state_dir(config["results"]))


def make_again_unless_prepared(cell):
    """Fetch a cell's sources and prepare its tokens again if they are not those of the config."""
    dataset = GRID.tasks[cell.task].dataset
    for name in (cell.model, dataset):
        path = paths.manifest(config["results"], name)
        if not verify.fetched_as_in_config(GRID.sources[name], path):
            make_again(path)
    if not verify.prepared_as_in_config(GRID, cell, tokens_json(cell)):
        make_again(tokens_json(cell))


def model_of(wildcards):
    """Return the manifest of a training job's base model."""
    path = paths.manifest(config["results"], wildcards.model)
    return unless_up_to_date(wildcards, [local(path)])[0]


def tokens_of(wildcards):
    """Return the token files of a training job, one for each task."""
    folders = {tokens_folder(cell) for cell in cells_of(wildcards)}
    files = [f"{folder}/{paths.TOKENS_ARRAYS}" for folder in sorted(folders)]
    return unless_up_to_date(wildcards, [local(name) for name in files])


def start_runs(cell):
    """Return the runs whose best one a cell's runs start from, relative to the folder of all runs."""
    start = GRID.start_of(cell)
    return [f"{start.path}/seed{seed}" for seed in sorted(GRID.seeds)] if start else []


def starts_of(wildcards):
    """Return the files of other runs that a training job reads for its warm start."""
    runs = {run for cell in cells_of(wildcards) for run in start_runs(cell)}
    names = (paths.RUN_JSON, paths.ADAPTER)
    folder = Path(paths.runs_dir(config["results"]))
    files = [f"{folder}/{run}/{name}" for run in sorted(runs) for name in names]
    return unless_up_to_date(wildcards, files)


def cells_text(wildcards):
    """Return the JSON of a training job: its cells, their hyperparameters and their tokens."""
    return jobs.to_json(
        [
            jobs.cell_entry(
                cell, GRID.hparams(cell), tokens_folder(cell), start_runs(cell)
            )
            for cell in cells_of(wildcards)
        ]
    )


def dataset_of(wildcards):
    """Return the manifest of a task's data set."""
    dataset = GRID.tasks[wildcards.task].dataset
    return local(paths.manifest(config["results"], dataset))


def source_arguments(wildcards):
    """Return a source's row as command line arguments."""
    source = GRID.sources[wildcards.source]
    columns = ("role", "kind", "locator", "revision", "sha256", "licence")
    return [f"--{column}={getattr(source, column)}" for column in columns]


def pinned(wildcards):
    """Return the identities of a training job's sources and its tasks, as a parameter.

    A job runs again when one of them changes.
    """
    tasks = [
        GRID.tasks[name] for name in sorted({cell.task for cell in cells_of(wildcards)})
    ]
    datasets = sorted({task.dataset for task in tasks})
    identities = [GRID.sources[name].identity for name in (wildcards.model, *datasets)]
    return [*identities, *map(str, tasks)]


def task_facts(wildcards):
    """Return a task's row as text, as a parameter."""
    return str(GRID.tasks[wildcards.task])


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


def config_text(wildcards):
    """Return the merged config as JSON, for commands that need the grid."""
    return json.dumps(config, sort_keys=True)


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
