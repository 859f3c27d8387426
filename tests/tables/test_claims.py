"""Claims of the paper, against scipy and grids whose answer is known.

The kind: each claim confirmed, contradicted and not decided; one seed; seeds that do not match; a
grid without the cells of a claim; several protocols; tasks of unequal level.
"""

import math

import numpy as np
import pytest
from helpers.synthetic import epochs, load, table, write_run
from scipy import stats

from lora.columns import CLAIMS_COLUMNS
from lora.tables import claims, collect


def made(tmp_path, value, tables, seeds=4):
    """Return rows and page; `value` gives a run's last epoch, None for a missing run."""
    grid = load(
        seeds=list(range(seeds)),
        mode="partial",
        overrides=dict(epochs=3),
        tables=dict(table2=None, table6=None) | tables,
    )
    for cell in grid.cells:
        for seed in grid.seeds:
            last = value(cell, seed)
            if last is not None:
                write_run(grid, cell, seed, tmp_path / "runs", epochs([0.5, 0.5, last]))
    collect.collect(grid, tmp_path / "runs", tmp_path / "runs.csv")
    return claims.make(grid, tmp_path / "runs.csv")


def six(weights=("q", "qv"), ranks=(1, 8)):
    return dict(table6=table(["roberta-base"], ["sst2"], weights, ranks))


def noise(seed, second):
    """Return a deviation with mean zero over four seeds, of opposite sign in the second cell."""
    return (1 if second else -1) * (0.003, -0.003, 0.0015, -0.0015)[seed]


@pytest.mark.parametrize(
    "gain, verdict",
    [(0.0, "confirmed"), (0.06, "contradicted"), (-0.06, "contradicted"), (0.01, "not decided")],
)
def test_a_small_rank_is_enough(tmp_path, gain, verdict):
    def value(cell, seed):
        return 0.8 + gain * (cell.rank == 8) + noise(seed, cell.rank == 8)

    rows, page = made(tmp_path, value, six(["qv"]))
    (row,) = rows
    assert set(row) == set(CLAIMS_COLUMNS)
    test = stats.ttest_rel(*([100 * value(c, s) for s in range(4)] for c in _cells(8, 1)))
    interval = test.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert (row["claim"], row["verdict"], row["n"]) == ("small_rank", verdict, 4)
    assert row["compared"] == "RoBERTa-base, SST-2: r=8 − r=1"
    assert page.sections[0].title.endswith(f": {verdict}")


def _cells(*ranks):
    return [type("Cell", (), dict(rank=rank)) for rank in ranks]


@pytest.mark.parametrize(
    "gain, verdict", [(0.03, "confirmed"), (-0.03, "contradicted"), (0.0, "not decided")]
)
def test_two_weight_types_against_one(tmp_path, gain, verdict):
    def value(cell, seed):
        return 0.8 + gain * (cell.weights == "qv") + noise(seed, cell.weights == "qv")

    rows, _ = made(tmp_path, value, six())
    (row,) = [row for row in rows if row["claim"] == "weight_types"]
    assert row["verdict"] == verdict and "mean of r=1, 8" in row["compared"]
    differences = [
        50
        * sum(
            value(type("C", (), dict(weights="qv", rank=r)), s)
            - value(type("C", (), dict(weights="q", rank=r)), s)
            for r in (1, 8)
        )
        for s in range(4)
    ]
    assert row["difference"] == pytest.approx(np.mean(differences), abs=1e-5)


def test_equal_parameters(tmp_path):
    """W_q at r=8 has as many parameters as W_q,W_v at r=4 and all four types at r=2."""
    tables = six(["q", "qv", "qkvo"], [2, 4, 8])
    rows, _ = made(
        tmp_path, lambda cell, seed: 0.8 + 0.02 * len(cell.weights) + noise(seed, False), tables
    )
    found = [row for row in rows if row["claim"] == "equal_parameters"]
    assert [row["compared"].partition(": ")[2] for row in found] == [
        "LoRA r=2 on W_q,W_v − LoRA r=4 on W_q",
        "LoRA r=4 on W_q,W_v − LoRA r=8 on W_q",
        "LoRA r=2 on W_q,W_k,W_v,W_o − LoRA r=8 on W_q",
    ]


@pytest.mark.parametrize(
    "gain, verdict",
    [(0.0, "confirmed"), (0.05, "confirmed"), (-0.05, "contradicted"), (-0.01, "not decided")],
)
def test_lora_against_full_fine_tuning(tmp_path, gain, verdict):
    """The mean over the tasks that both have; a task without one of them does not count."""
    two = table(["roberta-base"], ["sst2", "rte"], baselines=[dict(method="ft")])
    six = table(["roberta-base"], ["mrpc"])
    level = dict(sst2=0.9, rte=0.7, mrpc=0.1)

    def value(cell, seed):
        added = gain if cell.method == "lora" else 0
        return level[cell.task] + added + noise(seed, cell.method == "lora")

    rows, _ = made(tmp_path, value, dict(table2=two, table6=six))
    (row,) = [row for row in rows if row["claim"] == "fine_tuning"]
    assert row["verdict"] == verdict
    assert row["compared"] == (
        "RoBERTa-base, mean of 2 tasks: LoRA r=8 on W_q,W_v − full fine-tuning"
    )


def test_one_seed_decides_nothing(tmp_path):
    rows, _ = made(tmp_path, lambda cell, seed: 0.8 + 0.1 * (cell.rank == 8), six(), seeds=1)
    assert {row["verdict"] for row in rows} == {"not decided"} and rows[0]["n"] == 1
    assert math.isnan(rows[0]["low"])
    assert claims.sentences(rows)[0].startswith("Not decided: a small rank is enough")


def test_only_shared_seeds_count(tmp_path):
    def value(cell, seed):
        missing = (cell.rank, seed) in {(1, 0), (8, 2)}
        return None if missing else 0.8 + noise(seed, cell.rank == 8)

    rows, page = made(tmp_path, value, six(["qv"]))
    assert rows[0]["n"] == 2 and page.partial


def test_a_grid_without_these_cells_has_no_claims(tmp_path):
    rows, page = made(tmp_path, lambda cell, seed: 0.8, six(["qv"], [8]))
    assert rows == [] and page.sections == ()
    assert page.footnotes[0] == "The grid has no cells that a claim is about."


def test_several_protocols_are_named(tmp_path):
    tables = six(["qv"])
    tables["table6"]["protocols"] = ["course", "paper"]
    rows, _ = made(tmp_path, lambda cell, seed: 0.8 + noise(seed, cell.rank == 8), tables)
    assert [row["compared"] for row in rows] == [
        f"RoBERTa-base, SST-2, {name}: r=8 − r=1" for name in ("course", "paper")
    ]


def test_sentences_say_verdict_and_evidence(tmp_path):
    def value(cell, seed):
        return 0.8 + 0.06 * (cell.rank == 8) + noise(seed, cell.rank == 8)

    rows, _ = made(tmp_path, value, six(["qv"]))
    (sentence,) = claims.sentences(rows)
    assert sentence.startswith(
        "Contradicted: a small rank is enough when W_q and W_v are adapted (Sec. 7.2, Table 6). "
        "RoBERTa-base, SST-2: r=8 − r=1: +"
    )
    assert sentence.endswith(", 4 seeds.")
