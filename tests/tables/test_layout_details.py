"""The second page of a table: every cell with every statistic, as in the CSV."""

from helpers.synthetic import make_runs, make_table, paper_grid

from lora.tables import layout_details


def test_every_cell_has_a_line_with_a_text_for_each_column(paper_table2):
    page = paper_table2.details
    lines = [line for section in page.sections for line in section.lines]
    assert page.name == "table2_details" and len(lines) == len(paper_table2.cells)
    assert {len(line.cells) for line in lines} == {len(page.columns)}
    first = page.sections[0]
    assert first.title == "RoBERTa-base, LoRA r=8 on W_q,W_v, protocol paper"
    assert [line.cells[0] for line in first.lines[:3]] == ["MNLI", "MNLI-mm", "MNLI-all"]


def test_statistics_are_those_of_the_csv(tmp_path):
    grid = paper_grid(seeds=(0, 1, 2), tables=("table6",))
    make_runs(grid, tmp_path / "runs")
    data = make_table(grid, tmp_path, "table6")
    lines = [line for section in data.details.sections for line in section.lines]
    for cell, line in zip(data.cells, lines, strict=True):
        assert line.cells[0] == f"LoRA r={cell['rank']} on " + ",".join(
            f"W_{letter}" for letter in cell["weights"]
        )
        shown = dict(zip(range(len(line.cells)), line.cells, strict=True))
        for index, key in enumerate(layout_details.STATISTICS, start=3):
            digits = 0 if key.endswith("_constant") else 2
            expected = "–" if cell[key] != cell[key] else f"{cell[key]:.{digits}f}"
            assert shown[index] == expected, key
    assert any("±" in line.cells[-1] for line in lines)
