"""Layout of Tables 5 and 6, against worked examples."""

import pytest
from helpers.synthetic import epochs, load, make_runs, make_table, paper_grid, table, write_run

from lora.columns import TABLE_COLUMNS
from lora.experiment import csv_tables

LETTERS = ("q", "k", "v", "o", "qk", "qv", "qkvo")


def lines_of(page) -> dict[str, list[tuple[str, ...]]]:
    return {section.title: [line.cells for line in section.lines] for section in page.sections}


@pytest.fixture
def budget(tmp_path):
    """Table 5 of config/paper.yaml, one seed: 84 to 90 per cent, and a last epoch one lower."""
    grid = paper_grid(seeds=(0,), epochs=2, tables=("table5",))
    for index, cell in enumerate(grid.cells):
        write_run(
            grid, cell, 0, tmp_path / "runs", epochs([0.84 + index / 100, 0.83 + index / 100])
        )
    return make_table(grid, tmp_path, "table5")


def test_weight_types_are_columns_with_their_ranks(budget):
    assert budget.page.columns == (
        *("Weight type", "W_q", "W_k", "W_v", "W_o", "W_q,W_k", "W_q,W_v", "W_q,W_k,W_v,W_o"),
        "Spread",
    )
    ours, _ = lines_of(budget.page).values()
    assert ours[0] == ("rank r of each", "8", "8", "8", "8", "4", "4", "2", "")
    assert ours[1] == (
        "# trainable",
        *["147,456"] * 7,
        "",
    )  # 2 x 12 layers x 768 x 8, for any number of weight types
    assert ours[2] == (
        "MNLI, best epoch, median [range]",
        *(f"{value}.0" for value in range(84, 91)),
        "6.0",
    )
    assert ours[3] == (
        "minus mean of the line",
        "−3.0",
        "−2.0",
        "−1.0",
        "0.0",
        "+1.0",
        "+2.0",
        "+3.0",
        "",
    )
    assert ours[4][:2] == ("MNLI, last epoch, mean ± std", "83.0")
    assert [cell["column"] for cell in budget.cells] == [
        "q r8",
        "k r8",
        "v r8",
        "o r8",
        "qk r4",
        "qv r4",
        "qkvo r2",
    ]
    assert len({cell["row"] for cell in budget.cells}) == 1


def test_gpt3_values_are_compared_by_shape_only(budget):
    """The paper's Table 5, MultiNLI: 91.0 90.8 91.0 91.3 91.3 91.3 91.7, mean 91.2."""
    _, (level, shape) = lines_of(budget.page).values()
    assert level == (
        "MNLI",
        "91.0±.1",
        "90.8±.1",
        "91.0±.1",
        "91.3±.1",
        "91.3±.1",
        "91.3±.1",
        "91.7±.1",
        "0.9",
    )
    assert shape == (
        "minus mean of the line",
        "−0.2",
        "−0.4",
        "−0.2",
        "+0.1",
        "+0.1",
        "+0.1",
        "+0.5",
        "",
    )
    assert "compare the shape, not the level" in budget.page.sections[-1].title
    assert {(value["relation"], value["model"], value["task"]) for value in budget.published} == {
        ("reference", "gpt3-175b", "mnli")
    }
    assert all(value["difference"] != value["difference"] for value in budget.published)
    printed = [
        row
        for row in csv_tables.read_rows("published.csv")
        if (row["table"], row["task"]) == ("table5", "mnli")
    ]
    assert len(budget.published) == len(printed) == 7


def test_a_line_of_table5_with_a_missing_value_has_no_shape(tmp_path):
    grid = load(
        seeds=[0],
        tables=dict(
            table2=None, table5=table(["roberta-base"], ["mnli"], ("q", "qv"), (8, 4)), table6=None
        ),
    )
    make_runs(grid, tmp_path / "runs", missing=[("mnli", "qv", 4, 0)])
    page = make_table(grid, tmp_path, "table5").page
    sections = lines_of(page)
    eight, four = [section for title, section in sections.items() if "ours" in title]
    assert eight[0] == ("rank r of each", "8", "4", "") and four[0] == (
        "rank r of each",
        "4",
        "2",
        "",
    )
    assert (
        eight[2][2] == "– (0 of 1)"
        and eight[2][3] == "–"
        and eight[3] == ("minus mean of the line", "–", "–", "")
    )
    assert "–" not in four[3]
    (reference,) = [
        section for section in page.sections if "GPT-3" in section.title
    ]  # for the paper's budget only
    assert reference.lines[0].cells[:3] == ("MNLI", "91.0±.1", "91.3±.1")


