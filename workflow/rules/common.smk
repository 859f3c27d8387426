# Helpers of the rules: the checked grid, and functions from wildcards to paths and arguments.
import dataclasses
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from lora import RESULTS_VERSION, grid as lora_grid
from lora.spec import Cell, Problems
from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

# Rules call `python -m lora`: this checkout's package and, unless Snakemake deploys software itself, the Python that runs
# Snakemake, whether or not its environment is activated.
_path = (
    ""
    if workflow.deployment_settings.deployment_method
    else f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
)
shell.prefix(
    f'set -euo pipefail; export PYTHONPATH={shlex.quote(workflow.basedir)}:"${{{{PYTHONPATH:-}}}}"; {_path}'
)

try:
    GRID = lora_grid.load(config)
except Problems as problems:
    raise WorkflowError(str(problems)) from None

# One training job per GPU at a time unless the user says otherwise: Snakemake alone would start them all.
if "gpu" not in workflow.global_resources:
    workflow.global_resources["gpu"] = Resource("gpu", 1)

RUN = "<results>/runs/{model}/{task}/{method}/{weights}/r{rank}/seed{seed}/"
PACKED = "seed" in config["pack"]


wildcard_constraints:
    source="[^/]+",
    model="[^/]+",
    task="[^/]+",
    method="[^/]+",
    weights="[qkvo]+",
    rank="[0-9]+",
    seed="[0-9]+",
    max_tokens="[0-9]+",


def per_run(name):
    """Pattern of a run's file: of every seed of the cell when seeds train together."""
    return (
        expand(RUN + name, seed=GRID.seeds, allow_missing=True)
        if PACKED
        else RUN + name
    )


def per_job(name):
    """Pattern of a training job's log, in a folder of its cell or its run."""
    cell = Path("<results>/logs/train/{model}/{task}/{method}/{weights}/r{rank}")
    return str(cell / name if PACKED else cell / "seed{seed}" / name)


def job_folder(wildcards):
    """Where a training job writes: the folder of its cell, or of its run."""
    cell = Path(config["results"]) / "runs" / cell_of(wildcards).path
    return str(cell if PACKED else cell / f"seed{wildcards.seed}")


def cell_of(wildcards):
    return Cell(
        wildcards.model,
        wildcards.task,
        wildcards.method,
        wildcards.weights,
        int(wildcards.rank),
    )


def tokens_of(wildcards):
    """The prepared data of a cell; examples are cut at its protocol's max_tokens."""
    max_tokens = GRID.hparams(cell_of(wildcards)).max_tokens
    return f"{config['results']}/tokens/{wildcards.model}/{wildcards.task}/t{max_tokens}/tokens.safetensors"


def dataset_of(wildcards):
    """The fetched source of a task."""
    return (
        f"{config['results']}/sources/{GRID.tasks[wildcards.task].dataset}/fetched.json"
    )


def source_arguments(wildcards):
    """A source's row as command line arguments."""
    source = GRID.sources[wildcards.source]
    columns = ("role", "kind", "locator", "revision", "sha256", "licence")
    return [f"--{column}={getattr(source, column)}" for column in columns]


def pinned(wildcards):
    """What the numbers of a cell stand on, by name: pinned sources, so that another source is another parameter."""
    dataset = GRID.tasks[wildcards.task].dataset
    return [GRID.sources[name].identity for name in (wildcards.model, dataset)]


def task_facts(wildcards):
    return str(GRID.tasks[wildcards.task])


def train_arguments(wildcards):
    """A cell's resolved settings as command line arguments."""
    cell = cell_of(wildcards)
    arguments = [
        f"--{axis}={value}" for axis, value in dataclasses.asdict(cell).items()
    ]
    arguments += [f"--protocol={GRID.protocol}"]
    for name, value in GRID.hparams(cell).as_dict().items():
        arguments.append(f"--{name.replace('_', '-')}={value}")
    seeds = GRID.seeds if PACKED else [wildcards.seed]
    return arguments + (
        ["--seeds", *map(str, seeds)] if PACKED else [f"--seed={wildcards.seed}"]
    )


def grid_runs(wildcards):
    """Every per-run file of the grid; with `runs: partial` those that are there."""
    files = [
        f"{config['results']}/runs/{cell.path}/seed{seed}/{name}"
        for cell in GRID.cells
        for seed in GRID.seeds
        for name in ("metrics.csv", "run.json")
    ]
    return (
        [name for name in files if Path(name).exists()]
        if config["runs"] == "partial"
        else files
    )


def config_text(wildcards):
    """The whole merged config, for the verbs that need the grid."""
    return json.dumps(config, sort_keys=True)


def figure_names():
    """The figures of the tables that are asked for."""
    of_table = dict(table2=["table2"], table6=["rank_curves"])
    return [
        *(name for table in GRID.tables for name in of_table[table]),
        "learning_curves",
        "parameters",
    ]
