"""`lora train`: from its arguments to RunSpecs and JobOptions.

A job of the workflow gives its cells as JSON, with every hyperparameter resolved. A person names
one cell; what they leave out is looked up, fetched and prepared. Both end in one call of
`loop.train`, which looks nothing up again. torch is imported once the runs are known.
"""

import logging
import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lora import cli_options, cli_train_checks, paths
from lora.adapters import belonging
from lora.cli_train_checks import option
from lora.columns import CELL_COLUMNS
from lora.data import hub, tokens
from lora.errors import ConfigError
from lora.experiment import (
    config_files,
    earlier_outputs,
    hparam_rows,
    job_progress,
    jobs,
    registry,
)
from lora.experiment.cell import METHODS, Cell
from lora.experiment.hparams import (
    HPARAM_FIELDS,
    HPARAM_NAMES,
    Hparams,
    allowed_values,
)
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.experiment.source import Source
from lora.experiment.task import Task
from lora.model import model_files
from lora.training import gpu_lock

log = logging.getLogger(__name__)
EXAMPLE = "lora train --task mrpc --weights qv --rank 8 --seed 0 --output-dir out"
ONE_CELL_OPTIONS = (*CELL_COLUMNS, "data_dir", "tokens_dir", "cache_dir", "overwrite")


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
        help=f"one of {', '.join(_models())}, or any name with --model-dir (default "
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


def _models() -> list[str]:
    """Return the models of config/sources.csv."""
    return [name for name, one in registry.read_sources().items() if one.role == "model"]


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
    parser.add_argument(
        "--cache-dir",
        type=paths.argument,
        help=f"folder for what is fetched and prepared (default {one_cell['cache_dir']})",
    )
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default=defaults["device"],
        help="default %(default)s",
    )
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
        "--threads-asked",
        type=int,
        metavar="THREADS",
        help="number of CPU threads requested; warns if there are fewer",
    )


def train(arguments: Namespace) -> None:
    """Train the requested runs.

    Raises:
        ValueError: If the arguments are incomplete, contradict each other, or no run can have
            them, or if another run would be overwritten.
    """
    specs, options = resolve(arguments)
    # Before torch is imported, which reads CUDA_VISIBLE_DEVICES once.
    on_gpu = bool(gpu_lock.lock_free_gpu(options.device))
    _warn_about_threads(arguments.threads_asked, on_gpu)
    from lora.training import loop

    loop.train(specs, options)


def resolve(arguments: Namespace) -> tuple[list[RunSpec], JobOptions]:
    """Return the runs and the options of the job; fetch and prepare what is not given."""
    if arguments.cells is None and arguments.seeds is None and arguments.seed is None:
        arguments.seed = 0
    problems = cli_train_checks.check_numbers(arguments)
    if arguments.cells is None:
        problems += cli_train_checks.check_folders(arguments)
        specs, model_dir = _runs_of_one_cell(arguments, problems)
    elif problems:
        raise ConfigError(cli_train_checks.TITLE, problems)
    else:
        specs, model_dir = _runs_of_a_job(arguments)
    specs = [_with_labels(spec) for spec in specs]
    options = JobOptions(
        model_dir=model_dir,
        state_dir=arguments.state_dir or arguments.output_dir / ".state",
        device=arguments.device,
        micro_batch=arguments.micro_batch,
        precision=arguments.precision,
        checkpoint_every_s=arguments.checkpoint_every_s,
        limit_s=60 * arguments.max_runtime or math.inf,
        overwrite=arguments.cells is not None or bool(arguments.overwrite),
        progress_file=arguments.log and arguments.log.with_name(job_progress.NAME),
    )
    return specs, options


def _with_labels(spec: RunSpec) -> RunSpec:
    """Return a run of a task of the config with the classes that `prepare` found in its data."""
    if spec.task.table is None:
        return spec
    names = tokens.read_facts(spec.tokens_dir).label_names
    return replace(spec, task=spec.task.with_labels(names))


