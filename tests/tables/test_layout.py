"""Layout of Table 2: published lines, our lines and differences, in the paper's order."""

from helpers.synthetic import load, make_runs, make_table, table

from lora.tables import layout


def test_published_lines_are_right_above_ours(paper_table2):
    sections = [[line.kind for line in section.lines] for section in paper_table2.page.sections]
    assert len(sections) == 5 + 7 + 1  # the last of RoBERTa-base: F1 of BitFit, not compared
    assert sections.pop(5) == ["published"]
    both = [
        "published",
        "published",
        "ours",
        "ours",
        "difference",
        "difference",
    ]  # of LoRA: the paper's and the course's
    assert sections.count(["published", "ours", "ours", "difference"]) == 11 and sections[4] == both
    titles = [
        section.title.removesuffix(", protocol paper") for section in paper_table2.page.sections
    ]
    assert titles.pop(5) == "RoBERTa-base, published only: no runs to compare it with"
    assert titles == [
        "RoBERTa-base: full fine-tuning",
        "RoBERTa-base: BitFit",
        "RoBERTa-base: AdapterDrop (Adpt^D), bottleneck 48, none in the lowest 8 layers",
        "RoBERTa-base: AdapterDrop (Adpt^D), bottleneck 48",
        "RoBERTa-base: LoRA r=8 on W_q,W_v",
        "RoBERTa-large: full fine-tuning",
        "RoBERTa-large: Pfeiffer adapter (Adpt^P), bottleneck 64, protocol paper-houlsby",
        "RoBERTa-large: Pfeiffer adapter (Adpt^P), bottleneck 16, protocol paper-houlsby",
        "RoBERTa-large: Houlsby adapter (Adpt^H), bottleneck 64, protocol paper-houlsby",
        "RoBERTa-large: Houlsby adapter (Adpt^H), bottleneck 8, protocol paper-houlsby",
        "RoBERTa-large: LoRA r=8 on W_q,W_v",
        "RoBERTa-large: LoRA r=8 on W_q,W_v, protocol paper-houlsby",
    ]
    counts = [
        [line.cells[:2] for line in section.lines if line.cells[1]]
        for section in paper_table2.page.sections
    ]
    assert counts[0][:2] == [("paper: FT*", "125.0M"), ("best epoch, median [range]", "124.1M")]
    counts.pop(5)
    assert counts[8][:2] == [("paper: Adpt^H†", "6.0M"), ("best epoch, median [range]", "6.3M")]
    assert counts[11][0] == ("paper: LoRA†", "0.8M")


def test_a_table_without_a_run_is_partial(tmp_path):
    grid = load(seeds=[0, 1], tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None))
    make_runs(grid, tmp_path / "runs", missing=[("sst2", "qv", 8, 1)])
    page = make_table(grid, tmp_path).page
    assert page.partial == "1 of 2 runs are missing"
    assert layout.partial([dict(n_missing=0, n_expected=2)]) == ""


def test_details_have_a_text_for_each_column(paper_table2):
    page = paper_table2.page
    assert len(page.details) == len(paper_table2.cells)
    assert {len(row) for row in page.details} == {len(page.details_columns)}
