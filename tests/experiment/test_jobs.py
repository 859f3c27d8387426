"""JSON of a job's cells: parsed back unchanged; wrong cells are refused with their index."""

import json
from pathlib import Path

import pytest
from helpers.models import ROOT

from lora.errors import ConfigError
from lora.experiment import config_files, grid
from lora.experiment.cell import Cell
from lora.experiment.jobs import cell_entry, parse_json, to_json
from lora.experiment.run_spec import RunSpec
from lora.experiment.task import Task

CELLS = [
    Cell("m", task, "lora", weights, rank, "demo")
    for task, weights, rank in (("s", "q", 8), ("s", "q", 1), ("t", "qv", 8))
]
TASKS = {
    name: Task(name, "", "data", "glue", ("text",), 2, "accuracy", ("validation",), "")
    for name in "st"
}
SAME_ARTICLE = Cell("minilm", "same-article", "lora", "qv", 8, "demo")
HPARAMS = grid.load(config_files.read(str(ROOT / "config/demo.yaml"))).hparams(SAME_ARTICLE)


def entries(*cells: Cell) -> list[dict[str, object]]:
    return [cell_entry(cell, HPARAMS, f"tokens/{cell.task}", ("one", "other")) for cell in cells]


def parse(text: str) -> list[RunSpec]:
    return parse_json(text, [5, 0], Path("runs"), TASKS)


def test_job_json_gives_back_its_runs():
    """Every seed of every cell, with outputs and warm starts below the runs folder."""
    text = to_json(entries(*CELLS))
    assert "\n" not in text and ": " not in text
    assert parse(text) == [
        RunSpec(
            cell,
            seed,
            HPARAMS,
            TASKS[cell.task],
            Path("tokens", cell.task),
            Path("runs", cell.path, f"seed{seed}"),
            (Path("runs/one"), Path("runs/other")),
        )
        for cell in CELLS
        for seed in (5, 0)
    ]


def test_hyperparameters_have_the_types_that_a_digest_depends_on():
    """An integer for a float setting becomes a float."""
    text = to_json(entries(*CELLS)).replace('"alpha":8.0', '"alpha":8')
    for name, value in parse(text)[0].hparams.as_dict().items():
        assert type(value) is type(getattr(HPARAMS, name)), name


def test_job_json_is_unchanged_from_earlier_versions():
    """It is a parameter of the train rule: a changed text would retrain finished runs."""
    hparams = json.dumps(HPARAMS.as_dict(), sort_keys=True, separators=(",", ":"))
    assert to_json(entries(CELLS[0])) == (
        f'[{{"hparams":{hparams},"method":"lora","model":"m","protocol":"demo","rank":8,'
        '"start_dirs":["one","other"],"task":"s","tokens_dir":"tokens/s","weights":"q"}]'
    )


def change(**changes):
    def changed(cells):
        cells[1] |= changes

    return changed


def without_epochs(cells):
    del cells[1]["hparams"]["epochs"]


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda cells: cells.clear(),
            r"got '\[\]'; allowed: a JSON list of objects .*, at least one",
        ),
        (
            lambda cells: cells.insert(1, "same-article"),
            "cell 1: got 'same-article'; allowed: exactly the keys model, task",
        ),
        (
            lambda cells: cells[1].pop("tokens_dir"),
            "cell 1: got the keys .*; allowed: exactly the keys .*tokens_dir, start_dirs",
        ),
        (change(rank="8"), "cell 1: rank is '8'; allowed: a whole number"),
        (change(rank=True), "cell 1: rank is True; allowed: a whole number"),
        (change(weights="vq"), "cell 1: weights is 'vq'; .*write 'qv'"),
        (change(task="u"), "cell 1: no task 'u'; allowed: s, t"),
        (change(tokens_dir=None), "cell 1: tokens_dir is None; allowed: text"),
        (change(start_dirs="runs"), "cell 1: start_dirs is 'runs'; allowed: a list of folders"),
        (change(model="other"), "got models m, other; allowed: one model per job"),
        (change(rank=8), "m/s/lora/q/r8 is in the list more than once"),
        (without_epochs, "cell 1: hparams has the keys .*; allowed: exactly the keys epochs, "),
        (
            change(hparams=HPARAMS.as_dict() | dict(epochs=0.5)),
            "cell 1: hparams.epochs is 0.5; allowed: a whole number",
        ),
    ],
)
def test_wrong_cells_are_refused_by_their_index(damage, message):
    cells = json.loads(to_json(entries(*CELLS[:2])))
    damage(cells)
    with pytest.raises(ConfigError, match=message):
        parse(json.dumps(cells))
    with pytest.raises(ConfigError, match="allowed: a JSON list of objects"):
        parse("q,v")