def _warn_about_threads(requested: int | None, on_gpu: bool) -> None:
    """Warn if Snakemake gave a CPU job fewer threads than the config requests."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if requested and threads.isdecimal() and int(threads) < requested and not on_gpu:
        log.warning(
            "%s CPU threads, %d were requested: Snakemake has no more cores for this job. Sums are "
            "rounded differently, from the 8th digit on (bf16: the 3rd). For the same numbers give "
            "more --cores",
            threads,
            requested,
        )


def _given(arguments: Namespace, names: Iterable[str]) -> list[str]:
    """Return those of these options that are on the command line."""
    return [option(name) for name in names if getattr(arguments, name) is not None]


def _runs_of_a_job(arguments: Namespace) -> tuple[list[RunSpec], Path]:
    """Return the runs of --cells, and the folder of their model. Uses no network."""
    excluded = _given(arguments, (*ONE_CELL_OPTIONS, "seed", *HPARAM_NAMES))
    if excluded:
        raise ValueError(f"--cells includes {', '.join(excluded)}; give --cells alone")
    if arguments.seeds is None or arguments.model_dir is None:
        raise ValueError("--cells needs --seeds and --model-dir; give both")
    hub.go_offline()
    tasks, _ = cli_options.tasks_and_sources(arguments)
    specs = jobs.parse_json(arguments.cells, arguments.seeds, arguments.output_dir, tasks)
    return specs, arguments.model_dir


def _runs_of_one_cell(arguments: Namespace, problems: list[str]) -> tuple[list[RunSpec], Path]:
    """Return the runs of one cell, and the folder of their model.

    Raises:
        ConfigError: Lists `problems` and all others, before anything is fetched.
    """
    required = ("task", "weights", "rank")
    missing = [option(name) for name in required if getattr(arguments, name) is None]
    if missing:
        listed = " and ".join(filter(None, [", ".join(missing[:-1]), missing[-1]]))
        verb = "is" if len(missing) == 1 else "are"
        problems = [*problems, f"{listed} {verb} required.\nExample: {EXAMPLE}"]
        raise ConfigError(cli_train_checks.TITLE, problems)
    for name, value in arguments.one_cell.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    tasks, sources = cli_options.tasks_and_sources(arguments)
    try:
        task = registry.task(arguments.task, tasks)
        arguments.task = task.name
    except ValueError as error:
        problems = [*problems, str(error)]
    unknown = cli_train_checks.check_protocol(arguments.protocol)
    problems = [*problems, *unknown]
    if arguments.model_dir is None and arguments.model not in sources:
        problems = [
            *problems,
            f"no model {arguments.model!r} in config/sources.csv; allowed: {', '.join(_models())}, "
            "or any name with --model-dir",
        ]
    try:
        cell = Cell(**{axis: getattr(arguments, axis) for axis in CELL_COLUMNS})
        if not unknown:
            hparams = cli_train_checks.hparams_of(arguments, cell)
    except ConfigError as error:
        problems = [*problems, *error.problems]
    if problems:
        raise ConfigError(cli_train_checks.TITLE, problems)
    seeds, output_dir = arguments.seeds, arguments.output_dir
    tokens_dir = arguments.tokens_dir or Path(
        paths.tokens_dir(arguments.cache_dir, cell.model, task.name, hparams.max_tokens)
    )
    folders = (
        {arguments.seed: output_dir}
        if seeds is None
        else {seed: output_dir / f"seed{seed}" for seed in seeds}
    )
    specs = [
        RunSpec(cell, seed, hparams, task, tokens_dir, folder) for seed, folder in folders.items()
    ]
    belonging.check_start_folders([(cell, hparams)], arguments.model_dir)
    if not arguments.overwrite:
        earlier_outputs.check_settings(specs, arguments.precision)
    return specs, _fetch_and_prepare(arguments, cell, task, hparams, tokens_dir, sources)


def _fetch_and_prepare(
    arguments: Namespace,
    cell: Cell,
    task: Task,
    hparams: Hparams,
    tokens_dir: Path,
    sources: Mapping[str, Source],
) -> Path:
    """Fetch the model and prepare the tokens, unless they are given; return the model's folder."""
    from lora.data import fetch, prepare

    model_dir, data_dir = arguments.model_dir, arguments.data_dir
    cache_dir = arguments.cache_dir
    if model_dir is None:
        model_dir = Path(paths.source_dir(cache_dir, cell.model))
        fetch.fetch(sources[cell.model], model_dir)
        belonging.check_start_folders([(cell, hparams)], model_dir)
    model_files.check(model_dir)
    if arguments.tokens_dir is not None:
        return model_dir
    if data_dir is None:
        data_dir = Path(paths.source_dir(cache_dir, task.dataset))
        fetch.fetch(sources[task.dataset], data_dir)
    prepare.prepare(task, data_dir, model_dir, hparams.max_tokens, tokens_dir)
    return model_dir
