"""Texts of figures have one size, fit and do not overlap; panels of one task share their axis."""

import matplotlib
import pytest
from helpers.figures import check_texts, write_tables
from helpers.synthetic import load, make_runs, table

from lora import files
from lora.columns import TABLE_COLUMNS
from lora.figures import layout, results, style
from lora.figures.rows import read_table

LONG = "Sentiment of reviews of household products in three languages"
GRIDS = ("folder", "methods", "few", "user")


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Tables of the demo's grid: four tasks of two epochs, long metrics, and a majority class."""
    path = tmp_path_factory.mktemp("few")
    grid = load(config="demo.yaml", seeds=[0, 1])
    make_runs(grid, path / "runs")
    tables = write_tables(grid, path)
    for name in grid.tables:
        rows = [row | dict(majority=66.7) for row in read_table(tables, name)]
        files.write_csv(tables / f"{name}.csv", TABLE_COLUMNS, rows)
    return tables


@pytest.fixture(scope="session")
def user(tmp_path_factory):
    """Tables of 12 epochs and many lines: two models, two protocols, and a task of a long title."""
    path = tmp_path_factory.mktemp("user")
    models, protocols = ["roberta-base", "roberta-large"], ["course", "frozen"]
    grid = load(
        seeds=[0, 1],
        overrides=dict(epochs=12),
        tables=dict(
            table5=table(models, ["sst2"], ("q", "qk", "qv", "qkvo"), (8,)),
            table6=table(models, ["rte"], ("q", "qv", "qkvo"), (1, 2, 8), protocols=protocols),
        ),
        protocols=dict(frozen=dict(base="course", head="frozen")),
    )
    make_runs(grid, path / "runs")
    tables = write_tables(grid, path)
    for file in tables.glob("*.csv"):
        file.write_text(file.read_text().replace(",RTE,", f",{LONG},"))
    return tables


@pytest.fixture(params=[(grid, figure) for grid in GRIDS for figure in results.FIGURES])
def drawn(request):
    """Every figure of every grid, with the style in force."""
    grid, figure = request.param
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style.STYLE}):
        yield figure, results.FIGURES[figure](request.getfixturevalue(grid))


def test_texts_have_one_size_fit_and_do_not_overlap(drawn):
    _, drawing = drawn
    if drawing.figure.axes:
        check_texts(drawing.figure)


def test_panels_of_one_task_have_the_same_axis_of_the_metric(drawn):
    """Of all models, protocols, weight types and published panels; losses too.

    A published model without runs, GPT-3, has its own axis.
    """
    figure, drawing = drawn
    titles = ("MNLI", "SST-2", "MRPC", "CoLA", "RTE", "Product sentiment", LONG[:9])
    limits = {}
    for ax in drawing.figure.axes:
        task = next((one for one in titles if one in ax.get_title().replace("\n", " ")), None)
        if ax.axison and task:
            limit = ax.get_xlim() if figure == "table2" else ax.get_ylim()
            limits.setdefault((task, "GPT-3" in ax.get_title()), set()).add(limit)
    assert limits or not drawing.figure.axes or figure == "table2"
    assert all(len(found) == 1 for found in limits.values()), limits
    if figure == "learning_curves" and limits:
        axes = [ax for ax in drawing.figure.axes if ax.axison]
        losses = {}
        for upper in (ax for ax in axes if ax.get_title()):
            lower = min(
                (ax for ax in axes if not ax.get_title() and is_below(ax, upper)),
                key=lambda ax: upper.get_position().y0 - ax.get_position().y0,
            )
            title = upper.get_title().replace("\n", " ")
            task = next(one for one in (*titles, title) if one in title)
            losses.setdefault(task, set()).add(lower.get_ylim())
        assert all(len(found) == 1 for found in losses.values())


def is_below(ax, other):
    box, above = ax.get_position(), other.get_position()
    return abs(box.x0 - above.x0) < 1e-6 and box.y0 < above.y0


def test_no_text_but_the_caption_speaks_of_the_papers_task_for_other_tasks(few):
    """The grid has no GLUE task; the caption says what the published panel is about."""
    for name, draw in results.FIGURES.items():
        drawing = draw(few)
        titles = [ax.get_title() for ax in drawing.figure.axes]
        assert not any("MNLI" in title for title in (*titles, drawing.title, drawing.alt))
        caption = " ".join(drawing.figure.get_supxlabel().split()) if titles else ""
        assert ("MNLI" in caption) == (name == "rank_curves")


def test_a_formula_in_a_title_is_not_cut():
    with matplotlib.rc_context(style.STYLE):
        _, axes = layout.panels(1, 4, 1.0)
        layout.set_title(axes[0][0], r"LoRA $W_q$, $W_v$ where $j \leq i$ of the model, n = 3", 4)
    lines = axes[0][0].get_title().splitlines()
    assert len(lines) > 1 and all(line.count("$") % 2 == 0 for line in lines)
    assert any("n = 3" in line for line in lines)
