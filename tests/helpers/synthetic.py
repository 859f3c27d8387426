"""Synthetic run folders of a real grid; their values are drawn from a seeded generator."""

import math
from pathlib import Path

import numpy as np
import yaml

from lora import files
from lora.columns import METRICS_COLUMNS
from lora.experiment import versions
from lora.experiment.cell import BASE_METHODS, Cell
from lora.experiment.grid import Grid
from lora.experiment.grid import load as load_grid
from lora.tables.cells import TableData, make
from lora.tables.collect import collect

ROOT = Path(__file__).resolve().parents[2]
SIZES = {  # layers, width, inner width, tokens, positions, token types
    "minilm": (6, 384, 1536, 30522, 512, 2),
    "roberta-base": (12, 768, 3072, 50265, 514, 1),
    "roberta-large": (24, 1024, 4096, 50265, 514, 1),
}
EVAL_EXAMPLES = dict(
    sst2=872, mrpc=408, qqp=40430, mnli=9815, cola=1043, qnli=5463, rte=277, stsb=1500
)
LEVELS = dict(
    mnli=0.872, sst2=0.951, mrpc=0.89, cola=0.63, qnli=0.931, qqp=0.908, rte=0.8, stsb=0.912
)
BELOW = dict(
    ft=0.0,
    bitfit=0.02,
    adapter_drop=0.01,
    adapter_pfeiffer=0.004,
    adapter_houlsby=0.006,
    lora=0.002,
)


def load(**changes) -> Grid:
    """Return the default grid, with the config file `config` and then `changes` on top."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    name = changes.pop("config", None)
    if name:
        config |= yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))
    return load_grid(config | (dict(subspace=None) if "tables" in changes else {}) | changes)


def table(models, tasks, weights=("qv",), ranks=(8,), **more) -> dict:
    """Return a table as the config has it."""
    return (
        dict(
            models=list(models),
            tasks=list(tasks),
            method="lora",
            weights=list(weights),
            ranks=list(ranks),
        )
        | more
    )


def paper_grid(seeds=(0, 1), epochs: int = 3, tables=("table2",), **changes) -> Grid:
    """Return the grid of config/paper.yaml, all of the paper's RoBERTa rows, with short runs."""
    all_tables = load(config="paper.yaml").config.as_dict()["tables"]
    kept = {
        name: table if name in tables else None for name, table in all_tables.items()
    } | changes.pop("changed", {})
    return load(
        config="paper.yaml",
        seeds=list(seeds),
        overrides=dict(epochs=epochs),
        tables=kept,
        **changes,
    )


def parameters(cell: Cell) -> int:
    """Return the number of trained parameters without the head, by formula.

    With width D, inner width I and rank r: LoRA has 2 D r per matrix, an adapter 2 D r + r + D,
    BitFit D and 7 D + I per layer, full fine-tuning everything but the pooler.
    """
    layers, width, inner, tokens, positions, types = SIZES.get(cell.model, SIZES["roberta-base"])
    adapter = 2 * width * cell.rank + cell.rank + width
    attention, feed_forward, norms = (
        4 * width * (width + 1),
        2 * width * inner + inner + width,
        4 * width,
    )
    return {
        "lora": layers * len(cell.weights) * 2 * width * cell.rank,
        "ft": (tokens + positions + types + 2) * width
        + layers * (attention + feed_forward + norms),
        "bitfit": width + layers * (7 * width + inner),
        "adapter_houlsby": 2 * layers * adapter,
        "adapter_pfeiffer": layers * adapter,
        "adapter_drop": (layers - cell.first_layer) * adapter,
    }[cell.method]


def epochs(
    values: list[float], metric: str = "accuracy", failed: bool = False, **others
) -> list[dict]:
    """Return a metrics.csv with these values of a metric; `failed` makes the last non-finite."""
    rows = []
    for epoch, value in enumerate(values, start=1):
        row = dict.fromkeys(METRICS_COLUMNS, math.nan) | {metric: value}
        row |= dict(
            epoch=epoch,
            step=10 * epoch,
            status="ok",
            learning_rate=1e-4,
            train_loss=0.7 / epoch,
            eval_loss=0.6,
        )
        rows.append(row | {key: series[epoch - 1] for key, series in others.items()})
    if failed:
        rows[-1] |= dict(status="non_finite", train_loss=math.nan, eval_loss=math.nan) | {
            metric: math.nan
        }
    return rows


