"""Checks of the arguments of `lora train`, made before anything is fetched."""

import logging
import math
import os
from argparse import Namespace

from lora.errors import ConfigError, shown
from lora.experiment import config_errors, hparam_rows, hparam_warnings
from lora.experiment.cell import Cell
from lora.experiment.hparams import HPARAM_NAMES, PRETRAINED, Hparams
from lora.experiment.names import MAX_INT
from lora.training import tracking

log = logging.getLogger(__name__)
TITLE = "The arguments are not valid:"


def option(name: str) -> str:
    """Return the option that sets this argument."""
    return f"--{name.replace('_', '-')}"


def check_numbers(arguments: Namespace) -> list[str]:
    """Return what is wrong with seeds and the numbers of the job, one line each."""
    given = [("--seed", arguments.seed)] if arguments.seeds is None else []
    given += [("--seeds", seed) for seed in arguments.seeds or []]
    problems = [
        f"{name} is {shown(seed)}; allowed: a whole number of at least 0, below 2^32"
        for name, seed in given
        if not 0 <= seed < 2**32
    ]
    seeds = arguments.seeds or []
    if len(set(seeds)) < len(seeds):
        problems.append(f"--seeds is {' '.join(map(str, seeds))}; allowed: each seed only once")
    if not 0 <= arguments.micro_batch <= MAX_INT:
        problems.append(
            f"--micro-batch is {arguments.micro_batch}; allowed: at least 0, the whole step"
        )
    if arguments.max_runtime < 0:
        problems.append(
            f"--max-runtime is {arguments.max_runtime}; allowed: at least 0 minutes, 0 is no limit"
        )
    if not 0 < arguments.checkpoint_every_s < math.inf:
        problems.append(
            f"--checkpoint-every-s is {arguments.checkpoint_every_s}; allowed: a number above 0"
        )
    return problems


def check_tracking(text: str) -> list[str]:
    """Return what is wrong with --tracking: a name, or a library that is not installed."""
    try:
        return tracking.missing_libraries(tracking.parse_names(text))
    except ValueError as error:
        return [str(error)]


def check_folders(arguments: Namespace) -> list[str]:
    """Return which of the given folders can't be used, one line each."""
    problems = [
        f"{option(name)} is {folder}; allowed: an existing folder"
        for name in ("model_dir", "data_dir", "tokens_dir")
        if (folder := getattr(arguments, name)) is not None and not folder.is_dir()
    ]
    for folder in (arguments.output_dir, *arguments.output_dir.parents):
        if folder.exists():
            if not folder.is_dir():
                problems.append(
                    f"--output-dir is {arguments.output_dir}; {folder} is a file, give a folder"
                )
            break
    return problems


def check_protocol(name: str) -> list[str]:
    """Return what is wrong with the name of a protocol, in at most one line."""
    known = {row.protocol for row in hparam_rows.read_hparam_rows()}
    return config_errors.check_choice("--protocol", name, known)


def hparams_of(arguments: Namespace, cell: Cell) -> Hparams:
    """Return the hyperparameters: those of the protocol, replaced by those that are given.

    Raises:
        ConfigError: If a value is not allowed, or the run starts from one that is not there.
    """
    rows = hparam_rows.read_hparam_rows()
    given = {name: getattr(arguments, name) for name in HPARAM_NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    if "start" in given:
        given["start"] = os.path.expanduser(given["start"])
    hparams = hparam_rows.resolve(rows, cell, given)
    if hparams.start_task not in (None, cell.task):
        raise ConfigError(
            TITLE,
            [
                f"this protocol starts {cell.task} from the best run of {hparams.start_task}. Give "
                f"--start {PRETRAINED}, or --start with a PEFT folder such as adapter/ of that "
                "run, or use the workflow"
            ],
        )
    for warning in hparam_warnings.warnings_of(hparams, cell):
        log.warning(warning)
    return hparams
