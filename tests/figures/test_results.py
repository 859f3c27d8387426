"""Figures are drawn from CSV files alone, have the same bytes twice, and count absent runs."""

import struct

import pytest
from helpers.figures import draw_text, words, write_tables
from helpers.synthetic import load

from lora.figures import results


@pytest.mark.parametrize("figure", results.FIGURES)
def test_a_figure_has_the_same_bytes_twice(figure, folder, tmp_path):
    for name in ("once", "again"):
        results.draw(figure, folder, tmp_path / name)
    svg = (tmp_path / "once.svg").read_bytes()
    assert svg == (tmp_path / "again.svg").read_bytes() and b"<dc:date>" not in svg
    png = (tmp_path / "once.png").read_bytes()
    assert png == (tmp_path / "again.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and width > 800 and height > 400
    assert "Not shown, of" in words(svg)


@pytest.mark.parametrize("figure", results.FIGURES)
def test_without_tables_the_figure_says_that_no_run_is_finished(figure, tmp_path):
    assert "no finished run" in draw_text(figure, tmp_path / "no tables here", tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("figure", results.FIGURES)
def test_without_runs_the_figure_says_that_no_run_is_finished(figure, tmp_path):
    tables = write_tables(load(config="demo.yaml"), tmp_path)
    assert "no finished run" in draw_text(figure, tables, tmp_path)


@pytest.mark.parametrize("figure", [name for name in results.FIGURES if name != "head_ablation"])
def test_every_method_of_table2_is_labelled(figure, methods, tmp_path):
    """Table 6 has LoRA only, and so have its figures."""
    text = draw_text(figure, methods, tmp_path)
    if figure in ("rank_curves", "rank_cost"):
        assert "Not shown" not in text
        return
    for name in ("FT", "BitFit", "Adpt$^D$", "Adpt$^P$", "Adpt$^H$", "LoRA $W_q$, $W_v$"):
        assert name in text, name
    assert "Not shown, of" in text and "2 missing, 1 failed" in text


def test_an_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no figure 'pie'; there are: table2, rank_curves"):
        results.draw("pie", tmp_path, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []
