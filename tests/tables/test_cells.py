"""Aggregation of runs into table cells, against numpy, the standard library and worked examples."""

import math
import statistics

import numpy as np
import pytest
from helpers import synthetic
from helpers.synthetic import epochs, load, make_runs, make_table, table, write_run
from helpers.tables import lines_of, small, text_of, with_values

from lora import columns, files
from lora.errors import ConfigError
from lora.experiment.cell import Cell
from lora.tables import cells
from lora.tables.collect import collect
from lora.tables.labels import parameters
from lora.tables.provenance import write_provenance


def test_median_of_even_count(tmp_path):
    result = with_values(
        small(range(4)), tmp_path, [[0.5, 0.5, x] for x in (0.90, 0.96, 0.91, 0.94)]
    )
    assert result.cells[0]["best_median"] == pytest.approx(92.5)  # the mean of 91 and 94


def test_statistics_are_those_of_numpy_and_the_standard_library(tmp_path):
    last = [0.911, 0.934, 0.902, 0.957, 0.918]
    cell = with_values(small(range(5)), tmp_path, [[0.5, x + 0.01, x] for x in last]).cells[0]
    percent = [100 * x for x in last]
    assert cell["last_mean"] == pytest.approx(np.mean(percent), abs=1e-5)
    assert cell["last_std"] == pytest.approx(statistics.stdev(percent), abs=1e-5)  # n-1
    assert cell["last_std"] != pytest.approx(np.std(percent), abs=1e-3)
    assert cell["best_median"] == pytest.approx(statistics.median(percent) + 1, abs=1e-5)
    assert (cell["best_min"], cell["best_max"]) == pytest.approx((91.2, 96.7))


def test_precision_of_the_frozen_model_has_a_footnote(tmp_path):
    grid = load(
        seeds=[0, 1], tables=dict(table2=table(["roberta-base"], ["sst2", "mrpc"]), table6=None)
    )
    for folder, precisions in (("same", ("bf16", "bf16")), ("mixed", ("bf16", "fp32"))):
        for cell, precision in zip(grid.cells, precisions, strict=True):
            for seed in grid.seeds:
                write_run(
                    grid,
                    cell,
                    seed,
                    tmp_path / folder / "runs",
                    epochs([0.9] * 3),
                    precision=precision,
                )
        result = make_table(grid, tmp_path / folder)
        notes = [note for note in result.page.footnotes if note.startswith("Frozen model in")]
        assert len(notes) == 1 and ("Cells differ in precision" in notes[0]) == (folder == "mixed")
        shown = {(cell["task"], cell["base_precision"]) for cell in result.cells}
        assert shown == {
            (cell.task, precision) for cell, precision in zip(grid.cells, precisions, strict=True)
        }


def test_best_epoch_is_chosen_per_run_and_the_earliest_of_equals(tmp_path):
    result = with_values(
        small(), tmp_path, [[0.90, 0.92, 0.92], [0.95, 0.91, 0.93], [0.90, 0.91, 0.94]]
    )
    assert [run["best_epoch"] for run in result.best] == [2, 1, 3]
    assert [run["best_value"] for run in result.best] == [92, 95, 94]
    assert [run["last_value"] for run in result.best] == [92, 93, 94]


def test_one_run_has_no_spread(tmp_path):
    result = with_values(small([7]), tmp_path, [[0.9, 0.95, 0.94]])
    assert math.isnan(result.cells[0]["best_std"]) and result.cells[0]["best_median"] == 95
    assert "| 95.0\n" in text_of(result.page) + "\n" and "95.0±" not in text_of(result.page)


def test_failed_and_missing_runs_are_counted_and_never_replaced(tmp_path):
    grid = small(range(5))
    cell = grid.cells[0]
    for seed, value in ((0, 0.95), (1, 0.97)):
        write_run(grid, cell, seed, tmp_path / "runs", epochs([0.9, value, value]))
    write_run(grid, cell, 2, tmp_path / "runs", epochs([0.99, 0.99], failed=True))
    write_run(grid, cell, 3, tmp_path / "runs", epochs([math.nan] * 3))
    result = make_table(grid, tmp_path)
    row = result.cells[0]
    assert (row["n"], row["n_expected"], row["n_failed"], row["n_missing"]) == (2, 5, 2, 1)
    assert (row["best_median"], row["best_max"]) == (96, 97)  # not the 99 of the run that failed
    assert [run["status"] for run in result.best] == [
        "ok",
        "ok",
        "non_finite",
        "undefined",
        "missing",
    ]
    assert "| 96.0" in text_of(result.page) and "n=2 of 5, 2 failed." in result.page.footnotes
    assert "2 of 5, 2 failed" in text_of(result.details)
    assert "1 of 5 runs" in result.page.partial
    assert all(line["n"] == 2 for line in result.curves)


