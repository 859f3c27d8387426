"""Paired differences, against scipy and a worked example of Holm's method.

The kind: pairs by method, weights, rank, protocol and weights at equal parameters; seeds that do
not match; fewer than two seeds; no variation; a grid without pairs.
"""

import math

import pytest
from helpers.synthetic import epochs, load, table, write_run
from scipy import stats

from lora import files
from lora.columns import DIFFERENCES_COLUMNS
from lora.tables import cells, collect, differences

VALUES = {"q": (0.80, 0.82, 0.81, 0.85), "qv": (0.84, 0.85, 0.88, 0.86)}


def made(tmp_path, values, own=None, seeds=4):
    """Return rows and page; values: weights -> best value of each seed, None for a missing run."""
    own = own or table(["roberta-base"], ["sst2"], list(values))
    asked = load(
        seeds=list(range(seeds)),
        mode="partial",
        tables=dict(table2=None, table6=None) | own
        if "table5" in own
        else dict(table2=None, table6=own),
    )
    for cell in asked.cells:
        for seed, value in enumerate(values[cell.weights]):
            if value is not None:
                rows = epochs([0.5, value, value - 0.01 * seed])
                write_run(asked, cell, seed, tmp_path / "runs", rows)
    collect.collect(asked, tmp_path / "runs", tmp_path / "runs.csv")
    return asked, *differences.make(asked, tmp_path / "runs.csv")


def test_rows_are_scipys_paired_t_test(tmp_path):
    _, rows, page = made(tmp_path, VALUES)
    best, last = rows
    for row, shift in ((best, 0), (last, 1)):
        one, other = (
            [100 * (v - shift * 0.01 * s) for s, v in enumerate(VALUES[w])] for w in ("q", "qv")
        )
        test = stats.ttest_rel(one, other)
        interval = test.confidence_interval(0.95)
        assert row["p"] == row["p_holm"] == pytest.approx(test.pvalue, abs=1e-6)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-5)
        assert (row["n"], row["differs_in"], row["comparisons"]) == (4, "weights", 1)
    assert best["difference"] == pytest.approx(-3.75)
    (line,) = page.sections[0].lines
    assert line.cells[:2] == ("LoRA r=8 on W_q − LoRA r=8 on W_q,W_v, course", "−3.75")


def test_holms_worked_example():
    """p 0.01, 0.04, 0.03, 0.005 of four: 0.03, 0.06, 0.06, 0.02; by hand."""
    assert differences.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert differences.holm([0.9, 0.8]) == [1, 1] and differences.holm([]) == []


def test_shared_seeds_are_used(tmp_path):
    values = {"q": (0.80, None, 0.81, 0.85), "qv": (0.84, 0.85, None, 0.86)}
    _, rows, page = made(tmp_path, values)
    assert (rows[0]["n"], rows[0]["seeds"]) == (2, "0 3")
    assert rows[0]["difference"] == pytest.approx(-2.5)
    assert page.partial == "2 of 8 runs are missing"


@pytest.mark.parametrize(
    "values, n",
    [
        ({"q": (0.80, None), "qv": (0.84, 0.85)}, 1),
        ({"q": (0.80, None), "qv": (None, 0.85)}, 0),
        ({"q": (0.80, 0.81), "qv": (0.84, 0.85)}, 2),
    ],
)
def test_no_interval_without_two_different_differences(tmp_path, values, n):
    _, rows, page = made(tmp_path, values, seeds=2)
    assert rows[0]["n"] == n and rows[0]["comparisons"] == 0
    assert all(math.isnan(rows[0][key]) for key in ("low", "high", "p", "p_holm"))
    assert "1 more have no test" in page.footnotes[0]


def test_cells_that_differ_in_one_thing_are_compared(tmp_path):
    tables = dict(
        table2=table(["roberta-base"], ["sst2", "rte"], baselines=[dict(method="ft")]),
        table5=table(["roberta-base"], ["sst2"], ["q", "qv"], [8]),
        table6=table(
            ["roberta-base"], ["sst2"], ["q", "qv"], [1, 8], protocols=["course", "paper"]
        ),
    )
    asked = load(seeds=[0], tables=tables)
    found = {}
    every = asked.table_cells
    for one in every:
        for other in every:
            axis = differences.differs_in(asked, one, other)
            assert axis == differences.differs_in(asked, other, one)
            if axis:
                assert (one.model, one.task) == (other.model, other.task) and one != other
                found[axis] = found.get(axis, 0) + 1
    assert set(found) == {"method", "weights", "rank", "protocol", "weights at equal parameters"}
    assert found["weights at equal parameters"] == 2  # q r8 and qv r4, either way round


def test_the_files_are_written(tmp_path):
    asked, rows, _ = made(tmp_path, VALUES)
    cells.write(asked, tmp_path / "runs.csv", "differences", tmp_path / "out")
    again = files.read_csv(tmp_path / "out/differences.csv", DIFFERENCES_COLUMNS)
    assert [row["p"] for row in again] == [row["p"] for row in rows]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {
        ".csv",
        ".md",
        ".tex",
        ".html",
    }


def test_a_grid_without_pairs_says_so(tmp_path):
    _, rows, page = made(tmp_path, {"q": VALUES["q"]})
    assert rows == [] and page.sections == () and "nothing is compared" in page.footnotes[0]
