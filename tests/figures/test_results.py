"""Figures are drawn from CSVs alone, are the same bytes twice, and say what they do not show."""

import struct

import pytest
from helpers.figures import drawn, words, write_tables
from helpers.synthetic import load, make_runs, table

from lora.figures import results


@pytest.mark.parametrize("figure", results.FIGURES)
def test_every_figure_is_drawn_and_is_the_same_bytes_twice(figure, folder, tmp_path):
    for name in ("once", "again"):
        results.draw(figure, folder, tmp_path / name)
    once = (tmp_path / "once.svg").read_bytes()
    assert once == (tmp_path / "again.svg").read_bytes() and b"<dc:date>" not in once
    picture = (tmp_path / "once.png").read_bytes()
    assert picture == (tmp_path / "again.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and width > 800 and height > 400
    assert "Not shown, of" in words(once)


def test_what_is_absent_is_said(folder, tmp_path):
    text = drawn("rank_curves", folder, tmp_path)
    assert "Not shown, of 16 runs: 4 missing, 2 failed." in text
    assert "shape only" in text and "n = 0 to 2" in text


def test_labels_carry_units(folder, tmp_path):
    text = drawn("table2", folder, tmp_path)
    assert (
        "accuracy (%)" in text
        and "n=1 of 2" in text
        and "paper ± its spread" in text
        and "course ± its spread" in text
    )


@pytest.mark.parametrize("figure", results.FIGURES)
def test_nothing_to_show_is_a_picture_that_says_so(figure, tmp_path):
    assert "no finished run" in drawn(figure, tmp_path / "no tables here", tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("figure", results.FIGURES)
def test_all_runs_missing_is_a_picture_that_says_so(figure, tmp_path):
    assert "no finished run" in drawn(
        figure, write_tables(load(config="demo.yaml"), tmp_path), tmp_path
    )


def test_one_point_of_nothing_published_says_nothing_about_parameters(tmp_path):
    asked = load(
        config="demo.yaml", tables=dict(table2=table(["minilm"], ["movie-polarity"]), table6=None)
    )
    make_runs(asked, tmp_path / "runs")
    assert "nothing published beside it" in drawn(
        "parameters", write_tables(asked, tmp_path), tmp_path
    )


@pytest.mark.parametrize("figure", [name for name in results.FIGURES if name != "head_ablation"])
def test_every_method_is_in_the_figures_of_table2(figure, methods, tmp_path):
    """Each row under a label of its own; the figures of table 6 alone are of LoRA."""
    text = drawn(figure, methods, tmp_path)
    if figure != "rank_curves":
        for name in ("FT", "BitFit", "Adpt$^D$", "Adpt$^P$", "Adpt$^H$", "LoRA $W_q$, $W_v$"):
            assert name in text, name
        assert "Not shown, of" in text and "2 missing, 1 failed" in text
    else:
        assert "Not shown" not in text


def test_an_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no figure 'pie'; there are: table2, rank_curves"):
        results.draw("pie", tmp_path, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []
