"""Commands that use a finished run: `lora predict`, `lora evaluate`."""

import json
import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path

from lora import cli_inputs, cli_options, files, paths, run_record
from lora.experiment import config_files, registry
from lora.training import gpu_lock

log = logging.getLogger("lora")


def _add_run(parser: ArgumentParser) -> None:
    """Add the options that both commands have."""
    parser.add_argument(
        "--run",
        type=paths.argument,
        required=True,
        dest="run_dir",
        metavar="DIR",
        help="folder of a finished run, with run.json and adapter/",
    )
    parser.add_argument(
        "--model-dir",
        type=paths.argument,
        help="folder of the base model (default: the one in the run's results folder)",
    )
    cli_options.add_own_tasks(parser)
    cli_options.add_device(parser)


def add_predict(parser: ArgumentParser) -> None:
    """Add the arguments of `lora predict`."""
    _add_run(parser)
    parser.add_argument(
        "--input",
        type=paths.argument,
        required=True,
        metavar="FILE",
        help="texts: a CSV, TSV, JSONL or parquet file, or .txt with a text in each line",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        metavar="COLUMN",
        help="the text column, or the two columns of a pair (default: those of the run's task)",
    )
    parser.add_argument(
        "--id", metavar="COLUMN", help="column of the ids (default: id, else the number of the row)"
    )
    parser.add_argument(
        "--output-file",
        type=paths.argument,
        metavar="FILE",
        help="CSV file to write (default: standard output)",
    )


def predict(arguments: Namespace) -> None:
    """Write the label and probability of each text as CSV; for regression its value."""
    from lora.data import texts

    output: Path | None = arguments.output_file
    if output is not None and output.exists() and not output.is_file():
        raise ValueError(f"--output-file is {output}, which is not a file; give another name")
    if output is not None and output.is_file() and output.samefile(arguments.input):
        raise ValueError(f"--output-file is the input file {output}; give another name")
    columns = arguments.text or _text_columns(arguments)
    if len(columns) > 2:
        raise ValueError(f"--text is {' '.join(columns)}; allowed: one column, or two for pairs")
    found = texts.read(arguments.input, columns, arguments.id)
    gpu_lock.lock_free_gpu(arguments.device)  # before torch is imported
    from lora.training import predictions, trained_run

    run = trained_run.load(arguments.run_dir, arguments.model_dir, arguments.device)
    rows = predictions.predict(run, found)
    text = files.csv_text(output or Path("predictions"), predictions.columns(run), rows)
    if output is None:
        print(text, end="")
    else:
        files.write_text(output, text)
        log.info("%d predictions are in %s", len(rows), output)


def _text_columns(arguments: Namespace) -> list[str]:
    """Return the text columns of a run's task. Raises ValueError if the task is not known."""
    record = run_record.read(arguments.run_dir / paths.RUN_JSON, "give the folder of a run")
    tasks, _ = cli_options.tasks_and_sources(arguments)
    if record.settings.task not in tasks:
        raise ValueError(
            f"the text columns of task {record.settings.task!r} are not known here; give them with "
            "--text, or the config of the task with --config"
        )
    return list(tasks[record.settings.task].text_columns)


def add_evaluate(parser: ArgumentParser) -> None:
    """Add the arguments of `lora evaluate`."""
    _add_run(parser)
    parser.add_argument(
        "--task", help="task of config/tasks.csv or of --config (default: the run's)"
    )
    cli_options.add_data_dirs(parser)
    parser.add_argument(
        "--cache-dir",
        type=paths.argument,
        default=Path(config_files.read_defaults()["results"]),
        help="folder for what is fetched and prepared (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def evaluate(arguments: Namespace) -> None:
    """Print the metrics of a run on each evaluation split of a task."""
    record = run_record.read(arguments.run_dir / paths.RUN_JSON, "give the folder of a run")
    tasks, sources = cli_options.tasks_and_sources(arguments)
    task = registry.task(arguments.task or record.settings.task, tasks)
    gpu_lock.lock_free_gpu(arguments.device)  # before torch is imported
    from lora.training import trained_run

    run = trained_run.load(arguments.run_dir, arguments.model_dir, arguments.device)
    max_tokens = run.hparams.max_tokens
    folder = arguments.tokens_dir
    if folder is None:
        model = record.settings.model
        folder = Path(paths.tokens_dir(arguments.cache_dir, model, task.name, max_tokens))
        cli_inputs.prepare(task, run.model_dir, max_tokens, folder, arguments, sources)
    found = run.evaluate_splits(task, folder)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for split, values in found.items():
        print(f"{task.title}, {split}: {values.pop('examples')} examples")
        for name, value in values.items():
            print(f"  {name:10} {value:.4f}")
