"""Commands that make tables and figures of trained runs; the workflow runs them."""

import logging
from argparse import ArgumentParser, Namespace

from lora import cli_options, paths
from lora.experiment import config_files, grid

log = logging.getLogger("lora")
TABLES = ("table2", "table5", "table6", "selection", "differences", "claims")


def add_collect(parser: ArgumentParser) -> None:
    """Add the arguments of `lora collect`."""
    cli_options.add_config(parser)
    cli_options.add_runs_dir(parser)
    cli_options.add_output_dir(parser, "folder for runs.csv and inputs.json")


def collect(arguments: Namespace) -> None:
    """Write runs.csv, one row per epoch of every run of a grid."""
    from lora.tables import collect

    requested = grid.load(config_files.read(arguments.config))
    collect.collect(requested, arguments.runs_dir, arguments.output_dir / "runs.csv")


def add_table(parser: ArgumentParser) -> None:
    """Add the arguments of `lora table`."""
    parser.add_argument(
        "table",
        choices=TABLES,
        help="selection: effect of choosing the epoch; differences: pairs of cells; claims: what "
        "the paper claims",
    )
    cli_options.add_config(parser)
    parser.add_argument(
        "--runs-csv", type=paths.argument, required=True, help="output of `lora collect`"
    )
    cli_options.add_output_dir(parser)


def table(arguments: Namespace) -> None:
    """Write one table."""
    from lora.tables import cells

    requested = grid.load(config_files.read(arguments.config))
    cells.write(requested, arguments.runs_csv, arguments.table, arguments.output_dir)


def add_provenance(parser: ArgumentParser) -> None:
    """Add the arguments of `lora provenance`."""
    cli_options.add_config(parser)
    cli_options.add_runs_dir(parser)
    cli_options.add_output_dir(parser)


def provenance(arguments: Namespace) -> None:
    """Write provenance.csv and provenance.html."""
    from lora.tables import provenance

    merged = config_files.read(arguments.config)
    provenance.write_provenance(grid.load(merged), merged, arguments.runs_dir, arguments.output_dir)


def add_report_home(parser: ArgumentParser) -> None:
    """Add the arguments of `lora report-home`."""
    cli_options.add_config(parser)
    parser.add_argument(
        "--runs-csv", type=paths.argument, required=True, help="output of `lora collect`"
    )
    parser.add_argument(
        "--figures-dir", type=paths.argument, required=True, help="folder of the figures"
    )
    cli_options.add_output_dir(parser, "folder for home.rst")


def report_home(arguments: Namespace) -> None:
    """Write the first page of the report."""
    from lora.tables import home

    requested = grid.load(config_files.read(arguments.config))
    output = arguments.output_dir / home.NAME
    home.write(requested, arguments.runs_csv, arguments.figures_dir, output)


def add_plot(parser: ArgumentParser) -> None:
    """Add the arguments of `lora plot`."""
    parser.add_argument("figure", help="name of the figure")
    parser.add_argument(
        "--tables-dir", type=paths.argument, required=True, help="folder of the tables"
    )
    cli_options.add_output_dir(parser)


def plot(arguments: Namespace) -> None:
    """Draw a figure from the tables, as SVG and PNG, and its text alternative as .txt."""
    from lora.figures import results

    results.draw(arguments.figure, arguments.tables_dir, arguments.output_dir / arguments.figure)


def add_track(parser: ArgumentParser) -> None:
    """Add the arguments of `lora track`."""
    cli_options.add_runs_dir(parser)
    parser.add_argument(
        "--tracking",
        default="tensorboard",
        help="tensorboard, mlflow, or both with a comma between them (default %(default)s)",
    )
    cli_options.add_output_dir(parser, "folder for the trackers' files, such as results/tracking")


def track(arguments: Namespace) -> None:
    """Write finished runs for TensorBoard or MLflow."""
    from lora.training import tracking

    names = tracking.parse_names(arguments.tracking)
    if problems := tracking.missing_libraries(names):
        raise ValueError("; ".join(problems))
    written = tracking.copy_runs(names, arguments.runs_dir, arguments.output_dir)
    log.info("%d runs written to %s", written, arguments.output_dir)


def add_import_course(parser: ArgumentParser) -> None:
    """Add the arguments of `lora import-course`."""
    parser.add_argument(
        "folder", type=paths.argument, help="its results folder: <task>/<run>/training_results.csv"
    )
    cli_options.add_output_dir(parser, "results folder; runs go to its runs/")
    parser.add_argument("--seed", type=int, help="seed of runs whose folder name has none (MNLI)")
    parser.add_argument(
        "--alpha", help="alpha of runs whose folder name has none: a number, or <c>r"
    )
    parser.add_argument(
        "--protocol", help="a protocol of config/hparams.csv (default course-as-run)"
    )


def import_course(arguments: Namespace) -> None:
    """Write the result folders of the course's re-implementation as runs."""
    from lora.tables import import_course

    written = import_course.read_results(
        arguments.folder,
        arguments.output_dir,
        arguments.seed,
        arguments.alpha,
        arguments.protocol or import_course.PROTOCOL,
    )
    log.info("%d runs written to %s", len(written), arguments.output_dir)


def add_subspace(parser: ArgumentParser) -> None:
    """Add the arguments of `lora subspace`."""
    parser.add_argument(
        "--runs",
        type=paths.argument,
        nargs=3,
        required=True,
        metavar="RUN",
        help="run folders: one of the lower rank, then two seeds of the higher rank",
    )
    parser.add_argument("--model-dir", type=paths.argument, required=True, help="their base model")
    parser.add_argument("--letters", help="weight types (default: all that the runs adapt)")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        help="layers of Figures 6 and 7, from 1 (default: first, a third, two thirds, last)",
    )
    cli_options.add_output_dir(parser)


def subspace(arguments: Namespace) -> None:
    """Compare the adapters of three runs, and each with its base."""
    from lora.adapters import subspace_tables

    subspace_tables.write(
        arguments.runs,
        arguments.model_dir,
        arguments.output_dir,
        arguments.letters,
        arguments.layers,
    )


def add_heatmap(parser: ArgumentParser) -> None:
    """Add the arguments of `lora heatmap`."""
    parser.add_argument("figure", help="figure3, figure4, figure6 or figure7")
    parser.add_argument(
        "--phi", type=paths.argument, required=True, help="phi.csv of `lora subspace`"
    )
    cli_options.add_output_dir(parser)


def heatmap(arguments: Namespace) -> None:
    """Draw one of the paper's Figures 3, 4, 6 and 7 as SVG and PNG, and its text as .txt."""
    from lora.figures import subspace

    subspace.draw(arguments.figure, arguments.phi, arguments.output_dir / arguments.figure)
