"""Columns of every CSV: name, type and meaning.

A `metrics.csv` has one row per epoch and holds no times, so the same run writes the same bytes.
Times, versions and hashes are in run.json (`lora.run_record`). An empty cell means "does not
apply" and is read as NaN. Statistics, values and differences of tables are in per cent.
"""

from collections.abc import Iterable
from typing import Any

from lora.files import Columns, Row

# Status of an epoch. A run that was never trained has no metrics.csv.
STATUSES = ("ok", "non_finite")
CELL_COLUMNS = ("model", "task", "method", "weights", "rank", "protocol")

# metrics.csv: one row per epoch.
METRICS_COLUMNS: Columns = {
    "epoch": (int, "passes over the training set, from 1"),
    "step": (int, "optimizer steps since the start"),
    "status": (str, "ok, or non_finite: the loss was NaN or infinite and the run stopped"),
    "learning_rate": (float, "after the last step of the epoch"),
    "train_loss": (float, "mean over the training examples of the epoch, with dropout"),
    "eval_loss": (float, "mean over the evaluation set"),
    "accuracy": (float, "fraction correct, 0 to 1"),
    "f1": (float, "of class 1 for two classes, macro average for more"),
    "precision": (float, "of class 1 for two classes, macro average for more"),
    "recall": (float, "of class 1 for two classes, macro average for more"),
    "matthews": (float, "Matthews correlation, -1 to 1"),
    "pearson": (float, "Pearson correlation, -1 to 1 (regression)"),
    "spearman": (float, "Spearman rank correlation, -1 to 1 (regression)"),
    "accuracy_mismatched": (float, "fraction correct on MNLI's mismatched set"),
    "accuracy_overall": (float, "fraction correct on both evaluation sets of MNLI together"),
}

# runs.csv: these columns say which run a row belongs to; METRICS_COLUMNS follow.
RUN_COLUMNS: Columns = {
    "model": (str, "name in config/sources.csv"),
    "task": (str, "name in config/tasks.csv"),
    "method": (str, "fine-tuning method: what is added and what trains"),
    "weights": (str, "adapted weight types: letters of qkvo for lora, a word for other methods"),
    "rank": (int, "LoRA rank r, bottleneck of an adapter, or 0"),
    "protocol": (str, "name in config/hparams.csv or of the config"),
    "seed": (int, "seed of the run"),
    "digest": (str, "sha256 of everything that decides the run's numbers"),
    "base_precision": (str, "precision of the base model and its activations: bf16 or fp32"),
    "trainable": (int, "trained parameters without the head, as the paper counts"),
    "train_examples": (int, "size of the training set"),
    "eval_examples": (int, "size of the evaluation set"),
    "data_source": (str, "identity of the data set: what pins its content"),
    "base_source": (str, "identity of the base model: what pins its content"),
    "label_counts": (str, "JSON: evaluation set -> label -> examples; empty for regression"),
}
RUNS_COLUMNS: Columns = {
    **RUN_COLUMNS,
    **METRICS_COLUMNS,
    "status": (str, "ok, non_finite, or missing: the run has no metrics.csv"),
}

# <table>_published.csv: the rows of config/published.csv that a table shows.
PUBLISHED_COLUMNS: Columns = {
    "relation": (
        str,
        "same: compared with ours; context: same model and task; unverified: same names, but model "
        "or data are not known to be the registered ones; reference: never compared",
    ),
    "column": (str, "column of the table, as in <table>.csv"),
    "ours_model": (str, "our model that it is about; empty if there is none"),
    "ours_protocol": (str, "protocol of the cell it is compared with; empty if there is none"),
    "table": (str, "table of the source"),
    "model": (str, "model of the source"),
    "method": (str, "method of the source"),
    "trainable": (str, "trained parameters, as printed"),
    "task": (str, "task of the source; average is the printed mean of the eight"),
    "weights": RUN_COLUMNS["weights"],
    "rank": RUN_COLUMNS["rank"],
    "protocol": (str, "empty for the main protocol of the source, otherwise the same one of ours"),
    "metric": (str, "a metric of metrics.csv, or average"),
    "value": (str, "per cent, as printed"),
    "spread": (float, "per cent, as printed"),
    "spread_kind": (str, "std or unspecified"),
    "statistic": (str, "median, mean, single or unknown"),
    "selection": (str, "best or last epoch, or unknown"),
    "n_seeds": (int, "number of runs"),
    "ours": (float, "per cent: our value by the same statistic and selection"),
    "difference": (float, "per cent: ours minus value"),
    "difference_margin": (float, "per cent: half of the 95 % interval of difference (Welch)"),
    "margin_from": (
        str,
        "both: both spreads; ours: theirs was not published; single: theirs is one run, taken to "
        "vary as ours; empty without a margin",
    ),
    "source": (str, "where it was published"),
    "note": (str, "what to know about the value"),
}

