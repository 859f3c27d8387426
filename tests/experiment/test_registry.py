"""Tasks, sources and devices of config/*.csv."""

import re
from dataclasses import astuple

from helpers.protocols import rows

from lora.experiment import registry
from lora.experiment.cell import METHODS
from lora.experiment.hparams import parse_setting


def test_every_hparams_row_names_existing_methods_models_and_tasks():
    models = {source.name for source in registry.read_sources().values() if source.role == "model"}
    keys = [astuple(row)[:6] for row in rows()]
    assert len(keys) == len(set(keys))
    for row in rows():
        assert row.method in ("*", *METHODS) and row.model in ("*", *models), row
        assert row.task in ("*", *registry.read_tasks()), row
        assert re.fullmatch(r"\*|[1-9][0-9]*", row.rank), row
        parse_setting(row.name, row.value, rank=8)
