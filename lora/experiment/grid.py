"""The grid: from the config to cells, resolved and checked before any job starts.

A table is a product of models, tasks, weights and ranks, with further methods as baselines. Every
distinct combination is one cell, trained once per seed however many tables show it. Snakemake
imports this module in every job, so it loads neither torch nor pandas.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lora.errors import ConfigError
from lora.experiment import (
    compared_runs,
    config_errors,
    config_repair,
    csv_tables,
    grid_checks,
    hparam_rows,
    own_tasks,
    registry,
    task_names,
)
from lora.experiment.cell import METHODS, Cell
from lora.experiment.config import Config, TableConfig
from lora.experiment.config_repair import ValidPart
from lora.experiment.hparam_rows import HparamRow
from lora.experiment.hparams import Hparams, run_settings
from lora.experiment.packing import Packing
from lora.experiment.source import Source
from lora.experiment.task import Task
from lora.paths import CONFIG_DIR


@dataclass(frozen=True)
class Block:
    """One method of a table: the product of its axes, in the config's order."""

    models: tuple[str, ...]
    method: str
    weights: tuple[str, ...]
    ranks: tuple[int, ...]
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table: its tasks and its methods, the table's main method first.

    In table5 the rank is a budget, the rank of one weight type alone: n types have 1/n of it each.
    """

    name: str
    tasks: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(model for block in self.blocks for model in block.models))

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(protocol for block in self.blocks for protocol in block.protocols)
        )

    @property
    def weights(self) -> tuple[str, ...]:
        return self.blocks[0].weights

    @property
    def ranks(self) -> tuple[int, ...]:
        return self.blocks[0].ranks

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells by model, then method, protocol, task, weights, rank."""
        return tuple(
            Cell(model, task, block.method, weights, self.rank(weights, rank), protocol)
            for model in self.models
            for block in self.blocks
            if model in block.models
            for protocol in block.protocols
            for task in self.tasks
            for weights in block.weights
            for rank in block.ranks
        )

    def rank(self, weights: str, rank: int) -> int:
        """Return the rank of a cell with these weights where the table's axis has `rank`."""
        return max(1, rank // len(weights)) if self.name == "table5" else rank


@dataclass(frozen=True)
class Grid:
    """A checked config with the tables of config/: its cells and their hyperparameters.

    Attributes:
        config: The config.
        tables: The requested tables by name.
        tasks: The tasks of tasks.csv and of the config by name.
        sources: Models and data sets by name, as the config replaces them.
        registered: Models and data sets of sources.csv by name.
        hparam_rows: Rows of hparams.csv.
        published: Rows of published.csv.
    """

    config: Config
    tables: dict[str, Table]
    tasks: dict[str, Task]
    sources: dict[str, Source]
    registered: dict[str, Source]
    hparam_rows: tuple[HparamRow, ...]
    published: tuple[dict[str, str], ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.config.seeds

    @property
    def table_cells(self) -> tuple[Cell, ...]:
        """Every distinct cell of a table, in the order in which the tables first name it."""
        return tuple(dict.fromkeys(cell for table in self.tables.values() for cell in table.cells))

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every distinct cell to train: those of the tables, then those that others start from."""
        starts = [start for cell in self.table_cells if (start := self.start_of(cell))]
        return tuple(dict.fromkeys([*self.table_cells, *starts]))

    def start_of(self, cell: Cell) -> Cell | None:
        """Return the cell whose best run the runs of `cell` start from, or None.

        A task never starts from itself: where `start` names the cell's own task, it is None.
        """
        task = self.hparams(cell).start_task
        return replace(cell, task=task) if task and task != cell.task else None

    @property
    def packing(self) -> Packing:
        """How the runs are divided into training jobs."""
        return Packing(self.config.pack, self.cells, self.seeds)

    def base_protocol(self, name: str) -> str:
        """Return the protocol of config/hparams.csv that protocol `name` is, or is based on."""
        protocol = self.config.protocols.get(name)
        return protocol.base if protocol else name

    def protocol_changes(self, name: str) -> dict[str, int | float | str]:
        """Return what protocol `name` changes in its base, as written in the config."""
        protocol = self.config.protocols.get(name)
        return protocol.changes if protocol else {}

    def hparams(self, cell: Cell) -> Hparams:
        """Return the hyperparameters of a cell.

        They come from config/hparams.csv, then from the config's protocol, then from `overrides`.

        Raises:
            ConfigError: If a value is missing, ambiguous or not allowed.
        """
        if cell not in self._resolved:
            changes = self.protocol_changes(cell.protocol) | self.config.overrides
            under = replace(cell, protocol=self.base_protocol(cell.protocol))
            self._resolved[cell] = hparam_rows.resolve(self.hparam_rows, under, changes)
        return self._resolved[cell]

    @functools.cached_property
    def _resolved(self) -> dict[Cell, Hparams]:
        return {}

    def own_tasks(self, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """Return those of these tasks that the config defines, as the config has them."""
        tasks = self.config.tasks
        return {
            name: tasks[name].model_dump(mode="json", exclude_unset=True)
            for name in sorted(set(names))
            if name in tasks
        }

    def settings(self, cell: Cell, seed: int) -> dict[str, object]:
        """Return what run.json holds under `settings` for one run."""
        return run_settings(cell, seed, self.hparams(cell))


def load(config: Mapping[str, object], folder: Path = CONFIG_DIR) -> Grid:
    """Build the grid of a config.

    Args:
        config: The whole config, as read from YAML or JSON.
        folder: The folder of tasks.csv, sources.csv, hparams.csv and published.csv.

    Raises:
        ConfigError: Names every problem at once: the key, what was given, what is allowed.
    """
    part = config_repair.valid_part(config)
    parsed = part.config
    facts = _read_facts(part, folder)
    parsed = task_names.with_registered_names(parsed, facts.tasks)
    unsure = part.sources | facts.wrong_sources
    names = grid_checks.check_names(
        parsed, facts.tasks, facts.sources, facts.rows, unsure, part.tasks | facts.wrong_tasks
    )
    settings = grid_checks.check_protocols(parsed, facts.rows)
    problems = [*part.problems, *facts.problems, *names, *settings]
    if "tables" in part.wrong and not parsed.tables.wanted:
        problems.remove(grid_checks.NO_TABLES)
    known = parsed
    if names or part.problems or facts.problems:
        known = grid_checks.known_part(parsed, facts.tasks, facts.sources, facts.rows)
    grid = Grid(
        known,
        {name: _table(name, one, parsed.protocol) for name, one in known.tables.wanted.items()},
        facts.tasks,
        facts.sources,
        registry.read_sources(folder=folder),
        facts.rows,
        facts.published,
    )
    wrong = {*part.wrong, *(["tables"] if names or facts.problems else [])}
    problems += _check_grid(grid, frozenset(wrong | ({"overrides"} if settings else set())))
    if problems:
        raise ConfigError(config_errors.TITLE, problems)
    return grid


def _check_grid(grid: Grid, wrong: frozenset[str]) -> list[str]:
    """Check cells, packs, starts and compared runs, as far as the config's keys are valid.

    Args:
        grid: The grid of the valid part of the config.
        wrong: The top-level keys with problems. What depends on them is not checked.
    """
    if not wrong.isdisjoint({"protocol", "protocols", "overrides"}):
        return []
    problems = grid_checks.check_cells(grid)
    if not wrong.isdisjoint({"tables", "pack"}):
        return problems
    if problems:
        return Packing(grid.config.pack, grid.table_cells, grid.seeds).problems() + problems
    problems = grid.packing.problems() + grid_checks.check_starts(grid)
    if wrong.isdisjoint({"seeds", "subspace"}):
        problems += compared_runs.check(grid)
    return problems


@dataclass(frozen=True)
class _Facts:
    """The tables of config/ with the config's sources and tasks, and what is wrong with these."""

    tasks: dict[str, Task]
    sources: dict[str, Source]
    rows: tuple[HparamRow, ...]
    published: tuple[dict[str, str], ...]
    problems: list[str]
    wrong_sources: frozenset[str]
    wrong_tasks: frozenset[str]


def _read_facts(part: ValidPart, folder: Path) -> _Facts:
    """Read the tables of config/.

    Raises:
        ConfigError: If a file is not valid. The message also has the problems of the config.
    """
    errors: list[ConfigError] = []
    tasks: dict[str, Task] = {}
    sources: dict[str, Source] = {}
    rows: tuple[HparamRow, ...] = ()
    published: list[csv_tables.Row] = []
    problems: list[str] = []
    replaced = {
        name: one.model_dump(exclude_unset=True) for name, one in part.config.sources.items()
    }
    with _collect_errors(errors):
        tasks = registry.read_tasks(folder)
    with _collect_errors(errors):
        sources, problems = registry.valid_sources(replaced, folder)
    with _collect_errors(errors):
        rows = hparam_rows.read_hparam_rows(folder)
    with _collect_errors(errors):
        published = csv_tables.read_rows("published.csv", folder)
    if len(errors) == 1 and not part.problems:
        raise errors[0]
    if errors:
        lines = [f"{error.title} {problem}" for error in errors for problem in error.problems]
        raise ConfigError(config_errors.TITLE, part.problems + lines)
    models = [name for name, source in sources.items() if source.role == "model"]
    problems += hparam_rows.check_settings(rows, tasks, [*models, *part.sources])
    wrong = frozenset(replaced) - frozenset(sources)
    own = own_tasks.read(part.config.tasks, tasks, sources, part.config.results)
    problems += own.problems
    tasks, sources = tasks | own.tasks, sources | own.sources
    wrong_tasks = frozenset(part.config.tasks) - frozenset(own.tasks)
    return _Facts(tasks, sources, rows, tuple(published), problems, wrong, wrong_tasks)


@contextlib.contextmanager
def _collect_errors(errors: list[ConfigError]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        errors.append(error)


def _table(name: str, table: TableConfig, protocol: str) -> Table:
    """Return a table with the values that its config leaves out filled in."""
    blocks = [
        Block(
            models=block.models or table.models,
            method=block.method,
            weights=block.weights or (METHODS[block.method] or "",),
            ranks=block.ranks or (0,),
            protocols=block.protocols or (protocol,),
        )
        for block in table.blocks
    ]
    return Table(name, table.tasks, tuple(blocks))
