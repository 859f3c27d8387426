"""Columns and allowed values of the tables in config/*.csv, and reading one table.

Every row is checked as it is read, and nothing is skipped: a wrong header, a row of another
length, a repeated name or a value that is not allowed raises ConfigError with file and line.
"""

import functools
import os
import re
import shlex
from collections import Counter
from pathlib import Path

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.cell import METHODS
from lora.experiment.hparams import parse_setting
from lora.experiment.names import DEVICE_KINDS
from lora.paths import CONFIG_DIR, CONFIG_DIR_VARIABLE, ROOT

Row = dict[str, str]
FOLDER = CONFIG_DIR
TABLE7 = ("w_norm", "delta_norm", "projected_delta", "projected_w", "projected_random")
COLUMNS = {  # file in config/ -> its columns
    "tasks.csv": (
        "task title dataset format text_columns num_labels label_names metric eval_splits mirrors "
        "source"
    ).split(),
    "sources.csv": "name role kind locator revision sha256 licence source".split(),
    "hparams.csv": "protocol method model task rank name value source".split(),
    "published.csv": (
        "table model method trainable task weights rank protocol metric value spread spread_kind "
        "statistic selection n_seeds source note"
    ).split(),
    "table7.csv": ["rank", *TABLE7, "source"],
    "models.csv": "model layers width inner heads vocabulary positions types source".split(),
    "lengths.csv": "task split examples mean_tokens attended_tokens known source".split(),
    "devices.csv": (
        "device kind bf16_gflops fp32_gflops layer_ms run_layer_ms startup_s memory_gib known "
        "source"
    ).split(),
}
# Columns that tables of earlier versions don't have; their cells are read as empty.
ADDED_COLUMNS = {"tasks.csv": ("label_names",)}
KEYS = {  # file -> the columns that together are given once
    "tasks.csv": ("task",),
    "sources.csv": ("name",),
    "table7.csv": ("rank",),
    "models.csv": ("model",),
    "lengths.csv": ("task", "split"),
    "devices.csv": ("device",),
}
# A pattern of a column's values, and the same in words.
COUNT = (r"0*[1-9]\d{0,8}", "a whole number of at least 1")
COUNT_OR_0 = (r"\d{1,9}", "a whole number of at least 0")
AMOUNT = (r"(?=.*[1-9])\d{1,9}(\.\d+)?", "a number above 0")
AMOUNT_OR_EMPTY = (f"({AMOUNT[0]})?", "a number above 0, or nothing")
OR_EMPTY = "a number, or nothing"
KNOWN = ("measured|estimate", "measured, estimate")
# Published values keep their printed digits, so they stay text; what was not printed is empty.
PATTERNS = {
    "published.csv": {
        "value": (r"\d+(\.\d+)?", "a number"),
        "spread": (r"(\d*\.?\d+)?", OR_EMPTY),
        "rank": (r"\d*", OR_EMPTY),
        "n_seeds": (r"\d*", OR_EMPTY),
        "trainable": (r"(\d+(\.\d+)?M)?", OR_EMPTY),
    },
    "table7.csv": {"rank": COUNT} | dict.fromkeys(TABLE7, AMOUNT),
    "models.csv": dict.fromkeys(COLUMNS["models.csv"][1:-1], COUNT) | {"types": COUNT_OR_0},
    "lengths.csv": {
        "examples": COUNT,
        "mean_tokens": AMOUNT,
        "attended_tokens": AMOUNT,
        "known": KNOWN,
    },
    "devices.csv": {
        "kind": ("|".join(DEVICE_KINDS), ", ".join(DEVICE_KINDS)),
        "fp32_gflops": AMOUNT,
        "layer_ms": AMOUNT,
        "run_layer_ms": AMOUNT,
        "startup_s": AMOUNT,
        "bf16_gflops": AMOUNT_OR_EMPTY,
        "memory_gib": AMOUNT_OR_EMPTY,
        "known": KNOWN,
    },
}


