# Settings inside Snakemake, each with its reason: the config, the results folder and the checked grid.
import functools
import shutil
import subprocess
import sys
from pathlib import Path

from lora.experiment import config as lora_config
from lora.experiment import config_files, grid as lora_grid, hparam_warnings
from lora.training import tracking
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.path_modifier import PathModifier
from snakemake.settings.types import DeploymentMethod, RerunTrigger


configfile: str(config_files.DEFAULTS)  # also with --directory


is_module = not workflow.modifier.is_main_snakefile()

if not is_module and workflow.config_settings.replace_workflow_config:
    logger.warning(
        "--replace-workflow-config has no effect: keys that your config leaves out have the values "
        f"of {config_files.DEFAULTS}. Set a table to null to leave it out."
    )

# Users edit the copy that they see. A module's config comes from the importing workflow.
_unread = Path("config/config.yaml").resolve()
if (
    not is_module
    and _unread.is_file()
    and _unread not in [Path(path).resolve() for path in workflow.configfiles]
    and _unread.read_bytes() != config_files.DEFAULTS.read_bytes()
):
    logger.warning(
        f"{_unread} is not read. To use it, give --configfile config/config.yaml."
    )

try:
    if not is_module:
        # Refuse a key that is in a file twice. Snakemake would take the last.
        for path in workflow.overwrite_configfiles:
            config_files.read_yaml(path)
    # Snakemake lays the config of a module, or with --replace-workflow-config, over nothing.
    # --config gives numbers in lists as text, and paths may have ~ and variables. Rules and GRID use
    # the same values. What cannot be read stays as it is, and GRID reports it.
    config = lora_config.resolved(config_files.with_defaults(config))
    # The prefix of a module is made a part of the results folder, which commands get too. Snakemake
    # would add it to declared files alone, and not to those that are local().
    if isinstance(config["results"], str):
        config["results"] = workflow.modifier.path_modifier.replace_prefix(
            config["results"]
        )
        workflow.modifier.path_modifier = PathModifier(None, None, workflow)
    GRID = lora_grid.load(config)
except (ValueError, OSError) as problems:
    advice = ""
    if is_module and "unknown key" in str(problems):
        advice = (
            "\nIn a module, give the config of this workflow alone: `config: {...}`."
        )
    raise WorkflowError(f"{problems}{advice}") from None


container: config["container"]  # for every rule, with --sdm apptainer


if DeploymentMethod.APPTAINER in deployed and not config["container"]:
    raise WorkflowError(
        "--sdm apptainer needs an image: set container in the config to one built from "
        "envs/Dockerfile in a checkout"
    )

# The results folder is a config key, as commands need it too.
given = [name for name, level in workflow.pathvars.level.items() if level < 2]
if given:
    raise WorkflowError(
        f"pathvars of the module set {', '.join(given)}; set the folder with the key results of "
        "the module's config instead."
    )
# Those of an importing workflow have no effect here: these replace them.
workflow.pathvars.level.update(dict.fromkeys(workflow.pathvars.items, 4))


pathvars:
    results=config["results"],
    tables=paths.tables_dir(config["results"]),
    figures=paths.figures_dir(config["results"]),
    subspace=paths.subspace_dir(config["results"]),
    logs=paths.logs_dir(config["results"]),


logger.info(f"Defaults and tables of facts are read from {paths.CONFIG_DIR}")
for sentence in hparam_warnings.warnings_of_cells(
    {cell: GRID.hparams(cell) for cell in GRID.cells}
):
    logger.warning(sentence)


# With a storage provider the results are not here, and Snakemake decides by its own records.
REMOTE = workflow.storage_settings.default_storage_provider is not None


@functools.cache
def decide_by_checksums():
    """Make Snakemake run only jobs whose outputs are missing, older than an input, or not current.

    Snakemake would also run a job when a setting, a command or an environment changed, although no
    number depends on it, and it deletes the old outputs first. Here checksums decide (make_again).
    A user's --rerun-triggers is kept, and so are those of a workflow that imports this one.
    """
    settings = workflow.dag_settings  # not there while rules are read
    if not (is_module or REMOTE) and settings.rerun_triggers == RerunTrigger.all():
        settings.rerun_triggers = frozenset({RerunTrigger.MTIME})


def make_again(*names):
    """Run the jobs that make those of these files that exist, if the jobs are in the plan."""
    if workflow.is_main_process:
        workflow.dag.forcefiles.update(name for name in names if Path(name).exists())


@functools.cache
def gpu_problem():
    """Return why this machine cannot train on the config's device; None if it can."""
    kind = config["device"]
    if kind in ("auto", "cpu") or not workflow.local_exec or deployed:
        return None
    code = f"import torch; exit(not torch.get_device_module({kind!r}).is_available())"
    if not subprocess.run([sys.executable, "-c", code], capture_output=True).returncode:
        return None
    return (
        f"device is {kind}, but torch in {sys.executable} sees no GPU of this kind. Nothing was "
        "changed. Use device: auto or device: cpu, or run on a machine with such a GPU and a build "
        "of torch for it."
    )


@functools.cache
def warn_without_gpu():
    """Warn once in a dry run that training would stop."""
    if gpu_problem():
        logger.warning(gpu_problem())


def check_gpu():
    """Stop before any job if runs would be trained on a GPU that is not there.

    Snakemake deletes the outputs of a job before the job could find out.
    """
    runs = Path(paths.runs_dir(config["results"]))
    made = (Path(name) for job in workflow.dag.needrun_jobs() for name in job.output)
    trains = any(
        path.name == paths.METRICS and path.is_relative_to(runs) for path in made
    )
    if trains and gpu_problem():
        raise WorkflowError(gpu_problem())


def check_tracking():
    """Stop before any job if runs would be trained and the library of a tracker is not installed."""
    if not workflow.local_exec or deployed:
        return
    trains = any(job.rule.name == "train" for job in workflow.dag.needrun_jobs())
    problems = tracking.missing_libraries(GRID.config.tracking.names) if trains else []
    if problems:
        raise WorkflowError(f"{'; '.join(problems)}. Nothing was changed.")


def check_slurm():
    """Stop before any job if jobs would go to a Slurm that is not there."""
    if workflow.executor_plugin.name == "slurm" and shutil.which("sbatch") is None:
        raise WorkflowError(
            "There is no sbatch on this machine, so no Slurm to submit jobs to. Nothing was changed. "
            "Run on a login node of the cluster, or without --profile and --executor."
        )


def add_hook(name, function):
    """Call a function after a hook of the importing workflow. Snakemake ignores those of a module."""
    importers = getattr(workflow, name)

    def hook(log):
        importers(log)
        function(log)

    setattr(workflow, name, hook)


if is_module:
    add_hook("_onstart", start)
    add_hook("_onsuccess", functools.partial(end, True))
    add_hook("_onerror", functools.partial(end, False))
