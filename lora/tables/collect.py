"""Gather the metrics.csv of every run of a grid into one runs.csv, and check each run.

A run without metrics.csv is one row with status `missing`, so no run is left out. Every run.json is
compared with the grid, because a queued job reads the config when it starts and the config may have
changed since. Changing a setting therefore excludes all older runs until they are trained again or
the setting is changed back.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lora import files, paths, run_record
from lora.columns import METRICS_COLUMNS, RUNS_COLUMNS, STATUSES
from lora.errors import ConfigError
from lora.experiment import table_inputs, verify
from lora.experiment.cell import BASE_METHODS, Cell
from lora.experiment.grid import Grid
from lora.files import Row
from lora.run_record import RunRecord

RETRAIN = "delete these runs to train them again"
MINIMUM = {  # metric -> its lowest possible value; the highest is 1
    "accuracy": 0,
    "f1": 0,
    "precision": 0,
    "recall": 0,
    "accuracy_mismatched": 0,
    "accuracy_overall": 0,
    "matthews": -1,
    "pearson": -1,
    "spearman": -1,
}
ROUNDING = 1e-9  # a metric may exceed its range by this


def collect(grid: Grid, runs_dir: Path, output: Path) -> None:
    """Write runs.csv, one row per epoch of every run of the grid, and what it was made of.

    Args:
        grid: The requested runs.
        runs_dir: Folder of all runs.
        output: The file to write, with the columns RUNS_COLUMNS, in the grid's order. The checksum
            of its inputs is written to inputs.json in the same folder.

    Raises:
        ConfigError: If a run has other settings or another results_version than the grid, a
            metrics.csv does not have the expected epochs, or runs of one cell were trained on
            different data, models or versions. The message names every such run.
    """
    made_of = table_inputs.checksum(grid, runs_dir)  # before reading: a later change shows
    rows: list[Row] = []
    problems: list[str] = []
    trained: list[tuple[Cell, int, RunRecord]] = []
    for cell, seed, folder in runs_of(grid, runs_dir):
        if not (folder / "metrics.csv").is_file():
            rows.append(_row(cell, seed, RunRecord(), {"status": "missing"}))
            continue
        try:
            record, epochs = _read_run(grid, cell, seed, folder)
        except ConfigError as error:
            problems += error.problems
            continue
        trained.append((cell, seed, record))
        rows += [_row(cell, seed, record, epoch) for epoch in epochs]
    if problems:
        raise ConfigError(
            f"Runs in {runs_dir} cannot be used with this config; {RETRAIN}, or change the config "
            "back to the settings of these runs:",
            problems,
        )
    mixed = verify.disagreements(trained)
    if mixed:
        raise ConfigError(
            f"Runs in {runs_dir} cannot be compared with each other; {RETRAIN}, or set "
            "`precision:` in the config:",
            mixed,
        )
    files.write_csv(output, RUNS_COLUMNS, rows)
    table_inputs.write(output.parent, made_of)


def runs_of(grid: Grid, runs_dir: Path) -> Iterator[tuple[Cell, int, Path]]:
    """Yield cell, seed and folder of every run of the grid."""
    for cell in grid.cells:
        for seed in grid.seeds:
            yield cell, seed, Path(paths.run_dir(runs_dir, cell.path, seed))


def read_record(folder: Path) -> RunRecord | None:
    """Return the run.json of a run, None if there is none.

    Raises:
        ValueError: If it is not valid.
    """
    path = folder / "run.json"
    return run_record.read(path, RETRAIN) if path.is_file() else None


def damages(record: RunRecord, folder: Path) -> list[str]:
    """Return a line for each file of a run that was changed after training."""
    found = []
    if record.altered:
        found.append("run.json was changed or damaged: its checksum does not fit")
    if files.differs_from(folder / "metrics.csv", record.files.get("metrics.csv")):
        found.append("metrics.csv was changed or damaged: run.json has another sha256 of it")
    return found


def _read_run(grid: Grid, cell: Cell, seed: int, folder: Path) -> tuple[RunRecord, list[Row]]:
    """Return the record and the epochs of a run; raise ConfigError unless both are as expected."""
    name = f"{cell.path}/seed{seed}"
    try:
        record = read_record(folder)
        epochs = files.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
    except ValueError as error:
        raise ConfigError(name, [str(error)]) from None
    if record is None:
        raise ConfigError(name, [f"{name}: metrics.csv has no run.json beside it"])
    precision = "auto" if cell.method in BASE_METHODS else grid.config.precision
    wrong = damages(record, folder) + verify.differences(record, grid, cell, seed, precision)
    if not wrong:
        wrong = _wrong_epochs(epochs, grid.hparams(cell).epochs, record) + _wrong_values(epochs)
    if wrong:
        raise ConfigError(name, [f"{name}: {problem}" for problem in wrong])
    return record, epochs


def _wrong_epochs(epochs: list[Row], expected: int, record: RunRecord) -> list[str]:
    """Check that a finished run has every epoch and a failed one ends at its non-finite epoch."""
    numbers, statuses = [row["epoch"] for row in epochs], [row["status"] for row in epochs]
    in_order = numbers == list(range(1, len(numbers) + 1))
    if not in_order or any(status != "ok" for status in statuses[:-1]):
        return [
            f"metrics.csv has epochs {numbers} with status {statuses}; expected 1, 2, ..., all ok "
            "but the last"
        ]
    last = statuses[-1] if statuses else "missing"
    if last not in STATUSES or last != record.status:
        return [f"metrics.csv ends with status {last!r}, run.json has {record.get('status')!r}"]
    if last == "ok" and len(epochs) != expected:
        return [f"metrics.csv has {len(epochs)} epochs; expected {expected}"]
    return []


def _wrong_values(epochs: list[Row]) -> list[str]:
    """Return a line for each metric outside its range."""
    return [
        f"metrics.csv, epoch {row['epoch']}: {name} is {row[name]!r}; allowed: {lowest} to 1"
        for row in epochs
        for name, lowest in MINIMUM.items()
        if not (math.isnan(row[name]) or lowest - ROUNDING <= row[name] <= 1 + ROUNDING)
    ]


def _row(cell: Cell, seed: int, record: RunRecord, epoch: Row) -> Row:
    """Return a row of runs.csv. The record of a missing run is empty."""
    row: Row = dict.fromkeys(METRICS_COLUMNS, math.nan)
    row |= epoch | asdict(cell)
    row["seed"] = seed
    row["digest"] = record.digest
    row["base_precision"] = record.base_precision if record.model_fields_set else ""
    row["trainable"] = record.parameters.trainable
    row["train_examples"] = record.data.train_examples
    row["eval_examples"] = record.data.eval_examples
    row["data_source"] = record.data.source
    row["base_source"] = record.base.source
    counts = record.data.label_counts
    row["label_counts"] = json.dumps(counts, sort_keys=True) if counts else ""
    return row
