"""The comparison of trained and frozen heads."""

from helpers.figures import draw_text, write_tables
from helpers.synthetic import load, make_runs, table


def test_heads_are_compared_if_table6_has_two_protocols(folder, tmp_path):
    text = draw_text("head_ablation", folder, tmp_path)
    assert "course: head trained" in text and "frozen: head frozen" in text
    assert "paper, GPT-3 175B, shape only" in text
    assert "Not shown, of 16 runs: 4 missing, 2 failed." in text


def test_heads_are_compared_with_published_curves_only_on_mnli(tmp_path):
    table6 = table(
        ["minilm"], ["product-sentiment"], ("q", "qv"), (1, 8), protocols=["demo", "frozen"]
    )
    grid = load(
        config="demo.yaml",
        protocols=dict(frozen=dict(base="demo", head="frozen")),
        tables=dict(table6=table6),
    )
    make_runs(grid, tmp_path / "runs")
    text = draw_text("head_ablation", write_tables(grid, tmp_path), tmp_path)
    assert "demo: head trained" in text and "frozen: head frozen" in text
    assert "GPT-3" not in text and "course" not in text and "published" not in text


def test_heads_are_not_compared_if_table6_has_one_protocol(tmp_path):
    grid = load(config="demo.yaml")
    make_runs(grid, tmp_path / "runs")
    text = draw_text("head_ablation", write_tables(grid, tmp_path), tmp_path)
    assert "table 6 has one protocol" in text
