"""Published values and their cells: every printed value of RoBERTa matches exactly one cell."""

import dataclasses
import math

import pandas as pd
import pytest
from helpers.synthetic import epochs, load, make_runs, make_table, paper_grid, table, write_run

from lora.experiment import csv_tables
from lora.tables.labels import GLUE, OTHER_SETS

PUBLISHED = csv_tables.read_rows("published.csv")


def published_row(**wanted) -> dict:
    (found,) = [row for row in PUBLISHED if all(row[key] == value for key, value in wanted.items())]
    return found


@pytest.mark.parametrize(
    "wanted, value, spread",
    [
        (
            dict(
                table="table2",
                model="roberta-base",
                method="lora",
                task="sst2",
                source="arXiv 2106.09685 v2 Table 2",
            ),
            95.1,
            0.2,
        ),
        (
            dict(table="table2", model="roberta-base", method="lora", metric="accuracy_mismatched"),
            86.9,
            0.3,
        ),
        (
            dict(
                table="table2",
                model="roberta-base",
                method="adapter_drop",
                trainable="0.9M",
                task="rte",
            ),
            75.9,
            2.2,
        ),
        (
            dict(
                table="table2",
                model="roberta-large",
                method="lora",
                protocol="paper-houlsby",
                task="rte",
            ),
            85.2,
            1.1,
        ),
        (
            dict(
                table="table2",
                model="roberta-large",
                method="adapter_houlsby",
                trainable="6.0M",
                task="qqp",
            ),
            92.1,
            0.1,
        ),
        (dict(table="table5", model="gpt3-175b", task="mnli", weights="q"), 91.0, 0.1),
        (dict(table="table6", model="gpt3-175b", task="mnli", weights="q", rank="8"), 90.7, 0.1),
        (
            dict(table="table6", model="gpt3-175b", task="wikisql", weights="qkvo", rank="1"),
            74.1,
            0.5,
        ),
        (dict(table="table6", model="roberta-base", weights="qv", rank="64"), 87.28, None),
    ],
)
def test_published_values_are_the_printed_ones(wanted, value, spread):
    found = published_row(**wanted)
    assert float(found["value"]) == value
    assert (float(found["spread"]) if found["spread"] else None) == spread


def test_published_averages_recompute():
    """Each Avg is the mean of its eight printed values, to one decimal; by hand to two."""
    rows = pd.DataFrame(
        [row for row in PUBLISHED if row["table"] == "table2" and row["source"].startswith("arXiv")]
    )
    by_hand = []
    for (model, *_), of_row in rows.groupby(
        ["model", "method", "trainable", "protocol"], sort=False
    ):
        eight = of_row[of_row["task"].isin(GLUE) & (of_row["metric"] != "accuracy_mismatched")]
        assert list(eight["task"]) == list(GLUE)
        mean = eight["value"].astype(float).mean()
        (printed,) = of_row[of_row["task"] == "average"]["value"].astype(float)
        assert abs(mean - printed) <= 0.0501
        by_hand += [round(mean + 1e-9, 2)] if model == "roberta-base" else []
    assert by_hand == [86.35, 85.15, 84.39, 85.35, 87.24]


def test_published_rows_have_statistic_and_source():
    assert {row["statistic"] for row in PUBLISHED} == {"median", "single", "unknown"}
    assert {row["selection"] for row in PUBLISHED} == {"best", "unknown"}
    assert all(
        row["source"] and bool(row["spread"]) == bool(row["spread_kind"]) for row in PUBLISHED
    )
    assert len({tuple(row.items()) for row in PUBLISHED}) == len(PUBLISHED)


def is_of(value: dict, cell: dict) -> bool:
    keys = ("model", "task", "method", "weights", "rank", "metric")
    return (
        all(value[key] == cell[key] for key in keys) and value["ours_protocol"] == cell["protocol"]
    )


