# What the rules of training and tables share: run paths, wildcards, and whether the tables are old.
import json
from pathlib import Path

from lora import paths
from lora.experiment import table_inputs

RUN = paths.RUN_PATTERN
TOKENS = paths.tokens_dir("<results>", "{model}", "{task}", "{max_tokens}")
# parts of the path of a run's file below the folder of all runs
DEPTH = len(Path(RUN).parts) + 1
PACKING = GRID.packing


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


def config_text(wildcards):
    """Return the merged config as JSON, for commands that need the grid."""
    return json.dumps(config, sort_keys=True)
