# Settings inside Snakemake, each with its reason, and the checked grid.
import functools
import shlex
import subprocess
import sys
from pathlib import Path

# This checkout's lora, also where it is not installed.
sys.path.insert(0, workflow.basedir)

from lora.experiment import grid as lora_grid, hparam_warnings
from lora.experiment.config import read_yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod, RerunTrigger


container: config["container"]  # for every rule, with --sdm apptainer


if set(workflow.basedir) & set("{}"):
    raise WorkflowError(
        f"this checkout is in {workflow.basedir}; Snakemake reads braces as wildcards. "
        "Move it to another folder."
    )

deployed = workflow.deployment_settings.deployment_method
if DeploymentMethod.APPTAINER in deployed:
    if not config["container"]:
        raise WorkflowError(
            "--sdm apptainer needs an image: set container in the config to one built from "
            "envs/Dockerfile"
        )
    # The image does not contain lora, and Snakemake mounts only the working directory.
    workflow.deployment_settings.apptainer_args += (
        f" --bind {shlex.quote(workflow.basedir)}"
    )

# Rules call `python -m lora`. They use this checkout's package and, unless Snakemake deploys software,
# the Python that runs Snakemake, whether or not its environment is activated.
_path = (
    ""
    if deployed
    else f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
)
_pythonpath = f'export PYTHONPATH={shlex.quote(workflow.basedir)}:"${{PYTHONPATH:-}}"; '
_prefix = f"set -euo pipefail; {_pythonpath}{_path}"
# Snakemake formats the prefix.
shell.prefix(_prefix.replace("{", "{{").replace("}", "}}"))

try:
    # Refuse a key that is in a file twice. Snakemake would take the last.
    for path in workflow.overwrite_configfiles:
        read_yaml(path)
    GRID = lora_grid.load(config)
except ValueError as problems:
    raise WorkflowError(str(problems)) from None

for sentence in hparam_warnings.warnings_of_cells(
    {cell: GRID.hparams(cell) for cell in GRID.cells}
):
    logger.warning(sentence)


# With a storage provider the results are not here, and Snakemake decides by its own records.
REMOTE = workflow.storage_settings.default_storage_provider is not None
IMPORTED = workflow.modifier.parent_modifier is not None  # by another workflow


@functools.cache
def decide_by_checksums():
    """Make Snakemake run only jobs whose outputs are missing, older than an input, or not current.

    Snakemake would also run a job when a setting, a command or an environment changed, although no
    number depends on it, and it deletes the old outputs first. Here checksums decide (make_again).
    A user's --rerun-triggers is kept, and so are those of a workflow that imports this one.
    """
    settings = workflow.dag_settings  # not there while rules are read
    if not (IMPORTED or REMOTE) and settings.rerun_triggers == RerunTrigger.all():
        settings.rerun_triggers = frozenset({RerunTrigger.MTIME})


def make_again(*names):
    """Run the jobs that make these files, if they are in the plan, although the files exist."""
    if workflow.is_main_process:
        workflow.dag.forcefiles.update(names)


def check_gpu():
    """Stop before any job if runs would be trained on a GPU that is not there.

    Snakemake deletes the outputs of a job before the job could find out.
    """
    trains = any(job.rule.name == "train" for job in workflow.dag.needrun_jobs())
    if config["device"] != "cuda" or not trains or not workflow.local_exec or deployed:
        return
    code = "import torch; exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode:
        raise WorkflowError(
            f"device is cuda, but torch in {sys.executable} sees no GPU. Nothing was changed. Use "
            "device: auto or device: cpu, or run on a machine with a GPU and a CUDA build of torch."
        )


onstart:
    check_gpu()
