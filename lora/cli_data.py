"""Command that shows the data of a task: `lora data`."""

import json
import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lora import cli_options, paths
from lora.errors import shown
from lora.experiment import config_files, grid, registry
from lora.experiment.cell import Cell
from lora.experiment.grid import Grid
from lora.experiment.task import Task

log = logging.getLogger("lora")
NO_CUT = 2**31 - 1


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `lora data`."""
    parser.add_argument("task", help="a task of config/tasks.csv, or of the config")
    cli_options.add_configs(parser)
    parser.add_argument(
        "--model",
        help="model whose tokens are counted; it is fetched if necessary (default: the model of "
        "the task's table, if it is fetched)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def data(arguments: Namespace) -> None:
    """Print counts, labels and token lengths of a task's data."""
    from lora.data import formats, summary, tokenizer

    requested = grid.load(config_files.read(*arguments.config))
    task = registry.task(arguments.task, requested.tasks)
    if arguments.model and arguments.model not in _models(requested):
        allowed = ", ".join(_models(requested))
        raise ValueError(f"no model {shown(arguments.model)}; allowed: {allowed}")
    task, splits = formats.read_with_task(task, _data(requested, task))
    found = summary.of_task(task, splits)
    model = arguments.model or _usual_model(requested, task)
    folder = _fetched(requested, model, bool(arguments.model))
    if folder is not None:
        max_tokens = _max_tokens(requested, model, task)
        found |= {"model": model, "max_tokens": max_tokens}
        uncut = tokenizer.load(folder, NO_CUT)
        for name, examples in splits.items():
            found["splits"][name]["tokens"] = summary.lengths(examples, uncut, max_tokens)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(summary.text(found))
    if folder is None:
        print(f"\nFor token lengths, --model {model} fetches that model and counts its tokens.")


def _models(requested: Grid) -> list[str]:
    return [name for name, source in requested.sources.items() if source.role == "model"]


def _data(requested: Grid, task: Task) -> Path:
    """Return the data of a task: local files where they are, or the fetched folder."""
    own = requested.config.tasks.get(task.name)
    if own and own.path:
        return Path(own.path)
    found = _fetched(requested, task.dataset, fetch=True)
    assert found is not None
    return found


def _fetched(requested: Grid, name: str, fetch: bool) -> Path | None:
    """Return the folder of a source in the results folder; fetch it there if `fetch`."""
    folder = Path(paths.source_dir(requested.config.results, name))
    if fetch:
        from lora.data import fetch as fetching

        fetching.fetch(requested.sources[name], folder)
    return folder if (folder / paths.MANIFEST).is_file() else None


def _usual_model(requested: Grid, task: Task) -> str:
    """Return the model of the first table with the task, or of the first table."""
    cells = requested.table_cells
    return next((cell for cell in cells if cell.task == task.name), cells[0]).model


def _max_tokens(requested: Grid, model: str, task: Task) -> int:
    """Return where runs of the task are cut: in the grid, or under the config's protocol."""
    cells = [cell for cell in requested.cells if (cell.model, cell.task) == (model, task.name)]
    usual = Cell(model, task.name, "lora", "qv", 8, requested.config.protocol)
    return requested.hparams(cells[0] if cells else usual).max_tokens
