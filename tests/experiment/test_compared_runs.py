"""The compared runs are runs of the grid; a config that names others is refused."""

import pytest
from helpers.synthetic import load

from lora.errors import ConfigError
from lora.experiment import compared_runs
from lora.experiment.cell import Cell

SUBSPACE = dict(model="minilm", task="product-sentiment", weights="qv", ranks=[8, 64], seeds=[0, 2])


def test_the_runs_are_those_of_both_figures():
    grid = load(config="demo.yaml", subspace=SUBSPACE)
    low, high = (
        Cell("minilm", "product-sentiment", "lora", "qv", rank, "demo") for rank in (8, 64)
    )
    assert compared_runs.comparison_of(grid.config).runs == ((low, 0), (high, 0), (high, 2))
    assert {low, high} < set(grid.table_cells)
    assert compared_runs.comparison_of(load(config="demo.yaml", subspace=None).config) is None


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(ranks=[8, 16]),
            "no table has demo/minilm/product-sentiment/lora/qv/r16; add its rank",
        ),
        (dict(ranks=[64, 8]), r"subspace.ranks: got 64, 8; allowed: the lower one first"),
        (dict(seeds=[0, 9]), r"subspace.seeds: got 9; allowed: 0, 1, 2"),
        (dict(letters="qk"), r"subspace.letters: got k; allowed: qv"),
        (dict(task="movie-polarity"), "no table has demo/minilm/movie-polarity/lora/qv/r64"),
        (dict(seeds=[1, 1]), "each only once"),
        (dict(rank=8), "unknown key 'rank'"),
    ],
)
def test_runs_that_no_table_has_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load(config="demo.yaml", subspace=SUBSPACE | changes)


def test_runs_that_start_from_the_same_adapter_are_refused():
    with pytest.raises(
        ConfigError, match="start from the same adapter .some/folder., so their subspaces overlap"
    ):
        load(config="demo.yaml", subspace=SUBSPACE, overrides=dict(start="some/folder"))
