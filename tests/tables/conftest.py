"""Fixtures of the table tests."""

import pytest
from helpers.synthetic import make_runs, make_table, paper_grid


@pytest.fixture(scope="session")
def paper_table2(tmp_path_factory):
    """Table 2 of config/paper.yaml with all of its runs, one seed."""
    folder, grid = tmp_path_factory.mktemp("paper"), paper_grid(seeds=(0,))
    make_runs(grid, folder / "runs", precision="bf16")
    return make_table(grid, folder)
