"""Tables that several figures are drawn from."""

import pytest
from helpers.figures import write_tables
from helpers.synthetic import load, make_runs, paper_grid, table


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tables of a grid with missing and failed runs, and one cell that has none left."""
    place = tmp_path_factory.mktemp("plots")
    asked = load(
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
    make_runs(asked, place / "runs", missing=missing, failed=[("mnli", "qv", 1, 1)])
    return write_tables(asked, place)


@pytest.fixture(scope="session")
def methods(tmp_path_factory):
    """The tables of config/paper.yaml, all methods on both models, with failed and missing runs of
    baselines.
    """
    place = tmp_path_factory.mktemp("methods")
    two = load(config="paper.yaml").config.as_dict()["tables"]["table2"] | dict(
        tasks=["mnli", "cola", "rte"]
    )
    asked = paper_grid(seeds=(0, 1), tables=("table5", "table6"), changed=dict(table2=two))
    make_runs(
        asked, place / "runs", missing=[("rte", "all", 0, 0)], failed=[("cola", "both", 64, 1)]
    )
    return write_tables(asked, place)
