"""Notes on which differences are within their margin."""

import pytest
from helpers.synthetic import epochs, load, make_table, table, write_run


@pytest.mark.parametrize(
    "values, words",
    [
        ((0.950, 0.952, 0.951), "its 95 % margin, within SST-2"),
        ((0.900, 0.902, 0.901), "its 95 % margin, beyond SST-2"),
        ((0.950,), "or runs that do not vary): SST-2"),
    ],
)
def test_a_note_says_which_differences_are_within(tmp_path, values, words):
    """The paper's 95.1 ± .2 over 5 runs; one run has no margin, and the line shows none."""
    asked = load(
        seeds=list(range(len(values))),
        tables=dict(table2=table(["roberta-base"], ["sst2"]), table6=None),
    )
    for seed, value in enumerate(values):
        write_run(asked, asked.cells[0], seed, tmp_path / "runs", epochs([0.5, value, 0.6]))
    page = make_table(asked, tmp_path).page
    (note,) = [n for n in page.footnotes if n.startswith("Difference of") and "the paper" in n]
    assert words in note
    (line,) = [
        line
        for section in page.sections
        for line in section.lines
        if line.cells[0] == "best epoch, minus paper ± 95 % margin"
    ]
    assert ("±" in line.cells[-1]) == (len(values) > 1)
