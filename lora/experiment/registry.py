"""The tables of config/*.csv: tasks, sources, hyperparameters, published values, planning facts.

Every row is checked as it is read, and nothing is skipped: a wrong header, a row of another
length, a repeated name or a value that is not allowed raises ConfigError with file and line.
Snakemake reads these tables in every job, so this module loads neither torch nor pandas.
"""

import functools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.cell import METHODS, Cell
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting
from lora.experiment.source import Source
from lora.experiment.task import Task
from lora.paths import ROOT

Row = dict[str, str]
FOLDER = ROOT / "config"
FACTS = {  # file in config/ -> its columns
    "tasks.csv": (
        "task title dataset format text_columns num_labels metric eval_splits mirrors source"
    ).split(),
    "sources.csv": "name role kind locator revision sha256 licence source".split(),
    "hparams.csv": "protocol method model task rank name value source".split(),
    "published.csv": (
        "table model method trainable task weights rank protocol metric value spread spread_kind "
        "statistic selection n_seeds source note"
    ).split(),
    "models.csv": "model layers width inner heads vocabulary positions types source".split(),
    "lengths.csv": "task split examples mean_tokens attended_tokens known source".split(),
    "devices.csv": (
        "device kind bf16_gflops fp32_gflops layer_ms run_layer_ms startup_s memory_gib known "
        "source"
    ).split(),
}
KEYS = {  # file -> the columns that together are given once
    "tasks.csv": ("task",),
    "sources.csv": ("name",),
    "models.csv": ("model",),
    "lengths.csv": ("task", "split"),
    "devices.csv": ("device",),
}
# A pattern of a column's values, and the same in words.
COUNT = (r"0*[1-9]\d{0,8}", "a whole number of at least 1")
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
    "models.csv": dict.fromkeys(FACTS["models.csv"][1:-1], COUNT),
    "lengths.csv": {
        "examples": COUNT,
        "mean_tokens": AMOUNT,
        "attended_tokens": AMOUNT,
        "known": KNOWN,
    },
    "devices.csv": {
        "kind": ("cpu|cuda", "cpu, cuda"),
        "fp32_gflops": AMOUNT,
        "layer_ms": AMOUNT,
        "run_layer_ms": AMOUNT,
        "startup_s": AMOUNT,
        "bf16_gflops": AMOUNT_OR_EMPTY,
        "memory_gib": AMOUNT_OR_EMPTY,
        "known": KNOWN,
    },
}


@dataclass(frozen=True)
class HparamRow:
    """A row of hparams.csv: the value of one hyperparameter for the cells that it matches.

    `method`, `model`, `task` and `rank` are a cell's, or `*` for any.
    """

    protocol: str
    method: str
    model: str
    task: str
    rank: str
    name: str
    value: str
    source: str

    def matches(self, cell: Cell) -> bool:
        """Return whether the row applies to a cell."""
        return (
            self.protocol == cell.protocol
            and self.method in ("*", cell.method)
            and self.model in ("*", cell.model)
            and self.task in ("*", cell.task)
            and self.rank in ("*", str(cell.rank))
        )

    @property
    def wildcards(self) -> int:
        """The number of `*`: of the rows that match, the one with the fewest decides."""
        return (self.method, self.model, self.task, self.rank).count("*")


def read_rows(name: str, folder: Path = FOLDER) -> list[Row]:
    """Return the rows of one table as text by column.

    Args:
        name: A file of FACTS.
        folder: The folder of the tables.

    Raises:
        ConfigError: Lists everything that is wrong with the file.
    """
    path = Path(folder) / name
    columns, title = FACTS[name], f"{path.parent.name}/{path.name}:"
    try:
        (_, header), *lines = files.read_rows(path) or [(1, [])]
    except ValueError as error:
        raise ConfigError(title, [str(error)]) from None
    problems = []
    if header != columns:
        problems.append(f"the header is {shown(','.join(header))}; expected {','.join(columns)!r}")
    for number, line in lines:
        if len(line) != len(columns):
            problems.append(f"line {number} has {len(line)} cells; expected {len(columns)}")
    if problems:
        raise ConfigError(title, problems)
    rows = [dict(zip(columns, line, strict=True)) for _, line in lines]
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


def read_tasks(folder: Path = FOLDER) -> dict[str, Task]:
    """Return the tasks of tasks.csv by name."""
    return {
        row["task"]: Task(
            name=row["task"],
            title=row["title"],
            dataset=row["dataset"],
            format=row["format"],
            text_columns=tuple(row["text_columns"].split()),
            num_labels=int(row["num_labels"]) if row["num_labels"].isdecimal() else -1,
            metric=row["metric"],
            eval_splits=tuple(row["eval_splits"].split()),
            mirrors=row["mirrors"],
        )
        for row in read_rows("tasks.csv", folder)
    }


def task(name: str) -> Task:
    """Return one task of tasks.csv; raise ValueError if there is none of this name."""
    tasks = read_tasks()
    if name not in tasks:
        raise ValueError(f"no task {name!r}; allowed: {', '.join(tasks)}")
    return tasks[name]


def read_sources(
    replaced: Mapping[str, Mapping[str, str]] | None = None, folder: Path = FOLDER
) -> dict[str, Source]:
    """Return the sources of sources.csv by name.

    Args:
        replaced: Sources that replace rows or add to them (`sources` of a config): name to values
            of the columns role, kind, locator, revision, sha256, licence. A missing role or licence
            is the replaced row's; other missing values are empty.
        folder: The folder of the tables.

    Raises:
        ConfigError: Lists every source that is not valid.
    """
    replaced = replaced or {}
    rows = {row["name"]: row for row in read_rows("sources.csv", folder)}
    sources, problems = {}, []
    for name in {**rows, **replaced}:
        row = {column: rows.get(name, {}).get(column, "") for column in FACTS["sources.csv"][:-1]}
        if name in replaced:
            kept = {"name": name, "role": row["role"], "licence": row["licence"]}
            row = dict.fromkeys(row, "") | kept | dict(replaced[name])
        try:
            sources[name] = Source(**row)
        except ConfigError as error:
            where = "sources in the config" if name in replaced else "config/sources.csv"
            problems += [f"{where}, {shown(name)}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError("Some sources are not valid:", problems)
    return sources


def read_hparam_rows(folder: Path = FOLDER) -> tuple[HparamRow, ...]:
    """Return the rows of hparams.csv in the order of the file."""
    return tuple(HparamRow(**row) for row in read_rows("hparams.csv", folder))


def resolve(
    rows: Sequence[HparamRow], cell: Cell, overrides: Mapping[str, int | float | str]
) -> Hparams:
    """Return the hyperparameters of a cell.

    Args:
        rows: The rows of hparams.csv. Of those that match, the one with the fewest `*` decides.
        cell: The cell, under a protocol of `rows`.
        overrides: Hyperparameters by name that replace the rows' values.

    Raises:
        ConfigError: For a name without a row, two equally specific rows that differ, or a value
            that is not allowed.
    """
    values: dict[str, Any] = {}  # parse_setting gives each the type of its field
    problems = []
    matching: dict[str, list[HparamRow]] = {name: [] for name in HPARAM_NAMES}
    for row in rows:
        if row.matches(cell):
            matching[row.name].append(row)
    for name in HPARAM_NAMES:
        written = overrides.get(name)
        if written is None:
            if not matching[name]:
                problems.append(
                    f"{name}: no row for protocol {cell.protocol!r}; add one, or set it under "
                    "overrides:"
                )
                continue
            fewest = min(row.wildcards for row in matching[name])
            best = {row.value for row in matching[name] if row.wildcards == fewest}
            if len(best) > 1:
                problems.append(
                    f"{name}: equally specific rows say {', '.join(sorted(best))}; make one more "
                    "specific"
                )
                continue
            written = best.pop()
        try:
            values[name] = parse_setting(name, written, cell.rank)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"hyperparameters of {cell.path} (config/hparams.csv):", problems)
    return Hparams(**values)


def check_settings(
    rows: Sequence[HparamRow], tasks: Collection[str], models: Collection[str]
) -> list[str]:
    """Return what is wrong with hparams.csv besides its values, one line each.

    These are unknown models and tasks, whose rows would never be used, and repeated rows.
    """
    keys = Counter(
        (row.protocol, row.method, row.model, row.task, row.rank, row.name) for row in rows
    )
    problems = [
        f"config/hparams.csv: {shown(','.join(key))} is there {count} times; keep one row"
        for key, count in keys.items()
        if count > 1
    ]
    used = {"model": Counter(row.model for row in rows), "task": Counter(row.task for row in rows)}
    for axis, known in (("model", models), ("task", tasks)):
        problems += [
            f"config/hparams.csv: {axis} is {shown(name)} in {count} rows; allowed: *, "
            f"{', '.join(known)}"
            for name, count in used[axis].items()
            if name not in ("*", *known)
        ]
    return problems


@dataclass(frozen=True)
class Device:
    """A row of devices.csv: a device and its speed, for planning.

    Attributes:
        name: The device.
        kind: cpu or cuda.
        bf16_gflops: Sustained GFLOP/s, of a CPU per thread; 0 if the device has no bf16.
        fp32_gflops: The same in fp32.
        layer_ms: Fixed time of a step per layer, in milliseconds.
        run_layer_ms: Fixed time of a step per layer and run, in milliseconds.
        startup_s: Time from the start of a job to its first step, in seconds.
        memory_gib: Device memory in GiB; 0 if it is the machine's.
        measured: Whether the row was measured rather than estimated.
    """

    name: str
    kind: str
    bf16_gflops: float
    fp32_gflops: float
    layer_ms: float
    run_layer_ms: float
    startup_s: float
    memory_gib: float
    measured: bool

    @property
    def note(self) -> str:
        return "measured" if self.measured else "estimate, not measured"

    def precision(self, requested: str) -> str:
        """Return the precision of the frozen base; `auto` is bf16 if the device has it."""
        return requested if requested != "auto" else "bf16" if self.bf16_gflops else "fp32"

    def flops_per_s(self, precision: str, threads: int) -> float:
        """Return sustained FLOP/s. A device without bf16 emulates it no faster than fp32."""
        rate = self.bf16_gflops if precision == "bf16" and self.bf16_gflops else self.fp32_gflops
        return rate * 1e9 * (threads if self.kind == "cpu" else 1)


@functools.cache
def devices(folder: Path = FOLDER) -> dict[str, Device]:
    """Return the devices of devices.csv by name."""
    numbers = FACTS["devices.csv"][2:-2]
    return {
        row["device"]: Device(
            name=row["device"],
            kind=row["kind"],
            measured=row["known"] == "measured",
            **{column: float(row[column] or 0) for column in numbers},
        )
        for row in read_rows("devices.csv", folder)
    }
