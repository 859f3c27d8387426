"""From the config to cells: what is asked for, resolved and checked before any job starts.

A config names tables; a table is a product of models, tasks, weight types and ranks, with further methods as its
baselines; every distinct combination is one cell, trained once per seed however many tables show it. Hyperparameters come
from `config/hparams.csv`, where the row with the fewest wildcards wins, then from a protocol of the config's own, then
from `overrides:`. A cell may start from another one's best run, which the grid then trains too. All problems of a config
are collected and told together. Snakemake imports this module in every job, so it imports neither torch nor pandas.
"""

import functools
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lora.errors import ConfigError, shown
from lora.experiment import compared_runs, registry, schema
from lora.experiment.cell import BASE_METHODS, METHODS, Cell
from lora.experiment.hparams import HPARAM_NAMES, PRETRAINED, Hparams, parse_setting, run_settings
from lora.experiment.jobs import Packing
from lora.experiment.source import Source
from lora.experiment.task import Task
from lora.paths import ROOT


@dataclass(frozen=True)
class Block:
    """One method of a table: the product of its axes, in the order they were written."""

    models: tuple[str, ...]
    method: str
    weights: tuple[str, ...]
    ranks: tuple[int, ...]
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table asked for: its tasks, and its methods, the first of them the one that the table is about.

    In table5 the rank is a budget: that of one weight type alone, which n types share.
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
        """Model by model, then method, protocol, task, weight types, ranks."""
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
        """The rank of a cell with these weights where the table's axis says `rank`."""
        return max(1, rank // len(weights)) if self.name == "table5" else rank


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
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.config["seeds"])

    @property
    def asked(self) -> tuple[Cell, ...]:
        """Every distinct cell of a table, in the order the tables first ask for it."""
        return tuple(dict.fromkeys(cell for table in self.tables.values() for cell in table.cells))

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every distinct cell that is trained: those of tables, then those that others only start from."""
        starts = [start for cell in self.asked if (start := self.start_of(cell))]
        return tuple(dict.fromkeys([*self.asked, *starts]))

    def start_of(self, cell: Cell) -> Cell | None:
        """The cell whose best run the runs of `cell` start from; None where they start from no other cell, as the runs of
        the task that the others start from do."""
        task = self.hparams(cell).start_task
        return replace(cell, task=task) if task and task != cell.task else None

    @property
    def packing(self) -> Packing:
        """How the runs are divided into training jobs."""
        return Packing(tuple(self.config["pack"]), self.cells, self.seeds)

    def hparams(self, cell: Cell) -> Hparams:
        """The hyperparameters of a cell: its protocol's rows, then what the config changes in the protocol, then its
        overrides. Raises Problems."""
        if cell not in self._resolved:
            changes = dict(self.config["protocols"].get(cell.protocol, {}))
            under = replace(cell, protocol=changes.pop("base", cell.protocol))
            self._resolved[cell] = registry.resolve(
                self.hparam_rows, under, changes | self.config["overrides"]
            )
        return self._resolved[cell]

    @functools.cached_property
    def _resolved(self) -> dict[Cell, Hparams]:
        return {}

    def settings(self, cell: Cell, seed: int) -> dict:
        """What run.json holds under `settings`: all that was asked of one run."""
        return run_settings(cell, seed, self.hparams(cell))


def load(config: dict, folder: Path = ROOT / "config") -> Grid:
    """The grid of a config; raises Problems that name every wrong key at once: what was got and what is allowed."""
    problems = schema.check(config)
    if problems:
        raise ConfigError("The config is not valid:", problems)
    tasks = registry.read_tasks(folder)
    sources = registry.read_sources(config["sources"], folder)
    rows = registry.read_rows("hparams.csv", folder)
    problems += _check_names(config, tasks, sources, rows)
    problems += registry.check_settings(
        rows, tasks, [name for name in sources if sources[name].role == "model"]
    )
    if problems:
        raise ConfigError("The config is not valid:", problems)
    tables = {
        name: _table(name, table, config["protocol"])
        for name, table in config["tables"].items()
        if table
    }
    grid = Grid(
        config,
        tables,
        tasks,
        sources,
        tuple(rows),
        tuple(registry.read_rows("published.csv", folder)),
    )
    problems = _check_cells(grid)
    if problems:
        problems = Packing(tuple(config["pack"]), grid.asked, grid.seeds).problems() + problems
    else:
        problems = grid.packing.problems() + _check_starts(grid) + compared_runs.check(grid)
    if problems:
        raise ConfigError("The config is not valid:", problems)
    return grid


def _table(name: str, asked: dict, protocol: str) -> Table:
    blocks = []
    for block in (asked, *asked.get("baselines", ())):
        blocks.append(
            Block(
                models=tuple(block.get("models", asked["models"])),
                method=block["method"],
                weights=tuple(block.get("weights", (METHODS[block["method"]],))),
                ranks=tuple(block.get("ranks", (0,))),
                protocols=tuple(block.get("protocols", (protocol,))),
            )
        )
    return Table(name, tuple(asked["tasks"]), tuple(blocks))


def _check_cells(grid: Grid) -> list[str]:
    """What is wrong with single cells: their hyperparameters, and what they start from."""
    problems = []
    for cell in grid.asked:
        try:
            start = grid.hparams(cell).start_task
            if start in grid.tasks:
                grid.hparams(replace(cell, task=start))
        except ConfigError as error:
            problems += [f"protocol {cell.protocol!r}, {problem}" for problem in error.problems]
            continue
        if start and start not in grid.tasks:
            problems.append(
                f"start of {cell.task} is {start!r}; allowed: {PRETRAINED}, a task ({', '.join(grid.tasks)}), or a "
                "PEFT folder (with a / in its path)"
            )
    return list(dict.fromkeys(problems))


def _check_starts(grid: Grid) -> list[str]:
    """Starts that no order of jobs could serve."""
    problems = []
    for cell in grid.cells:
        start = grid.start_of(cell)
        if start and grid.start_of(start):
            problems.append(
                f"{cell.task} starts from {start.task}, which starts from {grid.start_of(start).task}; allowed: a task that "
                f"starts from {PRETRAINED}"
            )
        elif start and start in grid.packing.cells_of(asdict(cell)):
            problems.append(
                f"pack: {cell.task} starts from {start.task}, which the same job would train; leave task out of pack, or "
                f"set start: {PRETRAINED} under overrides"
            )
    return list(dict.fromkeys(problems))


def _check_settings(config: dict, shipped: set[str]) -> list[str]:
    """Protocols by name, and the hyperparameters that the config changes."""
    problems = schema.named("protocol", config["protocol"], shipped | set(config["protocols"]))
    changes = {"overrides": config["overrides"]}
    for name, protocol in config["protocols"].items():
        if name in shipped:
            problems.append(
                f"protocols: {name!r} is a protocol of config/hparams.csv already; give yours another name"
            )
        problems += schema.named(f"protocols.{name}.base", protocol["base"], shipped)
        changes[f"protocols.{name}"] = {
            key: value for key, value in protocol.items() if key != "base"
        }
    for where, values in changes.items():
        for name, value in values.items():
            wrong = schema.named(where, name, HPARAM_NAMES)
            if not wrong:
                try:
                    parse_setting(name, value, rank=1)
                except ValueError as error:
                    wrong = [f"{where}.{name}: {error}"]
            problems += wrong
    return problems


def _check_names(config: dict, tasks: dict, sources: dict, rows: list[dict]) -> list[str]:
    """Names that the schema cannot know: tasks, models, protocols, hyperparameters, and weight types in order."""
    problems = []
    if not config["results"].isprintable() or set(config["results"]) & set("{}"):
        problems.append(
            f"results: got {shown(config['results'])}; allowed: a folder's path, of printable text without braces, which "
            "Snakemake reads as wildcards"
        )
    problems += schema.named("plan_device", config["plan_device"], ["auto", *registry.devices()])
    image = config["container"] or ""
    if any(sign.isspace() or sign in "{}'\"" for sign in image):
        problems.append(
            f"container: got {shown(image)}; allowed: a path or address without spaces, braces and quotes"
        )
    models = {name for name, source in sources.items() if source.role == "model"}
    shipped = {row["protocol"] for row in rows}
    protocols = shipped | set(config["protocols"])
    problems += _check_settings(config, shipped)
    asked = {name: table for name, table in config["tables"].items() if table}
    if not asked:
        problems.append(
            "tables: no table is asked for; give at least one of table2, table5, table6"
        )
    for name, table in asked.items():
        for task in table["tasks"]:
            wrong = schema.named(f"tables.{name}.tasks", task, tasks)
            problems += wrong or schema.named(
                f"data set of task {task}", tasks[task].dataset, set(sources) - models
            )
        for place, block in enumerate((table, *table.get("baselines", ()))):
            where = f"tables.{name}" + (f".baselines[{place - 1}]" if place else "")
            for model in block.get("models", ()):
                problems += schema.named(f"{where}.models", model, models)
            for protocol in block.get("protocols", ()):
                problems += schema.named(f"{where}.protocols", protocol, protocols)
            problems += [f"{where}.{problem}" for problem in _check_block(name, block)]
    return problems


def _check_block(table: str, block: dict) -> list[str]:
    """What is wrong with the weights and ranks of one method of a table."""
    method, problems = block["method"], []
    word = METHODS[method]
    if "weights" not in block and (word is None or "<n>" in word):
        problems.append(f"weights: method {method!r} needs it: {word or 'letters of qkvo'}")
    if "ranks" not in block and method not in BASE_METHODS:
        problems.append(
            f"ranks: method {method!r} needs it: at least one whole number of at least 1"
        )
    if problems:
        return problems
    for weights in block.get("weights", (word,)):
        for rank in block.get("ranks", (0,)):
            try:
                Cell("model", "task", method, weights, rank, "protocol")
            except ConfigError as error:
                problems += [f"{problem.split()[0]}: {problem}" for problem in error.problems]
            if table == "table5" and (method != "lora" or rank % max(1, len(weights))):
                problems.append(
                    f"weights: {weights} share a rank of {rank}; allowed in table5: LoRA, and a rank that the number of "
                    "weight types divides"
                )
    return list(dict.fromkeys(problems))
