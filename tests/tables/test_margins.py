"""Notes on which differences are within their margin."""

import pytest
from helpers.synthetic import epochs, load, make_table, table, write_run

from lora.tables import margins
from lora.tables.labels import origin


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
    data = make_table(asked, tmp_path)
    page = data.details
    (note,) = [n for n in page.footnotes if n.startswith("Difference of") and "the paper" in n]
    assert words in note
    ((line,),) = [section.lines for section in page.sections]
    assert ("±" in line.cells[-1]) == (len(values) > 1)
    compared = [one for one in data.published if one["relation"] == "same"]
    (value,) = [one for one in compared if origin(one) == "paper"]
    assert margins.is_beyond(value) == ("beyond" in words)
