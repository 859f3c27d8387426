"""Layout of Table 2: ours, published value and difference, in the paper's order."""

from helpers.synthetic import load, make_runs, make_table, table

from lora.tables import layout


def test_a_method_has_our_line_the_published_line_and_the_difference(paper_table2):
    base, only_published, large = paper_table2.page.sections
    assert (base.title, large.title) == ("RoBERTa-base", "RoBERTa-large")
    assert only_published.title == "RoBERTa-base, published only: no runs to compare it with"
    assert [line.kind for line in only_published.lines] == ["published"]  # F1 of BitFit
    three = ["ours", "published", "difference"]
    assert [line.kind for line in large.lines] == 7 * three
    both = ["ours", "published", "published", "difference", "difference"]  # paper's and course's
    assert [line.kind for line in base.lines] == 4 * three + both
    labels = [line.cells[:2] for line in (*base.lines, *large.lines)]
    assert labels[:3] == [
        ("full fine-tuning", "124.1M"),
        ("paper: FT*", "125.0M"),
        ("difference", ""),
    ]
    assert [label for label, _ in labels[12:17]] == [
        *("LoRA r=8 on W_q,W_v", "paper: LoRA", "course: LoRA"),
        *("difference to the paper", "difference to the course"),
    ]
    ours = [line.cells[0] for line in (*base.lines, *large.lines) if line.kind == "ours"]
    assert ours == [
        "full fine-tuning",
        "BitFit",
        "AdapterDrop 48, from layer 9",
        "AdapterDrop 48",
        "LoRA r=8 on W_q,W_v",
        "full fine-tuning",
        "Pfeiffer adapter 64, paper-houlsby",
        "Pfeiffer adapter 16, paper-houlsby",
        "Houlsby adapter 64, paper-houlsby",
        "Houlsby adapter 8, paper-houlsby",
        "LoRA r=8 on W_q,W_v",
        "LoRA r=8 on W_q,W_v, paper-houlsby",
    ]


def test_the_three_values_of_a_cell(paper_table2):
    """The page has the values of the CSVs: our median, the published value, and the difference."""
    line, theirs, difference = paper_table2.page.sections[0].lines[:3]
    cell = next(cell for cell in paper_table2.cells if cell["method"] == "ft")
    assert (cell["model"], cell["column"]) == ("roberta-base", "mnli")
    assert line.cells[2] == f"{cell['best_median']:.1f}"
    assert theirs.cells[2] == "87.6"  # Liu et al. (2019), as printed in the paper
    expected = cell["best_median"] - 87.6
    assert difference.cells[2] == f"{expected:+.1f}".replace("-", "−")


def test_a_row_without_published_values_has_its_last_epoch(tmp_path):
    grid = load(config="demo.yaml", overrides=dict(epochs=2))
    make_runs(grid, tmp_path / "runs")
    ours, *others = make_table(grid, tmp_path).page.sections
    assert [line.cells[0] for line in ours.lines] == [
        "LoRA r=8 on W_q,W_v",
        "last epoch, mean ± std",
    ]
    assert all("±" not in text for text in ours.lines[0].cells)
    assert all("±" in text for text in ours.lines[1].cells[2:])


def test_a_table_without_a_run_is_partial(tmp_path):
    grid = load(seeds=[0, 1], tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None))
    make_runs(grid, tmp_path / "runs", missing=[("sst2", "qv", 8, 1)])
    page = make_table(grid, tmp_path).page
    assert page.partial == "1 of 2 runs are missing"
    assert layout.partial([dict(n_missing=0, n_expected=2)]) == ""


def test_no_line_is_longer_than_the_heading(paper_table2):
    page = paper_table2.page
    for section in page.sections:
        for line in section.lines:
            assert max(len(line.cells), len(line.about)) <= len(page.columns)
