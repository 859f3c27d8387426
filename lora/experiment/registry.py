"""The facts of config/*.csv: tasks, sources, hyperparameters, published figures, and what a plan reckons with, each row
checked as it is read.

A wrong header, a row of another length, a name that is there twice or a value that is not allowed is told with its file and
line; nothing is skipped. Hyperparameters are looked up by how specific a row is. Read in every job of the workflow, so it
imports neither torch nor pandas.
"""

import functools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lora import files
from lora.errors import ConfigError, shown
from lora.experiment.cell import METHODS, Cell
from lora.experiment.hparams import HPARAM_NAMES, Hparams, parse_setting
from lora.experiment.source import Source
from lora.experiment.task import Task
from lora.paths import ROOT

FACTS = {  # file in config/ -> its columns
    "tasks.csv": "task title dataset format text_columns num_labels metric eval_splits mirrors source".split(),
    "sources.csv": "name role kind locator revision sha256 licence source".split(),
    "hparams.csv": "protocol method model task rank name value source".split(),
    "published.csv": (
        "table model method trainable task weights rank protocol metric value spread spread_kind statistic selection "
        "n_seeds source note"
    ).split(),
    "models.csv": "model layers width inner heads vocabulary positions types source".split(),
    "lengths.csv": "task split examples mean_tokens attended_tokens known source".split(),
    "devices.csv": (
        "device kind bf16_gflops fp32_gflops layer_ms run_layer_ms startup_s memory_gib known source"
    ).split(),
}
COUNT, AMOUNT, OR_NOTHING = r"0*[1-9]\d{0,8}", r"(?=.*[1-9])\d{1,9}(\.\d+)?", "a number, or nothing"
KNOWN = ("measured|estimate", "measured, estimate")
# What a cell of these columns must look like, and that in words. A published value keeps the digits it is printed with, so
# it stays text; what was not printed is empty.
PATTERNS = {
    "published.csv": {
        "value": (r"\d+(\.\d+)?", "a number"),
        "spread": (r"(\d*\.?\d+)?", OR_NOTHING),
        **dict.fromkeys(("rank", "n_seeds"), (r"\d*", OR_NOTHING)),
        "trainable": (r"(\d+(\.\d+)?M)?", OR_NOTHING),
    },
    "models.csv": dict.fromkeys(FACTS["models.csv"][1:-1], (COUNT, "a whole number of at least 1")),
    "lengths.csv": {
        "examples": (COUNT, "a whole number of at least 1"),
        **dict.fromkeys(("mean_tokens", "attended_tokens"), (AMOUNT, "a number above 0")),
        "known": KNOWN,
    },
    "devices.csv": {
        "kind": ("cpu|cuda", "cpu, cuda"),
        **dict.fromkeys(
            ("fp32_gflops", "layer_ms", "run_layer_ms", "startup_s"), (AMOUNT, "a number above 0")
        ),
        **dict.fromkeys(
            ("bf16_gflops", "memory_gib"), (f"({AMOUNT})?", "a number above 0, or nothing")
        ),
        "known": KNOWN,
    },
}
NAMED_ONCE = {
    "models.csv": ("model",),
    "lengths.csv": ("task", "split"),
    "devices.csv": ("device",),
}


def read_rows(name: str, folder: Path = ROOT / "config") -> list[dict]:
    """Rows of one fact table as dicts of text; a wrong header or a row of another length raises Problems."""
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
    if not problems:
        for number, line in lines:
            problems += [
                f"line {number}: {problem}"
                for problem in _check_row(name, dict(zip(columns, line, strict=True)))
            ]
    rows = [dict(zip(columns, line, strict=True)) for _, line in lines] if not problems else []
    names = (
        Counter(tuple(row[key] for key in NAMED_ONCE[name]) for row in rows)
        if name in NAMED_ONCE
        else {}
    )
    problems += [
        f"{shown(' '.join(one))} is there {count} times; keep one row"
        for one, count in names.items()
        if count > 1
    ]
    if problems:
        raise ConfigError(title, problems)
    return rows


def _check_row(name: str, row: dict) -> list[str]:
    """What is wrong with the single values of a row; of tasks.csv and sources.csv, whose rows become records, nothing."""
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
    for key, (pattern, allowed) in PATTERNS.get(name, {}).items():
        if not re.fullmatch(pattern, row[key]):
            problems.append(f"{key} is {shown(row[key])}; allowed: {allowed}")
    return problems


def _unique(name: str, rows: list[dict], key: str) -> None:
    names = [row[key] for row in rows]
    twice = sorted({entry for entry in names if names.count(entry) > 1})
    if twice:
        raise ConfigError(
            f"config/{name}:",
            [f"{key} {shown(entry)} is there more than once; keep one row" for entry in twice],
        )


