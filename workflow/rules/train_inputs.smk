# Inputs and arguments of fetch, prepare and train, and whether a run trains again.
import functools

from lora import RESULTS_VERSION
from lora.experiment import jobs, kept_outputs, verify


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


def check_own_tasks():
    """Stop before any job if the data of a task of the config can't be read, as far as is quick.

    The data of a finished run are no longer needed.
    """
    names = {
        cell.task
        for cell in GRID.cells
        if cell.task in GRID.config.tasks and not is_up_to_date(cell, GRID.seeds)
    }
    if names:
        from lora.data import table_checks

        try:
            table_checks.check(GRID, names)
        except (ValueError, OSError) as problems:
            raise WorkflowError(str(problems)) from None


if config["mode"] == "train" and not REMOTE and workflow.is_main_process:
    if "--unlock" not in sys.argv:
        check_start_folders()
        check_own_tasks()


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
    return [*identities, *(str(task) for task in tasks if task.table is None)]


def task_facts(wildcards):
    """Return a task's row as text, as a parameter; empty for a task of the config."""
    task = GRID.tasks[wildcards.task]
    return str(task) if task.table is None else ""


def own_tasks(names):
    """Return the tasks of the config among these as arguments: the same text for the same tasks."""
    tasks = GRID.own_tasks(names)
    return ["--config", json.dumps(dict(tasks=tasks), sort_keys=True)] if tasks else []


def own_task(wildcards):
    """Return the task of a job that tokenizes, as arguments, if the config defines it."""
    return own_tasks([wildcards.task])


def own_tasks_of(wildcards):
    """Return the tasks of a training job that the config defines, as arguments."""
    return own_tasks(cell.task for cell in cells_of(wildcards))
