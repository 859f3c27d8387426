"""Checksum of everything that tables are made of: runs, config, facts and code.

`lora collect` writes it next to runs.csv. The workflow makes the tables again when it has changed,
so timestamps do not decide. Snakemake calls this module in every command, so it reads no rows.
"""

import hashlib
import json
from pathlib import Path

import lora
from lora import files, paths
from lora.experiment.csv_tables import COLUMNS, FOLDER
from lora.experiment.grid import Grid

NAME = "inputs.json"
CODE = (".py", ".j2", ".css")  # Python files and the templates of pages
# Keys of the config that change no table: they name a folder, or say whether to train.
WITHOUT_EFFECT = ("mode", "results")


def checksum(grid: Grid, runs_dir: Path | str, facts: Path = FOLDER) -> str:
    """Return the sha256 of what the tables of a grid are made of.

    Args:
        grid: The grid of the config.
        runs_dir: The folder of all runs. A run counts once it has a metrics.csv.
        facts: The folder of the tables of config/.
    """
    config = {
        key: value for key, value in grid.config.as_dict().items() if key not in WITHOUT_EFFECT
    }
    inputs = {
        "version": lora.__version__,
        "code": _code(Path(lora.__file__).parent),
        "config": config,
        "facts": {name: _sha256(facts / name) for name in COLUMNS},
        "runs": _runs(grid, runs_dir),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def missing_runs(grid: Grid, runs_dir: Path | str) -> list[str]:
    """Return the runs of a grid without metrics.csv or run.json, relative to `runs_dir`."""
    return [
        f"{cell.path}/seed{seed}"
        for cell in grid.cells
        for seed in grid.seeds
        if not all(
            Path(paths.run_dir(runs_dir, cell.path, seed), name).is_file()
            for name in (paths.METRICS, paths.RUN_JSON)
        )
    ]


def write(folder: Path, value: str) -> None:
    """Write the checksum that the tables in `folder` are made of."""
    files.write_json(Path(folder) / NAME, {"sha256": value})


def read(folder: Path | str) -> str:
    """Return the checksum that the tables in `folder` were made of; empty if it is unknown."""
    path = Path(folder) / NAME
    try:
        return str(files.read_object(path, "").get("sha256", "")) if path.is_file() else ""
    except ValueError:
        return ""


def _runs(grid: Grid, runs_dir: Path | str) -> dict[str, list[str]]:
    """Return the checksums of run.json and metrics.csv of every run that exists."""
    found = {}
    for cell in grid.cells:
        for seed in grid.seeds:
            folder = Path(paths.run_dir(runs_dir, cell.path, seed))
            if (folder / paths.METRICS).is_file():
                names = (paths.METRICS, paths.RUN_JSON)
                found[f"{cell.path}/seed{seed}"] = [_sha256(folder / name) for name in names]
    return found


def _code(package: Path) -> dict[str, str]:
    """Return the checksums of the package's files: an update may change how a table is made."""
    return {
        path.relative_to(package).as_posix(): _sha256(path)
        for path in package.rglob("*")
        if path.suffix in CODE
    }


def _sha256(path: Path) -> str:
    return files.file_sha256(path) if path.is_file() else ""
