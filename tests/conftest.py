"""Fixtures that every room's tests share."""

import logging
import os
from pathlib import Path

import pytest
import torch
from helpers import fuzzing
from helpers.models import make_model
from helpers.training import make_tokens

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("LORA_SCREEN", "snakemake")  # tests read Snakemake's own log


@pytest.fixture(scope="session", params=["bert", "roberta"])
def family(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def model_dir(family, tmp_path_factory) -> Path:
    return make_model(family, tmp_path_factory.mktemp("models") / family)


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory) -> Path:
    return make_model("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def tokens_dir(tmp_path_factory) -> Path:
    """A prepared data set of 42 training and 30 evaluation examples."""
    return make_tokens(tmp_path_factory.mktemp("tokens") / "toy")


@pytest.fixture
def two_threads():
    """A library may divide the sums of a product between threads, so one thread shows less."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def logging_as_before():
    """The command sets up logging for a process of its own; here it must not outlive a test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns its message."""

    from lora.__main__ import main

    def run(*arguments, names=()) -> str:
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr().err
        assert code == 2 and "Traceback" not in written, written[-3000:]
        (message,) = [part for part in written.split(f"lora {arguments[0]}: ")[1:]]
        fuzzing.check_message(message, *names)
        return message

    return run
