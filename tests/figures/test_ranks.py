"""Rank curves and the comparison of heads."""

from helpers.figures import drawn, write_tables
from helpers.synthetic import load, make_runs, table


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
