"""Packs: the cells of each job, and packs that a grid refuses."""

import itertools
from dataclasses import asdict

import pytest

from lora.experiment.cell import Cell
from lora.experiment.packing import Packing

CELLS = tuple(
    Cell(model, task, "lora", weights, rank, "demo")
    for model in ("m", "n")
    for task in ("s", "t")
    for weights in ("q", "qv")
    for rank in (8, 1)
)
SEEDS = (3, 0)
AXES = ("task", "weights", "rank", "seed")


def wildcards_of(cell: Cell, seed: int, axes) -> dict[str, str]:
    """Return the wildcards of a job as Snakemake gives them: text, of the axes not packed."""
    values = asdict(cell) | dict(seed=seed)
    return {axis: str(value) for axis, value in values.items() if axis not in axes}


@pytest.mark.parametrize(
    "axes", [axes for size in range(5) for axes in itertools.permutations(AXES, size)]
)
def test_every_run_is_in_exactly_one_job(axes):
    """For any packed axes, a run is in the job that its own wildcards name, and in no other."""
    packing = Packing(axes, CELLS, SEEDS)
    assert packing.problems() == []
    jobs = {}
    for cell in CELLS:
        for seed in SEEDS:
            wildcards = wildcards_of(cell, seed, axes)
            runs = list(itertools.product(packing.cells_of(wildcards), packing.seeds_of(wildcards)))
            assert (cell, seed) in runs
            jobs[tuple(wildcards.values())] = runs
    trained = [run for runs in jobs.values() for run in runs]
    assert len(trained) == len(set(trained)) == len(CELLS) * len(SEEDS)
    assert len(jobs) == len(CELLS) * len(SEEDS) / 2 ** len(axes)
    assert all(len({cell.model for cell, _ in runs}) == 1 for runs in jobs.values())


def test_order_of_the_config_has_no_effect():
    turned = Packing(("seed", "rank"), CELLS[::-1], SEEDS[::-1])
    packing = Packing(("rank", "seed"), CELLS, SEEDS)
    assert packing.packed == dict(rank=[1, 8], seed=[0, 3]) == turned.packed
    wildcards = wildcards_of(CELLS[0], 0, ("rank", "seed"))
    assert packing.cells_of(wildcards) == turned.cells_of(wildcards)


@pytest.mark.parametrize("gone", range(len(CELLS)))
@pytest.mark.parametrize("axes", [("rank",), ("task", "seed"), ("weights", "rank"), AXES])
def test_incomplete_product_is_refused_with_the_missing_cell(gone, axes):
    cells = CELLS[:gone] + CELLS[gone + 1 :]
    packing = Packing(axes, cells, SEEDS)
    assert packing.extra_cells() == [CELLS[gone]]
    (problem,) = packing.problems()
    assert f"no table uses {CELLS[gone].path}; use pack: [" in problem


@pytest.mark.parametrize("axes", [(), ("seed",)])
def test_seeds_can_be_packed_in_any_grid(axes):
    assert Packing(axes, CELLS[:3] + CELLS[9:10], SEEDS).problems() == []


def test_message_names_the_largest_allowed_pack():
    """First task t has only rank 8 of q; then two models have one task each."""
    cells = tuple(cell for cell in CELLS if cell.task == "s" and cell.model == "m")
    (problem,) = Packing(AXES, (*cells, Cell("m", "t", "lora", "q", 8, "demo")), SEEDS).problems()
    assert (
        "demo/m/t/lora/q/r1, demo/m/t/lora/qv/r1, demo/m/t/lora/qv/r8" in problem
        and "more" not in problem
    )
    assert "use pack: [seed]" in problem
    others = tuple(Cell("n", "t", "lora", cell.weights, cell.rank, "demo") for cell in cells)
    (problem,) = Packing(AXES, cells + others, SEEDS).problems()
    assert "and 5 more" in problem and "use pack: [weights, rank, seed]" in problem


def test_weights_and_ranks_of_several_methods_cannot_be_packed():
    cells = (
        *CELLS[:2],
        *(
            Cell("m", "s", method, weights, 0, "demo")
            for method, weights in (("ft", "all"), ("bitfit", "bias"))
        ),
    )
    assert Packing(("seed",), cells, SEEDS).problems() == []
    (problem,) = Packing(("rank", "seed"), cells, SEEDS).problems()
    assert "bitfit, ft, lora differ in weights and ranks; use pack: [seed]" in problem