def read_rows(name: str, folder: Path = FOLDER) -> list[Row]:
    """Return the rows of one table as text by column.

    Args:
        name: A file of COLUMNS.
        folder: The folder of the tables.

    Raises:
        ConfigError: Lists everything that is wrong with the file.
    """
    if folder == FOLDER:
        _check_working_directory()
    path = Path(folder) / name
    columns, title = COLUMNS[name], f"{path.parent.name}/{path.name}:"
    try:
        (_, header), *lines = files.read_rows(path) or [(1, [])]
    except ValueError as error:
        advice = "" if path.exists() else f"; copy it from {ROOT}/config"
        raise ConfigError(title, [f"{error}{advice}"]) from None
    problems = []
    earlier = [column for column in columns if column not in ADDED_COLUMNS.get(name, ())]
    given = earlier if header == earlier else columns
    if header != given:
        problems.append(f"the header is {shown(','.join(header))}; expected {','.join(columns)!r}")
    for number, line in lines:
        if len(line) != len(given):
            problems.append(f"line {number} has {len(line)} cells; expected {len(given)}")
    if problems:
        raise ConfigError(title, problems)
    empty = dict.fromkeys(columns, "")
    rows = [empty | dict(zip(given, line, strict=True)) for _, line in lines]
    for (number, _), row in zip(lines, rows, strict=True):
        problems += [f"line {number}: {problem}" for problem in _check_row(name, row)]
    if name in KEYS:
        keys = Counter(tuple(row[column] for column in KEYS[name]) for row in rows)
        problems += [
            f"{shown(' '.join(key))} is there {count} times; keep one row"
            for key, count in keys.items()
            if count > 1
        ]
    if problems:
        raise ConfigError(title, problems)
    return rows


@functools.cache
def _check_working_directory() -> None:
    """Refuse tables in config/ of the working directory that differ from those that are read.

    Users edit the copy that they see, such as the one of a deployed workflow. Which folder is read
    does not depend on the working directory, so without this check their edits would have no
    effect. CONFIG_DIR_VARIABLE names the folder and turns the check off. Files of another project
    with the same name are ignored: fewer than half of our columns are in their header.
    """
    here = Path("config").absolute()
    if os.environ.get(CONFIG_DIR_VARIABLE):
        return
    differing = [name for name in COLUMNS if _is_edited_copy(here / name, FOLDER / name)]
    if differing:
        raise ConfigError(
            f"Tables in {here} differ from those in {FOLDER}, which are read. To use yours, run "
            f"`export {CONFIG_DIR_VARIABLE}={shlex.quote(str(here))}`. Otherwise delete or rename "
            "them, or update them from the repository:",
            differing,
        )


def _is_edited_copy(path: Path, used: Path) -> bool:
    """Return whether a file is a copy of a table, with other content than the table."""
    if not path.is_file():
        return False
    try:
        rows = [cells for _, cells in files.read_rows(path)]
    except ValueError:
        rows = [path.read_bytes().split(b"\n")[0].decode(errors="replace").strip().split(",")]
    columns = COLUMNS[used.name]
    is_copy = bool(rows) and 2 * len(set(rows[0]) & set(columns)) >= len(columns)
    return is_copy and rows != [cells for _, cells in files.read_rows(used)]


def _check_row(name: str, row: Row) -> list[str]:
    """Check the values of a row. Task and Source check the rows of tasks.csv and sources.csv."""
    problems = []
    if name == "hparams.csv":
        try:
            parse_setting(row["name"], row["value"], rank=1)
        except ValueError as error:
            problems.append(str(error))
        if row["method"] not in ("*", *METHODS):
            problems.append(f"method is {shown(row['method'])}; allowed: *, {', '.join(METHODS)}")
        if not (row["rank"] == "*" or row["rank"].isdecimal()):
            problems.append(f"rank is {shown(row['rank'])}; allowed: *, or a whole number")
    for column, (pattern, allowed) in PATTERNS.get(name, {}).items():
        if not re.fullmatch(pattern, row[column]):
            problems.append(f"{column} is {shown(row[column])}; allowed: {allowed}")
    return problems
