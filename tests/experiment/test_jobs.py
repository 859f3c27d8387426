"""What one training job trains: the cells of a pack, packs that a grid refuses, and the JSON that tells the job."""

import itertools
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from helpers.models import ROOT

from lora.cli import parser
from lora.errors import ConfigError
from lora.experiment import config, grid
from lora.experiment.cell import Cell
from lora.experiment.hparams import run_settings
from lora.experiment.jobs import JobCell, Packing, parse_json, to_json

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
    """As Snakemake gives them: text, of the axes that are not packed."""
    values = asdict(cell) | dict(seed=seed)
    return {axis: str(value) for axis, value in values.items() if axis not in axes}


@pytest.mark.parametrize(
    "axes", [axes for size in range(5) for axes in itertools.permutations(AXES, size)]
)
def test_jobs_divide_the_runs(axes):
    """Whatever is packed, every run is in exactly the one job that its own wildcards name, and in no other."""
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


def test_the_order_of_a_config_decides_nothing():
    turned = Packing(("seed", "rank"), CELLS[::-1], SEEDS[::-1])
    packing = Packing(("rank", "seed"), CELLS, SEEDS)
    assert packing.packed == dict(rank=[1, 8], seed=[0, 3]) == turned.packed
    wildcards = wildcards_of(CELLS[0], 0, ("rank", "seed"))
    assert packing.cells_of(wildcards) == turned.cells_of(wildcards)


@pytest.mark.parametrize("gone", range(len(CELLS)))
@pytest.mark.parametrize("axes", [("rank",), ("task", "seed"), ("weights", "rank"), AXES])
def test_a_hole_in_the_product_is_refused_by_name(gone, axes):
    cells = CELLS[:gone] + CELLS[gone + 1 :]
    packing = Packing(axes, cells, SEEDS)
    assert packing.not_asked_for() == [CELLS[gone]]
    (problem,) = packing.problems()
    assert f"no table asks for {CELLS[gone].path}; use pack: [" in problem


@pytest.mark.parametrize("axes", [(), ("seed",)])
def test_seeds_alone_pack_whatever_the_grid(axes):
    assert Packing(axes, CELLS[:3] + CELLS[9:10], SEEDS).problems() == []


def test_the_largest_pack_that_fits_is_told():
    """Task t has rank 8 of q alone; then each of two models has a task of its own, with every weight type and rank."""
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


SAME_ARTICLE = Cell("minilm", "same-article", "lora", "qv", 8, "demo")
HPARAMS = grid.load(config.read(str(ROOT / "config/demo.yaml"))).hparams(SAME_ARTICLE)


def job_cells(*cells: Cell) -> list[JobCell]:
    return [
        JobCell(cell, HPARAMS, f"tokens/{cell.task}", ("runs/one", "runs/other")) for cell in cells
    ]


def test_cells_come_back_from_their_json():
    """With the types a digest depends on: 16 for a float is 16.0."""
    cells = job_cells(*CELLS[:4])
    text = to_json(cells)
    assert parse_json(text) == cells and "\n" not in text and ": " not in text
    for name, value in (
        parse_json(text.replace('"alpha":8.0', '"alpha":8'))[0].hparams.as_dict().items()
    ):
        assert type(value) is type(getattr(HPARAMS, name)), name


def test_methods_with_axes_of_their_own_pack_seeds_and_tasks_only():
    cells = (
        *CELLS[:2],
        *(
            Cell("m", "s", method, weights, 0, "demo")
            for method, weights in (("ft", "all"), ("bitfit", "bias"))
        ),
    )
    assert Packing(("seed",), cells, SEEDS).problems() == []
    (problem,) = Packing(("rank", "seed"), cells, SEEDS).problems()
    assert "bitfit, ft, lora have weights and ranks of their own; use pack: [seed]" in problem


def change(**changes):
    def changed(cells):
        cells[1] |= changes

    return changed