def read_tasks(folder: Path = ROOT / "config") -> dict[str, Task]:
    """The tasks of config/tasks.csv by name."""
    rows = read_rows("tasks.csv", folder)
    _unique("tasks.csv", rows, "task")
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
        for row in rows
    }


def task(name: str) -> Task:
    """The task with this name; raises ValueError where there is none."""
    tasks = read_tasks()
    if name not in tasks:
        raise ValueError(f"no task {name!r}; allowed: {', '.join(tasks)}")
    return tasks[name]


def read_sources(replaced: dict | None = None, folder: Path = ROOT / "config") -> dict[str, Source]:
    """The registry of config/sources.csv by name, with the rows the config replaces under `sources:`."""
    rows = read_rows("sources.csv", folder)
    _unique("sources.csv", rows, "name")
    registry = {row["name"]: {key: row[key] for key in row if key != "source"} for row in rows}
    for name, change in (replaced or {}).items():
        blank = dict(
            kind="",
            locator="",
            revision="",
            sha256="",
            licence=registry.get(name, {}).get("licence", ""),
        )
        registry[name] = {
            "name": name,
            "role": registry.get(name, {}).get("role", ""),
            **blank,
            **change,
        }
    found, problems = {}, []
    for name, row in registry.items():
        try:
            found[name] = Source(**row)
        except ConfigError as error:
            where = "sources in the config" if name in (replaced or {}) else "config/sources.csv"
            problems += [f"{where}, {shown(name)}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError("Sources that cannot be used:", problems)
    return found


def resolve(rows, cell: Cell, overrides: dict) -> Hparams:
    """Hyperparameters of `cell` under its protocol: per name the row with the fewest `*`, then the override.

    Raises Problems for a name with no row, two equally specific rows that differ, or a value that is not allowed.
    """
    values, problems = {}, []
    for name in HPARAM_NAMES:
        written = overrides.get(name)
        if written is None:
            matching = [row for row in rows if row["name"] == name and _matches(row, cell)]
            if not matching:
                problems.append(
                    f"{name}: no row for protocol {cell.protocol!r}; add one, or set it under overrides:"
                )
                continue
            fewest = min(map(_wildcards, matching))
            best = {row["value"] for row in matching if _wildcards(row) == fewest}
            if len(best) > 1:
                problems.append(
                    f"{name}: equally specific rows say {', '.join(sorted(best))}; make one more specific"
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


def _matches(row: dict, cell: Cell) -> bool:
    wanted = dict(method=cell.method, model=cell.model, task=cell.task, rank=str(cell.rank))
    return row["protocol"] == cell.protocol and all(
        row[key] in ("*", value) for key, value in wanted.items()
    )


def _wildcards(row: dict) -> int:
    return sum(row[key] == "*" for key in ("method", "model", "task", "rank"))


def check_settings(rows: list[dict], tasks, models) -> list[str]:
    """What is wrong with the rows of hparams.csv beside their values, one line each: a model or task that nobody knows, with
    which rows would stay unused without a word, and a setting that is there twice."""
    keys = [
        tuple(row[name] for name in ("protocol", "method", "model", "task", "rank", "name"))
        for row in rows
    ]
    problems = [
        f"config/hparams.csv: {shown(','.join(key))} is there {count} times; keep one row"
        for key, count in Counter(keys).items()
        if count > 1
    ]
    for axis, known in (("model", models), ("task", tasks)):
        for name, count in Counter(row[axis] for row in rows).items():
            if name != "*" and name not in known:
                problems.append(
                    f"config/hparams.csv: {axis} is {shown(name)} in {count} rows; allowed: *, {', '.join(known)}"
                )
    return problems


@dataclass(frozen=True)
class Device:
    """What trains: sustained GFLOP/s by precision (of a CPU, a thread's), 0 where it has none of bf16; milliseconds that a
    step takes a layer, and a layer and run, however few tokens it has; memory in GiB, 0 where it is the machine's."""

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

    def precision(self, wanted: str) -> str:
        """What the frozen base is trained in: what is asked for, or with `auto` bf16 where the device has it."""
        return wanted if wanted != "auto" else "bf16" if self.bf16_gflops else "fp32"

    def flops_per_s(self, precision: str, threads: int) -> float:
        """Sustained rate; bf16 on a device without it is emulated, at no more than the rate of fp32."""
        rate = self.bf16_gflops if precision == "bf16" and self.bf16_gflops else self.fp32_gflops
        return rate * 1e9 * (threads if self.kind == "cpu" else 1)


@functools.cache
def devices(folder: Path = ROOT / "config") -> dict[str, Device]:
    """The rows of config/devices.csv by name."""
    return {
        row["device"]: Device(
            row["device"],
            row["kind"],
            *(float(row[key] or 0) for key in
              ("bf16_gflops", "fp32_gflops", "layer_ms", "run_layer_ms", "startup_s", "memory_gib")),
            row["known"] == "measured",
        )
        for row in read_rows("devices.csv", folder)
    }  # fmt: skip
