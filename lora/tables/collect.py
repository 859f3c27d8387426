"""From run folders to one CSV, and to the record of what every run stood on.

`collect` gathers the `metrics.csv` of every run a grid asks for into one `runs.csv`. A run that is not there is one row
with status `missing`, so that nothing is left out in silence. On a cluster a queued job reads the config when it starts,
so what was asked for and what was trained can differ: every run.json is compared with the grid, and all differences are
told at once. The cost is that changing one setting makes every older run unusable until it is retrained or the config is
put back; that is the point. It neither trains nor chooses an epoch (`tables` does).
"""

import math
from dataclasses import asdict
from pathlib import Path

import yaml

from lora import files, run_record
from lora.columns import METRICS_COLUMNS, PROVENANCE_COLUMNS, RUNS_COLUMNS, STATUSES
from lora.errors import ConfigError
from lora.experiment import verify
from lora.experiment.cell import BASE_METHODS, Cell
from lora.tables import render
from lora.tables.labels import Listing

RETRAIN = "retrain these runs (delete their folders)"
LEAST = {  # metric -> the least it can be; the most is 1
    **dict.fromkeys(
        ("accuracy", "f1", "precision", "recall", "accuracy_mismatched", "accuracy_overall"), 0
    ),
    **dict.fromkeys(("matthews", "pearson", "spearman"), -1),
}
ADVICE = f"{RETRAIN}, or use the config they were trained with"

STOOD_ON = {  # column of provenance.csv -> its place in run.json
    **{
        name: name
        for name in (
            "status",
            "digest",
            "results_version",
            "device",
            "precision",
            "commit",
            "finished",
        )
    },
    "data_source": "data.source",
    "tokens_sha256": "data.tokens_sha256",
    "train_examples": "data.train_examples",
    "base_source": "base.source",
    "base_sha256": "base.base_sha256",
    "start_source": "start.source",
    "start_sha256": "start.sha256",
    **{name: f"versions.{name}" for name in ("python", "torch", "transformers", "lora")},
    **{name: f"speed.{name}" for name in ("wall_s", "examples_per_s", "pack")},
}
HASHES = ("digest", "tokens_sha256", "base_sha256", "start_sha256")  # cut to their first 12 digits


def collect(grid, runs_dir: Path, output: Path) -> None:
    """Write `output` (records.RUNS_COLUMNS): one row per epoch of every run of `grid`, in the grid's order.

    Raises Problems that name every run whose run.json says other settings or another results_version than the grid asks
    for, or whose metrics.csv does not hold the epochs it should, and the runs of one cell that stood on different things.
    """
    rows, problems, trained = [], [], []
    for cell, seed, folder in runs_of(grid, runs_dir):
        if not (folder / "metrics.csv").is_file():
            rows.append(_row(grid, cell, seed, None, dict(status="missing")))
            continue
        name = f"{cell.path}/seed{seed}"
        try:
            record = _read_record(folder)
            epochs = files.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
        except ValueError as error:
            problems.append(str(error))
            continue
        if record is None:
            problems.append(
                f"{name}: metrics.csv is there without run.json, so nothing says what it is"
            )
            continue
        precision = "auto" if cell.method in BASE_METHODS else grid.config["precision"]
        found = damages(record, folder) + verify.differences(record, grid, cell, seed, precision)
        found += (
            []
            if found
            else _wrong_epochs(epochs, grid.hparams(cell).epochs, record) + _wrong_values(epochs)
        )
        problems += [f"{name}: {difference}" for difference in found]
        trained += [(cell, seed, record)] * (not found)
        rows += [_row(grid, cell, seed, record, epoch) for epoch in epochs]
    if problems:
        raise ConfigError(
            f"Runs in {runs_dir} are not what the config asks for; {ADVICE}:", problems
        )
    mixed = verify.unlike(trained)
    if mixed:
        raise ConfigError(
            f"Runs in {runs_dir} do not belong together; {RETRAIN}, or set precision: to what you want:",
            mixed,
        )
    files.write_csv(output, RUNS_COLUMNS, rows)


def runs_of(grid, runs_dir: Path):
    """Every run of the grid: its cell, seed and folder."""
    for cell in grid.cells:
        for seed in grid.seeds:
            yield cell, seed, Path(runs_dir) / cell.path / f"seed{seed}"


def damages(record: dict, folder: Path) -> list[str]:
    """What of a run is not as training left it, one line each, as far as its run.json can tell."""
    found = (
        ["run.json is not as it was written: its seal does not fit"]
        if files.checksum_fails(record)
        else []
    )
    if files.differs_from(folder / "metrics.csv", (record.get("files") or {}).get("metrics.csv")):
        found.append("metrics.csv is not as it was written: run.json has another sha256 of it")
    return found


