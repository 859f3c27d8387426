# Helpers of the rules: the checked grid, and functions from wildcards to paths and arguments.
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from lora import RESULTS_VERSION
from lora.experiment import compared_runs, grid as lora_grid, hparam_warnings, jobs, verify
from lora.experiment.config import read_yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod


container: config["container"]  # of every rule, with --sdm apptainer


if set(workflow.basedir) & set("{}"):
    raise WorkflowError(
        f"this checkout lies in {workflow.basedir}; Snakemake reads braces as wildcards: move it"
    )

deployed = workflow.deployment_settings.deployment_method
if DeploymentMethod.APPTAINER in deployed:
    if not config["container"]:
        raise WorkflowError(
            "--sdm apptainer needs an image: set container in the config to one built of envs/Dockerfile"
        )
    # The image has no lora of its own; Snakemake shows it the working directory alone.
    workflow.deployment_settings.apptainer_args += (
        f" --bind {shlex.quote(workflow.basedir)}"
    )

# Rules call `python -m lora`: this checkout's package and, unless Snakemake deploys software itself, the Python that runs
# Snakemake, whether or not its environment is activated.
_path = (
    ""
    if deployed
    else f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
)
_prefix = f'set -euo pipefail; export PYTHONPATH={shlex.quote(workflow.basedir)}:"${{PYTHONPATH:-}}"; {_path}'
shell.prefix(_prefix.replace("{", "{{").replace("}", "}}"))  # it is a format

try:
    for path in workflow.overwrite_configfiles:
        read_yaml(path)  # Snakemake takes the last of a key that is there twice
    GRID = lora_grid.load(config)
except ValueError as problems:
    raise WorkflowError(str(problems)) from None

for sentence in hparam_warnings.warnings_of_cells({cell: GRID.hparams(cell) for cell in GRID.cells}):
    logger.warning(sentence)

RUN = "{protocol}/{model}/{task}/{method}/{weights}/r{rank}/seed{seed}"
DEPTH = (
    len(Path(RUN).parts) + 1
)  # of a run's metrics.csv and run.json under the folder of all runs
PACKING = GRID.packing


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
    """Pattern of a file of every run of a training job: the packed axes written out, wildcards for the others."""
    return expand(f"<results>/runs/{RUN}/{name}", allow_missing=True, **PACKING.packed)


def per_job(name):
    """Pattern of a training job's log, in a folder of the axes that are not packed."""
    packed = [f"{{{axis}}}" for axis in PACKING.axes]
    kept = [
        part for part in Path(RUN).parts if not any(axis in part for axis in packed)
    ]
    return str(Path("<results>/logs/train", *kept, name))


def cells_of(wildcards):
    """The cells that a training job trains."""
    return PACKING.cells_of(dict(wildcards.items()))


def seeds_of(wildcards):
    """The seeds that a training job trains of each of its cells."""
    return PACKING.seeds_of(dict(wildcards.items()))


def tokens_folder(cell):
    """The prepared data of a cell; examples are cut at its protocol's max_tokens."""
    max_tokens = GRID.hparams(cell).max_tokens
    return f"{config['results']}/tokens/{cell.model}/{cell.task}/t{max_tokens}"


def tokens_json(cell):
    return f"{tokens_folder(cell)}/tokens.json"


def unless_settled(wildcards, files):
    """Inputs of a training job. Their timestamps say nothing where its runs are all there and as asked (ancient). Of other
    jobs they must be plain: Snakemake 9 leaves out a job whose own parameters changed while an ancient input is remade.
    Runs in a store cannot be looked at here: they count as settled, and the tables refuse those that are not as asked.
    """
    seeds, runs = seeds_of(wildcards), f"{config['results']}/runs"
    settled = workflow.storage_settings.default_storage_provider is not None or all(
        verify.up_to_date(GRID, cell, seeds, runs, tokens_json)
        for cell in cells_of(wildcards)
    )
    return [ancient(name) for name in files] if settled else files


def model_of(wildcards):
    """The fetched base model of a training job."""
    path = f"{config['results']}/sources/{wildcards.model}/fetched.json"
    return unless_settled(wildcards, [local(path)])[0]


def tokens_of(wildcards):
    """The prepared data of a training job, a file for each of its tasks."""
    folders = {tokens_folder(cell) for cell in cells_of(wildcards)}
    files = [f"{folder}/tokens.safetensors" for folder in sorted(folders)]
    return unless_settled(wildcards, [local(name) for name in files])


def start_runs(cell):
    """The runs of which the best is what a cell's runs start from, as paths in the folder of all runs; none for most."""
    start = GRID.start_of(cell)
    return [f"{start.path}/seed{seed}" for seed in sorted(GRID.seeds)] if start else []


