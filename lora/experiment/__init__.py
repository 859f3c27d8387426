"""Experiment.

cell: A cell: a run without its seed, and the methods and weight types it may have.
compared_runs: Which three runs of a grid have their subspaces compared: one of a lower rank, and two seeds of a higher one (Sec. 7.2).
config: A config as a person gives it: a YAML file laid over config/config.yaml as Snakemake lays it, or JSON text from a rule.
grid: From the config to cells: what is asked for, resolved and checked before any job starts.
hparam_warnings: Settings that are allowed and hardly meant: a sentence for each, with what is usual and why.
hparams: Hyperparameters of a run: names, units, allowed values and parsing.
jobs: What one training job trains: which cells share a job, whether a grid allows it, and the JSON they travel in.
names: Names that become folders, and the largest whole number accepted.
registry: The facts of config/*.csv: tasks, sources, hyperparameters, published figures, and what a plan reckons with, each row
schema: A config against its JSON Schema, with messages for people: which key, what was got, what is allowed.
source: Where a data set or a model comes from, and what pins its content.
task: A task: a data set, its columns, its labels and its metric.
verify: Whether runs are what is asked for, and whether they may stand side by side: both told by their run.json alone.
"""
