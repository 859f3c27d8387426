"""`lora train`: from its arguments to RunSpecs and JobOptions.

A job of the workflow gives its cells as JSON, with every hyperparameter resolved. A person names
one cell; what they leave out is looked up, fetched and prepared. Both end in one call of
`loop.train`, which looks nothing up again. torch is imported once the runs are known.
"""

import logging
import math
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lora import cli_inputs, cli_options, cli_train_checks, paths
from lora.adapters import belonging
from lora.cli_train_checks import option
from lora.columns import CELL_COLUMNS
from lora.data import hub, tokens
from lora.errors import ConfigError
from lora.experiment import earlier_outputs, job_progress, jobs, registry
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES
from lora.experiment.run_spec import JobOptions, RunSpec
from lora.experiment.source import Source
from lora.model import model_files
from lora.training import gpu_lock, tracking

log = logging.getLogger(__name__)
EXAMPLE = "lora train --task mrpc --weights qv --rank 8 --seed 0 --output-dir out"
ONE_CELL_OPTIONS = (*CELL_COLUMNS, "data_dir", "tokens_dir", "cache_dir", "overwrite")


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
    problems += cli_train_checks.check_tracking(arguments.tracking)
    if arguments.cells is None:
        problems += cli_train_checks.check_folders(arguments)
        specs, model_dir = _runs_of_one_cell(arguments, problems)
    elif problems:
        raise ConfigError(cli_train_checks.TITLE, problems)
    else:
        specs, model_dir = _runs_of_a_job(arguments)
    specs = [_with_labels(spec) for spec in specs]
    trackers = tracking.parse_names(arguments.tracking)
    tracking_dir = arguments.tracking_dir or Path(paths.tracking_dir(arguments.output_dir))
    options = JobOptions(
        model_dir=model_dir,
        state_dir=arguments.state_dir or arguments.output_dir / ".state",
        device=arguments.device,
        micro_batch=arguments.micro_batch,
        precision=arguments.precision,
        checkpoint_every_s=arguments.checkpoint_every_s,
        limit_s=60 * arguments.max_runtime or math.inf,
        overwrite=arguments.cells is not None or bool(arguments.overwrite),
        tracking=trackers,
        tracking_dir=tracking_dir if trackers else None,
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
            f"no model {arguments.model!r} in config/sources.csv; allowed: "
            f"{', '.join(registry.model_names())}, or any name with --model-dir",
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
    return specs, _fetch_and_prepare(arguments, specs[0], sources)


def _fetch_and_prepare(arguments: Namespace, spec: RunSpec, sources: Mapping[str, Source]) -> Path:
    """Fetch the model and prepare the tokens, unless they are given; return the model's folder."""
    model_dir, max_tokens = arguments.model_dir, spec.hparams.max_tokens
    if model_dir is None:
        model_dir = cli_inputs.fetch_source(sources[spec.cell.model], arguments.cache_dir)
        belonging.check_start_folders([(spec.cell, spec.hparams)], model_dir)
    model_files.check(model_dir)
    if arguments.tokens_dir is None:
        cli_inputs.prepare(spec.task, model_dir, max_tokens, spec.tokens_dir, arguments, sources)
    return model_dir