def starts_of(wildcards):
    """The files of other runs that a training job's runs start from."""
    runs = {run for cell in cells_of(wildcards) for run in start_runs(cell)}
    names = ("run.json", "adapter/adapter_model.safetensors")
    folder = Path(config["results"]) / "runs"
    files = [f"{folder}/{run}/{name}" for run in sorted(runs) for name in names]
    return unless_settled(wildcards, files)


def cells_text(wildcards):
    """What a training job trains, resolved: its cells with their hyperparameters and tokens."""
    return jobs.to_json(
        [
            jobs.cell_entry(
                cell, GRID.hparams(cell), tokens_folder(cell), start_runs(cell)
            )
            for cell in cells_of(wildcards)
        ]
    )


def dataset_of(wildcards):
    """The fetched source of a task."""
    dataset = GRID.tasks[wildcards.task].dataset
    return local(f"{config['results']}/sources/{dataset}/fetched.json")


def source_arguments(wildcards):
    """A source's row as command line arguments."""
    source = GRID.sources[wildcards.source]
    columns = ("role", "kind", "locator", "revision", "sha256", "licence")
    return [f"--{column}={getattr(source, column)}" for column in columns]


def pinned(wildcards):
    """What the numbers of a training job stand on: its sources and tasks, so that another one is another parameter."""
    tasks = [
        GRID.tasks[name] for name in sorted({cell.task for cell in cells_of(wildcards)})
    ]
    datasets = sorted({task.dataset for task in tasks})
    identities = [GRID.sources[name].identity for name in (wildcards.model, *datasets)]
    return [*identities, *map(str, tasks)]


def task_facts(wildcards):
    return str(GRID.tasks[wildcards.task])


def grid_runs(wildcards):
    """Every per-run file of the grid; with `mode: partial` those that exist."""
    files = [
        f"{config['results']}/runs/{cell.path}/seed{seed}/{name}"
        for cell in GRID.cells
        for seed in GRID.seeds
        for name in ("metrics.csv", "run.json")
    ]
    return (
        [name for name in files if Path(name).exists()]
        if config["mode"] == "partial"
        else files
    )


def runs_folder(wildcards, input):
    """Where the job finds the runs that it reads."""
    found = Path(input[0]).parents[DEPTH - 1] if input else f"{config['results']}/runs"
    return str(found)


def config_text(wildcards):
    """The whole merged config, for the verbs that need the grid."""
    return json.dumps(config, sort_keys=True)


def figure_names():
    """The figures of the tables that are asked for; heads are compared where table 6 has several protocols."""
    of_table = dict(table2=["table2"], table5=[], table6=["rank_curves"])
    six = GRID.tables.get("table6")
    return [
        *(name for table in GRID.tables for name in of_table[table]),
        *(["head_ablation"] if six and len(six.protocols) > 1 else []),
        "learning_curves",
        "parameters",
    ]


def subspace_folders():
    """The runs whose subspaces are compared: one of the lower rank, two seeds of the higher."""
    runs = Path(config["results"]) / "runs"
    return [
        str(runs / cell.path / f"seed{seed}")
        for cell, seed in compared_runs.comparison_of(GRID.config).runs
    ]


def subspace_files(wildcards):
    """What the comparison reads of its runs."""
    names = (
        "run.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    )
    return [f"{folder}/{name}" for folder in subspace_folders() for name in names]


def as_read(folder, files):
    """A run's folder where the job finds it: under a storage provider's own folder, where runs are kept in a store."""
    ending = Path(folder, "run.json").parts
    found = (file for file in files if Path(file).parts[-len(ending) :] == ending)
    return str(Path(next(found)).parent)


def subspace_runs(wildcards, input):
    """Their folders, where the job finds them."""
    return [as_read(folder, input.runs) for folder in subspace_folders()]


def subspace_model(wildcards):
    """The base model that the compared runs were trained on."""
    model = config["subspace"]["model"]
    return local(f"{config['results']}/sources/{model}/fetched.json")


def subspace_options(wildcards):
    """Which weight types and layers are compared, as command line arguments; none where the config leaves them open."""
    asked = compared_runs.comparison_of(GRID.config)
    letters = ["--letters", asked.letters] if asked.letters else []
    return letters + (["--layers", *map(str, asked.layers)] if asked.layers else [])


def subspace_outputs():
    """What the comparison writes. Results that were copied without their adapters (the tracked ones) go without it."""
    if config["subspace"] is None:
        return []
    files = [*subspace_files(None), subspace_model(None)]
    absent = [name for name in files if not Path(name).exists()]
    if config["mode"] != "train" and absent:
        logger.warning(f"No subspace figures: {absent[0]} is not there.")
        return []
    return ["amplification.csv", *(f"figure{number}.svg" for number in (3, 4, 6, 7))]
