"""Up-to-date checks of training jobs after changes that users make, on synthetic runs."""

import json
from dataclasses import astuple, replace

import pytest
from helpers.synthetic import epochs, load, table, write_run

from lora.experiment import verify
from lora.files import write_json

TABLES = dict(table2=table(["roberta-base"], ["mnli", "mrpc"]), table6=None)


@pytest.fixture
def made(tmp_path):
    """A grid whose MRPC starts from MNLI, with all runs and tokens, and a check of a cell."""
    default_grid = load(protocol="paper", seeds=[0, 1], tables=TABLES, overrides=dict(epochs=2))
    mnli, mrpc = default_grid.cells

    def tokens_json(cell):
        return tmp_path / cell.task / "tokens.json"

    for cell in default_grid.cells:
        task = default_grid.tasks[cell.task]
        facts = dict(
            source=default_grid.sources[task.dataset].identity,
            num_labels=task.num_labels,
            format=task.format,
        )
        facts |= dict(
            text_columns=list(task.text_columns),
            splits={name: {} for name in ("train", *task.eval_splits)},
        )
        write_json(tokens_json(cell), facts)
        for seed in default_grid.seeds:
            start = dict(source="mnli", sha256="a1" * 32) if cell == mrpc else None
            files = {verify.ADAPTER: f"a{seed}" * 32}
            write_run(
                default_grid,
                cell,
                seed,
                tmp_path / "runs",
                epochs([0.9] * 2),
                files=files,
                start=start,
            )

    def is_current(cell, grid=default_grid, seeds=(0, 1)) -> bool:
        return verify.up_to_date(grid, cell, seeds, tmp_path / "runs", tokens_json)

    assert is_current(mnli) and is_current(mrpc)
    return default_grid, mnli, mrpc, is_current, tmp_path


def changed(path, **values):
    write_json(path, json.loads(path.read_text()) | values)


def test_a_changed_setting_outdates_its_task_and_what_starts_from_it(made):
    default_grid, mnli, mrpc, is_current, _ = made

    def at_another_rate(task: str):
        of_task = ("paper", "lora", "roberta-base", task, "*", "learning_rate")
        rows = tuple(
            replace(row, value="7e-4") if astuple(row)[:6] == of_task else row
            for row in default_grid.hparam_rows
        )
        assert rows != default_grid.hparam_rows
        return replace(default_grid, hparam_rows=rows)

    assert not is_current(mnli, at_another_rate("mnli")) and not is_current(
        mrpc, at_another_rate("mnli")
    )
    assert is_current(mnli, at_another_rate("mrpc")) and not is_current(
        mrpc, at_another_rate("mrpc")
    )


@pytest.mark.parametrize(
    "name, outdated",
    [("glue-mrpc", {"mrpc"}), ("glue-mnli", {"mnli", "mrpc"}), ("roberta-base", None)],
)
def test_another_source_outdates_the_runs_trained_on_it(made, name, outdated):
    default_grid, mnli, mrpc, is_current, folder = made
    moved = replace(default_grid.sources[name], revision="0" * 40)
    other = replace(default_grid, sources=default_grid.sources | {name: moved})
    assert {cell.task for cell in (mnli, mrpc) if not is_current(cell, other)} == (
        outdated or {"mnli", "mrpc"}
    )
    (folder / "mrpc/tokens.json").unlink()  # without tokens, run.json still names the source
    assert not is_current(mrpc, other)
    assert is_current(mrpc)


@pytest.mark.parametrize(
    "change",
    [
        dict(text_columns=("sentence1",)),
        dict(metric="f1"),
        dict(eval_splits=("test",)),
        dict(format="csv"),
    ],
)
def test_a_changed_task_outdates_its_runs(made, change):
    default_grid, mnli, mrpc, is_current, _ = made
    other = replace(
        default_grid,
        tasks=default_grid.tasks | dict(mrpc=replace(default_grid.tasks["mrpc"], **change)),
    )
    assert is_current(mnli, other) and not is_current(mrpc, other)


NAMES = ("entailment", "neutral", "contradiction")
RENAMED, REORDERED = ("yes", "neutral", "no"), ("neutral", "entailment", "contradiction")


def with_names(grid, **names):
    """Return a grid in which tasks have these names of classes."""
    tasks = {
        task: replace(grid.tasks[task], num_labels=3, label_names=given)
        for task, given in names.items()
    }
    return replace(grid, tasks=grid.tasks | tasks)