def _wrong_epochs(epochs: list[dict], asked: int, record: dict) -> list[str]:
    """A finished run has every epoch, all ok; a failed one stops at its first non-finite epoch."""
    numbers, statuses = [row["epoch"] for row in epochs], [row["status"] for row in epochs]
    if numbers != list(range(1, len(numbers) + 1)) or any(
        status != "ok" for status in statuses[:-1]
    ):
        return [
            f"metrics.csv has epochs {numbers} with status {statuses}; expected 1, 2, ..., ok up to the last"
        ]
    last = statuses[-1] if statuses else "missing"
    if last not in STATUSES or last != record.get("status"):
        return [f"metrics.csv ends with status {last!r}, run.json says {record.get('status')!r}"]
    if last == "ok" and len(epochs) != asked:
        return [f"metrics.csv has {len(epochs)} epochs, asked for is {asked}"]
    return []


def _wrong_values(epochs: list[dict]) -> list[str]:
    """Metrics beyond what they can be, one line each; their last bits may be beyond it by rounding."""
    return [
        f"metrics.csv, epoch {row['epoch']}: {name} is {row[name]!r}; allowed: {least} to 1"
        for row in epochs
        for name, least in LEAST.items()
        if not (math.isnan(row[name]) or least - 1e-9 <= row[name] <= 1 + 1e-9)
    ]


def _row(grid, cell: Cell, seed: int, record: dict | None, epoch: dict) -> dict:
    record = record or {}
    row = dict.fromkeys(METRICS_COLUMNS, math.nan) | epoch
    row |= asdict(cell) | dict(seed=seed)
    return row | dict(
        digest=record.get("digest", ""),
        base_precision=verify.precision_of(record) if record else "",
        trainable=run_record.value_at(record, "parameters.trainable"),
        eval_examples=run_record.value_at(record, "data.eval_examples"),
    )


def _read_record(folder: Path) -> dict | None:
    """The run.json of a run, None where there is none; raises ValueError that names it and what in it is wrong."""
    path = folder / "run.json"
    return run_record.read(path, RETRAIN) if path.is_file() else None


def provenance(grid, runs_dir: Path) -> list[dict]:
    """Rows of records.PROVENANCE_COLUMNS: what every run of the grid stood on, in the grid's order.

    Raises Problems that name every run.json without a key it should have, and the key.
    """
    rows, problems = [], []
    for cell, seed, folder in runs_of(grid, runs_dir):
        row = {
            name: "" if kind is str else math.nan for name, (kind, _) in PROVENANCE_COLUMNS.items()
        }
        row |= asdict(cell) | dict(seed=seed)
        try:
            record = _read_record(folder)
        except ValueError as error:
            problems.append(str(error))
            continue
        if record is None:
            rows.append(row | dict(status="missing"))
            continue
        problems += [f"{folder}: {damage}" for damage in damages(record, folder)]
        record = record | dict(
            start=record.get("start") or dict(source="", sha256="")
        )  # null is the pre-trained model
        found = {
            column: run_record.value_at(record, place) for column, place in STOOD_ON.items()
        } | dict(precision=verify.precision_of(record))
        lacking = [STOOD_ON[column] for column, value in found.items() if value is None]
        if lacking:
            problems.append(f"{folder / 'run.json'} has no {', '.join(lacking)}")
        rows.append(row | found | {name: str(found[name])[:12] for name in HASHES})
    if problems:
        raise ConfigError(
            f"Runs in {runs_dir} have a run.json of another format; {RETRAIN}:", problems
        )
    return rows


def write_provenance(grid, config: dict, runs_dir: Path, folder: Path) -> None:
    """Write provenance.csv and provenance.html into `folder`: the runs' rows, and the merged config as it was used."""
    rows = provenance(grid, runs_dir)
    folder = Path(folder)
    files.write_csv(folder / "provenance.csv", PROVENANCE_COLUMNS, rows)
    missing = sum(row["status"] == "missing" for row in rows)
    listing = Listing(
        title="What every run stood on",
        caption=f"{len(rows)} runs asked for, {missing} missing. Hashes are cut to their first 12 digits; the full ones "
        "are in each run's run.json.",
        columns=tuple(PROVENANCE_COLUMNS),
        numeric=tuple(kind is not str for kind, _ in PROVENANCE_COLUMNS.values()),
        rows=tuple(
            tuple(files.format_value(row[name]) for name in PROVENANCE_COLUMNS) for row in rows
        ),
        text_title="The merged config",
        text=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None),
    )
    files.write_text(folder / "provenance.html", render.listing_to_html(listing))
