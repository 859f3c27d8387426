"""Options of `lora train`: which runs, which folders, which device, and the hyperparameters."""

from argparse import ArgumentParser
from pathlib import Path

from lora import cli_options, paths
from lora.cli_train_checks import option
from lora.experiment import config_files, hparam_rows, jobs, registry
from lora.experiment.cell import METHODS
from lora.experiment.hparams import HPARAM_FIELDS, HPARAM_NAMES, allowed_values


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of `lora train`. Defaults are those of config/config.yaml."""
    defaults = config_files.read_defaults()
    table = defaults["tables"]["table2"]
    # Applied to the runs of one cell only: --cells leaves no choice.
    one_cell = dict(
        model=table["models"][0],
        method=table["method"],
        protocol=defaults["protocol"],
        cache_dir=Path(defaults["results"]),
    )
    parser.set_defaults(one_cell=one_cell)
    _add_run_arguments(parser, one_cell)
    _add_job_arguments(parser, one_cell, defaults)
    group = parser.add_argument_group(
        "hyperparameters", "replace those of the protocol (config/hparams.csv)"
    )
    for name in HPARAM_NAMES:
        unit = HPARAM_FIELDS[name].metadata["unit"].replace("%", "%%")
        text = "; ".join(part for part in (unit, allowed_values(name)) if part)
        group.add_argument(option(name), help=text)


def _add_run_arguments(parser: ArgumentParser, defaults: dict[str, object]) -> None:
    """Add the options that say which runs to train."""
    protocols = dict.fromkeys(row.protocol for row in hparam_rows.read_hparam_rows())
    parser.add_argument(
        "--task", help=f"one of {', '.join(registry.read_tasks())}, or a task of --config"
    )
    cli_options.add_own_tasks(parser)
    parser.add_argument(
        "--model",
        help=f"one of {', '.join(registry.model_names())}, or any name with --model-dir (default "
        f"{defaults['model']})",
    )
    parser.add_argument(
        "--method",
        help=f"what is trained: one of {', '.join(METHODS)} (default {defaults['method']})",
    )
    parser.add_argument("--weights", help="weight types to adapt: letters of qkvo for lora")
    parser.add_argument("--rank", type=int, help="rank of LoRA, or bottleneck of an adapter")
    parser.add_argument(
        "--protocol",
        help=f"one of {', '.join(protocols)} (default {defaults['protocol']})",
    )
    parser.add_argument(
        "--cells",
        metavar="JSON",
        help="train several cells of one model instead: a JSON list of objects with the keys "
        f"{', '.join(jobs.CELL_KEYS)}. Outputs go to OUTPUT_DIR/<cell>/seed<n>",
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", type=int, help="train one run; its outputs go to OUTPUT_DIR (default 0)"
    )
    seeds.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="train several runs together; outputs go to OUTPUT_DIR/seed<n>",
    )


def _add_job_arguments(
    parser: ArgumentParser, one_cell: dict[str, object], defaults: dict[str, object]
) -> None:
    """Add the options for folders, device and checkpoints."""
    parser.add_argument(
        "--output-dir", type=paths.argument, required=True, help="folder for the outputs"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        default=None,
        help="replace another run in the output folder; without it such a run is an error",
    )
    parser.add_argument(
        "--state-dir",
        type=paths.argument,
        help="folder for checkpoints (default OUTPUT_DIR/.state)",
    )
    parser.add_argument(
        "--model-dir",
        type=paths.argument,
        help="local model folder; without it the model is fetched",
    )
    cli_options.add_data_dirs(parser)
    parser.add_argument(
        "--cache-dir",
        type=paths.argument,
        help=f"folder for what is fetched and prepared (default {one_cell['cache_dir']})",
    )
    cli_options.add_device(parser)
    parser.add_argument(
        "--precision",
        choices=["auto", "bf16", "fp32"],
        default=defaults["precision"],
        help="precision of the frozen base (default %(default)s)",
    )
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=defaults["micro_batch"],
        help="examples of a run per forward pass; 0 is the whole step (default %(default)s)",
    )
    parser.add_argument(
        "--checkpoint-every-s",
        type=float,
        default=defaults["checkpoint_every_s"],
        help="seconds between checkpoints within an epoch (default %(default)s)",
    )
    parser.add_argument(
        "--max-runtime",
        type=int,
        default=0,
        metavar="MINUTES",
        help="save and stop before this time is over; the same command continues (default: never)",
    )
    parser.add_argument(
        "--tracking",
        default="none",
        help="also write the metrics of each epoch for tensorboard, mlflow, or both with a comma "
        "between them (default %(default)s)",
    )
    parser.add_argument(
        "--tracking-dir",
        type=paths.argument,
        help="folder for them (default OUTPUT_DIR/tracking); mlflow: unless MLFLOW_TRACKING_URI "
        "names a server",
    )
    parser.add_argument(
        "--threads-asked",
        type=int,
        metavar="THREADS",
        help="number of CPU threads requested; warns if there are fewer",
    )
