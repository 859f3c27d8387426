"""The verb `train`: from a command line to the runs that are asked for.

A workflow's job is told its cells in JSON, every hyperparameter resolved; a person names one cell, and what is not given is
looked up, fetched and prepared. Both end in the same call. torch is loaded once it is clear what to train.
"""

import argparse
import logging
import os
from pathlib import Path

from lora.columns import CELL_COLUMNS
from lora.data import hub
from lora.experiment import config, hparam_warnings, jobs, registry
from lora.experiment.cell import Cell
from lora.experiment.hparams import (
    HPARAM_FIELDS,
    HPARAM_NAMES,
    PRETRAINED,
    Hparams,
    allowed_values,
    run_settings,
)
from lora.experiment.jobs import Asked
from lora.experiment.task import Task
from lora.training import gpu_lock

log = logging.getLogger(__name__)
CELL_OPTIONS = (*CELL_COLUMNS, "data_dir", "tokens_dir", "cache_dir")  # of one cell


def add_arguments(train: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    defaults = config.read_yaml(config.DEFAULTS)
    model, method = (
        defaults["tables"]["table2"]["models"][0],
        defaults["tables"]["table2"]["method"],
    )
    protocol = defaults["protocol"]
    train.set_defaults(
        cell_defaults=dict(
            model=model, method=method, protocol=protocol, cache_dir=Path(defaults["results"])
        )
    )
    train.add_argument("--task", help="a task of config/tasks.csv")
    train.add_argument("--model", help=f"a model of config/sources.csv (default {model})")
    train.add_argument("--method", help=f"default {method}")
    train.add_argument("--weights", help="weight types to adapt, letters of qkvo")
    train.add_argument("--rank", type=int)
    cells = f"several cells of one model instead: a JSON list of objects with the keys {', '.join(jobs.CELL_KEYS)}"
    train.add_argument(
        "--cells", metavar="JSON", help=f"{cells}; written to OUTPUT_DIR/<cell>/seed<n>"
    )
    which = train.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one run, written to the output folder")
    which.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        help="several in lock-step, written to its subfolders seed<n>",
    )
    train.add_argument("--protocol", help=f"of config/hparams.csv (default {protocol})")
    train.add_argument("--output-dir", type=Path, required=True)
    train.add_argument(
        "--state-dir",
        type=Path,
        help="where state is kept between jobs (default OUTPUT_DIR/.state)",
    )
    train.add_argument(
        "--model-dir", type=Path, help="a local model folder; fetched when not given"
    )
    train.add_argument(
        "--data-dir", type=Path, help="a local folder with the task's data; fetched when not given"
    )
    train.add_argument(
        "--tokens-dir", type=Path, help="what prepare wrote; prepared when not given"
    )
    train.add_argument(
        "--cache-dir",
        type=Path,
        help=f"for what is fetched and prepared (default {defaults['results']})",
    )
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default=defaults["device"])
    train.add_argument(
        "--micro-batch",
        type=int,
        default=defaults["micro_batch"],
        help="examples per pass; 0 is the step",
    )
    every = defaults["checkpoint_every_s"]
    train.add_argument(
        "--checkpoint-every-s",
        type=float,
        default=every,
        help=f"seconds between states within an epoch (default {every})",
    )
    train.add_argument(
        "--precision", choices=["auto", "bf16", "fp32"], default=defaults["precision"]
    )
    train.add_argument(
        "--threads-asked",
        type=int,
        help="CPU threads that were asked for; says so where there are fewer",
    )
    settings = train.add_argument_group(
        "hyperparameters", "instead of the protocol's (config/hparams.csv)"
    )
    for name in HPARAM_NAMES:
        unit = HPARAM_FIELDS[name].metadata["unit"].replace("%", "%%")
        settings.add_argument(
            f"--{name.replace('_', '-')}", help=f"{unit}; {allowed_values(name)}".lstrip("; ")
        )


