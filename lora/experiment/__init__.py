"""Experiment: from the config and the tables of config/ to cells, jobs and run specs.

Snakemake imports this room in every job, so it loads neither torch, pandas, transformers nor numpy.

cell: Cells: a cell is a run without its seed. The methods and weight types that it may have.
compared_runs: The three runs whose subspaces are compared: a lower rank, two seeds of a higher one.
config: The config: its keys, as pydantic models.
config_data: Config keys of data sets, models and the user's own tasks.
config_errors: Messages about a config: which key, what was given, what is allowed.
config_files: Reading a config from YAML files or JSON text, over the defaults.
config_repair: The valid part of a config that has problems, so that every problem is listed.
config_types: Types of config values: lists without repeats, seeds, hyperparameters, names; and a
    section.
config_values: Values as a user writes them: numbers and lists given as text, and paths.
csv_tables: Columns and allowed values of the tables in config/*.csv, and reading one table.
earlier_outputs: Check that a run does not replace another run in its output folder.
grid: The grid: from the config to cells, resolved and checked before any job starts.
grid_checks: Checks of a config against the tables of config/: names, weights, ranks, settings.
hparam_rows: Hyperparameters by protocol: the rows of config/hparams.csv, and those of a cell.
hparam_warnings: Warnings for valid but unusual hyperparameters, with the usual range and source.
hparams: Hyperparameters of a run: names, units, allowed values and parsing.
job_progress: Progress of a running training job, for `lora status` and the screen.
jobs: The runs of one training job, as the JSON text of `lora train --cells`.
kept_outputs: Outputs of finished runs, kept where Snakemake does not delete them.
local_data: Files of a data set on this machine, and the hash of their content.
names: Names that become folders, and the largest whole number that is accepted.
own_tasks: Tasks of the config: the same Task and Source as the tables of config/ give.
packing: Which runs of a grid are trained together in one job.
registry: Tasks, sources and devices by name, from the tables of config/.
run_spec: What one run trains (RunSpec), and how a job trains its runs (JobOptions).
source: Sources: where a data set or a model comes from, and what pins its content.
table_inputs: Checksum of everything that tables are made of: runs, config, facts, code.
task: Tasks: a data set, its columns, its labels and its metric.
task_names: Names of tasks as people write them, and as they are registered.
verify: Checks of trained runs by their run.json: against the config, and against each other.
versions: Version of the method that a run's numbers depend on, by what the run is.
"""
