"""Fetch and prepare what a command needs and was not given."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from lora import paths
from lora.experiment.source import Source
from lora.experiment.task import Task


def fetch_source(source: Source, cache_dir: Path) -> Path:
    """Fetch a model or data set, unless it is there; return its folder in `cache_dir`."""
    from lora.data import fetch

    folder = Path(paths.source_dir(cache_dir, source.name))
    fetch.fetch(source, folder)
    return folder


def prepare(
    task: Task,
    model_dir: Path,
    max_tokens: int,
    tokens_dir: Path,
    arguments: Namespace,
    sources: Mapping[str, Source],
) -> None:
    """Tokenise a task into `tokens_dir`; fetch its data first unless --data-dir is given.

    Args:
        task: The task.
        model_dir: Folder of the base model.
        max_tokens: Longest example.
        tokens_dir: Folder for the tokens.
        arguments: Those of a command with --data-dir and --cache-dir.
        sources: The sources by name.
    """
    from lora.data import prepare

    data_dir = arguments.data_dir or fetch_source(sources[task.dataset], arguments.cache_dir)
    prepare.prepare(task, data_dir, model_dir, max_tokens, tokens_dir)
