"""Command line: one command for each rule of the workflow, and some for people.

Heavy libraries are imported inside the command that needs them.
"""

import dataclasses
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence

import lora
from lora import (
    cli_adapters,
    cli_data,
    cli_parser,
    cli_predict,
    cli_run,
    cli_show,
    cli_tables,
    cli_train,
    cli_train_options,
    paths,
)


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        group: Title of its group in the help of `lora`.
        help: What it does.
        example: Arguments of an example.
        add_arguments: Adds its arguments to a parser.
        run: Runs it.
    """

    group: str
    help: str
    example: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]


def parser() -> ArgumentParser:
    """Return the parser. The parsed arguments have `name` and `run`, the function to call."""
    main = cli_parser.Parser(
        prog="lora",
        description=lora.__doc__,
        epilog=cli_parser.grouped_help(_groups()),
        formatter_class=RawDescriptionHelpFormatter,
    )
    main.add_argument("--version", action="version", version=f"lora {lora.__version__}")
    commands = main.add_subparsers(required=True, metavar="COMMAND", dest="name", help="see below")
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name,
            description=f"{command.help}.",
            epilog=f"Example: lora {name} {command.example}".rstrip(),
        )
        command.add_arguments(added)
        added.add_argument(
            "--log",
            type=paths.argument,
            help="log file; standard error then shows warnings and progress",
        )
        added.set_defaults(run=command.run, parser=added)
    return main


def parse(argv: Sequence[str]) -> Namespace:
    """Return the parsed arguments; exit with a message if they are wrong."""
    arguments, unknown = parser().parse_known_args(argv)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def _groups() -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the commands of each group, in the order of COMMANDS."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, command in COMMANDS.items():
        groups.setdefault(command.group, []).append((name, command.help, command.example))
    return list(groups.items())


RUN, TABLES, ADAPTERS, CLUSTER, WORKFLOW = (
    "train",
    "results",
    "trained runs and adapters",
    "cluster",
    "steps of the workflow",
)
COMMANDS = {
    "init": Command(
        RUN,
        "Write a config, a Snakefile and a profile to a new folder",
        "my-grid",
        cli_run.add_init,
        cli_run.init,
    ),
    "plan": Command(
        RUN,
        "Estimate time, memory and disk of a grid; nothing is downloaded",
        "--config config/config.yaml",
        cli_run.add_plan,
        cli_run.plan,
    ),
    "train": Command(
        RUN,
        "Train one run, or several together",
        "--task mrpc --weights qv --rank 8 --output-dir out",
        cli_train_options.add_arguments,
        cli_train.train,
    ),
    "data": Command(
        RUN,
        "Show the data of a task: examples, labels, token lengths",
        "product-sentiment --config config/config.yaml --model minilm",
        cli_data.add_arguments,
        cli_data.data,
    ),
    "status": Command(
        RUN,
        "Show what of a grid is done, running, failed or missing",
        "--config config/config.yaml",
        cli_show.add_status,
        cli_show.status,
    ),
    "show": Command(
        TABLES,
        "Show tables in the terminal",
        "table2 --config config/config.yaml",
        cli_show.add_show,
        cli_show.show,
    ),
    "compare": Command(
        TABLES,
        "Show what differs between two runs or cells, and their metrics",
        "out/seed0 other/seed0",
        cli_show.add_compare,
        cli_show.compare,
    ),
    "track": Command(
        TABLES,
        "Write finished runs for TensorBoard or MLflow",
        "--runs-dir results/runs --output-dir results/tracking",
        cli_tables.add_track,
        cli_tables.track,
    ),
    "import-course": Command(
        TABLES,
        "Import the result folders of the course's re-implementation",
        "cs5782_final_project/results --output-dir results/course",
        cli_tables.add_import_course,
        cli_tables.import_course,
    ),
    "predict": Command(
        ADAPTERS,
        "Predict the labels of texts with a finished run",
        "--run out --input texts.csv --output-file predictions.csv",
        cli_predict.add_predict,
        cli_predict.predict,
    ),
    "evaluate": Command(
        ADAPTERS,
        "Evaluate a finished run on a task",
        "--run out --task mrpc",
        cli_predict.add_evaluate,
        cli_predict.evaluate,
    ),
    "merge": Command(
        ADAPTERS,
        "Merge an adapter into its base model, as a transformers checkpoint",
        "--adapter-dir out/adapter --model-dir results/sources/roberta-base --output-dir merged",
        cli_adapters.add_merge,
        cli_adapters.merge,
    ),
    "queue": Command(
        CLUSTER,
        "Say why jobs wait on a Slurm cluster, and which can never start",
        "--cancel",
        cli_run.add_queue,
        cli_run.queue,
    ),
    "fetch": Command(
        WORKFLOW,
        "Download a source and verify its checksum",
        "roberta-base --output-dir results/sources/roberta-base",
        cli_run.add_fetch,
        cli_run.fetch,
    ),
    "prepare": Command(
        WORKFLOW,
        "Tokenise a task for a model",
        "--task sst2 --data-dir glue --model-dir model --max-tokens 128 --output-dir tokens",
        cli_run.add_prepare,
        cli_run.prepare,
    ),
    "collect": Command(
        WORKFLOW,
        "Collect the metrics of a grid's runs in one file",
        "--config config/config.yaml --runs-dir results/runs --output-dir tables",
        cli_tables.add_collect,
        cli_tables.collect,
    ),
    "table": Command(
        WORKFLOW,
        "Write one table as CSV, Markdown, LaTeX and HTML",
        "table2 --config config/config.yaml --runs-csv tables/runs.csv --output-dir tables",
        cli_tables.add_table,
        cli_tables.table,
    ),
    "provenance": Command(
        WORKFLOW,
        "List versions, device, commit and input hashes of every run",
        "--config config/config.yaml --runs-dir results/runs --output-dir tables",
        cli_tables.add_provenance,
        cli_tables.provenance,
    ),
    "report-home": Command(
        WORKFLOW,
        "Write the first page of the report",
        "--config config/config.yaml --runs-csv tables/runs.csv --figures-dir figures "
        "--output-dir tables",
        cli_tables.add_report_home,
        cli_tables.report_home,
    ),
    "plot": Command(
        WORKFLOW,
        "Draw one figure from the tables, as SVG and PNG, and in words as TXT",
        "rank_curves --tables-dir tables --output-dir figures",
        cli_tables.add_plot,
        cli_tables.plot,
    ),
    "subspace": Command(
        WORKFLOW,
        "Compare the adapters of three runs, and each with its base (Sec. 7.2, 7.3)",
        "--runs r8/seed0 r64/seed0 r64/seed1 --model-dir model --output-dir subspace",
        cli_tables.add_subspace,
        cli_tables.subspace,
    ),
    "heatmap": Command(
        WORKFLOW,
        "Draw one of the paper's Figures 3, 4, 6 and 7, as SVG and PNG, and in words as TXT",
        "figure3 --phi subspace/phi.csv --output-dir subspace",
        cli_tables.add_heatmap,
        cli_tables.heatmap,
    ),
}
