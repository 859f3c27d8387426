"""Checks of a config against the tables of config/: names, weights, ranks, settings, starts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from lora.errors import ConfigError, shown
from lora.experiment import config_values, registry, task_names
from lora.experiment.cell import BASE_METHODS, METHODS, Cell
from lora.experiment.config import BaselineConfig, Config, TableConfig, TablesConfig
from lora.experiment.config_errors import check_choice
from lora.experiment.hparam_rows import HparamRow
from lora.experiment.hparams import HPARAM_NAMES, PRETRAINED, parse_setting
from lora.experiment.source import Source
from lora.experiment.task import Task

if TYPE_CHECKING:
    from lora.experiment.grid import Grid

NO_TABLES = "tables: all are null; give at least one of table2, table5, table6"


def check_names(
    config: Config,
    tasks: Mapping[str, Task],
    sources: Mapping[str, Source],
    rows: Sequence[HparamRow],
    unsure: Collection[str] = (),
    unsure_tasks: Collection[str] = (),
) -> list[str]:
    """Check names that the config's models can't know: tasks, models, protocols, and paths.

    Args:
        config: The config.
        tasks: The known tasks by name.
        sources: The known sources by name.
        rows: The rows of hparams.csv.
        unsure: Names of sources that are not valid: they may be models or data sets.
        unsure_tasks: Names of tasks of the config that are not valid.
    """
    shipped = {row.protocol for row in rows}
    problems = _check_text(config)
    if not config.tables.wanted:
        problems.append(NO_TABLES)
    known = {
        role: {name for name, source in sources.items() if source.role == role} | {*unsure}
        for role in ("model", "data")
    }
    for name, table in config.tables.wanted.items():
        for task in (one for one in table.tasks if one not in unsure_tasks):
            problems += task_names.check(f"tables.{name}.tasks", task, tasks) or check_choice(
                f"data set of task {task}", tasks[task].dataset, known["data"]
            )
        for index, block in enumerate(table.blocks):
            where = f"tables.{name}" + (f".baselines[{index - 1}]" if index else "")
            for model in block.models:
                problems += check_choice(f"{where}.models", model, known["model"])
            for protocol in block.protocols:
                problems += check_choice(
                    f"{where}.protocols", protocol, shipped | set(config.protocols)
                )
            problems += [f"{where}.{problem}" for problem in _check_block(name, block)]
    return problems


def known_part(
    config: Config,
    tasks: Collection[str],
    sources: Mapping[str, Source],
    rows: Sequence[HparamRow],
) -> Config:
    """Return a config without what `check_names` refuses in tables; a table may become null."""
    protocols = {row.protocol for row in rows} | set(config.protocols)
    tables: dict[str, TableConfig] = {}
    for name, table in config.tables.wanted.items():
        known = tuple(task for task in table.tasks if task in tasks)
        blocks = []
        for block in table.blocks:
            models = [one for one in block.models or table.models if one in sources]
            names = [one for one in block.protocols or (config.protocol,) if one in protocols]
            if models and names and not _check_block(name, block):
                changes = dict(models=tuple(models), protocols=tuple(names))
                blocks.append(BaselineConfig.model_construct(**block.model_dump() | changes))
        if known and blocks:
            first = blocks[0].model_dump() | dict(tasks=known, baselines=tuple(blocks[1:]))
            tables[name] = TableConfig.model_construct(**first)
    all_tables = dict.fromkeys(TablesConfig.model_fields) | tables
    return config.model_copy(update={"tables": config.tables.model_copy(update=all_tables)})


def _check_text(config: Config) -> list[str]:
    """Check that paths in the config can be used in shell commands and Snakemake patterns."""
    problems = config_values.path_problems(config.as_dict())
    if not config.results.isprintable() or set(config.results) & set("{}"):
        problems.append(
            f"results: got {shown(config.results)}; allowed: a folder's path, of printable text "
            "without braces, which Snakemake reads as wildcards"
        )
    problems += check_choice("plan_device", config.plan_device, ["auto", *registry.devices()])
    image = config.container or ""
    if any(letter.isspace() or letter in "{}'\"" for letter in image):
        problems.append(
            f"container: got {shown(image)}; allowed: a path or address without spaces, braces and "
            "quotes"
        )
    return problems


def check_protocols(config: Config, rows: Sequence[HparamRow]) -> list[str]:
    """Check the protocols by name, and the hyperparameters that the config changes."""
    shipped = {row.protocol for row in rows}
    problems = check_choice("protocol", config.protocol, {*shipped, *config.protocols})
    changes = {"overrides": config.overrides}
    for name, protocol in config.protocols.items():
        if name in shipped:
            problems.append(
                f"protocols: {name!r} is already a protocol of config/hparams.csv; use another name"
            )
        problems += check_choice(f"protocols.{name}.base", protocol.base, shipped)
        changes[f"protocols.{name}"] = protocol.changes
    for where, values in changes.items():
        for name, value in values.items():
            wrong = check_choice(where, name, HPARAM_NAMES)
            if not wrong:
                try:
                    parse_setting(name, value, rank=1)
                except ValueError as error:
                    wrong = [f"{where}.{name}: {error}"]
            problems += wrong
    return problems


def _check_block(table: str, block: TableConfig | BaselineConfig) -> list[str]:
    """Check the weights and ranks of one method of a table."""
    method, problems = block.method, []
    word = METHODS[method]
    if not block.weights and (word is None or "<n>" in word):
        problems.append(f"weights: method {method!r} needs it: {word or 'letters of qkvo'}")
    if not block.ranks and method not in BASE_METHODS:
        problems.append(
            f"ranks: method {method!r} needs it: at least one whole number of at least 1"
        )
    if problems:
        return problems
    for weights in block.weights or (word or "",):
        for rank in block.ranks or (0,):
            try:
                Cell("model", "task", method, weights, rank, "protocol")
            except ConfigError as error:
                problems += [f"{problem.split()[0]}: {problem}" for problem in error.problems]
            if table == "table5" and (method != "lora" or rank % max(1, len(weights))):
                problems.append(
                    f"weights: {weights} share a rank of {rank}; allowed in table5: LoRA, and a "
                    "rank that the number of weight types divides"
                )
    return list(dict.fromkeys(problems))


def check_cells(grid: "Grid") -> list[str]:
    """Check single cells: their hyperparameters, and what they start from."""
    problems = []
    for cell in grid.table_cells:
        try:
            start = grid.hparams(cell).start_task
            if start in grid.tasks:
                grid.hparams(replace(cell, task=start))
        except ConfigError as error:
            problems += [f"protocol {cell.protocol!r}, {problem}" for problem in error.problems]
            continue
        if start and start not in grid.tasks:
            problems.append(
                f"start of {cell.task} is {start!r}; allowed: {PRETRAINED}, a task "
                f"({', '.join(grid.tasks)}), or a PEFT folder (with a / in its path)"
            )
    return list(dict.fromkeys(problems))


def check_starts(grid: "Grid") -> list[str]:
    """Check that jobs can be ordered so that every run's start is trained before it."""
    problems = []
    for cell in grid.cells:
        start = grid.start_of(cell)
        before = grid.start_of(start) if start else None
        if start and before:
            problems.append(
                f"{cell.task} starts from {start.task}, which starts from {before.task}; allowed: "
                f"a task that starts from {PRETRAINED}"
            )
        elif start and start in grid.packing.cells_of(asdict(cell)):
            problems.append(
                f"pack: {cell.task} starts from {start.task}, which the same job would train; "
                f"leave task out of pack, or set start: {PRETRAINED} under overrides"
            )
    return list(dict.fromkeys(problems))
