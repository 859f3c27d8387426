"""From the config to cells: what is asked for, resolved and checked before any job starts.

A config names tables; a table is a product of models, tasks, weight types and ranks; every distinct combination is one
cell, trained once per seed however many tables show it. Hyperparameters come from `config/hparams.csv`, where the row
with the fewest wildcards wins, then from `overrides:` in the config. All problems of a config are collected and told
together. Snakemake imports this module in every job, so it imports neither torch nor pandas.
"""

import csv
import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from lora import spec
from lora.packs import Packing
from lora.spec import Cell, Hparams, Problems, Source, Task

ROOT = Path(__file__).resolve().parent.parent
FACTS = {  # file in config/ -> its columns
    "tasks.csv": "task title dataset format text_columns num_labels metric eval_splits mirrors source".split(),
    "sources.csv": "name role kind locator revision sha256 licence source".split(),
    "hparams.csv": "protocol method model task name value source".split(),
    "published.csv": (
        "table model method trainable task weights rank metric value spread spread_kind statistic selection n_seeds "
        "source note"
    ).split(),
}


@dataclass(frozen=True)
class Table:
    """One table asked for: the product of its axes, in the order they were written."""

    name: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    method: str
    weights: tuple[str, ...]
    ranks: tuple[int, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            Cell(model, task, self.method, weights, rank)
            for model in self.models
            for task in self.tasks
            for weights in self.weights
            for rank in self.ranks
        )


