"""Figures are drawn from CSVs alone, are the same bytes twice, and say what they do not show."""

import re
import struct

import pytest
from synthetic import load, make_runs, table

from lora import plots, tables


def words(svg: bytes) -> str:
    """The text of a figure: glyphs are paths, but matplotlib keeps each text as a comment."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.decode(), re.S))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables of a grid with missing and failed runs, and one cell that has none left."""
    place = tmp_path_factory.mktemp("plots")
    asked = load(
        seeds=[0, 1],
        tables=dict(
            table2=table(["roberta-base"], ["sst2", "mrpc"]), table6=table(["roberta-base"], ["mnli"], ("q", "qv"), (1, 8))
        ),
    )
    missing = [("sst2", "qv", 8, 0), ("mnli", "q", 1, 0), ("mnli", "q", 1, 1)]
    make_runs(asked, place / "runs", missing=missing, failed=[("mnli", "qv", 1, 1)])
    tables.collect(asked, place / "runs", place / "runs.csv")
    for name in asked.tables:
        tables.write(asked, place / "runs.csv", name, place / "tables")
    return place / "tables"


@pytest.mark.parametrize("figure", plots.FIGURES)
def test_every_figure_is_drawn_and_is_the_same_bytes_twice(figure, folder, tmp_path):
    for name in ("once", "again"):
        plots.draw(figure, folder, tmp_path / name)
    once = (tmp_path / "once.svg").read_bytes()
    assert once == (tmp_path / "again.svg").read_bytes() and b"<dc:date>" not in once
    picture = (tmp_path / "once.png").read_bytes()
    assert picture == (tmp_path / "again.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and width > 800 and height > 400
    assert "Not shown, of" in words(once)


def test_what_is_absent_is_said(folder, tmp_path):
    plots.draw("rank_curves", folder, tmp_path / "figure")
    text = words((tmp_path / "figure.svg").read_bytes())
    assert "Not shown, of 8 runs: 2 missing, 1 failed." in text
    assert "shape only" in text and "n = 0 to 2" in text


def test_labels_carry_units(folder, tmp_path):
    plots.draw("table2", folder, tmp_path / "figure")
    text = words((tmp_path / "figure.svg").read_bytes())
    assert "accuracy (%)" in text and "n=1" in text and "paper ± its spread" in text and "course ± its spread" in text


@pytest.mark.parametrize("figure", plots.FIGURES)
def test_nothing_to_show_is_a_picture_that_says_so(figure, tmp_path):
    plots.draw(figure, tmp_path / "no tables here", tmp_path / "figure")
    assert "no finished run" in words((tmp_path / "figure.svg").read_bytes())
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("figure", plots.FIGURES)
def test_all_runs_missing_is_a_picture_that_says_so(figure, tmp_path):
    asked = load(config="demo.yaml")
    tables.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    for name in asked.tables:
        tables.write(asked, tmp_path / "runs.csv", name, tmp_path)
    plots.draw(figure, tmp_path, tmp_path / "figure")
    assert "no finished run" in words((tmp_path / "figure.svg").read_bytes())


def test_one_point_of_nothing_published_says_nothing_about_parameters(tmp_path):
    asked = load(config="demo.yaml", tables=dict(table2=table(["minilm"], ["movie-polarity"]), table6=None))
    make_runs(asked, tmp_path / "runs")
    tables.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    tables.write(asked, tmp_path / "runs.csv", "table2", tmp_path)
    plots.draw("parameters", tmp_path, tmp_path / "figure")
    assert "nothing published beside it" in words((tmp_path / "figure.svg").read_bytes())


def test_an_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no figure 'pie'; there are: table2, rank_curves"):
        plots.draw("pie", tmp_path, tmp_path / "figure")
    assert list(tmp_path.iterdir()) == []
