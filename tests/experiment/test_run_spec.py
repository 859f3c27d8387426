"""RunSpec: settings as run.json holds them, names for the log, and seeds."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.training import make_spec

from lora.experiment.cell import Cell
from lora.experiment.run_spec import JobOptions


def test_settings_are_plain_json_values_of_cell_seed_and_hyperparameters():
    spec = make_spec(Path("runs"), 3, rank=2)
    settings = spec.settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings == dict(
        model="tiny",
        task="toy",
        method="lora",
        weights="qv",
        rank=2,
        protocol="course",
        seed=3,
        hparams=spec.hparams.as_dict(),
    )


@pytest.mark.parametrize(
    "weights, rank, method, name",
    [("qv", 4, "lora", "toy qv r4 seed 1"), ("all", 0, "ft", "toy ft seed 1")],
)
def test_names_of_runs_of_a_pack_are_distinct(weights, rank, method, name):
    assert make_spec(Path("runs"), 1, weights, rank, method).name == name


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True])
def test_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(ValueError, match="seed is .*; allowed"):
        make_spec(Path("runs"), seed)


def test_specs_and_options_are_frozen():
    spec, options = make_spec(Path("runs"), 0), JobOptions(Path("model"), Path("state"))
    for value in (spec, options):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.seed = 1
    assert {spec} == {make_spec(Path("runs"), 0)}
    assert dataclasses.replace(spec, cell=Cell("m", "toy", "lora", "q", 1, "p")).name != spec.name