# <table>.csv: one row per cell of the table.
TABLE_COLUMNS: Columns = {
    "row": (str, "row of the table"),
    "column": (
        str,
        "table2: task, <task>-mm or <task>-all; table5: <weights> r<rank>; table6: r<rank>",
    ),
    "model": RUN_COLUMNS["model"],
    "task": (str, "name in config/tasks.csv; average is the mean over the eight GLUE tasks"),
    "task_title": (str, "title of the task"),
    "method": RUN_COLUMNS["method"],
    "weights": RUN_COLUMNS["weights"],
    "rank": RUN_COLUMNS["rank"],
    "protocol": RUN_COLUMNS["protocol"],
    "start": (str, "pretrained, a task (its best run), or a folder"),
    "head": (str, "classification head: trained or frozen"),
    "metric": (str, "a metric of metrics.csv, or average"),
    "base_precision": (str, "bf16 or fp32; both if the tasks of an average differ"),
    "trainable": (int, "trained parameters without the head"),
    "eval_examples": (int, "size of the evaluation set"),
    "n": (int, "finished runs with a defined metric: those in the statistics"),
    "n_expected": (int, "requested runs: the number of seeds"),
    "n_failed": (int, "runs that stopped as non_finite or whose metric is never defined"),
    "n_missing": (int, "requested runs that have no metrics.csv"),
    "best_median": (float, "per cent, over the best epoch of each run"),
    "best_mean": (float, "per cent, over the best epoch of each run"),
    "best_std": (float, "per cent, n-1, over the best epoch of each run; empty for one run"),
    "best_min": (float, "per cent, over the best epoch of each run"),
    "best_max": (float, "per cent, over the best epoch of each run"),
    "last_mean": (float, "per cent, over the last epoch of each run; empty if one is undefined"),
    "last_median": (float, "per cent, over the last epoch of each run; empty if one is undefined"),
    "last_std": (float, "per cent, n-1, over the last epoch of each run; empty for one run"),
    "best_constant": (
        int,
        "finished runs that predict one class only at the best epoch; of an average: of its cells",
    ),
    "last_constant": (
        int,
        "finished runs that predict one class only at the last epoch; of an average: of its cells",
    ),
    "majority": (
        float,
        "per cent: metric of always predicting the most frequent evaluation label; empty for "
        "regression and where runs do not record the labels",
    ),
    "published": (
        float,
        "per cent: first published value of the same model, task, method, weights and rank",
    ),
    "published_spread": (float, "per cent"),
    "published_spread_kind": (str, "std or unspecified"),
    "published_statistic": (str, "median, mean, single or unknown"),
    "published_selection": (str, "best or last epoch, or unknown"),
    "published_source": (str, "where it was published"),
    "difference": (
        float,
        "per cent: ours minus published, by the statistic and selection of the published value",
    ),
    "difference_margin": PUBLISHED_COLUMNS["difference_margin"],
    "note": (str, "what to know about the published value"),
    "source_problem": (
        str,
        "why no published value is compared: model or data are not known to be the registered ones",
    ),
}

