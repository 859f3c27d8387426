"""Fixtures of the workflow tests: a small grid over local files."""

import pytest
from helpers.workflow import small_config, snakemake, write_config


@pytest.fixture(scope="session")
def small_grid(tmp_path_factory):
    """A working directory and the config of a small grid."""
    folder = tmp_path_factory.mktemp("small grid")  # a space in the path, on purpose
    return folder, small_config(folder)


@pytest.fixture(scope="session")
def trained_grid(small_grid):
    """Working directory, config and Snakemake's output of a small grid after its run."""
    folder, config = small_grid
    output = snakemake("--configfile", write_config(folder, config), "--directory", folder)
    return folder, config, output