@dataclass(frozen=True)
class Grid:
    """A checked config with its facts: which cells, with which settings, for which tables."""

    config: dict
    tables: dict[str, Table]
    tasks: dict[str, Task]
    sources: dict[str, Source]
    hparam_rows: tuple[dict, ...]
    published: tuple[dict, ...]

    @property
    def protocol(self) -> str:
        return self.config["protocol"]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.config["seeds"])

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every distinct cell, in the order the tables first ask for it."""
        return tuple(dict.fromkeys(cell for table in self.tables.values() for cell in table.cells))

    @property
    def packing(self) -> Packing:
        """How the runs are divided into training jobs."""
        return Packing(tuple(self.config["pack"]), self.cells, self.seeds)

    def hparams(self, cell: Cell) -> Hparams:
        """The hyperparameters of a cell: its protocol's rows, then the config's overrides. Raises Problems."""
        return resolve(self.hparam_rows, self.protocol, cell, self.config["overrides"])

    def settings(self, cell: Cell, seed: int) -> dict:
        """What run.json holds under `settings`: all that was asked of one run."""
        return spec.run_settings(cell, seed, self.protocol, self.hparams(cell))


def read_facts(name: str, folder: Path = ROOT / "config") -> list[dict]:
    """Rows of one fact table as dicts of text; a wrong header or a row of another length raises Problems."""
    path = Path(folder) / name
    with open(path, encoding="utf-8", newline="") as handle:
        lines = list(csv.reader(handle))
    columns = FACTS[name]
    problems = []
    if not lines or lines[0] != columns:
        problems.append(f"the header is {','.join(lines[0]) if lines else ''!r}; expected {','.join(columns)!r}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns):
            problems.append(f"line {number} has {len(line)} cells; expected {len(columns)}")
    if problems:
        raise Problems(f"{path.parent.name}/{path.name}:", problems)
    return [dict(zip(columns, line, strict=True)) for line in lines[1:]]


def _unique(name: str, rows: list[dict], key: str) -> None:
    names = [row[key] for row in rows]
    twice = sorted({entry for entry in names if names.count(entry) > 1})
    if twice:
        raise Problems(f"config/{name}:", [f"{key} {entry!r} is there more than once; keep one row" for entry in twice])


def read_tasks(folder: Path = ROOT / "config") -> dict[str, Task]:
    """The tasks of config/tasks.csv by name."""
    rows = read_facts("tasks.csv", folder)
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


def read_sources(replaced: dict | None = None, folder: Path = ROOT / "config") -> dict[str, Source]:
    """The registry of config/sources.csv by name, with the rows the config replaces under `sources:`."""
    rows = read_facts("sources.csv", folder)
    _unique("sources.csv", rows, "name")
    registry = {row["name"]: {key: row[key] for key in row if key != "source"} for row in rows}
    for name, change in (replaced or {}).items():
        blank = dict(revision="", sha256="", licence=registry.get(name, {}).get("licence", ""))
        registry[name] = {"name": name, "role": registry.get(name, {}).get("role", ""), **blank, **change}
    return {name: Source(**row) for name, row in registry.items()}


def resolve(rows, protocol: str, cell: Cell, overrides: dict) -> Hparams:
    """Hyperparameters of `cell` under `protocol`: per name the row with the fewest `*`, then the override.

    Raises Problems for a name with no row, two equally specific rows that differ, or a value that is not allowed.
    """
    values, problems = {}, []
    for name in spec.HPARAM_NAMES:
        written = overrides.get(name)
        if written is None:
            matching = [row for row in rows if row["name"] == name and _matches(row, protocol, cell)]
            if not matching:
                problems.append(f"{name}: no row for protocol {protocol!r}; add one, or set it under overrides:")
                continue
            fewest = min(map(_wildcards, matching))
            best = {row["value"] for row in matching if _wildcards(row) == fewest}
            if len(best) > 1:
                problems.append(f"{name}: equally specific rows say {', '.join(sorted(best))}; make one more specific")
                continue
            written = best.pop()
        try:
            values[name] = spec.parse_setting(name, written, cell.rank)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise Problems(f"hyperparameters of {cell.path} (config/hparams.csv):", problems)
    return Hparams(**values)


def _matches(row: dict, protocol: str, cell: Cell) -> bool:
    wanted = dict(method=cell.method, model=cell.model, task=cell.task)
    return row["protocol"] == protocol and all(row[key] in ("*", value) for key, value in wanted.items())


def _wildcards(row: dict) -> int:
    return sum(row[key] == "*" for key in ("method", "model", "task"))


def load(config: dict, folder: Path = ROOT / "config") -> Grid:
    """The grid of a config; raises Problems that name every wrong key at once: what was got and what is allowed."""
    problems = check_schema(config)
    if problems:
        raise Problems("The config is not valid:", problems)
    tasks = read_tasks(folder)
    try:
        sources = read_sources(config["sources"], folder)
    except Problems as error:
        raise Problems("The config is not valid, under sources:", [str(error)]) from None
    rows = read_facts("hparams.csv", folder)
    problems += _check_names(config, tasks, sources, rows)
    if problems:
        raise Problems("The config is not valid:", problems)
    asked = {name: table for name, table in config["tables"].items() if table}
    tables = {
        name: Table(name=name, method=table["method"], **{axis: tuple(table[axis]) for axis in AXES})
        for name, table in asked.items()
    }
    grid = Grid(config, tables, tasks, sources, tuple(rows), tuple(read_facts("published.csv", folder)))
    problems = grid.packing.problems()
    for cell in grid.cells:
        try:
            grid.hparams(cell)
        except Problems as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise Problems(f"The config is not valid (protocol {grid.protocol!r}):", problems)
    return grid


AXES = ("models", "tasks", "weights", "ranks")


def _check_names(config: dict, tasks: dict, sources: dict, rows: list[dict]) -> list[str]:
    """Names that the schema cannot know: tasks, models, protocols, hyperparameters, and weight types in order."""
    problems = []

    def must_be(where: str, got: str, allowed) -> None:
        if got not in allowed:
            close = difflib.get_close_matches(got, allowed, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(f"{where}: got {got!r}; allowed: {', '.join(sorted(allowed))}{hint}")

    models = {name for name, source in sources.items() if source.role == "model"}
    must_be("protocol", config["protocol"], {row["protocol"] for row in rows})
    for name in config["overrides"]:
        must_be("overrides", name, spec.HPARAM_NAMES)
    for name, value in config["overrides"].items():
        if name in spec.HPARAM_NAMES:
            try:
                spec.parse_setting(name, value, rank=1)
            except ValueError as error:
                problems.append(f"overrides.{name}: {error}")
    if not any(config["tables"].values()):
        problems.append("tables: no table is asked for; give at least one of table2, table6")
    for name, table in config["tables"].items():
        for model in table["models"] if table else ():
            must_be(f"tables.{name}.models", model, models)
        for task in table["tasks"] if table else ():
            must_be(f"tables.{name}.tasks", task, tasks)
        for weights in table["weights"] if table else ():
            try:
                Cell("model", "task", "lora", weights, 1)
            except Problems as error:
                problems += [f"tables.{name}.weights: {problem}" for problem in error.problems]
    return problems


@functools.cache
def _schema() -> dict:
    return yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))


def check_schema(config: dict) -> list[str]:
    """What in `config` the schema does not allow, one line each: key, what was got, what is allowed."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(_schema())
    errors = sorted(validator.iter_errors(config), key=lambda error: [str(part) for part in error.absolute_path])
    return [_explain(error) for error in errors]


def _explain(error) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    where = f"{where}: " if where else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        hints = [f"{key!r}{_did_you_mean(str(key), known)}" for key in unknown]
        return f"{where}unknown key {', '.join(hints)}; allowed: {', '.join(known)}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"{where}missing key {', '.join(map(repr, missing))}"
    got = json.dumps(error.instance, default=str)
    allowed = {
        "enum": lambda value: " or ".join(json.dumps(choice) for choice in value),
        "minimum": lambda value: f"at least {value}",
        "minItems": lambda value: f"at least {value} of them",
        "uniqueItems": lambda value: "each only once",
        "type": lambda value: " or ".join(value) if isinstance(value, list) else value,
    }.get(error.validator, str)(error.validator_value)
    meaning = error.schema.get("description", "")
    return f"{where}got {got}; allowed: {allowed}{f' ({meaning})' if meaning else ''}"


def _did_you_mean(got: str, known: list[str]) -> str:
    close = difflib.get_close_matches(got, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
