"""Commands before training: `init`, `fetch`, `prepare` and `plan`, and `queue` for a cluster."""

import dataclasses
import json
from argparse import ArgumentParser, Namespace

from lora import cli_options, paths, project_folder
from lora.data import hub
from lora.errors import shown
from lora.experiment import config_files, grid, registry

SOURCE_COLUMNS = ("role", "kind", "locator", "revision", "sha256", "licence")
NEW_SOURCE = ("role", "kind", "locator")  # what a source that is not in the registry needs


def add_init(parser: ArgumentParser) -> None:
    """Add the arguments of `lora init`."""
    parser.add_argument("folder", metavar="DIR", type=paths.argument, help="a new folder")
    parser.add_argument(
        "--profile",
        choices=list(project_folder.PROFILES),
        default="local",
        help="where jobs run: this machine, a Slurm cluster, or another scheduler (default: local)",
    )


def init(arguments: Namespace) -> None:
    """Write config, Snakefile and profile of a new project, and print what to type next."""
    for path in project_folder.create(arguments.folder, arguments.profile):
        print(f"Wrote {path}")
    print(project_folder.next_steps(arguments.folder, arguments.profile))


def add_fetch(parser: ArgumentParser) -> None:
    """Add the arguments of `lora fetch`."""
    parser.add_argument("source", help="name in config/sources.csv, or of a new source")
    for column in SOURCE_COLUMNS:
        parser.add_argument(f"--{column}", help=f"replaces the {column} of config/sources.csv")
    cli_options.add_output_dir(parser)


def fetch(arguments: Namespace) -> None:
    """Download a source and verify its checksum."""
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


def add_prepare(parser: ArgumentParser) -> None:
    """Add the arguments of `lora prepare`."""
    parser.add_argument("--task", required=True, help="a task of config/tasks.csv, or of --config")
    cli_options.add_own_tasks(parser)
    parser.add_argument(
        "--data-dir", type=paths.argument, required=True, help="folder of the task's data"
    )
    parser.add_argument(
        "--model-dir", type=paths.argument, required=True, help="folder of the base model"
    )
    parser.add_argument(
        "--max-tokens", type=int, required=True, help="tokens at which an example is cut"
    )
    cli_options.add_output_dir(parser)


def prepare(arguments: Namespace) -> None:
    """Tokenise a task for a model."""
    hub.go_offline()
    from lora.data import prepare

    tasks, _ = cli_options.tasks_and_sources(arguments)
    prepare.prepare(
        registry.task(arguments.task, tasks),
        arguments.data_dir,
        arguments.model_dir,
        arguments.max_tokens,
        arguments.output_dir,
    )


def add_plan(parser: ArgumentParser) -> None:
    """Add the arguments of `lora plan`."""
    cli_options.add_configs(parser)
    text = "folder for plan.txt, jobs.csv, makespan.csv and a figure"
    cli_options.add_output_dir(parser, text, required=False)
    parser.add_argument(
        "--json", action="store_true", help="print jobs and makespans as JSON instead of the text"
    )


def plan(arguments: Namespace) -> None:
    """Print an estimate of run time, memory and disk; with --output-dir write it too."""
    from lora.planning import outcome, plan, plan_text

    requested = grid.load(config_files.read(*arguments.config))
    planned = plan.Plan(requested)
    outcomes = outcome.compare(planned, paths.runs_dir(requested.config.results))
    text = plan_text.text(planned, outcome.text(outcomes))
    if arguments.json:
        print(json.dumps({"jobs": planned.rows(), "makespan": planned.makespans()}, indent=2))
    else:
        print(text, end="")
    if arguments.output_dir:
        from lora.figures import makespan

        plan.write(planned, text, arguments.output_dir)
        makespan.draw(arguments.output_dir / "makespan.csv", arguments.output_dir / "makespan")


def add_queue(parser: ArgumentParser) -> None:
    """Add the arguments of `lora queue`."""
    parser.add_argument("--cancel", action="store_true", help="cancel jobs that can never start")


def queue(arguments: Namespace) -> None:
    """Print why jobs wait on a Slurm cluster."""
    from lora.planning import slurm_queue

    slurm_queue.report(arguments.cancel)