def train(arguments) -> None:
    """Train what the command line asks for. Raises ValueError for what it says too much or too little of."""
    if arguments.seeds and len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(
            f"--seeds is {' '.join(map(str, arguments.seeds))}; allowed: each only once"
        )
    if arguments.micro_batch < 0:
        raise ValueError(
            f"--micro-batch is {arguments.micro_batch}; allowed: at least 0, which is the whole step"
        )
    if not arguments.checkpoint_every_s > 0:
        raise ValueError(
            f"--checkpoint-every-s is {arguments.checkpoint_every_s}; allowed: a number above 0"
        )
    asked, model_dir = _one_cell(arguments) if arguments.cells is None else _cells(arguments)
    on_gpu = gpu_lock.lock_free_gpu(
        arguments.device
    )  # before torch is loaded, which reads the environment once
    threads, asked_for = os.environ.get("OMP_NUM_THREADS", ""), arguments.threads_asked
    if asked_for and threads.isdecimal() and int(threads) < asked_for and not on_gpu:
        log.warning(
            "%s CPU threads of the %d asked for, as Snakemake has no more cores for a job: sums round differently, from the "
            "8th digit on (bf16: the 3rd); for the same numbers give more --cores", threads, asked_for,
        )  # fmt: skip
    from lora.training import loop

    state_dir = arguments.state_dir or arguments.output_dir / ".state"
    loop.train(
        asked, model_dir, state_dir, arguments.device, arguments.micro_batch, arguments.precision,
        arguments.checkpoint_every_s,
    )  # fmt: skip


def _given(arguments, names) -> list[str]:
    """Those of these options that are on the command line."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is not None]


def _cells(arguments) -> tuple[list, Path]:
    """What a workflow's job trains: every run asked for, and the model's folder."""
    excluded = _given(arguments, (*CELL_OPTIONS, "seed", *HPARAM_NAMES))
    if excluded:
        raise ValueError(f"--cells says all of it; leave out {', '.join(excluded)}")
    if arguments.seeds is None or arguments.model_dir is None:
        raise ValueError("--cells needs --seeds and --model-dir")
    hub.stay_away()
    cells = jobs.parse_json(arguments.cells)
    tasks = {one.cell.task: registry.task(one.cell.task) for one in cells}
    asked = []
    for one in cells:
        for seed in arguments.seeds:
            folder = arguments.output_dir / one.cell.path / f"seed{seed}"
            settings = run_settings(one.cell, seed, one.hparams)
            starts = tuple(arguments.output_dir / start for start in one.start_dirs)
            asked.append(
                Asked(settings, tasks[one.cell.task], Path(one.tokens_dir), folder, starts)
            )
    return asked, arguments.model_dir


def _one_cell(arguments) -> tuple[list, Path]:
    """What a person trains: the runs of one cell, with data and model fetched where no folder is given."""
    missing = [
        f"--{name}" for name in ("task", "weights", "rank") if getattr(arguments, name) is None
    ]
    if missing:
        raise ValueError(f"give {', '.join(missing)}")
    for name, value in arguments.cell_defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    task = registry.task(arguments.task)
    cell = Cell(
        arguments.model, task.name, arguments.method, arguments.weights, arguments.rank, arguments.protocol
    )  # fmt: skip
    given = {
        name: value for name in HPARAM_NAMES if (value := getattr(arguments, name)) is not None
    }
    hparams = registry.resolve(registry.read_rows("hparams.csv"), cell, given)
    if hparams.start_task not in (None, task.name):
        raise ValueError(
            f"this protocol starts {task.name} from the best run of {hparams.start_task}; give --start, with "
            f"{PRETRAINED} or a PEFT folder such as that run's adapter/, or use the workflow"
        )
    for sentence in hparam_warnings.warnings_of(hparams, cell):
        log.warning(sentence)
    model_dir, tokens_dir = arguments.model_dir, arguments.tokens_dir
    if model_dir is None or tokens_dir is None:
        model_dir, tokens_dir = _inputs(cell, task, hparams, arguments)
    asked = []
    for seed in arguments.seeds or [arguments.seed]:
        folder = arguments.output_dir / f"seed{seed}" if arguments.seeds else arguments.output_dir
        asked.append(Asked(run_settings(cell, seed, hparams), task, tokens_dir, folder))
    return asked, model_dir


def _inputs(cell: Cell, task: Task, hparams: Hparams, arguments) -> tuple[Path, Path]:
    """Without a workflow around it, train fetches and prepares what it needs, into --cache-dir."""
    from lora.data import fetch, tokens

    sources = registry.read_sources()
    if arguments.model_dir is None and cell.model not in sources:
        raise ValueError(
            f"no model {cell.model!r} in config/sources.csv; give --model-dir, or add a row"
        )
    model_dir = arguments.model_dir or arguments.cache_dir / "sources" / cell.model
    data_dir = arguments.data_dir or arguments.cache_dir / "sources" / task.dataset
    tokens_dir = arguments.cache_dir / "tokens" / cell.model / task.name / f"t{hparams.max_tokens}"
    if arguments.model_dir is None:
        fetch.fetch(sources[cell.model], model_dir)
    if arguments.data_dir is None:
        fetch.fetch(sources[task.dataset], data_dir)
    tokens.prepare(task, data_dir, model_dir, hparams.max_tokens, tokens_dir)
    return model_dir, tokens_dir
