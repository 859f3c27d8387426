"""Tasks, sources and devices by name, from the tables of config/."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora.errors import ConfigError, shown
from lora.experiment import task_names
from lora.experiment.csv_tables import COLUMNS, FOLDER, read_rows
from lora.experiment.source import Source
from lora.experiment.task import Task


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
            label_names=tuple(row["label_names"].split()),
        )
        for row in read_rows("tasks.csv", folder)
    }


def task(name: str, tasks: Mapping[str, Task] | None = None) -> Task:
    """Return one task by its name, in any spelling of `task_names.registered`.

    Args:
        name: The name.
        tasks: The tasks by name; by default those of tasks.csv.

    Raises:
        ValueError: If there is none of this name.
    """
    tasks = read_tasks() if tasks is None else tasks
    name = task_names.registered(name, tasks)
    if problems := task_names.check("task", name, tasks):
        raise ValueError(problems[0])
    return tasks[name]


def read_sources(
    replaced: Mapping[str, Mapping[str, str]] | None = None, folder: Path = FOLDER
) -> dict[str, Source]:
    """Return the sources of sources.csv by name.

    Args:
        replaced: See `valid_sources`.
        folder: The folder of the tables.

    Raises:
        ConfigError: Lists every source that is not valid.
    """
    sources, problems = valid_sources(replaced or {}, folder)
    if problems:
        raise ConfigError("Some sources are not valid:", problems)
    return sources


def model_names() -> list[str]:
    """Return the names of the models of sources.csv."""
    return [name for name, source in read_sources().items() if source.role == "model"]


def valid_sources(
    replaced: Mapping[str, Mapping[str, str]], folder: Path = FOLDER
) -> tuple[dict[str, Source], list[str]]:
    """Return the valid sources by name, and what is wrong with the others, one line each.

    Args:
        replaced: Sources that replace rows or add to them (`sources` of a config): name to values
            of the columns role, kind, locator, revision, sha256, licence, and `same_as`. A missing
            role or licence is the replaced row's; other missing values are empty.
        folder: The folder of the tables.

    Raises:
        ConfigError: If sources.csv itself is not valid.
    """
    rows = {row["name"]: row for row in read_rows("sources.csv", folder)}
    sources, problems = {}, []
    for name in {**rows, **replaced}:
        row = {column: rows.get(name, {}).get(column, "") for column in COLUMNS["sources.csv"][:-1]}
        if name in replaced:
            kept = {"name": name, "role": row["role"], "licence": row["licence"]}
            row = dict.fromkeys(row, "") | kept | dict(replaced[name])
        try:
            sources[name] = Source(**row)
            wrong = _check_same_as(sources[name], rows)
        except ConfigError as error:
            wrong = error.problems
        where = "sources in the config" if name in replaced else "config/sources.csv"
        problems += [f"{where}, {shown(name)}: {problem}" for problem in wrong]
    return sources, problems


def _check_same_as(source: Source, rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is wrong with the `same_as` of a source; `rows` are those of sources.csv."""
    allowed = [name for name, row in rows.items() if row["role"] == source.role]
    if not source.same_as or source.same_as in allowed:
        return []
    return [f"same_as is {shown(source.same_as)}; allowed: {', '.join(allowed)}"]


@dataclass(frozen=True)
class Device:
    """A row of devices.csv: a device and its speed, for planning.

    Attributes:
        name: The device.
        kind: cpu, cuda, mps or xpu.
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
    numbers = COLUMNS["devices.csv"][2:-2]
    return {
        row["device"]: Device(
            name=row["device"],
            kind=row["kind"],
            measured=row["known"] == "measured",
            **{column: float(row[column] or 0) for column in numbers},
        )
        for row in read_rows("devices.csv", folder)
    }
