"""Columns, types and units of every CSV, and the keys of run.json.

A run's `metrics.csv` has one row per epoch and holds no times, so that the same run writes the same bytes. Times, versions
and hashes are in its `run.json`.
"""

STATUSES = ("ok", "non_finite")  # of a run's epoch; a run that was never trained has no file
# name: (type, meaning). An empty cell is "does not apply" (NaN when read).
METRICS_COLUMNS = {
    "epoch": (int, "passes over the training set so far, from 1"),
    "step": (int, "optimiser steps so far"),
    "status": (str, "ok, or non_finite: the loss was NaN or infinite and the run stopped here"),
    "learning_rate": (float, "after the epoch's last step"),
    "train_loss": (float, "mean over the epoch's training examples, dropout on"),
    "eval_loss": (float, "mean over the evaluation set"),
    "accuracy": (float, "fraction right, 0 to 1"),
    "f1": (float, "of class 1 for two classes, macro average for more"),
    "precision": (float, "of class 1 for two classes, macro average for more"),
    "recall": (float, "of class 1 for two classes, macro average for more"),
    "matthews": (float, "Matthews correlation, -1 to 1"),
    "pearson": (float, "Pearson correlation, -1 to 1 (regression)"),
    "spearman": (float, "Spearman rank correlation, -1 to 1 (regression)"),
    "accuracy_mismatched": (float, "MNLI's second evaluation set, fraction right"),
    "accuracy_overall": (float, "MNLI's two evaluation sets taken as one, fraction right"),
}
RUN_COLUMNS = {  # of runs.csv, before METRICS_COLUMNS: which run a row belongs to
    "model": (str, "name in config/sources.csv"),
    "task": (str, "name in config/tasks.csv"),
    "method": (str, "what is inserted and what trains"),
    "weights": (str, "what is adapted: letters of qkvo for lora, a word for the other methods"),
    "rank": (int, "LoRA rank r, bottleneck of an adapter, 0 for methods without either"),
    "protocol": (str, "name in config/hparams.csv, or of the config's own"),
    "seed": (int, "the run's seed"),
    "digest": (str, "sha256 of all that decides the run's numbers"),
    "base_precision": (str, "of the frozen base model and its activations: bf16 or fp32"),
    "trainable": (int, "trained parameters without the head, as the paper counts"),
    "eval_examples": (int, "size of the evaluation set"),
}
CELL_COLUMNS = ("model", "task", "method", "weights", "rank", "protocol")
RUNS_COLUMNS = {**RUN_COLUMNS, **METRICS_COLUMNS}
RUNS_COLUMNS["status"] = (str, "ok, non_finite, or missing: asked for, but no metrics.csv is there")
# The keys of run.json. `settings` is what decided the numbers, the rest is where they came from.
RUN_JSON_KEYS = (
    "settings",  # model, task, method, weights, rank, seed, protocol, hparams {..}
    "digest",  # sha256 over settings, data, base and results_version
    "results_version",
    "status",  # ok or non_finite
    "parameters",  # {"trainable": without the head, "head": trained head, "frozen": the rest}
    "data",  # {"source": identity, "tokens_sha256":, "train_examples":, "eval_examples":, "train_tokens":}
    "base",  # {"source": identity, "base_sha256":, "family": bert or roberta}
    "start",  # null for the pre-trained model, or {"source": run or folder it started from, "sha256": of its tensors}
    "best",  # {"epoch":, "metric":, "value":}: the epoch whose adapter was kept
    "speed",  # {"wall_s":, "examples_per_s":, "pack": runs in lock-step, "peak_host_bytes":, "peak_device_bytes":}
    "versions",  # python, torch, transformers, lora
    "precision",  # bf16 or fp32: of the frozen base and its activations
    "device",
    "commit",
    "finished",  # UTC, ISO 8601
    "files",  # {metrics.csv and, but for imported runs, adapter/adapter_model.safetensors: sha256}
    "seal",  # sha256 of all the rest; whoever changes a run.json by hand takes it out
)
# Of the tables. Statistics, values and differences are in per cent: an accuracy or a correlation times 100.
PUBLISHED_COLUMNS = {  # config/published.csv, as far as a table shows it: <table>_published.csv
    "relation": (
        str,
        "same (a cell of ours: compared), context (same model and task), reference (never compared)",
    ),
    "column": (str, "the column of the table it stands in, as in <table>.csv"),
    "ours_protocol": (
        str,
        "the protocol of the cell of ours it is compared with; only where relation is same",
    ),
    "table": (str, "table of the origin"),
    "model": (str, "model of the origin"),
    "method": (str, "method of the origin"),
    "trainable": (str, "trained parameters as the origin prints them"),
    "task": (str, "task of the origin; average is the printed mean of the eight"),
    "weights": RUN_COLUMNS["weights"],
    "rank": RUN_COLUMNS["rank"],
    "protocol": (
        str,
        "empty for the origin's main protocol, otherwise the protocol of ours that alone is like it",
    ),
    "metric": (str, "a metric of METRICS_COLUMNS, or average"),
    "value": (str, "per cent, as printed"),
    "spread": (float, "per cent, as published"),
    "spread_kind": (str, "std, or unspecified"),
    "statistic": (str, "median, mean, single or unknown"),
    "selection": (str, "best or last epoch, or unknown"),
    "n_seeds": (int, "runs behind it"),
    "ours": (
        float,
        "per cent: our figure by the same statistic and selection; only where relation is same",
    ),
    "difference": (float, "per cent: ours minus value; only where relation is same"),
    "source": (str, "where it was published"),
    "note": (str, "what to mind"),
}
TABLE_COLUMNS = {  # <table>.csv: one row per cell of the table
    "row": (str, "row of the table"),
    "column": (
        str,
        "a task (<task>-mm and -all: its mismatched set, both sets), in table 6 r<rank>, in table 5 <weights> r<rank>",
    ),
    "model": (str, "name in config/sources.csv"),
    "task": (str, "name in config/tasks.csv; average is the mean over the eight GLUE tasks"),
    "task_title": (str, "the task as the table prints it"),
    "method": (str, "what is inserted and what trains"),
    "weights": RUN_COLUMNS["weights"],
    "rank": RUN_COLUMNS["rank"],
    "protocol": RUN_COLUMNS["protocol"],
    "start": (
        str,
        "what its runs start from: pretrained, a task (the best run of it), or a folder",
    ),
    "head": (str, "whether the classification head trains: trained or frozen"),
    "metric": (str, "a metric of METRICS_COLUMNS, or average"),
    "base_precision": (
        str,
        "of the frozen base model, bf16 or fp32; both in an average over tasks that differ",
    ),
    "trainable": (int, "trained parameters without the head"),
    "eval_examples": (int, "size of the evaluation set"),
    "n": (int, "runs behind the statistics: finished, with a metric that is defined"),
    "n_expected": (int, "runs asked for: the seeds"),
    "n_failed": (int, "runs that stopped non-finite, or whose metric is undefined in every epoch"),
    "n_missing": (int, "runs asked for that are not there"),
    "best_median": (float, "per cent, over each run's best epoch"),
    "best_mean": (float, "per cent, over each run's best epoch"),
    "best_std": (float, "per cent, n-1, over each run's best epoch; empty for one run"),
    "best_min": (float, "per cent, over each run's best epoch"),
    "best_max": (float, "per cent, over each run's best epoch"),
    "last_mean": (
        float,
        "per cent, over each run's last epoch; empty when it is undefined in one of them",
    ),
    "last_median": (
        float,
        "per cent, over each run's last epoch; empty when it is undefined in one of them",
    ),
    "last_std": (float, "per cent, n-1, over each run's last epoch; empty for one run"),
    "published": (
        float,
        "per cent: the first published figure of the same model, task, method, weights and rank",
    ),
    "published_spread": (float, "per cent"),
    "published_spread_kind": (str, "std, or unspecified"),
    "published_statistic": (str, "median, mean, single or unknown"),
    "published_selection": (str, "best or last epoch, or unknown"),
    "published_source": (str, "where it was published"),
    "difference": (
        float,
        "per cent: ours minus published, by the published figure's statistic and selection",
    ),
    "note": (str, "what to mind about the published figure"),
}
BEST_COLUMNS = {  # <table>_best.csv: one row per run
    **{
        name: TABLE_COLUMNS[name]
        for name in ("model", "task", "task_title", "method", "weights", "rank", "protocol")
    },
    "seed": RUN_COLUMNS["seed"],
    "metric": (str, "the task's metric"),
    "trainable": RUN_COLUMNS["trainable"],
    "status": (str, "ok, non_finite, undefined (the metric, in every epoch), or missing"),
    "best_epoch": (int, "the epoch with the highest metric, the earliest of equals"),
    "best_value": (float, "per cent, at that epoch"),
    "last_epoch": (int, "the last epoch"),
    "last_value": (float, "per cent, at that epoch"),
}
CURVES_COLUMNS = {  # <table>_curves.csv: one row per cell and epoch, over its finished runs
    **{name: BEST_COLUMNS[name] for name in (*CELL_COLUMNS, "task_title", "metric")},
    "epoch": METRICS_COLUMNS["epoch"],
    "n": (int, "runs behind the row"),
    "n_expected": (int, "runs asked for: the seeds"),
    **{
        f"{what}_{statistic}": (float, f"{statistic} over runs; {unit}")
        for what, unit in (
            ("metric", "per cent"),
            ("train_loss", "nats or squares"),
            ("eval_loss", "nats or squares"),
        )
        for statistic in ("mean", "min", "max")
    },
}
SELECTION_COLUMNS = {  # selection.csv: one row per cell of any table, and the averages over them
    **{name: TABLE_COLUMNS[name] for name in CELL_COLUMNS if name != "task"},
    "task": (
        str,
        "name in config/tasks.csv; average is the mean over the cells of the row's model, method and protocol",
    ),
    "task_title": TABLE_COLUMNS["task_title"],
    "metric": (str, "the task's metric, or average"),
    "cells": (int, "cells behind the row: 1, or those that an average is over"),
    **{name: TABLE_COLUMNS[name] for name in ("n", "n_expected", "n_failed", "n_missing")},
    "best_mean": TABLE_COLUMNS["best_mean"],
    "last_mean": TABLE_COLUMNS["last_mean"],
    "difference_mean": (
        float,
        "per cent: mean over runs of best minus last epoch; what choosing the epoch adds",
    ),
    "difference_std": (
        float,
        "per cent, n-1, of that difference over runs; empty for one run and for averages",
    ),
    "best_epoch_mean": (float, "mean over runs of the number of the best epoch"),
    "last_epoch": (float, "number of the last epoch; its mean for averages"),
}
PROVENANCE_COLUMNS = {  # provenance.csv: one row per run asked for; hashes are cut to 12 digits
    **{name: RUN_COLUMNS[name] for name in (*CELL_COLUMNS, "seed")},
    "status": (str, "ok, non_finite or missing"),
    "digest": RUN_COLUMNS["digest"],
    "results_version": (int, "of the code that trained it"),
    "data_source": (str, "what pins the data set"),
    "tokens_sha256": (str, "of the tokens it trained on"),
    "train_examples": (int, "size of the training set"),
    "base_source": (str, "what pins the base model"),
    "base_sha256": (str, "of the base model: its config and weights"),
    "start_source": (str, "the run or folder it started from; empty for the pre-trained model"),
    "start_sha256": (str, "of the tensors it started from"),
    "python": (str, "version"),
    "torch": (str, "version"),
    "transformers": (str, "version"),
    "lora": (str, "version of this package"),
    "device": (str, "what it trained on"),
    "precision": (str, "numbers of the frozen base model and its activations: bf16 or fp32"),
    "commit": (str, "of the checkout that trained it"),
    "finished": (str, "UTC, ISO 8601"),
    "wall_s": (float, "seconds of training, shared by the runs of its pack"),
    "examples_per_s": (float, "training examples of this run per second"),
    "pack": (int, "runs trained in lock-step with it, itself included"),
}
PHI_COLUMNS = {  # subspace/phi.csv: one row per figure, layer, weight type, i and j
    "figure": (
        str,
        "of the paper: figure3 and figure4 one layer, figure6 and figure7 the same for several",
    ),
    "model": RUN_COLUMNS["model"],
    "task": RUN_COLUMNS["task"],
    "layer": (int, "of the encoder, from 1 as in the paper"),
    "depth": (int, "layers of the encoder"),
    "letter": (str, "weight type: one of qkvo"),
    "first": (str, "the run of i"),
    "second": (str, "the run of j"),
    "i": (int, "directions taken of the first A, largest singular values first"),
    "j": (int, "directions taken of the second A"),
    "phi": (float, "similarity of the two subspaces, 0 to 1 (Eq. 4)"),
    "phi_at_start": (
        float,
        "the same of the two A before training; empty where a run did not start from the seed alone",
    ),
    "random_drawn": (
        float,
        "the same of two Gaussian matrices of these shapes, one draw a figure and layer",
    ),
    "random_expected": (float, "its expected value, max(i, j)/d"),
}
AMPLIFICATION_COLUMNS = {  # subspace/amplification.csv: one row per layer, weight type and run
    **{name: RUN_COLUMNS[name] for name in ("model", "task")},
    **{name: PHI_COLUMNS[name] for name in ("layer", "depth", "letter")},
    **{name: RUN_COLUMNS[name] for name in ("rank", "seed")},
    "scale": (float, "alpha/r"),
    "w_norm": (float, "Frobenius norm of the frozen W"),
    "delta_norm": (float, "Frobenius norm of dW = (alpha/r) B A"),
    "delta_norm_unscaled": (float, "Frobenius norm of B A"),
    "projected_delta": (
        float,
        "Frobenius norm of U'WV', U and V the top r singular vectors of dW; alpha/r is not in it",
    ),
    "projected_w": (float, "the same with those of W itself"),
    "projected_random": (float, "the same with those of a Gaussian matrix, one draw a row"),
    "projected_random_expected": (float, "its root mean square over draws: w_norm times r/d"),
    "amplification": (float, "delta_norm / projected_delta"),
    "amplification_unscaled": (float, "delta_norm_unscaled / projected_delta"),
    "a_change": (
        float,
        "Frobenius norm of A minus A at its start, over that of A at its start; empty as phi_at_start",
    ),
}
