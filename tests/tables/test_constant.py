"""Constant predictions, against scikit-learn through the metrics of training.

The kind: predictions of one class, of any class, in tasks of two and more classes, with balanced
and skewed labels, with a class that no example has; and predictions that only look alike: a
Matthews correlation of exactly 0 without being constant, all right, all wrong, regression.
"""

import math

import numpy as np
import pytest
from helpers.figures import draw_text, write_tables
from helpers.synthetic import epochs, load, make_table, table, write_run
from helpers.tables import lines_of
from sklearn.metrics import matthews_corrcoef

from lora.experiment import registry
from lora.tables import cells, collect, constant, differences, labels, render, selection
from lora.training.metrics import CLASSIFICATION, evaluate_predictions

COLA, MNLI, STSB = (registry.task(name) for name in ("cola", "mnli", "stsb"))
LABELS = [(3, 7), (7, 3), (5, 5), (1, 9), (2, 5, 3), (4, 4, 4), (1, 1, 9), (0, 4, 6)]


def row_of(task, labels, predictions) -> dict:
    """Return a row of runs.csv with the metrics of these predictions."""
    count = task.num_labels
    values = evaluate_predictions(count, np.eye(count)[predictions], np.asarray(labels))
    names, numbers = np.unique(labels, return_counts=True)
    text = {str(name): int(number) for name, number in zip(names, numbers, strict=True)}
    return values | dict(label_counts=str({task.eval_splits[0]: text}).replace("'", '"'))