def write_run(
    grid: Grid, cell: Cell, seed: int, runs_dir: Path, rows: list[dict], **changes
) -> Path:
    """Write a run folder as training does; `changes` replace keys of its run.json."""
    folder = Path(runs_dir) / cell.path / f"seed{seed}"
    start = grid.start_of(cell)
    record = dict(
        settings=grid.settings(cell, seed),
        digest=f"{1000 * cell.rank + seed:064x}",
        results_version=versions.results_version("bert", changes.get("precision", "fp32")),
        status=rows[-1]["status"],
        parameters=dict(trainable=parameters(cell), head=1000, frozen=10**6),
        data=dict(
            source=grid.sources[grid.tasks[cell.task].dataset].identity,
            tokens_sha256="ab" * 32,
            train_examples=3000,
            eval_examples=EVAL_EXAMPLES.get(cell.task, 600),
            train_tokens=90000,
        ),
        base=dict(source=grid.sources[cell.model].identity, family="bert", base_sha256="cd" * 32),
        start=start and dict(source=f"{start.path}/seed{grid.seeds[0]}", sha256="ef" * 32),
        best=dict(epoch=1, metric="accuracy", value=0.9),
        speed=dict(wall_s=61.5, examples_per_s=410.0, pack=len(grid.seeds)),
        versions=dict(python="3.11.9", torch="2.13.0", transformers="5.23.0", lora="0.1.0"),
        device="CPU",
        precision="fp32",
        commit="0123456789ab",
        finished="2026-01-02T03:04:05+00:00",
    )
    files.write_json(folder / "run.json", record | changes)
    files.write_csv(folder / "metrics.csv", METRICS_COLUMNS, rows)
    return folder


def make_runs(
    grid: Grid, runs_dir: Path, level: dict | None = None, missing=(), failed=(), precision="fp32"
) -> None:
    """Write every run of a grid.

    `missing` and `failed` are (task, weights, rank, seed); `precision` is of frozen models.
    """
    for cell in grid.cells:
        task, count, hparams = (
            grid.tasks[cell.task],
            grid.hparams(cell).epochs,
            grid.hparams(cell),
        )
        start = (
            (LEVELS | (level or {})).get(cell.task, 0.8)
            - {"q": 0.03}.get(cell.weights, 0.0)
            - BELOW[cell.method]
        )
        start += 0.003 * math.log2(max(cell.rank, 1)) + (
            0.015 if cell.model == "roberta-large" else 0
        )
        if hparams.head == "frozen":
            start -= 0.1 / max(cell.rank, 1)
        for seed in grid.seeds:
            key = (cell.task, cell.weights, cell.rank, seed)
            if key in missing:
                continue
            random = np.random.default_rng(
                [seed, cell.rank, len(cell.weights), sum(map(ord, cell.task + cell.method))]
            )
            values = (
                start
                - 0.08 * np.exp(-np.arange(count))
                + random.normal(0, 0.004)
                + random.normal(0, 0.002, count)
            )
            losses = dict(
                train_loss=(
                    0.7 * np.exp(-0.4 * np.arange(count)) + random.normal(0, 0.01, count) + 0.1
                ).tolist(),
                eval_loss=(
                    0.4
                    - 0.05 * np.arange(count)
                    + 0.012 * np.arange(count) ** 2
                    + random.normal(0, 0.01, count)
                ).tolist(),
            )
            if len(task.eval_splits) > 1:
                losses["accuracy_mismatched"] = (values - 0.006).tolist()
                losses["accuracy_overall"] = (values - 0.003).tolist()
            rows = epochs(values.clip(0, 1).tolist(), task.metric, **losses)
            if key in failed:
                rows = epochs(values.tolist(), task.metric, failed=True)
            own = cell.method in BASE_METHODS
            write_run(grid, cell, seed, runs_dir, rows, precision="fp32" if own else precision)


def make_table(grid: Grid, folder: Path, name: str = "table2") -> TableData:
    """Collect the runs in FOLDER/runs and make a table of them."""
    collect(grid, folder / "runs", folder / "runs.csv")
    return make(grid, folder / "runs.csv", name)
