"""Rank curves and the comparison of heads."""

import pytest
from helpers.figures import words
from helpers.synthetic import load, make_runs, table

from lora.figures import results
from lora.tables import cells, collect


def drawn(figure: str, folder, place) -> str:
    """The words of a figure."""
    results.draw(figure, folder, place / "figure")
    return words((place / "figure.svg").read_bytes())


def write_tables(asked, place):
    collect.collect(asked, place / "runs", place / "runs.csv")
    for name in asked.tables:
        cells.write(asked, place / "runs.csv", name, place / "tables")
    return place / "tables"


@pytest.fixture(scope="module")
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


def test_heads_are_compared_where_table6_has_two_protocols(folder, tmp_path):
    text = drawn("head_ablation", folder, tmp_path)
    assert "course: head trained" in text and "frozen: head frozen" in text
    assert (
        "paper, GPT-3 175B, shape only" in text
        and "Not shown, of 16 runs: 4 missing, 2 failed." in text
    )


def test_published_curves_are_beside_heads_only_on_mnli(tmp_path):
    six = table(
        ["minilm"], ["product-sentiment"], ("q", "qv"), (1, 8), protocols=["demo", "frozen"]
    )
    asked = load(
        config="demo.yaml",
        protocols=dict(frozen=dict(base="demo", head="frozen")),
        tables=dict(table6=six),
    )
    make_runs(asked, tmp_path / "runs")
    text = drawn("head_ablation", write_tables(asked, tmp_path), tmp_path)
    assert "demo: head trained" in text and "frozen: head frozen" in text
    assert "GPT-3" not in text and "course" not in text and "published" not in text


def test_one_protocol_is_no_comparison_of_heads(tmp_path):
    asked = load(config="demo.yaml")
    make_runs(asked, tmp_path / "runs")
    assert "table 6 has one protocol" in drawn(
        "head_ablation", write_tables(asked, tmp_path), tmp_path
    )
