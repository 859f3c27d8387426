"""Hyperparameters: how they are written, and which values are allowed."""

import dataclasses

import pytest

from lora.errors import ConfigError
from lora.experiment import hparam_rows
from lora.experiment.cell import Cell
from lora.experiment.hparams import allowed_values, parse_setting, run_settings

CELL = Cell("roberta-base", "sst2", "lora", "qv", 8, "paper")
PAPER = hparam_rows.resolve(hparam_rows.read_hparam_rows(), CELL, {})


@pytest.mark.parametrize(
    "name, text, rank, value",
    [
        ("epochs", "3", 8, 3),
        ("epochs", 3.0, 8, 3),
        ("learning_rate", "5e-4", 8, 5e-4),
        ("learning_rate", 1, 8, 1.0),
        ("alpha", "2r", 64, 128.0),
        ("alpha", "2r", 0, 2.0),
        ("head", " frozen ", 8, "frozen"),
        ("start", "some/folder", 8, "some/folder"),
    ],
)
def test_a_written_value_is_parsed(name, text, rank, value):
    parsed = parse_setting(name, text, rank)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    "name, text",
    [
        ("epochs", "2.5"),
        ("epochs", True),
        ("epochs", 2**31),
        ("learning_rate", "nan"),
        ("learning_rate", "1_0"),
        ("learning_rate", 10**400),
        ("lora_dropout", "2r"),
        ("init_a", "zero"),
        ("start", ""),
        ("adam_beta1", 1),
    ],
)
def test_another_value_is_refused_with_what_is_allowed(name, text):
    with pytest.raises(ValueError) as caught:
        parse_setting(name, text, 8)
    assert f"{name} is " in str(caught.value) and allowed_values(name) in str(caught.value)


def test_allowed_values_in_words():
    assert allowed_values("max_tokens") == "a whole number of at least 4, at most 512"
    assert allowed_values("head") == "trained or frozen"


def test_all_wrong_values_are_in_one_message():
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(PAPER, epochs=0, head="melted", alpha=-1.0)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "0"])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="seed is .*; allowed: a whole number of at least 0"):
        run_settings(CELL, seed, PAPER)


def test_start_task():
    starts = {"pretrained": None, "a/folder": None, "mnli": "mnli"}
    for start, task in starts.items():
        assert dataclasses.replace(PAPER, start=start).start_task == task
