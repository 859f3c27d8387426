"""Cells of tables, against numpy, the standard library, worked examples and printed tables."""

import math
import statistics

import numpy as np
import pytest
from helpers import synthetic
from helpers.synthetic import epochs, load, make_runs, make_table, table, write_run

from lora import columns, files
from lora.errors import ConfigError
from lora.experiment import grid
from lora.experiment.cell import Cell
from lora.tables import cells
from lora.tables.collect import collect
from lora.tables.labels import GLUE, origin, parameters
from lora.tables.provenance import write_provenance


def small(seeds=(0, 1, 2), tasks=("sst2",), **axes) -> grid.Grid:
    return load(
        seeds=list(seeds), tables=dict(table2=table(["roberta-base"], tasks, **axes), table6=None)
    )


def with_values(asked, folder, series, metric="accuracy", **others) -> cells.TableData:
    """Table of one cell; each seed has a list of metrics by epoch, None for a missing run."""
    for seed, values in zip(asked.seeds, series, strict=True):
        if values is not None:
            write_run(
                asked, asked.cells[0], seed, folder / "runs", epochs(values, metric, **others)
            )
    return make_table(asked, folder)


def text_of(page) -> str:
    return "\n".join(" | ".join(line.cells) for section in page.sections for line in section.lines)


def lines_of(page, kind: str) -> list[tuple[str, ...]]:
    return [line.cells for section in page.sections for line in section.lines if line.kind == kind]


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


def test_the_precision_of_the_frozen_model_is_noted_and_a_mixture_too(tmp_path):
    asked = load(
        seeds=[0, 1], tables=dict(table2=table(["roberta-base"], ["sst2", "mrpc"]), table6=None)
    )
    for folder, precisions in (("same", ("bf16", "bf16")), ("mixed", ("bf16", "fp32"))):
        for cell, precision in zip(asked.cells, precisions, strict=True):
            for seed in asked.seeds:
                write_run(
                    asked,
                    cell,
                    seed,
                    tmp_path / folder / "runs",
                    epochs([0.9] * 3),
                    precision=precision,
                )
        result = make_table(asked, tmp_path / folder)
        notes = [note for note in result.page.footnotes if note.startswith("Frozen model in")]
        assert len(notes) == 1 and ("Cells differ in precision" in notes[0]) == (folder == "mixed")
        shown = {(cell["task"], cell["base_precision"]) for cell in result.cells}
        assert shown == {
            (cell.task, precision) for cell, precision in zip(asked.cells, precisions, strict=True)
        }


def test_best_epoch_is_the_earliest_of_equals_and_of_its_own_run(tmp_path):
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
    asked = small(range(5))
    cell = asked.cells[0]
    for seed, value in ((0, 0.95), (1, 0.97)):
        write_run(asked, cell, seed, tmp_path / "runs", epochs([0.9, value, value]))
    write_run(asked, cell, 2, tmp_path / "runs", epochs([0.99, 0.99], failed=True))
    write_run(asked, cell, 3, tmp_path / "runs", epochs([math.nan] * 3))
    result = make_table(asked, tmp_path)
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
    assert "96.0±1.4 (n=2 of 5, 2 failed)" in text_of(result.page)
    assert "1 of 5 runs" in result.page.partial
    assert all(line["n"] == 2 for line in result.curves)


def test_nothing_there_is_a_dash(tmp_path):
    result = make_table(small(range(5)), tmp_path)
    assert lines_of(result.page, "ours")[0] == ("best epoch, median [range]", "–", "– (0 of 5)")
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
    asked = small()
    make_runs(asked, tmp_path / "runs")
    collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    with pytest.raises(ConfigError, match="seed9 is not in it"):
        cells.make(small(seeds=(0, 9)), tmp_path / "runs.csv", "table2")
    paper = load(seeds=[0], protocol="paper", tables=asked.config.tables)
    with pytest.raises(ConfigError, match="paper/roberta-base/sst2/lora/qv/r8/seed0 is not in it"):
        cells.make(paper, tmp_path / "runs.csv", "table2")
    with pytest.raises(ConfigError, match="allowed: table2, selection"):
        cells.make(asked, tmp_path / "runs.csv", "table6")


def test_like_is_compared_with_like(tmp_path):
    """The paper's SST-2, 95.1, is a median of best epochs; ours is 94.0 by the same statistic."""
    result = with_values(
        small(), tmp_path, [[0.80, 0.94, 0.5], [0.80, 0.93, 0.5], [0.80, 0.96, 0.5]]
    )
    cell = result.cells[0]
    assert (cell["published"], cell["published_spread"], cell["published_statistic"]) == (
        95.1,
        0.2,
        "median",
    )
    assert cell["difference"] == pytest.approx(-1.1)
    by_source = {
        origin(fact): fact["difference"] for fact in result.published if fact["relation"] == "same"
    }
    assert by_source == {"paper": pytest.approx(-1.1), "course": pytest.approx(0.2)}
    assert all(
        math.isnan(fact["difference"]) for fact in result.published if fact["method"] != "lora"
    )


