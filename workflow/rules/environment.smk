# Settings inside Snakemake, each with its reason: the config, the results folder and the checked grid.
from pathlib import Path

from lora.experiment import config as lora_config, config_errors
from lora.experiment import grid as lora_grid, hparam_warnings
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.path_modifier import PathModifier
from snakemake.settings.types import DeploymentMethod


configfile: str(lora_config.DEFAULTS)  # also with --directory


is_module = not workflow.modifier.is_main_snakefile()

if not is_module and workflow.config_settings.replace_workflow_config:
    logger.warning(
        "--replace-workflow-config has no effect: keys that your config leaves out have the values "
        f"of {lora_config.DEFAULTS}. Set a table to null to leave it out."
    )

# Users edit the copy that they see. A module's config comes from the importing workflow.
_unread = Path("config/config.yaml").resolve()
if (
    not is_module
    and _unread.is_file()
    and _unread not in [Path(path).resolve() for path in workflow.configfiles]
    and _unread.read_bytes() != lora_config.DEFAULTS.read_bytes()
):
    logger.warning(
        f"{_unread} is not read. To use it, give --configfile config/config.yaml."
    )

try:
    if not is_module:
        # Refuse a key that is in a file twice. Snakemake would take the last.
        for path in workflow.overwrite_configfiles:
            lora_config.read_yaml(path)
    # Snakemake lays the config of a module, or with --replace-workflow-config, over nothing.
    config = lora_config.with_defaults(config)
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
    if is_module and str(problems).startswith(config_errors.TITLE):
        advice = (
            "\nIn a module, give the config of this workflow alone: `config: {...}`."
        )
    raise WorkflowError(f"{problems}{advice}") from None


container: config["container"]  # for every rule, with --sdm apptainer


if DeploymentMethod.APPTAINER in deployed and not config["container"]:
    raise WorkflowError(
        "--sdm apptainer needs an image: set container in the config to one built from "
        "envs/Dockerfile"
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