def without_epochs(cells):
    del cells[1]["hparams"]["epochs"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda cells: cells.clear(),
            r"got '\[\]'; allowed: a JSON list of objects .*, at least one",
        ),
        (
            lambda cells: cells.insert(1, "same-article"),
            "cell 1: got 'same-article'; allowed: the keys model, task",
        ),
        (
            lambda cells: cells[1].pop("tokens_dir"),
            "cell 1: got the keys .*; allowed: the keys .*tokens_dir, start_dirs, all of them",
        ),
        (change(rank="8"), "cell 1: rank is '8'; allowed: a whole number"),
        (change(rank=True), "cell 1: rank is True; allowed: a whole number"),
        (change(weights="vq"), "cell 1: weights is 'vq'; .*write 'qv'"),
        (change(tokens_dir=None), "cell 1: tokens_dir is None; allowed: text"),
        (change(start_dirs="runs"), "cell 1: start_dirs is 'runs'; allowed: a list of folders"),
        (change(model="other"), "got models m, other; allowed: one, which the runs share"),
        (change(rank=8), "m/s/lora/q/r8 is there more than once"),
        (
            without_epochs,
            "cell 1: hparams has the keys .*; allowed: the keys epochs, .*, all of them",
        ),
        (
            change(hparams=HPARAMS.as_dict() | dict(epochs=0.5)),
            "cell 1: hparams.epochs is 0.5; allowed: a whole number",
        ),
    ],
)
def test_wrong_cells_are_refused_by_their_place(spoil, message):
    cells = json.loads(to_json(job_cells(*CELLS[:2])))
    spoil(cells)
    with pytest.raises(ConfigError, match=message):
        parse_json(json.dumps(cells))
    with pytest.raises(ConfigError, match="allowed: a JSON list of objects"):
        parse_json("q,v")


def command(*arguments):
    parsed = parser().parse_args(["train", *map(str, arguments)])
    return parsed.verb(parsed)


def test_the_command_trains_the_cells_it_is_given(monkeypatch, tmp_path):
    """Runs of two tasks go to the folders that the DAG waits for, with exactly the hyperparameters of the JSON."""
    got = []
    monkeypatch.setattr("lora.training.loop.train", lambda *arguments: got.append(arguments))
    cells = job_cells(SAME_ARTICLE, Cell("minilm", "tweet-intensity", "lora", "q", 1, "demo"))
    command("--cells", to_json(cells), "--seeds", 5, 0, "--model-dir", "m",
            "--output-dir", tmp_path, "--state-dir", "s", "--device", "cpu", "--micro-batch", 7,
            "--precision", "fp32", "--checkpoint-every-s", 60)  # fmt: skip
    ((asked, *others),) = got
    assert others == [Path("m"), Path("s"), "cpu", 7, "fp32", 60]
    expected = [(one, seed) for one in cells for seed in (5, 0)]
    for (wanted, seed), run in zip(expected, asked, strict=True):
        assert run.settings == run_settings(wanted.cell, seed, HPARAMS) and run.hparams == HPARAMS
        assert run.task.name == wanted.cell.task and run.tokens_dir == Path(wanted.tokens_dir)
        assert run.start_dirs == (tmp_path / "runs/one", tmp_path / "runs/other")
        assert run.output_dir == tmp_path / wanted.cell.path / f"seed{seed}"


JSON = to_json(job_cells(SAME_ARTICLE))
COMPLETE = ("--cells", JSON, "--seeds", 0, "--model-dir", "m", "--output-dir", "out")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (*COMPLETE, "--rank", 8, "--learning-rate", "1e-3"),
            "--cells says all of it; leave out --rank, --learning-rate",
        ),
        ((*COMPLETE, "--model", "minilm", "--cache-dir", "c"), "leave out --model, --cache-dir"),
        (("--cells", JSON, "--seed", 0, "--output-dir", "out"), "leave out --seed"),
        (
            ("--cells", JSON, "--seeds", 0, "--output-dir", "out"),
            "--cells needs --seeds and --model-dir",
        ),
        (("--cells", "", *COMPLETE[2:]), "a JSON list of objects"),
        (
            ("--cells", JSON.replace("same-article", "same"), *COMPLETE[2:]),
            "no task 'same'; allowed: mnli",
        ),
        (("--seed", 0, "--output-dir", "out", "--task", "sst2"), "give --weights, --rank"),
    ],
)
def test_a_command_that_says_too_much_or_too_little_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        command(*arguments)
