"""Options that several commands have, each with one name and one meaning."""

from argparse import ArgumentParser, Namespace

from lora import paths
from lora.experiment import config_files, grid, registry
from lora.experiment.names import DEVICE_KINDS
from lora.experiment.source import Source
from lora.experiment.task import Task


def add_config(parser: ArgumentParser) -> None:
    """Add --config for a command of the workflow."""
    parser.add_argument(
        "--config",
        required=True,
        help="YAML file with changes to config/config.yaml, or JSON text",
    )


def add_configs(parser: ArgumentParser) -> None:
    """Add --config for a person: which grid, and where its results are."""
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML files with changes to config/config.yaml, the last one wins; or JSON text",
    )


def add_own_tasks(parser: ArgumentParser) -> None:
    """Add --config for a command that needs the tasks and sources of a config."""
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML files, or JSON text, whose tasks and sources are added to those of config/",
    )


def tasks_and_sources(arguments: Namespace) -> tuple[dict[str, Task], dict[str, Source]]:
    """Return the tasks and sources of config/, with those of the option --config."""
    if not arguments.config:
        return registry.read_tasks(), registry.read_sources()
    loaded = grid.load(config_files.read_partial(*arguments.config))
    return loaded.tasks, loaded.sources


def add_output_dir(
    parser: ArgumentParser, text: str = "folder for the outputs", required: bool = True
) -> None:
    """Add --output-dir."""
    parser.add_argument("--output-dir", type=paths.argument, required=required, help=text)


def add_data_dirs(parser: ArgumentParser) -> None:
    """Add --data-dir and --tokens-dir."""
    parser.add_argument(
        "--data-dir",
        type=paths.argument,
        help="local folder of the task's data; without it they are fetched",
    )
    parser.add_argument(
        "--tokens-dir",
        type=paths.argument,
        help="output of `lora prepare`; without it tokens are prepared",
    )


def add_device(parser: ArgumentParser) -> None:
    """Add --device. The default is that of config/config.yaml."""
    parser.add_argument(
        "--device",
        choices=["auto", *DEVICE_KINDS],
        default=config_files.read_defaults()["device"],
        help="default %(default)s",
    )


def add_runs_dir(parser: ArgumentParser) -> None:
    """Add --runs-dir."""
    parser.add_argument("--runs-dir", type=paths.argument, required=True, help="folder of all runs")
