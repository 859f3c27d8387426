"""Labels and series that all figures share."""

import pytest
from helpers.synthetic import load, make_runs, paper_grid

from lora.figures import style
from lora.tables import cells, collect


def write_tables(asked, place):
    collect.collect(asked, place / "runs", place / "runs.csv")
    for name in asked.tables:
        cells.write(asked, place / "runs.csv", name, place / "tables")
    return place / "tables"


@pytest.fixture(scope="module")
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


def test_rows_of_one_method_have_labels_of_their_own(methods):
    rows = {
        tuple(row[key] for key in style.CELL if key != "task"): row
        for row in style.read(methods, "table2")
    }
    labels = [(row["model"], style.row_label(row), row["protocol"]) for row in rows.values()]
    assert len(labels) == len(set(labels)) == 5 + 7
    assert ("roberta-base", "Adpt$^D$ 48, layers 9+", "paper") in labels


def test_series_differ_and_rows_of_one_method_share_a_colour(methods):
    rows = style.read(methods, "table2")
    series = style.series_of(rows)
    assert len(set(series.values())) == len(series) == 10
    colours = {}
    for (method, *_), (colour, *_) in series.items():
        colours.setdefault(method, set()).add(colour)
    assert (
        all(len(found) == 1 for found in colours.values())
        and len(set().union(*colours.values())) == 6
    )
