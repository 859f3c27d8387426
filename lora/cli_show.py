"""Commands that show results in the terminal: `lora show`, `lora status`, `lora compare`."""

import json
import logging
import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lora import cli_options, paths
from lora.errors import shown
from lora.experiment import config_files, grid

log = logging.getLogger("lora")
FORMATS = ("text", "md", "csv", "tex", "html")


def add_show(parser: ArgumentParser) -> None:
    """Add the arguments of `lora show`."""
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help="table2, table5, table6, one of them with _details for all statistics, selection, "
        "differences or claims; default: the tables of the config, and claims",
    )
    cli_options.add_configs(parser)
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="default %(default)s: aligned columns"
    )
    parser.add_argument("--notes", action="store_true", help="show the notes below each table")


def show(arguments: Namespace) -> None:
    """Print tables, made from the tables/runs.csv of the results folder."""
    from lora.tables import cells, layout_details, render, terminal

    requested = grid.load(config_files.read(*arguments.config))
    folder = Path(paths.tables_dir(requested.config.results))
    runs_csv = folder / "runs.csv"
    if not runs_csv.is_file():
        raise ValueError(
            f"there are no tables in {folder} yet. Train the grid with snakemake, or see how far "
            "it is with: lora status"
        )
    allowed = cells.page_names(requested)
    names = arguments.tables or [*requested.tables, "claims"]
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise ValueError(f"no table {shown(unknown[0])}; allowed: {', '.join(allowed)}")
    as_text = {"md": render.to_markdown, "tex": render.to_latex, "html": render.to_html}
    for name in names:
        if arguments.format == "csv":
            csv = folder / f"{name.removesuffix(layout_details.SUFFIX)}.csv"
            print(csv.read_text(encoding="utf-8"), end="")
            continue
        page = cells.page(requested, runs_csv, name)
        if arguments.format == "text":
            print(terminal.to_text(page, _width(), arguments.notes))
        else:
            print(as_text[arguments.format](page))


def add_status(parser: ArgumentParser) -> None:
    """Add the arguments of `lora status`."""
    cli_options.add_configs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def status(arguments: Namespace) -> None:
    """Print which runs of a grid are done, running, failed or missing, and the time left."""
    from lora.planning import plan, status
    from lora.tables import terminal

    planned = plan.Plan(grid.load(config_files.read(*arguments.config)))
    found = status.read(planned)
    if arguments.json:
        print(json.dumps(status.as_json(found), indent=2))
        return
    print(terminal.to_text(status.page(planned, found), _width()))
    print(status.summary(found))
    for one in found.cells:
        if one.error:
            print(f"{one.cell.path}: {one.error}")


def add_compare(parser: ArgumentParser) -> None:
    """Add the arguments of `lora compare`."""
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(),
            metavar=name,
            type=paths.argument,
            help="folder of a run, or of a cell with its seed<n> folders",
        )


def compare(arguments: Namespace) -> None:
    """Print what differs between two runs or cells, and their metrics."""
    from lora.tables import compare, terminal

    print(terminal.to_text(compare.page(arguments.a, arguments.b), _width(), notes=True), end="")


def _width() -> int:
    """Return the width of the terminal; 80 if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