def test_a_cell_without_runs_is_a_dash(tmp_path):
    result = make_table(small(range(5)), tmp_path)
    assert lines_of(result.page, "ours")[0] == ("LoRA r=8 on W_q,W_v", "–", "–")
    assert "n=0 of 5." in result.page.footnotes
    assert all(
        math.isnan(result.cells[0][key])
        for key in ("best_median", "last_mean", "difference", "trainable")
    )
    rows = files.read_csv(tmp_path / "runs.csv", columns.RUNS_COLUMNS)
    assert [row["status"] for row in rows] == ["missing"] * 5 and all(
        math.isnan(row["epoch"]) for row in rows
    )


def test_a_metric_undefined_in_a_last_epoch_is_not_skipped(tmp_path):
    cell = with_values(small([0, 1]), tmp_path, [[0.9, 0.9, math.nan], [0.9, 0.9, 0.9]]).cells[0]
    assert cell["n"] == 2 and cell["best_median"] == 90 and math.isnan(cell["last_mean"])


def test_runs_of_another_config_and_unknown_tables_are_refused(tmp_path):
    grid = small()
    make_runs(grid, tmp_path / "runs")
    collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    with pytest.raises(ConfigError, match="seed9 is not in it"):
        cells.make(small(seeds=(0, 9)), tmp_path / "runs.csv", "table2")
    paper = load(seeds=[0], protocol="paper", tables=grid.config.tables)
    with pytest.raises(ConfigError, match="paper/roberta-base/sst2/lora/qv/r8/seed0 is not in it"):
        cells.make(paper, tmp_path / "runs.csv", "table2")
    with pytest.raises(ConfigError, match="allowed: table2, selection"):
        cells.make(grid, tmp_path / "runs.csv", "table6")


def test_a_spread_over_fewer_ranks_gives_their_number(tmp_path):
    grid = load(
        seeds=[0],
        tables=dict(table2=None, table6=table(["roberta-base"], ["mnli"], ("q",), (1, 2, 8))),
    )
    make_runs(grid, tmp_path / "runs", missing=[("mnli", "q", 2, 0)])
    line = make_table(grid, tmp_path, "table6").page.sections[0].lines[0]
    assert line.cells[2] == "– (0 of 1)" and line.cells[-1].endswith("(2 of 3 ranks)")


def test_written_files_are_readable_and_the_same_bytes_each_time(tmp_path):
    grid = load(config="demo.yaml")
    make_runs(grid, tmp_path / "runs", missing=[("same-article", "qv", 8, 1)])
    collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    for folder in ("once", "again"):
        for name in (*grid.tables, *cells.SUMMARIES):
            cells.write(grid, tmp_path / "runs.csv", name, tmp_path / folder)
        write_provenance(grid, grid.config.as_dict(), tmp_path / "runs", tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == 2 * (7 + 3) + 3 * 4 + 3
    for name in names:
        assert (tmp_path / "once" / name).read_bytes() == (
            tmp_path / "again" / name
        ).read_bytes(), name
    for suffix, kind in (
        ("", "TABLE"),
        ("_published", "PUBLISHED"),
        ("_best", "BEST"),
        ("_curves", "CURVES"),
    ):
        assert files.read_csv(
            tmp_path / f"once/table6{suffix}.csv", getattr(columns, f"{kind}_COLUMNS")
        )


def test_curves_are_mean_minimum_and_maximum_over_runs(tmp_path):
    result = with_values(small(), tmp_path, [[0.80, 0.9, 0.9], [0.86, 0.9, 0.9], [0.89, 0.9, 0.9]])
    first = result.curves[0]
    assert (first["metric_mean"], first["metric_min"], first["metric_max"]) == pytest.approx(
        (85, 80, 89)
    )
    assert [line["epoch"] for line in result.curves] == [1, 2, 3] and first["n"] == 3


@pytest.mark.parametrize(
    "model, method, weights, rank, count, printed",
    [
        ("roberta-base", "lora", "qv", 8, 294_912, "0.3M"),
        ("roberta-large", "lora", "qv", 8, 786_432, "0.8M"),
        ("roberta-base", "ft", "all", 0, 124_055_040, "124.1M"),
        ("roberta-large", "ft", "all", 0, 354_310_144, "354.3M"),
        ("roberta-base", "bitfit", "bias", 0, 102_144, "0.1M"),
        ("roberta-large", "bitfit", "bias", 0, 271_360, "0.3M"),
        ("roberta-base", "adapter_drop", "ffn0", 48, 894_528, "0.9M"),
        ("roberta-base", "adapter_drop", "ffn8", 48, 298_176, "0.3M"),
        ("roberta-large", "adapter_pfeiffer", "ffn", 64, 3_171_840, "3.2M"),
        ("roberta-large", "adapter_pfeiffer", "ffn", 16, 811_392, "0.8M"),
        ("roberta-large", "adapter_houlsby", "both", 64, 6_343_680, "6.3M"),
        ("roberta-large", "adapter_houlsby", "both", 8, 835_968, "0.8M"),
    ],
)
def test_synthetic_runs_have_the_parameter_counts_of_their_methods(
    model, method, weights, rank, count, printed
):
    """By formula from layers and widths; the paper rounds some counts down (6.0M, 3.0M)."""
    assert synthetic.parameters(Cell(model, "sst2", method, weights, rank, "paper")) == count
    assert parameters(count) == printed
