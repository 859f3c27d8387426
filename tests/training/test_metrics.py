"""Metrics against a worked example, scikit-learn, scipy and `evaluate` itself."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lora.training.metrics import CLASSIFICATION, DIGITS, REGRESSION, evaluate_predictions


def one_hot(classes, num_labels):
    return np.eye(num_labels, dtype=np.float32)[classes]


def test_worked_example_of_two_classes():
    # even n; class 1: 2 true positives, 1 false positive, 2 false negatives, 3 true negatives
    labels, predictions = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0]
    got = evaluate_predictions(2, one_hot(predictions, 2), np.array(labels, dtype=np.float32))
    assert got["accuracy"] == 5 / 8
    assert got["precision"] == 2 / 3
    assert got["recall"] == 2 / 4
    assert got["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5), abs=1e-15)
    assert got["matthews"] == pytest.approx((2 * 3 - 1 * 2) / math.sqrt(3 * 4 * 4 * 5), abs=1e-15)
    assert all(math.isnan(got[name]) for name in REGRESSION)


def test_worked_example_of_three_classes_with_one_never_predicted():
    labels, predictions = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 1]
    got = evaluate_predictions(3, one_hot(predictions, 3), np.array(labels))
    assert got["accuracy"] == 3 / 6
    assert got["precision"] == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert got["recall"] == pytest.approx((1 / 2 + 2 / 2 + 0) / 3)
    assert got["f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert got["matthews"] == sk.matthews_corrcoef(labels, predictions)


@pytest.mark.parametrize("num_labels", [2, 3, 5])
def test_rates_are_scikit_learns(num_labels):
    random = np.random.default_rng(7)
    logits, labels = random.normal(size=(200, num_labels)), random.integers(num_labels, size=200)
    got, predictions = evaluate_predictions(num_labels, logits, labels), logits.argmax(1)
    average = "binary" if num_labels == 2 else "macro"
    assert got["accuracy"] == sk.accuracy_score(labels, predictions)
    assert got["matthews"] == sk.matthews_corrcoef(labels, predictions)
    for name, function in dict(
        f1=sk.f1_score, precision=sk.precision_score, recall=sk.recall_score
    ).items():
        assert got[name] == pytest.approx(function(labels, predictions, average=average), abs=1e-15)


def test_correlations_are_scipys_with_ties_and_an_even_count():
    labels = np.array([5.0, 3.8, 3.8, 2.0, 0.0, 2.0, 4.4, 1.1])
    predictions = np.array([4.0, 4.0, 3.0, 2.5, -1.0, 2.5, 5.5, 2.5])
    got = evaluate_predictions(
        1, predictions[:, None].astype(np.float32), labels.astype(np.float32)
    )
    # by hand: ranks with ties averaged, then Pearson's formula on them
    ranks = stats.rankdata(predictions), stats.rankdata(labels)
    centred = [rank - rank.mean() for rank in ranks]
    by_hand = (centred[0] @ centred[1]) / math.sqrt(
        (centred[0] @ centred[0]) * (centred[1] @ centred[1])
    )
    assert got["spearman"] == pytest.approx(by_hand, abs=10**-DIGITS)  # rounded to so many digits
    assert got["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1], abs=1e-7)
    assert all(math.isnan(got[name]) for name in CLASSIFICATION)


def test_constant_predictions_are_zero_or_nan_by_convention_and_silent():
    got = evaluate_predictions(2, one_hot([0, 0, 0, 0], 2), np.array([0, 1, 1, 0]))
    assert (got["accuracy"], got["f1"], got["precision"], got["matthews"]) == (0.5, 0, 0, 0)
    for predictions, labels in [([2, 2, 2], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1])]:
        got = evaluate_predictions(1, np.array(predictions, dtype=float)[:, None], np.array(labels))
        assert math.isnan(got["pearson"]) and math.isnan(got["spearman"])
    almost = 1e6 + np.array([[0.0], [1e-10], [2e-10]])
    assert set(evaluate_predictions(1, almost, np.array([1.0, 2.0, 3.0]))) == set(
        CLASSIFICATION + REGRESSION
    )


def test_logits_that_are_not_finite_give_no_figure():
    got = evaluate_predictions(2, np.array([[0.0, np.nan], [1.0, 0.0]]), np.array([0, 1]))
    assert all(math.isnan(value) for value in got.values())


@pytest.mark.parametrize(
    "num_labels, logits, labels, message",
    [
        (2, np.zeros((3, 3)), np.zeros(3), r"shape \(3, 3\).*allowed: \(n, 2\)"),
        (2, np.zeros((3, 2)), np.zeros(4), r"labels \(4,\)"),
        (2, np.zeros((0, 2)), np.zeros(0), "n above 0"),
        (2, np.zeros((2, 2)), np.array([0, 2]), "the classes 0 to 1"),
        (1, np.zeros((2, 1)), np.array([0, np.inf]), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(num_labels, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(num_labels, logits, labels)


def test_it_is_evaluates_own_metric_class_and_needs_neither_torch_nor_network(tmp_path):
    program = (
        "import sys, numpy as np; from lora.training import metrics\n"
        "heavy = {'torch', 'pandas', 'scipy', 'sklearn', 'datasets', 'evaluate'}\n"
        "assert not heavy & set(sys.modules)\n"
        "metrics.evaluate_predictions(2, np.eye(2), np.array([0, 1]))\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "import evaluate; assert isinstance(metrics._metric(2), evaluate.Metric)\n"
        "assert evaluate.load\n"
    )
    environment = os.environ | {
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=environment)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
