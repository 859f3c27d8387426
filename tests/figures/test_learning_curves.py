"""Learning curves show the numbers of <table>_curves.csv."""

from helpers.figures import draw_text, write_tables
from helpers.synthetic import load, make_runs, table

from lora.figures.learning_curves import learning_curves
from lora.figures.rows import read_table

TABLE6 = table(["roberta-base"], ["mnli"], ("q", "qv"), (1, 8))


def test_lines_are_the_means_over_runs(folder):
    rows = read_table(folder, "table2", "_curves")
    figure = learning_curves(folder)
    panels = {ax.get_title().splitlines()[0]: ax for ax in figure.axes if ax.get_title()}
    assert set(panels) == {row["task_title"] for row in rows}
    for title, ax in panels.items():
        cell = [row for row in rows if row["task_title"] == title]
        (line,) = ax.lines
        assert list(line.get_xdata()) == [row["epoch"] for row in cell]
        assert list(line.get_ydata()) == [row["metric_mean"] for row in cell]
        assert line.get_marker() == "o"


def test_one_cell_per_panel_is_named_in_the_title(folder, tmp_path):
    text = draw_text("learning_curves", folder, tmp_path)
    assert "LoRA $W_q$, $W_v$ r=8, n = 1" in text and "evaluation loss" in text


def test_table6_has_a_panel_for_each_weight_type_and_a_line_for_each_rank(tmp_path):
    grid = load(seeds=[0, 1], tables=dict(table2=None, table6=TABLE6))
    make_runs(grid, tmp_path / "runs")
    figure = learning_curves(write_tables(grid, tmp_path))
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title().splitlines()[-1] for ax in panels] == [
        "$W_q$, n = 2",
        "$W_q$, $W_v$, n = 2",
    ]
    for ax in panels:
        assert [line.get_label() for line in ax.lines] == ["r=1", "r=8"]
    colours = [[line.get_color() for line in ax.lines] for ax in panels]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2
