"""Hyperparameters of the protocols in config/hparams.csv."""

import functools

from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.hparams import Hparams

TASKS = "mnli sst2 mrpc cola qnli qqp rte stsb".split()
WEIGHTS = dict(
    lora="qv",
    ft="all",
    bitfit="bias",
    adapter_houlsby="both",
    adapter_pfeiffer="ffn",
    adapter_drop="ffn8",
)


@functools.cache
def rows() -> tuple[hparam_rows.HparamRow, ...]:
    """Return the rows of config/hparams.csv."""
    return hparam_rows.read_hparam_rows()


def hparams(protocol: str, model: str, task: str, method: str = "lora", rank: int = 8) -> Hparams:
    """Return the hyperparameters of a cell without overrides."""
    return hparam_rows.resolve(
        rows(), Cell(model, task, method, WEIGHTS[method], rank, protocol), {}
    )


def differences(one: Hparams, other: Hparams) -> set[str]:
    """Return the names of the hyperparameters that differ."""
    return {name for name, value in one.as_dict().items() if value != getattr(other, name)}
