"""Runs to compare are runs of the grid, and every problem of what the config asks for is told."""

import pytest
from helpers.synthetic import load

from lora.errors import ConfigError
from lora.experiment import compared_runs
from lora.experiment.cell import Cell

ASKED = dict(model="minilm", task="product-sentiment", weights="qv", ranks=[8, 64], seeds=[0, 2])


def test_the_runs_are_those_of_both_figures():
    grid = load(config="demo.yaml", subspace=ASKED)
    low, high = (
        Cell("minilm", "product-sentiment", "lora", "qv", rank, "demo") for rank in (8, 64)
    )
    assert compared_runs.of(grid.config).runs == ((low, 0), (high, 0), (high, 2))
    assert {low, high} < set(grid.asked)
    assert compared_runs.of(load(config="demo.yaml", subspace=None).config) is None


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(ranks=[8, 16]),
            "no table asks for demo/minilm/product-sentiment/lora/qv/r16; add its rank",
        ),
        (dict(ranks=[64, 8]), r"subspace.ranks: got 64, 8; allowed: the lower one first"),
        (dict(seeds=[0, 9]), r"subspace.seeds: got 9; allowed: 0, 1, 2"),
        (dict(letters="qk"), r"subspace.letters: got k; allowed: qv"),
        (dict(task="movie-polarity"), "no table asks for demo/minilm/movie-polarity/lora/qv/r64"),
        (dict(seeds=[1, 1]), "each only once"),
        (dict(rank=8), "unknown key 'rank'"),
    ],
)
def test_what_the_grid_cannot_give_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(config="demo.yaml", subspace=ASKED | changes)


def test_runs_of_one_start_are_refused():
    with pytest.raises(
        ConfigError, match="start from the same adapter .some/folder., and overlap from there"
    ):
        load(config="demo.yaml", subspace=ASKED, overrides=dict(start="some/folder"))