@pytest.fixture
def heads(tmp_path):
    """Table 6 on MNLI in a protocol and in its variant with a frozen head."""
    six = table(["roberta-base"], ["mnli"], ("qv", "q"), (1, 8), protocols=["course", "frozen"])
    own = dict(frozen=dict(base="course", head="frozen"))
    grid = load(seeds=[0, 1], protocols=own, tables=dict(table2=None, table6=six))
    for cell in grid.cells:
        for seed in grid.seeds:
            value = 0.86 if cell.protocol == "course" else {1: 0.70, 8: 0.80}[cell.rank]
            write_run(grid, cell, seed, tmp_path / "runs", epochs([0.5, value + seed / 100, 0.6]))
    return make_table(grid, tmp_path, "table6")


def test_table6_has_sections_for_each_protocol(heads):
    lines = lines_of(heads.page)
    named = "RoBERTa-base, MNLI, protocol {}, ours: best epoch, median [range]"
    assert lines[named.format("course")] == [
        ("W_q,W_v", "86.5 [86.0, 87.0]", "86.5 [86.0, 87.0]", "0.0"),
        ("W_q", "86.5 [86.0, 87.0]", "86.5 [86.0, 87.0]", "0.0"),
    ]
    assert lines[named.format("frozen")] == [
        ("W_q,W_v", "70.5 [70.0, 71.0]", "80.5 [80.0, 81.0]", "10.0"),
        ("W_q", "70.5 [70.0, 71.0]", "80.5 [80.0, 81.0]", "10.0"),
    ]
    differences = {title: cells for title, cells in lines.items() if "minus course" in title}
    without_margins = [
        [tuple(text.partition("±")[0] for text in cells) for cells in of_title]
        for of_title in differences.values()
    ]
    assert without_margins == [
        [("W_q,W_v", "+1.5", "0.0", ""), ("W_q", "+13.8", "+5.0", "")],
        [("W_q,W_v", "−14.5", "−6.0", ""), ("W_q", "−2.2", "−1.0", "")],
    ]
    assert {(cell["protocol"], cell["head"]) for cell in heads.cells} == {
        ("course", "trained"),
        ("frozen", "frozen"),
    }
    assert any("frozen (course with head = frozen): LoRA" in note for note in heads.page.footnotes)


def test_a_published_value_is_listed_for_each_protocol_it_is_compared_with(heads):
    course = [value for value in heads.published if value["relation"] == "same"]
    assert len(course) == 2 * 4 and {value["ours_protocol"] for value in course} == {
        "course",
        "frozen",
    }
    for cell in heads.cells:
        (value,) = [
            value
            for value in course
            if value["ours_protocol"] == cell["protocol"]
            and all(value[key] == cell[key] for key in ("weights", "rank"))
        ]
        assert (
            cell["difference"]
            == value["difference"]
            == pytest.approx(cell["best_median"] - float(value["value"]))
        )


def test_table6_of_another_method_has_its_bottleneck_sizes(tmp_path):
    """Columns are bottleneck sizes and LoRA's ranks; full fine-tuning has none."""
    baselines = [dict(method="adapter_pfeiffer", ranks=[16, 8]), dict(method="ft")]
    six = table(["minilm"], ["product-sentiment"], ("q",), (1, 8), baselines=baselines)
    grid = load(config="demo.yaml", tables=dict(table2=None, table6=six))
    make_runs(grid, tmp_path / "runs")
    result = make_table(grid, tmp_path, "table6")
    assert result.page.columns == (
        "Weight type",
        "no r",
        "r = 1",
        "r = 8",
        "r = 16",
        "Spread over r",
    )
    named = "MiniLM, Product sentiment, {}ours: best epoch, median [range]"
    lines = lines_of(result.page)
    (lora,), (pfeiffer,), (ft,) = (
        lines[named.format(f"{method}, ")]
        for method in ("LoRA", "Pfeiffer adapter (Adpt^P)", "full fine-tuning")
    )
    assert (lora[0], lora[1], lora[4]) == ("W_q", "–", "–") and "–" not in lora[2:4]
    assert (pfeiffer[0], pfeiffer[1], pfeiffer[2]) == ("FFN", "–", "–") and "–" not in pfeiffer[3:]
    assert ft[0] == "all" and ft[2:] == ("–", "–", "–", "–")
    assert len({cell["row"] for cell in result.cells}) == 3 and set(result.cells[0]) == set(
        TABLE_COLUMNS
    )
