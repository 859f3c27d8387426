"""Marks of runs with constant predictions, in each figure that shows runs.

The kind: cells of which all runs are constant, one run is, and one run is at its last epoch only;
figures of the best and of the last epoch, with and without stars.
"""

import re

import matplotlib
import pytest
from helpers.figures import check_texts, write_tables
from helpers.synthetic import epochs, load, table, write_run
from matplotlib.container import ErrorbarContainer

from lora.figures import results, style
from lora.figures.rows import read_table

OTHERS = dict(accuracy=[0.8] * 3, f1=[0.8] * 3, precision=[0.8] * 3, recall=[0.8] * 3)
ZERO = dict(accuracy=0.69, f1=0.8, precision=0.69, recall=1.0)
GOOD = [0.5, 0.6, 0.55]
CONSTANT = {  # weights, rank, seed -> Matthews correlation by epoch; 0 is constant
    ("q", 1, 0): [0.0, 0.0, 0.0],
    ("q", 1, 1): [0.0, 0.0, 0.0],
    ("qv", 8, 1): [0.0, 0.0, 0.0],
    ("q", 8, 1): [0.5, 0.55, 0.0],
}
STARS = dict(table2=3, rank_curves=3, parameters=3, head_ablation=4, rank_cost=4)
LAST = ("head_ablation", "rank_cost")  # figures of the last epoch
RUNS = dict(table2=8, learning_curves=8)  # of table 2; the others have those of both tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables on CoLA with two protocols in table 6; CONSTANT are runs of the first."""
    path = tmp_path_factory.mktemp("constant")
    cells = (["roberta-base"], ["cola"], ("q", "qv"), (1, 8))
    grid = load(
        seeds=[0, 1],
        protocols=dict(frozen=dict(base="course", head="frozen")),
        tables=dict(
            table2=table(*cells, protocols=["course"]),
            table6=table(*cells, protocols=["course", "frozen"]),
        ),
    )
    for cell in grid.cells:
        for seed in grid.seeds:
            key = (cell.weights, cell.rank, seed)
            values = CONSTANT.get(key, GOOD) if cell.protocol == "course" else GOOD
            others = {
                name: [
                    good if value else ZERO[name] for value, good in zip(values, of, strict=True)
                ]
                for name, of in OTHERS.items()
            }
            write_run(grid, cell, seed, path / "runs", epochs(values, "matthews", **others))
    return write_tables(grid, path)


def drawn(figure, name):
    """Return the values of all stars, and those of all points with error bars."""
    side = 0 if name == "table2" else 1
    stars, points = [], []
    for ax in figure.axes:
        for line in ax.lines:
            if line.get_label() == style.CONSTANT:
                assert line.get_marker() == style.STAR
                stars += line.get_xydata()[:, side].tolist()
        for one in ax.containers:
            if isinstance(one, ErrorbarContainer) and one.get_label() != "one run":
                points += one.lines[0].get_xydata()[:, side].tolist()
    return stars, points


@pytest.mark.parametrize("name", STARS)
def test_constant_runs_are_stars_and_cells_of_them_alone_have_no_other_mark(name, tables):
    """Every star is at 0; the other cells have their statistic."""
    figure = results.FIGURES[name](tables).figure
    stars, points = drawn(figure, name)
    assert stars == [0.0] * STARS[name]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()].count(style.CONSTANT) == 1
    statistic = "last_mean" if name in LAST else "best_median"
    cells = read_table(tables, "table2" if name == "table2" else "table6")
    expected = [
        cell[statistic]
        for cell in cells
        if (cell["weights"], cell["rank"], cell["protocol"]) != ("q", 1, "course")
    ]
    assert len(expected) == len(cells) - 1
    for value in expected:
        points.remove(value)
    assert 0.0 not in points


@pytest.mark.parametrize("name", results.FIGURES)
def test_the_caption_and_the_text_count_constant_runs(name, tables):
    drawing = results.FIGURES[name](tables)
    total = RUNS.get(name, 16)
    caption = " ".join(drawing.figure.get_supxlabel().split())
    assert f"Constant: 4 of {total} runs predict one class only" in caption
    assert ("no other mark" in caption) == (name in STARS)
    assert f"; 4 of {total} runs predict one class)" in drawing.alt
    assert 1 <= len(re.findall(r"[^.]\.(?= [A-Z]|$)", drawing.alt)) <= 3
    assert name not in STARS or " 0.0 (" not in drawing.alt


@pytest.mark.parametrize("name", results.FIGURES)
def test_texts_of_figures_with_constant_runs_do_not_overlap(name, tables):
    with matplotlib.rc_context(style.STYLE):
        check_texts(results.FIGURES[name](tables).figure)


@pytest.mark.parametrize("name", results.FIGURES)
def test_a_figure_of_constant_runs_alone_is_drawn(name, tmp_path):
    cells = (["roberta-base"], ["cola"], ("q",), (1, 8))
    grid = load(
        seeds=[0],
        protocols=dict(frozen=dict(base="course", head="frozen")),
        tables=dict(
            table2=table(*cells, protocols=["course"]),
            table6=table(*cells, protocols=["course", "frozen"]),
        ),
    )
    for cell in grid.cells:
        others = {key: [value] * 3 for key, value in ZERO.items()}
        write_run(grid, cell, 0, tmp_path / "runs", epochs([0.0] * 3, "matthews", **others))
    results.draw(name, write_tables(grid, tmp_path), tmp_path / name)
    text = (tmp_path / f"{name}.txt").read_text(encoding="utf-8")
    total = 2 if name in RUNS else 4
    assert f"{total} of {total} runs predict one class" in text
    assert name not in STARS or ": none." in text
