"""Command line: one command for each rule of the workflow, and some for people.

Heavy libraries are imported inside the command that needs them.
"""

import dataclasses
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import lora
from lora import cli_train, paths
from lora.data import hub
from lora.errors import shown
from lora.experiment import config, grid, registry

log = logging.getLogger("lora")
SOURCE_COLUMNS = ("role", "kind", "locator", "revision", "sha256", "licence")
NEW_SOURCE = ("role", "kind", "locator")  # what a source that is not in the registry needs
TABLES = ("table2", "table5", "table6", "selection", "differences")


@dataclasses.dataclass(frozen=True)
class Command:
    """One command: its help text, a function that adds its arguments, and one that runs it."""

    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]


def parser() -> ArgumentParser:
    """Return the parser. The parsed arguments have `name` and `run`, the function to call."""
    main = ArgumentParser(prog="lora", description=lora.__doc__)
    commands = main.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="name")
    for name, command in COMMANDS.items():
        text = command.help[0].upper() + command.help[1:] + "."
        added = commands.add_parser(name, help=command.help, description=text)
        command.add_arguments(added)
        added.add_argument(
            "--log",
            type=paths.argument,
            help="log file; standard error then shows warnings and progress",
        )
        added.set_defaults(run=command.run)
    return main


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        required=True,
        help="YAML file with changes to config/config.yaml, or JSON text",
    )


def _add_output_dir(parser: ArgumentParser, text: str = "folder for the outputs") -> None:
    parser.add_argument("--output-dir", type=paths.argument, required=True, help=text)


def _add_output(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=paths.argument, required=True, help="path without .svg or .png"
    )


def _add_fetch(parser: ArgumentParser) -> None:
    parser.add_argument("source", help="name in config/sources.csv, or of a new source")
    for column in SOURCE_COLUMNS:
        parser.add_argument(f"--{column}", help=f"replaces the {column} of config/sources.csv")
    _add_output_dir(parser)


def _fetch(arguments: Namespace) -> None:
    from lora.data import fetch

    given = {
        column: value
        for column in SOURCE_COLUMNS
        if (value := getattr(arguments, column)) is not None
    }
    sources = registry.read_sources()
    if given.get("kind") == "file" and "locator" in given:
        given["locator"] = str(paths.argument(given["locator"]))
    if arguments.source in sources:
        source = dataclasses.replace(sources[arguments.source], **given)
    elif set(NEW_SOURCE) <= set(given):
        source = registry.read_sources({arguments.source: given})[arguments.source]
    else:
        raise ValueError(
            f"no source {shown(arguments.source)} in config/sources.csv; allowed: "
            f"{', '.join(sources)}, or a new one with --role, --kind and --locator"
        )
    fetch.fetch(source, arguments.output_dir)


def _add_prepare(parser: ArgumentParser) -> None:
    parser.add_argument("--task", required=True, help="a task of config/tasks.csv")
    parser.add_argument(
        "--data-dir", type=paths.argument, required=True, help="folder of the task's data"
    )
    parser.add_argument(
        "--model-dir", type=paths.argument, required=True, help="folder of the base model"
    )
    parser.add_argument(
        "--max-tokens", type=int, required=True, help="tokens at which an example is cut"
    )
    _add_output_dir(parser)


def _prepare(arguments: Namespace) -> None:
    hub.go_offline()
    from lora.data import prepare

    prepare.prepare(
        registry.task(arguments.task),
        arguments.data_dir,
        arguments.model_dir,
        arguments.max_tokens,
        arguments.output_dir,
    )


def _add_plan(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML files with changes to config/config.yaml, the last one wins; or JSON text",
    )
    parser.add_argument(
        "--output-dir",
        type=paths.argument,
        help="folder for plan.txt, jobs.csv, makespan.csv and a figure",
    )


def _plan(arguments: Namespace) -> None:
    from lora.planning import outcome, plan, plan_text

    requested = grid.load(config.read(*arguments.config))
    planned = plan.Plan(requested)
    outcomes = outcome.compare(planned, paths.runs_dir(requested.config.results))
    text = plan_text.text(planned, outcome.text(outcomes))
    print(text, end="")
    if arguments.output_dir:
        from lora.figures import makespan

        plan.write(planned, text, arguments.output_dir)
        makespan.draw(arguments.output_dir / "makespan.csv", arguments.output_dir / "makespan")