@pytest.mark.parametrize("counts", LABELS)
def test_predictions_of_one_class_are_constant_and_others_are_not(counts):
    """Every example's prediction is drawn at random, 300 times; labels are shuffled."""
    task = COLA if len(counts) == 2 else MNLI
    labels = np.repeat(np.arange(len(counts)), counts)
    for number in range(len(counts)):
        row = row_of(task, labels, np.full(len(labels), number))
        if counts[number] or len(counts) == 2:
            assert constant.of_epoch(task, row) == 1
        assert row["matthews"] == matthews_corrcoef(labels, np.full(len(labels), number)) == 0
    random = np.random.default_rng(0)
    exactly_zero = 0
    for _ in range(300):
        predictions = random.choice(len(counts), len(labels))
        row = row_of(task, labels, predictions)
        only_one_right = len(set(predictions)) == 1
        exactly_zero += row["matthews"] == 0 and not only_one_right
        assert constant.of_epoch(task, row) == only_one_right, predictions
    if counts in ((5, 5), (4, 4, 4)):
        assert exactly_zero > 3  # the test has cases that Matthews alone would get wrong


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("predictions", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_labels_of_one_class_do_not_hide_what_is_predicted(labels, predictions):
    row = row_of(COLA, labels, predictions)
    assert constant.of_epoch(COLA, row) == (len(set(predictions)) == 1)


@pytest.mark.parametrize("size", [1043, 9815, 40430])
def test_one_other_prediction_of_many_is_not_constant(size):
    """The smallest difference of the sum of precisions and accuracy is far above rounding."""
    for task, last in ((COLA, 1), (MNLI, 2)):
        labels = np.arange(size) % task.num_labels
        predictions = np.zeros(size, int)
        assert constant.of_epoch(task, row_of(task, labels, predictions)) == 1
        predictions[last] = last
        assert constant.of_epoch(task, row_of(task, labels, predictions)) == 0


def test_unknown_without_the_metrics_and_for_regression():
    row = dict.fromkeys(CLASSIFICATION, math.nan) | dict(accuracy=0.5, label_counts="")
    assert math.isnan(constant.of_epoch(COLA, row))
    assert math.isnan(constant.of_epoch(STSB, row | dict.fromkeys(CLASSIFICATION, 0.0)))


ZERO = dict(accuracy=[0.69] * 3, f1=[0.8] * 3, precision=[0.69] * 3, recall=[1.0] * 3)
GOOD = dict(accuracy=[0.8] * 3, f1=[0.8] * 3, precision=[0.8] * 3, recall=[0.8] * 3)


def grid_of(folder, constants, name="table2", missing=0):
    """Return a grid on CoLA, and write its runs: constant for the first seeds, else 0.5 to 0.6."""
    weights, ranks = (("qv",), (8,)) if name == "table2" else (("q", "qv"), (8, 4))
    own = table(["roberta-base"], ["cola"], weights, (8,) if name != "table6" else ranks)
    grid = load(seeds=[0, 1, 2], tables=dict(table2=None, table6=None) | {name: own})
    for cell in grid.cells:
        of_cell = constants if cell == grid.cells[0] else 0
        for seed in grid.seeds[: len(grid.seeds) - missing]:
            series = [0.0] * 3 if seed < of_cell else [0.5, 0.55, 0.6]
            others = ZERO if seed < of_cell else GOOD
            write_run(grid, cell, seed, folder / "runs", epochs(series, "matthews", **others))
    return grid


@pytest.mark.parametrize(
    "constants, missing, best",
    [
        (3, 0, "constant"),
        (3, 1, "constant (n=2 of 3)"),
        (1, 0, "60.0 [0.0, 60.0] (1 of 3 constant)"),
        (1, 1, "30.0 [0.0, 60.0] (n=2 of 3; 1 of 2 constant)"),
        (0, 0, "60.0 [60.0, 60.0]"),
    ],
)
def test_a_cell_says_how_many_of_its_runs_are_constant(tmp_path, constants, missing, best):
    result = make_table(grid_of(tmp_path, constants, missing=missing), tmp_path)
    (cell,) = result.cells
    assert labels.ours(cell, "best_median", ("best_min", "best_max")) == best
    assert lines_of(result.page, "ours")[0][2] == best.split(" ")[0]
    if "(" in best:
        for remark in best.partition("(")[2].rstrip(")").split("; "):
            assert f"{remark}." in result.page.footnotes
    finished = min(constants, 3 - missing)
    assert cell["best_constant"] == cell["last_constant"] == finished
    assert [line["best_constant"] for line in result.best[: 3 - missing]] == [
        int(seed < constants) for seed in range(3 - missing)
    ]
    noted = [note for note in result.page.footnotes if note.startswith("“constant”: at this epoch")]
    assert len(noted) == (constants > 0)
    is_all = finished == 3 - missing
    assert math.isnan(cell["difference"]) == is_all
    for text in (render.to_markdown(result.page), render.to_html(result.page)):
        assert ("constant" in text) == (constants > 0) and best.split(" ")[0] in text
    assert best.split(" ")[0] in render.to_latex(result.page)


@pytest.mark.parametrize("name", ["table5", "table6"])
def test_constant_cells_are_in_no_spread_of_ranks_or_weights(tmp_path, name):
    result = make_table(grid_of(tmp_path, 3, name), tmp_path, name)
    lines = lines_of(result.page, "ours")
    first = next(line for line in lines if "constant" in line)
    assert "0.0" not in first[:-1] and not first[-1].startswith("60")


@pytest.mark.parametrize("constants, noted", [(2, 1), (0, 0)])
@pytest.mark.parametrize("summary", [selection, differences])
def test_tables_of_all_cells_count_constant_runs(tmp_path, summary, constants, noted):
    grid = grid_of(tmp_path, constants, "table6")
    collect.collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    _, page = summary.make(grid, tmp_path / "runs.csv")
    found = [note for note in page.footnotes if note.startswith("2 of 12 runs predict one class")]
    assert len(found) == noted


def test_figures_name_constant_runs(tmp_path):
    """Table 2 and Table 6: hollow squares with a label, and a count in the caption."""
    for name, figures in (("table2", ("table2", "parameters")), ("table6", ("rank_curves",))):
        folder = tmp_path / name
        tables = write_tables(grid_of(folder, 3, name), folder)
        for figure in figures:
            text = draw_text(figure, tables, folder)
            assert "one run, constant predictions" in text, figure
            assert "Constant: 3 of " in text.replace("\n", " "), figure


def test_an_average_with_constant_runs_is_marked():
    row = dict(metric="average", n=3, n_expected=3, best_median=70.0, best_min=math.nan)
    row |= dict(best_max=math.nan, best_constant=3, last_constant=0)
    assert not constant.is_constant(row, "best_median")
    assert cells.layout.ours(row, "best_median", ("best_min", "best_max")).endswith("(3 constant)")
