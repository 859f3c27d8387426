"""The majority class, against scikit-learn through the metrics of training.

The kind: every metric of classification, two or more classes, ties, a class that is absent, a
majority of class 0 and of class 1, MNLI's second set and both sets, regression, and runs of an
earlier version that recorded no labels.
"""

import math

import numpy as np
import pytest
from helpers.synthetic import epochs, load, make_table, table, write_run

from lora.tables import majority
from lora.training.metrics import CLASSIFICATION, evaluate_predictions


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("metric", CLASSIFICATION)
@pytest.mark.parametrize(
    "counts",
    [(3, 7), (7, 3), (5, 5), (0, 4), (4, 0), (2, 5, 3), (5, 0, 3), (4, 4, 1), (1, 1, 1, 6)],
)
def test_values_are_scikit_learns(metric, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = np.zeros((len(labels), len(counts)))
    logits[:, int(np.argmax(counts))] = 1
    expected = evaluate_predictions(len(counts), logits, labels)[metric]
    assert majority.value(metric, dict(enumerate(counts)), len(counts)) == pytest.approx(expected)


def made(tmp_path, task="sst2", counts=None, name="table2", metric="accuracy"):
    weights = ("q", "qv") if name != "table2" else ("qv",)
    own = table(["roberta-base"], [task], weights)
    asked = load(seeds=[0, 1], tables=dict(table2=None, table6=None) | {name: own})
    for cell in asked.cells:
        for seed in asked.seeds:
            data = dict(source="local folder", tokens_sha256="ab" * 32)
            of_run = counts[seed] if isinstance(counts, list) else counts
            data |= dict(label_counts=of_run) if of_run else {}
            rows = epochs([0.8, 0.9, 0.7], metric)
            if task == "mnli":
                for row in rows:
                    row |= dict(accuracy_mismatched=0.8, accuracy_overall=0.8)
            write_run(asked, cell, seed, tmp_path / "runs", rows, data=data)
    return make_table(asked, tmp_path, name)


def majority_lines(result) -> list[tuple[str, ...]]:
    sections = [s for s in result.page.sections if "of the evaluation set" in s.title]
    return [line.cells for section in sections for line in section.lines]


def test_table2_has_a_row(tmp_path):
    result = made(tmp_path, counts=dict(validation={"0": 428, "1": 444}))
    assert majority_lines(result) == [("majority class", "–", "50.9")]
    assert result.cells[0]["majority"] == pytest.approx(100 * 444 / 872)
    assert any(note.startswith("Majority class: the metric") for note in result.page.footnotes)


@pytest.mark.parametrize("name", ["table5", "table6"])
def test_the_tables_of_ranks_have_a_row(tmp_path, name):
    (line,) = majority_lines(made(tmp_path, counts=dict(validation={"0": 1, "1": 3}), name=name))
    assert line[0] == "SST-2" and "75.0" in line


def test_mnli_has_a_value_for_each_evaluation_set(tmp_path):
    counts = dict(
        validation_matched={"0": 2, "1": 1, "2": 1}, validation_mismatched={"0": 0, "1": 1, "2": 3}
    )
    cells = {cell["column"]: cell["majority"] for cell in made(tmp_path, "mnli", counts).cells}
    assert cells == {"mnli": 50, "mnli-mm": 75, "mnli-all": 50}


@pytest.mark.parametrize(
    "counts", [None, [dict(validation={"0": 1, "1": 3}), dict(validation={"0": 2, "1": 3})]]
)
def test_without_the_same_counts_there_is_a_note_and_no_row(tmp_path, counts):
    result = made(tmp_path, counts=counts)
    assert majority_lines(result) == [] and math.isnan(result.cells[0]["majority"])
    assert any(note.startswith("No majority class for SST-2") for note in result.page.footnotes)


def test_regression_has_no_row_and_no_note(tmp_path):
    result = made(tmp_path, "stsb", metric="pearson")
    assert majority_lines(result) == []
    assert not [note for note in result.page.footnotes if "ajority" in note]
