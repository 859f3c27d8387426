"""Methods with their weight types, and hyperparameters for small trainings."""

from helpers.training import OVERRIDES
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell

WEIGHTS = dict(
    ft="all",
    bitfit="bias",
    adapter_houlsby="both",
    adapter_pfeiffer="ffn",
    adapter_drop="ffn1",
    lora="qv",
)


def hparams_of(**changes):
    cell = Cell("m", "sst2", "lora", "qv", 4, "course")
    return hparam_rows.resolve(hparam_rows.read_hparam_rows(), cell, OVERRIDES | changes)
