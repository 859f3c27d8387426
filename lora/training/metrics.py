"""The figures of one evaluation, computed from logits and labels; no torch, no network, no files kept.

They go through the `evaluate` library, but as metrics whose code lies here: `evaluate.load` fetches a script from the
network, and the script calls the same scikit-learn and scipy functions. `evaluate`'s own `__init__` imports
`transformers.pipelines` for evaluators that nobody asks for here, most of its 2.5 to 4 seconds in every job, so
`_metric_base` loads only the submodule that holds `Metric`. The cost: it leans on the library's file layout; a test
checks that the class is the one `import evaluate` gives.

It does not choose an epoch or average over seeds (`tables`), nor replace a figure that is not defined: that is NaN.
"""

import functools
import importlib.util
import math
import sys
import tempfile
import warnings

import numpy as np

CLASSIFICATION = ("accuracy", "f1", "precision", "recall", "matthews")
REGRESSION = ("pearson", "spearman")
DIGITS = 12  # of a correlation: the sums behind it end in other bits from one process to the next


def evaluate_predictions(
    num_labels: int, logits: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """All of `CLASSIFICATION` and `REGRESSION`; those that do not apply to the task are NaN.

    logits [n, num_labels], any float type; labels [n], the class or, when num_labels is 1 (regression), the value. The
    predicted class is the first of the largest logits. For two classes F1, precision and recall are those of class 1,
    for more the mean over all `num_labels` classes; with nothing to divide by they and Matthews are 0, as scikit-learn
    has it. A correlation with something constant is NaN, and so is every figure when a logit is not finite.
    Raises ValueError for shapes or labels that do not fit.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if (
        logits.ndim != 2
        or logits.shape[1] != num_labels
        or labels.shape != logits.shape[:1]
        or not len(labels)
    ):
        raise ValueError(
            f"logits have shape {logits.shape}, labels {labels.shape}; allowed: (n, {num_labels}) and (n,), n above 0"
        )
    if num_labels > 1 and not np.isin(labels, np.arange(num_labels)).all():
        raise ValueError(
            f"labels hold {sorted(set(labels))[:9]}; allowed: the classes 0 to {num_labels - 1}"
        )
    if not np.isfinite(labels).all():
        raise ValueError("labels hold a value that is not finite; allowed: numbers")
    figures = dict.fromkeys(CLASSIFICATION + REGRESSION, math.nan)
    if np.isfinite(logits).all():
        regression = num_labels == 1
        predictions = logits[:, 0] if regression else logits.argmax(axis=1)
        references = labels if regression else labels.astype(np.int64)
        figures.update(_metric(num_labels).compute(predictions=predictions, references=references))
    return figures


@functools.cache
def _metric_base():
    """The `evaluate.Metric` class, without running the package's `__init__` (see the top of this file)."""
    if "evaluate" in sys.modules:
        return importlib.import_module("evaluate").Metric
    sys.modules["evaluate"] = importlib.util.module_from_spec(importlib.util.find_spec("evaluate"))
    try:
        return importlib.import_module("evaluate.module").Metric
    finally:
        del sys.modules["evaluate"]  # whoever imports it later gets the whole of it


@functools.cache
def _metric(num_labels: int):
    """The `evaluate` metric of a task kind, built once per process; it keeps its inputs in memory."""
    base = _metric_base()
    from datasets import Features, Value
    from evaluate.info import MetricInfo

    regression = num_labels == 1
    value = Value("float64" if regression else "int64")

    class GlueFigures(base):
        """What GLUE tasks are measured by; `_info` and `_compute` are the two methods `evaluate` asks for."""

        def _info(self):
            return MetricInfo(
                description=", ".join(REGRESSION if regression else CLASSIFICATION),
                citation="",
                inputs_description="predictions and references, one value each per example",
                features=Features({"predictions": value, "references": value}),
            )

        def _compute(self, predictions, references):
            predictions, references = np.asarray(predictions), np.asarray(references)
            return (
                _correlations(predictions, references)
                if regression
                else _rates(predictions, references, num_labels)
            )

    with (
        tempfile.TemporaryDirectory() as folder
    ):  # evaluate makes a cache folder even when it keeps all in memory
        return GlueFigures(keep_in_memory=True, cache_dir=folder)


def _rates(predictions: np.ndarray, references: np.ndarray, num_labels: int) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, matthews_corrcoef, precision_recall_fscore_support

    over = (
        dict(average="binary", pos_label=1)
        if num_labels == 2
        else dict(average="macro", labels=range(num_labels))
    )
    precision, recall, f1, _ = precision_recall_fscore_support(
        references, predictions, zero_division=0, **over
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
        warnings.simplefilter(
            "ignore", stats.NearConstantInputWarning
        )  # the value is still the best there is
        pearson = stats.pearsonr(predictions, references).statistic
    values = {
        "pearson": float(pearson),
        "spearman": float(stats.spearmanr(predictions, references).statistic),
    }
    return {name: round(value, DIGITS) for name, value in values.items()}