# <table>_best.csv: one row per run.
BEST_COLUMNS: Columns = {
    "model": RUN_COLUMNS["model"],
    "task": TABLE_COLUMNS["task"],
    "task_title": TABLE_COLUMNS["task_title"],
    "method": RUN_COLUMNS["method"],
    "weights": RUN_COLUMNS["weights"],
    "rank": RUN_COLUMNS["rank"],
    "protocol": RUN_COLUMNS["protocol"],
    "seed": RUN_COLUMNS["seed"],
    "metric": (str, "metric of the task"),
    "trainable": RUN_COLUMNS["trainable"],
    "status": (str, "ok, non_finite, undefined (the metric, in every epoch), or missing"),
    "best_epoch": (int, "epoch with the highest metric, the earliest of equals"),
    "best_value": (float, "per cent, at that epoch"),
    "last_epoch": (int, "last epoch"),
    "last_value": (float, "per cent, at that epoch"),
    "best_constant": (
        int,
        "1 if all predictions at the best epoch are of one class, otherwise 0; empty if unknown, "
        "and for regression",
    ),
    "last_constant": (int, "the same for the last epoch"),
}

# <table>_curves.csv: one row per cell and epoch, over the finished runs.
CURVES_COLUMNS: Columns = {
    **{name: BEST_COLUMNS[name] for name in (*CELL_COLUMNS, "task_title", "metric")},
    "epoch": METRICS_COLUMNS["epoch"],
    "n": (int, "runs in the row"),
    "n_expected": TABLE_COLUMNS["n_expected"],
    **{
        f"{value}_{statistic}": (float, f"{statistic} over runs; {unit}")
        for value, unit in (
            ("metric", "per cent"),
            ("train_loss", "nats, or squared error"),
            ("eval_loss", "nats, or squared error"),
        )
        for statistic in ("mean", "min", "max")
    },
}

# selection.csv: one row per cell of any table, and averages over cells.
SELECTION_COLUMNS: Columns = {
    **{name: TABLE_COLUMNS[name] for name in CELL_COLUMNS if name != "task"},
    "task": (
        str,
        "name in config/tasks.csv; average is the mean over cells of a model, method and protocol",
    ),
    "task_title": TABLE_COLUMNS["task_title"],
    "metric": (str, "metric of the task, or average"),
    "cells": (int, "cells in the row: 1, or the number of cells of an average"),
    **{name: TABLE_COLUMNS[name] for name in ("n", "n_expected", "n_failed", "n_missing")},
    "best_mean": TABLE_COLUMNS["best_mean"],
    "last_mean": TABLE_COLUMNS["last_mean"],
    "difference_mean": (float, "per cent: mean over runs of best minus last epoch"),
    "difference_std": (
        float,
        "per cent, n-1, of that difference over runs; empty for one run and for averages",
    ),
    "best_epoch_mean": (float, "mean over runs of the number of the best epoch"),
    "last_epoch": (float, "number of the last epoch; its mean for averages"),
}

# differences.csv: two rows per pair of cells, for the best and the last epoch.
DIFFERENCES_COLUMNS: Columns = {
    **{name: RUN_COLUMNS[name] for name in ("model", "task")},
    "task_title": TABLE_COLUMNS["task_title"],
    "metric": BEST_COLUMNS["metric"],
    "differs_in": (
        str,
        "method, weights, rank, protocol, or weights at equal parameters (Table 5)",
    ),
    **{name: RUN_COLUMNS[name] for name in ("method", "weights", "rank", "protocol")},
    **{
        f"other_{name}": (RUN_COLUMNS[name][0], f"{name} of the second cell")
        for name in ("method", "weights", "rank", "protocol")
    },
    "epoch": (str, "best or last epoch of each run"),
    "n": (int, "seeds that finished in both cells"),
    "seeds": (str, "these seeds"),
    "difference": (float, "per cent: mean over seeds of first minus second cell"),
    "std": (float, "per cent, n-1, of the difference over seeds"),
    "low": (float, "per cent: lower end of the 95 % interval of the paired t test"),
    "high": (float, "per cent: upper end of that interval"),
    "p": (float, "p value of the paired t test, two-sided"),
    "p_holm": (float, "p adjusted by Holm over the comparisons of this epoch in the table"),
    "comparisons": (int, "number of those comparisons; 0 if this pair has no test"),
}

# claims.csv: one row per comparison that a claim of the paper is checked by.
CLAIMS_COLUMNS: Columns = {
    "claim": (str, "short name of the claim"),
    "text": (str, "the claim"),
    "source": (str, "where the paper makes it"),
    "model": RUN_COLUMNS["model"],
    "compared": (str, "what is compared, first minus second"),
    "n": (int, "seeds that finished in all compared cells"),
    "difference": (float, "per cent: mean over seeds of the difference in the last epoch"),
    "low": (float, "per cent: lower end of the 95 % interval of the paired t test"),
    "high": (float, "per cent: upper end of that interval"),
    "verdict": (str, "confirmed, contradicted or not decided"),
}

