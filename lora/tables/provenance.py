"""Provenance: data, model, versions, device and commit of every run, with the merged config."""

import math
from dataclasses import asdict
from pathlib import Path

import yaml

from lora import files
from lora.columns import PROVENANCE_COLUMNS
from lora.errors import ConfigError
from lora.experiment.grid import Grid
from lora.files import Row
from lora.tables import render
from lora.tables.collect import RETRAIN, damages, read_record, runs_of
from lora.tables.labels import Listing

KEYS = {  # column of provenance.csv -> key of run.json
    "status": "status",
    "digest": "digest",
    "results_version": "results_version",
    "device": "device",
    "precision": "precision",
    "commit": "commit",
    "finished": "finished",
    "data_source": "data.source",
    "tokens_sha256": "data.tokens_sha256",
    "train_examples": "data.train_examples",
    "base_source": "base.source",
    "base_sha256": "base.base_sha256",
    "start_source": "start.source",
    "start_sha256": "start.sha256",
    "python": "versions.python",
    "torch": "versions.torch",
    "transformers": "versions.transformers",
    "lora": "versions.lora",
    "wall_s": "speed.wall_s",
    "examples_per_s": "speed.examples_per_s",
    "pack": "speed.pack",
}
OPTIONAL = ("precision", "start.source", "start.sha256")  # runs without them are valid
HASHES = ("digest", "tokens_sha256", "base_sha256", "start_sha256")
HASH_DIGITS = 12


def provenance(grid: Grid, runs_dir: Path) -> list[Row]:
    """Return the rows of provenance.csv, one per run, in the grid's order.

    Raises:
        ConfigError: If a run.json is damaged or lacks a key. The message names every one.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for cell, seed, folder in runs_of(grid, runs_dir):
        row: Row = {
            name: "" if kind is str else math.nan for name, (kind, _) in PROVENANCE_COLUMNS.items()
        }
        row |= asdict(cell)
        row["seed"] = seed
        try:
            record = read_record(folder)
        except ValueError as error:
            problems.append(str(error))
            continue
        if record is None:
            rows.append(row | {"status": "missing"})
            continue
        problems += [f"{folder}: {damage}" for damage in damages(record, folder)]
        missing = [key for key in KEYS.values() if key not in OPTIONAL and not record.has(key)]
        if missing:
            problems.append(f"{folder / 'run.json'} has no {', '.join(missing)}")
        row |= {column: record.get(key) for column, key in KEYS.items()}
        row["precision"] = record.base_precision
        row |= {name: str(row[name] or "")[:HASH_DIGITS] for name in HASHES}
        rows.append(row)
    if problems:
        raise ConfigError(f"Runs in {runs_dir} have no valid run.json; {RETRAIN}:", problems)
    return rows


def write_provenance(grid: Grid, config: files.JsonObject, runs_dir: Path, folder: Path) -> None:
    """Write provenance.csv, provenance.html and config.html into `folder`.

    Args:
        grid: The requested runs.
        config: The merged config, shown as YAML on the page.
        runs_dir: Folder of all runs.
        folder: Folder to write into.
    """
    rows = provenance(grid, runs_dir)
    folder = Path(folder)
    files.write_csv(folder / "provenance.csv", PROVENANCE_COLUMNS, rows)
    missing = sum(row["status"] == "missing" for row in rows)
    listing = Listing(
        title="Provenance of every run",
        caption=f"{len(rows)} requested runs, {missing} of them missing. Hashes are cut to "
        f"{HASH_DIGITS} digits; run.json has all digits.",
        columns=tuple(PROVENANCE_COLUMNS),
        numeric=tuple(kind is not str for kind, _ in PROVENANCE_COLUMNS.values()),
        rows=tuple(
            tuple(files.format_value(row[name]) for name in PROVENANCE_COLUMNS) for row in rows
        ),
    )
    files.write_text(folder / "provenance.html", render.listing_to_html(listing))
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None)
    files.write_text(folder / "config.html", render.text_to_html("Merged config", text))
