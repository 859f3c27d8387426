# Settings inside Snakemake, each with its reason, and the checked grid.
import shlex
import sys
from pathlib import Path

# This checkout's lora, also where it is not installed.
sys.path.insert(0, workflow.basedir)

from lora.experiment import grid as lora_grid, hparam_warnings
from lora.experiment.config import read_yaml, resolved
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod


# --config gives numbers in lists as text, and paths may have ~ and variables. Rules and GRID use the
# same values. What cannot be read stays as it is, and GRID reports it.
config.update(resolved(config))


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
