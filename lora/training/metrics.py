"""Metrics of one evaluation, computed from logits and labels. No torch, no network.

They are metrics of the `evaluate` library with their code in this file: `evaluate.load` downloads
a script, which calls the same scikit-learn and scipy functions. `import evaluate` also imports
`transformers.pipelines`, which takes 2.5 to 4 seconds in every job, so `_metric_class` imports only
the submodule with `Metric`. A test checks that it is the class that `import evaluate` gives.
"""

import functools
import importlib
import importlib.util
import math
import sys
import tempfile
import warnings
from typing import Any

import numpy as np

CLASSIFICATION = ("accuracy", "f1", "precision", "recall", "matthews")
REGRESSION = ("pearson", "spearman")
DIGITS = 12  # of a correlation: the last bits of its sums differ from process to process


def evaluate_predictions(
    num_labels: int, logits: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Return all metrics; NaN for those that do not apply to the task.

    The predicted class is the first of the largest logits. For two classes F1, precision and recall
    are those of class 1; for more they are the mean over all classes. With nothing to divide by,
    they and Matthews are 0, as in scikit-learn. A correlation with a constant is NaN, and so is
    every metric if a logit is not finite.

    Args:
        num_labels: Number of classes; 1 is regression.
        logits: [n, num_labels], any float type.
        labels: Class number or value of each example, [n].

    Returns:
        A value for each name in `CLASSIFICATION` and `REGRESSION`, from 0 to 1 or -1 to 1.

    Raises:
        ValueError: If shapes or labels do not fit.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    _check(num_labels, logits, labels)
    values = dict.fromkeys(CLASSIFICATION + REGRESSION, math.nan)
    if np.isfinite(logits).all():
        regression = num_labels == 1
        predictions = logits[:, 0] if regression else logits.argmax(axis=1)
        references = labels if regression else labels.astype(np.int64)
        values.update(_compute(num_labels, predictions, references))
    return values


def _check(num_labels: int, logits: np.ndarray, labels: np.ndarray) -> None:
    fits = logits.ndim == 2 and logits.shape[1] == num_labels
    if not fits or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"logits have shape {logits.shape}, labels {labels.shape}; allowed: (n, {num_labels}) "
            "and (n,), n above 0"
        )
    if num_labels > 1 and not np.isin(labels, np.arange(num_labels)).all():
        raise ValueError(
            f"labels have {sorted(set(labels))[:9]}; allowed: the classes 0 to {num_labels - 1}"
        )
    if not np.isfinite(labels).all():
        raise ValueError("a label is not finite; allowed: numbers")


def _compute(num_labels: int, predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Return the metrics by the `evaluate` library, or by the same functions where it is absent.

    A machine with torch and transformers alone can train then, as in benchmarks/gpu.
    """
    if all(importlib.util.find_spec(name) for name in ("evaluate", "datasets")):
        metric = _metric(num_labels)
        values: dict[str, float] = metric.compute(predictions=predictions, references=references)
        return values
    if num_labels == 1:
        return _correlations(predictions, references)
    return _rates(predictions, references, num_labels)


@functools.cache
def _metric_class() -> Any:
    """Return `evaluate.Metric` without running the package's `__init__`."""
    if "evaluate" in sys.modules:
        return importlib.import_module("evaluate").Metric
    spec = importlib.util.find_spec("evaluate")
    assert spec is not None  # a dependency of this package
    sys.modules["evaluate"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("evaluate.module").Metric
    finally:
        del sys.modules["evaluate"]  # a later `import evaluate` gets the whole package


@functools.cache
def _metric(num_labels: int) -> Any:
    """Return the `evaluate` metric for this number of labels, built once per process."""
    metric_class = _metric_class()
    from datasets import Features, Value
    from evaluate.info import MetricInfo

    regression = num_labels == 1
    value = Value("float64" if regression else "int64")

    class GlueMetric(metric_class):  # type: ignore[misc, valid-type]
        """All metrics of one kind of task; `evaluate` calls `_info` and `_compute`."""

        def _info(self) -> MetricInfo:
            return MetricInfo(
                description=", ".join(REGRESSION if regression else CLASSIFICATION),
                citation="",
                inputs_description="predictions and references, one value each per example",
                features=Features({"predictions": value, "references": value}),
            )

        def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
            inputs = np.asarray(predictions), np.asarray(references)
            return _correlations(*inputs) if regression else _rates(*inputs, num_labels)

    # evaluate makes a cache folder even if it keeps everything in memory.
    with tempfile.TemporaryDirectory() as folder:
        return GlueMetric(keep_in_memory=True, cache_dir=folder)


def _rates(predictions: np.ndarray, references: np.ndarray, num_labels: int) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

    average: dict[str, Any] = dict(average="macro", labels=range(num_labels))
    if num_labels == 2:
        average = dict(average="binary", pos_label=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        references, predictions, zero_division=0, **average
    )
    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "matthews": float(matthews_corrcoef(references, predictions)),
    }


def _correlations(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    from scipy import stats

    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return dict.fromkeys(REGRESSION, math.nan)
    with warnings.catch_warnings():
        # A nearly constant input gives an inexact value, still the best available.
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        pearson = stats.pearsonr(predictions, references).statistic
    spearman = stats.spearmanr(predictions, references).statistic
    values = dict(pearson=float(pearson), spearman=float(spearman))
    return {name: round(value, DIGITS) for name, value in values.items()}