@pytest.mark.parametrize("axes", [dict(ranks=(4,)), dict(weights=("q",))])
def test_another_cell_is_not_compared(tmp_path, axes):
    result = with_values(small([0], **axes), tmp_path, [[0.9, 0.9, 0.9]])
    assert (
        result.published
        and math.isnan(result.cells[0]["difference"])
        and result.cells[0]["published_source"] == ""
    )
    assert {fact["relation"] for fact in result.published} == {"context"}
    assert "minus" not in text_of(result.page)


def test_demo_tasks_are_never_compared(tmp_path):
    asked = load(config="demo.yaml")
    make_runs(asked, tmp_path / "runs")
    result = make_table(asked, tmp_path)
    assert all(math.isnan(cell["difference"]) for cell in result.cells)
    assert {fact["relation"] for fact in result.published} == {"reference"}
    assert {(fact["column"], fact["task"]) for fact in result.published} == {
        (name, asked.tasks[name].mirrors) for name in asked.tables["table2"].tasks
    }
    assert result.page.sections[-1].lines[0].cells[2] == "95.1±.2 (SST-2)"
    assert any("not GLUE" in note for note in result.page.footnotes)


def test_columns_are_in_the_papers_order_with_the_average_of_eight(tmp_path):
    shuffled = ("stsb", "rte", "mnli", "qqp", "qnli", "cola", "mrpc", "sst2")
    asked = load(
        seeds=[0, 1],
        protocol="paper",
        tables=dict(table2=table(["roberta-base"], shuffled), table6=None),
    )
    make_runs(asked, tmp_path / "runs")
    result = make_table(asked, tmp_path)
    paper = "MNLI MNLI-mm MNLI-all SST-2 MRPC CoLA QNLI QQP RTE STS-B Avg".split()
    assert result.page.columns[2:] == tuple(paper)
    eight = [cell["best_median"] for cell in result.cells if cell["column"] in GLUE]
    average = next(cell for cell in result.cells if cell["column"] == "average")
    assert len(eight) == 8 and average["best_median"] == pytest.approx(np.mean(eight), abs=1e-5)
    assert average["published"] == 87.2
    assert next(cell for cell in result.cells if cell["column"] == "mnli-mm")["published"] == 86.9
    ours, published_only = result.page.sections
    assert [line.cells[0] for line in ours.lines if line.kind == "published"] == [
        "paper: LoRA",
        "course: LoRA",
    ]
    assert [line.cells[0] for line in published_only.lines] == [
        *("paper: FT*", "paper: BitFit*", "paper: Adpt^D*", "paper: Adpt^D*")
    ]


def test_avg_by_hand_is_the_mean_of_eight_with_matched_mnli_and_empty_where_one_is(tmp_path):
    """88, 90, 70, 60, 91, 89, 80 and 88 (matched MNLI) make 656, an eighth of which is 82."""
    values = dict(
        mnli=0.88, sst2=0.90, mrpc=0.70, cola=0.60, qnli=0.91, qqp=0.89, rte=0.80, stsb=0.88
    )
    asked = load(
        seeds=[0],
        protocol="paper",
        overrides=dict(epochs=1),
        pack=["seed"],
        tables=dict(table2=table(["roberta-base"], values), table6=None),
    )
    for cell in asked.cells:
        rows = epochs(
            [values[cell.task]],
            asked.tasks[cell.task].metric,
            accuracy_mismatched=[0.5],
            accuracy_overall=[0.69],
        )
        write_run(asked, cell, 0, tmp_path / "whole/runs", rows)
        if cell.task != "rte":
            write_run(asked, cell, 0, tmp_path / "lacking/runs", rows)
    whole = make_table(asked, tmp_path / "whole").cells[-1]
    assert (whole["column"], whole["best_median"], whole["last_mean"], whole["n"]) == (
        "average",
        82,
        82,
        1,
    )
    lacking = make_table(asked, tmp_path / "lacking")
    assert math.isnan(lacking.cells[-1]["best_median"]) and (
        lacking.cells[-1]["n"],
        lacking.cells[-1]["n_missing"],
    ) == (
        0,
        1,
    )
    assert lines_of(lacking.page, "ours")[0][-1] == "– (0 of 1)"
    assert (
        lines_of(lacking.page, "published")[0][-1] == "87.2"
    )  # what is published is shown all the same


