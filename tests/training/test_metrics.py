"""Metrics against worked examples, scikit-learn, scipy and `evaluate`."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from lora.training.metrics import CLASSIFICATION, DIGITS, REGRESSION, evaluate_predictions


def one_hot(classes: list[int], num_labels: int) -> np.ndarray:
    """Return logits whose argmax is the given classes, shape [n, num_labels], float32."""
    return np.eye(num_labels, dtype=np.float32)[classes]


def test_two_classes_equal_a_worked_example():
    # class 1: 2 true positives, 1 false positive, 2 false negatives, 3 true negatives
    labels, predictions = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0]
    got = evaluate_predictions(2, one_hot(predictions, 2), np.array(labels, dtype=np.float32))
    assert got["accuracy"] == 5 / 8
    assert got["precision"] == 2 / 3
    assert got["recall"] == 2 / 4
    assert got["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5), abs=1e-15)
    assert got["matthews"] == pytest.approx((2 * 3 - 1 * 2) / math.sqrt(3 * 4 * 4 * 5), abs=1e-15)
    assert all(math.isnan(got[name]) for name in REGRESSION)


def test_three_classes_equal_a_worked_example():
    """One class is never predicted."""
    labels, predictions = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 0, 1]
    got = evaluate_predictions(3, one_hot(predictions, 3), np.array(labels))
    assert got["accuracy"] == 3 / 6
    assert got["precision"] == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert got["recall"] == pytest.approx((1 / 2 + 2 / 2 + 0) / 3)
    assert got["f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert got["matthews"] == sk.matthews_corrcoef(labels, predictions)


@pytest.mark.parametrize("num_labels", [2, 3, 5])
def test_classification_metrics_equal_scikit_learn(num_labels):
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


def test_correlations_with_ties_equal_a_worked_example():
    labels = np.array([5.0, 3.8, 3.8, 2.0, 0.0, 2.0, 4.4, 1.1])
    predictions = np.array([4.0, 4.0, 3.0, 2.5, -1.0, 2.5, 5.5, 2.5])
    got = evaluate_predictions(
        1, predictions[:, None].astype(np.float32), labels.astype(np.float32)
    )
    # Spearman: ranks with ties averaged (scipy), then Pearson's formula
    ranks = stats.rankdata(predictions), stats.rankdata(labels)
    x, y = (rank - rank.mean() for rank in ranks)
    spearman = (x @ y) / math.sqrt((x @ x) * (y @ y))
    assert got["spearman"] == pytest.approx(spearman, abs=10**-DIGITS)  # rounded to DIGITS
    assert got["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1], abs=1e-7)
    assert all(math.isnan(got[name]) for name in CLASSIFICATION)


def test_constant_predictions_give_zero_or_nan_without_warnings():
    """Matthews is 0 by convention; correlations are NaN. Warnings are errors in these tests."""
    got = evaluate_predictions(2, one_hot([0, 0, 0, 0], 2), np.array([0, 1, 1, 0]))
    assert (got["accuracy"], got["f1"], got["precision"], got["matthews"]) == (0.5, 0, 0, 0)
    for predictions, labels in [([2, 2, 2], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([1], [1])]:
        got = evaluate_predictions(1, np.array(predictions, dtype=float)[:, None], np.array(labels))
        assert math.isnan(got["pearson"]) and math.isnan(got["spearman"])
    almost_constant = 1e6 + np.array([[0.0], [1e-10], [2e-10]])
    got = evaluate_predictions(1, almost_constant, np.array([1.0, 2.0, 3.0]))
    assert set(got) == set(CLASSIFICATION + REGRESSION)


def test_metrics_of_logits_that_are_not_finite_are_nan():
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
def test_wrong_shapes_and_labels_are_refused(num_labels, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(num_labels, logits, labels)


def test_metrics_subclass_evaluate_and_need_no_torch_and_no_network(tmp_path):
    """The subprocess has an empty cache and no hub, and turns warnings into errors."""
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