@pytest.fixture
def three_classes(made):
    """MNLI, and a task of as many classes with the same names, that starts from it."""
    grid, mnli, mrpc, is_current, folder = made
    grid = with_names(grid, mnli=NAMES, mrpc=NAMES)
    for cell in (mnli, mrpc):
        changed(folder / cell.task / "tokens.json", num_labels=3)
        for seed in grid.seeds:
            path = folder / "runs" / cell.path / f"seed{seed}/run.json"
            data = json.loads(path.read_text())["data"]
            changed(path, data=data | dict(label_names=list(NAMES)))
    assert is_current(mnli, grid) and is_current(mrpc, grid)
    return grid, mnli, mrpc, is_current, folder


@pytest.mark.parametrize("names", [RENAMED, REORDERED, ()])
def test_other_names_of_classes_outdate_a_task_and_what_starts_from_it(three_classes, names):
    """Renamed, reordered, and unknown: a start with as many classes copies rows by name."""
    grid, mnli, mrpc, is_current, _ = three_classes
    follower, start = with_names(grid, mrpc=names), with_names(grid, mnli=names)
    assert is_current(mnli, follower) and not is_current(mrpc, follower)
    assert not is_current(mnli, start) and not is_current(mrpc, start)


@pytest.mark.parametrize("names", [NAMES, RENAMED, REORDERED])
def test_names_that_a_run_of_an_earlier_version_did_not_have(three_classes, names):
    """Without names its output layer started from the rows as they were."""
    grid, mnli, mrpc, is_current, folder = three_classes
    for seed in grid.seeds:
        path = folder / "runs" / mrpc.path / f"seed{seed}/run.json"
        data = json.loads(path.read_text())["data"]
        changed(path, data=data | dict(label_names=[]))
    assert is_current(mrpc, with_names(grid, mrpc=names)) == (names == NAMES)
    for seed in grid.seeds:  # names of the start were unknown too: nothing was mapped
        path = folder / "runs" / mnli.path / f"seed{seed}/run.json"
        data = json.loads(path.read_text())["data"]
        changed(path, data=data | dict(label_names=[]))
    assert is_current(mrpc, with_names(grid, mrpc=names))


@pytest.mark.parametrize("names", [RENAMED, REORDERED])
def test_tokens_of_other_names_are_prepared_again(three_classes, names):
    """Labels that are names are counted in the order of the task; tokens without names stay."""
    grid, _, mrpc, _, folder = three_classes
    path = folder / "mrpc/tokens.json"
    other = with_names(grid, mrpc=names)
    assert verify.prepared_as_in_config(other, mrpc, path)
    changed(path, label_names=list(NAMES))
    assert verify.prepared_as_in_config(grid, mrpc, path)
    assert not verify.prepared_as_in_config(other, mrpc, path)


def test_missing_and_damaged_runs_and_retrained_starts_outdate(made):
    default_grid, mnli, mrpc, is_current, folder = made
    assert not is_current(mnli, seeds=(0, 1, 2))
    record = folder / "runs" / mnli.path / "seed1/run.json"
    changed(record, files={verify.ADAPTER: "bb" * 32})
    assert is_current(mnli) and not is_current(mrpc)
    changed(record, files={verify.ADAPTER: "a1" * 32}, results_version=1)
    assert not is_current(mnli) and not is_current(mrpc)
    record.write_text("{")
    assert not is_current(mnli)
    (folder / "runs" / mrpc.path / "seed0/metrics.csv").unlink()
    assert not is_current(mrpc)


def test_another_spelling_of_a_folder_outdates_nothing(made, tmp_path, monkeypatch):
    """Data of a folder, and a start from one: the text differs, the folder does not."""
    asked, mnli, _, is_current, _ = made
    (tmp_path / "glue").mkdir()
    monkeypatch.chdir(tmp_path)

    def of(locator: str, start: str):
        sources = {"glue-mnli": dict(kind="file", locator=locator)}
        changes = dict(epochs=2, start=start)
        return load(
            protocol="paper", seeds=[0, 1], tables=TABLES, overrides=changes, sources=sources
        )

    before = of("./glue/", "./a/adapter")
    for seed in (0, 1):
        source = dict(source=before.sources["glue-mnli"].identity)
        write_run(before, mnli, seed, tmp_path / "runs", epochs([0.9] * 2), data=source, start=None)
    changed(tmp_path / "mnli/tokens.json", source=before.sources["glue-mnli"].identity)
    for locator, start in (("glue", "a/adapter"), (f"{tmp_path}/glue", f"{tmp_path}/a/./adapter")):
        assert is_current(mnli, of(locator, start))
    assert not is_current(mnli, of("glue2", "a/adapter"))
    assert not is_current(mnli, of("glue", "b/adapter"))