def test_the_other_sets_are_read_at_the_epoch_that_matched_chose(tmp_path):
    """Matched accuracy is best in epoch 2; mismatched and overall are best in epoch 3."""
    others = dict(accuracy_mismatched=[0.70, 0.71, 0.99], accuracy_overall=[0.75, 0.805, 0.92])
    result = with_values(small([0], ("mnli",)), tmp_path, [[0.80, 0.90, 0.85]], **others)
    assert [cell["column"] for cell in result.cells] == ["mnli", "mnli-mm", "mnli-all"]
    assert [cell["best_median"] for cell in result.cells] == [90, 71, 80.5]
    assert [cell["last_mean"] for cell in result.cells] == [85, 99, 92]
    assert [cell["published"] for cell in result.cells[:2]] == [87.5, 86.9]
    assert math.isnan(result.cells[2]["published"])  # no overall value is published
    assert [cell["difference"] for cell in result.cells[:2]] == pytest.approx([2.5, -15.9])
    assert any(
        "compared with our matched ones" in note and "87.5" in note
        for note in result.page.footnotes
    )


def test_a_set_that_no_run_recorded_has_no_column(tmp_path):
    result = with_values(small([0], ("mnli",)), tmp_path, [[0.80, 0.90, 0.85]])
    assert [cell["column"] for cell in result.cells] == [
        "mnli"
    ] and "MNLI-mm" not in result.page.columns


def test_table6_shows_shape_beside_and_level_only_of_the_same_model(tmp_path):
    asked = load(
        seeds=[0, 1],
        tables=dict(table2=None, table6=table(["roberta-base"], ["mnli"], ("q", "qv"), (64, 1))),
    )
    for cell in asked.cells:
        for seed in asked.seeds:
            value = {("q", 1): 0.83, ("q", 64): 0.80, ("qv", 1): 0.86, ("qv", 64): 0.87}[
                cell.weights, cell.rank
            ]
            write_run(
                asked,
                cell,
                seed,
                tmp_path / "runs",
                epochs([0.5, value, 0.6], accuracy_mismatched=[0.5] * 3),
            )
    result = make_table(asked, tmp_path, "table6")
    lines = {
        section.title: [line.cells for line in section.lines] for section in result.page.sections
    }
    assert result.page.columns == ("Weight type", "r = 1", "r = 64", "Spread over r")
    best, _, course, difference, gpt3 = lines.values()
    assert best == [
        ("W_q", "83.0 [83.0, 83.0]", "80.0 [80.0, 80.0]", "3.0"),
        ("W_q,W_v", "86.0 [86.0, 86.0]", "87.0 [87.0, 87.0]", "1.0"),
    ]
    assert course == [("W_q", "72.74", "83.23", "10.49"), ("W_q,W_v", "85.03", "87.28", "2.25")]
    assert difference == [("W_q", "+10.3", "−3.2", ""), ("W_q,W_v", "+1.0", "−0.3", "")]
    assert gpt3[0] == ("W_q", "90.7±.1", "90.7±.1", "0.0")
    assert {fact["relation"] for fact in result.published if fact["model"] == "gpt3-175b"} == {
        "reference"
    }


def test_a_spread_over_fewer_ranks_says_so(tmp_path):
    asked = load(
        seeds=[0],
        tables=dict(table2=None, table6=table(["roberta-base"], ["mnli"], ("q",), (1, 2, 8))),
    )
    make_runs(asked, tmp_path / "runs", missing=[("mnli", "q", 2, 0)])
    line = make_table(asked, tmp_path, "table6").page.sections[0].lines[0]
    assert line.cells[2] == "– (0 of 1)" and line.cells[-1].endswith("(2 of 3 ranks)")


def test_written_files_read_back_and_are_the_same_bytes_twice(tmp_path):
    asked = load(config="demo.yaml")
    make_runs(asked, tmp_path / "runs", missing=[("same-article", "qv", 8, 1)])
    collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    for folder in ("once", "again"):
        for name in (*asked.tables, "selection"):
            cells.write(asked, tmp_path / "runs.csv", name, tmp_path / folder)
        write_provenance(asked, asked.config.as_dict(), tmp_path / "runs", tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == 2 * 7 + 4 + 2
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


def test_curves_are_means_and_bounds_over_runs(tmp_path):
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
def test_synthetic_parameters_are_the_methods_counts(model, method, weights, rank, count, printed):
    """By formula from layers and widths; the paper rounds some counts down (6.0M, 3.0M)."""
    assert synthetic.parameters(Cell(model, "sst2", method, weights, rank, "paper")) == count
    assert parameters(count) == printed