# provenance.csv: one row per requested run. Hashes are cut to 12 digits.
PROVENANCE_COLUMNS: Columns = {
    **{name: RUN_COLUMNS[name] for name in (*CELL_COLUMNS, "seed")},
    "status": (str, "ok, non_finite or missing"),
    "digest": RUN_COLUMNS["digest"],
    "results_version": (int, "version of the method that trained it"),
    "data_source": RUN_COLUMNS["data_source"],
    "tokens_sha256": (str, "sha256 of the prepared tokens"),
    "train_examples": (int, "size of the training set"),
    "base_source": RUN_COLUMNS["base_source"],
    "base_sha256": (str, "sha256 of the base model: its config and weights"),
    "start_source": (str, "run or folder it started from; empty for the pre-trained model"),
    "start_sha256": (str, "sha256 of the tensors it started from"),
    "python": (str, "version"),
    "torch": (str, "version"),
    "transformers": (str, "version"),
    "lora": (str, "version of this package"),
    "device": (str, "CPU or GPU that it was trained on"),
    "precision": (str, "precision of the base model and its activations: bf16 or fp32"),
    "commit": (
        str,
        "git commit of the checkout that trained it; -dirty: with local changes, -unchecked: git "
        "could not tell",
    ),
    "finished": (str, "UTC, ISO 8601"),
    "wall_s": (float, "seconds of training, shared by the runs of its pack"),
    "examples_per_s": (float, "training examples of this run per second"),
    "pack": (int, "runs trained together, this one included"),
}

# subspace/phi.csv: one row per figure, layer, weight type, i and j.
PHI_COLUMNS: Columns = {
    "figure": (
        str,
        "of the paper: figure3 and figure4 show one layer, figure6 and figure7 several",
    ),
    "model": RUN_COLUMNS["model"],
    "task": RUN_COLUMNS["task"],
    "layer": (int, "of the encoder, from 1 as in the paper"),
    "depth": (int, "number of layers of the encoder"),
    "letter": (str, "weight type: one of qkvo"),
    "first": (str, "run of i"),
    "second": (str, "run of j"),
    "i": (int, "number of directions of the first A, largest singular values first"),
    "j": (int, "number of directions of the second A"),
    "phi": (float, "similarity of the two subspaces, 0 to 1 (Eq. 4)"),
    "phi_at_start": (
        float,
        "phi of the two A before training; empty if a run started from an adapter",
    ),
    "random_drawn": (float, "phi of two Gaussian matrices of these shapes, one draw per layer"),
    "random_expected": (float, "expected value of random_drawn: max(i, j)/d"),
}

# subspace/amplification.csv: one row per layer, weight type and run.
AMPLIFICATION_COLUMNS: Columns = {
    **{name: RUN_COLUMNS[name] for name in ("model", "task")},
    **{name: PHI_COLUMNS[name] for name in ("layer", "depth", "letter")},
    **{name: RUN_COLUMNS[name] for name in ("rank", "seed")},
    "scale": (float, "alpha/r"),
    "w_norm": (float, "Frobenius norm of the frozen W"),
    "delta_norm": (float, "Frobenius norm of dW = (alpha/r) B A"),
    "delta_norm_unscaled": (float, "Frobenius norm of B A"),
    "projected_delta": (
        float,
        "Frobenius norm of U'WV', U and V the top r singular vectors of dW; without alpha/r",
    ),
    "projected_w": (float, "the same with the singular vectors of W"),
    "projected_random": (float, "the same with those of a Gaussian matrix, one draw per row"),
    "projected_random_expected": (float, "root mean square of it over draws: w_norm times r/d"),
    "amplification": (float, "delta_norm / projected_delta"),
    "amplification_unscaled": (float, "delta_norm_unscaled / projected_delta"),
    "a_change": (
        float,
        "norm of A minus A at its start, over the norm of A at its start; empty as phi_at_start",
    ),
}


def group_by(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by the values of these keys, in the order of the first row of each group."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups
