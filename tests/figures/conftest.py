"""Tables that several figures are drawn from."""

import pytest
from helpers.figures import write_tables
from helpers.synthetic import load, make_runs, paper_grid, table


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tables of a grid with missing and failed runs, and one cell without a finished run."""
    path = tmp_path_factory.mktemp("plots")
    grid = load(
        seeds=[0, 1],
        tables=dict(
            table2=table(["roberta-base"], ["sst2", "mrpc"]),
            table6=table(
                ["roberta-base"], ["mnli"], ("q", "qv"), (1, 8), protocols=["course", "frozen"]
            ),
        ),
        protocols=dict(frozen=dict(base="course", head="frozen")),
    )
    missing = [("sst2", "qv", 8, 0), ("mnli", "q", 1, 0), ("mnli", "q", 1, 1)]
    make_runs(grid, path / "runs", missing=missing, failed=[("mnli", "qv", 1, 1)])
    return write_tables(grid, path)


@pytest.fixture(scope="session")
def methods(tmp_path_factory):
    """Tables of config/paper.yaml: all methods on both models, with failed and missing runs."""
    path = tmp_path_factory.mktemp("methods")
    table2 = load(config="paper.yaml").config.as_dict()["tables"]["table2"] | dict(
        tasks=["mnli", "cola", "rte"]
    )
    grid = paper_grid(seeds=(0, 1), tables=("table5", "table6"), changed=dict(table2=table2))
    make_runs(grid, path / "runs", missing=[("rte", "all", 0, 0)], failed=[("cola", "both", 64, 1)])
    return write_tables(grid, path)