def test_every_published_value_of_roberta_matches_exactly_one_cell(paper_table2):
    """Nine values in each of the 12 rows, one of the authors' README, three of the course."""
    wanted = [
        row for row in PUBLISHED if row["table"] == "table2" and row["model"].startswith("roberta")
    ]
    wanted = [
        row for row in wanted if row["metric"] != "spearman"
    ]  # the authors' README has STS-B by Spearman too
    assert len(wanted) == 9 * 5 + 9 * 7 + 1 + 3
    keys = ("model", "method", "trainable", "task", "metric", "value", "source", "protocol")
    shown = [tuple(value[key] for key in keys) for value in paper_table2.published]
    assert sorted(shown) == sorted(tuple(row[key] for key in keys) for row in wanted)
    other = {("bitfit", task) for task in ("mrpc", "qqp", "average")}  # F1, and a mean with F1
    for value in paper_table2.published:
        is_other = (value["method"], value["task"]) in other
        assert value["relation"] == ("context" if is_other else "same"), value
        assert sum(is_of(value, cell) for cell in paper_table2.cells) == (not is_other), value


def test_sizes_of_matching_cells_give_the_printed_parameter_counts(paper_table2):
    """The bottlenecks are inferred from the printed counts: ours differ by less than 1/15."""
    for value in paper_table2.published:
        found = [cell for cell in paper_table2.cells if is_of(value, cell)]
        if value["relation"] != "same":
            continue  # of another metric: no cell
        (cell,) = found
        assert cell["trainable"] == pytest.approx(
            1e6 * float(value["trainable"].removesuffix("M")), rel=1 / 15
        ), value


def test_dagger_rows_are_compared_in_their_protocol_only(tmp_path):
    """LoRA is compared with all protocols but the dagger's; LoRA† with that one only."""
    protocols = ["paper", "scripts", "paper-houlsby", "short"]
    two = table(["roberta-large"], ["sst2"], protocols=protocols)
    own = dict(short=dict(base="paper-houlsby", epochs=1))
    grid = load(seeds=[0], protocols=own, tables=dict(table2=two, table6=None))
    met = {}
    for value in make_table(grid, tmp_path).published:
        if value["method"] == "lora":
            met.setdefault(value["protocol"], []).append((value["ours_protocol"], value["value"]))
    assert met == {
        "": [("paper", "96.2"), ("scripts", "96.2")],
        "paper-houlsby": [("paper-houlsby", "96.2"), ("short", "96.2")],
    }
    assert {
        value["relation"]
        for value in make_table(grid, tmp_path).published
        if value["method"] != "lora"
    } == {"context"}


def test_course_runs_are_compared_with_the_paper_with_a_note(tmp_path):
    """The default protocol is the course's; the paper's value is compared, with a note."""
    grid = load(seeds=[0], tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None))
    write_run(grid, grid.cells[0], 0, tmp_path / "runs", epochs([0.93, 0.94, 0.935]))
    result = make_table(grid, tmp_path)
    (note,) = [note for note in result.page.footnotes if note.startswith("Differences are")]
    assert result.cells[0]["difference"] == pytest.approx(-1.1)
    assert "The protocols differ: ours course, published the paper's" in note


def test_a_value_of_unknown_statistic_is_compared_with_our_median(tmp_path):
    """FT* on SST-2 is 94.8; the median of ours, 94, 95.1 and 99, is 95.1."""
    baselines = [dict(method="ft")]
    grid = load(
        seeds=[0, 1, 2],
        tables=dict(table2=table(["roberta-base"], ["sst2"], baselines=baselines), table6=None),
    )
    for seed, value in zip(grid.seeds, (0.94, 0.951, 0.99), strict=True):
        for cell in grid.cells:
            write_run(grid, cell, seed, tmp_path / "runs", epochs([0.5, value, 0.6]))
    result = make_table(grid, tmp_path)
    (ft,) = [cell for cell in result.cells if cell["method"] == "ft"]
    assert (ft["published"], ft["published_statistic"], ft["difference"]) == (
        94.8,
        "unknown",
        pytest.approx(0.3),
    )
    assert any(
        "those of FT are unknown, and our median over best epochs is compared" in note
        for note in result.page.footnotes
    )