def _add_collect(parser: ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--runs-dir", type=paths.argument, required=True, help="folder of all runs")
    parser.add_argument("--output", type=paths.argument, required=True, help="path of runs.csv")


def _collect(arguments: Namespace) -> None:
    from lora.tables import collect

    requested = grid.load(config.read(arguments.config))
    collect.collect(requested, arguments.runs_dir, arguments.output)


def _add_table(parser: ArgumentParser) -> None:
    parser.add_argument(
        "table",
        choices=TABLES,
        help="selection: effect of choosing the epoch; differences: pairs of cells",
    )
    _add_config(parser)
    parser.add_argument(
        "--runs", type=paths.argument, required=True, help="output of `lora collect`"
    )
    _add_output_dir(parser)


def _table(arguments: Namespace) -> None:
    from lora.tables import cells

    requested = grid.load(config.read(arguments.config))
    cells.write(requested, arguments.runs, arguments.table, arguments.output_dir)


def _add_provenance(parser: ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--runs-dir", type=paths.argument, required=True, help="folder of all runs")
    _add_output_dir(parser)


def _provenance(arguments: Namespace) -> None:
    from lora.tables import provenance

    merged = config.read(arguments.config)
    provenance.write_provenance(grid.load(merged), merged, arguments.runs_dir, arguments.output_dir)


def _add_plot(parser: ArgumentParser) -> None:
    parser.add_argument("figure", help="name of the figure")
    parser.add_argument(
        "--tables-dir", type=paths.argument, required=True, help="folder of the tables"
    )
    _add_output(parser)


def _plot(arguments: Namespace) -> None:
    from lora.figures import results

    results.draw(arguments.figure, arguments.tables_dir, arguments.output)


def _add_merge(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--adapter-dir",
        type=paths.argument,
        required=True,
        help="adapter/ of a run, or a PEFT LoRA folder",
    )
    parser.add_argument(
        "--model-dir", type=paths.argument, required=True, help="folder of the base model"
    )
    parser.add_argument(
        "--label-names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="name of each class, class 0 first (default: those of the adapter's run)",
    )
    _add_output_dir(parser, "a new or empty folder")


def _merge(arguments: Namespace) -> None:
    from lora.adapters import merge

    merge.merge(
        arguments.adapter_dir,
        arguments.model_dir,
        arguments.output_dir,
        names=arguments.label_names,
    )


def _add_import_course(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=paths.argument, help="its results folder: <task>/<run>/training_results.csv"
    )
    _add_output_dir(parser, "results folder; runs go to its runs/")
    parser.add_argument("--seed", type=int, help="seed of runs whose folder name has none (MNLI)")
    parser.add_argument(
        "--alpha", help="alpha of runs whose folder name has none: a number, or <c>r"
    )
    parser.add_argument(
        "--protocol", help="a protocol of config/hparams.csv (default course-as-run)"
    )


def _import_course(arguments: Namespace) -> None:
    from lora.tables import import_course

    written = import_course.read_results(
        arguments.folder,
        arguments.output_dir,
        arguments.seed,
        arguments.alpha,
        arguments.protocol or import_course.PROTOCOL,
    )
    log.info("%d runs written to %s", len(written), arguments.output_dir)


def _add_subspace(parser: ArgumentParser) -> None:
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
    _add_output_dir(parser)


def _subspace(arguments: Namespace) -> None:
    from lora.adapters import subspace_tables

    subspace_tables.write(
        arguments.runs,
        arguments.model_dir,
        arguments.output_dir,
        arguments.letters,
        arguments.layers,
    )


def _add_heatmap(parser: ArgumentParser) -> None:
    parser.add_argument("figure", help="figure3, figure4, figure6 or figure7")
    parser.add_argument(
        "--phi", type=paths.argument, required=True, help="phi.csv of `lora subspace`"
    )
    _add_output(parser)


def _heatmap(arguments: Namespace) -> None:
    from lora.figures import subspace

    subspace.draw(arguments.figure, arguments.phi, arguments.output)


def _add_queue(parser: ArgumentParser) -> None:
    parser.add_argument("--cancel", action="store_true", help="cancel jobs that can never start")


def _queue(arguments: Namespace) -> None:
    from lora.planning import slurm_queue

    slurm_queue.report(arguments.cancel)


COMMANDS = {
    "fetch": Command("download a source and verify its checksum", _add_fetch, _fetch),
    "prepare": Command("tokenise a task for a model", _add_prepare, _prepare),
    "plan": Command(
        "estimate run time, memory and disk of a grid from its config; nothing is downloaded",
        _add_plan,
        _plan,
    ),
    "train": Command(
        "train one run, several seeds of one cell, or several cells together",
        cli_train.add_arguments,
        cli_train.train,
    ),
    "collect": Command(
        "collect the metrics.csv of a grid's runs in one file", _add_collect, _collect
    ),
    "table": Command("write one table", _add_table, _table),
    "provenance": Command(
        "list package versions, device, commit and input hashes of every run",
        _add_provenance,
        _provenance,
    ),
    "merge": Command(
        "merge a run's adapter into its base model, as a plain transformers checkpoint",
        _add_merge,
        _merge,
    ),
    "import-course": Command(
        "import the result folders of the course's re-implementation as runs",
        _add_import_course,
        _import_course,
    ),
    "plot": Command("draw one figure from the tables, as SVG and PNG", _add_plot, _plot),
    "subspace": Command(
        "compare the adapters of three runs, and each with its base (Sec. 7.2, 7.3)",
        _add_subspace,
        _subspace,
    ),
    "heatmap": Command(
        "draw one of the paper's Figures 3, 4, 6 and 7, as SVG and PNG", _add_heatmap, _heatmap
    ),
    "queue": Command(
        "say why jobs wait on a Slurm cluster, and which can never start", _add_queue, _queue
    ),
}
