"""Claims about agreement: when the runs of a training job may rest. Made runs; each change is one that a user makes."""

import json
from dataclasses import replace

import pytest
from helpers.synthetic import epochs, load, table, write_run

from lora.experiment import verify
from lora.files import write_json

TABLES = dict(table2=table(["roberta-base"], ["mnli", "mrpc"]), table6=None)


@pytest.fixture
def made(tmp_path):
    """A grid whose MRPC starts from MNLI, with all its runs and tokens, and whether a cell's runs rest under a grid."""
    asked = load(protocol="paper", seeds=[0, 1], tables=TABLES, overrides=dict(epochs=2))
    mnli, mrpc = asked.cells

    def tokens_json(cell):
        return tmp_path / cell.task / "tokens.json"

    for cell in asked.cells:
        task = asked.tasks[cell.task]
        facts = dict(
            source=asked.sources[task.dataset].identity,
            num_labels=task.num_labels,
            format=task.format,
        )
        facts |= dict(
            text_columns=list(task.text_columns),
            splits={name: {} for name in ("train", *task.eval_splits)},
        )
        write_json(tokens_json(cell), facts)
        for seed in asked.seeds:
            start = dict(source="mnli", sha256="a1" * 32) if cell == mrpc else None
            files = {verify.ADAPTER: f"a{seed}" * 32}
            write_run(
                asked, cell, seed, tmp_path / "runs", epochs([0.9] * 2), files=files, start=start
            )

    def rests(cell, grid=asked, seeds=(0, 1)) -> bool:
        return verify.settled(grid, cell, seeds, tmp_path / "runs", tokens_json)

    assert rests(mnli) and rests(mrpc)
    return asked, mnli, mrpc, rests, tmp_path


def changed(path, **values):
    write_json(path, json.loads(path.read_text()) | values)


def test_a_changed_setting_of_one_task_wakes_it_and_what_starts_from_it(made):
    asked, mnli, mrpc, rests, _ = made

    def at_another_rate(task: str):
        at = dict(
            protocol="paper",
            method="lora",
            model="roberta-base",
            task=task,
            rank="*",
            name="learning_rate",
        )
        rows = [
            row | (dict(value="7e-4") if row.items() >= at.items() else {})
            for row in asked.hparam_rows
        ]
        assert tuple(rows) != asked.hparam_rows
        return replace(asked, hparam_rows=tuple(rows))

    assert not rests(mnli, at_another_rate("mnli")) and not rests(mrpc, at_another_rate("mnli"))
    assert rests(mnli, at_another_rate("mrpc")) and not rests(mrpc, at_another_rate("mrpc"))


@pytest.mark.parametrize(
    "name, wakes",
    [("glue-mrpc", {"mrpc"}), ("glue-mnli", {"mnli", "mrpc"}), ("roberta-base", None)],
)
def test_another_source_wakes_what_was_trained_on_it(made, name, wakes):
    asked, mnli, mrpc, rests, folder = made
    moved = replace(asked.sources[name], revision="0" * 40)
    other = replace(asked, sources=asked.sources | {name: moved})
    assert {cell.task for cell in (mnli, mrpc) if not rests(cell, other)} == (
        wakes or {"mnli", "mrpc"}
    )
    (
        folder / "mrpc/tokens.json"
    ).unlink()  # also where what was prepared is gone: the runs know what they stood on
    assert not rests(mrpc, other)
    assert rests(mrpc)


@pytest.mark.parametrize(
    "change",
    [
        dict(text_columns=("sentence1",)),
        dict(metric="f1"),
        dict(eval_splits=("test",)),
        dict(format="csv"),
    ],
)
def test_another_reading_of_a_task_wakes_it(made, change):
    asked, mnli, mrpc, rests, _ = made
    other = replace(asked, tasks=asked.tasks | dict(mrpc=replace(asked.tasks["mrpc"], **change)))
    assert rests(mnli, other) and not rests(mrpc, other)


def test_a_run_that_is_missing_or_damaged_and_a_start_that_was_trained_again_wake(made):
    asked, mnli, mrpc, rests, folder = made
    assert not rests(mnli, seeds=(0, 1, 2))
    record = folder / "runs" / mnli.path / "seed1/run.json"
    changed(record, files={verify.ADAPTER: "bb" * 32})
    assert rests(mnli) and not rests(mrpc)
    changed(record, files={verify.ADAPTER: "a1" * 32}, results_version=1)
    assert not rests(mnli) and not rests(mrpc)
    record.write_text("{")
    assert not rests(mnli)
    (folder / "runs" / mrpc.path / "seed0/metrics.csv").unlink()
    assert not rests(mrpc)