def test_failed_and_missing_runs_of_baselines_are_counted(tmp_path):
    grid = paper_grid(seeds=(0, 1, 2))
    every = [("rte", "all", 0, seed) for seed in grid.seeds]
    make_runs(
        grid,
        tmp_path / "runs",
        missing=[*every, ("cola", "both", 64, 2)],
        failed=[("sst2", "ffn8", 48, 1)],
    )
    result = make_table(grid, tmp_path)
    cells = {
        (cell["method"], cell["weights"], cell["rank"], cell["model"], cell["column"]): cell
        for cell in result.cells
    }
    fields = ("n", "n_failed", "n_missing")

    def counted(*key) -> tuple:
        return tuple(cells[key][field] for field in fields)

    assert counted("adapter_drop", "ffn8", 48, "roberta-base", "sst2") == (2, 1, 0)
    assert counted("adapter_houlsby", "both", 64, "roberta-large", "cola") == (2, 0, 1)
    for model in ("roberta-base", "roberta-large"):
        assert (
            counted("ft", "all", 0, model, "rte")
            == counted("ft", "all", 0, model, "average")
            == (0, 0, 3)
        )
        assert math.isnan(cells["ft", "all", 0, model, "average"]["best_median"])
        assert counted("lora", "qv", 8, model, "average") == (3, 0, 0)
    assert result.page.partial == f"7 of {len(grid.cells) * 3} runs are missing"
    assert {"n=2 of 3, 1 failed.", "n=0 of 3."} <= set(result.page.footnotes)


def test_mnli_values_are_compared_by_evaluation_set(paper_table2):
    """Matched 87.5 and mismatched 86.9 of the same row; overall has no published value."""
    base = [
        cell
        for cell in paper_table2.cells
        if (cell["model"], cell["method"]) == ("roberta-base", "lora")
    ]
    met = {cell["column"]: cell["published"] for cell in base if cell["task"] == "mnli"}
    assert (met["mnli"], met["mnli-mm"]) == (87.5, 86.9) and math.isnan(met["mnli-all"])
    assert set(OTHER_SETS) == {
        cell["metric"] for cell in base if cell["column"] in ("mnli-mm", "mnli-all")
    }


def test_values_of_another_metric_are_marked_and_never_compared(paper_table2):
    """BitFit's MRPC 92.7 and QQP 84.0 are F1, and its Avg contains them.

    The kind: a value and a cell, or a column, of different metrics. Members: F1 among accuracies,
    an average with other metrics in it, and (next test) accuracies in a column of F1.
    """
    lines = [line.cells for section in paper_table2.page.sections for line in section.lines]
    bitfit = [cells for cells in lines if cells[0] == "paper: BitFit*"]
    found = {
        text for cells in bitfit for text in cells if text.startswith(("92.7", "84.0", "85.2"))
    }
    assert {"92.7 (F1)", "84.0 (F1)", "85.2 (F1)"} <= found
    assert not found & {"92.7", "84.0", "85.2"}
    for cell in paper_table2.cells:
        if cell["method"] == "bitfit" and cell["column"] in ("mrpc", "qqp", "average"):
            assert math.isnan(cell["published"]) and math.isnan(cell["difference"])


def test_accuracies_are_marked_in_a_column_of_another_metric(tmp_path):
    """If MRPC is reported by F1, BitFit's value is compared, and all others are marked."""
    baselines = [dict(method="bitfit")]
    asked = load(
        seeds=[0, 1],
        tables=dict(table2=table(["roberta-base"], ["mrpc"], baselines=baselines), table6=None),
    )
    by_f1 = dataclasses.replace(asked.tasks["mrpc"], metric="f1")
    asked = dataclasses.replace(asked, tasks=asked.tasks | dict(mrpc=by_f1))
    make_runs(asked, tmp_path / "runs")
    result = make_table(asked, tmp_path)
    assert {v["value"] for v in result.published if v["relation"] == "same"} == {"92.7"}
    lines = [line.cells for section in result.page.sections for line in section.lines]
    texts = {cells[-1] for cells in lines if cells[0].startswith("paper: ")}
    assert "92.7" in texts and all(t == "92.7" or t.endswith(" (accuracy)") for t in texts)
